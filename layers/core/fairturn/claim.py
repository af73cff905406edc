"""Claim: the one transaction that makes an allotment true, and its exact undoing."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from fairturn.errors import ClaimRefused, Contended, PolicySuperseded
from fairturn.ledger import Claim, GivingBack, Ledger, Member, allot, give_back, settle
from fairturn.record import Record, State, milliseconds
from fairturn.roster import duty
from fairturn.store import MAX_RECORDS
from fairturn.telemetry import Metric, count, logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import datetime

    from fairturn.ledger import Booking
    from fairturn.routing import Lead, Route
    from fairturn.store import Store, Terms

ATTEMPTS: Final = 8
"""How often one claim or undoing is decided anew after it was refused."""
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

    @property
    def routed(self) -> Record:
        """Its record with what the message tells and the route says, about to move."""
        arrived = self.record.arrived(self.lead.message)
        return arrived.routed(self.route, self.policy, self.lead.owner, self.shown)


@dataclass(frozen=True, slots=True)
class Claimed:
    """What came of the candidates."""

    bookings: Sequence[tuple[Record, Booking]] = ()
    """Records that are claimed now."""
    taken: Sequence[Record] = ()
    """Records that somebody else has claimed meanwhile."""
    waiting: Sequence[Candidate] = ()
    """Nobody can take these now."""
    loads: Mapping[str, int] = field(default_factory=dict)
    """Every rep's load, as far as it is known after that."""


@dataclass(frozen=True, slots=True)
class Claims:
    """Makes claims and undoes them."""

    store: Store
    worker: str
    """The name of this worker, which no other has: a claim says who is handing it over."""
    now: Callable[[], datetime]
    """An aware datetime."""
    jitter: Callable[[], float]
    """A random number from 0 to 1."""
    sleep: Callable[[float], None] = time.sleep

    def claim(
        self, rota: str, candidates: Sequence[Candidate], terms: Terms, ledger: Ledger, loads: Mapping[str, int]
    ) -> Claimed:
        """Allot the leads, at most 97, in this order, and make it true.

        Raises PolicySuperseded when the ledger has seen a newer policy, Contended when it keeps moving.
        """
        taken: list[Record] = []
        for attempt in range(ATTEMPTS):
            if ledger.policy > terms.number:
                raise PolicySuperseded(f"the rota {rota} has been allotted under version {ledger.policy}")
            now = self.now()
            members = seat(rota, terms, loads, now)
            lanes = terms.policy.lanes(rota)
            allotment = allot(settle(ledger, members, lanes), [each.route.lane for each in candidates], members)
            decided = list(zip(candidates, allotment.bookings, strict=True))
            booked = [(each, booking) for each, booking in decided if booking is not None]
            waiting = [each for each, booking in decided if booking is None]
            if not booked:
                return Claimed((), taken, waiting, loads)
            at = milliseconds(now)
            journal = Claim(
                before=ledger,
                policy=terms.number,
                at=at,
                lanes=lanes,
                members=members,
                leads=tuple((each.record.key, booking.lane, booking.winner) for each, booking in booked),
            )
            moves = [
                (each.record, each.routed.claimed(booking.winner, journal.version, self.worker, at))
                for each, booking in booked
            ]
            after = replace(allotment.ledger, version=journal.version, policy=terms.number)
            try:
                self.store.claim(rota, journal, after, moves, loads)
            except ClaimRefused as refused:
                count(Metric.CLAIMS_REFUSED, rota=rota)
                ledger = ledger if refused.ledger is None else refused.ledger
                loads = loads if refused.loads is None else refused.loads
                anew = [replace(each, record=refused.records.get(each.record.key, each.record)) for each in candidates]
                taken += [each.record for each in anew if each.record.state is State.CLAIMED]
                candidates = [each for each in anew if each.record.may_start(each.lead.message.round)]
                self.sleep(0.05 * (attempt + 1) * self.jitter())
                continue
            won = [(record, booking) for (_, booking), (_, record) in zip(booked, moves, strict=True)]
            return Claimed(won, taken, waiting, _after(loads, journal))
        raise Contended(f"the ledger of the rota {rota} kept moving")

    def undo(self, moves: Iterable[tuple[Record, Record]]) -> list[Record]:
        """Give the turns of claims back, exactly as they were booked; each record makes its move, loads with it.

        Those whose record has moved meanwhile are left as they are; returns the others, as written. Those of one
        rota share one transaction.
        """
        written: list[Record] = []
        by_rota: defaultdict[str, list[tuple[Record, Record]]] = defaultdict(list)
        for record, after in moves:
            by_rota[record.rota or ""].append((record, after.given_back()))
        for rota, rows in sorted(by_rota.items()):
            for start in range(0, len(rows), MAX_RECORDS):
                written += self._undo(rota, rows[start : start + MAX_RECORDS])
        return written

    def _undo(self, rota: str, moves: Sequence[tuple[Record, Record]]) -> list[Record]:
        bookings = bookings_of(self.store, [record for record, _ in moves])
        ledger = self.store.read([rota], []).ledgers[rota]
        for attempt in range(ATTEMPTS):
            if not moves:
                return []
            returned = give_back(ledger, [bookings[record.key] for record, _ in moves])
            after = replace(returned, version=ledger.version + 1)
            at = milliseconds(self.now())
            entry = GivingBack(ledger.version, at, tuple(record.booking for record, _ in moves))
            try:
                self.store.give_back(rota, entry, after, moves)
            except ClaimRefused as refused:
                ledger = ledger if refused.ledger is None else refused.ledger
                moves = [pair for pair in moves if pair[0].key not in refused.records]
                self.sleep(0.05 * (attempt + 1) * self.jitter())
                continue
            count(Metric.CLAIMS_UNDONE, len(moves), rota=rota)
            for record, moved in moves:
                ids = {"lead": record.key, "rota": rota, "rep": record.rep, "claim": record.claim}
                logger.info("claim undone", extra={**ids, "state": moved.state, "reason": moved.reason})
            return [moved for _, moved in moves]
        raise Contended(f"the ledger of the rota {rota} kept moving")

    def left_to(self, record: Record) -> float:
        """For how many seconds a claim may still be under way in somebody else's hands; 0 if nobody is at it."""
        if record.worker in {None, self.worker}:
            return 0.0
        return max(LONGEST_RUN - (milliseconds(self.now()) - record.changed_at) / 1000, 0.0)


