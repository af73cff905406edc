"""What a policy file means: read, and brought into the form by which functions decide."""

from __future__ import annotations

import re
import unicodedata
from datetime import date
from fractions import Fraction
from hashlib import sha256
from math import gcd, lcm
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel, ValidationError

from fairturn.errors import PolicyInvalid, Problem
from fairturn.rules.ledger import ANY, PAST
from fairturn.rules.policy import (
    FIXED,
    Fallback,
    Flood,
    Goal,
    Ignoring,
    IgnoringRule,
    Leads,
    Policy,
    Priority,
    Rep,
    Rota,
    RoutingRule,
    Rule,
    Settle,
    SkillsFrom,
    Worth,
)
from fairturn_console.policy import calendars, lists
from fairturn_console.policy.checks import contradictions
from fairturn_console.policy.conditions import meant
from fairturn_console.policy.problems import place, problems, unknown
from fairturn_console.policy.values import is_rep_key, rep_key
from fairturn_console.policy.written import (
    MAX_MEMBERS,
    MAX_REPS,
    OLD_NAMES,
    IgnoringRuleWritten,
    IgnoringWritten,
    LeadsWritten,
    PolicyWritten,
    ReachedWritten,
    RepRules,
    SkillsFromBounds,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from fairturn_console.policy.written import FallbackWritten, GoalWritten, Group, OneRule, OneSkillsFrom

MAX_KEY: Final = 40
RESERVED: Final = frozenset({ANY, PAST})
"""Skills that would be taken for something else in a ledger."""


def read(data: object, *, folder: Path = Path(), today: date | None = None) -> Policy:
    """Check a policy that was written, and give what it means.

    `folder` is where the files of its lists are. Public holidays are those from `today` on. Raises PolicyInvalid with
    every problem and its place.
    """
    models: dict[int, type[BaseModel]] = {}
    try:
        written = PolicyWritten.model_validate(data, context=models)
    except ValidationError as error:
        raise PolicyInvalid(problems(error, data, models)) from error
    reader = _Reader(written, folder, today or date.today())  # noqa: DTZ011 - a day of the operator's
    policy = reader.policy()
    if found := [*reader.problems, *contradictions(policy)]:
        raise PolicyInvalid(found)
    return policy


def old_names(data: object) -> list[Problem]:
    """Find the keys of a policy that were called so once, each with its place and its name of now."""
    parts: list[tuple[tuple[str | int, ...], Any]] = [((), data), (("leads",), _under(data, "leads"))]
    parts += [(("rules", number), rule) for number, rule in enumerate(_under(data, "rules") or ())]
    parts.append((("otherwise",), _under(data, "otherwise")))
    return [
        Problem(place([*path, key]), f"is called `{OLD_NAMES[key]}` now; it is read as before")
        for path, part in parts
        for key in (part if isinstance(part, dict) else ())
        if key in OLD_NAMES
    ]


def _under(data: object, key: str) -> Any:
    return data.get(key) if isinstance(data, dict) else None


def key_of(name: str) -> str:
    """Give the form of a name that ledgers and logs keep: a-z, 0-9, `_` and `-`, at most 40."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    key = re.sub(r"[^a-z0-9_]+", "-", plain).strip("-")
    whole = sum(letter.isalnum() for letter in name) == sum(letter.isalnum() for letter in key)
    if whole and len(key) <= MAX_KEY:
        return key
    # Letters that have no form in ASCII are told apart by a few digits.
    return f"{key[: MAX_KEY - 9]}-{sha256(name.encode()).hexdigest()[:8]}".strip("-")


class _Reader:
    """One policy while it is read; it gathers the problems that no part has by itself."""

    def __init__(self, written: PolicyWritten, folder: Path, today: date) -> None:
        self.problems: list[Problem] = []
        self._written = written
        self._folder = folder
        self._today = today
        self._teams: dict[str, str] = {}
        self._skills: dict[str, str] = {}

    def policy(self) -> Policy:
        """Give what is meant, as far as it makes sense."""
        written = self._written
        rules = tuple(self._rule(rule, ("rules", number)) for number, rule in enumerate(written.rules))
        otherwise = written.otherwise
        reps = self._reps()
        rotas = {self._team(name): self._rota(name, reps) for name in written.teams}
        fixed = {key: Rota((owner,)) for key, owner in self._owners()}
        policy = Policy(
            mode=written.mode,
            leads=_leads(written.leads),
            flood=Flood(written.flood.leads, written.flood.minutes),
            release=written.release,
            lists=self._lists(),
            reps={key: self._rep(rep) for key, rep in _whole(reps).items()},
            calendars={name: calendars.days(name, self._today) for name in _calendars(reps.values())},
            rotas=rotas | fixed,
            rules=rules,
            otherwise=(
                Ignoring(otherwise.ignore)
                if isinstance(otherwise, IgnoringWritten)
                else self._goal(otherwise, ("otherwise",))
            ),
            team_names={key: name for key, name in self._teams.items() if key != name},
            skill_names={key: name for key, name in self._skills.items() if key != name},
        )
        self._tell_collisions()
        self._tell_sizes(reps, rotas)
        return policy

    # Names

    def _team(self, name: str) -> str:
        key = key_of(name)
        self._teams.setdefault(key, name)
        return key

    def _asked(self, names: Iterable[str]) -> tuple[str, ...]:
        return tuple(sorted({self._skill(name) for name in names}))

    def _skill(self, name: str) -> str:
        key = key_of(name)
        self._skills.setdefault(key, name)
        return key

    def _tell_collisions(self) -> None:
        for name in self._written.teams:
            where, key = place(["teams", name]), key_of(name)
            if key.startswith(FIXED):
                self.problems.append(Problem(where, f"begins with {FIXED!r}, which is reserved"))
            if self._teams[key] != name and self._teams[key] in self._written.teams:
                self.problems.append(Problem(where, f"is too much like {self._teams[key]!r}; call it otherwise"))
        for key, name in self._skills.items():
            if key in RESERVED:
                self.problems.append(Problem("", f"the skill {name!r} is reserved; call it otherwise"))

    def _tell_sizes(self, reps: Collection[str], rotas: Mapping[str, Rota]) -> None:
        """The limits hold for what groups come to, too."""
        if len(reps) > MAX_REPS:
            self.problems.append(Problem("reps", f"with those of groups there are {len(reps)}; at most {MAX_REPS}"))
        for rota, team in rotas.items():
            if len(team.members) > MAX_MEMBERS:
                where = place(["teams", self._teams[rota]])
                self.problems.append(Problem(where, f"has {len(team.members)} members; at most {MAX_MEMBERS}"))

    # Reps

    def _reps(self) -> dict[str, RepRules]:
        """Everybody who is named: what is said of themselves goes before what is said of their groups, and absences add
        up."""
        written, named = self._written, dict[str, RepRules]()
        groups: dict[str, list[Group]] = {rep: [] for rep in self._everybody()}
        for group in written.groups.values():
            for rep in dict.fromkeys(group.reps):
                groups[rep].append(group)
        for rep, theirs in groups.items():
            own = written.reps.get(rep, RepRules())
            said = {field: getattr(own, field) for field in own.model_fields_set}
            for field in RepRules.model_fields:
                values = [getattr(group, field) for group in theirs if field in group.model_fields_set]
                if field == "absences":  # nobody is there because they are away at another time as well
                    values.insert(0, own.absences)
                elif field in said:
                    continue
                if field in ("skills", "absences"):
                    said[field] = tuple(dict.fromkeys(each for value in values for each in value))
                elif values and any(value != values[0] for value in values):
                    what = f"is in several groups that say different things of `{field}`; say it here, too"
                    self.problems.append(Problem(place(["reps", rep]), what))
                elif values:
                    said[field] = values[0]
            named[rep] = RepRules.model_construct(**{**dict(own), **said})
        return named

    def _everybody(self) -> list[str]:
        written = self._written
        named = [*written.reps, *(rep for group in written.groups.values() for rep in group.reps)]
        if not written.reps:  # who is in a team is a rep, if there is no list to be on
            members = (rep_key(member) for team in written.teams.values() for member in team.members)
            named += [member for member in members if is_rep_key(member)]
        owners = [owner for _, owner in self._owners()]
        return list(dict.fromkeys([*named, *owners]))

    def _rep(self, rep: RepRules) -> Rep:
        return Rep(
            skills=self._asked(rep.skills),
            weight=int(rep.weight or 1),
            capacity=rep.capacity,
            zone=rep.zone,
            hours=rep.hours,
            holidays=rep.holidays,
            absences=tuple(absence.meant() for absence in rep.absences),
        )

    def _rota(self, name: str, reps: Mapping[str, RepRules]) -> Rota:
        team, groups = self._written.teams[name], self._written.groups
        members: dict[str, None] = {}
        before: set[str] = set()
        for index, member in enumerate(team.members):
            where, rep = place(["teams", name, "members", index]), rep_key(member)
            if rep in before:
                self.problems.append(Problem(where, f"{rep!r} is a member already"))
            elif member in groups:
                members |= dict.fromkeys(groups[member].reps)
            elif rep not in reps:
                self.problems.append(Problem(where, _unknown_member(member, reps, groups)))
            else:
                members[rep] = None
            before.add(rep)
        return Rota(tuple(members), team.capacity)

    def _owners(self) -> Iterator[tuple[str, str]]:
        """The fixed owners, each with the rota that has nobody else."""
        for goal in (*self._written.rules, self._written.otherwise):
            if not isinstance(goal, IgnoringWritten) and goal.owner is not None:
                yield _fixed(goal.owner), goal.owner

    # Rules

    def _rule(self, rule: OneRule, path: tuple[str | int, ...]) -> Rule:
        if isinstance(rule, IgnoringRuleWritten):
            return IgnoringRule(rule.name, rule.ignore, meant(rule.when))
        return RoutingRule(rule.name, self._goal(rule, path), meant(rule.when))

    def _goal(self, goal: GoalWritten, path: tuple[str | int, ...]) -> Goal:
        by_conditions = goal.priority if isinstance(goal.priority, dict) else {}
        ranked = sorted(by_conditions.items(), key=lambda item: item[0].rank)
        return Goal(
            rota=self._known_team(goal.team, [*path, "team"]) if goal.team is not None else _fixed(goal.owner or ""),
            skills=self._asked(goal.skills),
            skills_from=tuple(map(self._skills_from, goal.skills_from)),
            priority=goal.priority if isinstance(goal.priority, Priority) else None,
            priorities=tuple((priority, meant(conditions)) for priority, conditions in ranked),
            fallbacks=tuple(self._fallbacks(goal, path)),
        )

    def _skills_from(self, written: OneSkillsFrom) -> SkillsFrom:
        if isinstance(written, SkillsFromBounds):
            bounds = sorted(written.at_least.items(), key=lambda item: item[1], reverse=True)
            return SkillsFrom(written.property, bounds=tuple((self._skill(skill), bound) for skill, bound in bounds))
        return SkillsFrom(
            written.property, tuple((self._skill(skill), values) for skill, values in written.lists.items())
        )

    def _fallbacks(self, goal: GoalWritten, path: tuple[str | int, ...]) -> Iterator[Fallback]:
        where = [*path, "if_nobody"]
        match goal.if_nobody:
            case None:
                return
            case dict() as by_priority:
                for priority, each in by_priority.items():
                    yield self._fallback(each, (priority,), [*where, priority.value])
            case each:
                yield self._fallback(each, tuple(Priority), where)

    def _fallback(self, each: FallbackWritten, priorities: tuple[Priority, ...], path: list[str | int]) -> Fallback:
        return Fallback(self._known_team(each.team, path), self._asked(each.skills), priorities, each.after)

    def _known_team(self, name: str, path: list[str | int]) -> str:
        if name not in self._written.teams:
            self.problems.append(Problem(place(path), unknown("team", name, self._written.teams)))
        return self._team(name)

    def _lists(self) -> dict[str, frozenset[str]]:
        found: dict[str, frozenset[str]] = {}
        for name, written in self._written.lists.items():
            try:
                found[name] = lists.entries(name, written, self._folder)
            except lists.ListUnreadable as error:
                self.problems.append(Problem(place(["lists", name]), str(error)))
                found[name] = frozenset()  # conditions that ask for it are right
        return found


def _unknown_member(member: str, reps: Iterable[str], groups: Iterable[str]) -> str:
    if is_rep_key(rep_key(member)):
        return unknown("rep", member, reps)
    if groups:
        return unknown("group", member, groups)
    return f"{member!r} is no HubSpot e-mail address or owner id, and there are no groups"


def _fixed(owner: str) -> str:
    """Name the rota of one fixed owner, without saying who they are."""
    return f"{FIXED}{sha256(owner.encode()).hexdigest()[:8]}"


def _whole(reps: Mapping[str, RepRules]) -> dict[str, RepRules]:
    """The reps with whole weights in the same proportions: if there are shares, the smallest such."""
    weights = {rep: rules.weight or Fraction(1) for rep, rules in reps.items()}
    scale = Fraction(lcm(*(weight.denominator for weight in weights.values())))
    if scale > 1:
        scale /= gcd(*(int(weight * scale) for weight in weights.values()))
    return {rep: rules.model_copy(update={"weight": weights[rep] * scale}) for rep, rules in reps.items()}


def _calendars(reps: Iterable[RepRules]) -> list[str]:
    return sorted({rep.holidays for rep in reps if rep.holidays is not None})


def _leads(written: LeadsWritten) -> Leads:
    worth, settle = written.worth, written.settle
    return Leads(
        when=written.when.meant() if isinstance(written.when, ReachedWritten) else written.when,
        settle=Settle(settle.known, settle.at_most) if settle else None,
        keep_owner=written.keep_owner,
        regret=written.turn_back_within,
        cleared=written.when_owner_removed,
        worth=Worth(worth.property, worth.bands, worth.priorities) if worth else None,
        closed=tuple(each.meant() for each in written.closed),
        show=written.keep_values,
    )
