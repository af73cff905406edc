"""The states of a lead, every move between them, and what moves with them."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, replace
from datetime import UTC, datetime
from itertools import product
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairturn.rules.events import Kind, Message
from fairturn.rules.policy import Priority
from fairturn.rules.record import (
    ENDED,
    HELD,
    KEPT_FOR,
    LOOK_AFTER,
    MAX_REASON,
    MOVES,
    TRACKED,
    Move,
    MoveImpossible,
    Record,
    Seen,
    State,
    follow,
    load_changes,
    milliseconds,
    new,
)
from fairturn.rules.routing import Route

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

AT: Final = 2_000
HOUR, DAY = LOOK_AFTER


def record(state: State, *, rep: str | None = "7", changed_at: int = 1_000) -> Record:
    """A record in this state; where there is none, a new one."""
    return (
        new("1")
        if state is State.NEW
        else Record(type="contact", id="1", state=state, rev=4, changed_at=changed_at, rep=rep)
    )


def full(state: State) -> Record:
    """A record of which every field has been set."""
    return Record(
        type="contact",
        id="1",
        state=state,
        rev=4,
        changed_at=1_000,
        occurred_at=900,
        round=3,
        source="FORM",
        rep="7",
        found_owner="5",
        rota="inbound",
        lane="fr",
        priority="high",
        rule="french",
        worth="worth 60 or more",
        trace="0 1",
        policy=2,
        claim=6,
        booked_as="contact#2",
        claimed_at=950,
        worker="worker 1",
        handed_at=980,
        had=("3", "4"),
        spent=True,
        reason="as it was",
        merged_into="4",
        deleted_at=700,
        restored_at=800,
        unseen_at=600,
        shown={"country": "France"},
    )


class Written:
    """A method that makes a move, and what it writes besides what every move does.

    A function in place of a value is asked with the record as it was.
    """

    def __init__(self, what: Move, make: Callable[[Record], Record], **own: Any) -> None:
        self.what = what
        self.make = make
        self._own = own

    def own(self, before: Record) -> dict[str, Any]:
        """What it writes to this record."""
        return {name: value(before) if callable(value) else value for name, value in self._own.items()}


def had(one: Record) -> tuple[str, ...]:
    """Who had the full record, once it is somebody else's: 7 is among them if it ever was theirs in HubSpot."""
    return ("3", "4", "7") if one.state in {*TRACKED, State.GONE} else ("3", "4")


NO_TURN: Final[Mapping[str, Any]] = {"claim": None, "booked_as": None}
NOTHING_SHOWN: Final[Mapping[str, Any]] = {"shown": {}, "trace": None, "worth": None}
METHODS: Final = {
    "waiting": Written(
        Move.WAIT,
        lambda one: one.waiting("full", AT),
        rep=None,
        had=had,
        waited=lambda one: one.state is not State.CLAIMED,
        reason="full",
        **NO_TURN,
    ),
    "claimed": Written(
        Move.CLAIM,
        lambda one: one.claimed("8", 9, "worker 2", AT),
        rep="8",
        had=had,
        claim=9,
        booked_as=None,
        claimed_at=AT,
        handed_at=None,
        worker="worker 2",
        spent=False,
        reason=None,
    ),
    "resumed": Written(Move.RESUME, lambda one: one.resumed("worker 2", AT), worker="worker 2"),
    "released": Written(Move.RELEASE, lambda one: one.released(AT)),
    "handed": Written(Move.HAND_OVER, lambda one: one.handed(AT), handed_at=AT),
    "observed": Written(Move.OBSERVE, lambda one: one.observed("8", AT), rep="8", waited=True, reason=None),
    "left": Written(Move.TAKE_OVER, lambda one: one.external("8", "chosen", AT), rep="8", had=had, reason="chosen"),
    "cleared": Written(Move.CLEAR, lambda one: one.unowned(AT), rep=None, had=had, reason="the owner was taken away"),
    "closed": Written(Move.CLOSE, lambda one: one.closed(None, AT), reason=None),
    "closed by a rule": Written(
        Move.CLOSE, lambda one: one.closed("a rival", AT, rule="rivals"), reason="a rival", rule="rivals"
    ),
    "refused": Written(Move.REFUSE, lambda one: one.refused("no", AT), rep=None, waited=True, reason="no", **NO_TURN),
    "gone": Written(Move.LOSE, lambda one: one.gone("deleted", AT), reason="deleted", merged_into="4", **NOTHING_SHOWN),
    "gone unseen": Written(
        Move.LOSE,
        lambda one: one.gone("not shown", AT, unseen_at=AT),
        reason="not shown",
        merged_into="4",
        unseen_at=AT,
        waited=True,
        **NOTHING_SHOWN,
    ),
    "merged": Written(Move.LOSE, lambda one: one.merged("3", AT), reason="merged", merged_into="3", **NOTHING_SHOWN),
    "erased": Written(Move.ERASE, lambda one: one.erased(AT)),
}
"""Every method that moves a record."""


