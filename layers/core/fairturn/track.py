"""Track: what became of a record, seen in HubSpot and followed in the table.

Events come late, twice and in any order, so none of them is believed: each only says which record to look at. Nor is
any single reading of HubSpot's: it may be old, or lack what is there. So the table is read before HubSpot, every write
is on condition of what was read, and nothing is concluded from a reading that may be older than what is known.
What only an event can tell (a merge, a deletion, a restore, an erasure) goes by HubSpot's own times, in any order.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from fairturn.edges.hubspot.answers import ASSIGNED_AT, moment
from fairturn.edges.hubspot.client import HISTORY_LIMIT, OwnerWrite
from fairturn.edges.queues import Letter
from fairturn.edges.refusals import BrakeMoved, RecordsMoved
from fairturn.edges.store import MAX_RECORDS
from fairturn.errors import (
    ContactUnseen,
    Contended,
    HubSpotUnavailable,
    Mistake,
    PolicyInvalid,
    PolicyMissing,
    RecordUnreadable,
    Unavailable,
)
from fairturn.rules.brake import count as count_bulk
from fairturn.rules.conditions import Reached
from fairturn.rules.events import (
    BRINGS,
    BULK_SOURCES,
    BY_APP,
    CONTACT,
    UNKNOWN_SOURCE,
    Kind,
    Message,
    brings_back,
    lead_key,
)
from fairturn.rules.explain import CHOSEN_BEFORE
from fairturn.rules.policy import OWNER, Cleared, Mode
from fairturn.rules.record import (
    ENDED,
    KEPT_FOR,
    MOST_UNSEEN,
    READS_LAG,
    UNSEEN_FOR,
    Record,
    Seen,
    State,
    follow,
    milliseconds,
)
from fairturn.rules.routing import Ignored, Lead, Route, is_closed, route
from fairturn.steps.claim import Undoing
from fairturn.steps.consumer import Settled
from fairturn.steps.moves import write_moves
from fairturn.telemetry import Metric, count, logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import datetime

    from fairturn.deadline import Deadline
    from fairturn.edges.hubspot.answers import OwnerChange
    from fairturn.edges.hubspot.client import HubSpot
    from fairturn.edges.in_force import InForce
    from fairturn.edges.queues import Queue
    from fairturn.edges.store import Store
    from fairturn.rules.record import Records
    from fairturn.rules.terms import Terms
    from fairturn.steps.claim import Claims

ROUNDS: Final = 4
"""How often the records of one batch are looked at anew: they moved meanwhile, or were merged into others."""
BRAKE_ATTEMPTS: Final = 5
BACK_WITHIN: Final = KEPT_FOR * 1000
"""Milliseconds after the handover for which a turn can go back: by far more than any message lives, and less than the
journal of its claim does, which takes 150 days at least."""
BY_HAND: Final = frozenset({"CRM_UI", "CRM_UI_BULK_ACTION", "MOBILE_ANDROID", "MOBILE_IOS"})
"""Change sources behind which there is a person."""
EXPOSED_FOR: Final = READS_LAG + 10_000
"""Milliseconds before a claim within which somebody may have chosen an owner whom our reading did not show yet."""
SKEW: Final = 5_000
"""Milliseconds by which HubSpot's clock may be ahead of ours."""
KEEPS_OVERWRITING: Final = 2
"""So often in a day, and it is no accident."""
MOST_ROUNDS: Final = 5
"""A lead that has come so often is not allotted again when its owner is taken away."""
HEIRS: Final = (
    State.HANDED,
    State.ELSEWHERE,
    State.WAITING,
    State.OBSERVED,
    State.REFUSED,
    State.UNOWNED,
    State.CLOSED,
)
"""Which of the leads that a merge has made one lives on: the first that there is."""


