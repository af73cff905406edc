"""Why a lead went to whom: one sentence for HubSpot, and the whole story in plain words. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from fairturn.rules.ledger import ANY, BAND, TURN
from fairturn.rules.policy import FIXED, OTHERWISE, Goal, Priority, RoutingRule
from fairturn.rules.verdict import Code
from fairturn.rules.wording import describe

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from fairturn.rules.ledger import Booking, Claim, Member
    from fairturn.rules.policy import Policy
    from fairturn.rules.record import Record
    from fairturn.rules.verdict import Verdict

PROPERTIES = (
    "fairturn_team",
    "fairturn_rule",
    "fairturn_reason",
    "fairturn_priority",
    "fairturn_assigned_at",
)
"""The properties of a HubSpot record that tell its owners why it is theirs."""

CHOSEN_BEFORE = dict.fromkeys(PROPERTIES, "") | {
    "fairturn_reason": "Somebody had chosen this owner just before Fairturn wrote another one; the choice was restored."
}
"""What the properties say where a choice that we had overwritten was restored."""

WORDS = {
    Code.ON_DUTY: "on duty",
    Code.OFF: "outside working hours",
    Code.AWAY: "away",
    Code.HOLIDAY: "on a public holiday",
    Code.UNKNOWN: "not known to HubSpot",
    Code.DEACTIVATED: "deactivated in HubSpot",
    Code.REFUSED: "refused by HubSpot",
}
"""How a rep stands, in words."""
MINUTES = len("2026-12-31 09:00")
"""Characters of a time to the minute: an offset from UTC is left out."""

LEVEL = TURN // 1000
"""Units: who differs by less is level, in words; exactly equal shares differ by a unit when a turn is split."""


def explanation(record: Record, booking: Booking, policy: Policy) -> dict[str, str]:
    """The values of our properties for a lead that is being handed over."""
    at = datetime.fromtimestamp((record.claimed_at or record.changed_at) / 1000, UTC)
    return {
        "fairturn_team": policy.team(record.rota or ""),
        "fairturn_rule": record.rule or "",
        "fairturn_reason": reason(record, booking, policy),
        "fairturn_priority": record.priority or "",
        "fairturn_assigned_at": at.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def reason(record: Record, booking: Booking, policy: Policy | None = None) -> str:
    """One sentence that a salesperson understands, without anybody's name. The policy tells what things are called."""
    rota = record.rota or ""
    if rota.startswith(FIXED):
        if record.rule == OTHERWISE:
            return "Leads that no rule takes go to this one owner."
        return f'The rule "{record.rule}" gives its leads to this one owner.'
    team = policy.team(rota) if policy else rota
    skills = _skills(booking.lane, policy)
    fit = "on duty now or soon" if booking.awaited else "on duty"
    fit += f" with room for {f'a lead {record.worth}' if record.worth else 'it'}"
    fit += f" and the skill {_listed(skills)}" if skills else ""
    fit += ", who had not had it before" if booking.passed_over else ""
    if len(booking.books) == 1:
        return f"The owner was the only rep of {team} {fit}."
    able = f"Of the {len(booking.books)} reps of {team} {fit}"
    owed = f"({_turns(booking.totals[booking.winner])})"
    near = booking.considered
    if len(near) == 1:
        return f"{able}, the owner was owed the most of such leads ({_turns(booking.book(booking.winner))})."
    most = f"the owner was owed the most {owed}"
    if len(near) < len(booking.books):
        most = f"{len(near)} were owed the most of such leads, and of these the owner was owed the most in all {owed}"
    scores = {rep: booking.lanes * booking.totals[rep] + booking.books[rep] for rep in near}
    level = sum(abs(score - scores[booking.winner]) < booking.lanes * LEVEL for score in scores.values()) - 1
    if level:
        return f"{able}, {most}, level with {level if level > 1 else 'one'} more, and had waited longest."
    return f"{able}, {most}."