def seat(rota: str, terms: Terms, loads: Mapping[str, int], now: datetime) -> dict[str, Member]:
    """Every rep of the rota as he stands now: on duty or why not, his skills, load and capacity."""
    members = {}
    for rep in terms.policy.rotas[rota].members:
        rules = terms.policy.reps[rep]
        verdict = duty(rules, terms.owners.get(rep), now)
        members[rep] = Member(
            weight=rules.weight,
            skills=frozenset(rules.skills),
            on_duty=verdict.on,
            why=verdict.why,
            load=loads.get(rep, 0),
            capacity=terms.policy.capacity(rota, rep),
        )
    return members


def bookings_of(store: Store, records: Iterable[Record]) -> dict[str, Booking]:
    """How claimed leads were booked, recomputed from the journals: each claim is read and recomputed once."""
    claims: defaultdict[tuple[str, int], list[tuple[str, str]]] = defaultdict(list)
    for record in records:
        booked_as, claim = record.booking
        claims[record.rota or "", claim].append((record.key, booked_as))
    bookings: dict[str, Booking] = {}
    for (rota, version), leads in claims.items():
        journal = store.journal(rota, version)
        if not isinstance(journal, Claim):
            raise TypeError(f"version {version} of {rota} is a giving back, not a claim")
        booked = journal.bookings()
        bookings |= {lead: booked[booked_as] for lead, booked_as in leads}
    return bookings


def _after(loads: Mapping[str, int], journal: Claim) -> dict[str, int]:
    """The loads once a claim is true."""
    after = dict(loads)
    for *_, winner in journal.leads:
        after[winner] = after.get(winner, 0) + 1
    return after
