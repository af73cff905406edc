"""What can be said of loads and records that are read one after the other, while they move."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairturn.rules.findings import (
    AUDIT_EVERY,
    LATE_AFTER,
    Bookings,
    Checkpoint,
    Drift,
    Finding,
    Tally,
    What,
    drifts,
    misbooked,
    misloaded,
    overbooked,
)
from fairturn.rules.record import KEPT_FOR, Record, State, new

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

REPS = ("1", "2", "3")
rep = st.sampled_from(REPS)


@st.composite
def lives(draw: st.DrawFn) -> list[Record | None]:
    """All that the record of a lead is, one write after the other; None where there is none."""
    record, life = new("7"), list[Record | None]([None])
    for _ in range(draw(st.integers(0, 8))):
        match record.state:
            case State.NEW | State.WAITING | State.UNOWNED | State.CLOSED:
                record = record.claimed(draw(rep), 1, "worker", 1)
            case State.CLAIMED:
                record = draw(
                    st.sampled_from(
                        [
                            record.handed(1),
                            record.resumed("another", 1),
                            record.released(1),
                            record.waiting("undone", 1),
                        ]
                    )
                )
            case _:
                record = draw(
                    st.sampled_from([record.external(draw(rep), None, 1), record.unowned(1), record.closed(None, 1)])
                )
        life.append(record)
    return life


@given(st.lists(lives(), max_size=4), st.dictionaries(rep, st.integers(-2, 2)), st.data())
def test_the_drift_of_a_load_is_within_what_is_told_however_leads_move(
    leads: list[list[Record | None]], planted: Mapping[str, int], data: st.DataObject
) -> None:
    loads = Counter(planted)
    before: dict[str, Record | None] = {}
    after: dict[str, Record | None] = {}
    moments = [sorted(data.draw(st.tuples(*[st.integers(0, len(life) - 1)] * 3))) for life in leads]
    for number, (life, (first, then, last)) in enumerate(zip(leads, moments, strict=True)):
        holder = None if (now := life[then]) is None else now.holder
        loads.update([] if holder is None else [holder])
        before |= {str(number): life[first]}
        after |= {str(number): life[last]}
    tally = Tally.of(_there(before), loads, _there(after))
    for each in REPS:
        drift = tally.drift(each)
        assert drift.low <= planted.get(each, 0) <= drift.high
        assert drift.is_known or any(first != last for first, _, last in moments)


def _there(records: Mapping[str, Record | None]) -> dict[str, Record]:
    return {key: record for key, record in records.items() if record is not None}


def held(rep: str, rev: int = 2, state: State = State.HANDED, claim: int = 1) -> Record:
    return Record("contact", "7", state, rev=rev, rep=rep, rota="inbound", claim=claim)


@pytest.mark.parametrize(
    ("before", "after", "wanted"),
    [
        (held("1"), held("1"), {"1": Drift(0, 0), "2": Drift(0, 0)}),
        (held("1", 1, State.CLAIMED), held("1"), {"1": Drift(0, 0), "2": Drift(0, 0)}),  # handed over
        (None, held("1", 1, State.CLAIMED), {"1": Drift(0, 1), "2": Drift(0, 0)}),
        (None, held("1"), {"1": Drift(0, 1), "2": Drift(0, 0)}),  # claimed and handed over: nobody else had it
        (held("1"), None, {"1": Drift(0, 1), "2": Drift(0, 0)}),
        (held("1"), held("2", 3), {"1": Drift(0, 1), "2": Drift(-1, 0)}),
        (held("1"), held("1", 4, State.EXTERNAL), {"1": Drift(0, 1), "2": Drift(-1, 0)}),  # somebody else in between?
        (held("1", 9), held("2", 1, State.CLAIMED), {"1": Drift(0, 1), "2": Drift(-1, 0)}),  # expired, and new again
    ],
)
def test_who_may_have_held_a_lead_is_in_doubt_and_nobody_else(
    before: Record | None, after: Record | None, wanted: Mapping[str, Drift]
) -> None:
    tally = Tally.of(_there({"7": before}), {"1": 1}, _there({"7": after}))
    assert {each: tally.drift(each) for each in wanted} == wanted


def test_what_cannot_be_read_may_be_anybodys() -> None:
    assert Tally.of({}, {"1": 1}, {}, unreadable=1).drift("1") == Drift(0, 1)
    assert Tally.of({}, {"1": 2}, {}, unreadable=1).drift("1").is_wrong


def tally(load: int, certain: int, possible: int) -> Tally:
    return Tally({"1": load}, {"1": certain}, {"1": possible})


@pytest.mark.parametrize(
    ("tallies", "drift"),
    [
        ([tally(5, 4, 1)], Drift(0, 1)),
        ([tally(5, 4, 1), tally(6, 5, 2)], Drift(0, 1)),
        ([tally(5, 4, 1), tally(6, 5, 0)], Drift(1, 1)),
        ([tally(5, 3, 1), tally(5, 2, 2)], Drift(1, 2)),
        ([tally(5, 3, 0), tally(5, 5, 0)], Drift(0, 0)),  # somebody has set it right
    ],
)
def test_what_one_tally_leaves_open_another_may_know(tallies: Sequence[Tally], drift: Drift) -> None:
    assert drifts(tallies) == {"1": drift}


@pytest.mark.parametrize(
    ("drift", "says"),
    [
        (Drift(0, 0), None),
        (Drift(-1, 2), None),
        (Drift(1, 1), "which is 1 too high"),
        (Drift(2, 3), "which is at least 2 too high"),
        (Drift(-3, -1), "which is at least 1 too low"),
    ],
)
def test_only_a_load_that_is_wrong_for_certain_is_a_finding(drift: Drift, says: str | None) -> None:
    found = [each.says for each in misloaded({"1": 5}, {"1": drift})]
    assert found == ([] if says is None else [f"the load is 5, {says}"])


def test_a_lead_that_a_merge_has_carried_on_is_found_under_its_old_name() -> None:
    survivor = replace(held("1"), id="8", booked_as="contact#7")
    lost = replace(held("1").merged("8", 1), claim=None)
    books = {"inbound": Bookings(1, 1, {1: {"contact#7": "1"}}, {1: 1})}
    records = {"contact#7": lost, "contact#8": survivor}
    assert list(misbooked(records.values(), books, set())) == []
    assert list(overbooked(records, books)) == []


def test_of_claims_before_or_after_what_was_followed_nothing_is_said() -> None:
    books = {"inbound": Bookings(5, 9, {}, {})}
    records = [held("1", claim=claim) for claim in (4, 5, 9, 10)]
    found = [records[0].claim for _, records in misbooked(records, books, set()) if len(records) == 1]
    assert found == [5, 9]


@pytest.mark.parametrize(("pause", "found"), [(KEPT_FOR * 1000, 0), (KEPT_FOR * 1000 - 1, 1)])
def test_bookings_from_before_a_record_expired_do_not_count(pause: int, found: int) -> None:
    books = {"inbound": Bookings(1, 2, {1: {"contact#7": "1"}, 2: {"contact#7": "1"}}, {1: 5, 2: 5 + pause})}
    assert len(list(overbooked({"contact#7": held("1", claim=2)}, books))) == found


def test_an_audit_follows_the_one_before_after_a_day_and_goes_on_from_its_claims() -> None:
    mark = Checkpoint(100, done=True, upto={"west": 7}, since={"west": 3}, counted=True, tries=2)
    assert not mark.is_over(99 + AUDIT_EVERY)
    assert mark.is_over(100 + AUDIT_EVERY)
    assert not replace(mark, done=False).is_over(100 + AUDIT_EVERY)
    assert mark.next(500, ["east"]) == Checkpoint(500, left=("east", "west"), upto={"west": 7})


def test_an_audit_is_late_after_two_days_and_then_every_two_days() -> None:
    mark = Checkpoint(100)
    assert not mark.is_late(99 + LATE_AFTER)
    assert mark.is_late(100 + LATE_AFTER)
    assert not replace(mark, late_logged_at=100 + LATE_AFTER).is_late(99 + 2 * LATE_AFTER)
    assert replace(mark, late_logged_at=100 + LATE_AFTER).is_late(100 + 2 * LATE_AFTER)


@pytest.mark.parametrize("what", What)
def test_each_finding_says_what_to_type(what: What) -> None:
    assert "`" in Finding(what, "inbound", "it is wrong").do
