"""What a report says of some days, held against what happened."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING

import boto3
import pytest

from fairturn.edges.hubspot.client import HubSpot
from fairturn.edges.store import Store
from fairturn.rules.policy import OWNER
from fairturn.rules.record import milliseconds
from fairturn_console.policy import applying, reading
from fairturn_console.report import Row, report
from tests.integration.shell import run
from tests.integration.world import CAUGHT_UP, World

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_dynamodb import DynamoDBClient

    from fairturn_sandbox.cloud import Stack
    from fairturn_sandbox.portal import Portal

TABLE = "fairturn"


@pytest.fixture
def world(dynamodb: DynamoDBClient) -> Iterator[World]:
    with World(dynamodb, TABLE, reps=2) as world:
        yield world


def rows(world: World, seconds: float = 86_400) -> dict[str, Row]:
    found = report(world.store, world.store.terms(), milliseconds(world.at) - int(seconds * 1000), lambda _: None)
    assert found.is_whole
    return {row.rep: row for row in found.rows}


def test_what_each_rep_got_is_told_beside_their_fair_share(world: World) -> None:
    for _ in range(7):
        world.take(world.arrive())
    found = rows(world)
    assert sum(row.got for row in found.values()) == 7
    assert {row.got for row in found.values()} == {3, 4}
    assert [row.fair_share for row in found.values()] == [pytest.approx(3.5)] * 2
    assert all(row.median_seconds == pytest.approx(1) for row in found.values())


def test_a_team_whose_leads_are_worth_something_is_told_by_bands(world: World) -> None:
    world.apply(leads={"worth": {"property": "seats", "bands": [20]}})
    world.take([*world.arrive(2, seats="5"), *world.arrive(2, seats="50")])
    found = report(world.store, world.store.terms(), 0, lambda _: None)
    assert [(row.band, row.got) for row in found.rows] == [("0", 1), ("0", 1), ("20", 1), ("20", 1)]


def test_leads_from_before_that_time_are_left_out(world: World) -> None:
    world.take(world.arrive(4))
    world.later(3_600)
    world.take(world.arrive(2))
    assert sum(row.got for row in rows(world, seconds=600).values()) == 2


def test_a_turn_that_came_back_is_in_no_fair_share(world: World) -> None:
    leads = world.arrive(2)
    world.take(leads)
    first, second = (world.owner(lead) or "" for lead in leads)
    world.later(CAUGHT_UP)
    world.portal.change(leads[0], {OWNER: second})
    world.follow(leads[0])
    found = rows(world)
    assert (found[first].got, found[first].came_back, found[first].taken_over) == (1, 1, 1)
    assert [row.fair_share for row in found.values()] == [pytest.approx(0.5)] * 2


def test_a_closed_lead_is_counted_for_who_closed_it(world: World) -> None:
    world.apply(leads={"closed": {"property": "hs_lead_status", "reaches": "BAD_TIMING"}})
    (lead,) = world.arrive()
    world.take([lead])
    owner = world.owner(lead) or ""
    world.later(CAUGHT_UP)
    world.portal.change(lead, {"hs_lead_status": "BAD_TIMING"})
    world.follow(lead)
    assert rows(world)[owner].closed == 1


def test_journals_that_have_expired_are_missed(world: World, dynamodb: DynamoDBClient) -> None:
    for _ in range(3):
        world.take(world.arrive())
    keys = {item["sk"]["S"] for item in dynamodb.scan(TableName=TABLE)["Items"] if item["pk"]["S"] == "ROTA#inbound"}
    first = min(key for key in keys if key.startswith("CLAIM#"))
    dynamodb.delete_item(TableName=TABLE, Key={"pk": {"S": "ROTA#inbound"}, "sk": {"S": first}})
    assert not report(world.store, world.store.terms(), 0, lambda _: None).is_whole


def test_the_command_prints_a_table_values_or_json(deployed: Stack, portal: Portal) -> None:
    for name in ("anna", "bruno"):
        portal.add_owner(f"{name}@example.com")
    store = Store(boto3.client("dynamodb"), deployed.references["Table"])
    policy = {
        "teams": {"inbound": {"members": ["anna@example.com", "bruno@example.com"]}},
        "otherwise": {"team": "inbound"},
    }
    applying.apply(reading.read(policy), store, HubSpot(lambda _: portal.token, portal.url), 1)
    assert run("report", "--days", "7").stdout.splitlines()[-1].startswith("0 turns since ")
    assert run("report", "--json").stdout == ""
    (head,) = csv.reader(run("report", "--csv").stdout.splitlines())
    assert head[:4] == ["team", "worth from", "rep", "got"]
    assert run("report", "--csv", "--json").exit_code == 1
    assert json.dumps(head)
