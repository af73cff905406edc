"""Claim: the one transaction that makes an allotment true, and its exact undoing."""

from __future__ import annotations

import time
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import chain
from typing import TYPE_CHECKING, Final, NamedTuple

from fairturn.batches import batched
from fairturn.edges.refusals import ClaimRefused
from fairturn.edges.store import MAX_RECORDS
from fairturn.errors import Contended, PolicySuperseded
from fairturn.rules.events import lead_of
from fairturn.rules.ledger import Claim, Given, GivingBack, Ledger, Member, Offer, Returned, align, allot, give_back
from fairturn.rules.policy import Priority
from fairturn.rules.record import Record, Records, State, milliseconds
from fairturn.rules.roster import comes_on_duty, duty
from fairturn.telemetry import logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from fairturn.edges.store import Store
    from fairturn.rules.ledger import Booking, ClaimKey
    from fairturn.rules.routing import Lead, Route
    from fairturn.rules.terms import Terms

ATTEMPTS: Final = 8
"""How often one claim or undoing is decided anew after it was refused."""
LONGEST_PAUSE: Final = 1.0
"""Seconds. With a pause before each attempt but the first, that is less than a run keeps for its end."""
MINUTE: Final = 60_000
"""Milliseconds."""
SMOOTHING: Final = 8
"""About so many transactions say what one takes."""
LONGEST_RUN: Final = 50
"""Seconds after which Lambda has ended every run that hands claims over: the longest timeout in the template."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A lead that is to be allotted."""

    record: Record
    """Its record, as it was read."""
    lead: Lead
    route: Route
    policy: int
    """The version of the policy that routed it."""
    shown: Mapping[str, str]
    """The values that its record will keep."""

    @property
    def order(self) -> tuple[int, int, int, str]:
        """The most urgent comes first, then the oldest."""
        key = self.record.key
        return self.route.priority.rank, self.lead.message.occurred_at, len(key), key

    def offer(self, release: int, at: int) -> Offer:
        """As the ledger sees it at this time in epoch milliseconds. A lead that waits, and is not urgent, may be kept
        `release` minutes for somebody; but not once it may go to another team, because it would go there."""
        waits = self.record.state is State.WAITING and self.route.priority is not Priority.URGENT
        is_patient = waits and release > 0 and self.fallback(at) is None
        return Offer(self.route.lane, self.record.owners, is_patient=is_patient)

    def fallback(self, at: int) -> Candidate | None:
        """The same for those to whom it goes when nobody of its team can take it; None if there are none, or not yet
        at this time in epoch milliseconds."""
        route = self.route.fallback
        if route is None or at < self.lead.message.occurred_at + self.route.after * MINUTE:
            return None
        return replace(self, route=route)

    @property
    def routed(self) -> Record:
        """Its record with what the message tells and the route says, about to move."""
        arrived = self.record.brought_by(self.lead.message)
        return arrived.routed(self.route, self.policy, self.lead.owner, self.shown)


class Undoing(NamedTuple):
    """A claim that is to be undone, or the turn of a lead that was handed over and taken away."""

    record: Record
    after: Record
    """The record once that is done."""
    is_regret: bool = False
    """Somebody else took the lead away after the handover: its turn comes back only by grace."""


@dataclass(frozen=True, slots=True)
class ClaimResult:
    """What came of the candidates."""

    bookings: Sequence[tuple[Record, Booking]] = ()
    """Records that are claimed now."""
    moved: Sequence[Record] = ()
    """Records that somebody else has moved meanwhile: these leads are to be read anew."""
    waiting: Sequence[Candidate] = ()
    """Nobody can take these now."""
    loads: Mapping[str, int] = field(default_factory=dict)
    """Every rep's load, as far as it is known after that."""
    ledger: Ledger | None = None
    """The rota's ledger after that; None where nothing was claimed."""


@dataclass(slots=True)
class Pace:
    """How long this worker's transactions take, and so how long it lets others go first."""

    usual: float = 0.03
    """Seconds that one takes, done or refused, by the last few."""

    def note(self, took: float) -> None:
        """One more took so many seconds."""
        self.usual += (took - self.usual) / SMOOTHING

    def longest_pause(self, attempt: int) -> float:
        """Seconds to pause at most after this attempt, the first being 0, was refused."""
        return min(self.usual * 4.0 ** (attempt + 1), LONGEST_PAUSE)


