"""Who has which part in the demo's day: who joins, who comes back, who is on duty, when it begins."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from fairturn.rules.ledger import ANY, BAND
from fairturn.rules.policy import Moments
from fairturn.rules.roster import Owner, duty

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fairturn.rules.policy import Policy
    from fairturn.rules.routing import Route

MIDNIGHT: Final = datetime(2027, 1, 11, tzinfo=UTC)
"""That of the day, a Monday."""
USUAL_HOUR: Final = 9
LATEST_HOUR: Final = 20
"""At which the day may begin, by UTC."""
HALF: Final = timedelta(hours=4)
STEP: Final = timedelta(minutes=10)
AWAY_FOR: Final = timedelta(days=7)


def begins(policy: Policy) -> datetime:
    """When the day begins: at 9:00 UTC, unless more reps are at work in eight hours from another hour on."""
    hours = LATEST_HOUR + 2 * HALF // timedelta(hours=1)
    at_work = [
        sum(is_on_duty(policy, rep, MIDNIGHT + timedelta(hours=hour + 0.5)) for rep in policy.reps)
        for hour in range(hours)
    ]
    eight = 2 * HALF // timedelta(hours=1)
    best = max(range(LATEST_HOUR), key=lambda hour: (sum(at_work[hour : hour + eight]), hour == USUAL_HOUR))
    return MIDNIGHT + timedelta(hours=best)


def is_on_duty(policy: Policy, rep: str, at: datetime) -> bool:
    """Whether a rep is in the policy and on duty at a moment, if HubSpot knows them."""
    rules = policy.reps.get(rep)
    return rules is not None and duty(rules, Owner(rep, rep, archived=False), at, policy.holidays(rep)).on_duty


def is_taken(route: Route, policy: Policy, at: datetime) -> bool:
    """Whether somebody who may take such a lead is on duty at a moment."""
    return any(is_on_duty(policy, rep, at) for rep in _able(route, policy))


def is_ever_taken(route: Route, policy: Policy, start: datetime) -> bool:
    """Whether that is so at some time of the day."""
    return any(is_taken(route, policy, start + number * STEP) for number in range(2 * HALF // STEP))


def joiner(policy: Policy) -> str | None:
    """The last member of the catch-all's team, or else of another one, without whom no team is empty."""
    return next((rep for rep in _members(policy) if not _empties(policy, {rep})), None)


def returner(policy: Policy, joins: str | None, start: datetime) -> str | None:
    """Who serves the most teams, is at work in the afternoon, and is not needed for a team in the morning."""
    free = [
        rep
        for rep in policy.reps
        if rep != joins
        and not policy.reps[rep].absences
        and any(rep in rota.members for rota in policy.rotas.values())
        and not _empties(policy, {rep, joins or rep})
        and any(is_on_duty(policy, rep, start + HALF + number * STEP) for number in range(HALF // STEP))
    ]
    serves = {rep: sum(rep in rota.members for rota in policy.rotas.values()) for rep in free}
    return max(reversed(free), key=lambda rep: serves[rep], default=None)


def without(policy: Policy, rep: str) -> Policy:
    """The policy as it was before somebody joined."""
    rotas = {
        name: replace(rota, members=tuple(member for member in rota.members if member != rep))
        for name, rota in policy.rotas.items()
    }
    return replace(policy, reps={each: rules for each, rules in policy.reps.items() if each != rep}, rotas=rotas)


def with_absence(policy: Policy, rep: str, back: datetime) -> Policy:
    """The policy with somebody away until they are back."""
    away = replace(policy.reps[rep], absences=(Moments(back - AWAY_FOR, back),))
    return replace(policy, reps={**policy.reps, rep: away})


def _able(route: Route, policy: Policy) -> Iterator[str]:
    skills = route.lane.partition(BAND)[0]
    asked = set() if skills == ANY else {*skills.split("+")}
    for rep in policy.rotas[route.rota].members:
        if rep in policy.reps and asked <= {*policy.reps[rep].skills}:
            yield rep


def _members(policy: Policy) -> Iterator[str]:
    """Members of all teams, those of the last goal first and backwards."""
    for _, goal in reversed([*policy.goals()]):
        yield from reversed(policy.rotas[goal.rota].members)


def _empties(policy: Policy, reps: set[str]) -> bool:
    """Whether a team has no member without these."""
    return any({*rota.members} <= reps for rota in policy.rotas.values() if {*rota.members} & reps)
