"""The ledger in the situations that other systems get wrong, over 10,000 leads each.

Deviations are in turns: a rep's fair share (their part, by weight, of every lead that they could have taken) less
the leads they got, the worst at any moment. The figures are the bar; they come from measuring other systems.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field, replace
from itertools import groupby, permutations
from statistics import median
from typing import TYPE_CHECKING

import pytest

from fairturn.rules import ledger as ledger_module
from fairturn.rules.ledger import ANY, PAST, TURN, Booking, Ledger, Member, Offer, align, allot, give_back
from fairturn.rules.verdict import Code, Source, Verdict
from tests.unit.test_adversary import LONGER

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LEADS = 10_000
CHAOS = min(2_500 * LONGER, LEADS)
"""So many in chaos, where each costs most: all of them by `make search`."""


@dataclass
class Office:
    """A rota at work, and what has been measured of it."""

    rota: dict[str, Member]
    lanes: frozenset[str] = frozenset({ANY})
    ledger: Ledger = field(default_factory=Ledger)
    winners: list[str | None] = field(default_factory=list)
    fair: Counter[str] = field(default_factory=Counter)
    worst_total: float = 0
    worst_in_lane: float = 0

    def give(self, lane: str = ANY) -> str | None:
        allotment = allot(align(self.ledger, self.rota, self.lanes), [Offer(lane)], self.rota, self.lanes)
        self.ledger = allotment.ledger
        (booking,) = allotment.bookings
        self.winners.append(booking.winner if booking else None)
        for rep, share in booking.shares.items() if booking else ():
            self.fair[rep] += share
        everyone = self.ledger.reps()
        self.worst_total = max([self.worst_total, *(abs(self.ledger.total(rep)) / TURN for rep in everyone)])
        rows = (row for lane, row in self.ledger.balances.items() if lane != PAST)
        self.worst_in_lane = max([self.worst_in_lane, *(abs(units) / TURN for row in rows for units in row.values())])
        return self.winners[-1]

    def change(self, rep: str, **what: object) -> None:
        self.rota = self.rota | {rep: replace(self.rota[rep], **what)}  # type: ignore[arg-type]

    def got(self) -> Counter[str]:
        return Counter(winner for winner in self.winners if winner)


def reps(*weights: int) -> dict[str, Member]:
    return {str(number): Member(weight=weight) for number, weight in enumerate(weights, start=1)}


def longest_run(winners: Sequence[str | None], rep: str) -> int:
    return max((len(list(run)) for winner, run in groupby(winners) if winner == rep), default=0)


def longest_wait(winners: Sequence[str | None], rep: str) -> int:
    return max(
        (len(list(run)) for mine, run in groupby(winners, lambda winner: winner == rep) if not mine),
        default=0,
    )


def window_deviation(winners: Sequence[str | None], shares: Mapping[str, float]) -> float:
    """The worst deviation over any stretch of leads: highest less lowest deviation of a rep."""
    worst = 0.0
    for rep, share in shares.items():
        deviation = lowest = highest = 0.0
        for winner in winners:
            deviation += share - (winner == rep)
            lowest, highest = min(lowest, deviation), max(highest, deviation)
        worst = max(worst, highest - lowest)
    return worst


def test_a_ten_equal_reps_are_never_more_than_one_lead_apart() -> None:
    office = Office(reps(*[1] * 10))
    for _ in range(LEADS):
        office.give()
        got = office.got() if len(office.winners) < 50 else None
        assert got is None or max(got.values()) - min(got[rep] for rep in office.rota) <= 1
    assert set(office.got().values()) == {LEADS // 10}
    assert office.worst_total <= 0.9 + 1e-6


def test_b_weights_one_to_five_hold_at_every_moment() -> None:
    office = Office(reps(1, 2, 3, 4, 5))
    for _ in range(LEADS):
        office.give()
    shares = {rep: member.weight / 15 for rep, member in office.rota.items()}
    assert office.worst_total <= 0.67
    assert window_deviation(office.winners, shares) <= 1.34


def test_b2_one_heavy_rep_among_light_ones_stays_within_nine_tenths_of_a_turn() -> None:
    office = Office(reps(10, *[1] * 10))
    for _ in range(LEADS):
        office.give()
    assert office.worst_total <= 0.90
    shares = {rep: member.weight / 20 for rep, member in office.rota.items()}
    assert window_deviation(office.winners, shares) <= 1.00 + 1e-6


@pytest.mark.parametrize(
    ("weights", "away", "run", "fair", "wait"),
    [
        ([1] * 10, "10", 1, 10, 10),
        ([1, 2, 3, 4, 5], "5", 2, 34, 15),
        ([1, 2, 3, 4, 5], "1", 1, 7, 8),
    ],
)
def test_c_who_comes_back_from_absence_is_neither_flooded_nor_starved(
    weights: list[int], away: str, run: int, fair: int, wait: int
) -> None:
    office = Office(reps(*weights))
    for lead in range(LEADS):
        if lead == 4000:
            office.change(away, verdict=OFF)
        if lead == 6000:
            office.change(away, verdict=ON)
        office.give()
    assert away not in office.winners[4000:6000]
    back = office.winners[6000:]
    assert longest_run(back, away) <= run
    assert abs(back[:100].count(away) - fair) <= 1
    assert max(longest_wait(back[:1000], rep) for rep in office.rota if rep not in {away, "1"}) <= wait


@pytest.mark.parametrize("pattern", ["blocks of 50", "a coin"])
def test_d_a_rep_who_is_full_half_of_the_time_burdens_no_neighbour_and_loses_nothing(pattern: str) -> None:
    coin = random.Random(1)
    office = Office(reps(*[1] * 10))
    for lead in range(LEADS):
        full = lead // 50 % 2 == 1 if pattern == "blocks of 50" else coin.random() < 0.5
        office.change("4", capacity=0 if full else None)
        office.give()
    got = office.got()
    others = [got[rep] for rep in office.rota if rep not in {"4", "5"}]
    assert got["5"] / (sum(others) / len(others)) == pytest.approx(1.00, abs=0.005)
    assert got["4"] * TURN / office.fair["4"] == pytest.approx(1.00, abs=0.005)


def test_e_a_joiner_gets_their_share_from_the_first_day_and_no_more() -> None:
    office = Office(reps(*[1] * 10))
    for lead in range(LEADS):
        if lead == 5000:
            office.rota = office.rota | {"11": Member()}
        office.give()
    joined = office.winners[5000:]
    assert longest_run(joined, "11") == 1
    assert joined[:110].count("11") == 10
    assert joined.count("11") * TURN / office.fair["11"] == pytest.approx(1.00, abs=0.005)


def test_f_overlapping_languages_are_fair_in_total_and_in_each_language() -> None:
    speak = [{"fr"}] * 3 + [{"en"}] * 4 + [{"en", "fr"}] * 3
    office = Office(
        {str(number): Member(skills=frozenset(skills)) for number, skills in enumerate(speak, start=1)},
        frozenset({"fr", "en"}),
    )
    lanes = random.Random(1)
    french: Counter[str] = Counter()
    for _ in range(LEADS):
        lane = "fr" if lanes.random() < 0.4 else "en"
        winner = office.give(lane)
        french[winner or ""] += lane == "fr"
    got = office.got()
    assert office.worst_total < 1
    assert office.worst_in_lane < 1
    for group in (["1", "2", "3"], ["4", "5", "6", "7"], ["8", "9", "10"]):
        assert max(got[rep] for rep in group) - min(got[rep] for rep in group) <= 1
        assert max(french[rep] for rep in group) - min(french[rep] for rep in group) <= 1
    assert sum(french[rep] for rep in ["8", "9", "10"]) / french.total() == pytest.approx(0.50, abs=0.01)


def chaos(leads: int, seed: int) -> Office:
    """20 reps, four languages, weights 1 to 3, everybody sometimes away or full, loads that come and go."""
    dice = random.Random(seed)
    languages = ["de", "en", "es", "fr"]
    office = Office(
        {
            str(number): Member(
                weight=dice.randint(1, 3),
                skills=frozenset(dice.sample(languages, dice.randint(1, 3))),
                capacity=dice.randint(5, 20),
            )
            for number in range(1, 21)
        },
        frozenset(languages),
    )
    for _ in range(leads):
        rep = dice.choice(list(office.rota))
        office.change(rep, verdict=ON if dice.random() < 0.7 else OFF)
        closing = dice.choice(list(office.rota))
        office.change(closing, load=max(0, office.rota[closing].load - 1))
        winner = office.give(dice.choices(languages, [1, 4, 2, 3])[0])
        if winner is not None:
            office.change(winner, load=office.rota[winner].load + 1)
    return office


def test_chaos_stays_within_the_bar_in_total_and_in_each_lane() -> None:
    offices = [chaos(CHAOS, seed) for seed in (1, 2, 3)]
    for office in offices:
        assert None in office.winners
        assert len(office.got()) == 20
    # One run in ten goes a little further in total: of the seeds 1 to 20 the second and the fifth, to 1.83 and 1.81.
    assert median(office.worst_total for office in offices) <= 1.8
    assert max(office.worst_total for office in offices) <= 1.85
    assert max(office.worst_in_lane for office in offices) <= 1.8


def test_chaos_does_not_drift() -> None:
    office = chaos(min(LONGER * CHAOS, 100_000), seed=4)
    assert office.worst_total <= 1.8
    assert office.worst_in_lane <= 1.8


def test_chaos_never_needs_the_guard(monkeypatch: pytest.MonkeyPatch) -> None:
    guarded = chaos(CHAOS, seed=1)
    monkeypatch.setattr(ledger_module, "GUARD", 1000 * TURN)
    assert chaos(CHAOS, seed=1).winners == guarded.winners


def first_offers(leads: int, *, lag: int = 0, batch: int = 1, loses: float = 1.0) -> tuple[Counter[str], int]:
    """Ten equal reps; the leads of rep 4 are taken away, all or some, each `lag` leads or more after it was given.

    Returns how many leads each was given, and how many of theirs rep 4 lost.
    """
    dice = random.Random(1)
    office, given, lost = reps(*[1] * 10), Counter[str](), 0
    ledger, taken_away = Ledger(), list[tuple[int, Booking]]()
    while given.total() < leads:
        size = min(batch, leads - given.total())
        allotment = allot(align(ledger, office, [ANY]), [Offer(ANY)] * size, office, [ANY])
        ledger = allotment.ledger
        for booking in filter(None, allotment.bookings):
            given[booking.winner] += 1
            if booking.winner == "4" and dice.random() < loses:
                taken_away.append((given.total() + lag, booking))
                lost += 1
        due = [(booking, True) for when, booking in taken_away if when <= given.total()]
        taken_away = [(when, booking) for when, booking in taken_away if when > given.total()]
        ledger, _ = give_back(ledger, due)
    return given, lost


@pytest.mark.parametrize(("lag", "batch"), [(0, 1), (1, 1), (97, 1), (0, 97)])
def test_who_has_all_leads_taken_away_is_offered_few_more_than_the_others(lag: int, batch: int) -> None:
    given, lost = first_offers(1000, lag=lag, batch=batch)
    assert given["4"] == lost
    assert 100 < given["4"] <= 140


def test_who_loses_a_fifth_of_their_leads_to_a_workflow_keeps_as_many_as_the_others() -> None:
    given, lost = first_offers(LEADS, loses=0.2)
    others = [given[rep] for rep in given if rep != "4"]
    assert lost / given["4"] == pytest.approx(0.20, abs=0.02)
    assert (given["4"] - lost) / (sum(others) / len(others)) >= 0.97


def test_whom_hubspot_refused_in_a_batch_is_not_flooded_on_their_return() -> None:
    office = Office(reps(*[1] * 10))
    allotment = allot(office.ledger, [Offer(ANY)] * 97, office.rota, office.lanes)
    refused = [(booking, False) for booking in allotment.bookings if booking and booking.winner == "4"]
    office.ledger, _ = give_back(allotment.ledger, refused)
    assert len(refused) >= 9
    assert office.ledger.total("4") > 8 * TURN
    office.change("4", verdict=GONE)
    for _ in range(50):
        assert office.give() != "4"
    office.change("4", verdict=ON)
    back = [office.give() for _ in range(1000)]
    assert longest_run(back, "4") == 1
    assert back.count("4") == 100


DEBTS = (
    "0:12 1:13 0:13 0:23 0:24 1:13 0:23 0:14 0:24 1:12 1:24 0:14 1:12 1:34 0:23 0:24 1:24 1:34 0:24 1:34 1:14 1:13 "
    "0:34 1:14 1:12 1:23 0:12 1:24 1:12 0:24 0:12 1:34 1:24 1:14 0:12 1:24 0:34 1:23 1:14 0:12 1:23 1:12 1:12 0:24 "
    "1:14 0:34 1:13 0:23 1:13"
)
"""Found by search, `lane:reps on duty` for two lanes and four reps: at its end large debts stand against each other."""


@pytest.mark.parametrize(("lanes", "worst"), [(1, 0.75), (2, 1.0), (3, 1.0), (6, 1.0)])
def test_debts_of_lanes_that_are_gone_are_settled_in_those_that_remain(lanes: int, worst: float) -> None:
    old, new = ["l0", "l1"], [f"n{number}" for number in range(lanes)]
    office = Office({rep: Member(skills=frozenset(old + new)) for rep in "1234"}, frozenset(old))
    for lane, on_duty in (step.split(":") for step in DEBTS.split()):
        for rep in office.rota:
            office.change(rep, verdict=ON if rep in on_duty else OFF)
        office.give(f"l{lane}")
    for rep in office.rota:
        office.change(rep, verdict=ON)
    office.lanes = frozenset(new)
    dice = random.Random(1)
    for _ in range(2000):
        office.give(dice.choice(new))
    assert max(abs(office.ledger.total(rep)) / TURN for rep in office.rota) <= worst + 1e-6


def test_each_band_of_worth_is_shared_out_by_itself() -> None:
    dice = random.Random(1)
    bands = {f"{ANY}@{least}": (worth, often) for least, worth, often in ((0, 1, 60), (3, 3, 30), (10, 10, 10))}
    office = Office(reps(*[1] * 10), frozenset(bands))
    owed, worst_in_worth = Counter[str](), 0.0
    for band in dice.choices(list(bands), [often for _, often in bands.values()], k=LEADS):
        worth, _ = bands[band]
        winner = office.give(band)
        for rep in office.rota:
            owed[rep] += worth * (1 - 10 * (rep == winner))
        worst_in_worth = max(worst_in_worth, max(map(abs, owed.values())) / 10)
    # The seeds 1 to 10 lead to 11 to 17 in worth and 0.9 to 1.2 in number; without bands, to 100 to 198 in worth.
    assert worst_in_worth <= 12
    assert office.worst_total <= 1.4


def a_morning(ledger: Ledger, order: Sequence[str]) -> tuple[Counter[str], Ledger]:
    """300 leads have waited, and four reps begin in this order; who is not there yet is due. Who got how many."""
    waiting = [Offer(ANY, is_patient=True)] * 300
    given = Counter[str]()
    for there in range(1, 5):
        for _ in range(2):  # sweep comes by more often than reps
            rota = {
                rep: Member(
                    verdict=ON if rep in order[:there] else OFF,
                    came_lately=rep in order[:there],
                    is_due=rep in order[there:],
                )
                for rep in "1234"
            }
            allotment = allot(align(ledger, rota, [ANY]), waiting, rota, [ANY])
            ledger = allotment.ledger
            given.update(booking.winner for booking in allotment.bookings if booking)
            waiting = [lead for lead, booking in zip(waiting, allotment.bookings, strict=True) if booking is None]
    assert not waiting
    return given, ledger


@pytest.mark.parametrize("before", range(4))
def test_who_begins_within_a_minute_of_each_other_shares_the_leads_that_waited(before: int) -> None:
    """Whoever is owed more or less than the others when the morning begins, and whoever comes first."""
    ledger = allot(Ledger(), [Offer(ANY)] * before, reps(1, 1, 1, 1), [ANY]).ledger
    for order in permutations("1234"):
        given, _ = a_morning(ledger, order)
        assert all(abs(given[rep] - 75) <= 1 for rep in "1234"), order


def test_mornings_stay_even_when_everybody_is_sometimes_away() -> None:
    dice, ledger = random.Random(1), Ledger()
    for _ in range(30):
        for _ in range(20):
            rota = {rep: Member(verdict=ON if dice.random() < 0.8 else OFF) for rep in "1234"}
            ledger = allot(align(ledger, rota, [ANY]), [Offer(ANY)], rota, [ANY]).ledger
        given, ledger = a_morning(ledger, dice.sample("1234", 4))
        assert all(abs(given[rep] - 75) <= 1 for rep in "1234")


ON, OFF, GONE = Verdict(), Verdict(Code.OFF), Verdict(Code.REFUSED, Source.HUBSPOT)

HERE, EARLIER, DUE = Member(came_lately=True), Member(), Member(verdict=OFF, is_due=True)
PATIENT = Offer(ANY, is_patient=True)


@pytest.mark.parametrize(
    ("what", "lead", "rota"),
    [
        ("nobody is due", PATIENT, [HERE, Member(verdict=OFF)]),
        ("it is urgent", Offer(ANY), [HERE, DUE]),
        ("one has been there for longer", PATIENT, [HERE, DUE, EARLIER]),
        ("who is due had it", PATIENT._replace(had=("2",)), [HERE, DUE]),
        ("who is due has left", PATIENT, [HERE, replace(DUE, verdict=GONE)]),
        ("who is due is full", PATIENT, [HERE, replace(DUE, capacity=0)]),
        ("who is due lacks the skill", Offer("fr", is_patient=True), [replace(HERE, skills=frozenset({"fr"})), DUE]),
    ],
)
def test_a_lead_does_not_wait_for_the_next_shift_if(what: str, lead: Offer, rota: list[Member]) -> None:
    members = {str(number): member for number, member in enumerate(rota, start=1)}
    bookings = allot(Ledger(), [lead] * 300, members, [lead.lane]).bookings
    assert all(bookings), what


def test_a_lead_waits_for_who_is_due_only_while_they_are_owed_more_than_all_who_are_there() -> None:
    owed = Ledger(balances={ANY: {"1": TURN // 2, "2": -TURN // 2}}, last={"2": 1, "1": 2})
    rota = {"1": HERE, "2": DUE}
    allotment = allot(owed, [PATIENT], rota, [ANY])
    assert [booking.winner for booking in allotment.bookings if booking] == ["1"]
    owed = Ledger(balances={ANY: {"1": -TURN // 2, "2": TURN // 2}})
    assert allot(owed, [PATIENT], rota, [ANY]).bookings == (None,)