@dataclass(frozen=True, slots=True)
class Change:
    """All that the messages of a batch say of one record."""

    id: str
    named: frozenset[str]
    """The leads that the messages name; after a merge, by other ids."""
    told: frozenset[tuple[int, Kind, str]]
    """When what happened, and from which source."""
    merged: frozenset[str]
    """The ids that have been merged into this one."""
    received_at: int | None
    """When the first of the messages was first received, epoch milliseconds."""
    echoed: frozenset[str | None] = frozenset({None})
    """The owners that were written with our own token; with None among them if anything else happened."""

    @property
    def key(self) -> str:
        """The record's name."""
        return lead_key(CONTACT, self.id)

    @property
    def kinds(self) -> frozenset[Kind]:
        """Everything that happened."""
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

    @property
    def keys(self) -> set[str]:
        """The names of all that it is about."""
        return {lead_key(CONTACT, record) for record in (self.id, *self.merged)}

    @property
    def is_erasure(self) -> bool:
        """Whether the person asked to be forgotten: then nothing else matters."""
        return Kind.PRIVACY_DELETION in self.kinds

    @property
    def forgets(self) -> bool:
        """Whether something is to be forgotten at once."""
        return self.is_erasure or Kind.DELETION in self.kinds

    @property
    def returns(self) -> bool:
        """Whether it brings a contact that may be older, rather than a new one."""
        return bool(self.merged) or brings_back(self.kinds)

    def is_echo_of(self, record: Record | None) -> bool:
        """Whether all that is told is our own handover of this record: then HubSpot has nothing to tell of it."""
        if record is None or record.state not in {State.CLAIMED, State.HANDED}:
            return False
        return self.echoed == {record.rep}

    def under(self, id: str) -> Change:  # noqa: A002 - HubSpot's word
        """The same, after a merge, of the record that has this id. What ended or restored the old id did not happen to
        that one."""
        ended = {Kind.DELETION, Kind.RESTORE}
        told = frozenset((at, Kind.MERGE if kind in ended else kind, source) for at, kind, source in self.told)
        return replace(self, id=id, told=told, merged=self.merged | {self.id}, echoed=frozenset({None}))

    def last(self, kind: Kind) -> int:
        """When something of this kind happened last, epoch milliseconds; 0: it did not."""
        return max((at for at, each, _ in self.told if each is kind), default=0)


@dataclass(frozen=True, slots=True)
class Case:
    """A change, with what the table and HubSpot say of its record."""

    change: Change
    stored: Record
    lost: tuple[Record, ...]
    """The records of the ids that have been merged into it, as far as that is not written down."""
    was_ours: bool
    """Whether a merge took a lead along that nobody had yet."""
    properties: Mapping[str, str | None]
    seen: Seen | None
    """None where HubSpot shows no such record."""
    at: int
    """When HubSpot was asked, epoch milliseconds."""

    @property
    def record(self) -> Record:
        """The record, with when the contact was deleted and restored, as far as anything told."""
        change = self.change
        return self.stored.told(deleted_at=change.last(Kind.DELETION), restored_at=change.last(Kind.RESTORE))

    @property
    def records(self) -> tuple[Record, ...]:
        """All that it is about."""
        return (self.record, *self.lost)

    @property
    def is_explained(self) -> bool:
        """Whether something tells why HubSpot shows no such record."""
        return self.record.is_deleted(0) or self.record.state is State.ERASED

    @property
    def is_young(self) -> bool:
        """Whether a record has changed so lately that the reading may be older."""
        return self.at < max(record.changed_at for record in self.records) + READS_LAG

    @property
    def is_fresh(self) -> bool:
        """Whether what is told happened so lately that the reading may be older. One that shows the contact is not
        older than its creation."""
        return self.change.kinds != {Kind.CREATION} and self.at < self.change.occurred_at + READS_LAG

    def lead(self, message: Message) -> Lead:
        """The record as a lead that this message brings."""
        return Lead(message, self.properties)


@dataclass(frozen=True, slots=True)
class Step:
    """What is to be done about one record; most of it is left out, as a rule."""

    case: Case
    moves: Sequence[tuple[Record, Record]] = ()
    """The moves of records, each for itself."""
    inheritance: Sequence[tuple[Record, Record]] = ()
    """The moves of a lead from one id to another, which belong together."""
    undone: Sequence[Undoing] = ()
    """The moves with which turns go back, or would."""
    is_overwritten: bool = False
    """The lead was taken from its rep right after the handover, and by no person."""
    is_suspected: bool = False
    """Our handover may have overwritten somebody's choice."""
    later: Unavailable | None = None
    """Now is too early."""
    again: Unavailable | None = None
    """It is done, and to be looked at once more."""

    @property
    def keys(self) -> set[str]:
        """The records that it moves."""
        moved = {after.key for _, after in (*self.moves, *self.inheritance)}
        return moved | {each.record.key for each in self.undone}


