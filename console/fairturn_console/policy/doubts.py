"""What a policy may say but can hardly mean: each doubt with its place, as a problem has it.

A doubt keeps no policy from being applied. Where a rule is said never to be reached, that is certain.
"""

from __future__ import annotations

import re
from datetime import datetime, time, timedelta
from difflib import get_close_matches
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo

from fairturn.errors import Problem
from fairturn.rules.conditions import AllOf, AnyOf, AtLeast, AtMost, Between, FromSource, In, InList, Not, fold
from fairturn.rules.events import SOURCES
from fairturn.rules.policy import FIXED, Moments, Priority
from fairturn.rules.roster import Owner, comes_back, duty
from fairturn.rules.wording import as_text
from fairturn_console.policy.checks import SMALLER, size_in_words
from fairturn_console.policy.overlap import can_hold, denied, formula, placed, properties, taken
from fairturn_console.policy.problems import place

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from fairturn.rules.conditions import Condition, Leaf, Value
    from fairturn.rules.policy import Goal, Policy, Rep
    from fairturn_console.policy.overlap import Every, Path

MANY_CELLS: Final = 1_000
"""Reps x kinds of leads of one team from which on its claims are dear."""
LONGEST_ABSENCE: Final = timedelta(days=2 * 365)
"""An absence that takes longer is hardly one: such a rep is better left out."""
RANGES: Final = frozenset({"numemployees"})
"""HubSpot's own properties whose options are ranges of numbers."""
NO_NUMBERS: Final = "HubSpot's own {} holds ranges such as 500-1000, which are no numbers: ask for them with `in`"
TURNED_ZONE: Final = re.compile(r"Etc/GMT([+-])([1-9][0-9]?)")
CALCULATED: Final = re.compile(r"hubspotscore|hs_.*scor.*")
"""Scores that HubSpot works out some time after a contact was created."""


def doubts(policy: Policy, at: datetime) -> list[Problem]:
    """Find what is hardly meant in a policy, with its place. `at` is now, with a time zone."""
    return [
        *_of_worth(policy),
        *_of_reps(policy, at),
        *_of_rotas(policy),
        *_of_lists(policy),
        *_of_conditions(policy),
        *_of_rules(policy),
        *_of_goals(policy),
    ]


# Leads, reps and rotas


def _of_worth(policy: Policy) -> Iterator[Problem]:
    worth = policy.leads.worth
    if worth is not None and worth.property in RANGES:
        yield Problem(place(["leads", "worth", "property"]), NO_NUMBERS.format(worth.property))
    if worth is not None and policy.leads.when == "created" and CALCULATED.fullmatch(worth.property):
        what = "HubSpot works this out only after the lead was created, so the lead counts in the lowest band"
        yield Problem(place(["leads", "worth", "property"]), what)


def _of_reps(policy: Policy, at: datetime) -> Iterator[Problem]:
    members = {member for rota in policy.rotas.values() for member in rota.members}
    for key, rep in policy.reps.items():
        if key not in members:
            yield Problem(place(["reps", key]), "is in no team, so they get no leads")
        if turned := TURNED_ZONE.fullmatch(rep.zone or ""):
            ahead = "+" if turned[1] == "-" else "-"
            what = f"is no place: it has no summer time, and {turned[0]} is UTC{ahead}{turned[2]}"
            yield Problem(place(["reps", key, "zone"]), what)
        for index, absence in enumerate(rep.absences):
            if absence.start == absence.end and isinstance(absence, Moments):
                what = "ends in the moment in which it begins, so they are never away"
                yield Problem(place(["reps", key, "absences", index]), what)
        if rep.absences and not _comes(rep, at, at + LONGEST_ABSENCE):
            what = f"their hours never come: they are absent in all of them for {LONGEST_ABSENCE.days // 365} years"
            yield Problem(place(["reps", key, "absences"]), what)


def _comes(rep: Rep, at: datetime, until: datetime) -> bool:
    """Tell whether a rep is on duty at any moment from `at` until `until`.

    They come on duty only where a shift begins or an absence ends, so only those moments are looked at.
    """
    anybody = Owner("", "", archived=False)
    moments = _moments(rep, at.astimezone(ZoneInfo(rep.zone or "UTC")), until)
    return any(at <= moment <= until and duty(rep, anybody, moment).on_duty for moment in moments)


def _moments(rep: Rep, now: datetime, until: datetime) -> Iterator[datetime]:
    yield now
    for absence in rep.absences:
        back = comes_back(absence)
        yield back if back.tzinfo else back.replace(tzinfo=now.tzinfo)
    for days in range((until - now).days + 1):
        midnight = datetime.combine(now.date() + timedelta(days=days), time(), now.tzinfo)
        for shift in rep.hours or ():
            if shift.day == midnight.weekday():
                yield midnight + timedelta(minutes=shift.start)


def _of_rotas(policy: Policy) -> Iterator[Problem]:
    asked = {rota for _, goal in policy.goals() for rota in (goal.rota, *(each.rota for each in goal.fallbacks))}
    for name, rota in policy.rotas.items():
        if name not in asked:
            yield Problem(place(["teams", policy.team(name)]), "gets no leads: no rule names it")
        if policy.cells(name) > MANY_CELLS:
            what = f"{size_in_words(policy, name)}, all written with every claim: {SMALLER}"
            yield Problem(place(["teams", policy.team(name)]), what)
        if all(policy.capacity(name, member) == 0 for member in rota.members):
            if name.startswith(FIXED):
                yield Problem(place(["reps", *rota.members]), "has capacity 0, so leads that are theirs wait for ever")
            else:
                what = "everybody has capacity 0, so its leads wait for ever"
                yield Problem(place(["teams", policy.team(name)]), what)


# Rules


