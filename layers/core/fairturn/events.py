"""HubSpot's webhook events, and the messages that we make of them.

HubSpot names an event `contact.creation` (classic) or `object.creation` with an `objectTypeId` (generic).
Events come late, twice, in any order, and several for one action: so all that one request says about a
record becomes one message, and a message never carries a property's value.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from fairturn.errors import EventRejected, MessageRejected

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

CONTACT: Final = "contact"
CONTACT_TYPE_ID: Final = "0-1"

BULK_SOURCES: Final = frozenset({"IMPORT", "CRM_UI_BULK_ACTION", "MIGRATION", "INTEGRATIONS_SYNC", "BATCH_UPDATE"})
"""Change sources that touch thousands of records at once; their events never stand before a single lead."""

BY_APP: Final = "INTEGRATION"
"""The change source of apps: of what we write ourselves, too."""

UNKNOWN_SOURCE: Final = "UNKNOWN"
MAX_SOURCE_LENGTH: Final = 64
MAX_ID: Final = 2**63 - 1
MAX_TIME: Final = 9_999_999_999_999
MAX_ROUNDS: Final = 1_000_000
MAX_MERGED_PER_EVENT: Final = 1_000
MAX_MERGED_PER_MESSAGE: Final = 32
"""With ids of nineteen digits a message still stays below 1 KB."""


def lead_key(record_type: str, record_id: str) -> str:
    """A lead's name in journals and logs: `contact#123`."""
    return f"{record_type}#{record_id}"


class Kind(StrEnum):
    """What happened to a record, in HubSpot's words."""

    CREATION = "creation"
    RESTORE = "restore"
    PROPERTY_CHANGE = "propertyChange"
    MERGE = "merge"
    DELETION = "deletion"
    PRIVACY_DELETION = "privacyDeletion"


BRINGS: Final = frozenset({Kind.CREATION, Kind.RESTORE})
"""What brings a record into HubSpot."""

RETURNS: Final = frozenset({Kind.RESTORE, Kind.MERGE})
"""What brings a contact that may be older than what tells of it."""

DATED: Final = frozenset({Kind.DELETION, Kind.RESTORE})
"""What goes by when it happened: it has a message of its own, which tells just that."""

TOLD_ONCE: Final = frozenset({Kind.RESTORE, Kind.MERGE, Kind.DELETION, Kind.PRIVACY_DELETION})
"""What no reading of the record tells afterwards, only the event."""


def brings_back(kinds: Collection[Kind]) -> bool:
    """Tell whether what happened brings a contact that may be older, rather than a new one."""
    return Kind.CREATION not in kinds and not RETURNS.isdisjoint(kinds)


