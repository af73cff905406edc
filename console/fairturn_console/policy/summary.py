"""What a policy comes to, in a few words."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

from fairturn.rules.policy import Cleared, Goal
from fairturn_console.policy.calendars import has_own_holidays

if TYPE_CHECKING:
    from fairturn.rules.policy import Policy


def parts(policy: Policy) -> str:
    """Count its parts: `8 reps, 3 teams, 6 rules and a catch-all`."""
    last = "a catch-all" if isinstance(policy.otherwise, Goal) else "nothing else is a lead"
    counted = [_count(len(policy.reps), "rep"), _count(len(policy.teams()), "team"), _count(len(policy.rules), "rule")]
    return f"{', '.join(counted)} and {last}"


def unsaid(policy: Policy) -> str:
    """Say what matters and may have been left to its default."""
    leads = policy.leads
    said = [f"Mode {policy.mode}", "keeps owners" if leads.keep_owner else "gives away what has an owner, too"]
    if leads.cleared is Cleared.ALLOT_AGAIN:
        said.append("allots again whose owner is removed")
    always = [rep for rep, rules in policy.reps.items() if rules.hours is None and not _is_owner_only(rep, policy)]
    if always:
        said.append(f"24/7 for {_count(len(always), 'rep')} without hours")
    unlimited = {
        rep for rota in policy.teams() for rep in policy.rotas[rota].members if policy.capacity(rota, rep) is None
    }
    if unlimited:
        said.append(f"no limit of open leads for {_count(len(unlimited), 'rep')}")
    if policy.calendars:
        last = min(max(days, default=date.max).year for days in policy.calendars.values())
        said.append(f"holidays of {' and '.join(map(_calendar, sorted(policy.calendars)))} until the end of {last}")
    return ", ".join(said)


def _calendar(name: str) -> str:
    return name if has_own_holidays(name) else f"{name} as in all of {name[:2]}"


def _is_owner_only(rep: str, policy: Policy) -> bool:
    return not any(rep in policy.rotas[rota].members for rota in policy.teams())


def _count(number: int, what: str) -> str:
    return f"1 {what}" if number == 1 else f"{number} {what}s"
