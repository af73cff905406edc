"""The ledger's promises, as properties over arbitrary histories."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import combinations, pairwise
from typing import TYPE_CHECKING

from hypothesis import example, given, settings
from hypothesis import strategies as st

from fairturn.rules.ledger import (
    ANY,
    GRACE_OF_A_TURN,
    GUARD,
    MOST_GRACE,
    PAST,
    TURN,
    Allotment,
    Booking,
    Claim,
    Given,
    Ledger,
    Member,
    Offer,
    align,
    allot,
    give_back,
    share_out,
)
from fairturn.rules.verdict import Code, Source, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

LANES = (ANY, "de", "fr", "de+fr")
SKILLS = (frozenset[str](), frozenset({"de"}), frozenset({"fr"}), frozenset({"de", "fr"}))

reps = st.sampled_from([str(number) for number in range(95, 105)])
weights = st.integers(1, 50)
lanes = st.lists(st.sampled_from(LANES), max_size=8)
named = st.frozensets(st.sampled_from(LANES), min_size=1)


def offers(*, patient: bool = True) -> st.SearchStrategy[list[Offer]]:
    offer = st.builds(
        Offer,
        lane=st.sampled_from(LANES),
        had=st.lists(reps, max_size=3, unique=True).map(tuple),
        is_patient=st.booleans() if patient else st.just(value=False),
    )
    return st.lists(offer, max_size=8)


ON, OFF, GONE = Verdict(), Verdict(Code.OFF), Verdict(Code.REFUSED, Source.HUBSPOT)


def members(*, skills: bool = True, leavers: bool = True) -> st.SearchStrategy[dict[str, Member]]:
    def on_time(member: Member) -> Member:
        """Nobody is both on duty and about to be, and nobody has come who is not there."""
        on_duty = member.verdict.on_duty
        return replace(member, is_due=member.is_due and not on_duty, came_lately=member.came_lately and on_duty)

    member = st.builds(
        Member,
        weight=weights,
        skills=st.sampled_from(SKILLS) if skills else st.just(SKILLS[0]),
        verdict=st.sampled_from([ON, ON, ON, OFF, OFF, OFF, GONE, GONE] if leavers else [ON, OFF]),
        is_due=st.booleans(),
        came_lately=st.booleans(),
        load=st.integers(0, 3),
        capacity=st.none() | st.integers(0, 5),
    )
    return st.dictionaries(reps, member.map(on_time), max_size=8)


def take(ledger: Ledger, rota: Mapping[str, Member], *leads: str | Offer, lanes: Iterable[str] = LANES) -> Allotment:
    named = frozenset(lanes)
    offered = [Offer(lead) if isinstance(lead, str) else lead for lead in leads]
    return allot(align(ledger, rota, named), offered, rota, named)


def booked(allotment: Allotment) -> list[Booking]:
    return [booking for booking in allotment.bookings if booking]


def rota_of(*reps_and_weights: int) -> dict[str, Member]:
    return {str(number): Member(weight=weight) for number, weight in enumerate(reps_and_weights, start=1)}


@given(st.lists(st.tuples(members(), named, offers(), st.booleans(), st.booleans()), max_size=12))
def test_every_lane_sums_to_exactly_zero_and_grace_stays_in_its_range_whatever_happens(
    history: list[tuple[dict[str, Member], frozenset[str], list[Offer], bool, bool]],
) -> None:
    ledger = Ledger()
    for rota, named, leads, returned, is_regret in history:
        allotment = take(ledger, rota, *(lead for lead in leads if lead.lane in named), lanes=named)
        ledger = allotment.ledger
        if returned:
            ledger, _ = give_back(ledger, [(booking, is_regret) for booking in booked(allotment)])
        assert [lane for lane, row in ledger.balances.items() if sum(row.values())] == []
        assert all(0 <= quarters < MOST_GRACE for quarters in ledger.grace.values())


@given(st.lists(st.tuples(members(), named, offers()), min_size=1, max_size=8))
def test_the_books_of_a_rep_sum_to_exactly_their_total(
    history: list[tuple[dict[str, Member], frozenset[str], list[Offer]]],
) -> None:
    ledger = Ledger()
    for rota, named, leads in history:
        ledger = take(ledger, rota, *(lead for lead in leads if lead.lane in named), lanes=named).ledger
        # Whoever is left can take every lead now, so a booking in each lane shows all books.
        able = {rep: Member(skills=SKILLS[3]) for rep, member in rota.items() if not member.verdict.has_left}
        aligned = align(ledger, able, named)
        books: Counter[str] = Counter()
        for lane in named if able else ():
            (booking,) = booked(allot(aligned, [Offer(lane)], able, named))
            assert booking.lanes == len(named)
            for rep, book in booking.books.items():
                books[rep] += book - booking.lanes * booking.shares[rep]
                assert booking.totals[rep] - booking.shares[rep] == aligned.total(rep)
        assert all(books[rep] == len(named) * aligned.total(rep) for rep in able)


@given(st.integers(1, 12), st.integers(1, 60))
def test_equal_reps_who_are_always_there_stay_within_a_turn_less_one_share(count: int, leads: int) -> None:
    rota = rota_of(*[1] * count)
    ledger = Ledger()
    for _ in range(leads):
        ledger = take(ledger, rota, ANY).ledger
        assert max(abs(ledger.total(rep)) for rep in rota) <= TURN - TURN // count


@given(st.lists(st.tuples(members(skills=False, leavers=False), st.integers(0, 6)), max_size=25))
def test_one_lane_stays_within_the_proven_bound_through_absences_capacities_joins_and_weights(
    history: list[tuple[dict[str, Member], int]],
) -> None:
    everyone = {rep: Member(verdict=OFF) for rota, _ in history for rep in rota}
    ledger, largest = Ledger(), 0
    for rota, leads in history:
        # Who is not in this step's rota is away: leaving for good has a bound of its own.
        allotment = take(ledger, everyone | rota, *[ANY] * leads, lanes=[ANY])
        ledger = allotment.ledger
        for booking in filter(None, allotment.bookings):
            largest = max(largest, *_pairs(booking.shares))
        assert all(2 * abs(ledger.total(rep)) <= largest * (len(everyone) - 1) for rep in everyone)


@given(st.lists(st.tuples(members(skills=False), st.integers(0, 6), st.integers(0, 3)), max_size=15))
def test_leavers_and_turns_that_came_back_widen_the_bound_by_no_more_than_themselves(
    history: list[tuple[dict[str, Member], int, int]],
) -> None:
    ever: set[str] = set()
    ledger, largest, widened = Ledger(), 0, 0
    for rota, leads, regretted in history:
        ever |= rota.keys()
        staying = {rep for rep, member in rota.items() if not member.verdict.has_left}
        if staying:
            widened += sum(abs(ledger.total(rep)) for rep in ledger.reps() - staying)
        allotment = take(ledger, rota, *[ANY] * leads, lanes=[ANY])
        ledger, came_back = give_back(allotment.ledger, [(booking, True) for booking in booked(allotment)[:regretted]])
        widened += TURN * sum(came_back)
        for booking in booked(allotment):
            largest = max(largest, *_pairs(booking.shares))
        assert all(abs(ledger.total(rep)) <= largest * (len(ever) - 1) / 2 + widened for rep in rota)


@given(st.lists(st.tuples(members(), named, offers(), st.integers(0, 3), st.booleans()), max_size=20))
def test_overlapping_lanes_stay_within_the_proven_bound_whatever_happens(
    history: list[tuple[dict[str, Member], frozenset[str], list[Offer], int, bool]],
) -> None:
    ledger, ways = Ledger(), {lane: Way() for lane in LANES}
    named = frozenset(LANES)
    for rota, renamed, leads, returned, is_regret in history:
        aligned = align(ledger, rota, renamed)
        for lane, way in ways.items():
            way.widened += moved(books(ledger, lane, named), books(aligned, lane, renamed))
        named = renamed
        allotment = take(aligned, rota, *(lead for lead in leads if lead.lane in named), lanes=named)
        back = [(booking, is_regret) for booking in booked(allotment)[:returned]]
        ledger, came_back = give_back(allotment.ledger, back)
        for (booking, _), is_back in zip(back, came_back, strict=True):
            ways[booking.lane].widened += is_back
        for booking in booked(allotment):
            ways[booking.lane].credited |= booking.shares.keys()
            ways[booking.lane].largest = max(ways[booking.lane].largest, *_pairs(booking.shares))
        for lane in named:
            assert all(abs(book) <= ways[lane].bound() for book in books(ledger, lane, named).values())
        assert all(
            Fraction(abs(ledger.total(rep)), TURN) <= sum(ways[lane].bound() for lane in named) for rep in ledger.reps()
        )


@dataclass
class Way:
    """What one lane's book has been through, in turns."""

    credited: set[str] = field(default_factory=set)
    largest: int = 0
    """The largest sum of two shares in one lead, in units."""
    widened: Fraction = Fraction(0)

    def bound(self) -> Fraction:
        return Fraction(self.largest + GUARD, TURN) * max(len(self.credited) - 1, 0) / 2 + self.widened


