"""What a policy file may say: the shape of each part. What it means is told by reading.py."""

from __future__ import annotations

from collections import Counter
from math import prod
from typing import Annotated, Literal, Self

from pydantic import AliasChoices, BeforeValidator, Discriminator, Field, PlainValidator, Tag, model_validator

from fairturn.rules.conditions import Reached
from fairturn.rules.policy import Cleared, Mode, Priority
from fairturn_console.policy.calendars import Calendar
from fairturn_console.policy.checks import MAX_LANES
from fairturn_console.policy.conditions import Conditions, keys_of
from fairturn_console.policy.hours import Hours, OneAbsence
from fairturn_console.policy.problems import Strict, wrong
from fairturn_console.policy.values import (
    ONE_OR_MORE,
    After,
    Bounds,
    Capacity,
    GroupName,
    ListName,
    Member,
    OneNumber,
    Property,
    Reason,
    Release,
    RepKey,
    RuleName,
    SettleAtMost,
    Skill,
    Skills,
    SkillsAsked,
    TeamName,
    Texts,
    TurnBackWithin,
    Values,
    Weight,
    Zone,
    rep_key,
)

MAX_REPS = 1000
MAX_GROUPS = 100
MAX_TEAMS = 100
MAX_MEMBERS = 500
MAX_RULES = 100
MAX_SHOWN = 5
MAX_ABSENCES = 100
MAX_LISTS = 20
MAX_SKILLS_FROM = 3

OLD_NAMES = {
    "rotas": "teams",
    "rota": "team",
    "regret": "turn_back_within",
    "cleared": "when_owner_removed",
    "show": "keep_values",
}
"""Keys that were called otherwise once. They are read still."""


def _formerly(old: str) -> AliasChoices:
    return AliasChoices(OLD_NAMES[old], old)


class RepRules(Strict):
    """What is said of a rep, or of all reps of a group."""

    skills: Skills = ()
    weight: Weight | None = None
    capacity: Capacity | None = None
    zone: Zone | None = None
    hours: Hours | None = None
    holidays: Calendar | None = None
    absences: Annotated[tuple[OneAbsence, ...], Field(max_length=MAX_ABSENCES), ONE_OR_MORE] = ()


class Group(RepRules):
    """Reps who have something in common."""

    reps: Annotated[tuple[RepKey, ...], Field(min_length=1, max_length=MAX_MEMBERS), ONE_OR_MORE]


class ListFile(Strict):
    """A list that stands in a file beside the policy."""

    file: Annotated[str, Field(min_length=1, max_length=200)]
    column: Annotated[str, Field(min_length=1, max_length=200)]


def _kind_of_list(data: object) -> str:
    if isinstance(data, dict):
        return "<file>"
    return "<entries>" if isinstance(data, list) else "<built in>"


def _built_in(data: object) -> Literal["built in"]:
    if data != "built in":
        raise wrong("must be a list such as [acme.example], {file: named.csv, column: domain}, or `built in`")
    return "built in"


OneList = Annotated[
    Annotated[ListFile, Tag("<file>")]
    | Annotated[Texts, Tag("<entries>")]
    | Annotated[Literal["built in"], PlainValidator(_built_in), Tag("<built in>")],
    Discriminator(_kind_of_list),
]


class ReachedWritten(Strict):
    """A property that has come to one of these values."""

    property: Property
    reaches: Values

    def meant(self) -> Reached:
        """What it says."""
        return Reached(self.property, self.reaches)


class WorthWritten(Strict):
    """What leads are worth, in bands."""

    property: Property
    bands: Bounds
    priorities: tuple[Priority, ...] | None = None

    @model_validator(mode="after")
    def _one_for_each(self) -> Self:
        wanted = len(self.bands) + 1
        if self.priorities is not None and len(self.priorities) != wanted:
            what = f"must have {wanted}, one for each band and the lowest first; has {len(self.priorities)}"
            raise wrong(what, at="priorities")
        return self


class SettleWritten(Strict):
    """What a new lead waits for."""

    known: Annotated[tuple[Property, ...], Field(min_length=1, max_length=MAX_SHOWN), ONE_OR_MORE]
    at_most: SettleAtMost


def _kind_of_start(data: object) -> str:
    return "<created>" if isinstance(data, str) else "<reached>"


class LeadsWritten(Strict):
    """Which records are leads, and what may be seen of them."""

    when: Annotated[
        Annotated[Literal["created"], Tag("<created>")] | Annotated[ReachedWritten, Tag("<reached>")],
        Discriminator(_kind_of_start),
    ] = "created"
    settle: SettleWritten | None = None
    keep_owner: Annotated[bool, Field(strict=True)] = True
    turn_back_within: TurnBackWithin = Field(default=10, validation_alias=_formerly("regret"))
    when_owner_removed: Cleared = Field(default=Cleared.LEAVE, validation_alias=_formerly("cleared"))
    worth: WorthWritten | None = None
    closed: Annotated[tuple[ReachedWritten, ...], Field(max_length=MAX_RULES), ONE_OR_MORE] = ()
    keep_values: Annotated[tuple[Property, ...], Field(max_length=MAX_SHOWN), ONE_OR_MORE] = Field(
        default=(), validation_alias=_formerly("show")
    )


class FloodWritten(Strict):
    """What pauses bulk sources."""

    leads: Annotated[int, Field(strict=True, ge=1, le=1_000_000)] = 500
    minutes: Annotated[int, Field(strict=True, ge=1, le=1440)] = 10


class Team(Strict):
    """Reps who share one kind of lead."""

    members: Annotated[tuple[Member, ...], Field(min_length=1, max_length=MAX_MEMBERS), ONE_OR_MORE]
    capacity: Capacity | None = None


