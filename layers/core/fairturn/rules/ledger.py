"""Who is owed the next turn: the two-book ledger of a rota. Pure, and exact in integers.

For each lead of a lane, every rep who may take it is credited their share of one turn in that lane, by weight. The
lead costs whoever gets it one turn in that lane. Who is away, full or lacks the skill is credited nothing and loses
nothing, so nobody is flooded on their return. Leads that waited are shared out among those, too, who are about to come.

A rep's *book* in a lane is what they are owed there, and that lane's part of what they are still owed from lanes that
are no more. The lead goes to whoever is owed most, total and book together, among those whose book in its lane is
within 1.5 turns of the largest. With one lane and no past this is the greedy rule for the carpool problem (Fagin &
Williams, 1983; Ajtai et al., 1998), and nobody is ever further from their fair share than g(n - 1)/2 turns: g is the
largest sum of two shares in one lead, n the number of reps who were ever in the rota. With more lanes every book stays
within (g + 1.5)(n - 1)/2, plus what widened it. docs/fairness.md has the proofs.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, NamedTuple

from fairturn.rules.verdict import ON_DUTY, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

TURN: Final = 232_792_560
"""One lead's worth of entitlement, in the units of every balance: lcm(1, …, 20), so that up to twenty equal shares of a
turn are whole."""

GUARD: Final = 3 * TURN // 2
"""Units by which a rep's book may be behind the largest, for the lead to go to them all the same: 1.5 turns."""

MOST_GRACE: Final = 20
"""Quarters of a turn that may come back to a rep for leads that were taken away: five turns at once."""
GRACE_OF_A_TURN: Final = 4
"""Quarters that one such turn costs. Each turn that a rep gets earns them one: so one in four comes back."""

ANY = "any"
"""The lane of the leads that ask for no skill."""

PAST = "past"
"""The row that keeps what was owed in lanes which are no more. It counts in totals, and in each lane's book in part."""

BAND = "@"
"""What stands in a lane's name between its skills and the band of worth. No skill may contain it."""


@dataclass(frozen=True, slots=True)
class Ledger:
    """What each rep of a rota is owed. Every row of `balances`, `past` included, sums to exactly 0."""

    version: int = 0
    """Grows by one with every claim and every giving back."""
    policy: int = 0
    """The newest policy version under which turns were allotted."""
    turns: int = 0
    """Leads allotted so far: the rota's own clock, by which `last` is told."""
    balances: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Lane → rep → units owed to them (negative: they are ahead). Zeros are left out."""
    last: Mapping[str, int] = field(default_factory=dict)
    """Rep → the value of `turns` when they last got a lead. Who never got one is absent."""
    grace: Mapping[str, int] = field(default_factory=dict)
    """Rep → how many quarters of a turn may still come back to them for leads that were taken away, 0 to 19. Who is
    absent has all 20."""

    def total(self, rep: str) -> int:
        """All that the rep is owed, in units, over every lane and the past."""
        return sum(row.get(rep, 0) for row in self.balances.values())

    def gap(self) -> float:
        """By how much, in turns, anybody is owed or ahead at most."""
        return max((abs(self.total(rep)) for rep in self.reps()), default=0) / TURN

    def reps(self) -> frozenset[str]:
        """Everyone who is owed something or owes something."""
        return frozenset(rep for row in self.balances.values() for rep in row)


@dataclass(frozen=True, slots=True)
class Member:
    """A rep of the rota as they stand when a claim is made."""

    weight: int = 1
    skills: frozenset[str] = frozenset()
    verdict: Verdict = ON_DUTY
    """Whether they are on duty, or why not. Whoever has left is owed nothing by the ledger."""
    is_due: bool = False
    """They are not on duty, and will be within the policy's `release`."""
    came_lately: bool = False
    """They are on duty, and have been for less than `release`."""
    load: int = 0
    """Their open leads before the claim."""
    capacity: int | None = None
    """The load from which on they get no more; None is no limit."""

    def fits(self, lane: str) -> bool:
        """Whether they have every skill that the lane asks for."""
        skills, _, _ = lane.partition(BAND)
        return skills == ANY or self.skills.issuperset(skills.split("+"))

    def has_room(self, taken: int = 0) -> bool:
        """Whether they may take one more lead after `taken` in this claim."""
        return self.capacity is None or self.load + taken < self.capacity

    def can_take(self, lane: str, taken: int = 0) -> bool:
        """Whether they may get a lead of this lane after `taken` in this claim."""
        return self.verdict.on_duty and self.fits(lane) and self.has_room(taken)

    def will_take(self, lane: str, taken: int = 0) -> bool:
        """Whether they may get a lead of this lane as soon as they are on duty."""
        return self.is_due and not self.verdict.has_left and self.fits(lane) and self.has_room(taken)


