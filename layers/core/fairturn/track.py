"""Track: what became of a record, seen in HubSpot and followed in the table.

Events come late, twice and in any order, so none of them is believed: each only says which record to look at. The
table is read before HubSpot, and every write is on condition of what was read; so nothing older than what is known
is ever followed, and nothing is done twice, because a record that is in line with HubSpot calls for no move.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from fairturn.brake import count as count_bulk
from fairturn.crm import HISTORY_LIMIT, OwnerWrite
from fairturn.errors import BrakeMoved, Contended, PolicyInvalid, PolicyMissing, RecordsMoved, Unavailable
from fairturn.events import BRINGS, BULK_SOURCES, BY_APP, CONTACT, UNKNOWN_SOURCE, Kind, Message
from fairturn.explain import CHOSEN_BEFORE
from fairturn.handover import write_moves
from fairturn.policy import OWNER, Cleared, Mode, Reached
from fairturn.queues import Letter
from fairturn.record import Move, Record, Seen, State, follow, is_counted, lead_key, milliseconds, move
from fairturn.routing import CLOSED, Ignored, Lead, Route, is_closed, route
from fairturn.telemetry import Metric, count, logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from fairturn.claim import Claims, Undoing
    from fairturn.consumer import Consumer, OpenEnds
    from fairturn.crm import HubSpot, OwnerChange
    from fairturn.queues import Queue, Received
    from fairturn.store import InForce, Store, Terms

ROUNDS: Final = 4
"""How often the records of one batch are looked at anew: they moved meanwhile, or were merged into others."""
BRAKE_ATTEMPTS: Final = 5
ASSIGNED_AT: Final = "hubspot_owner_assigneddate"
"""When somebody last became the record's owner, in HubSpot's own books."""
BY_HAND: Final = frozenset({"CRM_UI", "CRM_UI_BULK_ACTION", "MOBILE_ANDROID", "MOBILE_IOS"})
"""Change sources behind which there is a person."""
EXPOSED_FOR: Final = 20_000
"""Milliseconds before a claim, within which the owner was read; and after the handover, within which HubSpot may still
show the owner from before."""
SHOWN_FOR: Final = 300_000
"""Milliseconds for which HubSpot may still show a record that was deleted; one shown after that was restored."""
SKEW: Final = 5_000
"""Milliseconds by which HubSpot's clock may be ahead of ours."""
KEEPS_OVERWRITING: Final = 2
"""So often in a day, and it is no accident."""
MOST_ROUNDS: Final = 5
"""A lead that has come so often is not allotted again when its owner is taken away."""
HEIRS: Final = (State.HANDED, State.ELSEWHERE, State.WAITING, State.OBSERVED, State.REFUSED, State.CLOSED)
"""Which of the leads that a merge has made one lives on: the first that there is."""


@dataclass(frozen=True, slots=True)
class _Change:
    """All that the messages of a batch say of one record."""

    id: str
    named: frozenset[str]
    """The leads that the messages name; after a merge, by other ids."""
    told: frozenset[tuple[int, Kind, str]]
    """When what happened, and from which source."""
    merged: frozenset[str]
    """The ids that have been merged into this one."""

    @property
    def key(self) -> str:
        return lead_key(CONTACT, self.id)

    @property
    def kinds(self) -> frozenset[Kind]:
        return frozenset(kind for _, kind, _ in self.told)

    @property
    def occurred_at(self) -> int:
        """When the last of it happened, epoch milliseconds."""
        return max(at for at, _, _ in self.told)

    @property
    def source(self) -> str:
        """The source of what brought the record, if that is among it; else rather somebody else's than an app's."""
        _, _, source = max(self.told, key=lambda each: (each[1] in BRINGS, each[2] != BY_APP, *each))
        return source


