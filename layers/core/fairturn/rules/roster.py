"""Who is on duty: whom HubSpot knows, who is not away, and who is at work by their own clock."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo

from fairturn.rules.policy import Absence, Days, Moments
from fairturn.rules.verdict import ON_DUTY, Code, Source, Verdict

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from fairturn.rules.policy import Absence, Rep, Shift

MINUTE: Final = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Owner:
    """A rep as HubSpot knows them."""

    id: str
    email: str
    archived: bool
    """Deactivated. HubSpot lets such an owner be written without a word, so nobody else stops us."""
    unavailable: bool = False
    """HubSpot has refused to take them as an owner."""
    missed: bool = False
    """HubSpot's latest list of owners lacked them."""


def refreshed(known: Mapping[str, Owner], listed: Iterable[Owner], named: Collection[str]) -> list[Owner]:
    """The owners to be known from now on: those of a new list of HubSpot's that are named.

    HubSpot goes on listing whom it has deactivated, and a list may lack somebody by mistake. So whoever is missing
    stays as known once, and has left only if the next list lacks them as well.
    """
    found = {owner.id: owner for owner in listed if owner.id in named}
    missing = [known[rep] for rep in known if rep in named and rep not in found and not known[rep].missed]
    return [*found.values(), *(replace(owner, missed=True) for owner in missing)]


def duty(rep: Rep, owner: Owner | None, at: datetime, holidays: Collection[date] = ()) -> Verdict:
    """Tell whether a rep is on duty at a moment. `owner` is None for whom HubSpot doesn't know; on `holidays` they are
    away, a night shift that runs into one excepted.

    Raises ValueError for a moment without a time zone.
    """
    if at.tzinfo is None:
        raise ValueError("a moment needs a time zone")
    if owner is None:
        return Verdict(Code.UNKNOWN, Source.HUBSPOT)
    if owner.archived:
        return Verdict(Code.DEACTIVATED, Source.HUBSPOT)
    if owner.unavailable:
        return Verdict(Code.REFUSED, Source.HUBSPOT)
    now = at.astimezone(ZoneInfo(rep.zone) if rep.zone else UTC)
    for absence in rep.absences:
        if _is_away(absence, now):
            return Verdict(Code.AWAY, until=_written(absence))
    if rep.hours is None:
        return Verdict(Code.HOLIDAY, until=now.date().isoformat()) if now.date() in holidays else ON_DUTY
    shifts = {day for shift in rep.hours for day in _days_at_work(shift, now)}
    if not shifts:
        return Verdict(Code.OFF)
    if shifts <= {*holidays}:
        return Verdict(Code.HOLIDAY, until=max(shifts).isoformat())
    return ON_DUTY


def comes_on_duty(
    rep: Rep, owner: Owner | None, at: datetime, within: timedelta, holidays: Collection[date] = ()
) -> bool:
    """Tell whether a rep will be on duty at some moment after `at` and not later than `within` after it.

    Only where a shift begins, or an absence or a holiday ends, does anybody come on duty, so only those moments are
    looked at.
    """
    at = at.astimezone(UTC)
    until = at + within
    now = at.astimezone(ZoneInfo(rep.zone) if rep.zone else UTC)
    moments = [until]
    for day in (now.date(), now.date() + timedelta(days=1)):
        midnight = datetime.combine(day, time(), now.tzinfo)
        moments.append(midnight)
        moments += [
            midnight + timedelta(minutes=shift.start) for shift in rep.hours or () if shift.day == day.weekday()
        ]
    for absence in rep.absences:
        back = comes_back(absence)
        moments.append(back if back.tzinfo else back.replace(tzinfo=now.tzinfo))
    return any(duty(rep, owner, moment, holidays).on_duty for moment in map(_instant, moments) if at < moment <= until)


def comes_back(absence: Absence) -> datetime:
    """When an absence is over; without a time zone it is by the rep's own clock."""
    match absence:
        case Moments():
            return absence.end
        case Days():
            return datetime.combine(absence.end + timedelta(days=1), time())


def _is_away(absence: Absence, now: datetime) -> bool:
    return _has_come(absence.start, now) and not _has_come(comes_back(absence), now)


def _days_at_work(shift: Shift, now: datetime) -> Iterator[date]:
    """The day on which the shift began that is under way; none if none is."""
    for day in (now.date(), now.date() - timedelta(days=1)):  # a night shift began yesterday
        if day.weekday() == shift.day:
            midnight = datetime.combine(day, time())
            started = _has_come(midnight + timedelta(minutes=shift.start), now)
            if started and not _has_come(midnight + timedelta(minutes=shift.end), now):
                yield day


def _instant(moment: datetime) -> datetime:
    """When the clock of a zone first shows this time or a later one, in UTC and to the minute; see _has_come."""
    latest, earliest = (moment.replace(fold=fold).astimezone(UTC) for fold in (0, 1))
    skipped = max(0, (latest - earliest) // MINUTE)  # only of a time that is skipped is the later reading earlier

    def has_come(minutes: int) -> bool:
        return _has_come(moment.replace(tzinfo=None), (earliest + minutes * MINUTE).astimezone(moment.tzinfo))

    return latest - (skipped - bisect_left(range(skipped), x=True, key=has_come)) * MINUTE


def _has_come(moment: date | datetime, now: datetime) -> bool:
    """Tell whether the clock of `now` has ever shown this time, or a later one.

    So a time that is skipped in spring comes when the clock jumps over it, and one that is there twice in
    autumn comes the first time, for good.
    """
    if not isinstance(moment, datetime):
        moment = datetime.combine(moment, time())
    if moment.tzinfo is None:
        if now.replace(tzinfo=None) >= moment:
            return True
        moment = moment.replace(tzinfo=now.tzinfo)
    # Two times of one zone compare by their clocks alone, so by what is the same everywhere.
    return now.astimezone(UTC) >= moment.astimezone(UTC)


def _written(absence: Absence) -> str:
    return absence.end.isoformat(timespec="minutes") if isinstance(absence, Moments) else absence.end.isoformat()
