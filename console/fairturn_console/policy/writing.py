"""A policy written out: a file that means what is in force, without short forms and groups."""

from __future__ import annotations

import re
from datetime import date, datetime
from io import StringIO
from itertools import groupby
from typing import TYPE_CHECKING, Any, assert_never

from ruamel.yaml import YAML
from ruamel.yaml.representer import SafeRepresenter

from fairturn.rules.conditions import (
    After,
    AllOf,
    AnyOf,
    AtLeast,
    AtMost,
    Before,
    Between,
    Contains,
    EndsWith,
    Equals,
    FromSource,
    In,
    InList,
    Known,
    Not,
    Reached,
    StartsWith,
    Unknown,
    WithinDays,
)
from fairturn.rules.policy import FIXED, Ignoring, IgnoringRule, Leads, Mode, Priority
from fairturn_console.policy.hours import DAY, DAYS
from fairturn_console.policy.values import MAX_WEIGHT

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from fairturn.rules.conditions import Condition, Leaf
    from fairturn.rules.policy import Absence, Fallback, Goal, Policy, Rep, Rule, Shift

WIDTH = 120
PLAIN = re.compile(r"[^\W\d_][\w.@-]*( [\w.@-]+)*|[\w.-]+@[\w.-]+|[0-9]+[mhs]|[0-9:-]+\.\.[0-9:-]+")
"""Texts that need no quotes wherever they stand."""


class _Representer(SafeRepresenter):
    """Quotes every text that could be taken for something else."""

    def text(self, text: str) -> Any:
        return self.represent_scalar("tag:yaml.org,2002:str", text, style=None if PLAIN.fullmatch(text) else '"')


_Representer.add_representer(str, _Representer.text)


def as_written(policy: Policy, names: Mapping[str, str]) -> dict[str, Any]:
    """Give the policy in the words of a policy file. `names` says how to call each rep: owner id → e-mail address."""

    def name(rep: str) -> str:
        return names.get(rep, rep)

    otherwise = policy.otherwise
    return _without_defaults(
        {
            "mode": policy.mode.value if policy.mode is not Mode.LIVE else None,
            "leads": _leads(policy.leads),
            "flood": {"leads": policy.flood.leads, "minutes": policy.flood.minutes},
            "release": f"{policy.release}m",
            "lists": {each: sorted(entries) for each, entries in policy.lists.items()},
            "reps": {name(rep): _rep(rules, policy) or None for rep, rules in policy.reps.items()} or None,
            "teams": {
                policy.team(rota): _without_defaults(
                    {
                        "members": [name(member) for member in policy.rotas[rota].members],
                        "capacity": policy.rotas[rota].capacity,
                    }
                )
                for rota in policy.teams()
            },
            "rules": [_rule(rule, policy, name) for rule in policy.rules],
        }
    ) | {
        "otherwise": {"ignore": otherwise.ignore} if isinstance(otherwise, Ignoring) else _goal(otherwise, policy, name)
    }


def as_yaml(policy: Policy, names: Mapping[str, str]) -> str:
    """The same as the text of a file."""
    yaml: Any = YAML(typ="safe", pure=True)
    yaml.Representer = _Representer
    yaml.default_flow_style = None  # the innermost mappings and lists stand on one line each
    yaml.sort_base_mapping_type_on_output = False
    yaml.width = WIDTH
    yaml.allow_unicode = True
    text = StringIO()
    yaml.dump(as_written(policy, names), text)
    return text.getvalue()


def _without_defaults(mapping: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in mapping.items() if value not in (None, [], {}, ())}


def _leads(leads: Leads) -> dict[str, Any]:
    worth, settle = leads.worth, leads.settle
    keeps: dict[str, Any] = {} if leads.keep_owner else {"keep_owner": False}
    return keeps | _without_defaults(
        {
            "when": _reached(leads.when) if isinstance(leads.when, Reached) else None,
            "settle": {"known": list(settle.known), "at_most": f"{settle.at_most}s"} if settle else None,
            "turn_back_within": f"{leads.regret} minutes",
            "when_owner_removed": leads.cleared.value,
            "worth": _without_defaults(
                {
                    "property": worth.property,
                    "bands": list(worth.bands),
                    "priorities": [each.value for each in worth.priorities or ()],
                }
            )
            if worth
            else None,
            "closed": [_reached(each) for each in leads.closed],
            "keep_values": list(leads.show),
        }
    )


def _reached(criterion: Reached) -> dict[str, Any]:
    return {"property": criterion.property, "reaches": list(criterion.reaches)}


def _rep(rep: Rep, policy: Policy) -> dict[str, Any]:
    return _without_defaults(
        {
            "skills": [policy.skill(skill) for skill in rep.skills],
            "weight": _weight(rep.weight, policy),
            "capacity": rep.capacity,
            "zone": rep.zone,
            "hours": _hours(rep.hours) if rep.hours else None,
            "holidays": rep.holidays,
            "absences": [_absence(absence) for absence in rep.absences],
        }
    )


