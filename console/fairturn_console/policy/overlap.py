"""Whether conditions can hold of one lead together. A no is certain; a yes is not.

Conditions become a formula of statements. A statement is about one property, or about the source. A formula is opened
up, choice by choice, until its statements contradict each other or no choice is left. Values compare as in routing.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Final, assert_never

from fairturn.rules.conditions import (
    NUMBER,
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
    fold,
)
from fairturn.rules.events import BULK_SOURCES
from fairturn.rules.policy import IgnoringRule

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from fairturn.rules.conditions import Condition, Dated, Leaf, Value
    from fairturn.rules.policy import Policy, Rule

MAX_STEPS: Final = 1_000
"""Choices that are followed for one question. After so many the answer is yes."""
ENDLESS: Final = Decimal("Infinity")

Path = tuple[str | int, ...]
"""The way to a value in the file, as `problems.place` writes it."""


# What is said of one value


@dataclass(frozen=True, slots=True)
class OneOf:
    """It is one of these texts, or one of these numbers."""

    texts: frozenset[str]
    """Folded."""
    numbers: frozenset[Decimal]
    numerals: frozenset[Decimal]
    """The numbers that texts of `texts` write."""


@dataclass(frozen=True, slots=True)
class Least:
    """It is a number, this or more."""

    bound: Decimal


@dataclass(frozen=True, slots=True)
class Most:
    """It is a number, this or less."""

    bound: Decimal


@dataclass(frozen=True, slots=True)
class Has:
    """It has this text in it, folded."""

    text: str


@dataclass(frozen=True, slots=True)
class Begins:
    """It begins with this text, folded."""

    text: str


@dataclass(frozen=True, slots=True)
class Ends:
    """It ends with this text, folded."""

    text: str


@dataclass(frozen=True, slots=True)
class There:
    """There is a value."""


@dataclass(frozen=True, slots=True)
class Compares:
    """It is something that is not looked into: a date, or an entry of a list. So there is a value."""

    condition: InList | Before | After | WithinDays


Predicate = OneOf | Least | Most | Has | Begins | Ends | There | Compares


# Formulas


@dataclass(frozen=True, slots=True)
class Statement:
    """That a predicate holds of a property or of the source, or that it doesn't."""

    about: str | None
    """None is the source."""
    predicate: Predicate
    holds: bool = True


@dataclass(frozen=True, slots=True)
class Every:
    """Every one of these; without any, always."""

    parts: tuple[Formula, ...]


@dataclass(frozen=True, slots=True)
class Some:
    """At least one of these; without any, never."""

    parts: tuple[Formula, ...]


Formula = Statement | Every | Some
Statements = dict[str | None, tuple[Statement, ...]]


def formula(conditions: Iterable[Condition]) -> Every:
    """Say that all of these conditions hold."""
    return Every(tuple(_formula(condition) for condition in conditions))


def denied(formula: Formula) -> Formula:
    """Say the opposite."""
    match formula:
        case Statement():
            return Statement(formula.about, formula.predicate, not formula.holds)
        case Every():
            return Some(tuple(map(denied, formula.parts)))
        case Some():
            return Every(tuple(map(denied, formula.parts)))


def properties(formula: Formula) -> frozenset[str]:
    """Give the properties that a formula says something of."""
    if isinstance(formula, Statement):
        return frozenset(filter(None, [formula.about]))
    return frozenset(name for part in formula.parts for name in properties(part))


def taken(rule: Rule) -> Every:
    """Say what is so of a lead that a rule takes, if none before it does.

    A lead from a bulk source is taken only by a rule that names the source, or by one that ignores.
    """
    holds = formula(rule.when)
    if isinstance(rule, IgnoringRule):
        return holds
    single = denied(Statement(None, _one_of(BULK_SOURCES)))
    return Every((holds, Some((single, *_named_sources(rule.when)))))


def _named_sources(conditions: Iterable[Condition]) -> Iterator[Statement]:
    for condition in conditions:
        match condition:
            case FromSource():
                yield Statement(None, _one_of(condition.sources))
            case AllOf() | AnyOf():
                yield from _named_sources(condition.conditions)
            case _:
                pass


