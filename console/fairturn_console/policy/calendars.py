"""Public holidays, by country and subdivision, from the `holidays` package."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Final

import holidays
from pydantic import AfterValidator

from fairturn_console.policy.problems import unknown, wrong

if TYPE_CHECKING:
    from datetime import date

YEARS: Final = 5
"""Years for which holidays are written down when a policy is applied, this one included."""


def _calendar(name: str) -> str:
    if re.fullmatch(r"[A-Z]{2}(-[A-Z0-9]{1,3})?", name) is None:
        raise wrong(f"{name!r} is no country such as FR, and no part of one such as DE-BY")
    if name[:2] not in holidays.list_supported_countries():
        raise wrong(unknown("country", name[:2], holidays.list_supported_countries()))
    return name


Calendar = Annotated[str, AfterValidator(_calendar)]
"""ISO 3166: a country, or a part of one."""


def has_own_holidays(calendar: str) -> bool:
    """Tell whether holidays of this part of a country are known; if not, those of the whole country are taken."""
    country, _, part = calendar.partition("-")
    return not part or part in holidays.list_supported_countries()[country]


def days(calendar: str, today: date) -> frozenset[date]:
    """Give the public holidays from today until the end of the fourth year after this one."""
    country, _, part = calendar.partition("-")
    found = holidays.country_holidays(
        country,
        subdiv=part if part and has_own_holidays(calendar) else None,
        years=range(today.year, today.year + YEARS),
    )
    return frozenset(day for day in found if day >= today)