class Offer(NamedTuple):
    """A lead that is to be allotted."""

    lane: str
    had: tuple[str, ...] = ()
    """Who had it lately: they get it again only if nobody else can take it now."""
    is_patient: bool = False
    """Whether those who come on duty within `release` share in it; it waits for them if one of them is owed more."""


class Given(NamedTuple):
    """One lead of a claim, as its journal keeps it."""

    lead: str
    lane: str
    winner: str
    had: tuple[str, ...] = ()
    is_patient: bool = False


@dataclass(frozen=True, slots=True)
class Booking:
    """How one lead was booked: who was credited which share of the turn, and who got the lead."""

    lane: str
    winner: str
    shares: Mapping[str, int]
    totals: Mapping[str, int]
    """Everyone who shared in it → units owed to them in all, this share included."""
    books: Mapping[str, int]
    """The same for their books, in units times `lanes`."""
    lanes: int
    """How many lanes the rota had."""
    passed_over: tuple[str, ...] = ()
    """Who could have taken it and had had it before."""
    awaited: tuple[str, ...] = ()
    """Who shared in it because they come on duty soon. None of them was owed more than the winner."""

    def book(self, rep: str) -> float:
        """The rep's book in the lead's lane, in units."""
        return self.books[rep] / self.lanes

    @property
    def considered(self) -> list[str]:
        """Whose book was near enough to the largest for the lead to go to them."""
        return _within_guard(self.books, self.lanes)


@dataclass(frozen=True, slots=True)
class Allotment:
    """The ledger after some leads, and each lead's booking; None for a lead that nobody could take."""

    ledger: Ledger
    bookings: tuple[Booking | None, ...]


@dataclass(frozen=True, slots=True)
class Claim:
    """The journal of one claim: all that it rested on, so that anybody can recompute it."""

    before: Ledger
    """The ledger as it was read; the claim moves it to the next version."""
    policy: int
    at: int
    """Epoch milliseconds."""
    lanes: frozenset[str]
    """The lanes that the policy named for the rota."""
    members: Mapping[str, Member]
    leads: tuple[Given, ...]
    """The leads in the order in which they were allotted."""

    @property
    def version(self) -> int:
        """The version of the ledger that this claim made."""
        return self.before.version + 1

    def recompute(self) -> Allotment:
        """Decide everything once more, from nothing but the journal."""
        offers = [Offer(given.lane, given.had, given.is_patient) for given in self.leads]
        allotment = allot(align(self.before, self.members, self.lanes), offers, self.members, self.lanes)
        return replace(allotment, ledger=replace(allotment.ledger, version=self.version, policy=self.policy))

    def bookings(self) -> dict[str, Booking]:
        """How each lead of the claim was booked."""
        booked = zip((given.lead for given in self.leads), self.recompute().bookings, strict=True)
        return {lead: booking for lead, booking in booked if booking is not None}


ClaimKey = tuple[str, int]
"""A claim: its rota, and the version of the ledger that it made."""


class Returned(NamedTuple):
    """One lead of a giving back, as its journal keeps it."""

    lead: str
    """Its name in the journal of its claim."""
    claim: int
    is_regret: bool = False
    """Somebody else took the lead away after its handover: the turn comes back only if the rep has the grace for it."""


@dataclass(frozen=True, slots=True)
class GivingBack:
    """The journal of turns that were to go back: which leads, each with the claim in which it was booked."""

    before: int
    """The version of the ledger that was read; giving back moves it to the next."""
    at: int
    """Epoch milliseconds."""
    leads: tuple[Returned, ...]
    """In the order in which they were booked."""

    @property
    def version(self) -> int:
        """The version of the ledger that this giving back made."""
        return self.before + 1


