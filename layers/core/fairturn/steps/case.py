"""Case: what messages, the table and HubSpot say of one record, and what is to be done about it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from fairturn.rules.events import ARRIVALS, BY_APP, CONTACT, OWNER, UNKNOWN_SOURCE, Kind, Message, is_return, lead_key
from fairturn.rules.policy import Mode
from fairturn.rules.record import ENDED, READS_LAG, Record, Seen, State
from fairturn.rules.routing import Lead, Route, is_closed, route
from fairturn.steps.consumer import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from fairturn.errors import Unavailable
    from fairturn.rules.policy import Policy
    from fairturn.rules.record import Records
    from fairturn.steps.claim import Undoing


class Occurrence(NamedTuple):
    """Something that happened to a record."""

    at: int
    """Epoch milliseconds."""
    kind: Kind
    source: str


@dataclass(frozen=True, slots=True)
class Change:
    """All that the messages of a batch say of one record."""

    id: str
    named: frozenset[str]
    """The leads that the messages name; after a merge, by other ids."""
    occurrences: frozenset[Occurrence]
    merged: frozenset[str]
    """The ids that have been merged into this one."""
    received_at: int | None
    """When the first of the messages was first received, epoch milliseconds."""
    echoed: frozenset[str | None] = frozenset({None})
    """The owners that were written with our own token; with None among them if anything else happened."""

    @classmethod
    def of(cls, message: Message) -> Change:
        """What one message says."""
        return cls(
            id=message.id,
            named=frozenset({message.key}),
            occurrences=frozenset(
                Occurrence(message.occurred_at, kind, message.change_source) for kind in message.kinds
            ),
            merged=frozenset(message.merged),
            received_at=message.received_at,
            echoed=frozenset({message.echo}),
        )

    @property
    def key(self) -> str:
        """The record's name."""
        return lead_key(CONTACT, self.id)

    @property
    def kinds(self) -> frozenset[Kind]:
        """Everything that happened."""
        return frozenset(each.kind for each in self.occurrences)

    @property
    def occurred_at(self) -> int:
        """When the last of it happened, epoch milliseconds."""
        return max(each.at for each in self.occurrences)

    @property
    def source(self) -> str:
        """The source of what brought the record, if that is among it; else rather somebody else's than an app's."""
        return max(self.occurrences, key=lambda each: (each.kind in ARRIVALS, each.source != BY_APP, *each)).source

    @property
    def keys(self) -> set[str]:
        """The names of all records that it is about."""
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
    def is_return(self) -> bool:
        """Whether it brings a contact that may be older, rather than a new one."""
        return bool(self.merged) or is_return(self.kinds)

    def is_echo_of(self, record: Record | None) -> bool:
        """Whether all that happened is our own handover of this record: then HubSpot has nothing to tell of it."""
        if record is None or record.state not in {State.CLAIMED, State.HANDED}:
            return False
        return self.echoed == {record.rep}

    def carried_to(self, id: str) -> Change:  # noqa: A002 - HubSpot's word
        """The same, of the record to which a merge has carried this one on. What ended or restored the old id did not
        happen to that one."""
        ended = {Kind.DELETION, Kind.RESTORE}
        occurrences = frozenset(
            each._replace(kind=Kind.MERGE) if each.kind in ended else each for each in self.occurrences
        )
        return replace(self, id=id, occurrences=occurrences, merged=self.merged | {self.id}, echoed=frozenset({None}))

    def last(self, kind: Kind) -> int:
        """When something of this kind happened last, epoch milliseconds; 0: it did not."""
        return max((each.at for each in self.occurrences if each.kind is kind), default=0)

    def message(self, record: Record) -> Message:
        """The message that brings a lead to assign. A lead that has come before keeps the source that first brought it,
        one that waits its place, and one that has ended begins another round."""
        brings = self.kinds & {Kind.CREATION, Kind.PROPERTY_CHANGE, Kind.RESTORE, Kind.MERGE}
        brings = brings or self.kinds & {Kind.FOUND}
        if self.merged:
            brings = brings - {Kind.CREATION} | {Kind.MERGE}
        return Message(
            id=self.id,
            kinds=tuple(sorted(brings or {Kind.RESTORE})),
            occurred_at=record.occurred_at if record.state is State.WAITING else self.occurred_at,
            change_source=(record.source or UNKNOWN_SOURCE) if record.came else self.source,
            round=record.round + (record.state in ENDED),
        )


