"""Assign: takes leads from the queue, routes and claims them, and writes their owners into HubSpot.

A batch is taken as a whole: one read from HubSpot, one read of the table, one claim per rota, one write to
HubSpot, one write that marks them handed over. A message is done only when its lead's record says what
became of it; wherever the code dies, the message comes again and the record tells how far it got.

No single reading of HubSpot's is the truth: it may be old, or lack what is there. So what contradicts the record or
an event is put off until the reading can be believed.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from fairturn.edges.queues import Outgoing
from fairturn.errors import (
    ContactUnseen,
    Contended,
    HubSpotUnavailable,
    Mistake,
    PolicyInvalid,
    PolicyMissing,
    PolicySuperseded,
    RecordUnreadable,
    Unavailable,
)
from fairturn.rules.events import ARRIVALS, CONTACT, Kind
from fairturn.rules.ledger import align, allot
from fairturn.rules.policy import Mode
from fairturn.rules.record import (
    ENDED,
    MOST_UNSEEN,
    READS_LAG,
    TRACKED,
    UNSEEN_FOR,
    Record,
    Seen,
    State,
    follow,
    milliseconds,
)
from fairturn.rules.roster import duty
from fairturn.rules.routing import Ignored, Lead, Route, is_closed, lacking, route
from fairturn.steps.claim import Candidate, Undoing, members_of
from fairturn.steps.consumer import Outcome
from fairturn.steps.moves import write_moves
from fairturn.telemetry import Metric, count, logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import datetime

    from fairturn.deadline import Deadline
    from fairturn.edges.hubspot.client import BatchRead, HubSpot
    from fairturn.edges.in_force import InForce
    from fairturn.edges.queues import Queue
    from fairturn.edges.store import Snapshot, Store
    from fairturn.rules.events import Message
    from fairturn.rules.terms import Terms
    from fairturn.steps.claim import Claimer, ClaimResult
    from fairturn.steps.handover import Handover, HandoverResult

ROUNDS: Final = 4
"""How often one batch is decided anew: a newer policy came into force, or HubSpot refused a rep."""
MAX_SHOWN: Final = 60
"""Bytes of a shown value that a record keeps."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What is to be done about one lead; most of it is left out, as a rule."""

    candidate: Candidate | None = None
    """It is to be allotted."""
    resumed: Record | None = None
    """Its claim is to be handed over."""
    move: tuple[Record, Record] | None = None
    """Its record moves, and no turn with it."""
    undone: Undoing | None = None
    """Its record moves, and the turn of its claim goes back."""
    lead: Message | None = None
    """It comes again, under the id that a merge has given it."""
    change: Message | None = None
    """Track is to look at it."""
    later: Unavailable | None = None
    """Now is too early."""
    log: tuple[str, Mapping[str, object]] | None = None
    """The line in the log once it is done, and what it names."""
    metric: Metric | None = None
    """What is counted then."""


@dataclass(frozen=True, slots=True)
class View:
    """What one round of a batch has read."""

    terms: Terms
    found: BatchRead
    snapshot: Snapshot
    routes: Mapping[str, Route | Ignored]
    """Lead → where it goes, of those that HubSpot shows."""
    at: int
    """Epoch milliseconds when HubSpot was asked."""

    def lead(self, message: Message) -> Lead:
        """A lead that HubSpot shows."""
        return Lead(message, self.found.records[message.id])

    def owner(self, message: Message) -> str | None:
        """Whose it is."""
        return self.lead(message).owner

    def is_unexplained(self, message: Message) -> bool:
        """Whether nothing says why HubSpot does not show a lead."""
        if message.id in self.found.records or message.id in self.found.merged or message.id in self.found.unreadable:
            return False
        record = self.snapshot.records.known.get(message.key)
        if record is None:
            return message.key not in self.snapshot.records.unreadable
        told = record.merged_into is not None or record.brought_by(message).is_deleted(message.occurred_at)
        return not (told or record.unseen_at is not None or record.state is State.ERASED)

    def is_young(self, record: Record) -> bool:
        """Whether the record has changed so lately that HubSpot's answer may be older."""
        return self.at < record.changed_at + READS_LAG


