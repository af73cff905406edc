"""Sweep: every minute, what no message brings any more: waiting leads, claims never handed over, the owners.

What is due goes through assign once more, just as if its message had come again: read anew, routed anew, and allotted
where somebody can take it. Two runs at once do no harm, because the records decide who is first.
"""

from __future__ import annotations

import time
from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING, Final

from fairturn.claim import seat
from fairturn.consumer import OpenEnds
from fairturn.errors import PolicyInvalid, PolicyMissing, RosterMoved, Unavailable
from fairturn.events import Kind, Message
from fairturn.policy import Mode
from fairturn.queues import Letter
from fairturn.record import Move, State, milliseconds
from fairturn.store import CLAIMED, HELD_BACK, MAX_RECORDS, due_lane
from fairturn.telemetry import Metric, count, logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    from fairturn.assign import Assign
    from fairturn.crm import HubSpot
    from fairturn.queues import Queue
    from fairturn.record import Record
    from fairturn.store import InForce, Pointer, Store, Terms

OWNERS_AFTER: Final = 5 * 60_000
"""Milliseconds after which the owners are read from HubSpot again."""
CLAIM_LATE_AFTER: Final = 15 * 60_000
"""Milliseconds after which a claim that is not handed over is taken up: its own message has had its chances."""
BEGINNING_FOR: Final = 20.0
"""Seconds of a run in which another batch may begin; the function is ended after 50."""
COUNTING_FOR: Final = 10.0
"""Seconds of a run in which lanes are still counted."""
MAX_BATCHES: Final = 10
"""Batches of waiting leads, of at most 97 each, in one run."""


