"""HubSpot's webhook events, and the messages that we make of them.

HubSpot names an event `contact.creation` (classic) or `object.creation` with an `objectTypeId` (generic).
Events come late, twice, in any order, and several for one action: so all that one request says about a
record becomes one message, and a message never carries a property's value, but for the owner that we wrote ourselves.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, TypeVar

from fairturn.batches import batched
from fairturn.errors import EventRejected, MessageRejected

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

CONTACT: Final = "contact"
CONTACT_TYPE_ID: Final = "0-1"

BULK_SOURCES: Final = frozenset({"IMPORT", "CRM_UI_BULK_ACTION", "MIGRATION", "INTEGRATIONS_SYNC", "BATCH_UPDATE"})
"""Change sources that touch thousands of records at once; their events never stand before a single lead."""

SOURCES: Final = frozenset(
    """
    ACADEMY ACCEPTANCE_TEST ADS AI_GROUP ANALYTICS API APPROVALS ASSISTS ASSOCIATIONS AUTOMATION_JOURNEY
    AUTOMATION_PLATFORM AUTO_ASSOCIATE_BY_DOMAIN AVATARS_SERVICE BATCH_UPDATE BCC_TO_CRM BEHAVIORAL_EVENTS
    BET_ASSIGNMENT BET_CRM_CONNECTOR BIDEN BILLING BOT CALCULATED CENTRAL_EXCHANGE_RATES CHATSPOT COMMUNICATOR COMPANIES
    COMPANY_FAMILIES COMPANY_INSIGHTS CONTACTS CONTACTS_WEB CONTENT_MEMBERSHIP CONVERSATIONS CRM CRM_UI
    CRM_UI_BULK_ACTION DATA_ENRICHMENT DEALS DEFAULT EMAIL EMAIL_INTEGRATION ENGAGEMENTS EXTENSION FILE_MANAGER
    FLYWHEEL_PRODUCT_DATA_SYNC FORECASTING FORM FORWARD_TO_CRM GMAIL_INTEGRATION GOALS HEISENBERG HELP_DESK IMPORT
    INTEGRATION INTEGRATIONS_PLATFORM INTEGRATIONS_SYNC INTENT INTERNAL_PROCESSING LEADIN MARKETPLACE MEETINGS
    MERGE_COMPANIES MERGE_CONTACTS MERGE_OBJECTS MICROAPPS MIGRATION MOBILE_ANDROID MOBILE_IOS PAYMENTS
    PIPELINE_SETTINGS PLAYBOOKS PORTAL_OBJECT_SYNC PORTAL_USER_ASSOCIATOR PRESENTATIONS PRIMARY_AUTOMATION
    PROPERTY_DEFAULT_VALUE PROPERTY_SETTINGS PROSPECTING_AGENT QUOTAS QUOTES RECYCLING_BIN RESTORE_OBJECTS SALES
    SALESFORCE SALES_MESSAGES SEQUENCES SETTINGS SIDEKICK SIGNALS SLACK_INTEGRATION SOCIAL SUCCESS TALLY TASK UNKNOWN
    WAL_INCREMENTAL WORKFLOWS WORKFLOW_CONTACT_DELETE_ACTION
    """.split()  # noqa: SIM905 - a list of words
)
"""The change sources that HubSpot is known to have. It adds new ones without a word."""

BY_APP: Final = "INTEGRATION"
"""The change source of apps: of what we write ourselves, too."""

OWNER: Final = "hubspot_owner_id"
UNKNOWN_SOURCE: Final = "UNKNOWN"
VERSION: Final = 1
"""Of the messages."""
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


def lead_of(key: str) -> tuple[str, str]:
    """Type and id of the lead that has this name."""
    record_type, _, record_id = key.partition("#")
    return record_type, record_id


class Kind(StrEnum):
    """What happened to a record, in HubSpot's words; and what we found out by ourselves."""

    CREATION = "creation"
    RESTORE = "restore"
    PROPERTY_CHANGE = "propertyChange"
    MERGE = "merge"
    DELETION = "deletion"
    PRIVACY_DELETION = "privacyDeletion"
    FOUND = "found"
    """A look at HubSpot has found it, and no event has told of it."""


_KINDS: Final = {kind.value: kind for kind in Kind}
EVENTS: Final = {kind.value: kind for kind in Kind if kind is not Kind.FOUND}
"""HubSpot's words for what happened → what it is."""

ARRIVALS: Final = frozenset({Kind.CREATION, Kind.RESTORE})
"""What brings a record into HubSpot."""

RETURNS: Final = frozenset({Kind.RESTORE, Kind.MERGE, Kind.FOUND})
"""What brings a contact that may be older than what tells of it."""

DATED: Final = frozenset({Kind.DELETION, Kind.RESTORE})
"""What goes by when it happened: it has a message of its own, which tells just that."""

