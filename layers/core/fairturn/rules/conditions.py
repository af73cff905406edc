"""Conditions: what a policy asks of a lead, and whether it holds.

Every part of a condition is looked at, even when the outcome is clear before: so a trace has one digit for each, and
whoever has the same version of the policy can read it.
"""

from __future__ import annotations

import re
import unicodedata
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import islice
from types import MappingProxyType
from typing import TYPE_CHECKING, assert_never

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

MAX_COMPARED = 8_192
"""Characters of a text that are looked at: strangers write up to 65,536."""
NUMBER = re.compile(r"[+-]?(?:[0-9]{1,40}(?:\.[0-9]{0,40})?|\.[0-9]{1,40})(?:[eE][+-]?[0-9]{1,3})?")
"""What counts as a number in HubSpot; the bounds keep every comparison quick."""

MILLISECONDS = re.compile(r"-?[0-9]{9,14}")
MAX_DOMAIN = 253
"""Characters that the name of a domain has at most."""
MAX_DATE = 40
"""Characters of a date that are looked at."""

Number = int | float
"""At most 15 digits, which a float holds without rounding."""
Value = bool | int | float | str


def exact(number: Number) -> Decimal:
    """The number as it was written."""
    return Decimal(str(number))


def fold(text: str) -> str:
    """Give the form in which texts compare: without case, accents and outer blanks, cut to 8,192 characters.

    Takes time in proportion to the characters that are looked at, whatever they are.
    """
    text = text.strip()[:MAX_COMPARED]
    if text.isascii():
        return text.lower().strip()
    # Letter by letter: normalising also sorts the accents that follow each other, in the square of their number, and
    # they are left out here anyway. One letter may stand for up to eighteen.
    parts = (part for letter in text for part in unicodedata.normalize("NFKD", letter))
    letters = islice((part for part in parts if not unicodedata.combining(part)), MAX_COMPARED)
    return "".join(letters).casefold()[:MAX_COMPARED].strip()