class Sweep:
    """One run, and all that it needs."""

    def __init__(
        self,
        *,
        store: Store,
        in_force: InForce,
        crm: HubSpot,
        assign: Assign,
        leads: Queue,
        now: Callable[[], datetime],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`leads` takes what HubSpot refuses. `now` is an aware datetime, `clock` in seconds."""
        self._store = store
        self._in_force = in_force
        self._crm = crm
        self._assign = assign
        self._leads = leads
        self._now = now
        self._clock = clock

    def run(self) -> None:
        """Do all that is due, as far as it goes in one run. What a neighbour holds up is left for the next."""
        begun = self._clock()
        try:
            pointer, terms = self._store.pointer(), self._in_force.current()
            self._tell_what_is_paused(terms)
            self._tell_what_waits(pointer, terms, begun)
            for work in (self._refresh_owners, self._finish_late_claims, self._allot_waiting):
                if self._clock() - begun > BEGINNING_FOR:
                    logger.warning("the rest is left for the next run")
                    return
                try:
                    work(pointer, begun)
                except Unavailable as error:
                    logger.warning("left for the next run", extra={"work": work.__name__, "reason": str(error)})
        except (PolicyMissing, PolicyInvalid) as error:
            count(Metric.POLICY_MISSING)
            logger.error("no policy to decide by", extra={"reason": str(error)})
        except Unavailable as error:
            logger.warning("all is left for the next run", extra={"reason": str(error)})

    # Owners

    def _refresh_owners(self, pointer: Pointer, _begun: float) -> None:
        """Write down how the owners whom a policy names or named stand: who has left gets no lead from then on."""
        at = milliseconds(self._now())
        if at - pointer.owners_at < OWNERS_AFTER:
            return
        terms = self._in_force.current()
        named = pointer.owners.keys() | terms.policy.reps.keys()
        owners = [owner for owner in self._crm.owners() if owner.id in named]
        try:
            self._store.put_roster(owners, at, read_at=pointer.owners_at)
        except RosterMoved:
            return  # another run, or `policy apply`, was first
        self._in_force.forget()
        logger.info("owners refreshed", extra={"owners": len(owners)})

    # Leads

    def _finish_late_claims(self, _pointer: Pointer, _begun: float) -> None:
        late = milliseconds(self._now()) - CLAIM_LATE_AFTER
        self._bring(self._store.due(CLAIMED, MAX_RECORDS, late), State.CLAIMED)

    def _allot_waiting(self, pointer: Pointer, begun: float) -> None:
        terms = self._in_force.current()
        if terms.policy.mode is not Mode.LIVE:
            return
        for batch in islice(self._batches(pointer, terms), MAX_BATCHES):
            self._bring(batch, State.WAITING)
            if self._clock() - begun > BEGINNING_FOR:
                return

    def _batches(self, pointer: Pointer, terms: Terms) -> Iterator[list[tuple[str, str]]]:
        """The leads of the lanes in which there is something to do, at most 97 at a time.

        Each lane gives one page in turn, for as long as somebody can take its leads; and every run begins with another
        lane. So none comes off badly where there is more to do than one run can.
        """
        due: dict[str, list[tuple[str, str]]] = {}
        for _ in range(MAX_BATCHES):
            lanes = self._lanes(pointer, terms)
            first = int(self._now().timestamp()) // 60 % max(len(lanes), 1)
            batch: list[tuple[str, str]] = []
            for lane in [*lanes[first:], *lanes[:first]]:
                if lane not in due:
                    due[lane] = self._store.due(lane, MAX_RECORDS * MAX_BATCHES)
                batch += due[lane][:MAX_RECORDS]
                del due[lane][:MAX_RECORDS]
                while len(batch) >= MAX_RECORDS:
                    yield batch[:MAX_RECORDS]
                    batch = batch[MAX_RECORDS:]
            if batch:
                yield batch
            if not any(due[lane] for lane in lanes):
                return

    def _lanes(self, pointer: Pointer, terms: Terms) -> list[str]:
        """The due lanes in which somebody can take a lead, and those whose leads are to be routed in any case: lanes
        that the policy names no more, and the bulk sources, unless they are paused."""
        loads, policy = self._store.loads(), terms.policy
        named, able = set(), set()
        for rota in policy.rotas:
            members = seat(rota, terms, loads, self._now()).values()
            for lane in policy.lanes(rota):
                named.add(due_lane(rota, lane))
                if any(member.can_take(lane) for member in members):
                    able.add(due_lane(rota, lane))
        if not self._store.brake().pulled(terms.number):
            able.add(HELD_BACK)
        return sorted(able | (pointer.lanes - named))

    def _bring(self, due: Sequence[tuple[str, str]], state: State) -> None:
        """Bring leads that are still in this state as far as they go.

        What HubSpot refuses waits on and goes through the queue: only a message can be dead-lettered without a moment
        in which the lead is nowhere.
        """
        records = [record for record in self._store.records(due).values() if record.state is state]
        messages = {record.key: _message(record) for record in records}
        if not messages:
            return
        logger.info("swept", extra={"leads": sorted(messages), "state": state})
        open_ends = OpenEnds(refusal=Move.WAIT)
        self._assign.settle(list(messages.values()), open_ends)
        self._leads.send([Letter(messages[key].body()) for key in sorted(open_ends.refused)])

    # What those who run it should know

    def _tell_what_is_paused(self, terms: Terms) -> None:
        if terms.policy.mode is Mode.PAUSE:
            count(Metric.POLICY_PAUSED)
        if terms.policy.mode is Mode.OBSERVE:
            count(Metric.POLICY_OBSERVING)
        if self._store.brake().pulled(terms.number):
            count(Metric.BULK_PAUSED)

    def _tell_what_waits(self, pointer: Pointer, terms: Terms, begun: float) -> None:
        """Count the leads that wait, at most 1,000 in each lane."""
        lanes = {due_lane(rota, lane): rota for rota in terms.policy.rotas for lane in terms.policy.lanes(rota)}
        waiting: Counter[str] = Counter()
        for lane in sorted(lanes.keys() | pointer.lanes | {HELD_BACK}):
            waiting[lanes.get(lane, "")] += self._store.count_due(lane)
            if self._clock() - begun > COUNTING_FOR:
                logger.warning("not all lanes counted")
                break
        count(Metric.LEADS_DUE, waiting.total())
        for rota, leads in waiting.items():
            if rota and leads:
                count(Metric.LEADS_DUE, leads, rota=rota)


def _message(record: Record) -> Message:
    """The message that brought the lead, as far as the record knows it."""
    return Message(id=record.id, kinds=(Kind.CREATION,), occurred_at=record.occurred_at, change_source=record.source)