EVENT_ONLY: Final = frozenset({Kind.RESTORE, Kind.MERGE, Kind.DELETION, Kind.PRIVACY_DELETION})
"""What no reading of the record tells afterwards, only the event."""


def is_return(kinds: Collection[Kind]) -> bool:
    """Tell whether what happened brings a contact that may be older, rather than a new one."""
    return Kind.CREATION not in kinds and not RETURNS.isdisjoint(kinds)


T = TypeVar("T")
MISSING: Final = object()


def _field(raw: Mapping[str, Any], name: str, read: Callable[[Any], T], default: object = MISSING) -> T:
    """Read one field of what came as JSON. Raises ValueError, which names the field and never its value."""
    value = raw.get(name, default)
    if value is MISSING:
        raise ValueError(f"{name}: missing")
    try:
        return read(value)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _whole(value: object) -> int:
    """A positive whole number as HubSpot writes ids and times: an integer, or its digits as a string."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,19}", value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= MAX_ID:
        raise ValueError("not a positive 64-bit whole number")
    return value


def _id(value: object) -> str:
    return str(_whole(value))


def _ids(value: object) -> tuple[str, ...]:
    """A list of ids, of which there may be none."""
    if not isinstance(value, list) or len(value) > MAX_MERGED_PER_EVENT:
        raise ValueError(f"not a list of at most {MAX_MERGED_PER_EVENT} ids")
    return tuple(_id(each) for each in value)


def _time(value: object) -> int:
    time = _whole(value)
    if time > MAX_TIME:
        raise ValueError("more than 13 digits")
    return time


def _source(value: object) -> str:
    """The set of sources is open, so any is let through, but only as a short plain name."""
    name = re.sub(r"[^A-Za-z0-9_]", "_", value)[:MAX_SOURCE_LENGTH] if isinstance(value, str) else ""
    return name or UNKNOWN_SOURCE


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What travels through the queues about one record: at most 1 KB, and nothing that a person typed in."""

    type: str = CONTACT
    id: str
    kinds: tuple[Kind, ...]
    """Everything that happened, each once, sorted."""
    occurred_at: int
    """When the last of it happened, epoch milliseconds."""
    change_source: str
    """The source of the event that brought the record, if one did; else of the latest one that no app made, because
    ours is among the apps; else of the latest."""
    merged: tuple[str, ...] = ()
    """The ids that now lead to `id`, for a merge: at most 32."""
    echo: str | None = None
    """The owner that an app of our own token wrote, if that is all that happened; None: it is not."""
    round: int = 1
    """Which coming of the lead this is: 1 is the first. A lead that has ended comes again only with a later one."""
    received_at: int | None = None
    """When the queue first gave it to us, epoch milliseconds; it is no part of the body. None: no queue did."""

    @property
    def key(self) -> str:
        """The lead's name in records and logs."""
        return lead_key(self.type, self.id)

    @property
    def is_return(self) -> bool:
        """Whether it brings a contact that may be somebody's already, rather than a new one."""
        return is_return(self.kinds)

    def body(self) -> str:
        """The JSON that is queued."""
        said: dict[str, object] = {
            "v": VERSION,
            "type": self.type,
            "id": self.id,
            "kinds": self.kinds,
            "occurredAt": self.occurred_at,
            "changeSource": self.change_source,
        }
        if self.merged:
            said["merged"] = self.merged
        if self.echo is not None:
            said["echo"] = self.echo
        if self.round > 1:
            said["round"] = self.round
        return json.dumps(said, separators=(",", ":"))

    @classmethod
    def read(cls, body: str, received_at: int | None = None) -> Message:
        """Read what `body` wrote. Raises MessageRejected, naming fields and never their values.

        Nothing can have happened after it was received: a later time is cut to that.
        """
        try:
            raw = json.loads(body)
        except (ValueError, RecursionError):  # not told as the cause: it holds the whole text
            raw = None
        if not isinstance(raw, dict):
            raise MessageRejected("not a JSON object")
        try:
            _field(raw, "v", _version, VERSION)
            occurred_at = _field(raw, "occurredAt", _time)
            return cls(
                type=_field(raw, "type", _contact, CONTACT),
                id=_field(raw, "id", _id),
                kinds=_field(raw, "kinds", _some_kinds),
                occurred_at=occurred_at if received_at is None else min(occurred_at, received_at),
                change_source=_field(raw, "changeSource", _source),
                merged=_field(raw, "merged", _some_ids, []),
                echo=None if raw.get("echo") is None else _field(raw, "echo", _id),
                round=_field(raw, "round", _round, 1),
                received_at=received_at,
            )
        except ValueError as error:
            raise MessageRejected(str(error)) from error


def _version(value: object) -> None:
    if isinstance(value, bool) or value != VERSION:
        raise ValueError(f"Input should be {VERSION}")