@dataclass(frozen=True, slots=True)
class Track:
    """Follows what people, apps and HubSpot itself do with records."""

    store: Store
    in_force: InForce
    crm: HubSpot
    claims: Claims
    leads: Queue
    """Takes what has become a lead."""
    bulk: Queue
    """Takes those of bulk sources."""
    now: Callable[[], datetime]
    """An aware datetime."""

    def settle(self, messages: Sequence[Message], deadline: Deadline) -> Settled:
        """Follow what became of each message's record, at most 100. To forget who was erased or deleted takes neither
        HubSpot nor a policy. Raises Unavailable."""
        settled, changes = self._forget(_gathered(_told(message) for message in messages))
        try:
            for _ in range(ROUNDS):
                if not changes:
                    return settled
                part, again = self._round(changes, deadline)
                settled |= part
                changes = _gathered(again)
        except (PolicyMissing, PolicyInvalid) as error:
            count(Metric.POLICY_MISSING)
            logger.error("no policy to decide by", extra={"reason": str(error)})
            return settled | Settled(refused={lead: str(error) for change in changes for lead in change.named})
        return settled | _put_off(changes, Contended("the record kept moving"))

    def _round(self, changes: Sequence[Change], deadline: Deadline) -> tuple[Settled, list[Change]]:
        """Look at each record once and follow it. Gives also the changes to be looked at again."""
        terms = self.in_force.current()
        cases, again, settled = self._look(changes, terms, deadline)
        steps: list[Step] = []
        touched: set[str] = set()
        for case in cases:
            keys = {record.key for record in case.records}
            if not touched.isdisjoint(keys):  # each record is moved once
                again.append(case.change)
                continue
            touched |= keys
            step = self._step(case, terms)
            if step.later is None:
                steps.append(step)
            if (why := step.later or step.again) is not None:
                settled |= _put_off([case.change], why)
        histories, late = self._histories(steps, deadline)
        steps, not_restored = self._restore([step for step in steps if step not in late], histories, deadline)
        settled |= _put_off([step.case.change for step in late], Unavailable("too many histories at once"))
        written = self._write(steps)
        done = [step for step in steps if step.keys <= written.keys()]
        for step in done:
            _tell(step, written)
        self._name_overwriters(done, histories)
        self._pass_on(done, written, terms)
        missed = [step.case.change for step in steps if not step.keys <= written.keys()]
        return settled | not_restored, [*again, *missed]

    # What is forgotten at once

    def _forget(self, changes: Sequence[Change]) -> tuple[Settled, list[Change]]:
        """Erase who is to be erased, and drop all values of who was deleted. Gives also the changes that are still to
        be looked at: whether a deleted contact is gone is HubSpot's to say, because it may have been restored."""
        settled, left = Settled(), [change for change in changes if change.forgets]
        for _ in range(ROUNDS):
            if not left:
                break
            part, left = self._forget_once(left)
            settled |= part
        settled |= _put_off(left, Contended("the record kept moving"))
        held_up = settled.later.keys() | settled.failed.keys()
        others = [each for each in changes if not (each.is_erasure or each.named & held_up)]
        return settled, others

    def _forget_once(self, changes: Sequence[Change]) -> tuple[Settled, list[Change]]:
        """Do it once; gives also the changes whose records have moved meanwhile."""
        ids = {record for change in changes for record in (change.id, *change.merged)}
        records = self.store.records((CONTACT, record) for record in sorted(ids))
        settled = Settled()
        moves: dict[str, tuple[Record, Record]] = {}
        for change in changes:
            try:
                own = [records.of(record) for record in (change.id, *sorted(change.merged))]
            except RecordUnreadable as error:
                settled |= Settled(failed=dict.fromkeys(change.named, Mistake(str(error))))
                continue
            if change.is_erasure and any(each.state is State.CLAIMED and self.claims.left_to(each) > 0 for each in own):
                settled |= _put_off([change], Unavailable("a claim is under way"))
                continue
            moves |= {each.key: (each, after) for each in own if (after := self._forgotten(change, each)) is not None}
        claimed = [Undoing(*pair) for pair in moves.values() if pair[0].state is State.CLAIMED]
        others = [pair for pair in moves.values() if pair[0].state is not State.CLAIMED]
        written = {record.key for record in (*self.claims.undo(claimed), *write_moves(self.store, others))}
        for key in sorted(written):
            logger.info("forgotten", extra={"lead": key, "state": moves[key][1].state})
        missed = moves.keys() - written
        return settled, [each for each in changes if each.keys & missed]

    def _forgotten(self, change: Change, record: Record) -> Record | None:
        """The record as it is to be written; None if there is nothing to forget. What is claimed keeps its values until
        its claim has come to its end, and track looks at it then."""
        at = milliseconds(self.now())
        if change.is_erasure:
            return None if record.state is State.ERASED else record.erased(at)
        if record.state is State.CLAIMED or record == record.emptied():
            return None
        return record.emptied().noted(at)

    # What there is

    def _look(
        self, changes: Sequence[Change], terms: Terms, deadline: Deadline
    ) -> tuple[list[Case], list[Change], Settled]:
        """Read the table, then HubSpot. Gives the cases, the changes to be looked at under another id, and those of
        which nothing can be said."""
        ids = sorted({record for change in changes for record in (change.id, *change.merged)})
        records = self.store.records((CONTACT, record) for record in ids)
        # Only the table tells an echo: others may write with our token, and a write that we gave up may come late.
        changes = [change for change in changes if not change.is_echo_of(records.known.get(change.key))]
        at = milliseconds(self.now())
        wanted = [*terms.policy.properties(), ASSIGNED_AT]
        found = self.crm.read(CONTACT, [change.id for change in changes], wanted, deadline)
        cases: list[Case] = []
        again: list[Change] = []
        settled = Settled()
        for change in changes:
            stored = records.known.get(change.key)
            if change.id in found.unreadable:
                settled |= _put_off([change], found.unreadable[change.id])
            elif into := found.merged.get(change.id) or (stored and stored.merged_into):
                again.append(change.under(into))
            else:
                try:
                    cases.append(_case(change, records, found.records.get(change.id), terms, at))
                except RecordUnreadable as error:
                    settled |= Settled(failed=dict.fromkeys(change.named, Mistake(str(error))))
        unexplained = [case for case in cases if case.seen is None and not case.is_explained]
        if not found.records and len(unexplained) > MOST_UNSEEN:
            raise HubSpotUnavailable(f"HubSpot shows none of {len(changes)} contacts")
        return cases, again, settled

    # What is to be done about one record

    def _step(self, case: Case, terms: Terms) -> Step:
        """Judge a record by what the table, HubSpot and the events say of it."""
        record, at = case.record, milliseconds(self.now())
        if any(each.state is State.CLAIMED and self.claims.left_to(each) > 0 for each in case.records):
            return Step(case, later=Unavailable("a claim is under way"))
        if record.state is State.ERASED:
            return _ending(case, None, at)
        if record.is_deleted(0) and case.seen is None:
            known = record.state is State.GONE and case.stored == record
            return _ending(case, None if known else record.gone("deleted", at), at)
        if record.is_deleted(0) and case.at < record.deleted_at + READS_LAG:
            return Step(case, later=HubSpotUnavailable("HubSpot still shows what was deleted"))
        if case.seen is None:
            return self._missing(case, terms, at)
        if any(each.state is State.CLAIMED for each in case.records):
            return Step(case, later=Unavailable("a claim is to be handed over first"))
        if case.lost and (case.is_fresh or case.is_young):
            return Step(case, later=HubSpotUnavailable("HubSpot may not show yet what was merged"))
        if case.lost:
            return self._merge(case, terms, at)
        return self._follow(case, case.seen, terms, at)

    def _follow(self, case: Case, seen: Seen, terms: Terms, at: int) -> Step:
        """The record comes in line with what HubSpot shows, unless the reading may be older than what is known."""
        record, after = case.record, follow(case.record, seen, at)
        wanted = _wants_an_owner(case, record, terms)
        if record.rev and case.is_young and (after is not None or record.state in {State.CLOSED, State.GONE}):
            return Step(case, later=HubSpotUnavailable("HubSpot may show the record as it was before"))
        if after is None and not wanted and (case.is_fresh or (record.rev and case.is_young)):
            return Step(case, later=HubSpotUnavailable("HubSpot may not show yet what has happened"))
        # What it shows is news, and yet it may not show all that is told.
        again = HubSpotUnavailable("HubSpot may not show yet all that has happened") if case.is_fresh else None
        if after is None:
            # A message tells assign of the restore, but none goes out for a lead that waits where it should.
            moves = [] if wanted and record.state is not State.WAITING else self._noted(case, terms, at)
            return Step(case, moves, is_suspected=_may_have_overwritten(case), again=again)
        if not _is_ours_to_follow(case, record, terms):
            logger.info("not followed", extra={"lead": record.key, "state": after.state})
            return Step(case, again=again)
        if after.state in {State.ELSEWHERE, State.UNOWNED} and self._is_regretted(case, seen, terms):
            by_app = any(source not in BY_HAND for _, _, source in case.change.told)
            undone = [Undoing(record, after, is_regret=True)]
            return Step(case, undone=undone, is_overwritten=by_app, again=again)
        return Step(case, [(record, _brought(case, after))], again=again)

    def _noted(self, case: Case, terms: Terms, at: int) -> list[tuple[Record, Record]]:
        """What is written down though nothing moves: a contact that comes to us closed, so that its reopening is
        noticed; and when the contact was restored, so that an older deletion is not believed later."""
        record = case.record
        if _would_be_a_lead(case, terms):
            return [(record, _brought(case, record.closed(None, at)))]
        if record.is_deleted(0):  # it was shown long after that, so it was restored
            record = record.told(restored_at=record.deleted_at + 1)
        is_news = (record.deleted_at, record.restored_at) != (case.stored.deleted_at, case.stored.restored_at)
        return [(record, record.noted(at))] if is_news and record.rev else []

    def _is_regretted(self, case: Case, seen: Seen, terms: Terms) -> bool:
        """Whether somebody else changed the owner so soon after the handover that the rep's turn goes back."""
        record = case.record
        if record.state is not State.HANDED or record.claim is None or record.handed_at is None:
            return False
        if milliseconds(self.now()) > record.handed_at + BACK_WITHIN:
            return False
        until = record.handed_at + terms.policy.leads.regret * 60_000
        if milliseconds(self.now()) <= until:
            return True
        if seen.owner is not None:
            assigned_at = moment(case.properties.get(ASSIGNED_AT))
            return assigned_at is not None and assigned_at <= until
        return record.handed_at < case.change.occurred_at <= until

    def _missing(self, case: Case, terms: Terms, at: int) -> Step:
        """HubSpot does not show a record, and nothing says that it was deleted: it is never let go for that. What was
        merged into it lives on there all the same."""
        received_at = case.change.received_at
        if received_at is None or case.at < received_at + UNSEEN_FOR:
            return Step(case, later=ContactUnseen("HubSpot does not show the contact"))
        count(Metric.CHANGES_UNSEEN)
        logger.warning("not shown by HubSpot, so not followed", extra={"lead": case.change.key})
        if any(each.state is State.CLAIMED for each in case.lost):
            return Step(case, later=Unavailable("a claim is to be handed over first"))
        if case.lost:
            return self._merge(case, terms, at)
        record = case.record
        if record.state is State.NEW and case.change.kinds & BRINGS:  # sweep looks for it again, as for any lead
            gone = record.gone("HubSpot does not show the contact", at, unseen_at=at)
            return Step(case, [(record, _brought(case, gone))])
        return Step(case)

    def _merge(self, case: Case, terms: Terms, at: int) -> Step:
        """One of the leads lives on under the id that HubSpot answers to, the others end. Ids that we don't know leave
        a record, too: the message of a lead may still be on its way."""
        record, seen, id_ = case.record, case.seen, case.change.id
        heir = _heir(case) if record.state is State.NEW else None
        moves = [(each, each.merged(id_, at)) for each in case.lost if each is not heir]
        base = record if heir is None else heir.under(id_)
        after = None if seen is None or not _is_ours_to_follow(case, base, terms) else follow(base, seen, at)
        if heir is None:
            return Step(case, moves if after is None else [*moves, (record, _brought(case, after))])
        own = base.noted(at) if after is None else after
        return Step(case, moves, inheritance=[(record, own), (heir, heir.merged(id_, at).given_back())])

    # What is done

    def _write(self, steps: Sequence[Step]) -> dict[str, Record]:
        """Make the moves; gives the records as written. What has moved meanwhile is missing."""
        undone = [each for step in steps for each in step.undone]
        moves = [pair for step in steps for pair in step.moves]
        written = [*self.claims.undo(undone), *write_moves(self.store, moves)]
        for step in steps:
            if step.inheritance:
                try:
                    self.store.move(step.inheritance)
                except RecordsMoved:
                    continue
                written += [after for _, after in step.inheritance]
        return {record.key: record for record in written}

    # Nobody fights a person

    def _histories(
        self, steps: Sequence[Step], deadline: Deadline
    ) -> tuple[Mapping[str, Sequence[OwnerChange]], Sequence[Step]]:
        """Read who chose the owners of the few leads where that matters. Gives also the steps that have to wait for
        another such reading."""
        suspected = [step for step in steps if step.is_suspected]
        overwritten = [step for step in steps if step.is_overwritten]
        wanted = [*suspected, *overwritten][:HISTORY_LIMIT]
        ids = [step.case.change.id for step in wanted]
        return self.crm.owner_histories(CONTACT, ids, deadline) if ids else {}, suspected[HISTORY_LIMIT:]

    def _restore(
        self, steps: Sequence[Step], histories: Mapping[str, Sequence[OwnerChange]], deadline: Deadline
    ) -> tuple[list[Step], Settled]:
        """Give owners back who were chosen between our reading and our writing of the owner. Gives the steps that are
        to be taken now, and what became of the others.

        Only once: from then on the record says that the owner is somebody else's choice. HubSpot is told first, so
        that whoever takes over after a crash finds the choice restored, and follows it.
        """
        chosen = {
            step.case.change.id: owner
            for step in steps
            if step.is_suspected
            and (owner := _overwritten_choice(step.case.record, histories.get(step.case.change.id, ()))) is not None
        }
        if not chosen:
            return list(steps), Settled()
        writes = [OwnerWrite(id_, owner, CHOSEN_BEFORE) for id_, owner in chosen.items()]
        result = self.crm.write_owners(CONTACT, writes, deadline)
        at = milliseconds(self.now())
        taken: list[Step] = []
        settled = Settled()
        for step in steps:
            id_, record = step.case.change.id, step.case.record
            if id_ in result.put_off:
                settled |= _put_off([step.case.change], result.put_off[id_])
            elif id_ in result.refused:
                logger.error("a choice is not restored", extra={"lead": record.key, "reason": result.refused[id_][1]})
                taken.append(step)
            elif id_ in chosen:
                count(Metric.CHOICES_RESTORED)
                ids = {"lead": record.key, "rep": record.rep, "owner": chosen[id_]}
                logger.info("a choice is restored", extra=ids)
                after = record.left(chosen[id_], "somebody had chosen before us", at)
                taken.append(Step(step.case, undone=[Undoing(record, after)]))
            else:
                taken.append(step)
        return taken, settled

    def _name_overwriters(self, steps: Sequence[Step], histories: Mapping[str, Sequence[OwnerChange]]) -> None:
        """Raise the alarm about workflows and apps that keep taking leads from the reps that we chose."""
        for step in steps:
            latest = next(iter(histories.get(step.case.change.id, ())), None)
            if not step.is_overwritten or latest is None or latest.source in BY_HAND:
                continue
            source = f"{latest.source} {latest.by or ''}".strip()
            times = self.store.note_overwrite(source, milliseconds(self.now()))
            if times >= KEEPS_OVERWRITING:
                count(Metric.OWNERS_OVERWRITTEN)
                logger.error(
                    "owners are overwritten again and again: look for the workflow or app",
                    extra={"lead": step.case.change.key, "source": source, "times_today": times},
                )

    # What has become a lead

    def _pass_on(self, steps: Sequence[Step], written: Mapping[str, Record], terms: Terms) -> None:
        """Send what the policy makes a lead to the leads queue; hold the bulk sources back when they flood us."""
        sent: list[Message] = []
        found: set[str] = set()  # nobody waits for these, and there may be many
        bulk: list[tuple[Record, Record, Message]] = []
        for step in steps:
            case = step.case
            record = written.get(case.change.key, case.record)
            if not _wants_an_owner(case, record, terms):
                continue
            message = _message(case.change, record)
            if not _is_news(record, route(case.lead(message), terms.policy)):
                continue
            if Kind.FOUND in case.change.kinds:
                found.add(message.key)
            if message.change_source in BULK_SOURCES and record.state is not State.WAITING:
                owner = None if case.seen is None else case.seen.owner
                held = record.arrived(message).unrouted(owner)
                bulk.append((record, held.waiting("comes from a bulk source", milliseconds(self.now())), message))
            else:
                sent.append(message)
        for start in range(0, len(bulk), MAX_RECORDS):
            sent += self._hold_back(bulk[start : start + MAX_RECORDS], terms)
        if sent:
            in_numbers = [message for message in sent if message.change_source in BULK_SOURCES or message.key in found]
            self.leads.send([Letter(message.body()) for message in sent if message not in in_numbers])
            self.bulk.send([Letter(message.body()) for message in in_numbers])
            logger.info("passed on", extra={"leads": [message.key for message in sent]})

    def _hold_back(self, leads: Sequence[tuple[Record, Record, Message]], terms: Terms) -> list[Message]:
        """Let leads from bulk sources wait, and count them, once; gives those that may go on, because they are no
        flood. The others wait until a policy is applied."""
        for _ in range(BRAKE_ATTEMPTS):
            moves = [(record, held) for record, held, _ in leads]
            brake = self.store.brake()
            after = count_bulk(brake, len(moves), milliseconds(self.now()), terms.policy.flood, terms.number)
            try:
                if after is brake:
                    self.store.move(moves)
                else:
                    self.store.hold_back(brake, after, moves)
            except BrakeMoved:
                continue
            except RecordsMoved as refused:
                leads = [each for each in leads if each[0].key not in refused.records]
                if not leads:
                    return []
                continue
            if not after.pulled(terms.number):
                return [message for *_, message in leads]
            logger.info("held back", extra={"leads": [record.key for record, *_ in leads]})
            if after is not brake:
                count(Metric.BULK_PAUSED)
                number = len(leads) + sum(brake.minutes.values())
                what = "bulk sources are paused until a policy is applied"
                logger.error(what, extra={"leads": number, "policy": terms.number})
            return []
        raise Contended("the brake kept moving")


