"""What HubSpot answers, and what it means.

HubSpot's answers hold personal data: only categories, codes, property names and scopes of an error may be logged.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, TypeVar

import msgspec

from fairturn.rules.events import OWNER, UNKNOWN_SOURCE
from fairturn.rules.missed import Sighting
from fairturn.rules.record import milliseconds

MERGED_IDS: Final = "hs_merged_object_ids"
"""The property that lists, with semicolons, the ids that were merged into a record."""
RECORD_ID: Final = "hs_object_id"
CREATED_AT: Final = "createdate"
CHANGED_AT: Final = "lastmodifieddate"
SOURCE: Final = "hs_object_source"
"""The property that says what has created a record, in the words of a change source."""
ASSIGNED_AT: Final = "hubspot_owner_assigneddate"
"""When somebody last became the record's owner, in HubSpot's own books."""

PASSING_CATEGORIES: Final = frozenset({"RATE_LIMITS", "INTERNAL_ERROR"})
"""Categories of one record's error that say: later it may be right."""
CHOSEN: Final = frozenset({"enumeration", "bool"})
"""Types of properties whose values are options."""
CODE: Final = re.compile(r"[A-Z][A-Z0-9_]{1,59}")
PROPERTY: Final = re.compile(r"[a-z][a-z0-9_]{0,99}")
SCOPE: Final = re.compile(r"[a-z][a-z0-9._-]{1,79}")
SOURCE_ID: Final = re.compile(r"[A-Za-z0-9:_-]{1,64}")
# Validation errors come as fields of `errors`, or as JSON within the message.
CODE_IN_MESSAGE: Final = re.compile(r'"error"\s*:\s*"([A-Z][A-Z0-9_]{1,59})"')
PROPERTY_IN_MESSAGE: Final = re.compile(r'"name"\s*:\s*"([a-z][a-z0-9_]{0,99})"')


class Refusal(StrEnum):
    """Why HubSpot will never take a write."""

    OWNER = "owner"
    """It knows no such owner. An archived owner it takes: sort those out beforehand."""
    GONE = "gone"
    """It knows no such record."""
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class OwnerChange:
    """One entry in the history of a record's owner. All of it may be logged."""

    owner: str | None
    """None: the owner was cleared."""
    at: int
    """Epoch milliseconds."""
    source: str
    """What kind of writer it was, such as CRM_UI or INTEGRATION; UNKNOWN if HubSpot doesn't say."""
    by: str | None
    """Which writer of that kind: an app's id, `userId:12`. None if HubSpot says nothing, or an e-mail."""


def moment(text: str | None) -> int | None:
    """Epoch milliseconds of a time as HubSpot writes it; None if it can't be read, or names no zone."""
    try:
        at = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return None if at.tzinfo is None else milliseconds(at)


class Answer(msgspec.Struct, frozen=True, rename="camel"):
    """Any JSON of HubSpot's. What is not named in its model is not read. The models have HubSpot's own names."""


class StandardError(Answer, frozen=True):
    """HubSpot's error, of a request or of one record: any field may be missing."""

    category: str | None = None
    code: str | None = None
    message: str | None = None
    policy_name: str | None = None
    context: Mapping[str, Any] | None = None
    errors: Sequence[StandardError] | None = None

    def parts(self) -> Iterator[StandardError]:
        """This error and those that it is made of."""
        yield self
        for error in self.errors or ():
            yield from error.parts()

    def listed(self, key: str) -> tuple[str, ...]:
        """The texts under one key of the context, of all parts."""
        texts: list[str] = []
        for part in self.parts():
            value = (part.context or {}).get(key) or []
            texts += [str(text) for text in (value if isinstance(value, list) else [value])]
        return tuple(texts)

    def ids(self) -> frozenset[str]:
        """The records that it is about. Our trace id of a write is the record's id."""
        return frozenset([*self.listed("objectWriteTraceId"), *self.listed("ids")])

    def codes(self) -> tuple[str, ...]:
        """Categories and codes, wherever they stand; only what looks like one."""
        found: dict[str, None] = {}
        for part in self.parts():
            stated = [text for text in (part.category, part.code) if text and CODE.fullmatch(text)]
            found |= dict.fromkeys([*stated, *CODE_IN_MESSAGE.findall(part.message or "")])
        return tuple(found)

    def properties(self) -> tuple[str, ...]:
        """The properties that it is about; only what looks like a name."""
        found = [name for name in self.listed("propertyName") if PROPERTY.fullmatch(name)]
        for part in self.parts():
            found += PROPERTY_IN_MESSAGE.findall(part.message or "")
        return tuple(dict.fromkeys(found))

    def names(self, properties: frozenset[str]) -> frozenset[str]:
        """Which of these properties it names, if only in the words of its message."""
        words = {word for part in self.parts() for word in PROPERTY.findall(part.message or "")}
        return properties & (words | set(self.properties()))

    def scopes(self) -> tuple[str, ...]:
        """The scopes that the token lacks."""
        scopes = [*self.listed("requiredGranularScopes"), *self.listed("missingScopes")]
        return tuple(dict.fromkeys(scope for scope in scopes if SCOPE.fullmatch(scope)))

    def refusal(self) -> Refusal:
        """What it means for the write of one record."""
        codes = self.codes()
        if "INVALID_OWNER_ID" in codes:
            return Refusal.OWNER
        return Refusal.GONE if "OBJECT_NOT_FOUND" in codes else Refusal.OTHER

    def passes(self) -> bool:
        """Whether the same write may go through later."""
        return bool(PASSING_CATEGORIES & set(self.codes()))

    def summary(self) -> str:
        """Codes, properties and scopes: what may be logged."""
        return " ".join([*self.codes(), *self.properties(), *self.scopes()]) or "without a reason"


