"""Claim: the one transaction that makes an allotment true, and its exact undoing."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from fairturn.errors import ClaimRefused, Contended, PolicySuperseded
from fairturn.ledger import Claim, GivingBack, Ledger, Member, allot, give_back, settle
from fairturn.record import Move, Record, State, may_start, milliseconds, move
from fairturn.roster import duty
from fairturn.store import MAX_RECORDS
from fairturn.telemetry import Metric, count, logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from datetime import datetime

    from fairturn.ledger import Booking
    from fairturn.store import Store, Terms

ATTEMPTS: Final = 8
"""How often one claim or undoing is decided anew after it was refused."""


Undoing = tuple[Record, Move, Mapping[str, Any]]
"""A claimed record, the move that undoes the claim, and the facts that it brings."""


@dataclass(slots=True)
class Candidate:
    """A lead that is to be allotted: its record as it was read, and what the claim will write into it."""

    key: str
    lane: str
    occurred_at: int
    rank: int
    """0 is the most urgent priority."""
    facts: Mapping[str, Any]
    record: Record | None = None


@dataclass(slots=True)
class Claimed:
    """What came of the candidates."""

    bookings: list[tuple[Record, Booking | None]] = field(default_factory=list)
    """Records that are claimed; without a booking where somebody else had claimed them before us."""
    waiting: list[Candidate] = field(default_factory=list)
    """Nobody can take these now."""


class Claims:
    """Makes claims and undoes them."""

    def __init__(
        self,
        store: Store,
        *,
        now: Callable[[], datetime],
        jitter: Callable[[], float],
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`now` is an aware datetime; `jitter` a random number from 0 to 1."""
        self._store = store
        self._now = now
        self._jitter = jitter
        self._sleep = sleep

    def claim(
        self, rota: str, candidates: Sequence[Candidate], terms: Terms, ledger: Ledger, loads: dict[str, int]
    ) -> Claimed:
        """Allot the leads, in this order, and make it true; `loads` is kept up with what is learnt and claimed.

        At most 97 leads. Raises PolicySuperseded when the ledger has seen a newer policy, Contended when it keeps
        moving.
        """
        claimed = Claimed()
        candidates = list(candidates)
        for attempt in range(ATTEMPTS):
            if ledger.policy > terms.number:
                raise PolicySuperseded(f"the rota {rota} has been allotted under version {ledger.policy}")
            now = self._now()
            members = seat(rota, terms, loads, now)
            lanes = terms.policy.lanes(rota)
            allotment = allot(settle(ledger, members, lanes), [lead.lane for lead in candidates], members)
            booked = [
                (lead, booking)
                for lead, booking in zip(candidates, allotment.bookings, strict=True)
                if booking is not None
            ]
            if not booked:
                break
            journal = Claim(
                before=ledger,
                policy=terms.number,
                at=milliseconds(now),
                lanes=lanes,
                members=members,
                leads=tuple((lead.key, lead.lane, booking.winner) for lead, booking in booked),
            )
            moves = [(lead.record, _claimed_record(lead, booking.winner, journal)) for lead, booking in booked]
            after = replace(allotment.ledger, version=journal.version, policy=terms.number)
            try:
                self._store.claim(rota, journal, after, moves, loads)
            except ClaimRefused as refused:
                count(Metric.CLAIMS_REFUSED, rota=rota)
                ledger = ledger if refused.ledger is None else refused.ledger
                if refused.loads is not None:
                    loads.clear()
                    loads.update(refused.loads)
                candidates = list(self._still_open(candidates, refused.records, claimed))
                self._sleep(0.05 * (attempt + 1) * self._jitter())
                continue
            for (_, booking), (_, record) in zip(booked, moves, strict=True):
                loads[booking.winner] = loads.get(booking.winner, 0) + 1
                claimed.bookings.append((record, booking))
            won = {lead.key for lead, _ in booked}
            candidates = [lead for lead in candidates if lead.key not in won]
            break
        else:
            raise Contended(f"the ledger of the rota {rota} kept moving")
        claimed.waiting = candidates
        return claimed

    def undo(self, undone: Iterable[Undoing]) -> list[Record]:
        """Give the turns of claims back, exactly as they were booked; each record makes its move, loads with it.

        Those whose record has moved meanwhile are left as they are; returns the others, as written. Those of one
        rota share one transaction.
        """
        written: list[Record] = []
        by_rota: defaultdict[str, list[Undoing]] = defaultdict(list)
        for undoing in undone:
            by_rota[undoing[0].rota or ""].append(undoing)
        for rota, rows in sorted(by_rota.items()):
            for start in range(0, len(rows), MAX_RECORDS):
                written += self._undo(rota, rows[start : start + MAX_RECORDS])
        return written

    def _undo(self, rota: str, rows: Sequence[Undoing]) -> list[Record]:
        bookings = bookings_of(self._store, [record for record, *_ in rows])
        ledger = self._store.read([rota], []).ledgers[rota]
        for attempt in range(ATTEMPTS):
            if not rows:
                return []
            at = milliseconds(self._now())
            returned = give_back(ledger, [bookings[record.key] for record, *_ in rows])
            after = replace(returned, version=ledger.version + 1)
            entry = GivingBack(ledger.version, at, tuple(record.booking for record, *_ in rows))
            moves = [(record, move(record, what, at, **facts, claim=None)) for record, what, facts in rows]
            try:
                self._store.give_back(rota, entry, after, moves)
            except ClaimRefused as refused:
                ledger = ledger if refused.ledger is None else refused.ledger
                rows = [row for row in rows if row[0].key not in refused.records]
                self._sleep(0.05 * (attempt + 1) * self._jitter())
                continue
            count(Metric.CLAIMS_UNDONE, len(moves), rota=rota)
            for record, what, _ in rows:
                logger.info(
                    "claim undone",
                    extra={"lead": record.key, "rota": rota, "rep": record.rep, "claim": record.claim, "move": what},
                )
            return [record for _, record in moves]
        raise Contended(f"the ledger of the rota {rota} kept moving")

    @staticmethod
    def _still_open(
        candidates: Iterable[Candidate], moved: Mapping[str, Record | None], claimed: Claimed
    ) -> Iterable[Candidate]:
        for lead in candidates:
            if lead.key in moved:
                lead.record = moved[lead.key]
            if lead.record is not None and lead.record.state is State.CLAIMED:
                claimed.bookings.append((lead.record, None))
            elif may_start(lead.record, lead.occurred_at):
                yield lead


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


def _claimed_record(lead: Candidate, rep: str, journal: Claim) -> Record:
    """The record of a lead that is given to a rep."""
    before = lead.record
    return move(
        before,
        Move.CLAIM,
        journal.at,
        **lead.facts,
        rep=rep,
        claim=journal.version,
        booked_as=None,
        claimed_at=journal.at,
        handed_at=None,
        reason=None,
    )
