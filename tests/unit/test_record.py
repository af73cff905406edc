"""The states of a lead, every move between them, and what moves with them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairturn.record import (
    ENDED,
    HELD,
    MOVES,
    Move,
    MoveImpossible,
    Record,
    Seen,
    State,
    follow,
    load_changes,
    may_start,
    move,
)

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


def test_every_state_can_be_reached_from_nothing() -> None:
    reached: set[State | None] = {None}
    for _ in State:
        reached |= {after for (before, _), after in MOVES.items() if before in reached}
    assert reached == {None, *State}


@pytest.mark.parametrize("state", State)
def test_an_event_starts_a_claim_only_where_the_lead_is_free(state: State) -> None:
    free = state in {State.WAITING, State.OBSERVED, State.REFUSED, State.GONE}  # HubSpot has it again
    assert may_start(record(state, changed_at=1_000), 999) is free
    assert may_start(record(state, changed_at=1_000), 1_000) is free
    assert may_start(record(state, changed_at=1_000), 1_001) is (
        free or state is State.CLOSED
    )  # elsewhere it is a rep's
    assert may_start(record(state, rep=None, changed_at=1_000), 1_001) is (free or state in ENDED)


@pytest.mark.parametrize("state", [each for each in BEFORE if (each, Move.LOSE) in MOVES])
def test_a_lead_that_is_gone_keeps_no_property_of_it(state: State | None) -> None:
    before = None if state is None else replace(record(state), shown={"country": "France"}, trace="10")
    facts = {"type": "contact", "id": "1"} if before is None else {}
    after = move(before, Move.LOSE, 2_000, **facts)
    assert after.shown == {}
    assert after.trace is None


@pytest.mark.parametrize("what", [what for state, what in MOVES if state is State.CLOSED])
def test_only_a_lead_that_is_to_be_allotted_again_begins_another_round(what: Move) -> None:
    again = what in {Move.WAIT, Move.CLAIM}
    assert move(record(State.CLOSED), what, 2_000).round == (2 if again else 1)


OPEN = {"7": Seen("7", closed=False), "8": Seen("8", closed=False), None: Seen(None, closed=False)}
CLOSED = [Seen("7", closed=True), Seen(None, closed=True)]


@pytest.mark.parametrize("state", BEFORE)
@pytest.mark.parametrize("seen", [None, *OPEN.values(), *CLOSED])
def test_a_record_that_has_followed_calls_for_no_other_move_and_counts_for_whom_hubspot_shows(
    state: State | None, seen: Seen | None
) -> None:
    before = None if state is None else record(state)
    what = follow(before, seen)
    if state is State.CLAIMED:
        return  # left to whoever hands it over
    facts: dict[str, Any] = {"type": "contact", "id": "1"}
    if what is Move.LEAVE and seen is not None:
        facts["rep"] = seen.owner
    after = before if what is None else move(before, what, 2_000, **facts)
    assert follow(after, seen) is None
    held = None if after is None else after.holder
    assert held == (None if seen is None or seen.closed else seen.owner)


def test_a_claim_under_way_fits_until_hubspot_shows_what_it_would_overwrite() -> None:
    claimed = replace(record(State.CLAIMED), found_owner="9")
    for owner in (None, "7", "9"):  # not told yet, told already, as it was found
        assert follow(claimed, Seen(owner, closed=False)) is None
    assert follow(claimed, OPEN["8"]) is Move.LEAVE
    assert follow(claimed, CLOSED[0]) is Move.CLOSE
    assert follow(claimed, None) is Move.LOSE


def test_a_record_names_its_booking_by_the_id_that_it_had_then() -> None:
    assert replace(record(State.HANDED), claim=3).booking == ("contact#1", 3)
    assert replace(record(State.HANDED), claim=3, booked_as="contact#5").booking == ("contact#5", 3)
    with pytest.raises(ValueError, match="no booking"):
        _ = record(State.WAITING).booking


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