def _formula(condition: Condition) -> Formula:
    match condition:
        case AllOf():
            return formula(condition.conditions)
        case AnyOf():
            return Some(formula(condition.conditions).parts)
        case Not():
            return denied(_formula(condition.condition))
        case FromSource():
            return Statement(None, _one_of(condition.sources))
        case Between():
            low, high = condition.value
            return Every(
                (Statement(condition.property, Least(exact(low))), Statement(condition.property, Most(exact(high))))
            )
        case Unknown():
            return Statement(condition.property, There(), holds=False)
        case Equals():
            return Statement(condition.property, _one_of([condition.value]), holds=not condition.negated)
        case In():
            return Statement(condition.property, _one_of(condition.value), holds=not condition.negated)
        case Contains():
            return Some(tuple(Statement(condition.property, Has(fold(text))) for text in condition.texts))
        case _:
            return Statement(condition.property, _predicate(condition))


def _predicate(
    condition: InList | AtLeast | AtMost | StartsWith | EndsWith | Dated | Known,
) -> Predicate:
    match condition:
        case AtLeast():
            return Least(exact(condition.value))
        case AtMost():
            return Most(exact(condition.value))
        case StartsWith():
            return Begins(fold(condition.value))
        case EndsWith():
            return Ends(fold(condition.value))
        case InList() | Before() | After() | WithinDays():
            return Compares(condition)
        case Known():
            return There()
        case _:
            assert_never(condition)


def _one_of(values: Iterable[Value]) -> OneOf:
    texts: set[str] = set()
    numbers: set[Decimal] = set()
    for value in values:
        match value:
            case bool():
                texts.add(str(value).lower())
            case int() | float():
                numbers.add(exact(value))
            case _:
                texts.add(fold(value))
    numerals = frozenset(Decimal(text) for text in texts if NUMBER.fullmatch(text))
    return OneOf(frozenset(texts), frozenset(numbers), numerals)


# Whether they can hold


def can_hold(*formulas: Formula) -> bool:
    """Tell whether all of these may hold of one lead. False is certain."""
    worlds: list[tuple[Sequence[Formula], Statements]] = [(formulas, {})]
    for _ in range(MAX_STEPS):
        if not worlds:
            return False
        statements, choices = _opened(*worlds.pop())
        if statements is None:
            continue
        if not choices:
            return True
        narrowest = min(choices, key=lambda choice: len(choice.parts))
        others = [choice for choice in choices if choice is not narrowest]
        worlds += [([part, *others], statements) for part in narrowest.parts]
    return True


def _opened(formulas: Sequence[Formula], known: Statements) -> tuple[Statements | None, list[Some]]:
    """Add all that is said for certain to the statements; None if they contradict each other. Choices are left over."""
    statements, choices, closed = dict(known), [], list(formulas)
    while closed:
        match closed.pop():
            case Statement() as statement:
                statements[statement.about] = (*statements.get(statement.about, ()), statement)
            case Every(parts):
                closed += parts
            case Some((only,)):
                closed.append(only)
            case Some() as choice:
                choices.append(choice)
    agree = all(_agree(said) for about, said in statements.items() if said is not known.get(about))
    return (statements if agree else None), choices


def _agree(statements: Sequence[Statement]) -> bool:
    """Tell whether all these statements about one property, or about the source, may be true."""
    wanted = [statement.predicate for statement in statements if statement.holds]
    unwanted = [statement.predicate for statement in statements if not statement.holds]
    if There() in unwanted:  # without a value, nothing that a predicate says is so
        return not wanted
    within = _range(wanted, unwanted)
    if within is None:
        return False
    if (values := _values(wanted, within)) is not None:
        return any(
            all(_holds(each, *value) is not False for each in wanted)
            and all(_holds(each, *value) is not True for each in unwanted)
            for value in values
        )
    return _spells(wanted, unwanted)


