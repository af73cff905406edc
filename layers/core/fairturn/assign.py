"""Assign: leads from the queue → routed → claimed → handed over in HubSpot.

A batch is taken as a whole: one read from HubSpot, one read of the table, one claim per rota, one write to
HubSpot, one write that marks them handed over. A message is done only when its lead's record says what
became of it; wherever the code dies, the message comes again and the record tells how far it got.
"""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from fairturn.claim import Candidate, seat
from fairturn.errors import (
    MessageRejected,
    PolicyInvalid,
    PolicyMissing,
    PolicySuperseded,
    TableUnavailable,
    Unavailable,
)
from fairturn.events import Message
from fairturn.handover import write_moves
from fairturn.ledger import allot, settle
from fairturn.policy import OWNER, Mode
from fairturn.queues import Letter, growing_delay
from fairturn.record import ENDED, Move, Record, State, may_start, milliseconds, move
from fairturn.routing import Ignored, Lead, Route, route
from fairturn.telemetry import Metric, count, logger

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from datetime import datetime

    from fairturn.claim import Claims, Undoing
    from fairturn.crm import HubSpot
    from fairturn.errors import FairturnError
    from fairturn.handover import Handover
    from fairturn.ledger import Booking, Ledger
    from fairturn.queues import Queue, Received
    from fairturn.store import InForce, Snapshot, Store, Terms

ROUNDS: Final = 4
"""How often one batch is decided anew: a newer policy came into force, or HubSpot refused a rep."""
SUSPECT_FROM: Final = 3
"""A message received so often without a word of why may be what kills the process."""
SUSPECT_AFTER: Final = 2
"""Receipts since the last fault that was noted, from which on a message is a suspect."""
LONGEST_RUN: Final = 60
"""Seconds after which Lambda ends a run of the function: the template's timeout."""
SETTLED: Final = frozenset({State.CLAIMED, State.HANDED, *ENDED})
MAX_REASON: Final = 256
"""Characters of a reason in a dead letter's attributes."""
MAX_SHOWN: Final = 60
"""Bytes of a shown value that a record keeps."""


@dataclass(slots=True)
class _Arrival:
    """A lead of this batch, with what HubSpot says of it; `properties` is None where HubSpot doesn't know it."""

    message: Message
    properties: Mapping[str, str | None] | None = None

    @property
    def key(self) -> str:
        return self.message.key

    @property
    def owner(self) -> str | None:
        return (self.properties or {}).get(OWNER) or None


@dataclass(slots=True)
class _Plan:
    """What is to be done about a batch."""

    candidates: defaultdict[str, list[Candidate]] = field(default_factory=lambda: defaultdict(list))
    """Rota → the leads to be allotted."""
    claimed: list[tuple[Record, Booking | None]] = field(default_factory=list)
    """The leads to be handed over."""
    moves: list[tuple[Record | None, Record]] = field(default_factory=list)
    """The records to be written that touch no turn."""


@dataclass(slots=True)
class _OpenEnds:
    """The leads of a batch that could not be settled: key → why."""

    refused: dict[str, str] = field(default_factory=dict)
    """HubSpot or we refuse them for good."""
    later: dict[str, Unavailable] = field(default_factory=dict)
    """Not now: HubSpot didn't get to them, or somebody else is at it."""


