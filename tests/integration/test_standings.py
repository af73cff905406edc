"""Who is there, who is next, and who was said to be away."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import boto3
import pytest

from fairturn.edges.store import Store
from fairturn.rules.record import new
from fairturn.rules.terms import Away
from fairturn_console.policy import reading
from fairturn_console.standings import names, next_ones, read, standings
from tests.integration.shell import run
from tests.integration.world import ROTA, World

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_dynamodb import DynamoDBClient

    from fairturn.rules.terms import Terms
    from fairturn_sandbox.cloud import Stack
    from fairturn_sandbox.portal import Portal

TABLE = "fairturn"
POLICY = {
    "reps": {
        "anna@example.com": {"zone": "Europe/Paris", "hours": {"mon-sun": "00:00-24:00"}},
        "bruno@example.com": None,
    },
    "teams": {"équipe": {"members": ["anna@example.com", "bruno@example.com"], "capacity": 30}},
    "rules": [{"name": "german", "when": {"property": "country", "equals": "Germany"}, "owner": "bruno@example.com"}],
    "otherwise": {"team": "équipe"},
}


@pytest.fixture
def world(dynamodb: DynamoDBClient) -> Iterator[World]:
    with World(dynamodb, TABLE) as world:
        yield world


def terms(world: World) -> Terms:
    return world.store.terms()


# What is computed


def test_whoever_is_next_gets_the_next_lead(world: World) -> None:
    for _ in range(5):
        now = terms(world)
        (first,) = next_ones(now, read(world.store, now), world.at, ROTA)
        (lead,) = world.arrive()
        world.take([lead])
        assert world.owner(lead) == first.following[0]


def test_the_reps_after_the_next_one_get_the_leads_after_the_next_one(world: World) -> None:
    now = terms(world)
    (first,) = next_ones(now, read(world.store, now), world.at, ROTA)
    leads = world.arrive(5)
    for lead in leads:
        world.take([lead])
    assert tuple(world.owner(lead) for lead in leads) == first.following


def test_a_team_of_which_nobody_is_there_has_nobody_next(world: World) -> None:
    world.apply(reps={rep: {"capacity": 0} for rep in world.reps})
    now = terms(world)
    (first,) = next_ones(now, read(world.store, now), world.at, ROTA)
    assert set(first.following) == {None}
    assert first.why == "Nobody can take such a lead now, so it would wait."


def test_each_rep_is_listed_with_what_they_have_and_are_owed(world: World) -> None:
    (lead,) = world.arrive()
    world.take([lead])
    now = terms(world)
    rows = {each.rep: each for each in standings(now, read(world.store, now), world.at)}
    owner = world.owner(lead)
    assert rows.keys() == set(world.reps)
    for rep, row in rows.items():
        mine = rep == owner
        assert (row.load, row.last) == ((1, 0) if mine else (0, None))
        assert row.owed == pytest.approx(-2 / 3 if mine else 1 / 3)
        assert row.by_kind == {"anything": row.owed}
        assert (row.presence, row.on_duty) == ("on duty", True)


# Who was said to be away


def test_who_was_said_to_be_away_gets_no_lead_until_then_whatever_policy_is_applied(world: World) -> None:
    away, *others = world.reps
    world.store.put_away(away, Away("2026-11-23", "2026-11-24", "sick"))
    world.apply(release=0)
    world.later(31)
    leads = world.arrive(6)
    world.take(leads)
    assert {world.owner(lead) for lead in leads} == set(others)
    now = terms(world)
    row = next(each for each in standings(now, read(world.store, now), world.at) if each.rep == away)
    assert (row.presence, row.owed) == ("away until 2026-11-24", 0)
    world.later(2 * 24 * 3600)
    leads = world.arrive(6)
    world.take(leads)
    assert away in {world.owner(lead) for lead in leads}


def test_who_is_back_gets_leads_again(world: World) -> None:
    away, *_ = world.reps
    world.store.put_away(away, Away("2026-11-23T09:00", "2026-11-24T09:00"))
    assert world.store.forget_away(away)
    assert not world.store.forget_away(away)
    world.later(31)
    leads = world.arrive(6)
    world.take(leads)
    assert away in {world.owner(lead) for lead in leads}


# What is typed


@pytest.fixture
def applied(deployed: Stack, portal: Portal) -> Store:
    """A store in which the policy is in force."""
    from fairturn.edges.hubspot.client import HubSpot
    from fairturn_console.policy import applying

    for name in ("anna", "bruno"):
        portal.add_owner(f"{name}@example.com")
    store = Store(boto3.client("dynamodb"), deployed.references["Table"])
    applying.apply(reading.read(POLICY), store, HubSpot(lambda _: portal.token, portal.url), 1)
    return store


def words(*arguments: str) -> list[str]:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return [" ".join(line.split()) for line in result.output.splitlines()]


def test_the_reps_are_listed_by_team_as_the_policy_calls_it(applied: Store) -> None:  # noqa: ARG001
    assert words("reps")[1:3] == [
        "équipe anna@example.com on duty 0 of 30 +0.00 never",
        "équipe bruno@example.com on duty 0 of 30 +0.00 never",
    ]
    (first, _) = (json.loads(line) for line in run("reps", "--json").output.splitlines())
    assert {first[key] for key in ("name", "team")} == {"anna@example.com", "équipe"}
    assert (first["load"], first["capacity"], first["on_duty"]) == (0, 30, True)


def test_the_next_rep_of_a_team_is_said_with_the_reason(applied: Store) -> None:  # noqa: ARG001
    lines = words("next", "équipe")
    assert lines[0] == "équipe, a lead that asks for anything: anna@example.com"
    assert lines[1].startswith("Of the 2 reps of équipe on duty with room for it, the owner was owed the most")
    assert lines[2] == "Then: bruno@example.com, anna@example.com, bruno@example.com, anna@example.com."
    assert lines == words("next")
    assert json.loads(run("next", "--json").output)["following"][0] == "anna@example.com"


def test_a_team_that_is_not_there_is_refused_with_those_that_are(applied: Store) -> None:  # noqa: ARG001
    result = run("next", "equipe")
    assert (result.exit_code, result.stderr) == (1, "equipe is no team of the policy; those are: équipe\n")


def test_a_rep_is_said_to_be_away_and_back(applied: Store) -> None:
    until = (datetime.now(UTC) + timedelta(days=9)).date().isoformat()
    told = words("reps", "away", "Anna@example.com", "--until", until, "--reason", "sick")
    assert told[0] == f"Anna@example.com gets no leads until {until}, by their clock; it holds within 30 seconds."
    assert words("reps")[1] == f"équipe anna@example.com away until {until} 0 of 30 +0.00 never"
    assert words("next")[0] == "équipe, a lead that asks for anything: bruno@example.com"
    (noted,) = applied.pointer().away.values()
    assert noted.reason == "sick"
    assert words("reps", "back", "anna@example.com") == [
        "anna@example.com gets leads again within 30 seconds, if they are on duty."
    ]
    assert applied.pointer().away == {}
    again = run("reps", "back", "anna@example.com")
    assert again.exit_code == 1
    assert again.stderr.startswith("anna@example.com was not said to be away")


def test_an_absence_that_was_over_long_ago_takes_no_new_one_along(applied: Store) -> None:
    (rep,) = (each for each, owner in applied.pointer().owners.items() if owner.email == "anna@example.com")
    (other,) = applied.pointer().owners.keys() - {rep}
    for each in (rep, other):
        applied.put_away(each, Away("2026-01-01", "2026-01-05", "sick"))
    until = (datetime.now(UTC) + timedelta(days=9)).date().isoformat()
    assert run("reps", "away", "anna@example.com", "--until", until).exit_code == 0
    assert {each: noted.until for each, noted in applied.pointer().away.items()} == {rep: until}


@pytest.mark.parametrize(
    ("until", "said"),
    [
        ("20200101", "20200101 is over already, or more than two years ahead"),
        ("tomorrow", "'tomorrow' is no day such as 2026-12-24, and no time such as 2026-12-24T14:00"),
        ("2020-01-01", "2020-01-01 is over already, or more than two years ahead"),
        ("2199-01-01", "2199-01-01 is over already, or more than two years ahead"),
        ("2026-12-24T14:00+02:00", "the time is by the rep's own clock: leave out the offset"),
    ],
)
def test_an_absence_that_makes_no_sense_is_refused(applied: Store, until: str, said: str) -> None:
    result = run("reps", "away", "anna@example.com", "--until", until)
    assert (result.exit_code, result.stderr) == (1, f"{said}\n")
    assert applied.pointer().away == {}


def test_an_absence_needs_an_end_and_somebody_of_the_policy(applied: Store) -> None:  # noqa: ARG001
    assert run("reps", "away", "anna@example.com").exit_code == 2
    result = run("reps", "away", "eve@example.com", "--until", "2026-12-24")
    assert (result.exit_code, result.stderr) == (
        1,
        "eve@example.com is no rep of the policy; those are: anna@example.com, bruno@example.com\n",
    )


def test_reps_are_called_by_their_address_or_by_their_id_where_hubspot_says_none(world: World) -> None:
    now = terms(world)
    assert names(now) == {rep: f"rep{number}@example.com" for number, rep in enumerate(world.reps, start=1)}


def test_how_things_stand_is_said_on_one_screen(applied: Store) -> None:
    assert words("status") == [
        "Policy version 1, mode live.",
        "équipe: 2 of 2 on duty, nobody further than 0.00 turns from their fair share.",
        "Nothing waits.",
        "Dead letters: 0.",
        "`fairturn doctor` checks that everything works, `fairturn next` says who is next.",
    ]
    refused = new("8").refused("a rule of an administrator", 1)
    applied.move([(new("8"), refused)])
    assert "1 leads: refused: see the dead letters." in words("status")
    assert json.loads(run("status", "--json").output)["waiting"] == {"refused: see the dead letters": 1}