@dataclass(frozen=True, slots=True)
class Claimer:
    """Makes claims and undoes them."""

    store: Store
    worker: str
    """The name of this worker, which no other has: a claim says who is handing it over."""
    now: Callable[[], datetime]
    """An aware datetime."""
    jitter: Callable[[], float]
    """A random number from 0 to 1."""
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    """Seconds, from whenever: only differences count."""
    pace: Pace = field(default_factory=Pace)

    def claim(
        self, rota: str, candidates: Sequence[Candidate], terms: Terms, ledger: Ledger, loads: Mapping[str, int]
    ) -> ClaimResult:
        """Allot the leads, at most 97, in this order, and make it true.

        Raises PolicySuperseded when the ledger has seen a newer policy, Contended when it keeps moving.
        """
        moved: list[Record] = []
        for attempt in range(ATTEMPTS):
            if ledger.policy > terms.number:
                raise PolicySuperseded(f"the rota {rota} has been allotted under version {ledger.policy}")
            now = self.now()
            members = members_of(rota, terms, loads, now)
            lanes = terms.policy.lanes(rota)
            offers = [each.offer(terms.policy.release, milliseconds(now)) for each in candidates]
            allotment = allot(align(ledger, members, lanes), offers, members, lanes)
            decided = list(zip(candidates, allotment.bookings, strict=True))
            booked = [(each, booking) for each, booking in decided if booking is not None]
            waiting = [each for each, booking in decided if booking is None]
            if not booked:
                return ClaimResult((), moved, waiting, loads)
            at = milliseconds(now)
            journal = Claim(
                before=ledger,
                policy=terms.number,
                at=at,
                lanes=lanes,
                members=members,
                leads=tuple(
                    Given(each.record.key, offer.lane, booking.winner, offer.had, offer.is_patient)
                    for each, offer, booking in zip(candidates, offers, allotment.bookings, strict=True)
                    if booking is not None
                ),
            )
            moves = [
                (each.record, each.routed.claimed(booking.winner, journal.version, self.worker, at))
                for each, booking in booked
            ]
            after = replace(allotment.ledger, version=journal.version, policy=terms.number)
            try:
                with self._timed():
                    self.store.claim(rota, journal, after, moves, loads)
            except ClaimRefused as refused:
                loads = loads if refused.loads is None else refused.loads
                moved += refused.records.values()
                candidates = [each for each in candidates if each.record.key not in refused.records]
                if refused.ledger is not None and candidates and attempt + 1 < ATTEMPTS:
                    ledger, loads = self._let_others_go_first(rota, attempt)
                continue
            won = [(record, booking) for (_, booking), (_, record) in zip(booked, moves, strict=True)]
            return ClaimResult(won, moved, waiting, _after(loads, journal), after)
        raise Contended(f"the ledger of the rota {rota} kept moving")

    def undo(self, undone: Iterable[Undoing]) -> list[Record]:
        """Give the turns of claims back, exactly as they were booked; each record makes its move, loads with it.

        A regret comes back only to a rep who has the grace for it; else the turn stays spent. Those whose record has
        moved meanwhile are left as they are; returns the others, as written. Those of one rota share one transaction.
        """
        written: list[Record] = []
        by_rota: defaultdict[str, list[Undoing]] = defaultdict(list)
        for each in undone:
            by_rota[each.record.rota or ""].append(each)
        for rota, rows in sorted(by_rota.items()):
            for part in batched(rows, MAX_RECORDS):
                written += self._undo(rota, part)
        return written

    def _undo(self, rota: str, undone: Sequence[Undoing]) -> list[Record]:
        bookings = bookings_of(self.store, [each.record for each in undone])
        order = {lead: place for place, lead in enumerate(bookings)}
        undone = sorted(undone, key=lambda each: order[each.record.key])
        ledger = self.store.read([rota], []).ledgers[rota]
        for attempt in range(ATTEMPTS):
            if not undone:
                return []
            returned, came_back = give_back(ledger, [(bookings[each.record.key], each.is_regret) for each in undone])
            after = replace(returned, version=ledger.version + 1)
            at = milliseconds(self.now())
            leads = tuple(Returned(*each.record.booking, each.is_regret) for each in undone)
            moves = [
                (each.record, each.after.given_back() if back else each.after.stays_spent())
                for each, back in zip(undone, came_back, strict=True)
            ]
            try:
                with self._timed():
                    self.store.give_back(rota, GivingBack(ledger.version, at, leads), after, moves)
            except ClaimRefused as refused:
                undone = [each for each in undone if each.record.key not in refused.records]
                if refused.ledger is not None and undone and attempt + 1 < ATTEMPTS:
                    ledger, _ = self._let_others_go_first(rota, attempt)
                continue
            for (record, moved), back in zip(moves, came_back, strict=True):
                ids = {"lead": record.key, "rota": rota, "rep": record.rep, "claim": record.claim}
                what = "claim undone" if back else "turn stays spent"
                logger.info(what, extra={**ids, "state": moved.state, "reason": moved.reason})
            return [moved for _, moved in moves]
        raise Contended(f"the ledger of the rota {rota} kept moving")

    def _let_others_go_first(self, rota: str, attempt: int) -> tuple[Ledger, Mapping[str, int]]:
        """Pause, because others are at the ledger, and read it and the loads anew.

        A refused transaction costs as much as one that is done, so the pauses grow with what one takes until few are
        refused. What the refusal brought along is old after a pause, and reading two items costs next to nothing; if
        the ledger has not moved, nobody is at it, and what was brought along is decided on at once.
        """
        self.sleep(self.pace.longest_pause(attempt) * self.jitter())
        now = self.store.read([rota], [])
        return now.ledgers[rota], now.loads

    @contextmanager
    def _timed(self) -> Iterator[None]:
        """Note how long a transaction takes, whatever comes of it."""
        began = self.clock()
        try:
            yield
        finally:
            self.pace.note(self.clock() - began)

    def left_to(self, record: Record) -> float:
        """For how many seconds a claim may still be under way in somebody else's hands; 0 if nobody is at it."""
        if record.worker in {None, self.worker}:
            return 0.0
        return max(LONGEST_RUN - (milliseconds(self.now()) - record.changed_at) / 1000, 0.0)