@dataclass(frozen=True, slots=True)
class Assign:
    """Gives leads to reps."""

    store: Store
    in_force: InForce
    crm: HubSpot
    claimer: Claimer
    handover: Handover
    leads: Queue
    """Takes what a merge has given a new id."""
    changes: Queue
    """Takes what is for track to follow."""
    now: Callable[[], datetime]
    """An aware datetime."""

    def process(self, messages: Sequence[Message], deadline: Deadline) -> Outcome:
        """Bring each lead, at most 97, as far as it goes: handed over, waiting, or left to whoever has it.

        Raises Unavailable.
        """
        latest: dict[str, Message] = {}
        for message in sorted(messages, key=lambda each: (each.round, each.occurred_at)):
            first = latest.get(message.key, message).received_at
            received = [at for at in (first, message.received_at) if at is not None]
            latest[message.key] = replace(message, received_at=min(received, default=None))
        outcome = Outcome()
        try:
            for _ in range(ROUNDS):
                if not latest:
                    return outcome
                part, again = self._round(list(latest.values()), deadline)
                outcome |= part
                latest = {key: latest[key] for key in again}
        except (PolicyMissing, PolicyInvalid) as error:
            count(Metric.POLICY_MISSING)
            logger.error("no policy to decide by", extra={"reason": str(error)})
            if isinstance(error, PolicyMissing):
                return outcome | self._refuse(latest.values(), str(error))
            # Another version of this program has written it: all wait until it is applied anew.
            return outcome | Outcome(later=dict.fromkeys(latest, Unavailable(str(error))))
        return outcome | Outcome(later=dict.fromkeys(latest, Contended(f"not settled in {ROUNDS} rounds")))

    def _round(self, messages: Sequence[Message], deadline: Deadline) -> tuple[Outcome, Sequence[str]]:
        """Decide, claim and hand over, once. Gives also the names of the leads to be decided anew."""
        view = self._read(messages, deadline)
        decisions: dict[str, Decision] = {}
        failed: dict[str, Mistake] = {}
        for message in messages:
            try:
                decisions[message.key] = self._decide(message, view)
            except RecordUnreadable as error:
                failed[message.key] = Mistake(str(error))
        if any(decision.undone for decision in decisions.values()):
            self._undo(decisions.values())
            return Outcome(failed=failed), list(decisions)  # the ledgers have moved, so everything is read again
        self.leads.send(
            [Outgoing(decision.lead.body()) for decision in decisions.values() if decision.lead is not None]
        )
        self.changes.send(
            [Outgoing(decision.change.body()) for decision in decisions.values() if decision.change is not None]
        )
        candidates = sorted(
            (each.candidate for each in decisions.values() if each.candidate), key=lambda each: each.order
        )
        try:
            claimed, waiting = self._allot(candidates, view)
        except PolicySuperseded as newer:
            logger.info("policy superseded", extra={"reason": str(newer)})
            self.in_force.expire()
            return Outcome(failed=failed), list(decisions)
        moves = [decision.move for decision in (*decisions.values(), *waiting) if decision.move is not None]
        written = {record.key for record in write_moves(self.store, moves)}
        missed = {record.key for record, _ in moves} - written
        for decision in (*decisions.values(), *waiting):
            if decision.move is None or decision.move[0].key not in missed:
                _log(decision)
        result = self.handover.hand_over(
            [booking for each in claimed for booking in each.bookings],
            [decision.resumed for decision in decisions.values() if decision.resumed is not None],
            {message.key: view.owner(message) for message in messages if message.key in view.routes},
            view.at,
            view.terms.policy,
            deadline,
        )
        _log_handed(result)
        if result.again:
            self.in_force.expire()
        later = {key: decision.later for key, decision in decisions.items() if decision.later is not None}
        moved = {record.key: self._under_way(record) for each in claimed for record in each.moved}
        moved |= dict.fromkeys(missed, Contended("the record has moved"))
        return Outcome(result.refused, {**later, **moved, **result.later}, failed), result.again

    def _read(self, messages: Sequence[Message], deadline: Deadline) -> View:
        """Ask HubSpot about the leads, then the table. All are of one type: contacts are the only one so far."""
        terms = self.in_force.current()
        at = milliseconds(self.now())
        ids = [message.id for message in messages]
        found = self.crm.read(CONTACT, ids, terms.policy.properties(), deadline)
        shown = [message for message in messages if message.id in found.records]
        routes = {each.key: route(Lead(each, found.records[each.id]), terms.policy) for each in shown}
        rotas = {rota for each in routes.values() if isinstance(each, Route) for rota in each.rotas()}
        snapshot = self.store.read(rotas, [(message.type, message.id) for message in messages])
        view = View(terms, found, snapshot, routes, at)
        if not found.records and sum(view.is_unexplained(message) for message in messages) > MOST_UNSEEN:
            raise HubSpotUnavailable(f"HubSpot shows none of {len(messages)} contacts")
        return view

    def _undo(self, decisions: Iterable[Decision]) -> None:
        """Give back the turns of claims that can't be handed over."""
        undone = [decision for decision in decisions if decision.undone is not None]
        self.claimer.undo(decision.undone for decision in undone if decision.undone is not None)
        self.in_force.expire()
        for decision in undone:
            _log(decision)

    def _allot(self, candidates: Sequence[Candidate], view: View) -> tuple[list[ClaimResult], list[Decision]]:
        """Claim, rota by rota, with the loads carried over; in `observe`, only decide. What nobody of its team can take
        goes to its fallback, if it has one by now. Gives also what becomes of those that nobody gets."""
        claimed: list[ClaimResult] = []
        others: list[Decision] = []
        ledgers, loads = dict(view.snapshot.ledgers), view.snapshot.loads
        own = {each.record.key: each for each in candidates}
        for _ in range(2):  # a fallback has none of its own
            waiting: list[Candidate] = []
            for rota, leads in sorted(_by_rota(candidates).items()):
                if view.terms.policy.mode is Mode.OBSERVE:
                    observed, left = self._observe(rota, leads, view)
                    others += observed
                    waiting += left
                    continue
                result = self.claimer.claim(rota, leads, view.terms, ledgers[rota], loads)
                claimed.append(result)
                loads = result.loads
                ledgers[rota] = result.ledger or ledgers[rota]
                waiting += result.waiting
            fallbacks = [(each, each.fallback(view.at)) for each in waiting]
            candidates = [fallback for _, fallback in fallbacks if fallback is not None]
            # What nobody gets waits for its own team.
            others += [self._left(own[each.record.key], view) for each, fallback in fallbacks if fallback is None]
        return claimed, others

    def _observe(
        self, rota: str, candidates: Sequence[Candidate], view: View
    ) -> tuple[list[Decision], list[Candidate]]:
        """What would be done: nothing but the records is written. Gives also those that nobody would get."""
        terms, now = view.terms, self.now()
        members = members_of(rota, terms, view.snapshot.loads, now)
        lanes = terms.policy.lanes(rota)
        ledger = align(view.snapshot.ledgers[rota], members, lanes)
        bookings = allot(
            ledger, [each.offer(terms.policy.release, view.at) for each in candidates], members, lanes
        ).bookings
        decided = list(zip(candidates, bookings, strict=True))
        observed = [self._observed(each, booking.winner, view) for each, booking in decided if booking is not None]
        return observed, [each for each, booking in decided if booking is None]

    def _observed(self, each: Candidate, rep: str | None, view: View) -> Decision:
        """A lead that would go to this rep, or to nobody."""
        count(Metric.LEADS_OBSERVED)
        ids = {"lead": each.record.key, "rota": each.route.rota, "lane": each.route.lane, "rep": rep}
        # A lead that waits for a rep goes on waiting, and one that came to an end stays in its load.
        stays = each.record.state in ENDED or (each.record.state is State.WAITING and each.record.rota is not None)
        after = each.record.touched(view.at) if stays else each.routed.observed(rep, milliseconds(self.now()))
        move = None if stays and each.record.look_again_at is None else (each.record, after)
        return Decision(move=move, log=("observed", ids))

    def _left(self, candidate: Candidate, view: View) -> Decision:
        """A lead that nobody gets."""
        if view.terms.policy.mode is Mode.OBSERVE:
            return self._observed(candidate, None, view)
        return _wait(candidate, "nobody can take it now", view.at)

    # What is to be done about one lead

    def _decide(self, message: Message, view: View) -> Decision:
        """Judge a lead by what the table, HubSpot and the policy say of it. Raises RecordUnreadable."""
        record = view.snapshot.records.of(message.id)
        if (unread := view.found.unreadable.get(message.id)) is not None:
            return Decision(later=unread)
        if record.state is State.ERASED:
            return _known(message)
        if record.state is State.CLAIMED and self.claimer.left_to(record) > 0:
            return Decision(later=self._under_way(record))
        if message.id not in view.found.records or record.merged_into is not None:
            return self._missing(message, record, view)
        if record.state is State.CLAIMED:
            return self._claimed_before(message, record, view)
        lead = view.lead(message)
        seen = Seen(lead.owner, is_closed(lead.properties, view.terms.policy))
        if not record.may_be_claimed_in(message.round):
            tells_more = not ARRIVALS.issuperset(message.kinds)
            is_news = record.state in ENDED or follow(record, seen, view.at) is not None
            return _known(message, to_track=tells_more and is_news)
        if record.brought_by(message).is_deleted(message.occurred_at) and _is_early(message, view):
            return Decision(later=HubSpotUnavailable("HubSpot still shows what was deleted"))
        # It is shown long after the deletion, so it was restored.
        record = record.with_deletion_times(restored_at=record.deleted_at)
        if seen.closed or _is_kept(lead, record, view.terms):
            return self._leave(lead, record, seen, view)
        if record.state in {State.CLOSED, State.GONE} and view.is_young(record):
            return Decision(later=HubSpotUnavailable("HubSpot may show the lead as it was before"))
        return self._start(lead, record, view)

    def _leave(self, lead: Lead, record: Record, seen: Seen, view: View) -> Decision:
        """A lead that is closed, or somebody's: the record follows, unless the reading may be older than it. In
        `observe`, only what was counted before follows."""
        ids = {"lead": record.key, "reason": "closed already" if seen.closed else "has an owner", "owner": lead.owner}
        done = Decision(log=("dropped", ids), metric=Metric.LEADS_DROPPED)
        if seen.closed and record.state is State.CLOSED:
            return done
        if record.rev and view.is_young(record):
            return Decision(later=HubSpotUnavailable("HubSpot may show the lead as it was before"))
        if view.terms.policy.mode is Mode.OBSERVE and not record.is_counted:
            return done
        arrived = record.brought_by(lead.message)
        if seen.closed or seen.owner is None:
            return replace(done, move=(record, arrived.closed(None, view.at)))
        return replace(done, move=(record, arrived.external(seen.owner, None, view.at)))

    def _start(self, lead: Lead, record: Record, view: View) -> Decision:
        """A lead that is to be given to somebody, if a rule says so."""
        if record.state is State.NEW and (left := _settles_for(lead, view)) > 0:
            wants = ", ".join(lacking(lead, view.terms.policy))
            return Decision(later=Unavailable(f"it may still get a value of {wants}", retry_within=left))
        routed = view.routes[record.key]
        if isinstance(routed, Ignored):
            ids = {"lead": record.key, "reason": routed.reason, "rule": routed.rule}
            log = ("dropped", ids)
            if record.state not in {State.WAITING, State.OBSERVED, State.REFUSED} and record.look_again_at is None:
                return Decision(log=log, metric=Metric.LEADS_DROPPED)  # it leaves no record of its own
            closed = record.brought_by(lead.message).closed(routed.reason, view.at, rule=routed.rule)
            return Decision(move=(record, closed), log=log, metric=Metric.LEADS_DROPPED)
        show = {name: lead.properties.get(name) for name in view.terms.policy.leads.show}
        shown = {name: _cut(value) for name, value in show.items() if value}
        candidate = Candidate(record, lead, routed, view.terms.number, shown)
        if view.terms.policy.mode is Mode.PAUSE:
            return _wait(candidate, "paused", view.at)
        return Decision(candidate=candidate)

    def _claimed_before(self, message: Message, record: Record, view: View) -> Decision:
        """A claim that nobody is at: it is handed over, unless its rep has left HubSpot meanwhile."""
        if view.owner(message) == record.rep:
            return Decision(resumed=record)  # HubSpot has been told already
        rep = record.rep or ""
        rules, owner = view.terms.policy.reps.get(rep), view.terms.owners.get(rep)
        # Who has left the policy meanwhile had the lead before that.
        policy = view.terms.policy
        if view.terms.is_owner(rep) if rules is None else duty(rules, owner, self.now(), policy.holidays(rep)).on_duty:
            return Decision(resumed=record)
        return Decision(undone=Undoing(record, record.waiting("the owner is away, or has left", view.at)))

    def _missing(self, message: Message, record: Record, view: View) -> Decision:
        """A lead that HubSpot does not show: merged, deleted, or there all the same."""
        into = view.found.merged.get(message.id) or record.merged_into
        is_followed = record.state in TRACKED and not record.may_be_claimed_in(message.round)
        if is_followed:
            return _known(message, to_track=into is not None)
        if into is not None:
            return self._go_on(message, record, into, view)
        if record.brought_by(message).is_deleted(message.occurred_at) and record.state is not State.CLAIMED:
            ended = record.state is State.GONE
            return replace(_known(message), move=None if ended else (record, record.gone("deleted", view.at)))
        why = "HubSpot does not show the contact"
        if record.look_again_at is not None and message.received_at is None:
            return Decision(move=(record, record.gone(why, view.at, unseen_at=record.unseen_at)))
        if _is_early(message, view):
            return Decision(later=ContactUnseen(why))
        if record.state is State.GONE:
            return _known(message)
        after = record.brought_by(message).gone(why, view.at, unseen_at=view.at)
        done = Decision(log=("gone", {"lead": record.key, "reason": why}), metric=Metric.LEADS_UNSEEN)
        if record.state is State.CLAIMED:
            return replace(done, undone=Undoing(record, after))
        return replace(done, move=(record, after))

    def _go_on(self, message: Message, record: Record, into: str, view: View) -> Decision:
        """A lead that a merge has taken along comes again under the id that it has now."""
        if record.state is State.CLAIMED:  # and is looked at again right away
            return Decision(undone=Undoing(record, record.waiting("its contact was merged", view.at)))
        on = replace(message, id=into, kinds=(Kind.MERGE,), round=1)
        log = ("merged", {"lead": record.key, "merged_into": into})
        known = record.state is State.NEW or record.merged_into is not None
        return Decision(lead=on, move=None if known else (record, record.merged(into, view.at)), log=log)

    # What can't be decided now

    def _refuse(self, messages: Iterable[Message], why: str) -> Outcome:
        """Give up leads that can't even be decided, with the reason in their records; a claim stands and waits."""
        messages = list(messages)
        records = self.store.records((message.type, message.id) for message in messages)
        at = milliseconds(self.now())
        moves: list[tuple[Record, Record]] = []
        refused: dict[str, str] = {}
        later: dict[str, Unavailable] = {}
        failed: dict[str, Mistake] = {}
        for message in messages:
            try:
                record = records.of(message.id)
            except RecordUnreadable as error:
                failed[message.key] = Mistake(str(error))
                continue
            if record.state is State.CLAIMED:
                later[message.key] = Unavailable(why)
            elif record.may_be_claimed_in(message.round):
                refused[message.key] = why
                if record.state not in ENDED and self.handover.gives_up:
                    moves.append((record, record.brought_by(message).refused(why, at)))
        write_moves(self.store, moves)
        return Outcome(refused, later, failed)

    def _under_way(self, record: Record) -> Unavailable:
        return Unavailable("its claim may be under way", retry_after=self.claimer.left_to(record))