def gathered(changes: Iterable[Change]) -> list[Change]:
    """One change for each record, oldest first."""
    by_id: defaultdict[str, list[Change]] = defaultdict(list)
    for change in changes:
        by_id[change.id].append(change)
    merged = [_together(same) for same in by_id.values()]
    return sorted(merged, key=lambda change: (change.occurred_at, int(change.id)))


def _together(same: Sequence[Change]) -> Change:
    """All changes of one record as one."""
    id_ = same[0].id
    received = [change.received_at for change in same if change.received_at is not None]
    return Change(
        id=id_,
        named=frozenset().union(*(change.named for change in same)),
        occurrences=frozenset().union(*(change.occurrences for change in same)),
        merged=frozenset().union(*(change.merged for change in same)) - {id_},
        received_at=min(received, default=None),
        echoed=frozenset().union(*(change.echoed for change in same)),
    )


def put_off(changes: Iterable[Change], why: Unavailable) -> Outcome:
    """What becomes of changes that have to wait."""
    return Outcome(later={lead: why for change in changes for lead in change.named})


@dataclass(frozen=True, slots=True)
class Case:
    """A change, with what the table and HubSpot say of its record."""

    change: Change
    stored: Record
    absorbed: tuple[Record, ...]
    """The records of the ids that have been merged into it, as far as that is not written down."""
    was_ours: bool
    """Whether a merge took a lead along that nobody had yet."""
    properties: Mapping[str, str | None]
    seen: Seen | None
    """None where HubSpot shows no such record."""
    at: int
    """When HubSpot was asked, epoch milliseconds."""

    @classmethod
    def of(
        cls, change: Change, records: Records, properties: Mapping[str, str | None] | None, policy: Policy, at: int
    ) -> Case:
        """Put together what is known of a record. Raises RecordUnreadable."""
        merged = [records.of(id_) for id_ in sorted(change.merged)]
        gone = [record for record in merged if record.state is State.GONE and record.came]
        seen = None
        if properties is not None:
            seen = Seen(properties.get(OWNER) or None, is_closed(properties, policy))
        return cls(
            change,
            records.of(change.id),
            absorbed=tuple(each for each in merged if each.merged_into is None and each.state is not State.ERASED),
            was_ours=any(record.merged_into in {None, change.id} for record in gone),
            properties=properties or {},
            seen=seen,
            at=at,
        )

    @property
    def record(self) -> Record:
        """The record, with when the contact was deleted and restored, as far as anything told."""
        change = self.change
        return self.stored.with_deletion_times(
            deleted_at=change.last(Kind.DELETION), restored_at=change.last(Kind.RESTORE)
        )

    @property
    def records(self) -> tuple[Record, ...]:
        """All that it is about."""
        return (self.record, *self.absorbed)

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
        """Whether it happened so lately that the reading may be older. One that shows the contact is not older than its
        creation."""
        return self.change.kinds != {Kind.CREATION} and self.at < self.change.occurred_at + READS_LAG

    def lead(self, message: Message) -> Lead:
        """The record as a lead that this message brings."""
        return Lead(message, self.properties)

    def brought(self, after: Record) -> Record:
        """The record after a move, with what brought it where we didn't know it: who changes a record didn't bring
        it."""
        if self.stored.rev or not self.change.kinds & ARRIVALS:
            return after
        return replace(after, occurred_at=self.change.occurred_at, source=self.change.source)

    def is_ours_to_follow(self, record: Record, policy: Policy) -> bool:
        """Whether a move of the record is to be written.

        In `observe` nothing is counted that was not counted before. And where owners are not kept, the owner of a
        record that we don't know says nothing, as it may be a lead that has yet to be assigned; but not after a restore
        or merge.
        """
        if record.is_counted:
            return True
        if policy.mode is Mode.OBSERVE:
            return False
        return record.state is not State.NEW or policy.leads.keep_owner or self.change.is_return

    def would_be_a_lead(self, policy: Policy) -> bool:
        """Whether a record that comes to us closed would be a lead if it were open."""
        if self.stored.rev or self.seen is None or not self.seen.closed or policy.mode is Mode.OBSERVE:
            return False
        lead = self.lead(self.change.message(self.record))
        return bool(self.change.kinds & ARRIVALS) and isinstance(route(lead, policy), Route)


@dataclass(frozen=True, slots=True)
class Resolution:
    """What is to be done about one case; most of it is left out, as a rule."""

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
