"""Absences that are told the console, beside the policy."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo

from fairturn.errors import FairturnError
from fairturn.rules.roster import comes_back
from fairturn.rules.terms import Away, Reason

if TYPE_CHECKING:
    from fairturn.edges.store import Store
    from fairturn.rules.policy import Rep
    from fairturn.rules.terms import Pointer

LONGEST: Final = timedelta(days=730)
KEPT_FOR: Final = timedelta(days=30)
"""An absence that has been over for so long is forgotten when the next one is told."""


class AbsenceRefused(FairturnError):
    """An absence makes no sense; the message says what to write instead."""


def away(rep: Rep, until: str, reason: Reason, now: datetime) -> Away:
    """An absence that begins now. `until` is the last day, or a time by the rep's clock. Raises AbsenceRefused."""
    here = now.astimezone(ZoneInfo(rep.zone or "UTC")).replace(tzinfo=None, second=0, microsecond=0)
    try:
        if "T" not in until:
            last = date.fromisoformat(until)
            noted = Away(here.date().isoformat(), last.isoformat(), reason.value)
        else:
            end = datetime.fromisoformat(until)
            if end.tzinfo is not None:
                raise AbsenceRefused("the time is by the rep's own clock: leave out the offset")
            noted = Away(here.isoformat(timespec="minutes"), end.isoformat(timespec="minutes"), reason.value)
    except ValueError as error:
        raise AbsenceRefused(f"{until!r} is no day such as 2026-12-24, and no time such as 2026-12-24T14:00") from error
    if not here < comes_back(noted.absence) <= here + LONGEST:
        raise AbsenceRefused(f"{until} is over already, or more than two years ahead")
    return noted


def forget_ended(store: Store, pointer: Pointer, now: datetime) -> None:
    """Forget the absences that have long been over. Raises TableUnavailable."""
    for rep, noted in pointer.away.items():
        if comes_back(noted.absence) < now.replace(tzinfo=None) - KEPT_FOR:
            store.forget_away(rep)
