"""Hours of work and absences as they are written."""

from __future__ import annotations

import re
from datetime import date, datetime
from typing import Annotated, Self

from pydantic import BeforeValidator, Field, PlainValidator, model_validator

from fairturn.rules.policy import Absence, Days, Moments, Shift
from fairturn_console.policy.problems import Strict, listed, wrong
from fairturn_console.policy.values import within_reason

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY = 24 * 60
WEEK = 7 * DAY


def _days(key: str) -> list[int]:
    first, dash, last = (part.strip() for part in key.lower().partition("-"))
    if first not in DAYS or (dash and last not in DAYS):
        raise wrong(f"{key!r} is no day or range of days; allowed: {listed(DAYS)}, mon-fri", at=key)
    start = DAYS.index(first)
    count = (DAYS.index(last) - start) % 7 + 1 if dash else 1
    return [(start + number) % 7 for number in range(count)]


def _times(text: object, key: str) -> tuple[int, int]:
    found = re.fullmatch(r"([0-9]{1,2}):([0-9]{2}) *- *([0-9]{1,2}):([0-9]{2})", str(text))
    if found is None:
        raise wrong(f"{str(text)[:40]!r} is no time of work such as 09:00-18:00", at=key)
    hour, minute, last_hour, last_minute = map(int, found.groups())
    start, end = hour * 60 + minute, last_hour * 60 + last_minute
    if max(minute, last_minute) > 59 or start >= DAY or end > DAY:
        raise wrong(f"{text!r}: times go from 00:00 to 24:00", at=key)
    if start == end:
        raise wrong(f"{text!r} is no time at all; a whole day is 00:00-24:00", at=key)
    return start, end if end > start else end + DAY


def _hours(data: object) -> tuple[Shift, ...]:
    if not isinstance(data, dict) or not data:
        raise wrong("must be days with their times, such as {mon-fri: 09:00-18:00}")
    shifts: list[Shift] = []
    for key, times in data.items():
        given = times if isinstance(times, list) else [times]
        if not given:
            raise wrong("has no times; leave out a day without work", at=str(key))
        for day in _days(str(key)):
            for text in given:
                shift = Shift(day, *_times(text, str(key)))
                if any(_overlap(shift, other) for other in shifts):
                    raise wrong(f"{text!r} overlaps with other hours of {DAYS[day]}", at=str(key))
                shifts.append(shift)
    return tuple(sorted(shifts))


def _overlap(one: Shift, other: Shift) -> bool:
    """Tell whether two shifts share a minute of the week, which has no end: Sunday night runs into Monday."""
    ahead = (other.day * DAY + other.start - one.day * DAY - one.start) % WEEK
    behind = (WEEK - ahead) % WEEK
    return ahead < one.end - one.start or behind < other.end - other.start


def _moment(value: object) -> date | datetime:
    """Read a whole day or a date with a time; a time without an offset is by the rep's own clock."""
    if isinstance(value, (date, datetime)):
        return within_reason(value)
    try:
        text = value if isinstance(value, str) else ""
        whole_day = len(text) == len("2026-12-24")
        moment = date.fromisoformat(text) if whole_day else datetime.fromisoformat(text)
    except ValueError:
        raise wrong("must be a day such as 2026-12-24 or a time such as 2026-12-24T14:00") from None
    return within_reason(moment)


Hours = Annotated[tuple[Shift, ...], PlainValidator(_hours)]
Moment = Annotated[date | datetime, PlainValidator(_moment)]


class WrittenAbsence(Strict):
    """From one day to another, both away; or from one moment until another."""

    start: Moment = Field(alias="from")
    end: Moment = Field(alias="to")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        start, end = self.start, self.end
        if isinstance(start, datetime) and isinstance(end, datetime):
            if (start.tzinfo is None) != (end.tzinfo is None):
                raise wrong("`from` and `to` must both have an offset from UTC, or both none")
        elif isinstance(start, datetime) or isinstance(end, datetime):
            raise wrong("`from` and `to` must both be whole days or both have a time")
        if start > end:
            raise wrong("ends before it begins")
        return self

    def meant(self) -> Absence:
        """What it says."""
        if isinstance(self.start, datetime) and isinstance(self.end, datetime):
            return Moments(self.start, self.end)
        return Days(self.start, self.end)


def _spelled_out(data: object) -> object:
    """A day, or a span such as 2026-11-01..2027-02-28, as the mapping that it is short for."""
    if isinstance(data, (str, date)):
        first, dots, last = str(data).partition("..")
        return {"from": first.strip(), "to": (last if dots else first).strip()}
    return data


OneAbsence = Annotated[WrittenAbsence, BeforeValidator(_spelled_out)]