def _whole(value: object) -> int:
    """A positive whole number as HubSpot writes ids and times: an integer, or its digits as a string."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,19}", value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= MAX_ID:
        raise ValueError("not a positive 64-bit whole number")
    return value


def _source(value: object) -> str:
    """The set of sources is open, so any is let through, but only as a short plain name."""
    name = re.sub(r"[^A-Za-z0-9_]", "_", value)[:MAX_SOURCE_LENGTH] if isinstance(value, str) else ""
    return name or UNKNOWN_SOURCE


Whole = Annotated[int, BeforeValidator(_whole)]
Time = Annotated[int, BeforeValidator(_whole), Field(le=MAX_TIME)]
Id = Annotated[str, BeforeValidator(lambda value: str(_whole(value)))]
Source = Annotated[str, BeforeValidator(_source)]


class Message(BaseModel):
    """What travels through the queues about one record: at most 1 KB, and nothing that a person typed in."""

    model_config = ConfigDict(frozen=True, validate_by_name=True, hide_input_in_errors=True)

    v: Literal[1] = 1
    type: Literal["contact"] = CONTACT
    id: Id
    kinds: tuple[Kind, ...] = Field(min_length=1)
    """Everything that happened, each once, sorted."""
    occurred_at: Time = Field(alias="occurredAt")
    """When the last of it happened, epoch milliseconds."""
    change_source: Source = Field(alias="changeSource")
    """The source of the event that brought the record, if one did; else of the latest one that no app made, because
    ours is among the apps; else of the latest."""
    merged: tuple[Id, ...] = Field(default=(), max_length=MAX_MERGED_PER_MESSAGE)
    """The ids that now lead to `id`, for a merge."""
    round: int = Field(default=1, ge=1, le=MAX_ROUNDS)
    """Which coming of the lead this is: 1 is the first. A lead that has ended comes again only with a later one."""
    received_at: int | None = Field(default=None, exclude=True)
    """When the queue first gave it to us, epoch milliseconds; it is no part of the body. None: no queue did."""

    @property
    def key(self) -> str:
        """The lead's name in records and logs."""
        return lead_key(self.type, self.id)

    @property
    def returns(self) -> bool:
        """Whether it brings a contact that may be somebody's already, rather than a new one."""
        return brings_back(self.kinds)

    def body(self) -> str:
        """The JSON that is queued."""
        unsaid = {name for name, said in (("merged", self.merged), ("round", self.round > 1)) if not said}
        return self.model_dump_json(by_alias=True, exclude=unsaid)

    @classmethod
    def read(cls, body: str, received_at: int | None = None) -> Message:
        """Read what `body` wrote. Raises MessageRejected, naming fields and never their values.

        Nothing can have happened after it was received: a later time is cut to that.
        """
        try:
            message = cls.model_validate_json(body)
            latest = message.occurred_at if received_at is None else min(message.occurred_at, received_at)
            return message.model_copy(update={"received_at": received_at, "occurred_at": latest})
        except ValidationError as error:
            raise MessageRejected(_problems(error)) from error


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened to one contact."""

    portal: int
    kind: Kind
    id: str
    occurred_at: int
    change_source: str
    merged: tuple[str, ...] = ()

    @property
    def makes_lead(self) -> bool:
        """Whether this alone, whatever the policy says, is about somebody who may need an owner now.

        A restore isn't: the record may have been somebody's before, which takes a look at ours to know.
        """
        return self.kind is Kind.CREATION and self.change_source not in BULK_SOURCES


class _Wire(BaseModel):
    """What every event of HubSpot's carries. Fields that we don't name are ignored."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    portal: Whole = Field(alias="portalId")
    occurred_at: Time = Field(alias="occurredAt")
    change_source: Source = Field(alias="changeSource", default=UNKNOWN_SOURCE)


class _Change(_Wire):
    id: Id = Field(alias="objectId")


class _Merge(_Wire):
    primary: Id = Field(alias="primaryObjectId")
    others: tuple[Id, ...] = Field(alias="mergedObjectIds", default=(), max_length=MAX_MERGED_PER_EVENT)
    new: Id | None = Field(alias="newObjectId", default=None)
    """HubSpot may give the survivor an id that neither of the two had."""


TEST_EVENT_ID: Final = 100
TEST_OBJECT_ID: Final = 123
"""What the events of HubSpot's Test button are about; they are signed and shaped like any other."""


def is_test(raw: Mapping[str, Any]) -> bool:
    """Tell whether an event of a request comes of HubSpot's Test button, and so is about no record."""
    return raw.get("eventId") == TEST_EVENT_ID and raw.get("objectId") == TEST_OBJECT_ID


_KINDS: Final = {kind.value: kind for kind in Kind}


def read_event(raw: Mapping[str, Any], now_ms: int = MAX_TIME) -> Event | None:
    """Understand one event of a request that came at `now_ms`, epoch milliseconds: nothing happened later than that.

    None means that it is of a type which nobody asked for: another object, an association, a conversation,
    or a name that is new to us. Raises EventRejected for what can't be understood, naming fields and never
    their values.
    """
    name = raw.get("subscriptionType") or raw.get("eventType")
    if not isinstance(name, str):
        raise EventRejected("subscriptionType: missing")
    noun, _, verb = name.partition(".")
    kind = _KINDS.get(verb)
    if kind is None or noun not in (CONTACT, "object"):
        return None
    if noun == "object":
        type_id = raw.get("objectTypeId")
        if not isinstance(type_id, str):
            raise EventRejected("objectTypeId: missing")
        if type_id != CONTACT_TYPE_ID:
            return None
    try:
        return _merge(raw, now_ms) if kind is Kind.MERGE else _change(kind, raw, now_ms)
    except ValidationError as error:
        raise EventRejected(_problems(error)) from error


