"""How the reps stand: who is there, what they have, what they are owed, and who is next."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from fairturn.rules.explain import reason, why
from fairturn.rules.ledger import PAST, TURN, Offer, align, allot
from fairturn.rules.record import new
from fairturn.rules.wording import asked_in_words
from fairturn.steps.claim import members_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from fairturn.edges.store import Snapshot, Store
    from fairturn.rules.ledger import Ledger, Member
    from fairturn.rules.policy import Policy
    from fairturn.rules.terms import Terms

FOLLOWING: Final = 5
"""Leads whose winners are named, the next one included."""
EARLIER: Final = "earlier kinds of leads"
"""What is still owed from lanes that are no more."""


@dataclass(frozen=True, slots=True)
class Standing:
    """A rep in one team."""

    rep: str
    """Owner id."""
    team: str
    presence: str
    """`on duty`, or why not."""
    on_duty: bool
    load: int
    """Open leads, of all teams."""
    capacity: int | None
    """From which load on they get no more of this team; None is no limit."""
    owed: float
    """Turns, in all; negative: they are ahead."""
    by_kind: Mapping[str, float]
    """What they are owed of each kind of leads, where it is anything."""
    last: int | None
    """How many leads of the team ago they got one, 0 being the last lead; None: never."""


@dataclass(frozen=True, slots=True)
class Next:
    """Who gets the next lead of one kind."""

    team: str
    asked: str
    """What the leads ask for, in words."""
    following: tuple[str | None, ...]
    """Owner ids of who gets the next leads if they come now, one after the other; None: nobody, so it waits."""
    why: str
    """Why the first of them."""


def standings(terms: Terms, snapshot: Snapshot, now: datetime) -> Iterator[Standing]:
    """How each rep stands in each team, in the order of the policy."""
    for rota in terms.policy.teams():
        members, ledger = as_of_now(rota, terms, snapshot, now)
        for rep, member in members.items():
            last = ledger.last.get(rep)
            yield Standing(
                rep=rep,
                team=terms.policy.team(rota),
                presence=why(member.verdict),
                on_duty=member.verdict.on_duty,
                load=member.load,
                capacity=member.capacity,
                owed=ledger.total(rep) / TURN,
                by_kind={
                    EARLIER if lane == PAST else asked_in_words(lane, terms.policy): row[rep] / TURN
                    for lane, row in sorted(ledger.balances.items())
                    if row.get(rep)
                },
                last=None if last is None else ledger.turns - last,
            )


def next_ones(terms: Terms, snapshot: Snapshot, now: datetime, rota: str) -> Iterator[Next]:
    """Who is next in a team, for each kind of leads that the policy names for it."""
    members, ledger = as_of_now(rota, terms, snapshot, now)
    lanes = terms.policy.lanes(rota)
    for lane in sorted(lanes):
        bookings = allot(ledger, [Offer(lane)] * FOLLOWING, members, lanes).bookings
        first = bookings[0]
        record = replace(new(""), rota=rota, lane=lane)
        yield Next(
            team=terms.policy.team(rota),
            asked=asked_in_words(lane, terms.policy),
            following=tuple(booking.winner if booking else None for booking in bookings),
            why=reason(record, first, terms.policy) if first else _if_nobody(rota, lane, terms.policy),
        )


def _if_nobody(rota: str, lane: str, policy: Policy) -> str:
    """What becomes of a lead that nobody of its team can take."""
    others = {policy.team(other) for own, (other, _) in policy.fallbacks() if own == (rota, lane)}
    if others:
        return f"Nobody of this team can take such a lead now; by the policy it goes to {' or '.join(sorted(others))}."
    return "Nobody can take such a lead now, so it would wait."


def names(terms: Terms) -> dict[str, str]:
    """Owner id → e-mail address, of the reps of the policy; the id where HubSpot says none."""
    return {rep: terms.owners[rep].email if rep in terms.owners else rep for rep in terms.policy.reps}


def read(store: Store, terms: Terms) -> Snapshot:
    """The ledgers of all teams and the loads, of one moment each. Raises TableUnavailable."""
    return store.read(terms.policy.teams(), [])


def as_of_now(rota: str, terms: Terms, snapshot: Snapshot, now: datetime) -> tuple[dict[str, Member], Ledger]:
    """The members of a rota as they stand now, and its ledger in line with them."""
    members = members_of(rota, terms, snapshot.loads, now)
    return members, align(snapshot.ledgers[rota], members, terms.policy.lanes(rota))