def books(ledger: Ledger, lane: str, named: Iterable[str]) -> dict[str, Fraction]:
    """Everybody's book in the lane, in turns."""
    row, past, count = ledger.balances.get(lane, {}), ledger.balances.get(PAST, {}), len(frozenset(named))
    return {rep: Fraction(row.get(rep, 0) * count + past.get(rep, 0), TURN * count) for rep in ledger.reps()}


def moved(before: Mapping[str, Fraction], after: Mapping[str, Fraction]) -> Fraction:
    """By how much any group's books together can have grown: both sum to 0, so by half of all differences."""
    none = Fraction(0)
    everyone = before.keys() | after.keys()
    return sum((abs(after.get(rep, none) - before.get(rep, none)) for rep in everyone), none) / 2


graces = st.dictionaries(reps, st.integers(0, MOST_GRACE - 1))


@given(members(), lanes, graces, offers())
def test_allotting_many_at_once_gives_what_allotting_one_by_one_gives(
    rota: dict[str, Member], earlier: list[str], grace: dict[str, int], leads: list[Offer]
) -> None:
    ledger = replace(take(Ledger(), rota, *earlier).ledger, grace=grace)
    at_once = take(ledger, rota, *leads)
    ledger = align(ledger, rota, LANES)
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


@given(members(), lanes, offers())
def test_giving_back_reverses_the_bookings_exactly(
    rota: dict[str, Member], earlier: list[str], leads: list[Offer]
) -> None:
    before = take(Ledger(), rota, *earlier).ledger
    allotment = allot(before, leads, rota, LANES)
    after, came_back = give_back(allotment.ledger, [(booking, False) for booking in booked(allotment)])
    assert after.balances == before.balances
    assert after.grace == allotment.ledger.grace
    assert all(came_back)


