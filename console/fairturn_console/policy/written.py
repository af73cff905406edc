"""The policy as it is written: what each part may say, and what it means."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, Discriminator, Field, Tag, ValidationError, model_validator

from fairturn.errors import PolicyInvalid
from fairturn.rules.conditions import Reached
from fairturn.rules.policy import (
    Cleared,
    Flood,
    Goal,
    IgnoringRule,
    Leads,
    Mode,
    Policy,
    Priority,
    Rep,
    Rota,
    RoutingRule,
    Rule,
    Settle,
    Worth,
)
from fairturn_console.policy.checks import contradictions
from fairturn_console.policy.conditions import Conditions, keys_of
from fairturn_console.policy.hours import Hours, WrittenAbsence
from fairturn_console.policy.problems import Strict, problems, wrong
from fairturn_console.policy.values import (
    Bounds,
    Capacity,
    Minutes,
    Property,
    Reason,
    RepKey,
    RotaName,
    RuleName,
    Seconds,
    Skills,
    SkillsAsked,
    Values,
    Weight,
    Zone,
    rep_key,
)

MAX_REPS = 1000
MAX_ROTAS = 100
MAX_MEMBERS = 500
MAX_RULES = 100
MAX_SHOWN = 5
MAX_ABSENCES = 100


def read(data: object) -> Policy:
    """Check a policy that was written, and give what it means. Raises PolicyInvalid with every problem, each placed."""
    models: dict[int, type[BaseModel]] = {}
    try:
        policy = _Policy.model_validate(data, context=models).meant()
    except ValidationError as error:
        raise PolicyInvalid(problems(error, data, models)) from error
    if found := list(contradictions(policy)):
        raise PolicyInvalid(found)
    return policy


class _Rep(Strict):
    skills: Skills = ()
    weight: Weight = 1
    capacity: Capacity | None = None
    zone: Zone | None = None
    hours: Hours | None = None
    absences: Annotated[tuple[WrittenAbsence, ...], Field(max_length=MAX_ABSENCES)] = ()

    def meant(self) -> Rep:
        absences = tuple(absence.meant() for absence in self.absences)
        return Rep(self.skills, self.weight, self.capacity, self.zone, self.hours, absences)


class _Reached(Strict):
    property: Property
    reaches: Values

    def meant(self) -> Reached:
        return Reached(self.property, self.reaches)


class _Worth(Strict):
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

    def meant(self) -> Worth:
        return Worth(self.property, self.bands, self.priorities)


class _Settle(Strict):
    known: Annotated[tuple[Property, ...], Field(min_length=1, max_length=MAX_SHOWN)]
    at_most: Seconds

    def meant(self) -> Settle:
        return Settle(self.known, self.at_most)


def _kind_of_start(data: object) -> str:
    return "<created>" if isinstance(data, str) else "<reached>"


class _Leads(Strict):
    when: Annotated[
        Annotated[Literal["created"], Tag("<created>")] | Annotated[_Reached, Tag("<reached>")],
        Discriminator(_kind_of_start),
    ] = "created"
    settle: _Settle | None = None
    keep_owner: Annotated[bool, Field(strict=True)] = True
    regret: Annotated[int, Field(strict=True, ge=0, le=1440)] = 10
    cleared: Cleared = Cleared.LEAVE
    worth: _Worth | None = None
    closed: Annotated[tuple[_Reached, ...], Field(max_length=MAX_RULES)] = ()
    show: Annotated[tuple[Property, ...], Field(max_length=MAX_SHOWN)] = ()

    def meant(self) -> Leads:
        return Leads(
            when=self.when.meant() if isinstance(self.when, _Reached) else self.when,
            settle=self.settle.meant() if self.settle else None,
            keep_owner=self.keep_owner,
            regret=self.regret,
            cleared=self.cleared,
            worth=self.worth.meant() if self.worth else None,
            closed=tuple(each.meant() for each in self.closed),
            show=self.show,
        )


class _Flood(Strict):
    leads: Annotated[int, Field(strict=True, ge=1, le=1_000_000)] = 500
    minutes: Annotated[int, Field(strict=True, ge=1, le=1440)] = 10

    def meant(self) -> Flood:
        return Flood(self.leads, self.minutes)


class _Rota(Strict):
    members: Annotated[tuple[RepKey, ...], Field(min_length=1, max_length=MAX_MEMBERS)]
    capacity: Capacity | None = None

    def meant(self) -> Rota:
        return Rota(self.members, self.capacity)


class _Goal(Strict):
    rota: RotaName
    skills: SkillsAsked = ()
    priority: Priority | None = None

    def goal(self) -> Goal:
        return Goal(self.rota, self.skills, self.priority)


class _RoutingRule(_Goal):
    name: RuleName
    when: Conditions = ()

    def meant(self) -> Rule:
        return RoutingRule(self.name, self.goal(), tuple(each.meant() for each in self.when))


class _IgnoringRule(Strict):
    name: RuleName
    when: Conditions = ()
    ignore: Reason

    def meant(self) -> Rule:
        return IgnoringRule(self.name, self.ignore, tuple(each.meant() for each in self.when))


def _kind_of_rule(data: object) -> str:
    return "<ignoring>" if "ignore" in keys_of(data) else "<routing>"


_Rule = Annotated[
    Annotated[_RoutingRule, Tag("<routing>")] | Annotated[_IgnoringRule, Tag("<ignoring>")],
    Discriminator(_kind_of_rule),
]


def _each_once(reps: object) -> object:
    if isinstance(reps, dict):
        for key, times in Counter(rep_key(key) for key in reps).items():
            if times > 1:
                raise wrong("is there more than once", at=str(key))
    return reps


def _all_defaults(rep: object) -> object:
    return {} if rep is None else rep


class _Policy(Strict):
    mode: Mode = Mode.LIVE
    leads: _Leads = _Leads()
    flood: _Flood = _Flood()
    release: Minutes = 15
    reps: Annotated[
        dict[RepKey, Annotated[_Rep, BeforeValidator(_all_defaults)]],
        Field(max_length=MAX_REPS),
        BeforeValidator(_each_once),
    ]
    rotas: Annotated[dict[RotaName, _Rota], Field(max_length=MAX_ROTAS)]
    rules: Annotated[tuple[_Rule, ...], Field(max_length=MAX_RULES)] = ()
    otherwise: _Goal

    def meant(self) -> Policy:
        return Policy(
            mode=self.mode,
            leads=self.leads.meant(),
            flood=self.flood.meant(),
            release=self.release,
            reps={key: rep.meant() for key, rep in self.reps.items()},
            rotas={name: rota.meant() for name, rota in self.rotas.items()},
            rules=tuple(rule.meant() for rule in self.rules),
            otherwise=self.otherwise.goal(),
        )