def _told(message: Message) -> Change:
    return Change(
        id=message.id,
        named=frozenset({message.key}),
        told=frozenset((message.occurred_at, kind, message.change_source) for kind in message.kinds),
        merged=frozenset(message.merged),
        received_at=message.received_at,
        echoed=frozenset({message.echo}),
    )


def _gathered(changes: Iterable[Change]) -> list[Change]:
    """One change for each record, oldest first."""
    by_id: defaultdict[str, list[Change]] = defaultdict(list)
    for change in changes:
        by_id[change.id].append(change)
    gathered = []
    for id_, same in by_id.items():
        told = frozenset[tuple[int, Kind, str]]().union(*(change.told for change in same))
        named = frozenset[str]().union(*(change.named for change in same))
        merged = frozenset[str]().union(*(change.merged for change in same)) - {id_}
        received = [change.received_at for change in same if change.received_at is not None]
        echoed = frozenset[str | None]().union(*(change.echoed for change in same))
        gathered.append(Change(id_, named, told, merged, min(received, default=None), echoed))
    return sorted(gathered, key=lambda change: (change.occurred_at, int(change.id)))


def _put_off(changes: Iterable[Change], why: Unavailable) -> Settled:
    return Settled(later={lead: why for change in changes for lead in change.named})


def _case(change: Change, records: Records, properties: Mapping[str, str | None] | None, terms: Terms, at: int) -> Case:
    """Put together what is known of a record. Raises RecordUnreadable."""
    merged = [records.of(id_) for id_ in sorted(change.merged)]
    gone = [record for record in merged if record.state is State.GONE and record.came]
    seen = None
    if properties is not None:
        seen = Seen(properties.get(OWNER) or None, is_closed(properties, terms.policy))
    return Case(
        change,
        records.of(change.id),
        lost=tuple(each for each in merged if each.merged_into is None and each.state is not State.ERASED),
        was_ours=any(record.merged_into in {None, change.id} for record in gone),
        properties=properties or {},
        seen=seen,
        at=at,
    )