@given(members(), lanes, graces)
def test_a_regret_costs_four_quarters_and_changes_nothing_where_they_are_lacking(
    rota: dict[str, Member], leads: list[str], grace: dict[str, int]
) -> None:
    allotment = take(replace(Ledger(), grace=grace), rota, *leads)
    ledger = allotment.ledger
    for booking in booked(allotment):
        had = ledger.grace.get(booking.winner, MOST_GRACE)
        after, (is_back,) = give_back(ledger, [(booking, True)])
        assert is_back == (had >= GRACE_OF_A_TURN)
        if is_back:
            assert after.grace[booking.winner] == had - GRACE_OF_A_TURN
            assert after.balances == give_back(ledger, [(booking, False)])[0].balances
        else:
            assert after == ledger
        ledger = after


@given(members(), offers())
def test_nobody_gets_a_lead_who_has_left_or_is_away_or_full_or_lacks_the_skill(
    rota: dict[str, Member], leads: list[Offer]
) -> None:
    got: Counter[str] = Counter()
    for booking in booked(take(Ledger(), rota, *leads)):
        winner = rota[booking.winner]
        assert winner.verdict.on_duty
        assert winner.fits(booking.lane)
        assert winner.has_room(got[booking.winner])
        got[booking.winner] += 1


@given(members(), offers(patient=False))
def test_a_lead_waits_and_books_nothing_only_where_nobody_can_take_it(
    rota: dict[str, Member], leads: list[Offer]
) -> None:
    for lead in leads:
        able = [m for m in rota.values() if m.verdict.on_duty and m.fits(lead.lane) and m.has_room()]
        allotment = take(Ledger(), rota, lead)
        if able:
            assert allotment.bookings[0] is not None
        else:
            assert allotment == Allotment(Ledger(), (None,))