def allot(ledger: Ledger, offers: Sequence[Offer], members: Mapping[str, Member], lanes: Iterable[str]) -> Allotment:
    """Decide who gets each of the leads, in this order; `lanes` are all that the rota has.

    Allotting k leads at once gives what allotting them one by one gives, with the loads carried along. The version and
    the policy of the ledger stay as they are: the claim moves them.
    """
    books = _Books(ledger, members, lanes)
    bookings = tuple([books.allot(offer) for offer in offers])
    return Allotment(books.closed(), bookings)


def align(ledger: Ledger, members: Mapping[str, Member], lanes: Iterable[str]) -> Ledger:
    """Bring the ledger in line with a rota's present members and lanes; nothing changes where they agree.

    What is owed to somebody who left the rota or HubSpot, or lost a lane's skill, goes by weight to the lane's members.
    A lane that no rule names any more, or that has no member left, is folded into the past; the past's members are all
    of the rota.
    """
    named = frozenset(lanes)
    staying = {rep: member for rep, member in members.items() if not member.verdict.has_left}
    past = dict(ledger.balances.get(PAST, {}))
    balances: dict[str, dict[str, int]] = {}
    for lane, row in ledger.balances.items():
        if lane == PAST:
            continue
        weights = {rep: member.weight for rep, member in staying.items() if member.fits(lane)}
        if lane in named and weights:
            balances[lane] = _pass_on(row, weights)
        else:
            for rep, units in row.items():
                past[rep] = past.get(rep, 0) + units
    balances[PAST] = _pass_on(past, {rep: member.weight for rep, member in staying.items()})
    last = {rep: turn for rep, turn in ledger.last.items() if rep in staying}
    grace = {rep: quarters for rep, quarters in ledger.grace.items() if rep in staying}
    return replace(ledger, balances=_without_zeros(balances), last=last, grace=grace)


def give_back(ledger: Ledger, returns: Iterable[tuple[Booking, bool]]) -> tuple[Ledger, tuple[bool, ...]]:
    """Reverse bookings exactly: each share is taken back, and the winner gets their turn again. Tells of each whether
    it came back.

    With each booking goes whether it is a regret. That comes back only to a winner who has four quarters of grace, and
    costs them those; else the turn stays spent. All others come back, and leave the grace alone. Somebody who has left
    meanwhile gets a balance by it; the next `align` passes that on.
    """
    balances = {lane: dict(row) for lane, row in ledger.balances.items()}
    grace = dict(ledger.grace)
    came_back: list[bool] = []
    for booking, is_regret in returns:
        if is_regret:
            quarters = grace.get(booking.winner, MOST_GRACE)
            if quarters < GRACE_OF_A_TURN:
                came_back.append(False)
                continue
            grace[booking.winner] = quarters - GRACE_OF_A_TURN
        row = balances.setdefault(booking.lane, {})
        for rep, share in booking.shares.items():
            row[rep] = row.get(rep, 0) - share
        row[booking.winner] = row.get(booking.winner, 0) + TURN
        came_back.append(True)
    return replace(ledger, balances=_without_zeros(balances), grace=grace), tuple(came_back)


