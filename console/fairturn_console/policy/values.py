"""Words and values of a policy file: names, numbers, spans of time, time zones; each with what it may be."""

from __future__ import annotations

import re
import unicodedata
from decimal import Decimal
from difflib import get_close_matches
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Literal
from zoneinfo import ZoneInfo, available_timezones

from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator

from fairturn.rules.conditions import Number, Value, exact, fold
from fairturn.rules.ledger import ANY, PAST
from fairturn.rules.policy import OTHERWISE
from fairturn_console.policy.problems import listed, wrong

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_RELEASE = 4 * 60  # minutes
MAX_SETTLE = 15 * 60  # seconds
MAX_VALUES = 1000
MAX_BANDS = 5
MAX_SKILLS = 50
MAX_SKILLS_ASKED = 8
MAX_DIGITS = 15  # what a float can hold without rounding
MAX_TEXT = 500


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


def rep_key(key: object) -> object:
    if isinstance(key, int) and not isinstance(key, bool):
        key = str(key)
    return key.strip().lower() if isinstance(key, str) else key


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


def _minutes(value: object) -> int:
    text = "0m" if type(value) is int and value == 0 else value
    found = re.fullmatch(r"([0-9]{1,3})([mh])", text) if isinstance(text, str) else None
    if found is not None:
        minutes = int(found[1]) * (60 if found[2] == "h" else 1)
        if minutes <= MAX_RELEASE:
            return minutes
    raise wrong(f"must be 0, minutes such as 15m or hours such as 2h; at most {MAX_RELEASE // 60}h")


def _seconds(value: object) -> int:
    found = re.fullmatch(r"([0-9]{1,3})([sm])", value) if isinstance(value, str) else None
    if found is not None:
        seconds = int(found[1]) * (60 if found[2] == "m" else 1)
        if 1 <= seconds <= MAX_SETTLE:
            return seconds
    raise wrong(f"must be seconds such as 5s or minutes such as 2m; at most {MAX_SETTLE // 60}m")


def in_order(skills: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted(set(skills)))


def _yes(value: object) -> Literal[True]:
    if value is not True:
        raise wrong("must be true; the opposite of `known` is `unknown: true`")
    return True


RepKey = Annotated[
    str,
    _word("HubSpot e-mail address or owner id", r"[0-9]{1,20}|[^@\s]{1,100}@[^@\s]{1,150}"),
    BeforeValidator(rep_key),
]
RotaName = Annotated[str, _word("rota name (a-z, 0-9, _ and -, at most 40)", r"[a-z0-9][a-z0-9_-]{0,39}")]
Skill = Annotated[str, _word("skill (a-z, 0-9, _ and -, at most 30)", r"[a-z0-9][a-z0-9_-]{0,29}", (ANY, PAST))]
Property = Annotated[str, _word("property's internal name, such as hs_lead_status", r"[a-z0-9_][a-z0-9_.-]{0,99}")]
RuleName = Annotated[str, Field(max_length=80), AfterValidator(_rule_name)]
Reason = Annotated[str, Field(max_length=200), AfterValidator(one_line)]
Zone = Annotated[str, AfterValidator(_zone)]
Source = Annotated[str, Field(max_length=100), AfterValidator(_text)]
Weight = Annotated[int, Field(strict=True, ge=1, le=1000)]
Capacity = Annotated[int, Field(strict=True, ge=0, le=100_000)]
OneValue = Annotated[Value, PlainValidator(_value)]
Values = Annotated[tuple[OneValue, ...], Field(min_length=1, max_length=MAX_VALUES)]
OneNumber = Annotated[Number, PlainValidator(_number)]
Range = Annotated[tuple[OneNumber, OneNumber], AfterValidator(_range)]
Bounds = Annotated[
    tuple[Annotated[OneNumber, AfterValidator(_positive)], ...],
    Field(min_length=1, max_length=MAX_BANDS),
    AfterValidator(_ascending),
]
Minutes = Annotated[int, PlainValidator(_minutes)]
Seconds = Annotated[int, PlainValidator(_seconds)]
Text = Annotated[str, PlainValidator(_text)]
Yes = Annotated[Literal[True], PlainValidator(_yes)]
Skills = Annotated[tuple[Skill, ...], Field(max_length=MAX_SKILLS), AfterValidator(in_order)]
SkillsAsked = Annotated[tuple[Skill, ...], Field(max_length=MAX_SKILLS_ASKED), AfterValidator(in_order)]
