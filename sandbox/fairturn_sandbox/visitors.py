"""Who fills in the form on the demo's day: leads of every kind that the policy tells apart.

A kind is what one rule takes, or one skill or one priority within it. Its leads are made from the policy's own
conditions; `route` is the judge of whether they are what they are meant to be.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Final, TypeVar

from fairturn.rules.conditions import (
    AllOf,
    AtLeast,
    Equals,
    Facts,
    FromSource,
    In,
    Not,
    Reached,
    Unknown,
    exact,
    leaves,
)
from fairturn.rules.events import BULK_SOURCES, Kind, Message
from fairturn.rules.ledger import BAND
from fairturn.rules.policy import OTHERWISE, OWNER, Goal, Ignoring, RoutingRule
from fairturn.rules.record import milliseconds
from fairturn.rules.routing import Ignored, Lead, Route, route
from fairturn.rules.wording import as_text
from fairturn_sandbox.satisfying import ADDRESS, Demand, suggestions, together, ways, ways_out

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime
    from random import Random

    from fairturn.rules.conditions import Condition, Leaf
    from fairturn.rules.policy import Policy, Priority, SkillsFrom
    from fairturn_sandbox.satisfying import Way

T = TypeVar("T")

TRIES: Final = 400
"""Contacts that are tried for one example, at most."""
EXAMPLES: Final = 6
"""Of each kind, each with other values where there are any."""
LIKENESSES: Final = 3
"""People in whose place an example is tried before it stands for itself."""
SET_BY_HUBSPOT: Final = frozenset({"hs_object_id", "hs_object_source", "createdate", "lastmodifieddate"})
"""What no form can say."""
SOURCES: Final = ("FORM", "API", "CONVERSATIONS", "CRM_UI", "IMPORT")
"""Where contacts come from, the usual one first."""
ANYTHING: Final = "yes"
"""A value of a property of which nothing is known but that it has one."""
EMAIL: Final = "email"
SOMEBODY: Final = "lead@"
"""How an address begins that is to be told apart by a number."""

PEOPLE: Final[tuple[tuple[int, Mapping[str, str]], ...]] = (
    (20, {"country": "France", "numemployees": "25-50", "seats": "30"}),
    (4, {"country": "reunion ", "numemployees": "5-25"}),
    (12, {"country": "GERMANY", "numemployees": "50-100", "seats": "70"}),
    (4, {"country": "Austria"}),
    (27, {"country": "United States", "numemployees": "5-25"}),
    (14, {"country": "United Kingdom", "seats": "25"}),
    (8, {"country": "Netherlands", "numemployees": "100-500", "seats": "400"}),
    (4, {"country": "Ireland", "jobtitle": "Head of Sales"}),
    (7, {"country": "Spain", "seats": "8"}),
)
"""How many of a hundred, and what they say where no condition asks for anything else."""


@dataclass(frozen=True)
class Visitor:
    """A contact that is to be created."""

    properties: Mapping[str, str]
    source: str


@dataclass(frozen=True)
class KindOfLead:
    """What one rule takes, or one skill or priority within it."""

    rule: str
    """Its name, or that of the catch-all."""
    what: str
    """Rule, skill and priority in words."""
    is_it: Callable[[Route | Ignored], bool] = field(repr=False)
    examples: tuple[Visitor, ...] = ()
    """None: no lead of this kind could be made."""

    @property
    def is_bulk(self) -> bool:
        """Whether its leads come from a source that brings thousands at once."""
        return any(example.source in BULK_SOURCES for example in self.examples)


class Visitors:
    """All kinds of leads of a policy. The same `random` makes the same ones."""

    def __init__(self, policy: Policy, random: Random, now: datetime, owners: Collection[str]) -> None:
        """`owners` are the ids of the portal's owners."""
        self._policy = policy
        self._random = random
        self._now = now
        self._owners = sorted(owners)
        self.kinds: list[KindOfLead] = []
        self.unmet: list[KindOfLead] = []
        """Kinds that no lead can be, as far as was found."""
        for kind, demanded in self._wanted():
            examples = tuple(filter(None, (self._example(kind, demanded) for _ in range(EXAMPLES))))
            made = KindOfLead(kind.rule, kind.what, kind.is_it, examples)
            (self.kinds if examples else self.unmet).append(made)
        if not self.kinds:  # no lead can be one by this policy; contacts come all the same
            nobody = Visitor({EMAIL: f"{SOMEBODY}example.net"}, SOURCES[0])
            self.kinds.append(KindOfLead(OTHERWISE, "anybody", lambda _: True, (nobody,)))

    def route(self, visitor: Visitor) -> Route | Ignored:
        """Where a visitor goes by the policy."""
        said = {**visitor.properties, **self._said_by_hubspot(visitor.source)}
        message = Message(
            id="1", kinds=(Kind.CREATION,), occurred_at=milliseconds(self._now), change_source=visitor.source
        )
        return route(Lead(message, said), self._policy)

    def somebody(self, number: int) -> Visitor:
        """Anybody, as they come on a usual day."""
        weights = [self._weight(kind) for kind in self.kinds]
        ((kind),) = self._random.choices(self.kinds, weights)
        return self.one_of(kind, number)

    def one_of(self, kind: KindOfLead, number: int) -> Visitor:
        """A visitor of this kind, with a name of their own."""
        example = self._random.choice(kind.examples)
        for _ in range(LIKENESSES):
            ((_, person),) = self._random.choices(PEOPLE, [often for often, _ in PEOPLE])
            like = self._named({**self._worth(), **person, **example.properties}, example.source, number)
            if kind.is_it(self.route(like)):
                return like
        named = self._named(example.properties, example.source, number)
        return named if kind.is_it(self.route(named)) else example

    def to_a_team(self) -> list[KindOfLead]:
        """The kinds that go to somebody, one by one as people do."""
        return [
            kind
            for kind in self.kinds
            if not kind.is_bulk and any(isinstance(self.route(each), Route) for each in kind.examples)
        ]

    def in_bulk(self) -> list[KindOfLead]:
        """The kinds that go to somebody although they come by the thousand."""
        return [
            kind
            for kind in self.kinds
            if kind.is_bulk and any(isinstance(self.route(each), Route) for each in kind.examples)
        ]

    # Which kinds there are

    def _wanted(self) -> Iterator[tuple[KindOfLead, tuple[Condition, ...]]]:
        """Every kind, and what its leads meet besides the conditions of its rule."""
        goals = {rule.name: rule.goal for rule in self._policy.rules if isinstance(rule, RoutingRule)}
        for rule in self._policy.rules:
            yield from self._within(rule.name, f'rule "{rule.name}"', goals.get(rule.name))
        otherwise = self._policy.otherwise
        yield from self._within(OTHERWISE, "the catch-all", otherwise if isinstance(otherwise, Goal) else None)

    def _within(self, rule: str, words: str, goal: Goal | None) -> Iterator[tuple[KindOfLead, tuple[Condition, ...]]]:
        yield KindOfLead(rule, words, lambda went: went.rule == rule), ()
        for each in goal.skills_from if goal else ():
            for skill in each.skills():
                yield (
                    KindOfLead(rule, f"{words}, skill {self._policy.skill(skill)}", _asks_for(rule, skill)),
                    (_condition_for(each, skill),),
                )
        for priority, conditions in goal.priorities if goal else ():
            yield KindOfLead(rule, f"{words}, priority {priority}", _has(rule, priority)), conditions

    def _weight(self, kind: KindOfLead) -> float:
        if kind.rule == OTHERWISE:
            return 2 if isinstance(self._policy.otherwise, Ignoring) else 8
        if kind.is_bulk:
            return 1
        return 4 if isinstance(self.route(kind.examples[0]), Route) else 2

    # Making examples

    def _example(self, kind: KindOfLead, demanded: tuple[Condition, ...]) -> Visitor | None:
        rules = {rule.name: rule.when for rule in self._policy.rules}
        mine = (*rules.get(kind.rule, ()), *demanded)
        self._left = TRIES
        for way in self._shuffled(ways(mine)):
            found = self._search((*self._always(), *way), kind, rules, frozenset())
            if found is not None:
                return found
        return None

    def _search(
        self, way: Way, kind: KindOfLead, rules: Mapping[str, tuple[Condition, ...]], avoided: frozenset[str]
    ) -> Visitor | None:
        """Find a visitor of this kind who meets these demands; where another rule takes them, avoid that as well."""
        visitor = self._meeting(way)
        if visitor is None or self._left <= 0:
            return None
        self._left -= 1
        went = self.route(visitor)
        if kind.is_it(went):
            return visitor
        if went.rule is None or went.rule in {kind.rule, *avoided} or went.rule not in rules:
            return None
        for out in self._shuffled(ways_out(rules[went.rule])):
            found = self._search((*way, *out), kind, rules, avoided | {went.rule})
            if found is not None:
                return found
        return None

    def _always(self) -> Iterator[Demand]:
        """What every lead meets that is to be given to somebody."""
        leads = self._policy.leads
        if leads.keep_owner:
            yield Demand(Unknown(OWNER), holds=True)
        if isinstance(leads.when, Reached):
            yield Demand(In(leads.when.property, leads.when.reaches), holds=True)
        for closed in leads.closed:
            yield Demand(In(closed.property, closed.reaches), holds=False)

    def _meeting(self, way: Way) -> Visitor | None:
        """A visitor who meets these demands; None if nothing that was tried does."""
        of: dict[str, list[Demand]] = {}
        sources: list[Demand] = []
        for demand in way:
            if isinstance(demand.leaf, FromSource):
                sources.append(demand)
            else:
                of.setdefault(demand.leaf.property, []).append(demand)
        source = self._source(sources)
        if source is None:
            return None
        said: dict[str, str] = {}
        for name, demands in of.items():
            value = self._value(name, demands, source)
            if value is None:
                return None
            if value and name not in SET_BY_HUBSPOT:
                said[name] = value
        return Visitor({EMAIL: f"{SOMEBODY}example.net", **said}, source)

    def _source(self, demands: Sequence[Demand]) -> str | None:
        wanted = [source for each in demands if each.holds for source in suggestions(each.leaf, {}, self._now.date())]
        for source in (*self._shuffled(wanted), *SOURCES):
            if all(self._facts({}, source).holds(each.leaf, []) is each.holds for each in demands):
                return source
        return None

    def _value(self, name: str, demands: Sequence[Demand], source: str) -> str | None:
        """A value that meets all demands, empty for none; None if nothing that was tried does."""
        for value in self._candidates(name, demands, source):
            facts = self._facts({name: value}, source)
            if all(facts.holds(each.leaf, []) is each.holds for each in demands):
                return value
        return None

    def _candidates(self, name: str, demands: Sequence[Demand], source: str) -> Iterator[str]:
        if name in SET_BY_HUBSPOT:
            yield self._said_by_hubspot(source).get(name, "")
            return
        if name == OWNER:
            yield from ("", *self._owners)
            return
        wanted = [
            text
            for each in demands
            if each.holds is not (isinstance(each.leaf, (Equals, In)) and each.leaf.negated)
            for text in suggestions(each.leaf, self._policy.lists, self._now.date())
        ]
        tried = [*self._shuffled(wanted), *together(demands)]
        if name == EMAIL:
            tried.append(f"{SOMEBODY}example.net")
        yield from sorted(tried, key=lambda text: bool(ADDRESS.fullmatch(text)) is not (name == EMAIL))
        yield ""
        yield from self._shuffled(self._pool.get(name, ()))
        yield ANYTHING

    @cached_property
    def _pool(self) -> Mapping[str, list[str]]:
        """Every value that the policy suggests, by property."""
        pool: dict[str, dict[str, None]] = {}
        for leaf in _asked(self._policy):
            if not isinstance(leaf, FromSource):
                values = suggestions(leaf, self._policy.lists, self._now.date())
                pool.setdefault(leaf.property, {}).update(dict.fromkeys(values))
        return {name: [*values] for name, values in pool.items()}

    def _named(self, said: Mapping[str, str], source: str, number: int) -> Visitor:
        address = said.get(EMAIL, "")
        if address.startswith(SOMEBODY):
            address = f"lead{number}@{address.removeprefix(SOMEBODY)}"
        return Visitor({**said, EMAIL: address}, source)

    def _worth(self) -> dict[str, str]:
        """A number of the property that tells what a lead is worth, of any band, or none."""
        worth = self._policy.leads.worth
        bounds = [0, *worth.bands] if worth else []
        return {worth.property: f"{exact(self._random.choice(bounds)) + 1:f}"} if worth else {}

    def _said_by_hubspot(self, source: str) -> dict[str, str]:
        day = self._now.date().isoformat()
        return {"hs_object_source": source, "createdate": day, "lastmodifieddate": day}

    def _facts(self, said: Mapping[str, str], source: str) -> Facts:
        return Facts(said, source, lists=self._policy.lists, today=self._now.date())

    def _shuffled(self, items: Iterable[T]) -> list[T]:
        listed = [*items]
        self._random.shuffle(listed)
        return listed