def share_out(units: int, weights: Mapping[str, int], order: Sequence[str]) -> dict[str, int]:
    """Split units by weight into integers that sum to exactly `units`; leftovers go one each, in `order`."""
    whole = sum(weights.values())
    shares = {rep: units * weights[rep] // whole for rep in order}
    for rep in order[: units - sum(shares.values())]:
        shares[rep] += 1
    return shares


class _Books:
    """A ledger while leads are allotted from it."""

    def __init__(self, ledger: Ledger, members: Mapping[str, Member], lanes: Iterable[str]) -> None:
        self._ledger = ledger
        self._members = members
        self._lanes = max(len(frozenset(lanes)), 1)
        self._balances = {lane: dict(row) for lane, row in ledger.balances.items()}
        self._past = ledger.balances.get(PAST, {})
        self._totals = {rep: ledger.total(rep) for rep in members}
        self._last, self._grace, self._turns = dict(ledger.last), dict(ledger.grace), ledger.turns
        self._taken = dict.fromkeys(members, 0)

    def allot(self, offer: Offer) -> Booking | None:
        """Give one lead to somebody, and book it; None if nobody can take it, or if it is kept for somebody."""
        lane = offer.lane
        able = self._in_turn(rep for rep, member in self._members.items() if member.can_take(lane, self._taken[rep]))
        asked = [rep for rep in able if rep not in offer.had] or able
        if not asked:
            return None
        awaited = self._awaited(offer, asked)
        sharing = self._in_turn([*asked, *awaited])
        shares = share_out(TURN, {rep: self._members[rep].weight for rep in sharing}, sharing)
        before = self._balances.get(lane, {})
        row = before | {rep: before.get(rep, 0) + share for rep, share in shares.items()}
        totals = {rep: self._totals[rep] + share for rep, share in shares.items()}
        books = {rep: self._lanes * row[rep] + self._past.get(rep, 0) for rep in sharing}
        winner = _most_owed(totals, books, self._lanes)
        if winner in awaited:
            return None
        self._balances[lane] = row | {winner: row[winner] - TURN}
        self._totals |= totals | {winner: totals[winner] - TURN}
        self._taken[winner] += 1
        self._turns += 1
        self._last[winner] = self._turns
        if winner in self._grace:
            self._grace[winner] += 1
        passed_over = tuple(rep for rep in able if rep not in asked)
        return Booking(lane, winner, shares, totals, books, self._lanes, passed_over, awaited)

    def closed(self) -> Ledger:
        """The ledger after that."""
        grace = {rep: quarters for rep, quarters in self._grace.items() if quarters < MOST_GRACE}
        balances = _without_zeros(self._balances)
        return replace(self._ledger, turns=self._turns, balances=balances, last=self._last, grace=grace)

    def _in_turn(self, reps: Iterable[str]) -> list[str]:
        """Whoever has waited longest for a lead comes first, then the smaller id."""
        return sorted(reps, key=lambda rep: (self._last.get(rep, 0), _rank(rep)))

    def _awaited(self, offer: Offer, asked: Sequence[str]) -> tuple[str, ...]:
        """Who shares in a lead that has waited, because they come on duty soon.

        Nobody does if one of those who are there has been there for longer than `release`: then it has waited enough.
        """
        if not offer.is_patient or not all(self._members[rep].came_lately for rep in asked):
            return ()
        due = (
            rep
            for rep, member in self._members.items()
            if rep not in offer.had and member.will_take(offer.lane, self._taken[rep])
        )
        return tuple(self._in_turn(due))


def _most_owed(totals: Mapping[str, int], books: Mapping[str, int], lanes: int) -> str:
    """Of those whose book is within the guard, whoever is owed most in total and book; of equals the first."""
    return max(_within_guard(books, lanes), key=lambda rep: lanes * totals[rep] + books[rep])


def _within_guard(books: Mapping[str, int], lanes: int) -> list[str]:
    """Whose book is near enough to the largest, in the order of `books`."""
    largest = max(books.values())
    return [rep for rep, book in books.items() if book >= largest - lanes * GUARD]


def _pass_on(row: Mapping[str, int], weights: Mapping[str, int]) -> dict[str, int]:
    """The row with the balances of all who are no members shared out among the members."""
    leaving = sum(units for rep, units in row.items() if rep not in weights)
    if not weights or all(rep in weights for rep in row):
        return dict(row)
    shares = share_out(leaving, weights, sorted(weights, key=_rank))
    return {rep: row.get(rep, 0) + shares[rep] for rep in weights}


def _without_zeros(balances: Mapping[str, Mapping[str, int]]) -> dict[str, dict[str, int]]:
    rows = {lane: {rep: units for rep, units in row.items() if units} for lane, row in balances.items()}
    return {lane: row for lane, row in rows.items() if row}


def _rank(rep: str) -> tuple[int, str]:
    """Owner ids are numbers written as text: 99 comes before 100."""
    return len(rep), rep