# The table


def test_every_move_has_a_method() -> None:
    assert {each.what for each in METHODS.values()} == set(Move)


@pytest.mark.parametrize(("state", "name"), list(product(State, METHODS)))
def test_a_record_moves_as_the_table_says_and_in_no_other_way(state: State, name: str) -> None:
    before, method = record(state), METHODS[name]
    if (state, method.what) not in MOVES:
        with pytest.raises(MoveImpossible, match=f"{method.what.value} from {state.value}"):
            method.make(before)
        return
    after = method.make(before)
    assert after.state is MOVES[state, method.what]
    assert after.changed_at == AT
    assert after.rev == before.rev + 1
    assert before == record(state)


@pytest.mark.parametrize(("state", "name"), list(product(State, METHODS)))
def test_a_move_writes_its_own_fields_and_leaves_all_others(state: State, name: str) -> None:
    before, method = full(state), METHODS[name]
    if (state, method.what) not in MOVES:
        return
    after = method.make(before)
    if after.state is State.ERASED:
        return  # which leaves nothing
    moved: dict[str, Any] = {"state": after.state, "rev": 5, "changed_at": AT, "round": after.round}
    ends: dict[str, Any] = {"worker": None, "unseen_at": None, "merged_into": None}
    if state is State.OBSERVED or (state is State.CLAIMED and after.state in {*ENDED, State.ERASED}):
        ends["rep"] = None  # it was never theirs
    assert asdict(after) == asdict(before) | moved | ends | method.own(before)


@pytest.mark.parametrize("state", [state for state in State if state is not State.ERASED])
def test_an_erasure_leaves_an_id_a_time_and_how_often_the_lead_came(state: State) -> None:
    before = full(state)
    after = asdict(before.erased(AT))
    left = {
        "type": "contact",
        "id": before.id,
        "state": State.ERASED,
        "rev": 5,
        "changed_at": AT,
        "round": before.round,
    }
    assert {name: value for name, value in after.items() if value} == left
    assert before.erased(AT).expires_at == AT // 1000 + KEPT_FOR


def test_from_an_erasure_no_move_leads() -> None:
    assert not [what for state, what in MOVES if state is State.ERASED]


def test_a_lead_that_is_claimed_handed_or_somebody_elses_is_never_claimed_again() -> None:
    assert not {(state, Move.CLAIM) for state in HELD} & MOVES.keys()


def test_nothing_is_handed_over_that_was_not_claimed() -> None:
    assert {state for state, what in MOVES if what is Move.HAND_OVER} == {State.CLAIMED}


def test_an_owner_is_taken_away_only_from_a_lead_that_has_one_in_hubspot() -> None:
    assert {state for state, what in MOVES if what is Move.CLEAR} == {State.HANDED, State.EXTERNAL}


def test_nothing_is_ever_new_again() -> None:
    assert State.NEW not in MOVES.values()


def test_every_lead_can_be_erased_and_then_nothing_else_happens_to_it() -> None:
    assert {state for state, what in MOVES if what is Move.ERASE} == {*State} - {State.ERASED}
    assert not [what for state, what in MOVES if state is State.ERASED]