@dataclass(frozen=True, slots=True)
class _Case:
    """A change, with what the table and HubSpot say of its record."""

    change: _Change
    record: Record | None
    lost: tuple[Record, ...]
    """The records of the ids that have been merged into it, as far as they have not been let go."""
    was_ours: bool
    """Whether a merge took a lead from us before anybody had it."""
    properties: Mapping[str, str | None]
    seen: Seen | None
    """None where HubSpot has no such record."""

    @property
    def keys(self) -> set[str]:
        """The records that it is about."""
        return {self.change.key, *(record.key for record in self.lost)}

    def too_early(self, at: int) -> str | None:
        """Why it is too early to follow what HubSpot shows, if it is: something may be under way."""
        if any(record.state is State.CLAIMED for record in (self.record, *self.lost) if record is not None):
            return "a claim is under way"
        deleted = [when for when, kind, _ in self.change.told if kind is Kind.DELETION]
        if self.seen is not None and deleted and at < max(deleted) + SHOWN_FOR:
            return "HubSpot still shows what was deleted"
        if self.record is None or self.seen is None or self.record.handed_at is None:
            return None
        is_old = self.record.rep != self.seen.owner == self.record.found_owner and not self.seen.closed
        if self.record.state is State.HANDED and is_old and at < self.record.handed_at + EXPOSED_FOR:
            return "HubSpot may not show the new owner yet"
        return None


@dataclass(slots=True)
class _Plan:
    """What is to be done about a batch."""

    cases: list[_Case] = field(default_factory=list)
    touched: set[str] = field(default_factory=set)
    """The records that these are about: each is moved once."""
    again: list[_Change] = field(default_factory=list)
    """Changes whose records are to be looked at anew."""
    moves: list[tuple[Record | None, Record]] = field(default_factory=list)
    merges: list[list[tuple[Record | None, Record]]] = field(default_factory=list)
    """The moves that belong together: a lead's, from one id to another."""
    undone: list[Undoing] = field(default_factory=list)
    """The turns that go back."""
    overwritten: list[_Case] = field(default_factory=list)
    """Leads that were taken from their reps right after the handover, and by no person."""
    suspected: list[_Case] = field(default_factory=list)
    """Leads whose handover may have overwritten somebody's choice."""