def named_values(policy: Policy) -> dict[str, set[str]]:
    """Property → the values that the policy wants it to be equal to."""
    named: dict[str, set[str]] = {}
    reached = [*policy.leads.closed, *([policy.leads.when] if isinstance(policy.leads.when, Reached) else [])]
    for criterion in reached:
        named.setdefault(criterion.property, set()).update(map(as_text, criterion.reaches))
    for leaf in _asked(policy):
        match leaf:
            case Equals():
                named.setdefault(leaf.property, set()).add(as_text(leaf.value))
            case In():
                named.setdefault(leaf.property, set()).update(map(as_text, leaf.value))
            case _:
                pass
    return named


def _asks_for(rule: str, skill: str) -> Callable[[Route | Ignored], bool]:
    return lambda went: (
        isinstance(went, Route) and went.rule == rule and skill in went.lane.partition(BAND)[0].split("+")
    )


def _has(rule: str, priority: Priority) -> Callable[[Route | Ignored], bool]:
    return lambda went: isinstance(went, Route) and (went.rule, went.priority) == (rule, priority)


def _condition_for(skills: SkillsFrom, wanted: str) -> Condition:
    """What a lead meets that asks for this skill and for none that is looked for before it."""
    before: list[Condition] = []
    for skill, bound in skills.bounds:
        if skill == wanted:
            return AllOf((AtLeast(skills.property, bound), *map(Not, before)))
        before.append(AtLeast(skills.property, bound))
    for skill, values in skills.lists:
        if skill == wanted:
            return AllOf((In(skills.property, values), *map(Not, before)))
        before.append(In(skills.property, values))
    raise LookupError(wanted)


def _asked(policy: Policy) -> Iterator[Leaf]:
    """Every comparison of a policy's rules and goals."""
    for rule in policy.rules:
        yield from leaves(rule.when)
    for _, goal in policy.goals():
        yield from leaves(chain.from_iterable(conditions for _, conditions in goal.priorities))
        yield from leaves(_condition_for(each, skill) for each in goal.skills_from for skill in each.skills())
