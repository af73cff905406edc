"""The policy in force: which contacts are leads, who shares them, and which rule sends a lead where.

This is the form by which functions decide, and in which the table keeps it: whole, without short forms, and checked
before it was stored. How the RevOps team writes it, and what is refused, is the console's to know.
"""

from __future__ import annotations

from datetime import date, datetime
from enum import StrEnum
from itertools import chain, product
from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec

from fairturn.errors import PolicyInvalid, Problem
from fairturn.rules.conditions import Condition, Facts, FromSource, Number, Reached, Stored, Value, exact, leaves
from fairturn.rules.events import OWNER as OWNER
from fairturn.rules.ledger import ANY

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from decimal import Decimal

OTHERWISE = "otherwise"
FIXED = "owner-"
"""How the rota of one fixed owner begins: it has this one member, who gets all of its leads."""


class Mode(StrEnum):
    """What Fairturn does with its decisions."""

    LIVE = "live"
    OBSERVE = "observe"
    PAUSE = "pause"


class Priority(StrEnum):
    """How soon a waiting lead is looked at again, compared with others."""

    URGENT = "urgent"
    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"

    @property
    def rank(self) -> int:
        """0 for the most urgent, 3 for the least."""
        return list(Priority).index(self)


class Cleared(StrEnum):
    """What becomes of a lead whose owner somebody takes away without naming another."""

    LEAVE = "leave"
    """It stays without an owner, and is listed."""
    ALLOT_AGAIN = "allot again"


def lane(skills: Iterable[str], band: str | None = None) -> str:
    """Name the lane of the leads that ask for these skills: `"de+enterprise"`, or `"any"` for none.

    With a band of worth, it comes last: `"de+enterprise@60"`. No skill contains an `@`.
    """
    name = "+".join(sorted(set(skills))) or ANY
    return name if band is None else f"{name}@{band}"


def named(conditions: Iterable[Condition]) -> set[str]:
    """The properties that conditions name."""
    return {leaf.property for leaf in leaves(conditions) if not isinstance(leaf, FromSource)}


class Shift(NamedTuple):
    """Working hours that begin on one day of the week, by the rep's own clock."""

    day: int
    """0 is Monday."""
    start: int
    """Minutes after midnight, 0 to 1439."""
    end: int
    """Minutes after the midnight that `start` counts from; over 1440 when the shift ends on the next day."""


class Days(Stored, frozen=True, tag_field="in", tag="days"):
    """An absence of whole days by the rep's own clock, the last one included."""

    start: date
    end: date


class Moments(Stored, frozen=True, tag_field="in", tag="moments"):
    """An absence from one moment until another; without an offset from UTC, by the rep's own clock."""

    start: datetime
    end: datetime


Absence = Days | Moments


class Rep(Stored, frozen=True):
    """A salesperson: what they can do, how much of it, and when."""

    skills: tuple[str, ...] = ()
    weight: int = 1
    """1 to 100,000: how much of each turn is theirs, compared with the others."""
    capacity: int | None = None
    """Open leads from which on they get no more; None leaves it to the rota."""
    zone: str | None = None
    """IANA's name."""
    hours: tuple[Shift, ...] | None = None
    """None is around the clock."""
    holidays: str | None = None
    """The calendar of their public holidays, which is one of the policy's; None is without any."""
    absences: tuple[Absence, ...] = ()


class Worth(Stored, frozen=True):
    """How much leads are worth, told by a number of HubSpot's, and the bands in which they are shared out.

    A band is named by its lower bound: `"20"`, `"60"`, and `"0"` for the lowest.
    """

    property: str
    bands: tuple[Number, ...]
    """The lower bounds of all bands but the lowest, ascending."""
    priorities: tuple[Priority, ...] | None = None
    """One for each band, the lowest first, for leads whose rule names none; None is `normal` for all."""

    def names(self) -> tuple[str, ...]:
        """Every band, the lowest first."""
        return ("0", *(f"{exact(bound):f}" for bound in self.bands))

    def band(self, number: Decimal | None) -> str:
        """The band of a lead that is worth this much; None is unknown, and in the lowest."""
        return self.names()[sum(number is not None and number >= exact(bound) for bound in self.bands)]

    def priority(self, band: str) -> Priority:
        """The priority of a lead in this band whose rule names none."""
        return Priority.NORMAL if self.priorities is None else self.priorities[self.names().index(band)]

    def in_words(self, band: str) -> str:
        """Say a band in words: `worth 20 to 60`; an empty text if there is no such band."""
        names = self.names()
        if band not in names:
            return ""
        if band == names[0]:
            return f"worth less than {names[1]}"
        if band == names[-1]:
            return f"worth {band} or more"
        return f"worth {band} to {names[names.index(band) + 1]}"