class Track:
    """Follows what people, apps and HubSpot itself do with records."""

    def __init__(
        self,
        *,
        store: Store,
        in_force: InForce,
        crm: HubSpot,
        claims: Claims,
        consumer: Consumer,
        leads: Queue,
        now: Callable[[], datetime],
    ) -> None:
        """`leads` takes what has become a lead. `now` is an aware datetime."""
        self._store = store
        self._in_force = in_force
        self._crm = crm
        self._claims = claims
        self._consumer = consumer
        self._leads = leads
        self._now = now

    def take(self, batch: Sequence[Received]) -> list[Received]:
        """Follow what became of each message's record; returns the messages that must stay in the queue."""
        return self._consumer.take(batch, self._settle)

    def _settle(self, messages: Sequence[Message], open_ends: OpenEnds) -> None:
        changes = _gathered(_told(message) for message in messages)
        try:
            for _ in range(ROUNDS):
                if not changes:
                    return
                changes = _gathered(self._round(changes, open_ends))
        except (PolicyMissing, PolicyInvalid) as error:
            count(Metric.POLICY_MISSING)
            logger.error("no policy to decide by", extra={"reason": str(error)})
            open_ends.refused |= {lead: str(error) for change in changes for lead in change.named}
            return
        for change in changes:
            _put_off(change, Contended("the record kept moving"), open_ends)

    def _round(self, changes: Sequence[_Change], open_ends: OpenEnds) -> list[_Change]:
        """Look at each record once and follow it. Returns the changes to be looked at again."""
        terms = self._in_force.current()
        plan = _Plan()
        for case in self._look(changes, terms, plan, open_ends):
            if (why := case.too_early(milliseconds(self._now()))) is not None:
                _put_off(case.change, Unavailable(why), open_ends)
            elif plan.touched.isdisjoint(case.keys):
                plan.cases.append(case)
                plan.touched |= case.keys
                self._judge(case, terms, plan)
            else:
                plan.again.append(case.change)
        histories = self._histories(plan, open_ends)
        self._restore(plan, histories, open_ends)
        written = self._write(plan)
        self._name_overwriters(plan, histories, written)
        followed = [case for case in plan.cases if case.change not in plan.again]
        self._pass_on(followed, written, terms)
        return plan.again

    # What there is

    def _look(self, changes: Sequence[_Change], terms: Terms, plan: _Plan, open_ends: OpenEnds) -> Iterator[_Case]:
        """Read the table, then HubSpot."""
        ids = sorted({record for change in changes for record in (change.id, *change.merged)})
        records = self._store.records((CONTACT, record) for record in ids)
        wanted = [*terms.policy.properties(), ASSIGNED_AT]
        found = self._crm.read(CONTACT, [change.id for change in changes], wanted)
        for change in changes:
            if change.id in found.unreadable:
                _put_off(change, found.unreadable[change.id], open_ends)
            elif change.id in found.merged:
                plan.again.append(replace(change, id=found.merged[change.id], merged=change.merged | {change.id}))
            else:
                merged = [records[key] for id_ in sorted(change.merged) if (key := lead_key(CONTACT, id_)) in records]
                gone = [record for record in merged if record.state is State.GONE]
                yield _Case(
                    change,
                    records.get(change.key),
                    lost=tuple(record for record in merged if record.merged_into is None),
                    was_ours=any(record.merged_into in {None, change.id} for record in gone),
                    properties=found.records.get(change.id, {}),
                    seen=_seen(change, found.records.get(change.id), terms),
                )

    # What is to be done

    def _judge(self, case: _Case, terms: Terms, plan: _Plan) -> None:
        """Plan how the record follows."""
        record, what = case.record, follow(case.record, case.seen)
        if case.lost:
            self._merge(case, terms, plan)
        elif what is None:
            if record is not None and _may_have_overwritten(record, case):
                plan.suspected.append(case)
            if record is None and _would_be_a_lead(case, terms):
                plan.moves.append((None, self._moved(None, Move.CLOSE, case)))
        elif not _is_ours_to_follow(record, what, terms):
            logger.info("not followed", extra={"lead": case.change.key, "move": what})
        elif record is not None and what is Move.LEAVE and self._is_regretted(record, case, terms):
            plan.undone.append((record, what, _facts(what, case)))
            if any(source not in BY_HAND for _, _, source in case.change.told):
                plan.overwritten.append(case)
        else:
            plan.moves.append((record, self._moved(record, what, case)))

    def _is_regretted(self, record: Record, case: _Case, terms: Terms) -> bool:
        """Whether somebody else changed the owner so soon after the handover that the rep's turn goes back."""
        if record.state is not State.HANDED or record.claim is None or record.handed_at is None:
            return False
        until = record.handed_at + terms.policy.leads.regret * 60_000
        if milliseconds(self._now()) <= until:
            return True
        if case.seen is not None and case.seen.owner is not None:
            assigned_at = _moment(case.properties.get(ASSIGNED_AT))
            return assigned_at is not None and assigned_at <= until
        return record.handed_at < case.change.occurred_at <= until

    def _merge(self, case: _Case, terms: Terms, plan: _Plan) -> None:
        """One of the leads lives on under the id that HubSpot answers to, the others end."""
        at, id_ = milliseconds(self._now()), case.change.id
        heir = _heir(case) if case.record is None and case.seen is not None else None
        facts = {"merged_into": id_, "reason": "merged"}
        plan.moves += [(record, move(record, Move.LOSE, at, **facts)) for record in case.lost if record is not heir]
        base = case.record
        if heir is not None:
            booked_as = None if heir.claim is None else heir.booking[0]
            base = replace(heir, id=id_, rev=0, booked_as=booked_as)
        what = follow(base, case.seen)
        after = None
        if what is not None and _is_ours_to_follow(base, what, terms):
            after = self._moved(base, what, case)
        elif base is not None and heir is not None:
            after = replace(base, rev=1, changed_at=at)
        if after is not None and heir is not None:
            plan.merges.append([(None, after), (heir, move(heir, Move.LOSE, at, **facts, claim=None))])
        elif after is not None:
            plan.moves.append((case.record, after))

    def _moved(self, record: Record | None, what: Move, case: _Case) -> Record:
        facts = _facts(what, case)
        if record is None:
            change = case.change
            source = change.source if change.kinds & BRINGS else ""  # who changes a record didn't bring it
            facts |= {"type": CONTACT, "id": change.id, "occurred_at": change.occurred_at, "source": source}
        return move(record, what, milliseconds(self._now()), **facts)

    # What is done

    def _write(self, plan: _Plan) -> dict[str, Record]:
        """Make the moves; what could not be made because a record had moved is planned again. Returns the records as
        written."""
        written = [*self._claims.undo(plan.undone), *write_moves(self._store, plan.moves)]
        missed = {record.key for record, *_ in plan.undone} - {record.key for record in written}
        missed |= {record.key for _, record in plan.moves if record not in written}
        for moves in plan.merges:
            try:
                self._store.move(moves)
            except RecordsMoved:
                missed |= {record.key for _, record in moves}
            else:
                written += [record for _, record in moves]
        by_key = {record.key: record for record in written}
        for case in plan.cases:
            if not missed.isdisjoint(case.keys):
                plan.again.append(case.change)
            elif case.change.key in by_key:
                self._tell(case, by_key[case.change.key])
        return by_key

    @staticmethod
    def _tell(case: _Case, after: Record) -> None:
        before = case.record.state if case.record is not None else None
        ids = {"lead": after.key, "before": before, "state": after.state, "rep": after.rep, "reason": after.reason}
        logger.info("followed", extra=ids | {"merged": sorted(case.change.merged)})
        count(Metric.RECORDS_FOLLOWED)
        if after.state is State.ELSEWHERE and after.rep is None:
            count(Metric.LEADS_UNOWNED)

    # Nobody fights a person

    def _histories(self, plan: _Plan, open_ends: OpenEnds) -> Mapping[str, Sequence[OwnerChange]]:
        """Read who chose the owners of the few leads where that matters."""
        for case in plan.suspected[HISTORY_LIMIT:]:
            _put_off(case.change, Unavailable("too many histories at once"), open_ends)
        del plan.suspected[HISTORY_LIMIT:]
        ids = [case.change.id for case in [*plan.suspected, *plan.overwritten]][:HISTORY_LIMIT]
        return self._crm.owner_histories(CONTACT, ids) if ids else {}

    def _restore(self, plan: _Plan, histories: Mapping[str, Sequence[OwnerChange]], open_ends: OpenEnds) -> None:
        """Give owners back who were chosen between our reading and our writing of the owner.

        Only once: from then on the record says that the owner is somebody else's choice. HubSpot is told first, so
        that whoever takes over after a crash finds the choice restored, and follows it.
        """
        choices: dict[str, tuple[_Case, Record, str]] = {}
        for case in plan.suspected:
            record, history = case.record, histories.get(case.change.id, ())
            if record is not None and (chosen := _overwritten_choice(record, history)) is not None:
                choices[case.change.id] = (case, record, chosen)
        if not choices:
            return
        writes = [OwnerWrite(id_, chosen, CHOSEN_BEFORE) for id_, (_, _, chosen) in choices.items()]
        result = self._crm.write_owners(CONTACT, writes)
        for id_, (case, record, chosen) in choices.items():
            if id_ in result.put_off:
                _put_off(case.change, result.put_off[id_], open_ends)
            elif id_ in result.refused:
                logger.error("a choice is not restored", extra={"lead": record.key, "reason": result.refused[id_][1]})
            else:
                count(Metric.CHOICES_RESTORED)
                logger.info("a choice is restored", extra={"lead": record.key, "rep": record.rep, "owner": chosen})
                plan.undone.append((record, Move.LEAVE, {"rep": chosen, "reason": "somebody had chosen before us"}))

    def _name_overwriters(
        self, plan: _Plan, histories: Mapping[str, Sequence[OwnerChange]], written: Mapping[str, Record]
    ) -> None:
        """Raise the alarm about workflows and apps that keep taking leads from the reps that we chose."""
        for case in plan.overwritten:
            if case.change.key not in written:
                continue
            latest = next(iter(histories.get(case.change.id, ())), None)
            if latest is None or latest.source in BY_HAND:
                continue
            source = f"{latest.source} {latest.by or ''}".strip()
            times = self._store.note_overwrite(source, milliseconds(self._now()))
            if times >= KEEPS_OVERWRITING:
                count(Metric.OWNERS_OVERWRITTEN)
                logger.error(
                    "owners are overwritten again and again: look for the workflow or app",
                    extra={"lead": case.change.key, "source": source, "times_today": times},
                )

    # What has become a lead

    def _pass_on(self, cases: Sequence[_Case], written: Mapping[str, Record], terms: Terms) -> None:
        """Send what the policy makes a lead to the leads queue; hold the bulk sources back when they flood us."""
        found: list[tuple[_Case, Record | None, Message]] = []
        for case in cases:
            record = written.get(case.change.key, case.record)
            if _wants_an_owner(case, record, terms):
                message = _message(case.change, record)
                lead = Lead(CONTACT, message.id, case.properties, message.change_source, message.occurred_at)
                decision = route(lead, terms.policy)
                if _is_news(record, decision):
                    found.append((case, record, message))
        bulk = [each for each in found if each[2].change_source in BULK_SOURCES]
        if bulk and self._is_flooded(len(bulk), terms):
            write_moves(self._store, [self._held_back(*each) for each in bulk])
            found = [each for each in found if each not in bulk]
        if found:
            count(Metric.LEADS_PASSED_ON, len(found))
            logger.info("passed on", extra={"leads": [message.key for *_, message in found]})
            self._leads.send([Letter(message.body()) for *_, message in found])

    def _is_flooded(self, leads: int, terms: Terms) -> bool:
        """Count leads from bulk sources; tells whether they are too many, these included."""
        for _ in range(BRAKE_ATTEMPTS):
            brake = self._store.brake()
            after = count_bulk(brake, leads, milliseconds(self._now()), terms.policy.flood, terms.number)
            if after is brake:
                return True
            try:
                self._store.put_brake(brake, after)
            except BrakeMoved:
                continue
            if after.pulled(terms.number):
                count(Metric.BULK_PAUSED)
                logger.error(
                    "bulk sources are paused until a policy is applied",
                    extra={"leads": leads + sum(brake.minutes.values()), "policy": terms.number},
                )
            return after.pulled(terms.number)
        raise Contended("the brake kept moving")

    def _held_back(self, case: _Case, record: Record | None, message: Message) -> tuple[Record | None, Record]:
        facts: dict[str, Any] = {
            "type": message.type,
            "id": message.id,
            "occurred_at": message.occurred_at,
            "source": message.change_source,
            "found_owner": None if case.seen is None else case.seen.owner,
            "reason": "too many leads from bulk sources",
        }
        facts |= dict.fromkeys(("rep", "rota", "lane", "priority", "rule"))
        logger.info("held back", extra={"lead": message.key, "source": message.change_source})
        return record, move(record, Move.WAIT, milliseconds(self._now()), **facts)


