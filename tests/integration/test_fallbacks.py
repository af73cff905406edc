"""Leads that nobody of their team can take, and the team that helps out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from fairturn.rules.record import State
from tests.integration.audit import audit, read
from tests.integration.world import World

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_dynamodb import DynamoDBClient

    from fairturn.rules.record import Record


@pytest.fixture
def world(dynamodb: DynamoDBClient) -> Iterator[World]:
    with World(dynamodb, "fairturn") as world:
        yield world
        audit(read(dynamodb, "fairturn", world.store))


def change(world: World, if_nobody: Any, *, first: int = 0, others: int | None = None, **policy: Any) -> None:
    """Put a policy into force by which the team of the first rep falls back on that of the others, and wait until
    everybody sees it. Told are their capacities."""
    one, *helpers = world.reps
    otherwise = {"team": "first", "if_nobody": if_nobody, **policy.pop("otherwise", {})}
    world.apply(
        reps={one: {"capacity": first}, **{rep: {"capacity": others} for rep in helpers}},
        rotas={"first": {"members": [one]}, "helpers": {"members": helpers}},
        otherwise=otherwise,
        **policy,
    )
    world.later(31)


def record(world: World, lead: str) -> Record:
    found = world.record(lead)
    assert found is not None
    return found


def test_what_nobody_of_the_first_team_can_take_goes_to_the_second_in_the_same_run(world: World) -> None:
    change(world, "helpers")
    leads = world.arrive(4)
    assert world.take(leads) == []
    assert world.states(leads) == {"handed": 4}
    assert sorted(world.loads().values()) == [2, 2]
    assert {record(world, lead).rota for lead in leads} == {"helpers"}
    world.check(leads)


def test_only_what_is_too_much_for_the_first_team_goes_to_the_second(world: World) -> None:
    change(world, "helpers", first=1)
    leads = world.arrive(3)
    world.take(leads)
    assert world.loads() == dict.fromkeys(world.reps, 1)
    assert [record(world, lead).rota for lead in leads].count("first") == 1


def test_the_owner_is_told_which_team_they_help_out(world: World) -> None:
    change(world, "helpers")
    (lead,) = world.arrive()
    world.take([lead])
    properties = world.portal.contact(lead).properties
    assert properties["fairturn_team"] == "helpers"
    assert (properties["fairturn_reason"] or "").startswith("Of the 2 reps of helpers on duty")


def test_a_lead_that_waits_is_kept_for_nobody_of_its_team_once_it_may_go_to_another(world: World) -> None:
    """Else it would go to the second team while somebody of the first could take it."""
    early, late, helper = world.reps
    night = {"zone": "UTC", "hours": {"mon-sun": "12:00-13:00"}}

    def apply(hours: str) -> None:
        world.apply(
            reps={early: {"zone": "UTC", "hours": {"mon-sun": hours}}, late: night, helper: {"capacity": 0}},
            rotas={"first": {"members": [early, late]}, "helpers": {"members": [helper]}},
            otherwise={"team": "first", "if_nobody": "helpers"},
            release="4h",
        )
        world.later(31)

    apply("20:00-21:00")
    leads = world.arrive(2)
    world.take(leads)
    assert world.states(leads) == {"waiting": 2}
    apply("09:00-19:00")  # so they have only just come
    world.sweep.run()
    assert [world.owner(lead) for lead in leads] == [early, early]


def test_not_before_its_time_and_sweep_sees_to_it_then(world: World) -> None:
    change(world, {"team": "helpers", "after": "10 minutes"})
    (lead,) = world.arrive()
    world.take([lead])
    assert (record(world, lead).state, record(world, lead).rota) == (State.WAITING, "first")
    world.later(9 * 60)
    world.sweep.run()
    assert record(world, lead).state is State.WAITING
    world.later(60)
    world.sweep.run()
    assert record(world, lead).state is State.HANDED
    assert record(world, lead).rota == "helpers"
    world.check([lead])


def test_before_its_time_the_first_team_still_gets_it(world: World) -> None:
    change(world, {"team": "helpers", "after": "10 minutes"})
    (lead,) = world.arrive()
    world.take([lead])
    change(world, {"team": "helpers", "after": "10 minutes"}, first=1)
    world.sweep.run()
    assert (world.owner(lead), record(world, lead).rota) == (world.reps[0], "first")


def test_only_leads_of_its_priority_fall_back(world: World) -> None:
    urgent = {"priority": {"urgent": {"property": "message", "contains": "demo"}}}
    change(world, {"urgent": "helpers"}, otherwise=urgent)
    (hot,), (cold,) = world.arrive(message="a demo"), world.arrive(message="hello")
    world.take([hot, cold])
    assert [record(world, lead).state for lead in (hot, cold)] == [State.HANDED, State.WAITING]
    world.later(60)
    world.sweep.run()
    assert record(world, cold).state is State.WAITING


def test_what_neither_team_can_take_waits_for_its_own_and_goes_to_whichever_can_first(world: World) -> None:
    change(world, "helpers", others=0)
    (lead,) = world.arrive()
    world.take([lead])
    assert (record(world, lead).state, record(world, lead).rota) == (State.WAITING, "first")
    world.sweep.run()
    assert record(world, lead).state is State.WAITING
    change(world, "helpers", others=1)
    world.sweep.run()
    assert record(world, lead).rota == "helpers"
    (next_one,) = world.arrive()
    change(world, "helpers", first=1, others=1)
    world.take([next_one])
    assert record(world, next_one).rota == "first"
    world.check([lead, next_one])


def test_a_team_that_nobody_can_serve_costs_no_look_at_its_leads_even_if_it_falls_back(world: World) -> None:
    change(world, "helpers", others=0)
    world.take(world.arrive(3))
    world.sweep.run()
    world.portal.calls.clear()
    world.later(60)
    world.sweep.run()
    assert world.portal.calls == {}


def test_the_same_team_may_help_out_with_fewer_skills(world: World) -> None:
    one, *others = world.reps
    otherwise = {"team": "world", "skills": "fr", "if_nobody": "world"}
    reps = {one: {"skills": ["fr"], "capacity": 1}, **dict.fromkeys(others)}
    world.apply(reps=reps, rotas={"world": {"members": world.reps}}, otherwise=otherwise)
    world.later(31)
    leads = world.arrive(3)
    world.take(leads)
    assert world.owner(leads[0]) == one
    assert [record(world, lead).lane for lead in leads] == ["fr", "any", "any"]
    assert world.loads() == dict.fromkeys(world.reps, 1)
    world.check(leads)


def test_a_fixed_owner_who_is_away_may_be_helped_out(world: World) -> None:
    one, two, three = world.reps
    reps = {one: {"zone": "UTC", "absences": "2026-11-20..2026-11-30"}, two: None, three: None}
    otherwise = {"owner": one, "if_nobody": {"team": "helpers", "after": "1h"}}
    world.apply(reps=reps, rotas={"helpers": {"members": [two, three]}}, otherwise=otherwise)
    world.later(31)
    (lead,) = world.arrive()
    world.take([lead])
    assert record(world, lead).state is State.WAITING
    world.later(3600)
    world.sweep.run()
    assert world.owner(lead) in (two, three)


def test_observe_writes_down_who_would_help_out_and_nothing_else(world: World) -> None:
    change(world, "helpers", mode="observe")
    (lead,) = world.arrive()
    assert world.take([lead]) == []
    observed = record(world, lead)
    assert (observed.state, observed.rota) == (State.OBSERVED, "helpers")
    assert observed.rep in world.reps[1:]
    assert (world.owner(lead), world.loads()) == (None, {})
    assert world.store.read(["first", "helpers"], []).ledgers["helpers"].version == 0


def test_observe_writes_down_that_nobody_would_help_out_yet(world: World) -> None:
    change(world, {"team": "helpers", "after": "10 minutes"}, mode="observe")
    (lead,) = world.arrive()
    world.take([lead])
    observed = record(world, lead)
    assert (observed.state, observed.rota, observed.rep) == (State.OBSERVED, "first", None)


def test_in_pause_nobody_helps_out(world: World) -> None:
    change(world, "helpers", mode="pause")
    (lead,) = world.arrive()
    world.take([lead])
    world.later(60)
    world.sweep.run()
    assert (record(world, lead).state, record(world, lead).rota) == (State.WAITING, "first")