def _ending(case: Case, after: Record | None, at: int) -> Step:
    """The record ends, and so do those that were merged into it, erased with it if it is; where a claim stands, its
    turn goes back."""
    is_erased = case.record.state is State.ERASED
    moves = [(each, each.erased(at) if is_erased else each.merged(case.change.id, at)) for each in case.lost]
    if after is not None:
        moves.append((case.record, after))
    claimed = [Undoing(*pair) for pair in moves if pair[0].state is State.CLAIMED]
    return Step(case, [pair for pair in moves if pair[0].state is not State.CLAIMED], undone=claimed)


def _tell(step: Step, written: Mapping[str, Record]) -> None:
    after = written.get(step.case.change.key)
    if after is None:
        return
    before = step.case.stored.state
    ids = {"lead": after.key, "before": before, "state": after.state, "rep": after.rep, "reason": after.reason}
    logger.info("followed", extra=ids | {"merged": sorted(step.case.change.merged)})
    if after.state is State.UNOWNED:
        count(Metric.LEADS_UNOWNED)


def _brought(case: Case, after: Record) -> Record:
    """With what brought the record, where we didn't know it: who changes a record didn't bring it."""
    change = case.change
    if case.stored.rev or not change.kinds & BRINGS:
        return after
    return replace(after, occurred_at=change.occurred_at, source=change.source)