@given(members(), lanes, offers())
def test_who_had_a_lead_gets_and_earns_nothing_from_it_while_anybody_else_can_take_it(
    rota: dict[str, Member], earlier: list[str], leads: list[Offer]
) -> None:
    ledger = take(Ledger(), rota, *earlier).ledger
    for lead in leads:
        (booking,) = allot(ledger, [lead], rota, LANES).bookings
        able = {rep for rep, member in rota.items() if member.can_take(lead.lane)}
        if booking is not None:
            fresh = able.difference(lead.had)
            assert booking.shares.keys() - booking.awaited == (fresh or able)
            assert not set(booking.awaited) & {*able, *lead.had}
            assert set(booking.passed_over) == (able - fresh if fresh else set())


@given(members(), lanes, offers())
def test_a_lead_waits_for_the_next_shift_only_if_it_is_patient_and_nobody_has_been_there_for_long(
    rota: dict[str, Member], earlier: list[str], leads: list[Offer]
) -> None:
    ledger = take(Ledger(), rota, *earlier).ledger
    for lead in leads:
        (booking,) = allot(ledger, [lead], rota, LANES).bookings
        (at_once,) = allot(ledger, [lead._replace(is_patient=False)], rota, LANES).bookings
        due = {rep for rep, member in rota.items() if rep not in lead.had and member.will_take(lead.lane)}
        if lead.is_patient and due and at_once is not None and all(rota[rep].came_lately for rep in at_once.shares):
            assert booking is None or set(booking.awaited) == due
            assert booking is None or booking.winner not in due
        else:
            assert booking == at_once


@given(members(), members(), lanes)
def test_settling_keeps_every_balance_of_those_who_stay_as_they_were(
    before: dict[str, Member], after: dict[str, Member], leads: list[str]
) -> None:
    ledger = take(Ledger(), before, *leads).ledger
    assert align(ledger, before, LANES) == ledger
    aligned = align(ledger, after, LANES)
    assert align(aligned, after, LANES) == aligned
    staying = {rep for rep, member in after.items() if not member.verdict.has_left}
    if staying:
        assert aligned.reps() <= staying


@given(members(), lanes, graces, offers(), members())
def test_a_claim_can_be_recomputed_from_its_journal_alone(
    earlier: dict[str, Member], past: list[str], grace: dict[str, int], leads: list[Offer], rota: dict[str, Member]
) -> None:
    before = replace(take(Ledger(), earlier, *past).ledger, version=7, policy=2, grace=grace)
    allotment = take(before, rota, *leads)
    decided = zip(leads, allotment.bookings, strict=True)
    named = {f"contact#{n}": (lead, booking) for n, (lead, booking) in enumerate(decided) if booking}
    claim = Claim(
        before=before,
        policy=3,
        at=1,
        lanes=frozenset(LANES),
        members=rota,
        leads=tuple(
            Given(name, booking.lane, booking.winner, lead.had, lead.is_patient)
            for name, (lead, booking) in named.items()
        ),
    )
    assert claim.recompute().ledger == replace(allotment.ledger, version=8, policy=3)
    assert claim.bookings() == {name: booking for name, (_, booking) in named.items()}


def test_the_journal_tells_who_had_a_lead_so_that_it_is_not_recomputed_in_their_favour() -> None:
    leads = (Given("contact#1", ANY, "2", had=("1",)),)
    claim = Claim(Ledger(), policy=1, at=1, lanes=frozenset({ANY}), members=rota_of(1, 1), leads=leads)
    booking = claim.bookings()["contact#1"]
    assert booking.winner == "2"
    assert booking.shares == {"2": TURN}
    assert booking.passed_over == ("1",)


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


