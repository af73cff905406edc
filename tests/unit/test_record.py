"""The states of a lead, every move between them, and what moves with them."""

from __future__ import annotations

from collections import Counter
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairturn.record import ENDED, HELD, MOVES, Move, MoveImpossible, Record, State, load_changes, may_start, move

BEFORE: list[State | None] = [None, *State]


def record(state: State, *, rep: str | None = "7", changed_at: int = 1_000) -> Record:
    return Record(type="contact", id="1", state=state, rev=4, changed_at=changed_at, rep=rep)


@pytest.mark.parametrize(("state", "what"), list(product(BEFORE, Move)))
def test_a_record_moves_as_the_table_says_and_in_no_other_way(state: State | None, what: Move) -> None:
    before = None if state is None else record(state)
    facts = {"type": "contact", "id": "1"}
    if (state, what) not in MOVES:
        with pytest.raises(MoveImpossible, match=what.value):
            move(before, what, 2_000, **facts)
        return
    after = move(before, what, 2_000, **facts)
    assert after.state is MOVES[state, what]
    assert after.changed_at == 2_000
    assert after.rev == (1 if before is None else before.rev + 1)


def test_a_lead_that_is_claimed_or_handed_is_never_claimed_again() -> None:
    assert not {(state, Move.CLAIM) for state in (State.CLAIMED, State.HANDED)} & MOVES.keys()


def test_nothing_is_handed_over_that_was_not_claimed() -> None:
    assert {state for state, what in MOVES if what is Move.HAND_OVER} == {State.CLAIMED}


def test_every_state_but_closed_can_be_reached_from_nothing() -> None:
    reached: set[State | None] = {None}
    for _ in State:
        reached |= {after for (before, _), after in MOVES.items() if before in reached}
    assert reached == {None, *State} - {State.CLOSED}


@pytest.mark.parametrize("state", State)
def test_an_event_starts_a_claim_only_where_the_lead_is_free(state: State) -> None:
    free = state in {State.WAITING, State.OBSERVED, State.REFUSED}
    assert may_start(record(state, changed_at=1_000), 999) is free
    assert may_start(record(state, changed_at=1_000), 1_000) is free
    assert may_start(record(state, changed_at=1_000), 1_001) is (free or state in ENDED)


def test_an_event_about_an_unknown_lead_starts_a_claim() -> None:
    assert may_start(None, 0)


@given(
    st.lists(
        st.tuples(
            st.none() | st.builds(record, st.sampled_from(State), rep=st.sampled_from(["1", "2", None])),
            st.builds(record, st.sampled_from(State), rep=st.sampled_from(["1", "2", None])),
        )
    )
)
def test_loads_change_by_the_records_held_after_less_those_held_before(
    moves: list[tuple[Record | None, Record]],
) -> None:
    changes = load_changes(moves)
    held = Counter(after.rep for _, after in moves if after.state in HELD and after.rep)
    held.subtract(before.rep for before, _ in moves if before and before.state in HELD and before.rep)
    assert changes == {rep: change for rep, change in held.items() if change}


def test_only_a_finished_record_expires_and_later_than_any_dead_letter() -> None:
    assert record(State.ELSEWHERE).expires_at is None  # it counts in a load
    for state in State:
        expires_at = record(state, rep=None, changed_at=5_000).expires_at
        assert (expires_at is not None) is (state in ENDED)
        if expires_at is not None:
            assert expires_at - 5 >= 90 * 86_400
