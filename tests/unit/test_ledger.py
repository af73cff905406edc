"""The ledger's promises, as properties over arbitrary histories."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from fractions import Fraction
from itertools import combinations, pairwise
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from fairturn.ledger import (
    ANY,
    PAST,
    TURN,
    Allotment,
    Booking,
    Claim,
    Ledger,
    Member,
    allot,
    give_back,
    settle,
    share_out,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

LANES = (ANY, "de", "fr", "de+fr")
SKILLS = (frozenset[str](), frozenset({"de"}), frozenset({"fr"}), frozenset({"de", "fr"}))

reps = st.sampled_from([str(number) for number in range(95, 105)])
weights = st.integers(1, 50)
lanes = st.lists(st.sampled_from(LANES), max_size=8)


def members(*, skills: bool = True, capacities: bool = True) -> st.SearchStrategy[dict[str, Member]]:
    return st.dictionaries(
        reps,
        st.builds(
            Member,
            weight=weights,
            skills=st.sampled_from(SKILLS) if skills else st.just(SKILLS[0]),
            on_duty=st.booleans(),
            load=st.integers(0, 3),
            capacity=st.none() | st.integers(0, 5) if capacities else st.none(),
        ),
        max_size=8,
    )


def take(ledger: Ledger, rota: Mapping[str, Member], *leads: str) -> Allotment:
    return allot(settle(ledger, rota, LANES), leads, rota)


def rota_of(*reps_and_weights: int) -> dict[str, Member]:
    return {str(number): Member(weight=weight) for number, weight in enumerate(reps_and_weights, start=1)}


@given(st.lists(st.tuples(members(), lanes, st.booleans()), max_size=12))
def test_every_lane_sums_to_exactly_zero_whatever_happens(
    history: list[tuple[dict[str, Member], list[str], bool]],
) -> None:
    ledger = Ledger()
    for rota, leads, regretted in history:
        allotment = take(ledger, rota, *leads)
        ledger = allotment.ledger
        if regretted:
            ledger = give_back(ledger, [booking for booking in allotment.bookings if booking])
        assert [lane for lane, row in ledger.balances.items() if sum(row.values())] == []


@given(st.integers(1, 12), st.integers(1, 60))
def test_equal_reps_who_are_always_there_stay_within_a_turn_less_one_share(count: int, leads: int) -> None:
    rota = rota_of(*[1] * count)
    ledger = Ledger()
    for _ in range(leads):
        ledger = take(ledger, rota, ANY).ledger
        assert max(abs(ledger.total(rep)) for rep in rota) <= TURN - TURN // count


@given(st.lists(st.tuples(members(skills=False), st.integers(0, 6)), max_size=25))
def test_one_lane_stays_within_the_proven_bound_through_absences_capacities_joins_and_weights(
    history: list[tuple[dict[str, Member], int]],
) -> None:
    everyone = {rep: Member(on_duty=False) for rota, _ in history for rep in rota}
    ledger, largest = Ledger(), 0
    for rota, leads in history:
        # Who is not in this step's rota is away: leaving for good has a bound of its own.
        allotment = take(ledger, everyone | rota, *[ANY] * leads)
        ledger = allotment.ledger
        for booking in filter(None, allotment.bookings):
            largest = max(largest, *_pairs(booking.shares))
        assert all(2 * abs(ledger.total(rep)) <= largest * (len(everyone) - 1) for rep in everyone)


@given(st.lists(st.tuples(members(skills=False), st.integers(0, 6), st.integers(0, 3)), max_size=15))
def test_leavers_and_given_back_turns_widen_the_bound_by_no_more_than_themselves(
    history: list[tuple[dict[str, Member], int, int]],
) -> None:
    ever: set[str] = set()
    ledger, largest, widened = Ledger(), 0, 0
    for rota, leads, regretted in history:
        ever |= rota.keys()
        if rota:
            widened += sum(abs(ledger.total(rep)) for rep in ledger.reps() - rota.keys())
        allotment = take(ledger, rota, *[ANY] * leads)
        booked = [booking for booking in allotment.bookings if booking]
        ledger = give_back(allotment.ledger, booked[:regretted])
        widened += TURN * len(booked[:regretted])
        for booking in booked:
            largest = max(largest, *_pairs(booking.shares))
        assert all(abs(ledger.total(rep)) <= largest * (len(ever) - 1) / 2 + widened for rep in rota)


@given(members(), lanes, lanes)
def test_allotting_many_at_once_gives_what_allotting_one_by_one_gives(
    rota: dict[str, Member], earlier: list[str], leads: list[str]
) -> None:
    ledger = take(Ledger(), rota, *earlier).ledger
    at_once = take(ledger, rota, *leads)
    one_by_one: list[Booking | None] = []
    for lead in leads:
        allotment = take(ledger, rota, lead)
        ledger = allotment.ledger
        (booking,) = allotment.bookings
        one_by_one.append(booking)
        if booking is not None:
            winner = rota[booking.winner]
            rota = rota | {booking.winner: replace(winner, load=winner.load + 1)}
    assert at_once == Allotment(ledger, tuple(one_by_one))


@given(members(), lanes, lanes)
def test_giving_back_reverses_the_bookings_exactly(
    rota: dict[str, Member], earlier: list[str], leads: list[str]
) -> None:
    before = take(Ledger(), rota, *earlier).ledger
    allotment = allot(before, leads, rota)
    after = give_back(allotment.ledger, [booking for booking in allotment.bookings if booking])
    assert after.balances == before.balances


@given(members(), lanes)
def test_nobody_gets_a_lead_who_is_away_or_full_or_lacks_the_skill(rota: dict[str, Member], leads: list[str]) -> None:
    got: Counter[str] = Counter()
    for booking in filter(None, take(Ledger(), rota, *leads).bookings):
        winner = rota[booking.winner]
        assert winner.on_duty
        assert winner.fits(booking.lane)
        assert winner.has_room(got[booking.winner])
        got[booking.winner] += 1


@given(members(), lanes)
def test_a_lead_waits_and_books_nothing_only_where_nobody_can_take_it(
    rota: dict[str, Member], leads: list[str]
) -> None:
    for lead in leads:
        able = [m for m in rota.values() if m.on_duty and m.fits(lead) and m.has_room()]
        allotment = take(Ledger(), rota, lead)
        if able:
            assert allotment.bookings[0] is not None
        else:
            assert allotment == Allotment(Ledger(), (None,))


@given(members(), members(), lanes)
def test_settling_keeps_every_balance_of_those_who_stay_as_they_were(
    before: dict[str, Member], after: dict[str, Member], leads: list[str]
) -> None:
    ledger = take(Ledger(), before, *leads).ledger
    assert settle(ledger, before, LANES) == ledger
    settled = settle(ledger, after, LANES)
    assert settle(settled, after, LANES) == settled
    if after:
        assert settled.reps() <= after.keys()


@given(members(), lanes, st.lists(st.sampled_from(LANES), min_size=1), members())
def test_a_claim_can_be_recomputed_from_its_journal_alone(
    earlier: dict[str, Member], past: list[str], leads: list[str], rota: dict[str, Member]
) -> None:
    before = replace(take(Ledger(), earlier, *past).ledger, version=7, policy=2)
    allotment = take(before, rota, *leads)
    booked = [(f"contact#{n}", booking) for n, booking in enumerate(allotment.bookings) if booking]
    claim = Claim(
        before=before,
        policy=3,
        at=1,
        lanes=frozenset(LANES),
        members=rota,
        leads=tuple((lead, booking.lane, booking.winner) for lead, booking in booked),
    )
    recomputed = claim.recompute()
    assert recomputed.ledger == replace(allotment.ledger, version=8, policy=3)
    assert all(claim.bookings()[lead] == booking for lead, booking in booked)


@given(st.integers(-10 * TURN, 10 * TURN), st.dictionaries(reps, weights, min_size=1))
def test_shares_sum_to_exactly_what_is_shared_and_follow_the_weights(units: int, shared: dict[str, int]) -> None:
    shares = share_out(units, shared, sorted(shared))
    assert sum(shares.values()) == units
    whole = sum(shared.values())
    assert all(abs(share - Fraction(units * shared[rep], whole)) <= 1 for rep, share in shares.items())


def test_the_balance_is_the_fair_share_less_the_leads_got() -> None:
    rota = {"1": Member(weight=3), "2": Member(weight=2), "3": Member(weight=2, skills=frozenset({"fr"}))}
    fair: Counter[str] = Counter()
    got: Counter[str] = Counter()
    ledger = Ledger()
    for lane in (ANY, "fr", ANY, ANY, "fr", ANY, ANY):
        able = {rep: member.weight for rep, member in rota.items() if member.fits(lane)}
        for rep, weight in able.items():
            fair[rep] += Fraction(weight, sum(able.values()))  # type: ignore[assignment]
        allotment = take(ledger, rota, lane)
        ledger = allotment.ledger
        got[allotment.bookings[0].winner] += 1  # type: ignore[union-attr]
    for rep in rota:
        assert abs(Fraction(ledger.total(rep), TURN) - (fair[rep] - got[rep])) < Fraction(1, 1000)


def test_ties_go_to_whoever_has_been_longest_without_a_lead_then_to_the_smaller_id() -> None:
    rota = {"100": Member(), "99": Member()}
    assert [b.winner for b in take(Ledger(), rota, ANY, ANY).bookings if b] == ["99", "100"]
    waited = Ledger(turns=5, last={"99": 5, "100": 4})
    assert [b.winner for b in take(waited, rota, ANY).bookings if b] == ["100"]


def test_a_joiner_starts_level_and_is_neither_flooded_nor_starved() -> None:
    ledger = take(Ledger(), rota_of(*[1] * 10), *[ANY] * 500).ledger
    joined = rota_of(*[1] * 11)
    winners = [b.winner for b in take(ledger, joined, *[ANY] * 110).bookings if b]
    assert winners.count("11") == 10
    assert all(earlier != later for earlier, later in pairwise(winners))


def test_a_leaver_leaves_what_he_was_owed_to_the_others_by_weight() -> None:
    ledger = Ledger(balances={"fr": {"1": TURN, "2": -TURN // 2, "3": -TURN // 2}})
    staying = {"2": Member(weight=3, skills=frozenset({"fr"})), "3": Member(skills=frozenset({"fr"}))}
    settled = settle(ledger, staying, ["fr"])
    assert settled.balances == {"fr": {"2": TURN // 4, "3": -TURN // 4}}


def test_who_loses_the_last_skill_of_a_lane_keeps_what_he_is_owed_in_the_past() -> None:
    ledger = Ledger(balances={"fr": {"1": TURN, "2": -TURN}})
    settled = settle(ledger, {"1": Member(), "2": Member()}, ["fr", ANY])
    assert settled.balances == {PAST: {"1": TURN, "2": -TURN}}
    assert settled.total("1") == TURN


def test_a_lane_that_no_rule_names_is_folded_into_the_past_and_still_counts() -> None:
    french = {"1": Member(skills=frozenset({"fr"})), "2": Member(skills=frozenset({"fr"}))}
    ledger = Ledger(balances={"fr": {"1": TURN // 3, "2": -TURN // 3}})
    settled = settle(ledger, french, [ANY])
    assert settled.balances == {PAST: {"1": TURN // 3, "2": -TURN // 3}}
    assert [b.winner for b in allot(settled, [ANY], french).bookings if b] == ["1"]


def test_a_weight_change_counts_from_the_next_lead_and_judges_nothing_past() -> None:
    before = take(Ledger(), rota_of(1, 1), ANY).ledger
    assert settle(before, rota_of(9, 1), LANES).balances == before.balances


@settings(max_examples=25)
@given(members(), lanes)
def test_the_order_in_which_reps_are_listed_changes_nothing(rota: dict[str, Member], leads: list[str]) -> None:
    backwards = dict(reversed(rota.items()))
    assert take(Ledger(), rota, *leads) == take(Ledger(), backwards, *leads)


def _pairs(shares: Mapping[str, int]) -> list[int]:
    """The sums of two shares in one lead; one share alone where only one rep could take it."""
    return [a + b for a, b in combinations(shares.values(), 2)] or list(shares.values())