def _of_conditions(policy: Policy) -> Iterator[Problem]:
    known = {fold(source): source for source in SOURCES}
    for path, leaf in placed(policy):
        yield from _of_values(path, leaf)
        for index, source in enumerate(leaf.sources if isinstance(leaf, FromSource) else ()):
            if fold(source) not in known:
                close = get_close_matches(fold(source), known, n=1)
                meant = f", did you mean {known[close[0]]}?" if close else ""
                yield Problem(place([*path, "source", index]), f"HubSpot has no known source {source!r}{meant}")


def _of_values(path: Path, leaf: Leaf) -> Iterator[Problem]:
    if isinstance(leaf, (AtLeast, AtMost, Between)) and leaf.property in RANGES:
        yield Problem(place(path), NO_NUMBERS.format(leaf.property))
    if isinstance(leaf, In):
        yield from _of_duplicates({(*path, "not_in" if leaf.negated else "in"): leaf.value})


def _of_duplicates(lists: Mapping[Path, Sequence[Value]]) -> Iterator[Problem]:
    seen: set[tuple[bool, str]] = set()
    for path, values in lists.items():
        for index, value in enumerate(values):
            same = (isinstance(value, str), fold(as_text(value)))  # a text is no number, even if it reads like one
            if same in seen:
                yield Problem(place([*path, index]), f"{as_text(value)!r} is there already")
            seen.add(same)


def _of_rules(policy: Policy) -> Iterator[Problem]:
    before: list[tuple[str, Every]] = []
    for index, rule in enumerate(policy.rules):
        path, takes = ("rules", index), taken(rule)
        excluded = list(_excluded(rule.when, (*path, "when")))
        if excluded:
            yield from excluded
        elif not can_hold(takes):
            what = "takes no lead: a bulk source counts only where `source` names it, not inside `not`"
            yield Problem(place([*path, "when"]), what)
        elif (shadow := _shadow(takes, before)) is not None:
            yield Problem(place(path), f"can never be reached: {shadow}")
        before.append((rule.name, takes))


def _shadow(takes: Every, before: Sequence[tuple[str, Every]]) -> str | None:
    """Say which of the rules before take all that a rule takes; None if that isn't certain."""
    for name, other in before:
        if not can_hold(takes, denied(other)):
            return f"rule {name!r} before it takes all that it takes"
    # Together, only those are looked at that ask for nothing else: the others hardly add to it, and cost time.
    related = [denied(other) for _, other in before if properties(other) <= properties(takes)]
    return None if can_hold(takes, *related) else "the rules before it take all that it takes"


def _excluded(conditions: Sequence[Condition], path: Path) -> Iterator[Problem]:
    """Find conditions that never hold together; those inside of others come first, and alone."""
    inner = [problem for index, each in enumerate(conditions) for problem in _excluded_within(each, (*path, index))]
    yield from inner
    formulas = formula(conditions).parts
    if inner or can_hold(*formulas):
        return
    pairs = ((one, other) for other in range(len(formulas)) for one in range(other))
    pair = next((pair for pair in pairs if not can_hold(*(formulas[index] for index in pair))), None)
    if pair is None:
        yield Problem(place(path), "these never hold together")
    else:
        one, other = pair
        yield Problem(place([*path, other]), f"never holds together with {place([*path, one])}")


def _excluded_within(condition: Condition, path: Path) -> Iterator[Problem]:
    match condition:
        case AllOf():
            yield from _excluded(condition.conditions, (*path, "all"))
        case AnyOf():
            for index, part in enumerate(condition.conditions):
                yield from _excluded_within(part, (*path, "any", index))
        case Not():
            yield from _excluded_within(condition.condition, (*path, "not"))
        case _:
            pass


def _of_goals(policy: Policy) -> Iterator[Problem]:
    for path, goal in policy.goals():
        members = policy.rotas[goal.rota].members
        able = [member for member in members if set(goal.skills) <= set(policy.reps[member].skills)]
        full = {member for member in members if policy.capacity(goal.rota, member) == 0}
        if able and full.issuperset(able) and not full.issuperset(members):
            skills = " and ".join(map(policy.skill, goal.skills))
            what = f"everybody in team {policy.team(goal.rota)!r} who has {skills} has capacity 0"
            yield Problem(place([*path, "skills"]), what)
        for index, each in enumerate(goal.skills_from):
            at = (*path, "skills_from", index)
            yield from _of_duplicates({(*at, "lists", policy.skill(skill)): values for skill, values in each.lists})
            if each.bounds and each.property in RANGES:
                what = f"HubSpot's own {each.property} holds ranges such as 500-1000, which are no numbers: use `lists`"
                yield Problem(place([*at, "property"]), what)
        possible = _priorities(goal, policy)
        for fallback in goal.fallbacks:
            if possible.isdisjoint(fallback.priorities):
                (priority,) = fallback.priorities
                yield Problem(place([*path, "if_nobody", priority]), f"no lead is {priority} here")
            if (fallback.rota, fallback.skills) == (goal.rota, goal.skills) and not goal.skills_from:
                yield Problem(place([*path, "if_nobody"]), "names the same team once more, which helps nobody")


def _priorities(goal: Goal, policy: Policy) -> set[Priority]:
    """The priorities that leads may have there."""
    by_conditions = {priority for priority, _ in goal.priorities}
    if goal.priority is not None:
        return by_conditions | {goal.priority}
    worth = policy.leads.worth
    return by_conditions | ({Priority.NORMAL} if worth is None else {worth.priority(band) for band in worth.names()})


def _of_lists(policy: Policy) -> Iterator[Problem]:
    asked = {leaf.list for _, leaf in placed(policy) if isinstance(leaf, InList)}
    for name in policy.lists.keys() - asked:
        yield Problem(place(["lists", name]), "is asked for by no condition")
