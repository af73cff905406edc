"""The policy: which records are leads, who shares them, and which rule sends a lead where.

The RevOps team writes it as `policy.yaml`; `Policy.read` is the only way in and names every problem with its
place. What it holds is exactly what `Policy.model_dump(mode="json", by_alias=True)` gives back.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from datetime import date, datetime
from decimal import Decimal
from difflib import get_close_matches
from enum import StrEnum
from itertools import islice, pairwise
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Self
from zoneinfo import ZoneInfo, available_timezones

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    PlainSerializer,
    PlainValidator,
    Tag,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from fairturn.errors import PolicyInvalid, Problem
from fairturn.rules.events import OWNER as OWNER
from fairturn.rules.ledger import ANY, PAST

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

MAX_REPS = 1000
MAX_ROTAS = 100
MAX_MEMBERS = 500
MAX_LANES = 32
MAX_CELLS = 5_000
"""Reps x lanes of one rota: its ledger is written whole with every claim."""
SMALLER = "split the rota, or ask for fewer skills or bands"
"""What helps a rota that has too many cells."""
MAX_BANDS = 5
MAX_RELEASE = 4 * 60  # minutes
MAX_SETTLE = 15 * 60  # seconds
MAX_RULES = 100
MAX_LEAVES = 400
MAX_DEPTH = 8
MAX_SHOWN = 5
MAX_VALUES = 1000
MAX_SKILLS = 50
MAX_SKILLS_ASKED = 8
MAX_ABSENCES = 100
MAX_DIGITS = 15  # what a float can hold without rounding
MAX_TEXT = 500
MAX_COMPARED = 8_192  # characters of a text that are looked at; strangers write up to 65,536
MAX_LISTED = 20  # names given as allowed in one message


OTHERWISE = "otherwise"


class Mode(StrEnum):
    """What Fairturn does with its decisions."""

    LIVE = "live"
    OBSERVE = "observe"
    PAUSE = "pause"


class Priority(StrEnum):
    """How soon a waiting lead is looked at again, compared with others."""

    URGENT = "urgent"
    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"

    @property
    def rank(self) -> int:
        """0 for the most urgent, 3 for the least."""
        return list(Priority).index(self)


class Cleared(StrEnum):
    """What becomes of a lead whose owner somebody takes away without naming another."""

    LEAVE = "leave"
    """It stays without an owner, and is listed."""
    ALLOT_AGAIN = "allot again"


def lane(skills: Iterable[str], band: str | None = None) -> str:
    """Name the lane of the leads that ask for these skills: `"de+enterprise"`, or `"any"` for none.

    With a band of worth, it comes last: `"de+enterprise@60"`. No skill contains an `@`.
    """
    name = "+".join(sorted(set(skills))) or ANY
    return name if band is None else f"{name}@{band}"


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


# How problems are told


def place(path: Iterable[str | int]) -> str:
    """Write the way to a value in the file: `rules[2].when[0].at_least`."""
    steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return "".join(steps).removeprefix(".")


def _wrong(what: str, at: str | None = None) -> PydanticCustomError:
    """Say in plain words what is wrong with a value, or with its entry `at`."""
    return PydanticCustomError("policy", "{what}", {"what": what, "at": at})


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
    return ", ".join(names[:MAX_LISTED]) + more


def _unknown(kind: str, name: str, known: Iterable[str]) -> str:
    known = list(known)
    close = get_close_matches(name, known, n=1)
    meant = f", did you mean {close[0]!r}?" if close else ";"
    return f"unknown {kind} {name!r}{meant} allowed: {_listed(known) or 'none'}"


_PLAIN = {
    "missing": "is missing",
    "model_type": "must be a mapping of keys to values",
    "dict_type": "must be a mapping of keys to values",
    "tuple_type": "must be a list",
    "string_type": "must be text; put it in quotes if it looks like something else",
    "string_unicode": "holds characters that are no text",
    "int_type": "must be a whole number",
    "bool_type": "must be true or false",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "too_short": "must have at least {min_length}, has {actual_length}",
    "too_long": "must have at most {max_length}, has {actual_length}",
    "string_too_short": "must not be empty",
    "string_too_long": "must have at most {max_length} characters",
}


def _problems(error: ValidationError, data: object, models: Mapping[int, type[BaseModel]]) -> list[Problem]:
    lines = error.errors(include_url=False)
    places = [line["loc"] for line in lines]

    def only_seems(line: ErrorDetails) -> bool:
        # Entries that are wrong are not counted, so a list of nothing else seems too short as well.
        loc = line["loc"]
        return line["type"] == "too_short" and any(len(at) > len(loc) and at[: len(loc)] == loc for at in places)

    return [_problem(line, data, models) for line in lines if not only_seems(line)]


def _problem(error: ErrorDetails, data: Any, models: Mapping[int, type[BaseModel]]) -> Problem:
    path: list[str | int] = []
    mapping: object = None
    for step in error["loc"]:
        present = _has(data, step)
        if not present and str(step)[:1] in ("<", "["):
            continue  # pydantic's word for a kind of condition or for a key, no place in the file
        path.append(step)
        mapping, data = data, data[step] if present else None
    kind, context = error["type"], error.get("ctx", {})
    if kind == "extra_forbidden" and id(mapping) in models:
        fields = models[id(mapping)].model_fields.items()
        what = _unknown("key", str(path[-1]), [field.alias or name for name, field in fields])
    elif kind in ("enum", "literal_error"):
        what = f"must be {context['expected']}".replace("'", "")
    else:
        what = _PLAIN.get(kind, "{what}").format_map({"what": error["msg"], **context})
    at = context.get("at")
    return Problem(place([*path, at] if at else path), what)


def _has(data: Any, step: str | int) -> bool:
    if isinstance(data, dict):
        return step in data
    return isinstance(data, (list, tuple)) and isinstance(step, int) and step < len(data)


class _Strict(BaseModel):
    """A mapping of the file: frozen, and an unknown key is an error that names the known ones."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _remember(cls, data: object, info: ValidationInfo) -> object:
        if info.context is not None:
            info.context[id(data)] = cls
        return data