def story(record: Record, claim: Claim | None, policy: Policy | None, names: Mapping[str, str]) -> list[str]:
    """The whole decision, line by line, recomputed from the claim's journal.

    `policy` is the version that the record names; `names` says how to call each rep. What has expired of the two is
    None, and the story says so: then the record alone tells.
    """
    came = datetime.fromtimestamp(record.occurred_at / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    skills = _skills(record.lane or ANY, policy)
    wanted = (f", needs {_listed(skills)}" if skills else "") + (f", {record.worth}" if record.worth else "")
    number = record.policy if claim is None else claim.policy
    lines = [
        f"{record.key} came {came} ({record.source or 'source unknown'}), decided under policy version {number}.",
        *(f"  Its {name} was {value}." for name, value in sorted(record.shown.items())),
        *(_rules_tried(record, policy) if policy is not None else _rule_of_old(record)),
        _goes_to(record, policy) + f"{wanted}, priority {record.priority}{_because(record, policy)}.",
    ]
    lines += _weighed(record, claim, policy, names) if claim is not None else _kept(record, names)
    if record.spent:
        lines.append(
            "Somebody else took it away soon after that. The turn stays spent: too many have come back lately."
        )
    return lines


def _weighed(record: Record, claim: Claim, policy: Policy | None, names: Mapping[str, str]) -> list[str]:
    """How each rep stood, and to whom the lead went."""
    booked_as, _ = record.booking
    booking = claim.bookings()[booked_as]
    taken: Counter[str] = Counter()
    for given in claim.leads:
        if given.lead == booked_as:
            break
        taken[given.winner] += 1
    lines = []
    for rep, member in claim.members.items():
        then = replace(member, load=member.load + taken[rep])
        lines.append(f"  {names.get(rep, rep)}: {verdict(then, booking, rep, policy)}.")
    return [*lines, f"It went to {names.get(booking.winner, booking.winner)}. {reason(record, booking, policy)}"]


def _kept(record: Record, names: Mapping[str, str]) -> list[str]:
    """What the record tells without its claim's journal."""
    expired = "The journal of its claim has expired, so how the reps stood is not known any more."
    return [expired, *([f"It is with {names.get(record.rep, record.rep)} now."] if record.rep is not None else [])]


def _goal(record: Record, policy: Policy | None) -> Goal | None:
    """Where the rule that took a lead sends its leads."""
    if policy is None:
        return None
    if record.rule == OTHERWISE:
        return policy.otherwise if isinstance(policy.otherwise, Goal) else None
    return next(
        (rule.goal for rule in policy.rules if isinstance(rule, RoutingRule) and rule.name == record.rule), None
    )


def _goes_to(record: Record, policy: Policy | None) -> str:
    """Which team it goes to, and whether that is the second one."""
    rota, goal = record.rota or "", _goal(record, policy)
    if policy is None:
        return f"So it goes to the team {rota}"
    skills = tuple(_skills(record.lane or ANY, None))
    first = goal is None or (goal.rota == rota and skills in goal.asked())
    if goal is not None and not first and any((each.rota, each.skills) == (rota, skills) for each in goal.fallbacks):
        return f"Nobody of {policy.team(goal.rota)} could take it, so it goes to {policy.team(rota)}"
    return f"So it goes to {'' if rota.startswith(FIXED) else 'the team '}{policy.team(rota)}"


def _because(record: Record, policy: Policy | None) -> str:
    """Why it has its priority, where conditions say so."""
    goal = _goal(record, policy)
    if goal is None or policy is None or record.priority in _by_default(goal, policy):
        return ""
    conditions = next((each for priority, each in goal.priorities if priority == record.priority), None)
    return f" because {describe(conditions)}" if conditions else ""


def _by_default(goal: Goal, policy: Policy) -> Collection[Priority]:
    """The priorities that a lead may have although no condition asks for them."""
    if goal.priority is not None:
        return (goal.priority,)
    bands = policy.leads.worth.priorities if policy.leads.worth is not None else None
    return bands or (Priority.NORMAL,)


def _rule_of_old(record: Record) -> list[str]:
    """What the record tells without its version of the policy."""
    took = "the catch-all took it" if record.rule == OTHERWISE else f'rule "{record.rule}" took it'
    return [f"  That version has expired, so its conditions are not known any more: {took}."]


def _rules_tried(record: Record, policy: Policy) -> list[str]:
    tried = len(record.trace.split()) if record.trace else 0
    lines = []
    for rule in policy.rules[:tried]:
        outcome = "yes" if rule.name == record.rule else "no"
        lines.append(f'  Rule "{rule.name}" ({describe(rule.when)}): {outcome}.')
    if record.rule == OTHERWISE:
        lines.append("  No rule took it, so the catch-all did.")
    return lines


def why(verdict: Verdict) -> str:
    """Why a rep is on duty or not, in words that they understand."""
    if verdict.code is Code.AWAY and verdict.until is not None:
        return f"away until {verdict.until.replace('T', ' ')[:MINUTES]}"
    return WORDS[verdict.code]


def verdict(member: Member, booking: Booking, rep: str, policy: Policy | None = None) -> str:
    """How a rep stood when the lead was allotted, in words."""
    limit = "" if member.capacity is None else f" of {member.capacity}"
    if rep in booking.shares:
        owed = f"owed {_turns(booking.totals[rep])} in all, {_turns(booking.book(rep))} of such leads"
        can = "will be on duty soon, so shares in it" if rep in booking.awaited else "could take it"
        return f"{can}: {member.load}{limit} open leads, {owed}"
    if rep in booking.passed_over:
        return "had it before, and others could take it"
    if not member.verdict.on_duty:
        return why(member.verdict)
    if not member.fits(booking.lane):
        lacking = sorted(set(_skills(booking.lane, None)) - member.skills)
        return f"lacks {_listed([policy.skill(skill) if policy else skill for skill in lacking])}"
    return f"full: {member.load}{limit} open leads"


def _turns(units: float) -> str:
    turns = units / TURN
    return f"{turns:.2f} of a turn" if abs(turns) < 1 else f"{turns:.2f} turns"


def _skills(lane: str, policy: Policy | None) -> list[str]:
    """The skills that a lane asks for, sorted, as the policy calls them."""
    skills, _, _ = lane.partition(BAND)
    names = [] if skills == ANY else skills.split("+")
    return [policy.skill(name) for name in names] if policy else names


def _listed(skills: Sequence[str]) -> str:
    return " and ".join(skills)