def test_every_state_can_be_reached_from_nothing() -> None:
    reached = {State.NEW}
    for _ in State:
        reached |= {after for (before, _), after in MOVES.items() if before in reached}
    assert reached == {*State}


def test_from_every_state_but_erased_a_lead_can_still_come_to_be_somebodys() -> None:
    able = set(HELD)
    for _ in State:
        able |= {before for (before, _), after in MOVES.items() if after in able}
    assert able == {*State} - {State.ERASED}


def test_no_lead_is_new_that_has_been_written() -> None:
    assert (new("1").state, new("1").rev, new("1").key) == (State.NEW, 0, "contact#1")
    assert not new("1").came
    assert all(method.make(new("1")).rev == 1 for method in METHODS.values() if (State.NEW, method.what) in MOVES)


# Rounds


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("name", METHODS)
def test_only_a_lead_that_had_ended_and_is_to_be_allotted_again_begins_another_round(state: State, name: str) -> None:
    method = METHODS[name]
    if (state, method.what) in MOVES:
        again = state in ENDED and method.what in {Move.WAIT, Move.CLAIM}
        assert method.make(full(state)).round == 3 + again


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("later", [-1, 0, 1])
def test_a_message_starts_a_claim_where_the_lead_is_free_or_comes_in_a_later_round(state: State, later: int) -> None:
    known = replace(record(state), round=2)
    free = state in {State.NEW, State.WAITING, State.OBSERVED, State.REFUSED, State.GONE}  # HubSpot has it again
    again = state in {State.CLOSED, State.UNOWNED} and later > 0
    assert known.may_be_claimed_in(2 + later) is (free or again)


def test_the_message_that_began_a_round_does_not_begin_the_next_one() -> None:
    closed = record(State.CLOSED)
    again = closed.claimed("8", 9, "worker 2", AT)
    assert closed.may_be_claimed_in(again.round)
    assert not again.handed(AT).closed(None, AT).may_be_claimed_in(again.round)
    assert not again.handed(AT).unowned(AT).may_be_claimed_in(again.round)


@pytest.mark.parametrize("state", State)
def test_a_message_may_start_a_claim_only_where_the_table_has_one(state: State) -> None:
    assert record(state).may_be_claimed_in(9) is ((state, Move.CLAIM) in MOVES)


# What ends


@pytest.mark.parametrize("state", [each for each in State if each is not State.ERASED])
@pytest.mark.parametrize("name", ["gone", "merged", "erased"])
def test_what_is_no_more_keeps_no_property_of_it(state: State, name: str) -> None:
    after = METHODS[name].make(full(state))
    assert (after.shown, after.trace, after.worth) == ({}, None, None)


def test_what_comes_back_is_not_merged_into_anything_any_more() -> None:
    merged = record(State.WAITING).merged("9", AT)
    assert merged.merged_into == "9"
    assert merged.gone("deleted", AT).merged_into == "9"
    assert merged.erased(AT).merged_into is None
    assert merged.external("8", None, AT).merged_into is None
    assert merged.waiting("full", AT).merged_into is None


def test_what_hubspot_did_not_show_is_looked_for_again_after_an_hour_and_a_day() -> None:
    since = 1_700_000_000_000
    first = record(State.WAITING).gone("not shown", since, unseen_at=since)
    assert first.look_again_at == since + HOUR == since + 3_600_000
    second = first.gone("not shown", since + HOUR + 5, unseen_at=first.unseen_at)
    assert second.look_again_at == since + DAY == since + 86_400_000
    third = second.gone("not shown", since + DAY + 5, unseen_at=second.unseen_at)
    assert third.look_again_at is None
    late = first.gone("not shown", since + DAY + 5, unseen_at=first.unseen_at)
    assert late.look_again_at is None


