"""The conditions and values of a policy in plain words. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from fairturn.rules.conditions import (
    AllOf,
    AnyOf,
    AtLeast,
    AtMost,
    Between,
    Contains,
    Equals,
    FromSource,
    In,
    Known,
    Not,
    Reached,
    StartsWith,
    Unknown,
    exact,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fairturn.rules.conditions import Condition, Leaf, Value


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
            return "is", as_text(leaf.value)
        case In():
            return "is", _either(leaf.value)
        case AtLeast():
            return "is", f"at least {as_text(leaf.value)}"
        case AtMost():
            return "is", f"at most {as_text(leaf.value)}"
        case Between():
            return "is", f"from {as_text(leaf.value[0])} to {as_text(leaf.value[1])}"
        case Contains():
            return "contains", leaf.value
        case StartsWith():
            return "starts with", leaf.value
        case Known() | Unknown():
            return "is", "known" if isinstance(leaf, Known) else "unknown"
        case _:
            assert_never(leaf)


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