class Settle(Stored, frozen=True):
    """What a new lead waits for, because something else writes it just after the contact was created."""

    known: tuple[str, ...]
    """Properties; a lead that has a value of each waits for nothing."""
    at_most: int
    """Seconds, 1 to 900, since HubSpot's event."""


class Leads(Stored, frozen=True):
    """Which records are leads, and what may be seen of them."""

    when: Literal["created"] | Reached = "created"
    settle: Settle | None = None
    """None assigns a lead as it is when it comes."""
    keep_owner: bool = True
    """Whether a record that has an owner keeps them."""
    regret: int = 10
    """For how many minutes after the handover, 0 to 1440, a rep whose lead somebody else takes away gets their turn
    back."""
    cleared: Cleared = Cleared.LEAVE
    """What becomes of a lead whose owner somebody takes away without naming another."""
    worth: Worth | None = None
    """None shares out all leads of a lane alike, whatever they are worth."""
    closed: tuple[Reached, ...] = ()
    """What makes a lead closed: it counts in nobody's load any more."""
    show: tuple[str, ...] = ()
    """Properties whose values may be kept with a decision and shown."""


class Flood(Stored, frozen=True):
    """How many leads from bulk sources within how many minutes pause the bulk sources."""

    leads: int = 500
    minutes: int = 10


class Rota(Stored, frozen=True):
    """Reps who share one kind of lead."""

    members: tuple[str, ...]
    capacity: int | None = None
    """For members who have none of their own; None is without limit."""


class SkillsFrom(Stored, frozen=True):
    """A skill that a lead asks for, told by a property: that of the first list which has the property's value."""

    property: str
    lists: tuple[tuple[str, tuple[Value, ...]], ...] = ()
    """Skill, and the values that ask for it. Any other value asks for none."""
    bounds: tuple[tuple[str, Number], ...] = ()
    """Skill, and the least number that asks for it, the largest first."""

    def skills(self) -> tuple[str, ...]:
        """Every skill that a lead may ask for by it."""
        return tuple(skill for skill, _ in (*self.lists, *self.bounds))

    def skill(self, facts: Facts) -> str | None:
        """The skill that this lead asks for; None is none."""
        number = facts.number(self.property)
        for skill, bound in self.bounds:
            if number is not None and number >= exact(bound):
                return skill
        return next((skill for skill, values in self.lists if facts.is_any(self.property, values)), None)


class Fallback(Stored, frozen=True):
    """Who gets a lead that nobody of its team can take."""

    rota: str
    skills: tuple[str, ...] = ()
    priorities: tuple[Priority, ...] = tuple(Priority)
    """Only leads of these."""
    after: int = 0
    """Minutes since the lead came; before that it waits for its own team."""


class Goal(Stored, frozen=True, tag_field="does", tag="route"):
    """Where a lead goes."""

    rota: str
    skills: tuple[str, ...] = ()
    skills_from: tuple[SkillsFrom, ...] = ()
    """What it asks for besides `skills`."""
    priority: Priority | None = None
    """None is unsaid: the lead's worth decides, see `Worth.priority`; without it, `normal`."""
    priorities: tuple[tuple[Priority, tuple[Condition, ...]], ...] = ()
    """Priorities that leads have if all of their conditions hold, the most urgent first; they go before `priority`."""
    fallbacks: tuple[Fallback, ...] = ()

    def asked(self) -> frozenset[tuple[str, ...]]:
        """Every set of skills that a lead may ask for here, each sorted."""
        choices = [(None, *each.skills()) for each in self.skills_from]
        return frozenset(
            tuple(sorted({*self.skills, *(skill for skill in chosen if skill)})) for chosen in product(*choices)
        )

    def properties(self) -> set[str]:
        """The contact properties that it asks for."""
        conditions = chain.from_iterable(conditions for _, conditions in self.priorities)
        return {each.property for each in self.skills_from} | named(conditions)


class Ignoring(Stored, frozen=True, tag_field="does", tag="ignore"):
    """Nowhere: why what no rule takes is nobody's lead."""

    ignore: str


class RoutingRule(Stored, frozen=True, tag_field="does", tag="route"):
    """Where a lead goes if all conditions hold."""

    name: str
    goal: Goal
    when: tuple[Condition, ...] = ()


class IgnoringRule(Stored, frozen=True, tag_field="does", tag="ignore"):
    """Why a record is nobody's lead if all conditions hold."""

    name: str
    ignore: str
    when: tuple[Condition, ...] = ()


Rule = RoutingRule | IgnoringRule