def _is_early(message: Message, view: View) -> bool:
    """Whether HubSpot's reads may still come to agree with what we were told. What no queue brought is always early."""
    return message.received_at is None or view.at < message.received_at + UNSEEN_FOR


def _settles_for(lead: Lead, view: View) -> float:
    """For how many seconds more a new lead waits for what it lacks; 0 or less: for none."""
    settle = view.terms.policy.leads.settle
    if settle is None or lead.message.received_at is None or not lacking(lead, view.terms.policy):
        return 0
    return settle.at_most - (view.at - lead.message.occurred_at) / 1000


def _is_kept(lead: Lead, record: Record, terms: Terms) -> bool:
    """Whether a lead stays its owner's: by the policy, or because somebody has chosen them since we first saw the lead,
    or because the contact is older than what brings it now."""
    if lead.owner is None:
        return False
    return (
        terms.policy.leads.keep_owner or lead.message.is_return or (record.rev > 0 and lead.owner != record.found_owner)
    )


def _known(message: Message, *, to_track: bool = False) -> Decision:
    """The lead is taken care of. But one message tells all that one request says of a record: what it tells besides the
    arrival may be news, and then it is track's."""
    change = message if to_track else None
    return Decision(change=change, log=("known already", {"lead": message.key}))


def _by_rota(candidates: Iterable[Candidate]) -> dict[str, list[Candidate]]:
    rotas: defaultdict[str, list[Candidate]] = defaultdict(list)
    for candidate in candidates:
        rotas[candidate.route.rota].append(candidate)
    return rotas


