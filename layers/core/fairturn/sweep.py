"""Sweep: does every minute what no message brings. These are waiting leads, claims never handed over and the owners;
once a day, the audit.

What is due goes through assign once more, just as if its message had come again: read anew, routed anew, and allotted
where somebody can take it. Two runs at once do no harm, because the records decide who is first.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Final

from fairturn.batches import batched
from fairturn.edges.items import HELD_BACK, UNSEEN, due_lane
from fairturn.edges.queues import Outgoing
from fairturn.edges.refusals import RosterMoved
from fairturn.edges.store import MAX_KEYS, MAX_RECORDS
from fairturn.errors import (
    ContactUnseen,
    HubSpotUnavailable,
    Mistake,
    PolicyInvalid,
    PolicyMissing,
    TableUnavailable,
    Unavailable,
    attempt,
)
from fairturn.rules.events import UNKNOWN_SOURCE, Kind, Message, lead_key, lead_of
from fairturn.rules.ledger import Claim
from fairturn.rules.missed import OVERLAP, Cause, Watermark
from fairturn.rules.policy import Mode
from fairturn.rules.record import UNSEEN_FOR, Record, State, milliseconds
from fairturn.rules.roster import refreshed
from fairturn.steps.claim import LONGEST_RUN, members_of, still_claimed
from fairturn.steps.consumer import MOST_TRIES, process_apart
from fairturn.steps.moves import write_moves
from fairturn.telemetry import Metric, count, count_held_up, logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    from fairturn.assign import Assign
    from fairturn.deadline import Deadline
    from fairturn.edges.hubspot.client import HubSpot
    from fairturn.edges.in_force import InForce
    from fairturn.edges.queues import Queue
    from fairturn.edges.store import Store
    from fairturn.rules.terms import Pointer, Terms
    from fairturn.steps.audit import Audit
    from fairturn.steps.reconcile import Reconciliation

OWNERS_AFTER: Final = 5 * 60_000
"""Milliseconds after which the owners are read from HubSpot again."""
CLAIM_LATE_AFTER: Final = LONGEST_RUN * 1000 + 10_000
"""Milliseconds after which a claim that is not handed over is taken up: whoever was at it is not any more."""
RESERVE: Final = 5.0
"""Seconds kept at the end of a run for what could not be processed."""
TRIED_AGAIN_AFTER: Final = 24 * 3_600_000
"""Milliseconds after which a lead whose message was given up is brought again."""
LEAST: Final = 5.0
"""Seconds without which no further work is begun."""
COUNTING_UNTIL: Final = 35.0
"""Seconds that are left when no further lane is counted, so that the work gets its share."""
MOST_QUEUED: Final = 100
"""Messages in the queues beyond which no look at HubSpot begins: what the table lacks is most likely among them."""
MAX_BATCHES: Final = 10
"""Batches of waiting leads, of at most 97 each, in one run."""


@dataclass(frozen=True, slots=True)
class Sweep:
    """One run, and all that it needs."""

    store: Store
    in_force: InForce
    crm: HubSpot
    assign: Assign
    leads: Queue
    """Takes what assign could not bring to an end: only a message can be dead-lettered."""
    bulk: Queue
    changes: Queue
    """With these, all queues through which a webhook's events go."""
    reconciliation: Reconciliation
    audit: Audit
    now: Callable[[], datetime]
    """An aware datetime."""
    _empty: set[str] = field(default_factory=set, init=False)
    """Due lanes that this run has counted and found empty: it asks no second time."""

    def run(self, deadline: Deadline) -> None:
        """Do all that is due, as far as there is time. Each kind of work is for itself: what holds one up is left for
        the next run. The sign of life is given last, and only if nothing held any of them up."""
        self._empty.clear()
        try:
            pointer, terms = self.in_force.refresh()
        except (PolicyMissing, PolicyInvalid) as error:
            count(Metric.POLICY_MISSING)
            logger.error("no policy to decide by", extra={"reason": str(error)})
            return
        except Unavailable as error:
            count_held_up([error])
            logger.warning("all is left for the next run", extra={"reason": str(error)})
            return
        works: Sequence[Callable[[Pointer, Terms, Deadline], None]] = (
            self._count_what_waits,
            self._measure_fairness,
            self._refresh_owners,
            self._finish_late_claims,
            self._look_for_the_unseen,
            self._allot_waiting,
            self._reconcile,
        )
        done = [self._do(work, pointer, terms, deadline.less(RESERVE)) for work in works]
        if all(done):
            count(Metric.SWEPT)
        # After the sign of life: no lead depends on it, and it says itself when it comes to no end.
        self._do(self._audit, pointer, terms, deadline.less(RESERVE))

    def _do(
        self,
        work: Callable[[Pointer, Terms, Deadline], None],
        pointer: Pointer,
        terms: Terms,
        deadline: Deadline,
    ) -> bool:
        """Do one kind of work; whether it came to its end."""
        name = getattr(work, "__name__", "").strip("_").replace("_", " ")
        try:
            deadline.check(LEAST)
            result = attempt(lambda: work(pointer, terms, deadline))
        except Unavailable as error:
            count_held_up([error])
            logger.warning("left for the next run", extra={"work": name, "reason": str(error)})
            return False
        if isinstance(result, Mistake):
            logger.error("a mistake of ours", extra={"work": name, "what": result.what})
        return result is None

    # Owners

    def _refresh_owners(self, pointer: Pointer, terms: Terms, deadline: Deadline) -> None:
        """Read how the owners whom the policy names stand: who has left gets no lead from then on. Whom it names no
        more is forgotten as soon as no claim for them is under way."""
        at = milliseconds(self.now())
        if at - pointer.owners_at < OWNERS_AFTER:
            return
        owners = refreshed(pointer.owners, self.crm.owners(deadline), self._needed(pointer, terms))
        try:
            self.store.put_roster(owners, at, read_at=pointer.owners_at)
        except RosterMoved:
            return  # another run, or `policy apply`, was first
        self.in_force.expire()
        logger.info("owners refreshed", extra={"owners": len(owners)})

    def _needed(self, pointer: Pointer, terms: Terms) -> set[str]:
        """The owners who must be known: all whom the policy names, and who has a lead in a claim that is not finished.
        Whether that is handed over goes by their being an owner still."""
        named = {*terms.policy.reps}
        if pointer.owners.keys() <= named:
            return named
        claims = self.store.unfinished(MAX_KEYS)
        if len(claims) == MAX_KEYS:  # there may be more
            return named | pointer.owners.keys()
        journals = self.store.journals(claims).values()
        return named | {given.winner for each in journals if isinstance(each, Claim) for given in each.leads}

    # Leads

    def _finish_late_claims(self, _pointer: Pointer, _terms: Terms, deadline: Deadline) -> None:
        """Bring the leads that are still claimed, though whoever claimed them is not at it any more; what has none left
        is done with."""
        late = milliseconds(self.now()) - CLAIM_LATE_AFTER
        claims = self.store.unfinished(MAX_RECORDS * MAX_BATCHES, late)
        for part in batched(claims, MAX_KEYS):
            if deadline.left() < LEAST:
                return
            due: list[tuple[str, str]] = []
            for claim, leads in still_claimed(self.store, part).items():
                if not leads.known and not leads.unreadable:
                    self.store.finish(*claim, milliseconds(self.now()))
                # Those that somebody has taken up, or tried in vain, a moment ago are not late.
                due += [lead_of(key) for key, record in leads.known.items() if record.changed_at < late]
                due += map(lead_of, leads.unreadable)
            self._process_all(due, State.CLAIMED, deadline)

    def _look_for_the_unseen(self, _pointer: Pointer, _terms: Terms, deadline: Deadline) -> None:
        due = self.store.due(UNSEEN, MAX_RECORDS * MAX_BATCHES, milliseconds(self.now()))
        self._process_all(due, State.GONE, deadline)

    def _allot_waiting(self, pointer: Pointer, _terms: Terms, deadline: Deadline) -> None:
        terms = self.in_force.current()  # the owners may have been refreshed
        if terms.policy.mode is not Mode.LIVE:
            return
        for batch in islice(self._batches(pointer, terms), MAX_BATCHES):
            if deadline.left() < LEAST:
                return  # the next run goes on
            self._process(batch, State.WAITING, deadline)

    def _reconcile(self, _pointer: Pointer, _terms: Terms, deadline: Deadline) -> None:
        """Look for what no webhook has told, every quarter of an hour; the next run goes on with a long look."""
        at = milliseconds(self.now())
        watermark = self.store.watermark() or Watermark(began_at=at, since=at - OVERLAP)
        watermark = watermark.next(at) if watermark.is_over(at) else watermark
        if watermark.done:
            return
        leads, changes = self.leads.length() + self.bulk.length(), self.changes.length()
        if leads + changes > MOST_QUEUED:
            logger.info("no look at HubSpot", extra={"queued": leads + changes})
            return
        watermark, found = self.reconciliation.look(watermark, deadline)
        self.store.note_watermark(watermark)
        # As many as were queued may be among them.
        created = found.causes[Cause.CREATED]
        count(Metric.LEADS_FOUND, max(created - leads, 0))
        count(Metric.CHANGES_FOUND, max(found.causes.total() - created - changes, 0))
        told = {"contacts": found.contacts, "found": found.causes, "done": watermark.done}
        if found.messages:
            ids = [message.id for message in found.messages]
            logger.warning("no webhook told of these", extra=told | {"contact_ids": ids})
        else:
            logger.info("looked at HubSpot", extra=told)

    def _audit(self, _pointer: Pointer, terms: Terms, deadline: Deadline) -> None:
        """Once a day, hold ledgers, journals, loads, records and a sample of HubSpot against each other."""
        self.audit.run(terms, deadline)

    def _process_all(self, due: Sequence[tuple[str, str]], state: State, deadline: Deadline) -> None:
        for part in batched(due, MAX_RECORDS):
            if deadline.left() < LEAST:
                return
            self._process(part, state, deadline)

    def _batches(self, pointer: Pointer, terms: Terms) -> Iterator[list[tuple[str, str]]]:
        """The leads of the lanes in which there is something to do, at most 97 at a time.

        Each lane gives one page in turn, for as long as somebody can take its leads; and every run begins with another
        lane. So none comes off badly where there is more to do than one run can.
        """
        due: dict[str, list[tuple[str, str]]] = {}
        for _ in range(MAX_BATCHES):
            lanes = self._lanes(pointer, terms)
            first = int(self.now().timestamp()) // 60 % max(len(lanes), 1)
            batch: list[tuple[str, str]] = []
            for lane in [*lanes[first:], *lanes[:first]]:
                if lane not in due:
                    due[lane] = self.store.due(lane, MAX_RECORDS * MAX_BATCHES)
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
        that the policy names no more, and the bulk sources, unless they are paused. What is empty is none of them."""
        policy = terms.policy
        named = {due_lane(rota, lane) for rota in policy.rotas for lane in policy.lanes(rota)}
        due = (named | pointer.lanes | {HELD_BACK}) - self._empty
        if not due:
            return []
        loads, able = self.store.loads(), set[str]()
        for rota in policy.rotas:
            members = members_of(rota, terms, loads, self.now()).values()
            for lane in policy.lanes(rota):
                if any(member.can_take(lane) for member in members):
                    able.add(due_lane(rota, lane))
        # Whoever waits for one of two teams may go to the other, too.
        pairs = [(due_lane(*own), due_lane(*fallback)) for own, fallback in policy.fallbacks()]
        able |= {lane for pair in pairs if not able.isdisjoint(pair) for lane in pair}
        if not self.store.brake().is_pulled(terms.number):
            able.add(HELD_BACK)
        return sorted(due & (able | (pointer.lanes - named)))

    def _process(self, due: Sequence[tuple[str, str]], state: State, deadline: Deadline) -> None:
        """Bring leads that are still in this state as far as they go.

        What is refused, can't be read, fails or is not shown for long goes to the leads queue, unless its message has
        been given up since; what a neighbour holds up is due again in the next run. Raises Unavailable if that is all.
        """
        if not due:
            return
        records = self.store.records(due)
        tries = self.store.tries(due)
        at = milliseconds(self.now())
        given_up = {lead: each.at for lead, each in tries.items() if each.number >= MOST_TRIES}
        tried = {lead: last for lead, last in given_up.items() if last > at - TRIED_AGAIN_AFTER}
        known = {
            record.key: record
            for record in records.known.values()
            if record.state is state and tried.get(record.key, 0) < record.changed_at
        }
        messages = {lead: _message(record) for lead, record in known.items()}
        unreadable = [lead for lead in due if lead_key(*lead) in records.unreadable.keys() - tried.keys()]
        messages |= {lead_key(*lead): _unknown(lead, at) for lead in unreadable}
        if not messages:
            return
        logger.info("swept", extra={"leads": sorted(messages), "state": state})
        outcome = process_apart(list(messages.values()), self.assign.process, deadline)
        unseen = [
            known[lead] for lead, why in outcome.later.items() if isinstance(why, ContactUnseen) and lead in known
        ]
        long_unseen = [record for record in unseen if at - record.changed_at >= UNSEEN_FOR]
        if left := outcome.later.keys() - {record.key for record in long_unseen}:
            reasons = sorted({str(outcome.later[lead]) for lead in left})
            logger.warning("left for the next run", extra={"leads": sorted(left), "reasons": reasons})
        # The record tells that a message is on its way, so that not every run sends another.
        sent = write_moves(self.store, [(record, record.touched(at)) for record in long_unseen])
        on = sorted(outcome.refused.keys() | outcome.failed.keys() | {record.key for record in sent})
        self.leads.send([Outgoing(messages[lead].body()) for lead in on])
        down = [why for why in outcome.later.values() if isinstance(why, (HubSpotUnavailable, TableUnavailable))]
        if len(down) == len(messages) and not unseen:
            raise down[0]
        count_held_up(outcome.later.values())

    # What those who run it should know

    def _count_what_waits(self, pointer: Pointer, terms: Terms, deadline: Deadline) -> None:
        """Count the leads that wait, at most 1,000 in each lane, say for how long, and what is paused."""
        if terms.policy.mode is Mode.PAUSE:
            count(Metric.POLICY_PAUSED)
        if terms.policy.mode is Mode.OBSERVE:
            count(Metric.POLICY_OBSERVING)
        if self.store.brake().is_pulled(terms.number):
            count(Metric.BULK_PAUSED)
        lanes = {due_lane(rota, lane): rota for rota in terms.policy.rotas for lane in terms.policy.lanes(rota)}
        waiting: Counter[str] = Counter()
        since = at = milliseconds(self.now())
        for lane in sorted(lanes.keys() | pointer.lanes | {HELD_BACK}):
            if deadline.left() < COUNTING_UNTIL:
                logger.warning("not all lanes counted")
                break
            backlog = self.store.backlog(lane)
            waiting[lanes.get(lane, "")] += backlog.leads
            since = min(since, backlog.since or at)
            if not backlog.leads:
                self._empty.add(lane)
        count(Metric.LEADS_DUE, waiting.total())
        count(Metric.HOURS_DUE, (at - since) / 3_600_000)
        for rota, leads in waiting.items():
            if rota and leads:
                count(Metric.LEADS_DUE, leads, rota=rota)

    def _measure_fairness(self, _pointer: Pointer, terms: Terms, _deadline: Deadline) -> None:
        """Tell how far anybody in each rota is from their fair share."""
        for rota, ledger in self.store.read(terms.policy.rotas, []).ledgers.items():
            count(Metric.LARGEST_GAP, ledger.gap(), rota=rota)


def _unknown(lead: tuple[str, str], at: int) -> Message:
    """A message about a lead whose record can't be read."""
    return Message(id=lead[1], kinds=(Kind.CREATION,), occurred_at=at, change_source=UNKNOWN_SOURCE)


def _message(record: Record) -> Message:
    """The message that brought the lead, as far as the record knows it."""
    return Message(
        id=record.id,
        kinds=(Kind.CREATION,),
        occurred_at=record.occurred_at or record.changed_at,
        change_source=record.source or UNKNOWN_SOURCE,
        round=record.round,
    )