class Assign:
    """Gives the leads of a batch of messages to reps."""

    def __init__(
        self,
        *,
        store: Store,
        in_force: InForce,
        crm: HubSpot,
        claims: Claims,
        handover: Handover,
        leads: Queue,
        dead_letters: Queue,
        now: Callable[[], datetime],
        jitter: Callable[[], float],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`now` is the time as an aware datetime, `clock` in seconds; `jitter` a random number from 0 to 1."""
        self._store = store
        self._in_force = in_force
        self._crm = crm
        self._claims = claims
        self._handover = handover
        self._leads = leads
        self._dead_letters = dead_letters
        self._now = now
        self._jitter = jitter
        self._clock = clock

    def take(self, batch: Sequence[Received]) -> list[Received]:
        """Bring each message's lead as far as it goes; returns those that must stay in the queue.

        A suspect is handled alone, after the others are out of the queue, so that a message which kills the
        process takes none of them along.
        """
        done: set[Received] = set()
        messages: dict[Received, Message] = {}
        for received in batch:
            try:
                messages[received] = Message.read(received.body)
            except MessageRejected as error:
                done |= self._bury({received: str(error)}, {})
        suspects = self._suspects(messages)
        others = {received: message for received, message in messages.items() if received not in suspects}
        try:
            done |= self._bring(others)
        except Unavailable as error:
            self._put_back(others, error)
        if suspects:
            self._forget(done)
        for position, suspect in enumerate(suspects):
            try:
                brought = self._bring({suspect: messages[suspect]})
            except Unavailable as error:  # the others behind would fare no better
                self._put_back({received: messages[received] for received in suspects[position:]}, error)
                break
            self._forget(brought)
            done |= brought
        return [received for received in batch if received not in done]

    # How a batch fails

    def _suspects(self, messages: Mapping[Received, Message]) -> list[Received]:
        """Messages that have come back twice since a fault was last noted: nobody says why."""
        often = [received for received in messages if received.receipts >= SUSPECT_FROM]
        if not often:
            return []
        try:
            faults = self._store.faults((messages[received].type, messages[received].id) for received in often)
        except TableUnavailable:
            return []  # then nothing goes through anyway, and that will be noted
        return [
            received
            for received in often
            if received.receipts - _noted(faults.get(messages[received].key), received) >= SUSPECT_AFTER
        ]

    def _bring(self, messages: Mapping[Received, Message]) -> set[Received]:
        """Settle the messages, or dead-letter them; returns those that are done. Raises Unavailable."""
        latest: dict[str, Message] = {}
        for message in sorted(messages.values(), key=lambda message: message.occurred_at):
            latest[message.key] = message
        open_ends = _OpenEnds()
        try:
            self._settle(latest, open_ends)
        except (PolicyMissing, PolicyInvalid) as error:
            count(Metric.POLICY_MISSING)
            logger.error("no policy to decide by", extra={"reason": str(error)})
            self._refuse(latest, error, open_ends)
        later = {received: message for received, message in messages.items() if message.key in open_ends.later}
        if later:
            self._put_back(later, max(open_ends.later.values(), key=lambda failure: failure.retry_after))
        refused = open_ends.refused.keys() - open_ends.later.keys()
        unhappy = {received: message.key for received, message in messages.items() if message.key in refused}
        buried = self._bury({received: open_ends.refused[lead] for received, lead in unhappy.items()}, unhappy)
        return (messages.keys() - later.keys() - unhappy.keys()) | buried

    def _refuse(self, messages: Mapping[str, Message], why: FairturnError, open_ends: _OpenEnds) -> None:
        """Give up leads that can't even be decided, with the reason in their records; a claim stands and waits."""
        records = self._store.read([], [(message.type, message.id) for message in messages.values()]).records
        at, moves = milliseconds(self._now()), []
        for key, message in messages.items():
            record = records.get(key)
            if record is None or record.state not in SETTLED:
                facts = {"type": message.type, "id": message.id, "occurred_at": message.occurred_at}
                moves.append((record, move(record, Move.REFUSE, at, **facts, reason=str(why)[:MAX_REASON])))
                open_ends.refused[key] = str(why)
            elif record.state is State.CLAIMED:
                open_ends.later[key] = Unavailable(str(why))
        write_moves(self._store, moves)

    def _put_back(self, messages: Mapping[Received, Message], error: Unavailable) -> None:
        """Let messages be received again after growing delays, and note why they failed."""
        count(Metric.LEADS_PUT_BACK, len(messages))
        logger.warning("put back", extra={"messages": len(messages), "reason": str(error)})
        delays = [
            (received, max(growing_delay(received.receipts, 0.8 + 0.2 * self._jitter()), int(error.retry_after)))
            for received in messages
        ]
        try:
            self._leads.put_back(delays)
        except Unavailable as down:  # they come back by themselves when their visibility ends
            logger.warning("delays not set", extra={"reason": str(down)})
        if isinstance(error, TableUnavailable):
            return  # nothing can be noted
        receipts: dict[tuple[str, str], int] = {}
        for received, message in messages.items():
            lead = (message.type, message.id)
            receipts[lead] = max(received.receipts, receipts.get(lead, 0))
        try:
            self._store.note_faults(receipts, str(error), milliseconds(self._now()))
        except TableUnavailable as down:
            logger.warning("faults not noted", extra={"reason": str(down)})

    def _bury(self, reasons: Mapping[Received, str], leads: Mapping[Received, str]) -> set[Received]:
        """Dead-letter messages, bodies unchanged; returns those that the queue took.

        `leads` names the lead of each message that could be read.
        """
        letters = [
            Letter(
                received.body,
                {
                    "reason": reason[:MAX_REASON],
                    "stage": "assign",
                    "message": received.id,
                    "receipts": str(received.receipts),
                },
            )
            for received, reason in reasons.items()
        ]
        try:
            self._dead_letters.send(letters)
        except Unavailable as error:
            logger.error("not dead-lettered", extra={"messages": len(letters), "reason": str(error)})
            return set()
        for received, reason in reasons.items():
            count(Metric.LEADS_DEAD_LETTERED)
            logger.error(
                "dead-lettered", extra={"message_id": received.id, "lead": leads.get(received), "reason": reason}
            )
        return set(reasons)

    def _forget(self, done: Collection[Received]) -> None:
        try:
            self._leads.delete(list(done))
        except Unavailable as error:  # they come again and are found done
            logger.warning("not deleted", extra={"messages": len(done), "reason": str(error)})

    # How a batch goes through

    def _settle(self, messages: Mapping[str, Message], open_ends: _OpenEnds) -> None:
        """Settle each lead; `open_ends` takes those that HubSpot refuses for good or didn't get to."""
        for _ in range(ROUNDS):
            if not messages:
                return
            try:
                again = self._round([_Arrival(message) for message in messages.values()], open_ends)
            except PolicySuperseded as newer:
                logger.info("policy superseded", extra={"reason": str(newer)})
                again = list(messages)
            if again:
                self._in_force.forget()
            messages = {key: messages[key] for key in again}
        if messages:
            raise TableUnavailable(f"{len(messages)} leads not settled in {ROUNDS} rounds")

    def _round(self, arrivals: Sequence[_Arrival], open_ends: _OpenEnds) -> list[str]:
        """Decide, claim and hand over. Returns the keys of the leads to be decided anew."""
        terms = self._in_force.current()
        read_at = self._clock()
        self._read(arrivals, terms, open_ends)
        arrivals = [arrival for arrival in arrivals if arrival.key not in open_ends.later]
        decisions = {
            arrival.key: _decide(arrival.message, arrival.properties, terms)
            for arrival in arrivals
            if arrival.properties is not None
        }
        rotas = {decision.rota for decision in decisions.values() if isinstance(decision, Route)}
        snapshot = self._store.read(rotas, [(arrival.message.type, arrival.message.id) for arrival in arrivals])
        if undone := self._left(arrivals, snapshot, terms, open_ends):
            self._claims.undo(undone)
            return [arrival.key for arrival in arrivals]  # the ledgers have moved, so everything is read again
        plan = _Plan()
        for arrival in arrivals:
            if arrival.key not in open_ends.later:
                self._plan(plan, arrival, snapshot.records.get(arrival.key), decisions.get(arrival.key), terms)
        loads = dict(snapshot.loads)
        for rota, candidates in sorted(plan.candidates.items()):
            candidates.sort(key=_urgent_then_oldest)
            if terms.policy.mode is Mode.OBSERVE:
                plan.moves += self._observe(rota, candidates, terms, snapshot)
            else:
                self._claim(plan, rota, candidates, terms, snapshot.ledgers[rota], loads)
        write_moves(self._store, plan.moves)
        return self._hand_over(plan.claimed, arrivals, read_at, open_ends)

    def _left(
        self, arrivals: Sequence[_Arrival], snapshot: Snapshot, terms: Terms, open_ends: _OpenEnds
    ) -> list[Undoing]:
        """The claims that stand for a rep who has left HubSpot: nobody gets a lead after that.

        A claim so young that another run may be handing it over is left alone until that run is over.
        """
        undone: list[Undoing] = []
        for arrival in arrivals:
            record = snapshot.records.get(arrival.key)
            if record is None or record.state is not State.CLAIMED:
                continue
            if arrival.owner == record.rep or terms.is_owner(record.rep):
                continue  # HubSpot has been told already, or may be told
            if milliseconds(self._now()) - record.changed_at < LONGEST_RUN * 1000:
                open_ends.later[arrival.key] = Unavailable("its claim may be under way", retry_after=LONGEST_RUN)
            else:
                undone.append((record, Move.WAIT, {"rep": None, "reason": "the owner has left"}))
        return undone

    def _plan(
        self,
        plan: _Plan,
        arrival: _Arrival,
        record: Record | None,
        decision: Route | Ignored | None,
        terms: Terms,
    ) -> None:
        """Sort a lead in by what the table, HubSpot and the policy say of it."""
        if record is not None and record.state is State.CLAIMED:
            plan.claimed.append((record, None))
        elif not may_start(record, arrival.message.occurred_at):
            logger.info("known already", extra={"lead": arrival.key})
        elif decision is None:
            count(Metric.LEADS_GONE)
            logger.info("gone", extra={"lead": arrival.key})
            plan.moves.append((record, self._move(arrival, record, Move.LOSE)))
        elif isinstance(decision, Ignored):
            self._drop(arrival, decision.reason, rule=decision.rule)
        elif arrival.owner and terms.policy.leads.keep_owner:
            self._drop(arrival, "has an owner", owner=arrival.owner)
            if terms.policy.mode is not Mode.OBSERVE:  # which leaves the loads alone
                plan.moves.append((record, self._move(arrival, record, Move.LEAVE, rep=arrival.owner)))
        elif terms.policy.mode is Mode.PAUSE:
            plan.moves.append(self._wait(_candidate(arrival, record, decision, terms), "paused"))
        else:
            plan.candidates[decision.rota].append(_candidate(arrival, record, decision, terms))

    def _read(self, arrivals: Sequence[_Arrival], terms: Terms, open_ends: _OpenEnds) -> None:
        """Ask HubSpot about the leads. All are of one type: contacts are the only one so far."""
        ids = [arrival.message.id for arrival in arrivals]
        found = self._crm.read(arrivals[0].message.type, ids, terms.policy.properties())
        for arrival in arrivals:
            arrival.properties = found.records.get(arrival.message.id)
            if arrival.message.id in found.unreadable:
                open_ends.later[arrival.key] = found.unreadable[arrival.message.id]

    def _claim(
        self,
        plan: _Plan,
        rota: str,
        candidates: Sequence[Candidate],
        terms: Terms,
        ledger: Ledger,
        loads: dict[str, int],
    ) -> None:
        """Claim for one rota; the leads that nobody can take will wait."""
        result = self._claims.claim(rota, candidates, terms, ledger, loads)
        plan.claimed += result.bookings
        plan.moves += [self._wait(lead, "nobody can take it now") for lead in result.waiting]

    def _observe(
        self, rota: str, candidates: Sequence[Candidate], terms: Terms, snapshot: Snapshot
    ) -> list[tuple[Record | None, Record]]:
        """What would be done: nothing but the records is written."""
        now = self._now()
        members = seat(rota, terms, snapshot.loads, now)
        ledger = settle(snapshot.ledgers[rota], members, terms.policy.lanes(rota))
        bookings = allot(ledger, [lead.lane for lead in candidates], members).bookings
        count(Metric.LEADS_OBSERVED, len(candidates), rota=rota)
        moves = []
        for lead, booking in zip(candidates, bookings, strict=True):
            rep = None if booking is None else booking.winner
            logger.info("observed", extra={"lead": lead.key, "rota": rota, "lane": lead.lane, "rep": rep})
            # A lead that waits goes on waiting, and one that came to an end stays in its load.
            if lead.record is None or lead.record.state not in {State.WAITING, *ENDED}:
                moves.append((lead.record, move(lead.record, Move.OBSERVE, milliseconds(now), **lead.facts, rep=rep)))
        return moves

    def _hand_over(
        self,
        claimed: Sequence[tuple[Record, Booking | None]],
        arrivals: Sequence[_Arrival],
        read_at: float,
        open_ends: _OpenEnds,
    ) -> list[str]:
        owners = {arrival.key: arrival.owner for arrival in arrivals if arrival.properties is not None}
        outcome = self._handover.hand_over(claimed, owners, read_at)
        for record in outcome.handed:
            took = ((record.handed_at or record.changed_at) - record.occurred_at) / 1000
            count(Metric.LEADS_ASSIGNED, rota=record.rota)
            count(Metric.SECONDS_TO_OWNER, took, rota=record.rota, seconds=True)
            logger.info(
                "assigned",
                extra={
                    "lead": record.key,
                    "rota": record.rota,
                    "lane": record.lane,
                    "rule": record.rule,
                    "rep": record.rep,
                    "claim": record.claim,
                    "policy": record.policy,
                },
            )
        if outcome.taken:
            count(Metric.LEADS_TAKEN_BY_OTHERS, len(outcome.taken))
        if outcome.gone:
            count(Metric.LEADS_GONE, len(outcome.gone))
        open_ends.refused |= outcome.refused
        open_ends.later |= outcome.later
        return outcome.again

    def _drop(self, arrival: _Arrival, reason: str, **ids: str | None) -> None:
        count(Metric.LEADS_DROPPED)
        logger.info("dropped", extra={"lead": arrival.key, "reason": reason, **ids})

    def _move(self, arrival: _Arrival, record: Record | None, what: Move, **facts: Any) -> Record:
        return move(record, what, milliseconds(self._now()), **_origin(arrival.message), **facts)

    def _wait(self, lead: Candidate, reason: str) -> tuple[Record | None, Record]:
        count(Metric.LEADS_WAITING, rota=lead.facts["rota"])
        logger.info(
            "waiting", extra={"lead": lead.key, "rota": lead.facts["rota"], "lane": lead.lane, "reason": reason}
        )
        return lead.record, move(
            lead.record, Move.WAIT, milliseconds(self._now()), **lead.facts, rep=None, reason=reason
        )


def _noted(fault: int | None, received: Received) -> int:
    """At which receipt a fault was last noted; one of an earlier message about the same lead says nothing."""
    return fault if fault is not None and fault < received.receipts else 0


def _decide(message: Message, properties: Mapping[str, str | None], terms: Terms) -> Route | Ignored:
    return route(Lead(message.type, message.id, properties, message.change_source, message.occurred_at), terms.policy)


def _origin(message: Message) -> dict[str, Any]:
    """What a message says of its lead, as a record keeps it."""
    return {
        "type": message.type,
        "id": message.id,
        "occurred_at": message.occurred_at,
        "source": message.change_source,
    }


def _candidate(arrival: _Arrival, record: Record | None, decision: Route, terms: Terms) -> Candidate:
    message, properties = arrival.message, arrival.properties or {}
    shown = {name: properties.get(name) for name in terms.policy.leads.show}
    facts = {
        **_origin(message),
        "rota": decision.rota,
        "lane": decision.lane,
        "priority": decision.priority.value,
        "rule": decision.rule,
        "trace": decision.trace,
        "policy": terms.number,
        "found_owner": arrival.owner,
        "shown": {name: _cut(value) for name, value in shown.items() if value},
    }
    return Candidate(arrival.key, decision.lane, message.occurred_at, decision.priority.rank, facts, record)


def _cut(value: str) -> str:
    return value.encode()[:MAX_SHOWN].decode(errors="ignore")


def _urgent_then_oldest(lead: Candidate) -> tuple[int, int, int, str]:
    return lead.rank, lead.occurred_at, len(lead.key), lead.key