def _is_ours_to_follow(case: Case, record: Record, terms: Terms) -> bool:
    """Whether a move is to be written.

    In `observe` nothing is counted that was not counted before. And where owners are not kept, the owner of a record
    that we don't know says nothing, as it may be a lead that has yet to be assigned; but not after a restore or merge.
    """
    if record.is_counted:
        return True
    if terms.policy.mode is Mode.OBSERVE:
        return False
    return record.state is not State.NEW or terms.policy.leads.keep_owner or case.change.returns


def _would_be_a_lead(case: Case, terms: Terms) -> bool:
    """Whether a record that comes to us closed would be a lead if it were open."""
    change = case.change
    if case.stored.rev or case.seen is None or not case.seen.closed or terms.policy.mode is Mode.OBSERVE:
        return False
    return bool(change.kinds & BRINGS) and isinstance(
        route(case.lead(_message(change, case.record)), terms.policy), Route
    )


def _may_have_overwritten(case: Case) -> bool:
    """Whether somebody else did something to the record while we were handing it over."""
    record = case.record
    return record.state is State.HANDED and any(
        source != BY_APP and at > record.occurred_at and _is_at_handover(record, at)
        for at, _, source in case.change.told
    )


def _is_at_handover(record: Record, at: int) -> bool:
    """Whether a moment of HubSpot's lies between what our reading of the owner showed and our noting of the handover,
    which may have taken more than one try."""
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