# Words and values


def _word(kind: str, pattern: str, reserved: Sequence[str] = ()) -> AfterValidator:
    shape = re.compile(pattern)

    def check(text: str) -> str:
        if shape.fullmatch(text) is None:
            strange = next((letter for letter in text if not letter.isascii()), None)
            why = f": {strange!a} in it is {unicodedata.name(strange, 'no letter')}" if strange else ""
            raise _wrong(f"{text!r} is no {kind}{why}")
        if text in reserved:
            raise _wrong(f"{text!r} is reserved")
        return text

    return AfterValidator(check)


def _one_line(text: str) -> str:
    if not text.strip() or any(unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") for letter in text):
        raise _wrong("must be one line of text")
    return text


def _rule_name(name: str) -> str:
    if name == OTHERWISE:
        raise _wrong(f"{name!r} is reserved")
    return _one_line(name)


def _rep_key(key: object) -> object:
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
    raise _wrong(f"unknown time zone {name!r}; allowed: IANA names such as {_listed(_zones_like(name))}")


def _zones_like(name: str) -> list[str]:
    """Find the time zones that somebody who wrote this may mean: by an abbreviation, a city or a slip."""
    if name.upper() in _SHORT:
        return [_SHORT[name.upper()]]
    zones = [zone for zone in sorted(available_timezones()) if "/" in zone and not zone.startswith("Etc/")]
    cities = {zone.rpartition("/")[2].lower(): zone for zone in zones}
    city = name.strip().replace(" ", "_").lower()
    close = [cities[city]] if city in cities else get_close_matches(name, zones, n=3, cutoff=0.5)
    return close or ["Europe/Paris"]


def _number(value: object) -> Decimal:
    match value:
        case bool():
            raise _wrong("must be a number, without quotes")
        case int() | Decimal():
            number = Decimal(value)
        case float():
            number = Decimal(str(value))
        case {"number": str(digits)} if re.fullmatch(r"-?[0-9]{1,15}\.[0-9]{1,30}", digits):
            number = Decimal(digits)  # as stored, see `_stored`
        case _:
            raise _wrong("must be a number, without quotes")
    if number.is_finite() and -MAX_DIGITS <= number.adjusted() < MAX_DIGITS:
        plain = number.normalize()
        if plain == number and len(plain.as_tuple().digits) <= MAX_DIGITS:
            return plain
    raise _wrong(f"must be a plain number of at most {MAX_DIGITS} digits")


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise _wrong("must be text; put it in quotes")
    if not fold(value):
        raise _wrong("must not be empty; to ask for an empty value write `unknown: true`")
    if len(value) > MAX_TEXT:
        raise _wrong(f"must have at most {MAX_TEXT} characters")
    return _one_line(value)


def _value(value: object) -> bool | Decimal | str:
    match value:
        case bool():
            return value
        case int() | float() | Decimal() | {"number": _}:
            return _number(value)
        case str():
            return _text(value)
        case None:
            raise _wrong("must not be empty; to ask for an empty value write `unknown: true`")
        case _:
            raise _wrong("must be one text, number, true or false; several values go with `in: [...]`")


def _stored(value: bool | Decimal | str) -> bool | int | str | dict[str, str]:  # noqa: FBT001
    """Give the form that every store keeps exactly: no float, and a fraction is not mistaken for a text."""
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else {"number": f"{value:f}"}
    return value


def _range(bounds: tuple[Decimal, Decimal]) -> tuple[Decimal, Decimal]:
    if bounds[0] > bounds[1]:
        raise _wrong(f"the lower bound comes first: [{bounds[1]:f}, {bounds[0]:f}]")
    return bounds


def _positive(number: Decimal) -> Decimal:
    if number <= 0:
        raise _wrong("must be more than 0; the lowest band begins there")
    return number


def _ascending(bounds: tuple[Decimal, ...]) -> tuple[Decimal, ...]:
    if any(low >= high for low, high in pairwise(bounds)):
        raise _wrong("each bound must be more than the one before it, such as [20, 60]")
    return bounds


def _minutes(value: object) -> int:
    text = "0m" if type(value) is int and value == 0 else value
    found = re.fullmatch(r"([0-9]{1,3})([mh])", text) if isinstance(text, str) else None
    if found is not None:
        minutes = int(found[1]) * (60 if found[2] == "h" else 1)
        if minutes <= MAX_RELEASE:
            return minutes
    raise _wrong(f"must be 0, minutes such as 15m or hours such as 2h; at most {MAX_RELEASE // 60}h")


def _seconds(value: object) -> int:
    found = re.fullmatch(r"([0-9]{1,3})([sm])", value) if isinstance(value, str) else None
    if found is not None:
        seconds = int(found[1]) * (60 if found[2] == "m" else 1)
        if 1 <= seconds <= MAX_SETTLE:
            return seconds
    raise _wrong(f"must be seconds such as 5s or minutes such as 2m; at most {MAX_SETTLE // 60}m")


def _sorted(skills: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted(set(skills)))


def _yes(value: object) -> Literal[True]:
    if value is not True:
        raise _wrong("must be true; the opposite of `known` is `unknown: true`")
    return True


RepKey = Annotated[
    str,
    _word("HubSpot e-mail address or owner id", r"[0-9]{1,20}|[^@\s]{1,100}@[^@\s]{1,150}"),
    BeforeValidator(_rep_key),
]
RotaName = Annotated[str, _word("rota name (a-z, 0-9, _ and -, at most 40)", r"[a-z0-9][a-z0-9_-]{0,39}")]
Skill = Annotated[str, _word("skill (a-z, 0-9, _ and -, at most 30)", r"[a-z0-9][a-z0-9_-]{0,29}", (ANY, PAST))]
Property = Annotated[str, _word("property's internal name, such as hs_lead_status", r"[a-z0-9_][a-z0-9_.-]{0,99}")]
RuleName = Annotated[str, Field(max_length=80), AfterValidator(_rule_name)]
Reason = Annotated[str, Field(max_length=200), AfterValidator(_one_line)]
Zone = Annotated[str, AfterValidator(_zone)]
Source = Annotated[str, Field(max_length=100), AfterValidator(_text)]
Weight = Annotated[int, Field(strict=True, ge=1, le=1000)]
Capacity = Annotated[int, Field(strict=True, ge=0, le=100_000)]
Value = Annotated[bool | Decimal | str, PlainValidator(_value), PlainSerializer(_stored)]
Values = Annotated[tuple[Value, ...], Field(min_length=1, max_length=MAX_VALUES)]
Number = Annotated[Decimal, PlainValidator(_number), PlainSerializer(_stored)]
Bound = Annotated[Number, AfterValidator(_positive)]
Minutes = Annotated[int, PlainValidator(_minutes), PlainSerializer(lambda minutes: f"{minutes}m")]
Seconds = Annotated[int, PlainValidator(_seconds), PlainSerializer(lambda seconds: f"{seconds}s")]
Text = Annotated[str, PlainValidator(_text)]
Yes = Annotated[Literal[True], PlainValidator(_yes)]


Skills = Annotated[tuple[Skill, ...], Field(max_length=MAX_SKILLS), AfterValidator(_sorted)]
SkillsAsked = Annotated[tuple[Skill, ...], Field(max_length=MAX_SKILLS_ASKED), AfterValidator(_sorted)]


# Conditions


class _Comparison(_Strict):
    """One property compared with what the policy says. The key of `value` in the file is the operator."""

    property: Property


class Equals(_Comparison):
    """The property is this text, number or truth value."""

    value: Value = Field(alias="equals")


class In(_Comparison):
    """The property is one of these."""

    value: Values = Field(alias="in")


class AtLeast(_Comparison):
    """The property is a number, this or more."""

    value: Number = Field(alias="at_least")


class AtMost(_Comparison):
    """The property is a number, this or less."""

    value: Number = Field(alias="at_most")


class Between(_Comparison):
    """The property is a number from the first to the second, both included."""

    value: Annotated[tuple[Number, Number], AfterValidator(_range)] = Field(alias="between")


class Contains(_Comparison):
    """The property has this text in it."""

    value: Text = Field(alias="contains")


class StartsWith(_Comparison):
    """The property begins with this text."""

    value: Text = Field(alias="starts_with")


class Known(_Comparison):
    """The property has a value."""

    value: Yes = Field(alias="known")


class Unknown(_Comparison):
    """The property has no value, or nothing but blanks."""

    value: Yes = Field(alias="unknown")


class FromSource(_Strict):
    """The record was created or changed by one of these sources, in HubSpot's words: FORM, IMPORT, …"""

    sources: Annotated[tuple[Source, ...], Field(min_length=1, max_length=MAX_VALUES)] = Field(alias="source")


class AllOf(_Strict):
    """Every one of these holds."""

    conditions: Annotated[tuple[Condition, ...], Field(min_length=1)] = Field(alias="all")


class AnyOf(_Strict):
    """At least one of these holds."""

    conditions: Annotated[tuple[Condition, ...], Field(min_length=1)] = Field(alias="any")


class Not(_Strict):
    """This does not hold; so it is true of an unknown property."""

    condition: Condition = Field(alias="not")


Comparison = Equals | In | AtLeast | AtMost | Between | Contains | StartsWith | Known | Unknown
Leaf = Comparison | FromSource

_COMPARING = ("equals", "in", "at_least", "at_most", "between", "contains", "starts_with", "known", "unknown")
OPERATORS = (*_COMPARING, "source", "all", "any", "not")


def _one_operator(data: object) -> object:
    if not isinstance(data, dict):
        raise _wrong("must be a condition such as {property: country, equals: France}")
    given = [key for key in data if key in OPERATORS]
    if len(given) > 1:
        raise _wrong(f"has several operators ({_listed(given)}); make it one condition each")
    if not given:
        other = [str(key) for key in data if key != "property"]
        if other:
            raise _wrong(_unknown("operator", other[0], OPERATORS), at=other[0])
        raise _wrong(f"has no operator; allowed: {_listed(OPERATORS)}")
    return data


def _operator(data: object) -> str:
    return next(f"<{key}>" for key in _keys(data) if key in OPERATORS)


def _keys(data: object) -> list[str]:
    """Give the keys that a mapping of the file has, be it still raw or a model already."""
    if isinstance(data, BaseModel):
        return [field.alias or name for name, field in type(data).model_fields.items()]
    return [str(key) for key in data] if isinstance(data, dict) else []


Condition = Annotated[
    Annotated[Equals, Tag("<equals>")]
    | Annotated[In, Tag("<in>")]
    | Annotated[AtLeast, Tag("<at_least>")]
    | Annotated[AtMost, Tag("<at_most>")]
    | Annotated[Between, Tag("<between>")]
    | Annotated[Contains, Tag("<contains>")]
    | Annotated[StartsWith, Tag("<starts_with>")]
    | Annotated[Known, Tag("<known>")]
    | Annotated[Unknown, Tag("<unknown>")]
    | Annotated[FromSource, Tag("<source>")]
    | Annotated[AllOf, Tag("<all>")]
    | Annotated[AnyOf, Tag("<any>")]
    | Annotated[Not, Tag("<not>")],
    Discriminator(_operator),
    BeforeValidator(_one_operator),
]


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


def _shallow(conditions: object) -> object:
    level = conditions if isinstance(conditions, list) else []
    for _ in range(MAX_DEPTH):
        inner: list[object] = []
        for condition in level:
            for key in ("all", "any", "not") if isinstance(condition, dict) else ():
                below = condition.get(key, [])
                inner += below if isinstance(below, list) else [below]
        level = inner
    if level:
        raise _wrong(f"conditions are nested more than {MAX_DEPTH} deep")
    return conditions


# Reps

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY = 24 * 60
WEEK = 7 * DAY


class Shift(NamedTuple):
    """Working hours that begin on one day of the week, by the rep's own clock."""

    day: int
    """0 is Monday."""
    start: int
    """Minutes after midnight, 0 to 1439."""
    end: int
    """Minutes after the midnight that `start` counts from; over 1440 when the shift ends on the next day."""


def _days(key: str) -> list[int]:
    first, dash, last = (part.strip() for part in key.lower().partition("-"))
    if first not in DAYS or (dash and last not in DAYS):
        raise _wrong(f"{key!r} is no day or range of days; allowed: {_listed(DAYS)}, mon-fri", at=key)
    start = DAYS.index(first)
    count = (DAYS.index(last) - start) % 7 + 1 if dash else 1
    return [(start + number) % 7 for number in range(count)]


def _times(text: object, key: str) -> tuple[int, int]:
    found = re.fullmatch(r"([0-9]{1,2}):([0-9]{2}) *- *([0-9]{1,2}):([0-9]{2})", str(text))
    if found is None:
        raise _wrong(f"{str(text)[:40]!r} is no time of work such as 09:00-18:00", at=key)
    hour, minute, last_hour, last_minute = map(int, found.groups())
    start, end = hour * 60 + minute, last_hour * 60 + last_minute
    if max(minute, last_minute) > 59 or start >= DAY or end > DAY:
        raise _wrong(f"{text!r}: times go from 00:00 to 24:00", at=key)
    if start == end:
        raise _wrong(f"{text!r} is no time at all; a whole day is 00:00-24:00", at=key)
    return start, end if end > start else end + DAY


def _hours(data: object) -> tuple[Shift, ...]:
    if not isinstance(data, dict) or not data:
        raise _wrong("must be days with their times, such as {mon-fri: 09:00-18:00}")
    shifts: list[Shift] = []
    for key, times in data.items():
        given = times if isinstance(times, list) else [times]
        if not given:
            raise _wrong("has no times; leave out a day without work", at=str(key))
        for day in _days(str(key)):
            for text in given:
                shift = Shift(day, *_times(text, str(key)))
                if any(_overlap(shift, other) for other in shifts):
                    raise _wrong(f"{text!r} overlaps with other hours of {DAYS[day]}", at=str(key))
                shifts.append(shift)
    return tuple(sorted(shifts))


def _overlap(one: Shift, other: Shift) -> bool:
    """Tell whether two shifts share a minute of the week, which has no end: Sunday night runs into Monday."""
    ahead = (other.day * DAY + other.start - one.day * DAY - one.start) % WEEK
    behind = (WEEK - ahead) % WEEK
    return ahead < one.end - one.start or behind < other.end - other.start


def _as_written(shifts: tuple[Shift, ...]) -> dict[str, list[str]]:
    week: dict[str, list[str]] = {}
    for day, start, end in shifts:
        last = end if end <= DAY else end - DAY
        times = f"{start // 60:02}:{start % 60:02}-{last // 60:02}:{last % 60:02}"
        week.setdefault(DAYS[day], []).append(times)
    return week


def _moment(value: object) -> date | datetime:
    """Read a whole day or a date with a time; a time without an offset is by the rep's own clock."""
    if isinstance(value, (date, datetime)):
        return _within_reason(value)
    try:
        text = value if isinstance(value, str) else ""
        whole_day = len(text) == len("2026-12-24")
        moment = date.fromisoformat(text) if whole_day else datetime.fromisoformat(text)
    except ValueError:
        raise _wrong("must be a day such as 2026-12-24 or a time such as 2026-12-24T14:00") from None
    return _within_reason(moment)


def _within_reason(moment: date | datetime) -> date | datetime:
    if not 2000 <= moment.year < 2200:
        raise _wrong("must be a day of this century or the next")
    return moment


Hours = Annotated[tuple[Shift, ...], PlainValidator(_hours), PlainSerializer(_as_written)]
Moment = Annotated[date | datetime, PlainValidator(_moment), PlainSerializer(lambda moment: str(moment.isoformat()))]


class Absence(_Strict):
    """From one day to another, both away; or from one moment until another."""

    start: Moment = Field(alias="from")
    end: Moment = Field(alias="to")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        start, end = self.start, self.end
        if isinstance(start, datetime) and isinstance(end, datetime):
            if (start.tzinfo is None) != (end.tzinfo is None):
                raise _wrong("`from` and `to` must both have an offset from UTC, or both none")
        elif isinstance(start, datetime) or isinstance(end, datetime):
            raise _wrong("`from` and `to` must both be whole days or both have a time")
        if start > end:
            raise _wrong("ends before it begins")
        return self

    @property
    def needs_zone(self) -> bool:
        """Whether the days or times are by the rep's own clock."""
        return not isinstance(self.start, datetime) or self.start.tzinfo is None


class Rep(_Strict):
    """A salesperson: what he can do, how much of it, and when."""

    skills: Skills = ()
    weight: Weight = 1
    capacity: Capacity | None = None
    """Open leads from which on he gets no more; None leaves it to the rota."""
    zone: Zone | None = None
    hours: Hours | None = None
    """None is around the clock."""
    absences: Annotated[tuple[Absence, ...], Field(max_length=MAX_ABSENCES)] = ()


# Leads, rotas and rules


class Reached(_Strict):
    """A property that has come to one of these values."""

    property: Property
    reaches: Values


class Worth(_Strict):
    """How much leads are worth, told by a number of HubSpot's, and the bands in which they are shared out.

    A band is named by its lower bound: `"20"`, `"60"`, and `"0"` for the lowest.
    """

    property: Property
    bands: Annotated[tuple[Bound, ...], Field(min_length=1, max_length=MAX_BANDS), AfterValidator(_ascending)]
    """The lower bounds of all bands but the lowest, ascending."""
    priorities: tuple[Priority, ...] | None = None
    """One for each band, the lowest first, for leads whose rule names none; None is `normal` for all."""

    @model_validator(mode="after")
    def _one_for_each(self) -> Self:
        wanted = len(self.bands) + 1
        if self.priorities is not None and len(self.priorities) != wanted:
            what = f"must have {wanted}, one for each band and the lowest first; has {len(self.priorities)}"
            raise _wrong(what, at="priorities")
        return self

    def names(self) -> tuple[str, ...]:
        """Every band, the lowest first."""
        return ("0", *(f"{bound:f}" for bound in self.bands))

    def band(self, number: Decimal | None) -> str:
        """The band of a lead that is worth this much; None is unknown, and in the lowest."""
        return self.names()[sum(number is not None and number >= bound for bound in self.bands)]

    def priority(self, band: str) -> Priority:
        """The priority of a lead in this band whose rule names none."""
        return Priority.NORMAL if self.priorities is None else self.priorities[self.names().index(band)]

    def in_words(self, band: str) -> str:
        """Say a band in words: `worth 20 to 60`; an empty text if there is no such band."""
        names = self.names()
        if band not in names:
            return ""
        if band == names[0]:
            return f"worth less than {names[1]}"
        if band == names[-1]:
            return f"worth {band} or more"
        return f"worth {band} to {names[names.index(band) + 1]}"


def _kind_of_start(data: object) -> str:
    return "<created>" if isinstance(data, str) else "<reached>"


class Settle(_Strict):
    """What a new lead waits for, because something else writes it just after the contact was created."""

    known: Annotated[tuple[Property, ...], Field(min_length=1, max_length=MAX_SHOWN)]
    """Properties; a lead that has a value of each waits for nothing."""
    at_most: Seconds
    """Seconds, 1 to 900, since HubSpot's event."""


class Leads(_Strict):
    """Which records are leads, and what may be seen of them."""

    when: Annotated[
        Annotated[Literal["created"], Tag("<created>")] | Annotated[Reached, Tag("<reached>")],
        Discriminator(_kind_of_start),
    ] = "created"
    settle: Settle | None = None
    """None assigns a lead as it is when it comes."""
    keep_owner: Annotated[bool, Field(strict=True)] = True
    """Whether a record that has an owner keeps him."""
    regret: Annotated[int, Field(strict=True, ge=0, le=1440)] = 10
    """For how many minutes after the handover a rep whose lead somebody else takes away gets his turn back."""
    cleared: Cleared = Cleared.LEAVE
    """What becomes of a lead whose owner somebody takes away without naming another."""
    worth: Worth | None = None
    """None shares out all leads of a lane alike, whatever they are worth."""
    closed: Annotated[tuple[Reached, ...], Field(max_length=MAX_RULES)] = ()
    """What makes a lead closed: it counts in nobody's load any more."""
    show: Annotated[tuple[Property, ...], Field(max_length=MAX_SHOWN)] = ()
    """Properties whose values may be kept with a decision and shown."""


class Flood(_Strict):
    """How many leads from bulk sources within how many minutes pause the bulk sources."""

    leads: Annotated[int, Field(strict=True, ge=1, le=1_000_000)] = 500
    minutes: Annotated[int, Field(strict=True, ge=1, le=1440)] = 10


class Rota(_Strict):
    """Reps who share one kind of lead."""

    members: Annotated[tuple[RepKey, ...], Field(min_length=1, max_length=MAX_MEMBERS)]
    capacity: Capacity | None = None
    """For members who have none of their own; None is without limit."""


class Otherwise(_Strict):
    """Where a lead goes."""

    rota: RotaName
    skills: SkillsAsked = ()
    priority: Priority | None = None
    """None is unsaid: the lead's worth decides, see `Worth.priority`; without it, `normal`."""


Conditions = Annotated[tuple[Condition, ...], BeforeValidator(_shallow)]


class RoutingRule(Otherwise):
    """Where a lead goes if all conditions hold."""

    name: RuleName
    when: Conditions = ()


class IgnoringRule(_Strict):
    """Why a record is nobody's lead if all conditions hold."""

    name: RuleName
    when: Conditions = ()
    ignore: Reason


def _kind_of_rule(data: object) -> str:
    return "<ignoring>" if "ignore" in _keys(data) else "<routing>"


Rule = Annotated[
    Annotated[RoutingRule, Tag("<routing>")] | Annotated[IgnoringRule, Tag("<ignoring>")],
    Discriminator(_kind_of_rule),
]


def _each_once(reps: object) -> object:
    if isinstance(reps, dict):
        for key, times in Counter(_rep_key(key) for key in reps).items():
            if times > 1:
                raise _wrong("is there more than once", at=str(key))
    return reps


def _all_defaults(rep: object) -> object:
    return {} if rep is None else rep


class Policy(_Strict):
    """The whole policy, checked."""

    mode: Mode = Mode.LIVE
    leads: Leads = Leads()
    flood: Flood = Flood()
    release: Minutes = 15
    """Minutes, 0 to 240, for which waiting leads are kept for reps who come on duty within them and are owed more; 0 is
    not at all."""
    reps: Annotated[
        dict[RepKey, Annotated[Rep, BeforeValidator(_all_defaults)]],
        Field(max_length=MAX_REPS),
        BeforeValidator(_each_once),
    ]
    rotas: Annotated[dict[RotaName, Rota], Field(max_length=MAX_ROTAS)]
    rules: Annotated[tuple[Rule, ...], Field(max_length=MAX_RULES)] = ()
    otherwise: Otherwise

    @classmethod
    def read(cls, data: object) -> Policy:
        """Check and take in a policy. Raises PolicyInvalid with every problem and its place."""
        models: dict[int, type[BaseModel]] = {}
        try:
            policy = cls.model_validate(data, context=models)
        except ValidationError as error:
            raise PolicyInvalid(_problems(error, data, models)) from error
        problems = list(_contradictions(policy))
        if problems:
            raise PolicyInvalid(problems)
        return policy

    def properties(self) -> tuple[str, ...]:
        """Every contact property that must be read to decide, sorted."""
        names = {OWNER, *self.leads.show, *(closed.property for closed in self.leads.closed)}
        if isinstance(self.leads.when, Reached):
            names.add(self.leads.when.property)
        if self.leads.worth is not None:
            names.add(self.leads.worth.property)
        if self.leads.settle is not None:
            names |= set(self.leads.settle.known)
        for rule in self.rules:
            names |= {leaf.property for leaf in leaves(rule.when) if not isinstance(leaf, FromSource)}
        return tuple(sorted(names))

    def lanes(self, rota: str) -> frozenset[str]:
        """Every lane that a rule, or the catch-all, names for this rota, in every band of worth."""
        skills = {goal.skills for _, goal in self.goals() if goal.rota == rota}
        bands = (None,) if self.leads.worth is None else self.leads.worth.names()
        return frozenset(lane(asked, band) for asked in skills for band in bands)

    def cells(self, rota: str) -> int:
        """How many balances the ledger of this rota may hold: its reps x its lanes."""
        return len(self.rotas[rota].members) * len(self.lanes(rota))

    def size_in_words(self, rota: str) -> str:
        """Say what makes the ledger of this rota as large as it is."""
        reps, lanes = len(self.rotas[rota].members), len(self.lanes(rota))
        return f"{reps} reps x {lanes} lanes are {self.cells(rota):,} balances"

    def capacity(self, rota: str, rep: str) -> int | None:
        """How many open leads the rep may have when he gets one of this rota; None is without limit."""
        own = self.reps[rep].capacity
        return own if own is not None else self.rotas[rota].capacity

    def goals(self) -> Iterator[tuple[tuple[str | int, ...], Otherwise]]:
        """Yield everything that sends leads to a rota, with its place in the file."""
        for index, rule in enumerate(self.rules):
            if isinstance(rule, RoutingRule):
                yield ("rules", index), rule
        yield (OTHERWISE,), self.otherwise


def _contradictions(policy: Policy) -> Iterator[Problem]:
    """Find what no single part of the policy can tell by itself."""
    yield from _contradictions_of_reps(policy)
    yield from _contradictions_of_rules(policy)
    yield from _contradictions_of_goals(policy)


def _contradictions_of_reps(policy: Policy) -> Iterator[Problem]:
    for key, rep in policy.reps.items():
        if rep.zone is None and (rep.hours or any(absence.needs_zone for absence in rep.absences)):
            yield Problem(place(["reps", key]), "needs a `zone`, such as Europe/Paris, for the hours or absences")
    for name, rota in policy.rotas.items():
        for index, member in enumerate(rota.members):
            where = place(["rotas", name, "members", index])
            if member not in policy.reps:
                yield Problem(where, _unknown("rep", member, policy.reps))
            elif member in rota.members[:index]:
                yield Problem(where, f"{member!r} is a member already")


def _contradictions_of_rules(policy: Policy) -> Iterator[Problem]:
    names: dict[str, int] = {}
    for index, rule in enumerate(policy.rules):
        if rule.name in names:
            what = f"rules[{names[rule.name]}] is called {rule.name!r} already"
            yield Problem(place(["rules", index, "name"]), what)
        names.setdefault(rule.name, index)
    count = sum(1 for rule in policy.rules for _ in leaves(rule.when))
    if count > MAX_LEAVES:
        yield Problem("rules", f"there are {count} conditions in all; at most {MAX_LEAVES}")


def _contradictions_of_goals(policy: Policy) -> Iterator[Problem]:
    skills = {key: set(rep.skills) for key, rep in policy.reps.items()}
    for path, goal in policy.goals():
        rota = policy.rotas.get(goal.rota)
        if rota is None:
            yield Problem(place([*path, "rota"]), _unknown("rota", goal.rota, policy.rotas))
        elif goal.skills and not any(set(goal.skills) <= skills.get(member, set()) for member in rota.members):
            what = f"nobody in rota {goal.rota!r} has {' and '.join(goal.skills)}: nobody could take the lead"
            yield Problem(place([*path, "skills"]), what)
    yield from _contradictions_of_lanes(policy)


def _contradictions_of_lanes(policy: Policy) -> Iterator[Problem]:
    worth = policy.leads.worth
    for name in policy.rotas:
        count = len(policy.lanes(name))
        where = place(["rotas", name])
        if count > MAX_LANES and worth is None:
            yield Problem(where, f"the rules ask for {count} different sets of skills here; at most {MAX_LANES}")
        elif count > MAX_LANES and worth is not None:
            bands = len(worth.names())
            what = f"the rules ask for {count // bands} different sets of skills here, in {bands} bands of worth each"
            yield Problem(where, f"{what}: {count} lanes; at most {MAX_LANES}")
        elif policy.cells(name) > MAX_CELLS:
            yield Problem(where, f"{policy.size_in_words(name)}; at most {MAX_CELLS:,}: {SMALLER}")