def _members_alone(data: object) -> object:
    return {"members": data} if isinstance(data, (str, list)) else data


OneTeam = Annotated[Team, BeforeValidator(_members_alone)]


class SkillsFromLists(Strict):
    """The skill of the list that has the property's value."""

    property: Property
    lists: Annotated[dict[Skill, Values], Field(min_length=1)]

    def choices(self) -> int:
        """From how many a lead gets one; to ask for none is one of them."""
        return len(self.lists) + 1


class SkillsFromBounds(Strict):
    """The skill of the largest bound that the property's number reaches."""

    property: Property
    at_least: Annotated[dict[Skill, OneNumber], Field(min_length=1)]

    def choices(self) -> int:
        """From how many a lead gets one; to ask for none is one of them."""
        return len(self.at_least) + 1


OneSkillsFrom = Annotated[
    Annotated[SkillsFromLists, Tag("<lists>")] | Annotated[SkillsFromBounds, Tag("<at_least>")],
    Discriminator(lambda data: "<at_least>" if "at_least" in keys_of(data) else "<lists>"),
]


def _kind_of_priority(data: object) -> str:
    return "<by conditions>" if isinstance(data, dict) else "<priority>"


PriorityWritten = Annotated[
    Annotated[Priority, Tag("<priority>")] | Annotated[dict[Priority, Conditions], Tag("<by conditions>")],
    Discriminator(_kind_of_priority),
]


class FallbackWritten(Strict):
    """Who gets what nobody of the team can take."""

    team: TeamName
    skills: SkillsAsked = ()
    after: After = 0


def _team_alone(data: object) -> object:
    return {"team": data} if isinstance(data, str) else data


OneFallback = Annotated[FallbackWritten, BeforeValidator(_team_alone)]


def _kind_of_fallback(data: object) -> str:
    if isinstance(data, dict) and not data.keys() & FallbackWritten.model_fields.keys():
        return "<by priority>"
    return "<any>"


FallbacksWritten = Annotated[
    Annotated[OneFallback, Tag("<any>")]
    | Annotated[dict[Priority, OneFallback], Field(min_length=1), Tag("<by priority>")],
    Discriminator(_kind_of_fallback),
]


class GoalWritten(Strict):
    """Where a lead goes."""

    team: TeamName | None = Field(default=None, validation_alias=_formerly("rota"))
    owner: RepKey | None = None
    skills: SkillsAsked = ()
    skills_from: Annotated[tuple[OneSkillsFrom, ...], Field(max_length=MAX_SKILLS_FROM), ONE_OR_MORE] = ()
    priority: PriorityWritten | None = None
    if_nobody: FallbacksWritten | None = None

    @model_validator(mode="after")
    def _to_a_team_or_an_owner(self) -> Self:
        if self.team is None and self.owner is None:
            raise wrong("is missing; or name an `owner`, or say `ignore` and why", at="team")
        if self.owner is not None:
            for key in ("team", "skills", "skills_from"):
                if getattr(self, key):
                    raise wrong("goes with no `owner`: one fixed owner gets all of these leads", at=key)
        combinations = prod(each.choices() for each in self.skills_from)
        if combinations > MAX_LANES:
            raise wrong(f"makes {combinations} combinations of skills; at most {MAX_LANES}", at="skills_from")
        return self


class RuleWritten(GoalWritten):
    """Where a lead goes if all conditions hold."""

    name: RuleName
    when: Conditions = ()


class IgnoringWritten(Strict):
    """Why what no rule takes is nobody's lead."""

    ignore: Reason


class IgnoringRuleWritten(IgnoringWritten):
    """Why a record is nobody's lead if all conditions hold."""

    name: RuleName
    when: Conditions = ()


def _kind_of_rule(data: object) -> str:
    return "<ignoring>" if "ignore" in keys_of(data) else "<routing>"


OneRule = Annotated[
    Annotated[RuleWritten, Tag("<routing>")] | Annotated[IgnoringRuleWritten, Tag("<ignoring>")],
    Discriminator(_kind_of_rule),
]
Otherwise = Annotated[
    Annotated[GoalWritten, Tag("<routing>")] | Annotated[IgnoringWritten, Tag("<ignoring>")],
    Discriminator(_kind_of_rule),
]


def _each_once(reps: object) -> object:
    if isinstance(reps, dict):
        for key, times in Counter(rep_key(str(key)) for key in reps).items():
            if times > 1:
                raise wrong("is there more than once", at=str(key))
    return reps


def _all_defaults(rep: object) -> object:
    return {} if rep is None else rep


class PolicyWritten(Strict):
    """A whole policy file."""

    mode: Mode = Mode.LIVE
    leads: LeadsWritten = LeadsWritten()
    flood: FloodWritten = FloodWritten()
    release: Release = 15
    lists: Annotated[dict[ListName, OneList], Field(max_length=MAX_LISTS)] = Field(default={})
    groups: Annotated[dict[GroupName, Group], Field(max_length=MAX_GROUPS)] = Field(default={})
    reps: Annotated[
        dict[RepKey, Annotated[RepRules, BeforeValidator(_all_defaults)]],
        Field(max_length=MAX_REPS),
        BeforeValidator(_each_once),
    ] = Field(default={})
    teams: Annotated[dict[TeamName, OneTeam], Field(max_length=MAX_TEAMS)] = Field(
        default={}, validation_alias=_formerly("rotas")
    )
    rules: Annotated[tuple[OneRule, ...], Field(max_length=MAX_RULES)] = ()
    otherwise: Otherwise
