"""Values that satisfy conditions, where rules/conditions.py tells whether a value does.

A condition is taken apart into ways to satisfy it. A way is a set of demands, each a single comparison that is to hold
or not to hold. Values are then tried for each property that has demands: those that its comparisons suggest.
"""

from __future__ import annotations

import re
from datetime import date, timedelta
from itertools import chain, islice, product
from typing import TYPE_CHECKING, Final, NamedTuple

from fairturn.rules.conditions import (
    After,
    AllOf,
    AnyOf,
    AtLeast,
    AtMost,
    Before,
    Between,
    Contains,
    EndsWith,
    Equals,
    FromSource,
    In,
    InList,
    Known,
    Not,
    StartsWith,
    Unknown,
    WithinDays,
    exact,
)
from fairturn.rules.wording import as_text

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from fairturn.rules.conditions import Condition, Leaf, Number

MOST_WAYS: Final = 64
"""To satisfy one condition: of more, the first are tried."""
MOST_LISTED: Final = 40
"""Entries of a list that are suggested."""
ADDRESS: Final = re.compile(r"[^@\s]+@[^@\s.]+(\.[^@\s.]+)+")


class Demand(NamedTuple):
    """A comparison, and whether it is to hold."""

    leaf: Leaf
    holds: bool


Way = tuple[Demand, ...]


def ways(conditions: Iterable[Condition]) -> Iterator[Way]:
    """Yield ways in which all of these hold."""
    return _ways(AllOf(tuple(conditions)), holds=True)


def ways_out(conditions: Iterable[Condition]) -> Iterator[Way]:
    """Yield ways in which not all of these hold."""
    return _ways(AllOf(tuple(conditions)), holds=False)


def _ways(condition: Condition, *, holds: bool) -> Iterator[Way]:
    match condition:
        case Not():
            yield from _ways(condition.condition, holds=not holds)
        case AllOf() | AnyOf() if isinstance(condition, AllOf) is holds:
            parts = (islice(_ways(part, holds=holds), MOST_WAYS) for part in condition.conditions)
            for way in islice(product(*parts), MOST_WAYS):
                yield tuple(chain.from_iterable(way))
        case AllOf() | AnyOf():
            for part in condition.conditions:
                yield from _ways(part, holds=holds)
        case _:
            yield (Demand(condition, holds),)


def suggestions(leaf: Leaf, lists: Mapping[str, Collection[str]], today: date) -> list[str]:
    """Values that satisfy a comparison, and some that do not: those next to its bounds."""
    match leaf:
        case Equals():
            return [as_text(leaf.value)]
        case In():
            return [as_text(value) for value in leaf.value]
        case InList():
            listed = sorted(lists.get(leaf.list, ()))[:MOST_LISTED]
            return [*listed, *(f"lead@{entry}" for entry in listed if "@" not in entry)]
        case AtLeast() | AtMost():
            return _around(leaf.value)
        case Between():
            return [each for bound in leaf.value for each in _around(bound)]
        case Contains() | StartsWith() | EndsWith():
            return texts([leaf.texts[0] if isinstance(leaf, Contains) else leaf.value])
        case Before() | After() | WithinDays():
            return _days_around(leaf, today)
        case FromSource():
            return [source.upper() for source in leaf.sources]
        case Known() | Unknown():
            return []


def together(demands: Iterable[Demand]) -> list[str]:
    """Texts that begin, end and contain what these demands want, if there are several."""
    starts: list[str] = []
    parts: list[str] = []
    ends: list[str] = []
    for leaf, holds in demands:
        match leaf:
            case StartsWith() if holds:
                starts.append(leaf.value)
            case Contains() if holds:
                parts.append(leaf.texts[0])
            case EndsWith() if holds:
                ends.append(leaf.value)
            case _:
                pass
    if len(starts) + len(parts) + len(ends) < 2:
        return []
    longest = [sorted(each, key=len, reverse=True)[:1] for each in (starts, ends)]
    return texts([*longest[0], *parts, *longest[1]])


def texts(pieces: Sequence[str]) -> list[str]:
    """Texts that are made of these in this order, addresses among them; the plain ones first."""
    plain = [*dict.fromkeys([" ".join(pieces), "".join(pieces)])]
    dressed = [f"{before}{text}{after}" for text in plain for before, after in _DRESS]
    return [*plain, *(text for text in dressed if ADDRESS.fullmatch(text))]


_DRESS: Final = (
    ("lead", ""),
    ("lead@", ""),
    ("lead@mail.", ""),
    ("lead@example", ""),
    ("", "@example.net"),
    ("", "example.net"),
    ("lead@", ".example.net"),
    ("lead.", "@example.net"),
    ("", ".lead@example.net"),
)
"""What makes an e-mail address of a part of one."""


def _around(number: Number) -> list[str]:
    middle = exact(number)
    return [f"{each:f}" for each in (middle, middle + 1, middle - 1, middle + 30, middle / 2)]


def _days_around(leaf: Before | After | WithinDays, today: date) -> list[str]:
    if isinstance(leaf, WithinDays):
        bounds = [today + timedelta(days=days) for days in (leaf.first, leaf.last)]
    else:
        bounds = [leaf.day]
    return [(bound + timedelta(days=days)).isoformat() for bound in bounds for days in (0, 1, -1)]