@pytest.mark.parametrize("state", State)
def test_what_is_known_to_be_gone_and_what_is_not_gone_is_not_looked_for(state: State) -> None:
    assert replace(record(state), unseen_at=None).look_again_at is None
    assert (replace(record(state), unseen_at=AT).look_again_at is not None) is (state is State.GONE)


def test_what_comes_back_and_ends_again_is_not_looked_for() -> None:
    unseen = record(State.WAITING).gone("not shown", AT, unseen_at=AT)
    assert unseen.external("8", None, AT).gone("deleted", AT).look_again_at is None


@pytest.mark.parametrize(
    ("deleted_at", "restored_at", "since", "is_deleted"),
    [
        (0, 0, 0, False),
        (5, 0, 0, True),
        (5, 0, 5, True),
        (5, 0, 6, False),  # what came after it is not meant
        (5, 4, 5, True),
        (5, 5, 0, False),
        (5, 6, 0, False),
    ],
)
def test_a_lead_is_deleted_if_that_was_told_last_and_not_before_what_brings_it(
    deleted_at: int, restored_at: int, since: int, *, is_deleted: bool
) -> None:
    told = new("1").with_deletion_times(deleted_at=deleted_at, restored_at=restored_at)
    assert told.is_deleted(since) is is_deleted


@given(st.lists(st.tuples(st.sampled_from(["deleted_at", "restored_at"]), st.integers(1, 9)), max_size=6), st.randoms())
def test_deletions_and_restores_may_be_told_in_any_order(told: list[tuple[str, int]], random: Any) -> None:
    def after(events: list[tuple[str, int]]) -> Record:
        known = new("1")
        for name, at in events:
            known = known.with_deletion_times(**{name: at})
        return known

    shuffled = random.sample(told, len(told))
    assert after(told) == after(shuffled)
    last = {name: max((at for each, at in told if each == name), default=0) for name in ("deleted_at", "restored_at")}
    assert after(told).is_deleted(0) is (last["deleted_at"] > last["restored_at"])


# What is told of it


def message(**fields: Any) -> Message:
    return Message(**{"id": "1", "kinds": (Kind.CREATION,), "occurred_at": 1_500, "change_source": "API", **fields})


def test_a_lead_arrives_with_the_time_and_the_source_of_its_message() -> None:
    arrived = new("1").brought_by(message())
    assert arrived == replace(new("1"), occurred_at=1_500, source="API")
    assert arrived.came


@pytest.mark.parametrize(("kind", "restored_at"), [(Kind.RESTORE, 1_500), (Kind.CREATION, 0), (Kind.MERGE, 0)])
def test_a_lead_that_arrives_by_a_restore_is_deleted_no_more(kind: Kind, restored_at: int) -> None:
    deleted = new("1").with_deletion_times(deleted_at=1_200)
    arrived = deleted.brought_by(message(kinds=(kind,)))
    assert arrived.restored_at == restored_at
    assert arrived.is_deleted(0) is not (kind is Kind.RESTORE)


def test_an_older_restore_takes_no_later_one_back() -> None:
    restored = new("1").with_deletion_times(restored_at=1_800)
    assert restored.brought_by(message(kinds=(Kind.RESTORE,))).restored_at == 1_800


def test_a_lead_is_routed_to_a_place_and_may_lose_it_again() -> None:
    way = Route("europe", "fr@60", Priority.URGENT, "french", "0 1", "worth 60 or more")
    routed = new("1").routed(way, 3, "5", {"country": "France"})
    assert routed.place == ("europe", "fr@60", "urgent")
    assert routed.worth == "worth 60 or more"
    assert (routed.rule, routed.trace, routed.policy, routed.found_owner) == ("french", "0 1", 3, "5")
    assert routed.shown == {"country": "France"}
    assert (routed.state, routed.rev) == (State.NEW, 0)
    unrouted = routed.unrouted(None)
    assert (unrouted.place, unrouted.rule, unrouted.found_owner) == ((None, None, None), None, None)


def test_what_is_only_noted_moves_nothing_and_counts_as_a_write() -> None:
    known = full(State.HANDED)
    assert known.touched(AT) == replace(known, rev=5, changed_at=AT)