def _wait(candidate: Candidate, reason: str, at: int) -> Decision:
    """Let a lead wait. For one that waits already, and as before, sweep writes nothing; a message is noted, because it
    may be a dead letter that was redriven."""
    record, routed = candidate.record, candidate.routed
    if record.state is State.WAITING and record.place == routed.place:
        return Decision() if candidate.lead.message.received_at is None else Decision(move=(record, record.touched(at)))
    ids = {"lead": record.key, "rota": routed.rota, "lane": routed.lane, "reason": reason}
    move = (record, routed.waiting(reason, at))
    return Decision(move=move, log=("waiting", ids), metric=Metric.LEADS_WAITING)


def _log(decision: Decision) -> None:
    """Log and count a decision that is done."""
    if decision.log is not None:
        what, ids = decision.log
        logger.info(what, extra=dict(ids))
    if decision.metric is not None:
        count(decision.metric)


def _log_handed(result: HandoverResult) -> None:
    for record in result.handed:
        took = ((record.handed_at or record.changed_at) - record.occurred_at) / 1000
        count(Metric.LEADS_ASSIGNED, rota=record.rota)
        metric = Metric.SECONDS_WAITED if record.waited else Metric.SECONDS_TO_OWNER
        count(metric, took, rota=record.rota, seconds=True)
        ids = {"lead": record.key, "rota": record.rota, "lane": record.lane, "rule": record.rule, "rep": record.rep}
        logger.info("assigned", extra={**ids, "claim": record.claim, "policy": record.policy})
    if result.taken:
        count(Metric.LEADS_TAKEN_BY_OTHERS, len(result.taken))


def _cut(value: str) -> str:
    return value.encode()[:MAX_SHOWN].decode(errors="ignore")
