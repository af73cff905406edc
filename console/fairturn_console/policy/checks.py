"""Contradictions between the parts of a policy, which no single part can tell by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fairturn.errors import Problem
from fairturn.rules.conditions import InList, leaves
from fairturn.rules.policy import Days, Priority
from fairturn_console.policy.overlap import placed
from fairturn_console.policy.problems import place, unknown

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from fairturn.rules.policy import Absence, Goal, Policy
    from fairturn_console.policy.overlap import Path

MAX_LANES = 32
MAX_CELLS = 5_000
"""Reps x kinds of leads of one team: its ledger is written whole with every claim."""
MAX_LEAVES = 400
MAX_TOLD = 3
"""Sets of skills that nobody has, told of one rule."""
SMALLER = "split the team, or ask for fewer skills or bands"
"""What helps a team whose ledger is too large."""


def size_in_words(policy: Policy, rota: str) -> str:
    """Say what makes the ledger of a team as large as it is."""
    reps, kinds = len(policy.rotas[rota].members), len(policy.lanes(rota))
    return f"{reps} reps x {kinds} kinds of leads are {policy.cells(rota):,} balances"


def contradictions(policy: Policy) -> Iterator[Problem]:
    """Find what no single part of the policy can tell by itself."""
    for key, rep in policy.reps.items():
        if rep.zone is None and (rep.hours or rep.holidays or any(map(_by_own_clock, rep.absences))):
            what = "needs a `zone`, such as Europe/Paris, for the hours, holidays or absences"
            yield Problem(place(["reps", key]), what)
    yield from _of_rules(policy)
    for path, goal in policy.goals():
        yield from _of_goal(goal, path, policy)
    for name in policy.rotas:
        yield from _of_size(name, policy)


def _by_own_clock(absence: Absence) -> bool:
    return isinstance(absence, Days) or absence.start.tzinfo is None


def _of_rules(policy: Policy) -> Iterator[Problem]:
    names: dict[str, int] = {}
    for index, rule in enumerate(policy.rules):
        if rule.name in names:
            what = f"rules[{names[rule.name]}] is called {rule.name!r} already"
            yield Problem(place(["rules", index, "name"]), what)
        names.setdefault(rule.name, index)
    count = sum(1 for rule in policy.rules for _ in leaves(rule.when))
    count += sum(1 for _, goal in policy.goals() for _, conditions in goal.priorities for _ in leaves(conditions))
    if count > MAX_LEAVES:
        yield Problem("rules", f"there are {count} conditions in all; at most {MAX_LEAVES}")
    for path, leaf in placed(policy):
        if isinstance(leaf, InList) and leaf.list not in policy.lists:
            yield Problem(place([*path, "in_list"]), unknown("list", leaf.list, policy.lists))


def _of_goal(goal: Goal, path: Path, policy: Policy) -> Iterator[Problem]:
    key = "skills_from" if goal.skills_from else "skills"
    if {priority for fallback in goal.fallbacks for priority in fallback.priorities} != {*Priority}:
        yield from _lacking(goal.rota, goal.asked(), [*path, key], policy)
    for fallback in goal.fallbacks:
        yield from _lacking(fallback.rota, {fallback.skills}, [*path, "if_nobody"], policy)


def _lacking(
    rota: str, asked: Collection[tuple[str, ...]], path: Sequence[str | int], policy: Policy
) -> Iterator[Problem]:
    if rota not in policy.rotas:
        return  # that is told already
    able = [{*policy.reps[member].skills} for member in policy.rotas[rota].members if member in policy.reps]
    lacking = [skills for skills in sorted(asked) if skills and not any(each.issuperset(skills) for each in able)]
    for skills in lacking[:MAX_TOLD]:
        names = " and ".join(map(policy.skill, skills))
        yield Problem(place(path), f"nobody in team {policy.team(rota)!r} has {names}: nobody could take the lead")
    if len(lacking) > MAX_TOLD:
        yield Problem(place(path), f"nor has anybody there {len(lacking) - MAX_TOLD} more sets of skills")


def _of_size(rota: str, policy: Policy) -> Iterator[Problem]:
    where, kinds = place(["teams", policy.team(rota)]), len(policy.lanes(rota))
    if kinds > MAX_LANES:
        bands = 1 if policy.leads.worth is None else len(policy.leads.worth.names())
        each = f", in {bands} bands of worth each" if bands > 1 else ""
        what = f"the rules ask for {kinds // bands} different sets of skills here{each}"
        total = f": {kinds} kinds of leads" if bands > 1 else ""
        yield Problem(where, f"{what}{total}; at most {MAX_LANES}")
    elif policy.cells(rota) > MAX_CELLS:
        yield Problem(where, f"{size_in_words(policy, rota)}; at most {MAX_CELLS:,}: {SMALLER}")
