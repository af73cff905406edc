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
from fairturn.errors import Contended, PolicyInvalid, PolicyMissing, PolicySuperseded, Unavailable
from fairturn.events import BRINGS
from fairturn.handover import write_moves
from fairturn.ledger import allot, settle
from fairturn.policy import OWNER, Mode
from fairturn.queues import Letter
from fairturn.record import ENDED, Move, Record, Seen, State, follow, is_counted, may_start, milliseconds, move
from fairturn.routing import CLOSED, Ignored, Lead, Route, is_closed, route
from fairturn.telemetry import Metric, count, logger

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from fairturn.claim import Claims, Undoing
    from fairturn.consumer import Consumer, OpenEnds
    from fairturn.crm import HubSpot
    from fairturn.errors import FairturnError
    from fairturn.events import Message
    from fairturn.handover import Handover
    from fairturn.ledger import Booking, Ledger
    from fairturn.queues import Queue, Received
    from fairturn.store import InForce, Snapshot, Store, Terms

ROUNDS: Final = 4
"""How often one batch is decided anew: a newer policy came into force, or HubSpot refused a rep."""
LONGEST_RUN: Final = 60
"""Seconds after which Lambda ends a run of the function: the template's timeout."""
SETTLED: Final = frozenset({State.CLAIMED, State.HANDED, *ENDED})
MAX_REASON: Final = 256
"""Characters of a reason that a record keeps."""
MAX_SHOWN: Final = 60
"""Bytes of a shown value that a record keeps."""


@dataclass(slots=True)
class _Arrival:
    """A lead of this batch, with what HubSpot says of it; `properties` is None where HubSpot doesn't know it."""

    message: Message
    properties: Mapping[str, str | None] | None = None
    merged_into: str | None = None
    """The id under which HubSpot has it now, where it is another."""

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
    merged: list[_Arrival] = field(default_factory=list)
    """The leads that come again under another id."""
    changed: list[_Arrival] = field(default_factory=list)
    """The leads that were given long ago, and to which something has happened since."""