def members_of(rota: str, terms: Terms, loads: Mapping[str, int], now: datetime) -> dict[str, Member]:
    """Every rep of the rota as they stand now: on duty or why not, their skills, load and capacity."""
    members = {}
    release = timedelta(minutes=terms.policy.release)
    for rep in terms.policy.rotas[rota].members:
        rules, owner, free = terms.policy.reps[rep], terms.owners.get(rep), terms.policy.holidays(rep)
        verdict = duty(rules, owner, now, free)
        members[rep] = Member(
            weight=rules.weight,
            skills=frozenset(rules.skills),
            verdict=verdict,
            is_due=not verdict.on_duty and bool(release) and comes_on_duty(rules, owner, now, release, free),
            came_lately=verdict.on_duty and bool(release) and not duty(rules, owner, now - release, free).on_duty,
            load=loads.get(rep, 0),
            capacity=terms.policy.capacity(rota, rep),
        )
    return members


def bookings_of(store: Store, records: Iterable[Record]) -> dict[str, Booking]:
    """How claimed leads were booked, in the order in which they were, recomputed from the journals: each claim is read
    and recomputed once."""
    claims: defaultdict[tuple[str, int], dict[str, str]] = defaultdict(dict)
    for record in records:
        booked_as, claim = record.booking
        claims[record.rota or "", claim][booked_as] = record.key
    bookings: dict[str, Booking] = {}
    for (rota, version), leads in sorted(claims.items()):
        journal = store.journal(rota, version)
        if not isinstance(journal, Claim):
            raise TypeError(f"version {version} of {rota} is a giving back, not a claim")
        booked = journal.bookings()
        missing = leads.keys() - booked.keys()
        if missing:
            raise KeyError(f"version {version} of {rota} booked no {sorted(missing)}")
        bookings |= {leads[booked_as]: booking for booked_as, booking in booked.items() if booked_as in leads}
    return bookings


def still_claimed(store: Store, claims: Iterable[ClaimKey]) -> dict[ClaimKey, Records]:
    """The leads that each claim still holds, and those whose records can't be read."""
    given = {
        claim: [each.lead for each in journal.leads]
        for claim, journal in store.journals(claims).items()
        if isinstance(journal, Claim)
    }
    records = store.records(map(lead_of, dict.fromkeys(chain.from_iterable(given.values()))))
    left = {}
    for claim, leads in given.items():
        known = {lead: records.known[lead] for lead in leads if lead in records.known}
        left[claim] = Records(
            known={lead: record for lead, record in known.items() if _holds(record, claim)},
            unreadable={lead: records.unreadable[lead] for lead in leads if lead in records.unreadable},
        )
    return left


def _holds(record: Record, claim: ClaimKey) -> bool:
    """Whether a lead is claimed by this claim, and not by a later one."""
    return record.state is State.CLAIMED and (record.rota, record.claim) == claim


def _after(loads: Mapping[str, int], journal: Claim) -> dict[str, int]:
    """The loads once a claim is true."""
    after = dict(loads)
    for given in journal.leads:
        after[given.winner] = after.get(given.winner, 0) + 1
    return after