def _heir(case: Case) -> Record | None:
    """The record of the lead that lives on after a merge: the owner's own first."""
    owner = None if case.seen is None else case.seen.owner
    alive = [record for record in case.lost if record.state in HEIRS]
    return min(
        alive,
        key=lambda record: (record.rep != owner, HEIRS.index(record.state), record.occurred_at, record.key),
        default=None,
    )


def _wants_an_owner(case: Case, record: Record, terms: Terms) -> bool:
    """Whether a record has become a lead that somebody should get, if the rules say so as well."""
    leads, change = terms.policy.leads, case.change
    if case.seen is None or case.seen.closed:
        return False
    if record.state is State.NEW:
        is_new = bool(change.kinds & BRINGS) or isinstance(leads.when, Reached) or case.was_ours
        return is_new and (case.seen.owner is None or not (leads.keep_owner or change.returns))
    if record.state is State.WAITING:
        return record.rota is not None  # what is held back is the sweep's
    if case.seen.owner is not None:
        return False
    if record.state is State.UNOWNED:
        return leads.cleared is Cleared.ALLOT_AGAIN and record.round < MOST_ROUNDS
    return record.state in {State.CLOSED, State.GONE}


def _is_news(record: Record, decision: Route | Ignored) -> bool:
    """Whether what the rules say of a record now is something that assign has not acted on."""
    if record.state is State.WAITING:
        return isinstance(decision, Ignored) or (record.rota, record.lane) != (decision.rota, decision.lane)
    return isinstance(decision, Route)


def _message(change: Change, record: Record) -> Message:
    """The message that brings a lead to assign. A lead that has come before keeps the source that first brought it, one
    that waits its place, and one that has ended begins another round."""
    brings = change.kinds & {Kind.CREATION, Kind.PROPERTY_CHANGE, Kind.RESTORE, Kind.MERGE}
    brings = brings or change.kinds & {Kind.FOUND}
    if change.merged:
        brings = brings - {Kind.CREATION} | {Kind.MERGE}
    return Message(
        id=change.id,
        kinds=tuple(sorted(brings or {Kind.RESTORE})),
        occurred_at=record.occurred_at if record.state is State.WAITING else change.occurred_at,
        change_source=(record.source or UNKNOWN_SOURCE) if record.came else change.source,
        round=record.round + (record.state in ENDED),
    )