class Assign:
    """Gives leads to reps."""

    def __init__(
        self,
        *,
        store: Store,
        in_force: InForce,
        crm: HubSpot,
        claims: Claims,
        handover: Handover,
        consumer: Consumer,
        leads: Queue,
        changes: Queue,
        now: Callable[[], datetime],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`leads` takes what a merge has given a new id, `changes` what is for track to follow.

        `now` is an aware datetime, `clock` in seconds.
        """
        self._store = store
        self._in_force = in_force
        self._crm = crm
        self._claims = claims
        self._handover = handover
        self._consumer = consumer
        self._leads = leads
        self._changes = changes
        self._now = now
        self._clock = clock

    def take(self, batch: Sequence[Received]) -> list[Received]:
        """Bring each message's lead as far as it goes; returns those that must stay in the queue."""
        return self._consumer.take(batch, self.settle)

    def settle(self, messages: Sequence[Message], open_ends: OpenEnds) -> None:
        """Bring each lead as far as it goes: handed over, waiting, or left to whoever has it.

        At most 97 leads. `open_ends` takes those that are refused for good or that HubSpot didn't get to. Raises
        Unavailable.
        """
        latest = {message.key: message for message in sorted(messages, key=lambda message: message.occurred_at)}
        try:
            self._settle(latest, open_ends)
        except (PolicyMissing, PolicyInvalid) as error:
            count(Metric.POLICY_MISSING)
            logger.error("no policy to decide by", extra={"reason": str(error)})
            self._refuse(latest, error, open_ends)

    def _refuse(self, messages: Mapping[str, Message], why: FairturnError, open_ends: OpenEnds) -> None:
        """Give up leads that can't even be decided, with the reason in their records; a claim stands and waits."""
        records = self._store.records((message.type, message.id) for message in messages.values())
        at, moves = milliseconds(self._now()), []
        for key, message in messages.items():
            record = records.get(key)
            if record is None or record.state not in SETTLED:
                facts = {"type": message.type, "id": message.id, "occurred_at": message.occurred_at}
                moves.append((record, move(record, open_ends.refusal, at, **facts, reason=str(why)[:MAX_REASON])))
                open_ends.refused[key] = str(why)
            elif record.state is State.CLAIMED:
                open_ends.later[key] = Unavailable(str(why))
            elif may_start(record, message.occurred_at):
                open_ends.refused[key] = str(why)  # the record says already how it ended
        write_moves(self._store, moves)

    def _settle(self, messages: Mapping[str, Message], open_ends: OpenEnds) -> None:
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
        open_ends.later |= dict.fromkeys(messages, Contended(f"not settled in {ROUNDS} rounds"))

    def _round(self, arrivals: Sequence[_Arrival], open_ends: OpenEnds) -> list[str]:
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
        self._pass_on(plan)
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
        self, arrivals: Sequence[_Arrival], snapshot: Snapshot, terms: Terms, open_ends: OpenEnds
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
        elif decision is None:
            self._lose(plan, arrival, record)
        elif not may_start(record, arrival.message.occurred_at):
            self._know(plan, arrival, record, Seen(arrival.owner, is_closed(arrival.properties or {}, terms.policy)))
        elif is_closed(arrival.properties or {}, terms.policy):
            self._drop(arrival, CLOSED)
            self._leave(plan, arrival, record, Move.CLOSE, terms)
        elif arrival.owner and (terms.policy.leads.keep_owner or _is_chosen_since(arrival, record)):
            self._drop(arrival, "has an owner", owner=arrival.owner)
            if record is None or record.holder != arrival.owner:
                self._leave(plan, arrival, record, Move.LEAVE, terms, rep=arrival.owner)
        elif isinstance(decision, Ignored):
            self._drop(arrival, decision.reason, rule=decision.rule)
            if record is not None and record.state not in ENDED:  # what a rule ignores leaves no record of its own
                facts = {"rule": decision.rule, "reason": decision.reason}
                self._leave(plan, arrival, record, Move.CLOSE, terms, **facts)
        elif terms.policy.mode is Mode.PAUSE:
            self._wait(plan, _candidate(arrival, record, decision, terms), "paused")
        else:
            plan.candidates[decision.rota].append(_candidate(arrival, record, decision, terms))

    def _leave(
        self, plan: _Plan, arrival: _Arrival, record: Record | None, what: Move, terms: Terms, **facts: Any
    ) -> None:
        """Note that a lead is not ours to give; in `observe`, only of what was counted before."""
        if terms.policy.mode is not Mode.OBSERVE or is_counted(record):
            plan.moves.append((record, self._move(arrival, record, what, **{"rep": None, "reason": None} | facts)))

    def _lose(self, plan: _Plan, arrival: _Arrival, record: Record | None) -> None:
        """HubSpot has no such record. What was given to somebody, or has ended, is track's to follow."""
        given = record is not None and record.state in {State.HANDED, State.ELSEWHERE, State.CLOSED}
        if arrival.merged_into is not None and not given:
            plan.merged.append(arrival)
            if record is None:
                return  # the new id says enough
        if given or (record is not None and record.state is State.GONE):
            self._know(plan, arrival, record, None)
            return
        count(Metric.LEADS_GONE)
        logger.info("gone", extra={"lead": arrival.key, "merged_into": arrival.merged_into})
        facts = {"rep": None, "merged_into": arrival.merged_into, "reason": "gone from HubSpot"}
        plan.moves.append((record, self._move(arrival, record, Move.LOSE, **facts)))

    @staticmethod
    def _know(plan: _Plan, arrival: _Arrival, record: Record | None, seen: Seen | None) -> None:
        """The lead is settled. One message tells all that one request says of a record, though: so what this one tells
        besides the arrival may be news, and then it is track's."""
        logger.info("known already", extra={"lead": arrival.key})
        if not BRINGS.issuperset(arrival.message.kinds) and follow(record, seen) is not None:
            plan.changed.append(arrival)

    def _pass_on(self, plan: _Plan) -> None:
        """Let leads that were merged away come again under the ids that they have now, and track see the changed."""
        letters = []
        for arrival in plan.merged:
            logger.info("merged", extra={"lead": arrival.key, "merged_into": arrival.merged_into})
            letters.append(Letter(arrival.message.model_copy(update={"id": arrival.merged_into}).body()))
        self._leads.send(letters)
        self._changes.send([Letter(arrival.message.body()) for arrival in plan.changed])

    def _read(self, arrivals: Sequence[_Arrival], terms: Terms, open_ends: OpenEnds) -> None:
        """Ask HubSpot about the leads. All are of one type: contacts are the only one so far."""
        ids = [arrival.message.id for arrival in arrivals]
        found = self._crm.read(arrivals[0].message.type, ids, terms.policy.properties())
        for arrival in arrivals:
            arrival.properties = found.records.get(arrival.message.id)
            arrival.merged_into = found.merged.get(arrival.message.id)
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
        for lead in result.waiting:
            self._wait(plan, lead, "nobody can take it now")

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
        open_ends: OpenEnds,
    ) -> list[str]:
        owners = {arrival.key: arrival.owner for arrival in arrivals if arrival.properties is not None}
        outcome = self._handover.hand_over(claimed, owners, read_at, open_ends.refusal)
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
        open_ends.refused |= outcome.refused
        open_ends.later |= outcome.later
        return outcome.again

    def _drop(self, arrival: _Arrival, reason: str, **ids: str | None) -> None:
        count(Metric.LEADS_DROPPED)
        logger.info("dropped", extra={"lead": arrival.key, "reason": reason, **ids})

    def _move(self, arrival: _Arrival, record: Record | None, what: Move, **facts: Any) -> Record:
        return move(record, what, milliseconds(self._now()), **_origin(arrival.message), **facts)

    def _wait(self, plan: _Plan, lead: Candidate, reason: str) -> None:
        """Let a lead wait; one that waits already, and as before, costs no write."""
        facts = {**lead.facts, "rep": None, "reason": reason}
        before = lead.record
        lane = ("rota", "lane", "priority")
        if before is not None and before.state is State.WAITING and all(getattr(before, n) == facts[n] for n in lane):
            return
        count(Metric.LEADS_WAITING, rota=facts["rota"])
        logger.info("waiting", extra={"lead": lead.key, "rota": facts["rota"], "lane": lead.lane, "reason": reason})
        plan.moves.append((before, move(before, Move.WAIT, milliseconds(self._now()), **facts)))


def _is_chosen_since(arrival: _Arrival, record: Record | None) -> bool:
    """Whether somebody has chosen the owner since we first saw the lead; then he keeps it in any case."""
    return record is not None and arrival.owner != record.found_owner


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