@pytest.mark.parametrize("make", [Record.waiting, Record.refused])
def test_a_long_reason_is_cut(make: Callable[[Record, str, int], Record]) -> None:
    assert make(record(State.CLAIMED), "x" * 999, AT).reason == "x" * MAX_REASON


# Bookings


def test_a_record_names_its_booking_by_the_id_that_it_had_then() -> None:
    assert replace(record(State.HANDED), claim=3).booking == ("contact#1", 3)
    assert replace(record(State.HANDED), claim=3, booked_as="contact#5").booking == ("contact#5", 3)
    with pytest.raises(ValueError, match="no booking"):
        _ = record(State.WAITING).booking


def test_a_lead_under_another_id_keeps_its_booking_and_is_written_anew() -> None:
    handed = replace(record(State.HANDED), claim=3)
    under = handed.carried_to("9")
    assert (under.key, under.rev, under.state) == ("contact#9", 0, State.HANDED)
    assert under.booking == under.carried_to("11").booking == ("contact#1", 3)
    assert record(State.WAITING).carried_to("9").booked_as is None


def test_a_turn_that_has_gone_back_leaves_no_booking() -> None:
    back = full(State.HANDED).given_back()
    assert (back.claim, back.booked_as) == (None, None)
    with pytest.raises(ValueError, match="no booking"):
        _ = back.booking


@pytest.mark.parametrize("state", [State.EXTERNAL, State.UNOWNED])
def test_a_turn_that_stays_spent_leaves_the_booking_and_says_so(state: State) -> None:
    taken = (
        full(State.HANDED).external("8", "chosen", AT) if state is State.EXTERNAL else full(State.HANDED).unowned(AT)
    )
    spent = replace(taken, spent=False).stays_spent()
    assert spent == replace(taken, spent=True, reason=f"{taken.reason}; the turn stays spent")
    assert spent.booking == ("contact#2", 6)


def test_a_turn_is_spent_until_the_next_claim() -> None:
    spent = full(State.HANDED).unowned(AT).stays_spent()
    assert spent.waiting("full", AT).spent
    assert not spent.claimed("8", 9, "worker 2", AT).spent


# Whether it had to wait


def test_a_lead_that_is_claimed_when_it_comes_has_not_waited_even_if_hubspot_refuses_the_first_rep() -> None:
    claimed = new("1").claimed("7", 1, "worker", AT)
    again = claimed.waiting("HubSpot refuses the owner", AT).claimed("8", 2, "worker", AT)
    assert not claimed.handed(AT).waited
    assert not again.handed(AT).waited


@pytest.mark.parametrize(
    "first",
    [
        lambda one: one.waiting("full", AT),
        lambda one: one.observed("7", AT),
        lambda one: one.refused("no policy", AT),
        lambda one: one.gone("not shown", AT, unseen_at=AT),
    ],
)
def test_a_lead_that_nobody_got_when_it_came_has_waited_whoever_hands_it_over(first: Any) -> None:
    claimed = first(new("1")).claimed("7", 1, "worker", AT)
    assert claimed.released(AT).resumed("worker 2", AT).handed(AT).waited


def test_a_lead_that_comes_again_begins_anew() -> None:
    handed = new("1").waiting("full", AT).claimed("7", 1, "worker", AT).handed(AT)
    assert not handed.closed(None, AT).claimed("8", 2, "worker", AT).waited


# Who had it


def through(hands: Iterable[str]) -> Record:
    """A lead that was given to each of these, and taken away from each."""
    known = new("1")
    for number, rep in enumerate(hands):
        known = known.claimed(rep, number + 1, "worker 1", AT).handed(AT).unowned(AT)
    return known


def test_a_lead_that_nobody_ever_had_has_no_owners() -> None:
    assert new("1").owners == new("1").waiting("full", AT).owners == ()


