"""Public holidays, by country and subdivision, from the `holidays` package."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Final

import holidays
from pydantic import AfterValidator

from fairturn_console.policy.problems import wrong

if TYPE_CHECKING:
    from datetime import date

YEARS: Final = 5
"""Years for which holidays are written down when a policy is applied, this one included."""


def _calendar(written: str) -> str:
    name = written.upper()
    if re.fullmatch(r"[A-Z]{2}(-[A-Z0-9]{1,3})?", name) is None:
        raise wrong(f"{written!r} is no country such as FR, and no part of one such as DE-BY")
    if name[:2] not in holidays.list_supported_countries():
        raise wrong(f"no holidays of {name[:2]!r} are known; countries have two letters (ISO 3166), such as FR or GB")
    return name


Calendar = Annotated[str, AfterValidator(_calendar)]
"""ISO 3166: a country, or a part of one."""


def has_own_holidays(calendar: str) -> bool:
    """Tell whether holidays of this part of a country are known; if not, those of the whole country are taken."""
    country, _, part = calendar.partition("-")
    return not part or part in holidays.list_supported_countries()[country]


def days(calendar: str, today: date) -> frozenset[date]:
    """Give the public holidays until the end of the fourth year after this one.

    They begin two days ago: elsewhere that may still be today, and a night shift of that day may still be under way.
    """
    first = today - timedelta(days=2)
    country, _, part = calendar.partition("-")
    found = holidays.country_holidays(
        country,
        subdiv=part if part and has_own_holidays(calendar) else None,
        years=range(first.year, today.year + YEARS),
    )
    return frozenset(day for day in found if day >= first)