def _told(message: Message) -> _Change:
    return _Change(
        id=message.id,
        named=frozenset({message.key}),
        told=frozenset((message.occurred_at, kind, message.change_source) for kind in message.kinds),
        merged=frozenset(message.merged),
    )


def _gathered(changes: Iterable[_Change]) -> list[_Change]:
    """One change for each record, oldest first."""
    by_id: defaultdict[str, list[_Change]] = defaultdict(list)
    for change in changes:
        by_id[change.id].append(change)
    gathered = []
    for id_, same in by_id.items():
        told = frozenset[tuple[int, Kind, str]]().union(*(change.told for change in same))
        named = frozenset[str]().union(*(change.named for change in same))
        merged = frozenset[str]().union(*(change.merged for change in same)) - {id_}
        gathered.append(_Change(id_, named, told, merged))
    return sorted(gathered, key=lambda change: (change.occurred_at, int(change.id)))


def _seen(change: _Change, properties: Mapping[str, str | None] | None, terms: Terms) -> Seen | None:
    """What HubSpot shows; of somebody who was erased that is nothing, however long it takes until it does."""
    if properties is None or Kind.PRIVACY_DELETION in change.kinds:
        return None
    return Seen(properties.get(OWNER) or None, is_closed(properties, terms.policy))


def _put_off(change: _Change, why: Unavailable, open_ends: OpenEnds) -> None:
    open_ends.later |= dict.fromkeys(change.named, why)