@given(st.lists(st.sampled_from([*"123456789"]), max_size=20))
def test_the_owners_of_a_lead_are_its_last_five_each_once_and_the_latest_last(hands: list[str]) -> None:
    each_once = [rep for place, rep in enumerate(hands) if rep not in hands[place + 1 :]]
    known = through(hands)
    assert known.owners == known.had == tuple(each_once[-5:])


@pytest.mark.parametrize("state", State)
def test_whoever_has_the_lead_or_had_it_last_is_the_latest_of_its_owners_but_not_by_a_mere_claim(state: State) -> None:
    theirs = state in {State.HANDED, State.EXTERNAL, State.CLOSED, State.UNOWNED, State.GONE}
    assert full(state).owners == (("3", "4", "7") if theirs else ("3", "4"))
    assert replace(full(state), rep=None).owners == ("3", "4")
    assert replace(full(state), rep="3").owners == (("4", "3") if theirs else ("3", "4"))


def test_a_claim_that_was_never_handed_over_makes_nobody_an_owner() -> None:
    claimed = through("34").claimed("7", 9, "worker 2", AT)
    assert claimed.owners == ("3", "4")
    assert claimed.waiting("HubSpot refuses the owner", AT).claimed("8", 10, "worker 2", AT).had == ("3", "4")
    assert claimed.refused("no", AT).owners == ("3", "4")
    chosen = claimed.external("9", "somebody else chose the owner", AT)
    assert (chosen.had, chosen.owners) == (("3", "4"), ("3", "4", "9"))


def test_while_somebody_has_the_lead_those_before_them_are_kept_apart() -> None:
    handed = through("34").claimed("7", 9, "worker 2", AT).handed(AT)
    assert (handed.had, handed.owners) == (("3", "4"), ("3", "4", "7"))
    chosen = handed.external("8", None, AT)
    assert (chosen.had, chosen.owners) == (("3", "4", "7"), ("3", "4", "7", "8"))


def test_whoever_gets_the_lead_again_moves_to_the_end() -> None:
    chosen = through("347").external("3", None, AT)
    assert (chosen.had, chosen.owners) == (("4", "7"), ("4", "7", "3"))
    again = through("347").claimed("3", 9, "worker 2", AT).handed(AT)
    assert again.owners == ("4", "7", "3")


@pytest.mark.parametrize("name", ["closed", "closed by a rule", "gone", "gone unseen"])
def test_a_lead_that_ended_was_its_last_reps_when_it_comes_again(name: str) -> None:
    handed = through("3").claimed("7", 9, "worker 2", AT).handed(AT)
    ended = METHODS[name].make(handed)
    assert ended.owners == ("3", "7")
    assert ended.claimed("8", 10, "worker 2", AT).had == ("3", "7")
    assert ended.waiting("full", AT).claimed("8", 10, "worker 2", AT).had == ("3", "7")


def test_a_merge_keeps_who_had_the_lead() -> None:
    handed = through("34").claimed("7", 9, "worker 2", AT).handed(AT)
    under = handed.carried_to("9").touched(AT)
    assert (under.had, under.owners) == (handed.had, handed.owners) == (("3", "4"), ("3", "4", "7"))
    assert handed.merged("9", AT).owners == ("3", "4", "7")


# Following HubSpot

OPEN = {"7": Seen("7", closed=False), "8": Seen("8", closed=False), None: Seen(None, closed=False)}
CLOSED = [Seen("7", closed=True), Seen(None, closed=True)]


@pytest.mark.parametrize("state", [each for each in State if each not in {State.CLAIMED, State.ERASED}])
@pytest.mark.parametrize("seen", [*OPEN.values(), *CLOSED])
def test_a_record_that_has_followed_calls_for_no_other_move_and_counts_for_whom_hubspot_shows(
    state: State, seen: Seen
) -> None:
    before = record(state)
    after = follow(before, seen, AT) or before
    assert follow(after, seen, AT) is None
    assert after.holder == (None if seen.closed else seen.owner)
    assert after.rev == before.rev + (after is not before)