def test_a_leaver_leaves_what_they_were_owed_to_the_others_by_weight() -> None:
    ledger = Ledger(balances={"fr": {"1": TURN, "2": -TURN // 2, "3": -TURN // 2}})
    staying = {"2": Member(weight=3, skills=frozenset({"fr"})), "3": Member(skills=frozenset({"fr"}))}
    aligned = align(ledger, staying, ["fr"])
    assert aligned.balances == {"fr": {"2": TURN // 4, "3": -TURN // 4}}


def test_who_loses_the_last_skill_of_a_lane_keeps_what_they_are_owed_in_the_past() -> None:
    ledger = Ledger(balances={"fr": {"1": TURN, "2": -TURN}})
    aligned = align(ledger, {"1": Member(), "2": Member()}, ["fr", ANY])
    assert aligned.balances == {PAST: {"1": TURN, "2": -TURN}}
    assert aligned.total("1") == TURN


def test_a_lane_that_no_rule_names_is_folded_into_the_past_and_still_counts() -> None:
    french = {"1": Member(skills=frozenset({"fr"})), "2": Member(skills=frozenset({"fr"}))}
    ledger = Ledger(balances={"fr": {"1": TURN // 3, "2": -TURN // 3}})
    aligned = align(ledger, french, [ANY])
    assert aligned.balances == {PAST: {"1": TURN // 3, "2": -TURN // 3}}
    assert [b.winner for b in booked(allot(aligned, [Offer(ANY)], french, [ANY]))] == ["1"]


def test_who_has_left_hubspot_is_owed_nothing_any_more_and_returns_level() -> None:
    ledger = Ledger(balances={ANY: {"1": 2 * TURN, "2": -TURN, "3": -TURN}}, last={"1": 9}, grace={"1": 3})
    rota = {"1": Member(verdict=GONE), "2": Member(weight=3), "3": Member()}
    aligned = align(ledger, rota, [ANY])
    assert aligned == Ledger(balances={ANY: {"2": TURN // 2, "3": -TURN // 2}})


def test_a_debt_of_a_lane_that_is_gone_counts_in_each_remaining_lane_in_equal_parts() -> None:
    ledger = Ledger(balances={PAST: {"1": TURN, "2": -TURN}})
    rota = {rep: Member(skills=SKILLS[3]) for rep in ("1", "2")}
    (booking,) = booked(take(ledger, rota, "de", lanes=["de", "fr"]))
    assert booking.book("1") == TURN / 2 + TURN / 2
    assert booking.book("2") == TURN / 2 - TURN / 2
    assert booking.winner == "1"


def test_whose_book_is_too_far_behind_is_not_considered_however_much_they_are_owed_in_all() -> None:
    rota = {rep: Member(skills=SKILLS[3]) for rep in ("1", "2")}
    guard = 3 * TURN // 2
    for behind, considered, winner in ((guard, ["1", "2"], "1"), (guard + 2, ["2"], "2")):
        ledger = Ledger(balances={"de": {"1": 9 * TURN, "2": -9 * TURN}, "fr": {"1": -behind // 2, "2": behind // 2}})
        (booking,) = booked(take(ledger, rota, "fr", lanes=["de", "fr"]))
        assert sorted(booking.considered) == considered
        assert booking.winner == winner


def test_one_lane_never_needs_the_guard() -> None:
    ledger = Ledger(balances={ANY: {"1": 7 * TURN, "2": -7 * TURN}, PAST: {"1": -9 * TURN, "2": 9 * TURN}})
    (booking,) = booked(take(ledger, rota_of(1, 1), ANY, lanes=[ANY]))
    assert booking.books == booking.totals
    assert booking.winner == "2"


def test_a_rep_may_regret_five_leads_at_once_and_earns_one_more_with_every_four() -> None:
    ledger = Ledger()
    rota = rota_of(1)
    for leads, expected in ((7, 5), (3, 0), (1, 1), (4, 1), (40, 5)):
        allotment = take(ledger, rota, *[ANY] * leads)
        ledger, came_back = give_back(allotment.ledger, [(booking, True) for booking in booked(allotment)])
        assert sum(came_back) == expected


def test_a_weight_change_counts_from_the_next_lead_and_judges_nothing_past() -> None:
    before = take(Ledger(), rota_of(1, 1), ANY).ledger
    assert align(before, rota_of(9, 1), LANES).balances == before.balances


@settings(max_examples=settings().max_examples // 4)
@example({rep: Member() for rep in ("95", "96", "97")}, [Offer(ANY, had=("95", "96"))])
@given(members(), offers())
def test_the_order_in_which_reps_are_listed_changes_nothing(rota: dict[str, Member], leads: list[Offer]) -> None:
    backwards = dict(reversed(rota.items()))
    assert take(Ledger(), rota, *leads) == take(Ledger(), backwards, *leads)


def _pairs(shares: Mapping[str, int]) -> list[int]:
    """The sums of two shares in one lead; one share alone where only one rep could take it."""
    return [a + b for a, b in combinations(shares.values(), 2)] or list(shares.values())