def _change(kind: Kind, raw: Mapping[str, Any], now_ms: int) -> Event:
    wire = _Change.model_validate(raw)
    return Event(wire.portal, kind, wire.id, min(wire.occurred_at, now_ms), wire.change_source)


def _merge(raw: Mapping[str, Any], now_ms: int) -> Event:
    wire = _Merge.model_validate(raw)
    survivor = wire.new or wire.primary
    merged = {wire.primary, *wire.others} - {survivor}
    if not merged:
        raise EventRejected("mergedObjectIds: missing")
    return Event(
        wire.portal,
        Kind.MERGE,
        survivor,
        min(wire.occurred_at, now_ms),
        wire.change_source,
        tuple(sorted(merged, key=int)),
    )


def _problems(error: ValidationError) -> str:
    details = error.errors(include_url=False, include_context=False, include_input=False)[:3]
    return "; ".join(
        f"{'.'.join(map(str, detail['loc']))}: {detail['msg'].removeprefix('Value error, ')}" for detail in details
    )


def sort_events(events: Iterable[Event]) -> tuple[list[Message], list[Message]]:
    """Make the messages for the leads queue and for the changes queue, oldest first.

    A record whose creation comes from a source that isn't bulk goes to leads with everything else that is said
    of it; every other record goes to changes. What only an event tells (a restore, a merge, a deletion, an
    erasure) goes to changes in any case. The order of the events makes no difference.
    """
    records: dict[str, list[Event]] = defaultdict(list)
    for event in events:
        records[event.id].append(event)
    leads: list[Message] = []
    changes: list[Message] = []
    for record in records.values():
        is_lead = any(event.makes_lead for event in record)
        if is_lead:
            leads.extend(_messages([event for event in record if event.kind not in TOLD_ONCE]))
        left = [event for event in record if event.kind in TOLD_ONCE or not is_lead]
        changes.extend(_messages([event for event in left if event.kind not in DATED]))
        changes.extend(_messages(_last_of(left)))
    return sorted(leads, key=_age), sorted(changes, key=_age)


def _last_of(record: list[Event]) -> list[Event]:
    """The last deletion or restore of one record, if there is any. Of two at the same moment it is the deletion:
    whether the record is there, HubSpot says."""
    dated = [event for event in record if event.kind in DATED]
    return sorted(dated, key=lambda each: (each.occurred_at, each.kind is Kind.DELETION, each.change_source))[-1:]


def _messages(record: list[Event]) -> Iterator[Message]:
    """One message for all these events of one record; more only if a merge names too many ids for one."""
    if not record:
        return
    latest = max(event.occurred_at for event in record)
    telling = max(record, key=_weight)
    kinds = tuple(sorted({event.kind for event in record}))
    merged = sorted({id_ for event in record for id_ in event.merged}, key=int)
    for start in range(0, max(len(merged), 1), MAX_MERGED_PER_MESSAGE):
        yield Message(
            id=telling.id,
            kinds=kinds,
            occurred_at=latest,
            change_source=telling.change_source,
            merged=tuple(merged[start : start + MAX_MERGED_PER_MESSAGE]),
        )


def _weight(event: Event) -> tuple[bool, bool, bool, int, str, str]:
    """How much an event says about where the record's messages come from."""
    by_others = event.change_source != BY_APP
    return event.makes_lead, event.kind in BRINGS, by_others, event.occurred_at, event.kind, event.change_source


def _age(message: Message) -> tuple[int, int]:
    return message.occurred_at, int(message.id)