def _facts(what: Move, case: _Case) -> dict[str, Any]:
    """What a record notes of a move."""
    if what is Move.LOSE:
        return {"reason": "gone from HubSpot"}
    if what is Move.CLOSE or case.seen is None:
        return {"reason": None}
    owner = case.seen.owner
    return {"rep": owner, "reason": "the owner was taken away" if owner is None else "somebody else chose the owner"}


def _is_ours_to_follow(record: Record | None, what: Move, terms: Terms) -> bool:
    """Whether a move is to be written.

    In `observe` nothing is counted that was not counted before. And where owners are not kept, the owner of a record
    that we don't know says nothing: it may be a lead that has yet to be assigned.
    """
    if what is Move.LOSE or is_counted(record):
        return True
    if terms.policy.mode is Mode.OBSERVE:
        return False
    return record is not None or terms.policy.leads.keep_owner


def _would_be_a_lead(case: _Case, terms: Terms) -> bool:
    """Whether a record that comes to us closed is to be noted, so that its reopening is noticed."""
    change = case.change
    if case.seen is None or not case.seen.closed or terms.policy.mode is Mode.OBSERVE or not change.kinds & BRINGS:
        return False
    decision = route(Lead(CONTACT, change.id, case.properties, change.source, change.occurred_at), terms.policy)
    return isinstance(decision, Ignored) and decision.reason == CLOSED


