"""Where a lead goes, and the trace of why: the first rule whose conditions all hold.

The trace has one digit for each condition of each rule that was tried.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from fairturn.rules.conditions import (
    Facts,
    Reached,
    fold,
)
from fairturn.rules.events import BULK_SOURCES
from fairturn.rules.policy import OTHERWISE, OWNER, Ignoring, IgnoringRule, Priority, RoutingRule, lane
from fairturn.rules.wording import describe

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from fairturn.rules.events import Message
    from fairturn.rules.policy import Goal, Policy, Rule


@dataclass(frozen=True, slots=True)
class Lead:
    """What brought a record, and what HubSpot shows of it."""

    message: Message
    properties: Mapping[str, str | None]

    @property
    def owner(self) -> str | None:
        """The owner's id; None if nobody owns it."""
        return self.properties.get(OWNER) or None


@dataclass(frozen=True, slots=True)
class Route:
    """A lead for the reps of one lane."""

    rota: str
    lane: str
    priority: Priority
    rule: str
    trace: str
    """For each rule tried, in order, the outcome of each of its conditions as 0 or 1 in the order of
    `conditions.leaves`, or `-` for a rule without any; blanks between rules. The last one is the rule that took
    the lead, unless that is the catch-all, which has no place in the trace."""
    worth: str | None = None
    """What the lead is worth, in words; None if the policy has no `worth`."""
    fallback: Route | None = None
    """Where it goes if nobody here can take it."""
    after: int = 0
    """Minutes since the lead came, before which the fallback is not for it."""

    def rotas(self) -> tuple[str, ...]:
        """Every rota that it may go to."""
        return (self.rota,) if self.fallback is None else (self.rota, self.fallback.rota)


@dataclass(frozen=True, slots=True)
class Ignored:
    """A record that is nobody's lead."""

    reason: str
    rule: str | None
    """The rule that said so; None if it is no lead in the first place."""
    trace: str


def route(lead: Lead, policy: Policy) -> Route | Ignored:
    """Find where a lead goes.

    A record from a bulk source is taken only by a rule that names the source; a rule that doesn't is passed
    over, unless it is one that ignores. Whether the record is closed makes no difference: see `is_closed`.
    """
    source = lead.message.change_source
    today = datetime.fromtimestamp(lead.message.occurred_at / 1000, UTC).date()
    facts = Facts(lead.properties, source, lists=policy.lists, today=today)
    bulk = facts.source in _BULK_SOURCES
    taker, trace = _first_taker(facts, policy.rules, bulk=bulk)
    if taker is None and bulk:
        return Ignored(f"comes from {source}, and no rule asks for it", None, trace)
    if isinstance(policy.leads.when, Reached) and not facts.reached(policy.leads.when):
        return Ignored(f"not a lead until {describe(policy.leads.when)}", None, trace)
    if isinstance(taker, IgnoringRule):
        return Ignored(taker.ignore, taker.name, trace)
    if taker is not None:
        return _towards(taker.goal, taker.name, facts, policy, trace)
    if isinstance(policy.otherwise, Ignoring):
        return Ignored(policy.otherwise.ignore, OTHERWISE, trace)
    return _towards(policy.otherwise, OTHERWISE, facts, policy, trace)


def _towards(goal: Goal, rule: str, facts: Facts, policy: Policy, trace: str) -> Route:
    worth = policy.leads.worth
    band = None if worth is None else worth.band(facts.number(worth.property))
    words = None if worth is None or band is None else worth.in_words(band)
    priority = _priority(goal, facts) or (Priority.NORMAL if worth is None or band is None else worth.priority(band))
    skills = (*goal.skills, *(skill for each in goal.skills_from if (skill := each.skill(facts))))
    towards = Route(goal.rota, lane(skills, band), priority, rule, trace, words)
    for fallback in goal.fallbacks:
        if priority in fallback.priorities:
            second = replace(towards, rota=fallback.rota, lane=lane(fallback.skills, band))
            return replace(towards, fallback=second, after=fallback.after)
    return towards


def _priority(goal: Goal, facts: Facts) -> Priority | None:
    """What the goal itself says of the lead's priority."""
    for priority, conditions in goal.priorities:
        if all(facts.holds(condition, []) for condition in conditions):
            return priority
    return goal.priority


def lacking(lead: Lead, policy: Policy) -> tuple[str, ...]:
    """The properties for which a new lead waits, as it has no value of them yet."""
    settle = policy.leads.settle
    if settle is None:
        return ()
    facts = Facts(lead.properties)
    return tuple(name for name in settle.known if facts.text(name) is None)


def is_closed(properties: Mapping[str, str | None], policy: Policy) -> bool:
    """Tell whether a record counts in nobody's load any more."""
    facts = Facts(properties)
    return any(facts.reached(closed) for closed in policy.leads.closed)


def _first_taker(facts: Facts, rules: Iterable[Rule], *, bulk: bool) -> tuple[Rule | None, str]:
    trace: list[str] = []
    for rule in rules:
        outcomes: list[bool] = []
        held = [facts.holds(condition, outcomes) for condition in rule.when]
        trace.append("".join("01"[outcome] for outcome in outcomes) or "-")
        passed_over = bulk and isinstance(rule, RoutingRule) and not facts.is_source_named(rule.when)
        if all(held) and not passed_over:
            return rule, " ".join(trace)
    return None, " ".join(trace)


_BULK_SOURCES = frozenset(fold(source) for source in BULK_SOURCES)