def _range(wanted: Sequence[Predicate], unwanted: Sequence[Predicate]) -> tuple[Decimal, Decimal] | None:
    """Give the range that a value is in, edges included; None if it is empty. Without numbers it is endless."""
    lows = [each.bound for each in wanted if isinstance(each, Least)]
    highs = [each.bound for each in wanted if isinstance(each, Most)]
    if lows or highs:  # only of a number does it follow that it is more, where it isn't less
        lows += [each.bound for each in unwanted if isinstance(each, Most)]
        highs += [each.bound for each in unwanted if isinstance(each, Least)]
    low, high = max(lows, default=-ENDLESS), min(highs, default=ENDLESS)
    return (low, high) if low <= high else None


Written = tuple[str | None, Decimal | None]
"""A value as text and as number. Without a text it is that number, written in one of many ways."""


def _values(wanted: Sequence[Predicate], within: tuple[Decimal, Decimal]) -> list[Written] | None:
    """Give all values that can be meant; None if they are countless."""
    sets = [each for each in wanted if isinstance(each, OneOf)]
    if not sets:
        low, high = within
        return [(None, low)] if low == high else None
    fewest = min(sets, key=lambda each: len(each.texts) + len(each.numbers))
    values: list[Written] = [(None, number) for number in fewest.numbers]
    for text in fewest.texts:
        # A text that folds to a numeral need not be one: of "５", only the text is 5.
        values += [(text, None), (text, Decimal(text))] if NUMBER.fullmatch(text) else [(text, None)]
    return values


def _holds(predicate: Predicate, text: str | None, number: Decimal | None) -> bool | None:
    """Tell whether a predicate holds of a value; None if that can't be told."""
    match predicate:
        case There():
            return True
        case Least(bound):
            return number is not None and number >= bound
        case Most(bound):
            return number is not None and number <= bound
        case OneOf():
            if text in predicate.texts or number in predicate.numbers:
                return True
            return None if text is None and number in predicate.numerals else False
        case Has(part):
            return None if text is None else part in text
        case Begins(part):
            return None if text is None else text.startswith(part)
        case Ends(part):
            return None if text is None else text.endswith(part)
        case Compares():
            return None


def _spells(wanted: Sequence[Predicate], unwanted: Sequence[Predicate]) -> bool:
    """Tell whether a text may have the wanted parts and beginnings, and none of the unwanted."""
    beginnings = [each.text for each in wanted if isinstance(each, Begins)]
    endings = [each.text for each in wanted if isinstance(each, Ends)]
    first, last = max(beginnings, key=len, default=""), max(endings, key=len, default="")
    if not all(map(first.startswith, beginnings)) or not all(map(last.endswith, endings)):
        return False
    parts = [first, last, *(each.text for each in wanted if isinstance(each, Has))]
    return not any(
        each in wanted
        or (isinstance(each, Begins) and first.startswith(each.text))
        or (isinstance(each, Ends) and last.endswith(each.text))
        or (isinstance(each, Ends) and last.endswith(each.text))
        or (isinstance(each, Has) and any(each.text in part for part in parts))
        for each in unwanted
    )


# Where conditions are


def placed(policy: Policy) -> Iterator[tuple[Path, Leaf]]:
    """Yield every condition that is not made of others, of rules and of priorities, with its place in the file."""
    for index, rule in enumerate(policy.rules):
        yield from _placed(rule.when, ("rules", index, "when"))
    for path, goal in policy.goals():
        for priority, conditions in goal.priorities:
            yield from _placed(conditions, (*path, "priority", priority.value))


def _placed(conditions: Iterable[Condition], path: Path) -> Iterator[tuple[Path, Leaf]]:
    for index, condition in enumerate(conditions):
        yield from _placed_one(condition, (*path, index))


def _placed_one(condition: Condition, path: Path) -> Iterator[tuple[Path, Leaf]]:
    match condition:
        case AllOf():
            yield from _placed(condition.conditions, (*path, "all"))
        case AnyOf():
            yield from _placed(condition.conditions, (*path, "any"))
        case Not():
            yield from _placed_one(condition.condition, (*path, "not"))
        case _:
            yield path, condition