def _may_have_overwritten(record: Record, case: _Case) -> bool:
    """Whether somebody else did something to the record while we were handing it over."""
    return record.state is State.HANDED and any(
        source != BY_APP and at > record.occurred_at and _is_at_handover(record, at)
        for at, _, source in case.change.told
    )


def _is_at_handover(record: Record, at: int) -> bool:
    """Whether a moment of HubSpot's lies between our reading of the owner and our noting of the handover, which may
    have taken more than one try."""
    if record.claimed_at is None or record.handed_at is None:
        return False
    return record.claimed_at - EXPOSED_FOR <= at <= record.handed_at + SKEW


def _overwritten_choice(record: Record, history: Sequence[OwnerChange]) -> str | None:
    """The owner whom somebody chose right before our own writing, if there is one and ours is the last word.

    When we read the owner it was nobody or the one that was found; so whoever else stands before us came meanwhile.
    """
    if len(history) < 2:
        return None
    ours, before = history[:2]
    if ours.source != BY_APP or ours.owner != record.rep or not _is_at_handover(record, ours.at):
        return None
    if before.owner in {None, record.found_owner, record.rep} or not _is_at_handover(record, before.at):
        return None
    return before.owner


def _heir(case: _Case) -> Record | None:
    """The record of the lead that lives on after a merge: the owner's own first."""
    owner = None if case.seen is None else case.seen.owner
    alive = [record for record in case.lost if record.state in HEIRS]
    return min(
        alive,
        key=lambda record: (record.rep != owner, HEIRS.index(record.state), record.occurred_at, record.key),
        default=None,
    )


def _wants_an_owner(case: _Case, record: Record | None, terms: Terms) -> bool:
    """Whether a record has become a lead that somebody should get, if the rules say so as well."""
    leads, change = terms.policy.leads, case.change
    if case.seen is None or case.seen.closed:
        return False
    if record is None:
        is_new = bool(change.kinds & BRINGS) or isinstance(leads.when, Reached) or case.was_ours
        return is_new and (case.seen.owner is None or not leads.keep_owner)
    if record.state is State.WAITING:
        return record.rota is not None  # what is held back is the sweep's
    if case.seen.owner is not None:
        return False
    if record.state is State.ELSEWHERE:
        return leads.cleared is Cleared.ALLOT_AGAIN and record.round < MOST_ROUNDS
    return record.state in {State.CLOSED, State.GONE}


def _is_news(record: Record | None, decision: Route | Ignored) -> bool:
    """Whether what the rules say of a record now is something that assign has not acted on."""
    if record is not None and record.state is State.WAITING:
        return isinstance(decision, Ignored) or (record.rota, record.lane) != (decision.rota, decision.lane)
    return isinstance(decision, Route)


def _message(change: _Change, record: Record | None) -> Message:
    """The message that brings a lead to assign. A lead that we know keeps the source that first brought it. It is
    later than what ended it, because it was seen after that; and one that waits keeps its place."""
    occurred_at, source = change.occurred_at, change.source
    if record is not None:
        waits = record.state is State.WAITING
        occurred_at = record.occurred_at if waits else max(occurred_at, record.changed_at + 1)
        source = record.source or UNKNOWN_SOURCE
    return Message(id=change.id, kinds=tuple(sorted(change.kinds)), occurred_at=occurred_at, change_source=source)


def _moment(text: str | None) -> int | None:
    """Epoch milliseconds of a time as HubSpot writes it."""
    try:
        return milliseconds(datetime.fromisoformat(text or ""))
    except ValueError:
        return None
