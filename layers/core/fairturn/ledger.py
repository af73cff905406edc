"""Who is owed the next turn: the two-book ledger of a rota. Pure, and exact in integers.

For each lead of a lane, every rep who may take it is credited his share of one turn in that lane, by weight.
The lead goes to whoever is owed most, total and lane together, and costs him one turn in that lane. Who is
away, full or lacks the skill is credited nothing and loses nothing, so nobody is flooded on his return.

With one lane this is the greedy rule for the carpool problem (Fagin & Williams, 1983; Ajtai et al., 1998):
nobody is ever further from his fair share than g(n - 1)/2 turns, g being the largest sum of two shares in
one lead and n the number of reps who were ever in the rota. The total alone would let single lanes drift
when skills overlap; that is why the lane counts too.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

TURN = 1 << 24
"""One lead's worth of entitlement, in the units of every balance."""

ANY = "any"
"""The lane of the leads that ask for no skill."""

PAST = "past"
"""The row that keeps what was owed in lanes which are no more. It counts in totals, like a lane."""


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
    """Lane → rep → units owed to him (negative: he is ahead). Zeros are left out."""
    last: Mapping[str, int] = field(default_factory=dict)
    """Rep → the value of `turns` when he last got a lead. Who never got one is absent."""

    def total(self, rep: str) -> int:
        """All that the rep is owed, in units, over every lane and the past."""
        return sum(row.get(rep, 0) for row in self.balances.values())

    def reps(self) -> frozenset[str]:
        """Everyone who is owed something or owes something."""
        return frozenset(rep for row in self.balances.values() for rep in row)


@dataclass(frozen=True, slots=True)
class Member:
    """A rep of the rota as he stands when a claim is made."""

    weight: int = 1
    skills: frozenset[str] = frozenset()
    on_duty: bool = True
    why: str = "on duty"
    """The verdict of the roster, in words."""
    load: int = 0
    """His open leads before the claim."""
    capacity: int | None = None
    """The load from which on he gets no more; None is no limit."""

    def fits(self, lane: str) -> bool:
        """Whether he has every skill that the lane asks for."""
        return lane == ANY or self.skills.issuperset(lane.split("+"))

    def has_room(self, taken: int = 0) -> bool:
        """Whether he may take one more lead after `taken` in this claim."""
        return self.capacity is None or self.load + taken < self.capacity

    def can_take(self, lane: str, taken: int = 0) -> bool:
        """Whether he may get a lead of this lane after `taken` in this claim."""
        return self.on_duty and self.fits(lane) and self.has_room(taken)


@dataclass(frozen=True, slots=True)
class Booking:
    """How one lead was booked: who was credited which share of the turn, and who got the lead."""

    lane: str
    winner: str
    shares: Mapping[str, int]
    owed: Mapping[str, tuple[int, int]]
    """Everyone who could take it → units owed to him in all, and in this lane, this lead's share included."""


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
    leads: tuple[tuple[str, str, str], ...]
    """Lead, lane and winner, in the order in which they were allotted."""

    @property
    def version(self) -> int:
        """The version of the ledger that this claim made."""
        return self.before.version + 1

    def recompute(self) -> Allotment:
        """Decide everything once more, from nothing but the journal."""
        lanes = [lane for _, lane, _ in self.leads]
        allotment = allot(settle(self.before, self.members, self.lanes), lanes, self.members)
        return replace(allotment, ledger=replace(allotment.ledger, version=self.version, policy=self.policy))

    def bookings(self) -> dict[str, Booking]:
        """How each lead of the claim was booked."""
        booked = zip((key for key, _, _ in self.leads), self.recompute().bookings, strict=True)
        return {key: booking for key, booking in booked if booking is not None}


@dataclass(frozen=True, slots=True)
class GivingBack:
    """The journal of turns that went back: which leads, each with the claim in which it was booked."""

    before: int
    """The version of the ledger that was read; giving back moves it to the next."""
    at: int
    """Epoch milliseconds."""
    leads: tuple[tuple[str, int], ...]

    @property
    def version(self) -> int:
        """The version of the ledger that this giving back made."""
        return self.before + 1


