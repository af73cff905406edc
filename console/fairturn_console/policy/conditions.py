"""Conditions as they are written: the key of the value is the operator."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, Discriminator, Field, Tag

from fairturn.rules import conditions
from fairturn_console.policy.problems import Strict, listed, unknown, wrong
from fairturn_console.policy.values import (
    ONE_OR_MORE,
    Day,
    DaysAround,
    ListName,
    OneNumber,
    OneValue,
    Property,
    Range,
    Sources,
    Text,
    Texts,
    Values,
    Yes,
)

MAX_DEPTH = 8


class _Equals(Strict):
    property: Property
    equals: OneValue

    def meant(self) -> conditions.Condition:
        return conditions.Equals(self.property, self.equals)


class _In(Strict):
    property: Property
    values: Values = Field(alias="in")

    def meant(self) -> conditions.Condition:
        return conditions.In(self.property, self.values)


class _AtLeast(Strict):
    property: Property
    at_least: OneNumber

    def meant(self) -> conditions.Condition:
        return conditions.AtLeast(self.property, self.at_least)


class _AtMost(Strict):
    property: Property
    at_most: OneNumber

    def meant(self) -> conditions.Condition:
        return conditions.AtMost(self.property, self.at_most)


class _Between(Strict):
    property: Property
    between: Range

    def meant(self) -> conditions.Condition:
        return conditions.Between(self.property, self.between)


class _NotEquals(Strict):
    property: Property
    not_equals: OneValue

    def meant(self) -> conditions.Condition:
        return conditions.Equals(self.property, self.not_equals, negated=True)


class _NotIn(Strict):
    property: Property
    not_in: Values

    def meant(self) -> conditions.Condition:
        return conditions.In(self.property, self.not_in, negated=True)


class _InList(Strict):
    property: Property
    in_list: ListName

    def meant(self) -> conditions.Condition:
        return conditions.InList(self.property, self.in_list)


class _Contains(Strict):
    property: Property
    contains: Text

    def meant(self) -> conditions.Condition:
        return conditions.Contains(self.property, (self.contains,))


class _ContainsAny(Strict):
    property: Property
    contains_any: Texts

    def meant(self) -> conditions.Condition:
        return conditions.Contains(self.property, self.contains_any)


class _StartsWith(Strict):
    property: Property
    starts_with: Text

    def meant(self) -> conditions.Condition:
        return conditions.StartsWith(self.property, self.starts_with)


class _EndsWith(Strict):
    property: Property
    ends_with: Text

    def meant(self) -> conditions.Condition:
        return conditions.EndsWith(self.property, self.ends_with)


class _Before(Strict):
    property: Property
    before: Day

    def meant(self) -> conditions.Condition:
        return conditions.Before(self.property, self.before)


class _After(Strict):
    property: Property
    after: Day

    def meant(self) -> conditions.Condition:
        return conditions.After(self.property, self.after)


class _WithinDays(Strict):
    property: Property
    within_days: DaysAround

    def meant(self) -> conditions.Condition:
        return conditions.WithinDays(self.property, *self.within_days)


class _Known(Strict):
    property: Property
    known: Yes

    def meant(self) -> conditions.Condition:
        return conditions.Known(self.property)


class _Unknown(Strict):
    property: Property
    unknown: Yes

    def meant(self) -> conditions.Condition:
        return conditions.Unknown(self.property)


class _FromSource(Strict):
    source: Sources

    def meant(self) -> conditions.Condition:
        return conditions.FromSource(self.source)


class _AllOf(Strict):
    all: Annotated[tuple[OneCondition, ...], Field(min_length=1), ONE_OR_MORE]

    def meant(self) -> conditions.Condition:
        return conditions.AllOf(tuple(each.meant() for each in self.all))


class _AnyOf(Strict):
    any: Annotated[tuple[OneCondition, ...], Field(min_length=1), ONE_OR_MORE]

    def meant(self) -> conditions.Condition:
        return conditions.AnyOf(tuple(each.meant() for each in self.any))


class _Not(Strict):
    condition: OneCondition = Field(alias="not")

    def meant(self) -> conditions.Condition:
        return conditions.Not(self.condition.meant())


_COMPARING = """
    equals not_equals in not_in in_list at_least at_most between contains contains_any starts_with ends_with before
    after within_days known unknown
""".split()  # noqa: SIM905 - a list of words
OPERATORS = (*_COMPARING, "source", "all", "any", "not")


def _one_operator(data: object) -> object:
    if not isinstance(data, dict):
        raise wrong("must be a condition such as {property: country, equals: France}")
    given = [key for key in data if key in OPERATORS]
    if len(given) > 1:
        raise wrong(f"has several operators ({listed(given)}); make it one condition each")
    if not given:
        other = [str(key) for key in data if key != "property"]
        if other:
            raise wrong(unknown("operator", other[0], OPERATORS), at=other[0])
        raise wrong(f"has no operator; allowed: {listed(OPERATORS)}")
    return data


def _operator(data: object) -> str:
    return next(f"<{key}>" for key in keys_of(data) if key in OPERATORS)


def keys_of(data: object) -> list[str]:
    """Give the keys that a mapping of the file has, be it still raw or a model already."""
    if isinstance(data, BaseModel):
        return [field.alias or name for name, field in type(data).model_fields.items()]
    return [str(key) for key in data] if isinstance(data, dict) else []


OneCondition = Annotated[
    Annotated[_Equals, Tag("<equals>")]
    | Annotated[_NotEquals, Tag("<not_equals>")]
    | Annotated[_In, Tag("<in>")]
    | Annotated[_NotIn, Tag("<not_in>")]
    | Annotated[_InList, Tag("<in_list>")]
    | Annotated[_AtLeast, Tag("<at_least>")]
    | Annotated[_AtMost, Tag("<at_most>")]
    | Annotated[_Between, Tag("<between>")]
    | Annotated[_Contains, Tag("<contains>")]
    | Annotated[_ContainsAny, Tag("<contains_any>")]
    | Annotated[_StartsWith, Tag("<starts_with>")]
    | Annotated[_EndsWith, Tag("<ends_with>")]
    | Annotated[_Before, Tag("<before>")]
    | Annotated[_After, Tag("<after>")]
    | Annotated[_WithinDays, Tag("<within_days>")]
    | Annotated[_Known, Tag("<known>")]
    | Annotated[_Unknown, Tag("<unknown>")]
    | Annotated[_FromSource, Tag("<source>")]
    | Annotated[_AllOf, Tag("<all>")]
    | Annotated[_AnyOf, Tag("<any>")]
    | Annotated[_Not, Tag("<not>")],
    Discriminator(_operator),
    BeforeValidator(_one_operator),
]


def _shallow(data: object) -> object:
    level: list[object] = data if isinstance(data, list) else [data]
    for _ in range(MAX_DEPTH):
        inner: list[object] = []
        for condition in level:
            for key in ("all", "any", "not"):
                below = condition.get(key, []) if isinstance(condition, dict) else []
                inner += below if isinstance(below, list) else [below]
        level = inner
    if level:
        raise wrong(f"conditions are nested more than {MAX_DEPTH} deep")
    return data


Conditions = Annotated[tuple[OneCondition, ...], ONE_OR_MORE, BeforeValidator(_shallow)]
"""All of them are to hold."""


def meant(written: Conditions) -> tuple[conditions.Condition, ...]:
    """What conditions say."""
    return tuple(each.meant() for each in written)
