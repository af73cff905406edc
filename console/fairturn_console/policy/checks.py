"""What no single part of a policy can tell by itself: contradictions between its parts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fairturn.errors import Problem
from fairturn.rules.conditions import leaves
from fairturn.rules.policy import Days
from fairturn_console.policy.problems import place, unknown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fairturn.rules.policy import Absence, Policy

MAX_LANES = 32
MAX_CELLS = 5_000
"""Reps x lanes of one rota: its ledger is written whole with every claim."""
MAX_LEAVES = 400
SMALLER = "split the rota, or ask for fewer skills or bands"
"""What helps a rota that has too many cells."""


def size_in_words(policy: Policy, rota: str) -> str:
    """Say what makes the ledger of a rota as large as it is."""
    reps, lanes = len(policy.rotas[rota].members), len(policy.lanes(rota))
    return f"{reps} reps x {lanes} lanes are {policy.cells(rota):,} balances"


def contradictions(policy: Policy) -> Iterator[Problem]:
    """Find what no single part of the policy can tell by itself."""
    yield from _of_reps(policy)
    yield from _of_rules(policy)
    yield from _of_goals(policy)


def _of_reps(policy: Policy) -> Iterator[Problem]:
    for key, rep in policy.reps.items():
        if rep.zone is None and (rep.hours or any(map(_by_own_clock, rep.absences))):
            yield Problem(place(["reps", key]), "needs a `zone`, such as Europe/Paris, for the hours or absences")
    for name, rota in policy.rotas.items():
        for index, member in enumerate(rota.members):
            where = place(["rotas", name, "members", index])
            if member not in policy.reps:
                yield Problem(where, unknown("rep", member, policy.reps))
            elif member in rota.members[:index]:
                yield Problem(where, f"{member!r} is a member already")


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
    if count > MAX_LEAVES:
        yield Problem("rules", f"there are {count} conditions in all; at most {MAX_LEAVES}")


def _of_goals(policy: Policy) -> Iterator[Problem]:
    skills = {key: set(rep.skills) for key, rep in policy.reps.items()}
    for path, goal in policy.goals():
        rota = policy.rotas.get(goal.rota)
        if rota is None:
            yield Problem(place([*path, "rota"]), unknown("rota", goal.rota, policy.rotas))
        elif goal.skills and not any(set(goal.skills) <= skills.get(member, set()) for member in rota.members):
            what = f"nobody in rota {goal.rota!r} has {' and '.join(goal.skills)}: nobody could take the lead"
            yield Problem(place([*path, "skills"]), what)
    yield from _of_lanes(policy)


def _of_lanes(policy: Policy) -> Iterator[Problem]:
    worth = policy.leads.worth
    for name in policy.rotas:
        count = len(policy.lanes(name))
        where = place(["rotas", name])
        if count > MAX_LANES and worth is None:
            yield Problem(where, f"the rules ask for {count} different sets of skills here; at most {MAX_LANES}")
        elif count > MAX_LANES and worth is not None:
            bands = len(worth.names())
            what = f"the rules ask for {count // bands} different sets of skills here, in {bands} bands of worth each"
            yield Problem(where, f"{what}: {count} lanes; at most {MAX_LANES}")
        elif policy.cells(name) > MAX_CELLS:
            yield Problem(where, f"{size_in_words(policy, name)}; at most {MAX_CELLS:,}: {SMALLER}")
