"""Where a lead goes, and the trace of why: the first rule whose conditions all hold.

Every condition of a rule that is tried is looked at, even when the outcome is clear before: so the trace has
one digit for each, and whoever has the same version of the policy can read it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, assert_never

from fairturn.rules.events import BULK_SOURCES
from fairturn.rules.policy import (
    OTHERWISE,
    OWNER,
    AllOf,
    AnyOf,
    AtLeast,
    AtMost,
    Between,
    Contains,
    Equals,
    FromSource,
    IgnoringRule,
    In,
    Known,
    Not,
    Priority,
    Reached,
    RoutingRule,
    StartsWith,
    Unknown,
    fold,
    lane,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from fairturn.rules.events import Message
    from fairturn.rules.policy import Comparison, Condition, Leaf, Policy, Rule, Value

NUMBER = re.compile(r"[+-]?(?:[0-9]{1,40}(?:\.[0-9]{0,40})?|\.[0-9]{1,40})(?:[eE][+-]?[0-9]{1,3})?")
"""What counts as a number in HubSpot; the bounds keep every comparison quick."""


@dataclass(frozen=True, slots=True)
class Lead:
    """What brought a record, and what HubSpot shows of it."""

    message: Message
    properties: Mapping[str, str | None]

    @property
    def owner(self) -> str | None:
        """The owner's id; None if nobody owns it."""
        return self.properties.get(OWNER) or None


@dataclass(frozen=True, slots=True)
class Route:
    """A lead for the reps of one lane."""

    rota: str
    lane: str
    priority: Priority
    rule: str
    trace: str
    """For each rule tried, in order, the outcome of each of its conditions as 0 or 1 in the order of
    `policy.leaves`, or `-` for a rule without any; blanks between rules. The last one is the rule that took
    the lead, unless that is the catch-all, which has no place in the trace."""
    worth: str | None = None
    """What the lead is worth, in words; None if the policy has no `worth`."""


@dataclass(frozen=True, slots=True)
class Ignored:
    """A record that is nobody's lead."""

    reason: str
    rule: str | None
    """The rule that said so; None if it is no lead in the first place."""
    trace: str


def route(lead: Lead, policy: Policy) -> Route | Ignored:
    """Find where a lead goes.

    A record from a bulk source is taken only by a rule that names the source; a rule that doesn't is passed
    over, unless it is one that ignores. Whether the record is closed makes no difference: see `is_closed`.
    """
    source = lead.message.change_source
    facts = _Facts(lead.properties, source)
    bulk = facts.source in _BULK_SOURCES
    taker, trace = _first_taker(facts, policy.rules, bulk=bulk)
    if taker is None and bulk:
        return Ignored(f"comes from {source}, and no rule asks for it", None, trace)
    if isinstance(policy.leads.when, Reached) and not facts.reached(policy.leads.when):
        return Ignored(f"not a lead until {describe(policy.leads.when)}", None, trace)
    if isinstance(taker, IgnoringRule):
        return Ignored(taker.ignore, taker.name, trace)
    goal = taker or policy.otherwise
    name = taker.name if taker else OTHERWISE
    worth = policy.leads.worth
    if worth is None:
        return Route(goal.rota, lane(goal.skills), goal.priority or Priority.NORMAL, name, trace)
    band = worth.band(facts.number(worth.property))
    priority = goal.priority or worth.priority(band)
    return Route(goal.rota, lane(goal.skills, band), priority, name, trace, worth.in_words(band))


def matches(value: Value, text: str | None) -> bool:
    """Tell whether a value of the policy is equal to what HubSpot says."""
    return _Facts({"": text}).equals("", value)


def lacking(lead: Lead, policy: Policy) -> tuple[str, ...]:
    """The properties for which a new lead waits, as it has no value of them yet."""
    settle = policy.leads.settle
    if settle is None:
        return ()
    facts = _Facts(lead.properties)
    return tuple(name for name in settle.known if facts.text(name) is None)


def is_closed(properties: Mapping[str, str | None], policy: Policy) -> bool:
    """Tell whether a record counts in nobody's load any more."""
    facts = _Facts(properties)
    return any(facts.reached(closed) for closed in policy.leads.closed)