@pytest.mark.parametrize(("state", "after"), [(State.HANDED, State.UNOWNED), (State.EXTERNAL, State.UNOWNED)])
def test_a_lead_whose_owner_is_taken_away_is_left_without_one(state: State, after: State) -> None:
    followed = follow(record(state), OPEN[None], AT)
    assert followed is not None
    assert (followed.state, followed.rep) == (after, None)


@pytest.mark.parametrize("state", [each for each in State if each not in HELD])
def test_what_nobody_owns_and_nobody_had_stays_as_it_is(state: State) -> None:
    assert follow(record(state), OPEN[None], AT) is None


@pytest.mark.parametrize("state", [State.WAITING, State.OBSERVED, State.REFUSED])
def test_the_owner_who_was_found_is_nobodys_choice(state: State) -> None:
    found = replace(record(state), found_owner="8")
    assert follow(found, OPEN["8"], AT) is None
    chosen = follow(found, OPEN["7"], AT)
    assert chosen is not None
    assert (chosen.state, chosen.rep) == (State.EXTERNAL, "7")


def test_a_claim_under_way_fits_until_hubspot_shows_what_it_would_overwrite() -> None:
    claimed = replace(record(State.CLAIMED), found_owner="9")
    for owner in (None, "7", "9"):  # not told yet, told already, as it was found
        assert follow(claimed, Seen(owner, closed=False), AT) is None
    assert follow(claimed, OPEN["8"], AT) == claimed.external("8", "somebody else chose the owner", AT)
    assert follow(claimed, CLOSED[0], AT) == claimed.closed(None, AT)


@pytest.mark.parametrize("seen", [*OPEN.values(), *CLOSED])
def test_what_is_erased_follows_nothing(seen: Seen) -> None:
    assert follow(record(State.ERASED), seen, AT) is None


# Loads


@given(
    st.lists(
        st.tuples(
            st.builds(record, st.sampled_from(State), rep=st.sampled_from(["1", "2", None])),
            st.builds(record, st.sampled_from(State), rep=st.sampled_from(["1", "2", None])),
        )
    )
)
def test_loads_change_by_the_records_held_after_less_those_held_before(moves: list[tuple[Record, Record]]) -> None:
    changes = load_changes(moves)
    held = Counter(after.rep for _, after in moves if after.state in HELD and after.rep)
    held.subtract(before.rep for before, _ in moves if before.state in HELD and before.rep)
    assert changes == {rep: change for rep, change in held.items() if change}


def test_a_claim_that_is_handed_over_changes_no_load() -> None:
    claimed = record(State.WAITING).claimed("8", 9, "worker 2", AT)
    assert load_changes([(record(State.WAITING), claimed)]) == {"8": 1}
    assert load_changes([(claimed, claimed.handed(AT))]) == {}


@pytest.mark.parametrize("state", State)
def test_a_lead_counts_in_loads_unless_it_is_new_or_was_only_observed(state: State) -> None:
    assert record(state).is_counted is (state not in {State.NEW, State.OBSERVED})


def test_what_somebody_has_or_had_is_given_and_what_is_in_a_load_is_among_it_once_it_is_handed() -> None:
    assert HELD - {State.CLAIMED} <= TRACKED
    assert not TRACKED & {State.NEW, State.WAITING, State.GONE, State.ERASED}


# How long


@pytest.mark.parametrize("state", State)
def test_only_a_finished_record_expires_and_later_than_any_dead_letter(state: State) -> None:
    expires_at = record(state, changed_at=5_000).expires_at
    assert (expires_at is not None) is (state in ENDED or state is State.ERASED)
    if expires_at is not None:
        assert expires_at == 5 + KEPT_FOR
        assert expires_at - 5 >= 90 * 86_400


@pytest.mark.parametrize("state", sorted(HELD))
def test_a_record_that_is_in_a_load_never_expires(state: State) -> None:
    assert record(state).expires_at is None


def test_a_moment_is_kept_in_whole_milliseconds() -> None:
    assert milliseconds(datetime(2026, 11, 23, 9, 0, 0, 123_999, tzinfo=UTC)) == 1_795_424_400_123