def _weight(weight: int, policy: Policy) -> int | str | None:
    """A weight; where one is too large for a whole number, all are shares."""
    if any(rep.weight > MAX_WEIGHT for rep in policy.reps.values()):
        return f"{weight}%"
    return weight if weight != 1 else None


def _hours(shifts: Iterable[Shift]) -> dict[str, Any]:
    times = {
        day: [_time(start, end) for _, start, end in of_day] for day, of_day in groupby(shifts, lambda each: each.day)
    }
    week: dict[str, Any] = {}
    for _, run in groupby(enumerate(times), lambda each: (each[1] - each[0], times[each[1]])):
        days = [day for _, day in run]
        key = DAYS[days[0]] if len(days) == 1 else f"{DAYS[days[0]]}-{DAYS[days[-1]]}"
        week[key] = times[days[0]][0] if len(times[days[0]]) == 1 else times[days[0]]
    return week


def _time(start: int, end: int) -> str:
    last = end if end <= DAY else end - DAY
    return f"{start // 60:02}:{start % 60:02}-{last // 60:02}:{last % 60:02}"


def _absence(absence: Absence) -> str:
    first, last = (_moment(each) for each in (absence.start, absence.end))
    return first if first == last and len(first) == len("2026-12-24") else f"{first}..{last}"


def _moment(moment: date | datetime) -> str:
    return moment.isoformat(timespec="minutes") if isinstance(moment, datetime) else moment.isoformat()


def _rule(rule: Rule, policy: Policy, name: Any) -> dict[str, Any]:
    when = [written(each) for each in rule.when]
    if isinstance(rule, IgnoringRule):
        return _without_defaults({"name": rule.name, "when": when, "ignore": rule.ignore})
    return _without_defaults({"name": rule.name, "when": when}) | _goal(rule.goal, policy, name)


def _goal(goal: Goal, policy: Policy, name: Any) -> dict[str, Any]:
    if goal.rota.startswith(FIXED):
        towards: dict[str, Any] = {"owner": name(policy.rotas[goal.rota].members[0])}
    else:
        towards = {"team": policy.team(goal.rota)}
    by_conditions = {priority.value: [written(each) for each in when] for priority, when in goal.priorities}
    return towards | _without_defaults(
        {
            "skills": [policy.skill(skill) for skill in goal.skills],
            "skills_from": [
                {"property": each.property, "at_least": {policy.skill(skill): bound for skill, bound in each.bounds}}
                if each.bounds
                else {"property": each.property, "lists": {policy.skill(skill): list(of) for skill, of in each.lists}}
                for each in goal.skills_from
            ],
            "priority": by_conditions or (goal.priority.value if goal.priority else None),
            "if_nobody": _if_nobody(goal.fallbacks, policy),
        }
    )


def _if_nobody(fallbacks: Iterable[Fallback], policy: Policy) -> dict[str, Any] | None:
    by_priority: dict[str, Any] = {}
    for each in fallbacks:
        whom = {"team": policy.team(each.rota), "skills": [policy.skill(skill) for skill in each.skills]}
        whom |= {"after": f"{each.after}m"} if each.after else {}
        if set(each.priorities) == {*Priority}:
            return _without_defaults(whom)
        by_priority |= {priority.value: _without_defaults(whom) for priority in each.priorities}
    return by_priority or None


def written(condition: Condition) -> dict[str, Any]:
    """Give a condition in the words of a policy file."""
    match condition:
        case AllOf():
            return {"all": [written(each) for each in condition.conditions]}
        case AnyOf():
            return {"any": [written(each) for each in condition.conditions]}
        case Not():
            return {"not": written(condition.condition)}
        case FromSource():
            return {"source": list(condition.sources)}
        case _:
            return {"property": condition.property} | _operator(condition)


def _operator(leaf: Leaf) -> dict[str, Any]:  # noqa: C901 - one line for each operator
    match leaf:
        case Equals():
            return {"not_equals" if leaf.negated else "equals": leaf.value}
        case In():
            return {"not_in" if leaf.negated else "in": list(leaf.value)}
        case InList():
            return {"in_list": leaf.list}
        case AtLeast():
            return {"at_least": leaf.value}
        case AtMost():
            return {"at_most": leaf.value}
        case Between():
            return {"between": list(leaf.value)}
        case Contains(texts=(only,)):
            return {"contains": only}
        case Contains():
            return {"contains_any": list(leaf.texts)}
        case StartsWith():
            return {"starts_with": leaf.value}
        case EndsWith():
            return {"ends_with": leaf.value}
        case Before():
            return {"before": leaf.day.isoformat()}
        case After():
            return {"after": leaf.day.isoformat()}
        case WithinDays():
            return {"within_days": [leaf.first, leaf.last]}
        case Known():
            return {"known": True}
        case Unknown():
            return {"unknown": True}
        case FromSource():
            return {}
        case _:
            assert_never(leaf)
