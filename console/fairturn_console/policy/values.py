"""Names, numbers, spans of time and time zones of a policy file, each with what is allowed."""

from __future__ import annotations

import re
import unicodedata
from datetime import date
from decimal import Decimal
from difflib import get_close_matches
from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar
from zoneinfo import ZoneInfo, available_timezones

from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator

from fairturn.rules.conditions import Number, Value, exact, fold
from fairturn.rules.policy import OTHERWISE
from fairturn_console.policy.problems import listed, wrong

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_WEIGHT = 1000
MAX_DAYS = 3650
MAX_SETTLE = 15 * 60  # seconds
MAX_VALUES = 1000
MAX_BANDS = 5
MAX_SKILLS = 50
MAX_SKILLS_ASKED = 8
MAX_DIGITS = 15  # what a float can hold without rounding
MAX_TEXT = 500

D = TypeVar("D", bound=date)


def _word(kind: str, pattern: str, reserved: Sequence[str] = ()) -> AfterValidator:
    shape = re.compile(pattern)

    def check(text: str) -> str:
        if shape.fullmatch(text) is None:
            strange = next((letter for letter in text if not letter.isascii()), None)
            why = f": {strange!a} in it is {unicodedata.name(strange, 'no letter')}" if strange else ""
            raise wrong(f"{text!r} is no {kind}{why}")
        if text in reserved:
            raise wrong(f"{text!r} is reserved")
        return text

    return AfterValidator(check)