class Policy(Stored, frozen=True):
    """The whole policy."""

    reps: dict[str, Rep]
    rotas: dict[str, Rota]
    otherwise: Goal | Ignoring
    rules: tuple[Rule, ...] = ()
    mode: Mode = Mode.LIVE
    leads: Leads = Leads()
    flood: Flood = Flood()
    release: int = 15
    """Minutes, 0 to 240, for which waiting leads are kept for reps who come on duty within them and are owed more; 0 is
    not at all."""
    lists: dict[str, frozenset[str]] = msgspec.field(default_factory=dict)
    """Name → what is in it, folded."""
    calendars: dict[str, frozenset[date]] = msgspec.field(default_factory=dict)
    """Public holidays by the name of their calendar: those of some years from when the policy was applied."""
    team_names: dict[str, str] = msgspec.field(default_factory=dict)
    """Rota → what the team is called, where that is spelled otherwise."""
    skill_names: dict[str, str] = msgspec.field(default_factory=dict)
    """Skill → what it is called, where that is spelled otherwise."""

    @staticmethod
    def load(stored: str) -> Policy:
        """Give a policy from its stored form. Raises PolicyInvalid if this version of the program can't read it."""
        try:
            return _DECODER.decode(stored)
        except msgspec.MsgspecError as error:
            what = f"is stored in a form that this version can't read ({error}): apply the policy anew"
            raise PolicyInvalid([Problem("", what)]) from error

    def dump(self) -> str:
        """Give the form in which it is stored: JSON."""
        return msgspec.json.encode(self).decode()

    def properties(self) -> tuple[str, ...]:
        """Every contact property that must be read to decide, sorted."""
        names = {OWNER, *self.leads.show, *(closed.property for closed in self.leads.closed)}
        if isinstance(self.leads.when, Reached):
            names.add(self.leads.when.property)
        if self.leads.worth is not None:
            names.add(self.leads.worth.property)
        if self.leads.settle is not None:
            names |= set(self.leads.settle.known)
        for rule in self.rules:
            names |= named(rule.when)
        for _, goal in self.goals():
            names |= goal.properties()
        return tuple(sorted(names))

    def lanes(self, rota: str) -> frozenset[str]:
        """Every lane that a rule, the catch-all or a fallback names for this rota, in every band of worth."""
        skills: set[tuple[str, ...]] = set()
        for _, goal in self.goals():
            skills |= goal.asked() if goal.rota == rota else set()
            skills |= {fallback.skills for fallback in goal.fallbacks if fallback.rota == rota}
        return frozenset(lane(asked, band) for asked in skills for band in self._bands())

    def cells(self, rota: str) -> int:
        """How many balances the ledger of this rota may hold: its reps x its lanes."""
        return len(self.rotas[rota].members) * len(self.lanes(rota))

    def capacity(self, rota: str, rep: str) -> int | None:
        """How many open leads the rep may have when they get one of this rota; None is without limit."""
        own = self.reps[rep].capacity
        return own if own is not None else self.rotas[rota].capacity

    def goals(self) -> Iterator[tuple[tuple[str | int, ...], Goal]]:
        """Yield everything that sends leads to a rota, with its place in the file."""
        for index, rule in enumerate(self.rules):
            if isinstance(rule, RoutingRule):
                yield ("rules", index), rule.goal
        if isinstance(self.otherwise, Goal):
            yield (OTHERWISE,), self.otherwise

    def fallbacks(self) -> Iterator[tuple[tuple[str, str], tuple[str, str]]]:
        """Yield each rota and lane that has a fallback, with the rota and lane of that."""
        for _, goal in self.goals():
            for fallback, skills, band in product(goal.fallbacks, goal.asked(), self._bands()):
                yield (goal.rota, lane(skills, band)), (fallback.rota, lane(fallback.skills, band))

    def holidays(self, rep: str) -> frozenset[date]:
        """The public holidays of a rep, as far as they are known."""
        return self.calendars.get(self.reps[rep].holidays or "", frozenset())

    def _bands(self) -> tuple[str | None, ...]:
        return (None,) if self.leads.worth is None else self.leads.worth.names()

    def teams(self) -> list[str]:
        """The rotas that are teams: those of one fixed owner are not."""
        return [rota for rota in self.rotas if not rota.startswith(FIXED)]

    def team(self, rota: str) -> str:
        """What the team of a rota is called; an owner's rota is no team."""
        return "one fixed owner" if rota.startswith(FIXED) else self.team_names.get(rota, rota)

    def skill(self, name: str) -> str:
        """What a skill is called."""
        return self.skill_names.get(name, name)


# Made before any thread asks: msgspec crashes where two threads are the first to read the same shape.
_DECODER = msgspec.json.Decoder(Policy)