UNACCOUNTED: Final = StandardError(category="INTERNAL_ERROR", message="no word of this record")


class ValueWithTimestamp(Answer, frozen=True):
    """One value that a property had: any field may be missing."""

    value: str | None = None
    timestamp: str | None = None
    source_type: str | None = None
    source_id: str | None = None

    def owner_change(self) -> OwnerChange | None:
        """As a change of the owner; None if its time can't be read."""
        at = moment(self.timestamp)
        if not at:
            return None
        return OwnerChange(
            owner=self.value or None,
            at=at,
            source=self.source_type if self.source_type and CODE.fullmatch(self.source_type) else "UNKNOWN",
            by=self.source_id if self.source_id and SOURCE_ID.fullmatch(self.source_id) else None,
        )


class SimplePublicObject(Answer, frozen=True):
    """A record, with the properties that were asked for."""

    id: str
    properties: Mapping[str, str | None] = {}
    properties_with_history: Mapping[str, Sequence[ValueWithTimestamp]] | None = None
    object_write_trace_id: str | None = None

    def merged(self) -> frozenset[str]:
        """The ids that were merged into it, at any time."""
        return frozenset(filter(None, (self.properties.get(MERGED_IDS) or "").split(";")))

    def sighting(self) -> Sighting:
        """As a search shows it."""
        source = self.properties.get(SOURCE) or ""
        return Sighting(
            id=self.id,
            created_at=moment(self.properties.get(CREATED_AT)) or 0,
            changed_at=moment(self.properties.get(CHANGED_AT)) or 0,
            source=source if CODE.fullmatch(source) else UNKNOWN_SOURCE,
            merged=self.merged(),
        )

    def shown(self, asked: Sequence[str]) -> dict[str, str | None]:
        """Its properties, without the one that only we asked for."""
        return {name: value for name, value in self.properties.items() if name != MERGED_IDS or name in asked}

    def owner_changes(self) -> tuple[OwnerChange, ...]:
        """The history of its owner, latest first; HubSpot's order within one moment."""
        history = (self.properties_with_history or {}).get(OWNER, ())
        changes = [change for each in history if (change := each.owner_change())]
        return tuple(sorted(changes, key=lambda change: change.at, reverse=True))


class BatchResponse(Answer, frozen=True):
    """The answer to a batch, 200 or 207."""

    results: Sequence[SimplePublicObject]
    errors: Sequence[StandardError] = ()


class SearchResponse(Answer, frozen=True):
    """The answer to a search."""

    total: int
    results: Sequence[SimplePublicObject]


class PublicOwner(Answer, frozen=True):
    """A user who can own records."""

    id: str
    email: str | None = None
    archived: bool = False


class NextPage(Answer, frozen=True):
    """Where the next page begins."""

    after: str


class Paging(Answer, frozen=True):
    """What comes after a page; nothing after the last one."""

    next: NextPage | None = None


class OwnersPage(Answer, frozen=True):
    """A page of the list of owners."""

    results: Sequence[PublicOwner]
    paging: Paging | None = None


class Option(Answer, frozen=True):
    """A value that a property may have."""

    value: str
    label: str | None = None


class PropertyDefinition(Answer, frozen=True):
    """A property as HubSpot defines it."""

    name: str
    type: str | None = None
    options: Sequence[Option] | None = None
    external_options: bool | None = None

    def choices(self) -> dict[str, str] | None:
        """Its options, internal value → label; None if it isn't bound to them."""
        if not self.options or self.external_options or self.type not in CHOSEN:
            return None
        return {option.value: option.label or option.value for option in self.options}


class PropertyDefinitions(Answer, frozen=True):
    """The properties of one type of records."""

    results: Sequence[PropertyDefinition]


class PropertyGroup(Answer, frozen=True):
    """A group of properties."""

    name: str


class PropertyGroups(Answer, frozen=True):
    """The groups of properties of one type of records."""

    results: Sequence[PropertyGroup]


A = TypeVar("A", bound=Answer)

# Made before any thread asks: msgspec crashes where two threads are the first to read the same shape.
_DECODERS: Final[Mapping[type[Answer], msgspec.json.Decoder[Any]]] = {
    shape: msgspec.json.Decoder(shape) for shape in Answer.__subclasses__()
}


def read(shape: type[A], body: bytes | str) -> A:
    """Read an answer. Raises msgspec.MsgspecError if it is not of this shape."""
    answer: A = _DECODERS[shape].decode(body)
    return answer