def _contact(value: object) -> str:
    if value != CONTACT:
        raise ValueError(f"Input should be {CONTACT!r}")
    return CONTACT


def _some_kinds(value: object) -> tuple[Kind, ...]:
    known = [_KINDS.get(each) for each in value if isinstance(each, str)] if isinstance(value, list) else []
    kinds = tuple(kind for kind in known if kind)
    if not kinds or not isinstance(value, list) or len(kinds) < len(value):
        raise ValueError("not a list of what may happen to a record")
    return kinds


def _some_ids(value: object) -> tuple[str, ...]:
    ids = _ids(value)
    if len(ids) > MAX_MERGED_PER_MESSAGE:
        raise ValueError(f"more than {MAX_MERGED_PER_MESSAGE} ids")
    return ids


def _round(value: object) -> int:
    number = _whole(value)
    if number > MAX_ROUNDS:
        raise ValueError(f"more than {MAX_ROUNDS}")
    return number


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened to one contact."""

    portal: int
    kind: Kind
    id: str
    occurred_at: int
    change_source: str
    merged: tuple[str, ...] = ()
    echo: str | None = None
    """The owner that was written with our own token; None: it is something else."""

    @property
    def makes_lead(self) -> bool:
        """Whether this alone, whatever the policy says, is about somebody who may need an owner now.

        A restore isn't: the record may have been somebody's before, which takes a look at ours to know.
        """
        return self.kind is Kind.CREATION and self.change_source not in BULK_SOURCES


TEST_EVENT_ID: Final = 100
TEST_OBJECT_ID: Final = 123
"""What the events of HubSpot's Test button are about; they are signed and shaped like any other."""


def is_test(raw: Mapping[str, Any]) -> bool:
    """Tell whether an event of a request comes of HubSpot's Test button, and so is about no record."""
    return raw.get("eventId") == TEST_EVENT_ID and raw.get("objectId") == TEST_OBJECT_ID


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
    kind = EVENTS.get(verb)
    if kind is None or noun not in (CONTACT, "object"):
        return None
    if noun == "object":
        type_id = raw.get("objectTypeId")
        if not isinstance(type_id, str):
            raise EventRejected("objectTypeId: missing")
        if type_id != CONTACT_TYPE_ID:
            return None
    try:
        id_, merged = _merged(raw) if kind is Kind.MERGE else (_field(raw, "objectId", _id), ())
        return Event(
            portal=_field(raw, "portalId", _whole),
            kind=kind,
            id=id_,
            occurred_at=min(_field(raw, "occurredAt", _time), now_ms),
            change_source=_field(raw, "changeSource", _source, UNKNOWN_SOURCE),
            merged=merged,
            echo=_echo(kind, raw),
        )
    except ValueError as error:
        raise EventRejected(str(error)) from error


def _echo(kind: Kind, raw: Mapping[str, Any]) -> str | None:
    """The owner in the event of a write with our own token: its source is the app that is told of it."""
    is_ours = raw.get("changeSource") == BY_APP and raw.get("appId") and str(raw.get("sourceId")) == str(raw["appId"])
    if kind is not Kind.PROPERTY_CHANGE or not is_ours or raw.get("propertyName") != OWNER:
        return None
    try:
        return _id(raw.get("propertyValue"))
    except ValueError:  # it was cleared: by nobody that we know of
        return None


def _merged(raw: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
    """The id that a merge has left, and those that lead to it now.

    HubSpot may give the survivor an id that neither of the two had.
    """
    primary = _field(raw, "primaryObjectId", _id)
    others = _field(raw, "mergedObjectIds", _ids, [])
    survivor = primary if raw.get("newObjectId") is None else _field(raw, "newObjectId", _id)
    merged = {primary, *others} - {survivor}
    if not merged:
        raise ValueError("mergedObjectIds: missing")
    return survivor, tuple(sorted(merged, key=int))


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
            leads.extend(_messages([event for event in record if event.kind not in EVENT_ONLY]))
        left = [event for event in record if event.kind in EVENT_ONLY or not is_lead]
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
    echoes = {event.echo for event in record}
    echo = next(iter(echoes)) if len(echoes) == 1 else None
    for part in list(batched(merged, MAX_MERGED_PER_MESSAGE)) or [[]]:
        yield Message(
            id=telling.id,
            kinds=kinds,
            occurred_at=latest,
            change_source=telling.change_source,
            merged=tuple(part),
            echo=echo,
        )


def _weight(event: Event) -> tuple[bool, bool, bool, int, str, str]:
    """How much an event says about where the record's messages come from."""
    by_others = event.change_source != BY_APP
    return event.makes_lead, event.kind in ARRIVALS, by_others, event.occurred_at, event.kind, event.change_source


def _age(message: Message) -> tuple[int, int]:
    return message.occurred_at, int(message.id)