def allot(ledger: Ledger, lanes: Sequence[str], members: Mapping[str, Member]) -> Allotment:
    """Decide who gets each of the leads, given by their lanes, in this order.

    Allotting k leads at once gives what allotting them one by one gives, with the loads carried along. The
    version and the policy of the ledger stay as they are: the claim moves them.
    """
    balances = {lane: dict(row) for lane, row in ledger.balances.items()}
    totals = {rep: ledger.total(rep) for rep in members}
    last = dict(ledger.last)
    turns = ledger.turns
    taken = dict.fromkeys(members, 0)
    bookings: list[Booking | None] = []
    for lane in lanes:
        weights = {rep: member.weight for rep, member in members.items() if member.can_take(lane, taken[rep])}
        if not weights:
            bookings.append(None)
            continue
        row = balances.setdefault(lane, {})
        waited = sorted(weights, key=lambda rep: (last.get(rep, 0), _rank(rep)))
        shares = share_out(TURN, weights, waited)
        for rep, share in shares.items():
            row[rep] = row.get(rep, 0) + share
            totals[rep] += share
        owed = {rep: (totals[rep], row[rep]) for rep in waited}
        winner = max(waited, key=lambda rep: sum(owed[rep]))  # the first of equals has waited longest
        row[winner] -= TURN
        totals[winner] -= TURN
        taken[winner] += 1
        turns += 1
        last[winner] = turns
        bookings.append(Booking(lane, winner, shares, owed))
    return Allotment(replace(ledger, turns=turns, balances=_without_zeros(balances), last=last), tuple(bookings))


def settle(ledger: Ledger, members: Mapping[str, Member], lanes: Iterable[str]) -> Ledger:
    """Bring the ledger in line with a rota's present members and lanes; nothing changes where they agree.

    What is owed to somebody who left the rota, or lost a lane's skill, goes by weight to that lane's members.
    A lane that no rule names any more, or that has no member left, is folded into the past; the past's
    members are all of the rota.
    """
    named = frozenset(lanes)
    past = dict(ledger.balances.get(PAST, {}))
    balances: dict[str, dict[str, int]] = {}
    for lane, row in ledger.balances.items():
        if lane == PAST:
            continue
        weights = {rep: member.weight for rep, member in members.items() if member.fits(lane)}
        if lane in named and weights:
            balances[lane] = _pass_on(row, weights)
        else:
            for rep, units in row.items():
                past[rep] = past.get(rep, 0) + units
    balances[PAST] = _pass_on(past, {rep: member.weight for rep, member in members.items()})
    last = {rep: turn for rep, turn in ledger.last.items() if rep in members}
    return replace(ledger, balances=_without_zeros(balances), last=last)


def give_back(ledger: Ledger, bookings: Iterable[Booking]) -> Ledger:
    """Reverse bookings exactly: each share is taken back, and the winner gets his turn again.

    Somebody who has left meanwhile gets a balance by it; the next `settle` passes that on.
    """
    balances = {lane: dict(row) for lane, row in ledger.balances.items()}
    for booking in bookings:
        row = balances.setdefault(booking.lane, {})
        for rep, share in booking.shares.items():
            row[rep] = row.get(rep, 0) - share
        row[booking.winner] = row.get(booking.winner, 0) + TURN
    return replace(ledger, balances=_without_zeros(balances))


def share_out(units: int, weights: Mapping[str, int], order: Sequence[str]) -> dict[str, int]:
    """Split units by weight into integers that sum to exactly `units`; leftovers go one each, in `order`."""
    whole = sum(weights.values())
    shares = {rep: units * weights[rep] // whole for rep in order}
    for rep in order[: units - sum(shares.values())]:
        shares[rep] += 1
    return shares


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