def _first_taker(facts: _Facts, rules: Iterable[Rule], *, bulk: bool) -> tuple[Rule | None, str]:
    trace: list[str] = []
    for rule in rules:
        outcomes: list[bool] = []
        held = [facts.holds(condition, outcomes) for condition in rule.when]
        trace.append("".join("01"[outcome] for outcome in outcomes) or "-")
        passed_over = bulk and isinstance(rule, RoutingRule) and not facts.is_source_named(rule.when)
        if all(held) and not passed_over:
            return rule, " ".join(trace)
    return None, " ".join(trace)


_BULK_SOURCES = frozenset(fold(source) for source in BULK_SOURCES)


class _Facts:
    """What is known of one lead, in the form in which it compares; each value is brought into that form once."""

    def __init__(self, properties: Mapping[str, str | None], source: str = "") -> None:
        self._properties = properties
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

    def reached(self, criterion: Reached) -> bool:
        """Tell whether the property has one of the values."""
        return self._is_any(criterion.property, criterion.reaches)

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

    def _is_any(self, name: str, values: Iterable[Value]) -> bool:
        return any(self.equals(name, value) for value in values)

    def equals(self, name: str, value: Value) -> bool:
        """Tell whether the property is this value."""
        match value:
            case bool():
                return self.text(name) == str(value).lower()
            case Decimal():
                return self.number(name) == value
            case _:
                return self.text(name) == fold(value)

    def _compares(self, condition: Comparison) -> bool:
        name = condition.property
        match condition:
            case Equals():
                return self.equals(name, condition.value)
            case In():
                return self._is_any(name, condition.value)
            case AtLeast():
                return self._is_within(name, condition.value, None)
            case AtMost():
                return self._is_within(name, None, condition.value)
            case Between():
                return self._is_within(name, *condition.value)
            case Contains():
                return fold(condition.value) in (self.text(name) or "")
            case StartsWith():
                return (self.text(name) or "").startswith(fold(condition.value))
            case Known():
                return self.text(name) is not None
            case Unknown():
                return self.text(name) is None
            case _:
                assert_never(condition)

    def _is_within(self, name: str, low: Decimal | None, high: Decimal | None) -> bool:
        number = self.number(name)
        return number is not None and (low is None or number >= low) and (high is None or number <= high)


def describe(condition: Condition | Reached | tuple[Condition, ...]) -> str:
    """Say a condition, or all those of a rule together, in plain words: `country is France or Réunion`."""
    match condition:
        case tuple():
            return _joined(condition, "and") if condition else "always"
        case AllOf():
            return _joined(condition.conditions, "and")
        case AnyOf():
            return _joined(condition.conditions, "or")
        case Not():
            inner = condition.condition
            if isinstance(inner, (AllOf, AnyOf, Not)):
                return f"not ({describe(inner)})"
            return _leaf(inner, negated=True)
        case Reached():
            return f"{condition.property} is {_either(condition.reaches)}"
        case _:
            return _leaf(condition)


def _joined(conditions: Sequence[Condition], word: str) -> str:
    if len(conditions) == 1:
        return describe(conditions[0])
    parts = (f"({describe(part)})" if isinstance(part, (AllOf, AnyOf)) else describe(part) for part in conditions)
    return f", {word} ".join(parts)


_NEGATED = {"is": "is not", "contains": "does not contain", "starts with": "does not start with"}


def _leaf(leaf: Leaf, *, negated: bool = False) -> str:
    verb, rest = _predicate(leaf)
    subject = "the source" if isinstance(leaf, FromSource) else leaf.property
    return f"{subject} {_NEGATED[verb] if negated else verb} {rest}"


def _predicate(leaf: Leaf) -> tuple[str, str]:
    match leaf:
        case FromSource():
            return "is", _either(leaf.sources)
        case Equals():
            return "is", said(leaf.value)
        case In():
            return "is", _either(leaf.value)
        case AtLeast():
            return "is", f"at least {said(leaf.value)}"
        case AtMost():
            return "is", f"at most {said(leaf.value)}"
        case Between():
            return "is", f"from {said(leaf.value[0])} to {said(leaf.value[1])}"
        case Contains():
            return "contains", leaf.value
        case StartsWith():
            return "starts with", leaf.value
        case Known() | Unknown():
            return "is", "known" if isinstance(leaf, Known) else "unknown"
        case _:
            assert_never(leaf)


def _either(values: Sequence[Value]) -> str:
    words = [said(value) for value in values]
    return " or ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else words[0]


def said(value: Value) -> str:
    """A value of the policy as text."""
    match value:
        case bool():
            return str(value).lower()
        case Decimal():
            return f"{value:f}"
        case _:
            return value
