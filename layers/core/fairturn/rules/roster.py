"""Who is on duty: whom HubSpot knows, who is not away, and who is at work by his own clock."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from fairturn.errors import PolicyInvalid, Problem
from fairturn.rules.policy import place
from fairturn.rules.verdict import ON_DUTY, Code, Source, Verdict

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from fairturn.rules.policy import Absence, Policy, Rep, Shift


@dataclass(frozen=True, slots=True)
class Owner:
    """A rep as HubSpot knows him."""

    id: str
    email: str
    archived: bool
    """Deactivated. HubSpot lets such an owner be written without a word, so nobody else stops us."""
    unavailable: bool = False
    """HubSpot has refused to take him as an owner."""
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


def resolve(policy: Policy, owners: Mapping[str, Owner]) -> Policy:
    """Name every rep by their owner id.

    Raises PolicyInvalid, naming every rep whom HubSpot doesn't know or has deactivated.
    """
    # Where an address is there twice, the active owner comes last and so is the one found.
    known = sorted(owners.values(), key=lambda owner: (not owner.archived, owner.id))
    found = {owner.email.strip().lower(): owner for owner in known if owner.email}
    found |= {owner.id: owner for owner in known}
    problems: list[Problem] = []
    ids: dict[str, str] = {}
    for key in policy.reps:
        owner = found.get(key)
        if owner is None:
            problems.append(Problem(place(["reps", key]), "is not known to HubSpot as an owner"))
        elif owner.archived:
            problems.append(Problem(place(["reps", key]), "is deactivated in HubSpot"))
        elif owner.id in ids.values():
            problems.append(Problem(place(["reps", key]), "is there twice: by e-mail and by owner id"))
        else:
            ids[key] = owner.id
    if problems:
        raise PolicyInvalid(problems)
    rotas = {
        name: rota.model_copy(update={"members": tuple(ids[member] for member in rota.members)})
        for name, rota in policy.rotas.items()
    }
    return policy.model_copy(update={"reps": {ids[key]: rep for key, rep in policy.reps.items()}, "rotas": rotas})


def duty(rep: Rep, owner: Owner | None, at: datetime) -> Verdict:
    """Tell whether a rep is on duty at a moment. `owner` is None for whom HubSpot doesn't know.

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
            return Verdict(Code.AWAY, until=_written(absence.end))
    if rep.hours is not None and not any(_is_at_work(shift, now) for shift in rep.hours):
        return Verdict(Code.OFF)
    return ON_DUTY


def comes_on_duty(rep: Rep, owner: Owner | None, at: datetime, within: timedelta) -> bool:
    """Tell whether a rep will be on duty at some moment after `at` and not later than `within` after it.

    Only where a shift begins or an absence ends does anybody come on duty, so only those moments are looked at.
    """
    at = at.astimezone(UTC)
    until = at + within
    now = at.astimezone(ZoneInfo(rep.zone) if rep.zone else UTC)
    moments = [until]
    for day in (now.date(), now.date() + timedelta(days=1)):
        midnight = datetime.combine(day, time(), now.tzinfo)
        moments += [
            midnight + timedelta(minutes=shift.start) for shift in rep.hours or () if shift.day == day.weekday()
        ]
    for absence in rep.absences:
        end = absence.end
        last = end if isinstance(end, datetime) else datetime.combine(end + timedelta(days=1), time())
        moments.append(last if last.tzinfo else last.replace(tzinfo=now.tzinfo))
    return any(duty(rep, owner, moment).on_duty for moment in moments if at < moment <= until)


def _is_away(absence: Absence, now: datetime) -> bool:
    end = absence.end
    if not isinstance(end, datetime):
        end += timedelta(days=1)
    return _has_come(absence.start, now) and not _has_come(end, now)


def _is_at_work(shift: Shift, now: datetime) -> bool:
    for day in (now.date(), now.date() - timedelta(days=1)):  # a night shift began yesterday
        if day.weekday() == shift.day:
            midnight = datetime.combine(day, time())
            started = _has_come(midnight + timedelta(minutes=shift.start), now)
            if started and not _has_come(midnight + timedelta(minutes=shift.end), now):
                return True
    return False


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


def _written(end: date | datetime) -> str:
    return end.isoformat(timespec="minutes") if isinstance(end, datetime) else end.isoformat()