class Stored(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A part of the policy as it is stored: what a later version of this program adds is refused, not overlooked."""


class _Tagged(Stored, frozen=True, tag_field="is"):
    pass


class Equals(_Tagged, frozen=True, tag="equals"):
    """The property is this text, number or truth value; if negated, it is something else or unknown."""

    property: str
    value: Value
    negated: bool = False


class In(_Tagged, frozen=True, tag="in"):
    """The property is one of these; if negated, it is something else or unknown."""

    property: str
    value: tuple[Value, ...]
    negated: bool = False


class InList(_Tagged, frozen=True, tag="in_list"):
    """The property is in a list of the policy. Of an e-mail address the domain counts, and subdomains as well."""

    property: str
    list: str


class AtLeast(_Tagged, frozen=True, tag="at_least"):
    """The property is a number, this or more."""

    property: str
    value: Number


class AtMost(_Tagged, frozen=True, tag="at_most"):
    """The property is a number, this or less."""

    property: str
    value: Number


class Between(_Tagged, frozen=True, tag="between"):
    """The property is a number from the first to the second, both included."""

    property: str
    value: tuple[Number, Number]


class Contains(_Tagged, frozen=True, tag="contains"):
    """The property has one of these texts in it."""

    property: str
    texts: tuple[str, ...]


class StartsWith(_Tagged, frozen=True, tag="starts_with"):
    """The property begins with this text."""

    property: str
    value: str


class EndsWith(_Tagged, frozen=True, tag="ends_with"):
    """The property ends with this text."""

    property: str
    value: str


class Before(_Tagged, frozen=True, tag="before"):
    """The property is a date, and earlier than this day."""

    property: str
    day: date


class After(_Tagged, frozen=True, tag="after"):
    """The property is a date, and later than this day."""

    property: str
    day: date


class WithinDays(_Tagged, frozen=True, tag="within_days"):
    """The property is a date from `first` to `last` days after the day on which the lead came; negative: before it."""

    property: str
    first: int
    last: int


class Known(_Tagged, frozen=True, tag="known"):
    """The property has a value."""

    property: str


class Unknown(_Tagged, frozen=True, tag="unknown"):
    """The property has no value, or nothing but blanks."""

    property: str


class FromSource(_Tagged, frozen=True, tag="source"):
    """The record was created or changed by one of these sources, in HubSpot's words: FORM, IMPORT, …"""

    sources: tuple[str, ...]


class AllOf(_Tagged, frozen=True, tag="all"):
    """Every one of these holds."""

    conditions: tuple[Condition, ...]


class AnyOf(_Tagged, frozen=True, tag="any"):
    """At least one of these holds."""

    conditions: tuple[Condition, ...]


class Not(_Tagged, frozen=True, tag="not"):
    """This does not hold; so it is true of an unknown property."""

    condition: Condition


Dated = Before | After | WithinDays
Comparison = (
    Equals | In | InList | AtLeast | AtMost | Between | Contains | StartsWith | EndsWith | Dated | Known | Unknown
)
Leaf = Comparison | FromSource
Condition = Leaf | AllOf | AnyOf | Not


class Reached(Stored, frozen=True):
    """A property that has come to one of these values."""

    property: str
    reaches: tuple[Value, ...]


def leaves(conditions: Iterable[Condition]) -> Iterator[Leaf]:
    """Yield every condition that is not made of others, in the order of the file."""
    for condition in conditions:
        match condition:
            case AllOf() | AnyOf():
                yield from leaves(condition.conditions)
            case Not():
                yield from leaves([condition.condition])
            case _:
                yield condition


def day_of(text: str) -> date | None:
    """The day that HubSpot writes, as a date, a time, or epoch milliseconds; by UTC. None if it is no such thing."""
    text = text.strip()[:MAX_DATE]
    try:
        if MILLISECONDS.fullmatch(text):
            return datetime.fromtimestamp(int(text) / 1000, UTC).date()
        at = datetime.fromisoformat(text)
        return (at if at.tzinfo is None else at.astimezone(UTC)).date()
    except (ValueError, OverflowError, OSError):
        return None


def is_listed(text: str, entries: Collection[str]) -> bool:
    """Tell whether a folded text is among folded entries: itself, or the domain of its address or above it."""
    if text in entries:
        return True
    domain = text.rpartition("@")[2][-MAX_DOMAIN:]
    while "." in domain:
        if domain in entries:
            return True
        domain = domain.partition(".")[2]
    return False


class Facts:
    """What is known of one lead, in the form in which it compares; each value is brought into that form once."""

    def __init__(
        self,
        properties: Mapping[str, str | None],
        source: str = "",
        *,
        lists: Mapping[str, Collection[str]] = MappingProxyType({}),
        today: date = date.min,
    ) -> None:
        """`source` is HubSpot's change source, `lists` are the policy's, `today` is the day on which the lead came."""
        self._properties = properties
        self._lists = lists
        self._today = today
        self._texts: dict[str, str | None] = {}
        self._numbers: dict[str, Decimal | None] = {}
        self.source = fold(source)

    def text(self, name: str) -> str | None:
        """Give a property's text to compare; None if it is unknown."""
        if name not in self._texts:
            self._texts[name] = fold(self._properties.get(name) or "") or None
        return self._texts[name]

    def number(self, name: str) -> Decimal | None:
        """Give a property's number; None if it is unknown or no plain number."""
        if name not in self._numbers:
            text = (self._properties.get(name) or "").strip()
            self._numbers[name] = Decimal(text) if NUMBER.fullmatch(text) else None
        return self._numbers[name]

    def day(self, name: str) -> date | None:
        """Give the day of a property; None if it is unknown or no date."""
        return day_of(self._properties.get(name) or "")

    def equals(self, name: str, value: Value) -> bool:
        """Tell whether the property is this value."""
        match value:
            case bool():
                return self.text(name) == str(value).lower()
            case int() | float():
                return self.number(name) == exact(value)
            case _:
                return self.text(name) == fold(value)

    def reached(self, criterion: Reached) -> bool:
        """Tell whether the property has one of the values."""
        return self.is_any(criterion.property, criterion.reaches)

    def is_source_named(self, conditions: Iterable[Condition]) -> bool:
        """Tell whether a `source` condition that holds is among these or in a group of them."""
        for condition in conditions:
            match condition:
                case FromSource():
                    named = self._is_from(condition)
                case AllOf() | AnyOf():
                    named = self.is_source_named(condition.conditions)
                case _:
                    named = False
            if named:
                return True
        return False

    def holds(self, condition: Condition, outcomes: list[bool]) -> bool:
        """Tell whether a condition holds, and note the outcome of every leaf in order."""
        match condition:
            case AllOf() | AnyOf():
                inner = [self.holds(part, outcomes) for part in condition.conditions]
                return all(inner) if isinstance(condition, AllOf) else any(inner)
            case Not():
                return not self.holds(condition.condition, outcomes)
            case FromSource():
                outcomes.append(self._is_from(condition))
            case _:
                outcomes.append(self._compares(condition))
        return outcomes[-1]

    def _is_from(self, condition: FromSource) -> bool:
        return self.source in {fold(source) for source in condition.sources}

    def is_any(self, name: str, values: Iterable[Value]) -> bool:
        """Tell whether the property is one of these values."""
        return any(self.equals(name, value) for value in values)

    def _compares(self, condition: Comparison) -> bool:
        match condition:
            case Equals() | In() | InList():
                return self._is_one(condition)
            case AtLeast() | AtMost() | Between():
                return self._is_within(condition)
            case Contains() | StartsWith() | EndsWith():
                return self._reads(condition)
            case Before() | After() | WithinDays():
                return self._is_dated(condition)
            case Known():
                return self.text(condition.property) is not None
            case Unknown():
                return self.text(condition.property) is None
            case _:
                assert_never(condition)

    def _is_one(self, condition: Equals | In | InList) -> bool:
        match condition:
            case Equals():
                return self.equals(condition.property, condition.value) is not condition.negated
            case In():
                return self.is_any(condition.property, condition.value) is not condition.negated
            case InList():
                return is_listed(self.text(condition.property) or "", self._lists.get(condition.list, ()))

    def _is_within(self, condition: AtLeast | AtMost | Between) -> bool:
        number = self.number(condition.property)
        if number is None:
            return False
        match condition:
            case AtLeast():
                return number >= exact(condition.value)
            case AtMost():
                return number <= exact(condition.value)
            case Between():
                low, high = condition.value
                return exact(low) <= number <= exact(high)

    def _reads(self, condition: Contains | StartsWith | EndsWith) -> bool:
        text = self.text(condition.property) or ""
        match condition:
            case Contains():
                return any(fold(part) in text for part in condition.texts)
            case StartsWith():
                return text.startswith(fold(condition.value))
            case EndsWith():
                return text.endswith(fold(condition.value))

    def _is_dated(self, condition: Dated) -> bool:
        day = self.day(condition.property)
        if day is None:
            return False
        match condition:
            case Before():
                return day < condition.day
            case After():
                return day > condition.day
            case WithinDays():
                return condition.first <= (day - self._today).days <= condition.last


def matches(value: Value, text: str | None) -> bool:
    """Tell whether a value of the policy is equal to what HubSpot says."""
    return Facts({"": text}).equals("", value)