def one_line(text: str) -> str:
    if not text.strip() or any(unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") for letter in text):
        raise wrong("must be one line of text")
    return text


def _rule_name(name: str) -> str:
    if name == OTHERWISE:
        raise wrong(f"{name!r} is reserved")
    return one_line(name)


def rep_key(name: str) -> str:
    """Give the form of a rep's address, or owner id, in which they are told apart."""
    return name.strip().lower()


def is_rep_key(name: str) -> bool:
    """Tell whether this may be an address or an owner id."""
    return re.fullmatch(_REP, name) is not None


def _rep_key(key: object) -> object:
    if isinstance(key, int) and not isinstance(key, bool):
        key = str(key)
    return rep_key(key) if isinstance(key, str) else key


_SHORT = {
    word: zone
    for zone, words in {
        "Africa/Cairo": "EGYPT",
        "Africa/Tripoli": "LIBYA",
        "America/Anchorage": "AKST AKDT",
        "America/Chicago": "CST CDT CST6CDT CT",
        "America/Denver": "MST MDT MST7MDT MT NAVAJO",
        "America/Halifax": "AST ADT",
        "America/Havana": "CUBA",
        "America/Jamaica": "JAMAICA",
        "America/Los_Angeles": "PST PDT PST8PDT PT",
        "America/New_York": "EST EDT EST5EDT ET",
        "America/Sao_Paulo": "BRT",
        "America/St_Johns": "NST NDT",
        "Asia/Dubai": "GST",
        "Asia/Hong_Kong": "HKT HONGKONG",
        "Asia/Jerusalem": "ISRAEL IDT",
        "Asia/Kolkata": "IST",
        "Asia/Seoul": "KST ROK",
        "Asia/Shanghai": "PRC",
        "Asia/Singapore": "SGT SINGAPORE",
        "Asia/Taipei": "ROC",
        "Asia/Tehran": "IRAN",
        "Asia/Tokyo": "JST JAPAN",
        "Atlantic/Reykjavik": "ICELAND",
        "Australia/Adelaide": "ACST ACDT",
        "Australia/Perth": "AWST",
        "Australia/Sydney": "AEST AEDT",
        "Europe/Athens": "EET EEST",
        "Europe/Dublin": "EIRE",
        "Europe/Istanbul": "TRT TURKEY",
        "Europe/Lisbon": "WET WEST PORTUGAL",
        "Europe/London": "GMT BST GB GB-EIRE GREENWICH",
        "Europe/Moscow": "MSK W-SU",
        "Europe/Paris": "CET CEST MET MEST",
        "Europe/Warsaw": "POLAND",
        "Pacific/Auckland": "NZ NZST NZDT",
        "Pacific/Chatham": "NZ-CHAT",
        "Pacific/Honolulu": "HST",
        "Pacific/Kwajalein": "KWAJALEIN",
        "UTC": "UTC GMT0 GMT+0 GMT-0 UCT UNIVERSAL Z ZULU",
    }.items()
    for word in words.split()
}
"""Abbreviations and single words that are taken for time zones, in capitals → a place whose clocks may be meant."""


def _zone(name: str) -> str:
    # The shape keeps out what depends on the machine: "localtime", "posix/…", "right/…". It also keeps out "CET" and
    # the like, some of which tzdata has: they are no place, and "EST" has no summer time.
    if re.fullmatch(r"UTC|[A-Z][A-Za-z]*(/[A-Za-z0-9_+-]+)+", name):
        try:
            ZoneInfo(name)
        except (OSError, KeyError, ValueError):
            pass
        else:
            return name
    raise wrong(f"unknown time zone {name!r}; allowed: IANA names such as {listed(_zones_like(name))}")


def _zones_like(name: str) -> list[str]:
    """Find the time zones that somebody who wrote this may mean: by an abbreviation, a city or a slip."""
    if name.upper() in _SHORT:
        return [_SHORT[name.upper()]]
    zones = [zone for zone in sorted(available_timezones()) if "/" in zone and not zone.startswith("Etc/")]
    cities = {zone.rpartition("/")[2].lower(): zone for zone in zones}
    city = name.strip().replace(" ", "_").lower()
    close = [cities[city]] if city in cities else get_close_matches(name, zones, n=3, cutoff=0.5)
    return close or ["Europe/Paris"]


def _number(value: object) -> Number:
    if isinstance(value, bool) or not isinstance(value, (int, float, Decimal)):
        raise wrong("must be a number, without quotes")
    number = Decimal(str(value))
    if number.is_finite() and -MAX_DIGITS <= number.adjusted() < MAX_DIGITS:
        plain = number.normalize()
        if plain == number and len(plain.as_tuple().digits) <= MAX_DIGITS:
            return int(plain) if plain == plain.to_integral_value() else float(plain)
    raise wrong(f"must be a plain number of at most {MAX_DIGITS} digits")


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise wrong("must be text; put it in quotes")
    if not fold(value):
        raise wrong("must not be empty; to ask for an empty value write `unknown: true`")
    if len(value) > MAX_TEXT:
        raise wrong(f"must have at most {MAX_TEXT} characters")
    return one_line(value)


def _value(value: object) -> Value:
    match value:
        case bool():
            return value
        case int() | float() | Decimal():
            return _number(value)
        case str():
            return _text(value)
        case None:
            raise wrong("must not be empty; to ask for an empty value write `unknown: true`")
        case _:
            raise wrong("must be one text, number, true or false; several values go with `in: [...]`")


def _range(bounds: tuple[Number, Number]) -> tuple[Number, Number]:
    if bounds[0] > bounds[1]:
        raise wrong(f"the lower bound comes first: [{exact(bounds[1]):f}, {exact(bounds[0]):f}]")
    return bounds


def _positive(number: Number) -> Number:
    if number <= 0:
        raise wrong("must be more than 0; the lowest band begins there")
    return number


def _ascending(bounds: tuple[Number, ...]) -> tuple[Number, ...]:
    if any(low >= high for low, high in pairwise(bounds)):
        raise wrong("each bound must be more than the one before it, such as [20, 60]")
    return bounds


_UNITS = {"s": 1, "m": 60, "h": 3600}
_SPAN = re.compile(r"([0-9]{1,4}) *(s|sec|seconds?|m|min|minutes?|h|hours?)")


def _span(unit: str, least: int, most: int, such_as: str, *, bare: bool = False) -> PlainValidator:
    """A span of time in whole units, both bounds included. Only 0 needs no unit, or any number if `bare`."""

    def check(value: object) -> int:
        text = f"{value}{unit}" if type(value) is int and (bare or value == 0) else value
        found = _SPAN.fullmatch(text.strip()) if isinstance(text, str) else None
        if found is not None:
            span, rest = divmod(int(found[1]) * _UNITS[found[2][0]], _UNITS[unit])
            if not rest and least <= span <= most:
                return span
        raise wrong(f"must be {such_as}")

    return PlainValidator(check)


_PERCENT = re.compile(r"([0-9]{1,6}) *%")


def _weight(value: object) -> Fraction:
    found = _PERCENT.fullmatch(value.strip()) if isinstance(value, str) else None
    weight = Fraction(int(found[1]), 100) if found else Fraction(value) if type(value) is int else Fraction(0)
    if not Fraction(1, 100) <= weight <= MAX_WEIGHT:
        raise wrong(f"must be a whole number from 1 to {MAX_WEIGHT}, or a share of a full turn such as 50%")
    return weight


def _day(value: object) -> date:
    try:
        day = date.fromisoformat(value) if isinstance(value, str) and len(value) == len("2026-12-24") else None
    except ValueError:
        day = None
    if day is None:
        raise wrong("must be a day such as 2026-12-24")
    return within_reason(day)


def within_reason(day: D) -> D:
    """Refuse what is hardly meant."""
    if not 2000 <= day.year < 2200:
        raise wrong("must be a day of this century or the next")
    return day


def _days_around(value: object) -> tuple[int, int]:
    match value:
        case bool():
            pass
        case int() if 0 <= value <= MAX_DAYS:
            return -value, value
        case [int() as first, int() as last] if -MAX_DAYS <= first <= last <= MAX_DAYS:
            return first, last
    raise wrong(
        f"must be days before or after the lead, such as 30, or from and to, such as [-7, 0]; at most {MAX_DAYS}"
    )


def _member(name: object) -> object:
    if isinstance(name, int) and not isinstance(name, bool):
        return str(name)
    return name.strip() if isinstance(name, str) else name


def _one_or_more(value: object) -> object:
    return value if value is None or isinstance(value, (list, tuple)) else [value]


def _of_a_contact(name: str) -> str:
    if name.startswith(("company.", "deal.")):
        of = name.partition(".")[0]
        what = f"a {of}'s properties can't be asked for yet: a later version will read them"
        raise wrong(f"{what}; until then copy {name!r} to the contact by a HubSpot workflow")
    return name


def _yes(value: object) -> Literal[True]:
    if value is not True:
        raise wrong("must be true; the opposite of `known` is `unknown: true`")
    return True


ONE_OR_MORE = BeforeValidator(_one_or_more)
"""A list, which may be written as its only entry."""
_REP = r"[0-9]{1,20}|[^@\s]{1,100}@[^@\s]{1,150}"
_NAME = r"[^\W_](?:[\w &.'-]{0,38}[\w.'])?"
RepKey = Annotated[
    str,
    _word("HubSpot e-mail address or owner id", _REP),
    BeforeValidator(_rep_key),
]
TeamName = Annotated[str, _word("name of a team (letters, digits and blanks, at most 40)", _NAME)]
Skill = Annotated[str, _word("skill (letters, digits and blanks, at most 40)", _NAME)]
GroupName = Annotated[str, _word("name of a group (letters, digits and blanks, at most 40)", _NAME)]
ListName = Annotated[str, _word("name of a list (letters, digits and blanks, at most 40)", _NAME)]
Member = Annotated[str, BeforeValidator(_member), Field(min_length=1, max_length=250)]
"""A rep, or the name of a group."""
Property = Annotated[
    str,
    _word("property's internal name, such as hs_lead_status", r"[a-z0-9_][a-z0-9_.-]{0,99}"),
    AfterValidator(_of_a_contact),
]
RuleName = Annotated[str, Field(max_length=80), AfterValidator(_rule_name)]
Reason = Annotated[str, Field(max_length=200), AfterValidator(one_line)]
Zone = Annotated[str, AfterValidator(_zone)]
Source = Annotated[str, Field(max_length=100), AfterValidator(_text)]
Sources = Annotated[tuple[Source, ...], Field(min_length=1, max_length=MAX_VALUES), ONE_OR_MORE]
Weight = Annotated[Fraction, PlainValidator(_weight)]
Capacity = Annotated[int, Field(strict=True, ge=0, le=100_000)]
OneValue = Annotated[Value, PlainValidator(_value)]
Values = Annotated[tuple[OneValue, ...], Field(min_length=1, max_length=MAX_VALUES), ONE_OR_MORE]
OneNumber = Annotated[Number, PlainValidator(_number)]
Range = Annotated[tuple[OneNumber, OneNumber], AfterValidator(_range)]
Bounds = Annotated[
    tuple[Annotated[OneNumber, AfterValidator(_positive)], ...],
    Field(min_length=1, max_length=MAX_BANDS),
    AfterValidator(_ascending),
]
Release = Annotated[int, _span("m", 0, 4 * 60, "0, minutes such as 15m or hours such as 2h; at most 4h")]
"""Minutes."""
TurnBackWithin = Annotated[
    int, _span("m", 0, 24 * 60, "minutes such as 10 minutes, or hours; at most 24 hours", bare=True)
]
"""Minutes."""
After = Annotated[int, _span("m", 0, 24 * 60, "minutes such as 10 minutes, or hours; at most 24 hours")]
"""Minutes."""
SettleAtMost = Annotated[int, _span("s", 1, MAX_SETTLE, "seconds such as 5s or minutes such as 2m; at most 15m")]
"""Seconds."""
Day = Annotated[date, PlainValidator(_day)]
DaysAround = Annotated[tuple[int, int], PlainValidator(_days_around)]
Text = Annotated[str, PlainValidator(_text)]
Texts = Annotated[tuple[Text, ...], Field(min_length=1, max_length=MAX_VALUES), ONE_OR_MORE]
Yes = Annotated[Literal[True], PlainValidator(_yes)]
Skills = Annotated[tuple[Skill, ...], Field(max_length=MAX_SKILLS), ONE_OR_MORE]
SkillsAsked = Annotated[tuple[Skill, ...], Field(max_length=MAX_SKILLS_ASKED), ONE_OR_MORE]
