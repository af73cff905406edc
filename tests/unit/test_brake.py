"""When the flood brake pauses the bulk sources, and when it lets go."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairturn.rules.brake import Brake, register
from fairturn.rules.policy import Flood

MINUTE = 60_000
NOON = 29_000_000 * MINUTE
"""The beginning of a minute, in epoch milliseconds."""
FLOOD = Flood(leads=5, minutes=3)

Arrival = tuple[int, int]
"""When leads came, epoch milliseconds, and how many."""


def after(arrivals: list[Arrival], flood: Flood = FLOOD, policy: int = 1, brake: Brake | None = None) -> list[Brake]:
    """The brake after each of the arrivals."""
    brakes: list[Brake] = []
    brake = brake or Brake()
    for at, leads in arrivals:
        brake = register(brake, leads, at, flood, policy)
        brakes.append(brake)
    return brakes


def pulled(arrivals: list[Arrival], flood: Flood = FLOOD) -> list[bool]:
    return [brake.is_pulled(1) for brake in after(arrivals, flood)]


def most(arrivals: list[Arrival], span: int) -> int:
    """The most leads that came within so many milliseconds, ending with an arrival; its own end included."""
    return max(sum(leads for at, leads in arrivals if end - span < at <= end) for end, _ in arrivals)


@st.composite
def histories(draw: st.DrawFn) -> list[Arrival]:
    """Arrivals in order, often on both sides of the turn of a minute."""
    at = NOON + draw(st.integers(0, MINUTE))
    history = []
    for gap in draw(st.lists(st.sampled_from([0, 1, 20_000, MINUTE - 1, MINUTE, 3 * MINUTE]), min_size=1, max_size=20)):
        at += gap
        history.append((at, draw(st.integers(1, 4))))
    return history


floods = st.builds(Flood, leads=st.integers(1, 12), minutes=st.integers(1, 5))


def test_a_brake_that_was_never_pulled_holds_nobody_back() -> None:
    assert not Brake().is_pulled(1)


def test_as_many_as_allowed_are_let_by_and_one_more_pulls_the_brake() -> None:
    assert pulled([(NOON, 3), (NOON + MINUTE, 2), (NOON + 2 * MINUTE, 1)]) == [False, False, True]


def test_one_batch_alone_may_pull_the_brake() -> None:
    assert pulled([(NOON, 6)]) == [True]


def test_the_minutes_are_those_of_the_clock_and_the_oldest_drops_out_whole() -> None:
    first, late = NOON + MINUTE - 1, NOON + 3 * MINUTE
    assert pulled([(first, 5), (late - 1, 1)]) == [False, True]
    assert after([(first, 5), (late, 1)])[-1].minutes == {late // MINUTE: 1}


def test_leads_of_one_minute_are_added_up() -> None:
    assert after([(NOON, 1), (NOON + 1, 2), (NOON + MINUTE, 1)])[-1].minutes == {
        NOON // MINUTE: 3,
        NOON // MINUTE + 1: 1,
    }


def test_a_clock_that_is_behind_counts_in_the_newest_minute() -> None:
    assert after([(NOON, 1), (NOON - 1, 1), (NOON - 90 * MINUTE, 1)])[-1].minutes == {NOON // MINUTE: 3}


def test_each_count_is_one_write() -> None:
    assert [brake.rev for brake in after([(NOON, 5), (NOON + 1, 1)])] == [1, 2]


def test_a_brake_is_not_changed_by_counting_on_from_it() -> None:
    before = Brake(minutes={NOON // MINUTE: 1})
    register(before, 1, NOON, FLOOD, 1)
    assert before == Brake(minutes={NOON // MINUTE: 1})


def test_while_pulled_nothing_is_counted_and_nothing_written() -> None:
    brake = register(Brake(), 6, NOON, FLOOD, 4)
    assert register(brake, 1, NOON + 90 * MINUTE, FLOOD, 4) is brake


@pytest.mark.parametrize(("policy", "holds"), [(3, True), (4, True), (5, False)])
def test_only_a_newer_policy_than_the_one_it_was_pulled_under_releases(policy: int, *, holds: bool) -> None:
    brake = register(Brake(), 6, NOON, FLOOD, 4)
    assert brake.is_pulled(policy) is holds
    assert (register(brake, 1, NOON, FLOOD, policy) is brake) is holds


def test_once_released_it_counts_from_nothing_and_can_be_pulled_again() -> None:
    brake = register(Brake(), 6, NOON, FLOOD, 1)
    let_by, held = after([(NOON, 5), (NOON, 1)], policy=2, brake=brake)
    assert not let_by.is_pulled(2)
    assert let_by.is_pulled(1), "a function that has not heard of the release yet"
    assert held.is_pulled(2)


def test_a_newer_policy_keeps_the_count_of_a_brake_that_was_not_pulled() -> None:
    brake = register(Brake(), 5, NOON, FLOOD, 1)
    assert register(brake, 1, NOON, FLOOD, 2).is_pulled(2)


@given(histories(), floods)
def test_it_is_never_pulled_while_no_span_of_the_minutes_has_too_many(history: list[Arrival], flood: Flood) -> None:
    if most(history, flood.minutes * MINUTE) <= flood.leads:
        assert not any(pulled(history, flood))


@given(histories(), floods)
def test_it_is_pulled_as_soon_as_a_span_a_minute_shorter_has_too_many(history: list[Arrival], flood: Flood) -> None:
    found = pulled(history, flood)
    for length, is_pulled in enumerate(found, start=1):
        # A span that includes both its ends: one whole minute less, and the moment itself.
        if most(history[:length], (flood.minutes - 1) * MINUTE + 1) > flood.leads:
            assert is_pulled


@given(histories(), floods)
def test_it_is_pulled_exactly_when_the_minutes_of_the_clock_have_too_many(history: list[Arrival], flood: Flood) -> None:
    expected = False
    for length, is_pulled in enumerate(pulled(history, flood), start=1):
        now = history[length - 1][0] // MINUTE
        lately = range(now - flood.minutes + 1, now + 1)
        came = sum(leads for at, leads in history[:length] if at // MINUTE in lately)
        expected = expected or came > flood.leads
        assert is_pulled is expected


@given(histories(), floods, st.data())
def test_more_leads_never_pull_it_later(history: list[Arrival], flood: Flood, data: st.DataObject) -> None:
    more = [(at, leads + data.draw(st.integers(0, 3))) for at, leads in history]
    assert all(
        is_pulled <= with_more for is_pulled, with_more in zip(pulled(history, flood), pulled(more, flood), strict=True)
    )


@given(st.lists(st.tuples(st.integers(0, 40 * MINUTE), st.integers(1, 4), floods, st.integers(1, 4)), max_size=30))
def test_whatever_comes_it_stays_small_and_goes_forward(steps: list[tuple[int, int, Flood, int]]) -> None:
    """Clocks that disagree, floods that change, functions with an older policy."""
    brake = Brake()
    for at, leads, flood, policy in steps:
        before, brake = brake, register(brake, leads, at, flood, policy)
        assert (brake is before) is before.is_pulled(policy)
        if brake is not before:
            assert brake.rev == before.rev + 1
            assert len(brake.minutes) <= flood.minutes
            assert sum(brake.minutes.values()) <= flood.leads
        assert brake.pulled_under >= before.pulled_under
        assert not brake.is_pulled(5), "newer than all"
