"""The conditions and values of a policy in plain words. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

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
    Reached,
    StartsWith,
    Unknown,
    WithinDays,
    exact,
)
from fairturn.rules.ledger import ANY, BAND

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fairturn.rules.conditions import Condition, Dated, Leaf, Value
    from fairturn.rules.policy import Policy


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


_NEGATED = {
    "is": "is not",
    "contains": "does not contain",
    "starts with": "does not start with",
    "ends with": "does not end with",
}


def _leaf(leaf: Leaf, *, negated: bool = False) -> str:
    verb, rest = _predicate(leaf)
    subject = "the source" if isinstance(leaf, FromSource) else leaf.property
    is_negative = isinstance(leaf, (Equals, In)) and leaf.negated
    return f"{subject} {_NEGATED[verb] if negated is not is_negative else verb} {rest}"


def _predicate(leaf: Leaf) -> tuple[str, str]:
    match leaf:
        case FromSource():
            return "is", _either(leaf.sources)
        case Equals():
            return "is", as_text(leaf.value)
        case In():
            return "is", _either(leaf.value)
        case InList():
            return "is", f"in the list {leaf.list}"
        case Contains():
            return "contains", _either(leaf.texts)
        case StartsWith():
            return "starts with", leaf.value
        case EndsWith():
            return "ends with", leaf.value
        case Known() | Unknown():
            return "is", "known" if isinstance(leaf, Known) else "unknown"
        case _:
            return "is", _measure(leaf)


def _measure(leaf: AtLeast | AtMost | Between | Dated) -> str:
    match leaf:
        case AtLeast():
            return f"at least {as_text(leaf.value)}"
        case AtMost():
            return f"at most {as_text(leaf.value)}"
        case Between():
            return f"from {as_text(leaf.value[0])} to {as_text(leaf.value[1])}"
        case Before():
            return f"before {leaf.day}"
        case After():
            return f"after {leaf.day}"
        case WithinDays() if leaf.first == leaf.last == 0:
            return "on the day of the lead"
        case WithinDays() if -leaf.first == leaf.last:
            return f"at most {_days(leaf.last)} before or after the lead"
        case WithinDays():
            return f"from {_relative(leaf.first)} to {_relative(leaf.last)}"
        case _:
            assert_never(leaf)


def _relative(days: int) -> str:
    if days == 0:
        return "the day of the lead"
    return f"{_days(abs(days))} {'before' if days < 0 else 'after'} it"


def _days(number: int) -> str:
    return "1 day" if number == 1 else f"{number} days"


def _either(values: Sequence[Value]) -> str:
    words = [as_text(value) for value in values]
    return " or ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else words[0]


def as_text(value: Value) -> str:
    """A value of the policy as text."""
    match value:
        case bool():
            return str(value).lower()
        case int() | float():
            return f"{exact(value):f}"
        case _:
            return value


def asked_in_words(lane: str, policy: Policy) -> str:
    """Say what the leads of a lane ask for: `de and fr, worth 60 or more`; `anything` if they ask for nothing."""
    skills, _, band = lane.partition(BAND)
    asked = "anything" if skills == ANY else " and ".join(map(policy.skill, skills.split("+")))
    worth = policy.leads.worth.in_words(band) if policy.leads.worth and band else ""
    return f"{asked}, {worth}" if worth else asked
