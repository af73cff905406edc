"""What is told of one lead."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from fairturn_console.leads import Leads, LeadUnknown
from tests.integration.shell import run
from tests.integration.world import WRITES, World

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mypy_boto3_dynamodb import DynamoDBClient

    from fairturn_sandbox.portal import Portal

TABLE = "fairturn"


@pytest.fixture
def world(dynamodb: DynamoDBClient) -> Iterator[World]:
    with World(dynamodb, TABLE, reps=2) as world:
        yield world


def tell(world: World, contact: str, **how: Any) -> list[str]:
    return list(Leads(world.store, world.crm, world.at).tell(contact, **how).lines)


def name(world: World, contact: str) -> str:
    """The address of a contact's owner."""
    return f"rep{world.reps.index(world.owner(contact) or '') + 1}@example.com"


def test_a_lead_is_told_with_how_each_rep_stood_what_happened_since_and_who_has_it_now(world: World) -> None:
    (lead,) = world.arrive()
    world.take([lead])
    lines = tell(world, lead, verify=True)
    assert lines[0].startswith(f"contact#{lead} came 2026-11-23")
    assert "So it goes to the team inbound, priority normal." in lines
    assert len([line for line in lines if "could take it" in line]) == len(world.reps)
    assert any(line.startswith(f"It went to {name(world, lead)}.") for line in lines)
    assert "Recomputed from the journal of its claim: the same." in lines
    assert any(line.startswith(f"It was handed over, with {name(world, lead)}, since 2026-11-23") for line in lines)
    assert lines[-1] == f"In HubSpot it is with {name(world, lead)}."


def test_a_lead_that_waits_is_told_with_what_it_waits_for(world: World) -> None:
    world.apply(reps={rep: {"capacity": 0} for rep in world.reps})
    (lead,) = world.arrive()
    world.take([lead])
    lines = tell(world, lead, would=True)
    assert any(line.startswith("It waits, since") and "nobody can take it now" in line for line in lines)
    assert lines[-2:] == [
        "In HubSpot nobody owns it.",
        "If it came now, it would wait for inbound: nobody can take anything now.",
    ]


def test_what_would_be_decided_now_is_what_is_decided_next_and_nothing_is_written(world: World) -> None:
    (lead,) = world.arrive()
    world.requests.clear()
    told = tell(world, lead, would=True)
    assert WRITES.isdisjoint(world.requests)
    assert told[0] == "Fairturn knows nothing of it: it never came as a lead, or a rule ignores it."
    world.take([lead])
    assert told[-1].startswith(f"If it came now, it would go to {name(world, lead)}. ")


def test_a_lead_that_a_rule_would_ignore_is_told_with_the_reason(world: World) -> None:
    rule = {"name": "students", "when": {"property": "jobtitle", "contains": "student"}, "ignore": "no buyer"}
    world.apply(rules=[rule])
    (lead,) = world.arrive(jobtitle="Student")
    assert tell(world, lead, would=True)[-1] == "If it came now, it would be ignored: no buyer."


def test_a_contact_that_hubspot_does_not_show_is_told_as_such(world: World) -> None:
    assert tell(world, "999", would=True)[1:] == ["HubSpot does not show it.", "So nothing would be decided."]


def test_a_lead_is_found_by_its_id_its_address_or_the_domain(world: World) -> None:
    first, second = world.arrive(2)
    world.later(60)
    leads = Leads(world.store, world.crm, world.at)
    assert leads.find(first) == [first]
    assert leads.find("Lead1@example.com ") == [second]
    with pytest.raises(LeadUnknown, match=r"finds no contact with email eve@example\.com"):
        leads.find("eve@example.com")
    with pytest.raises(LeadUnknown, match="finds no contact with hs_email_domain"):
        leads.find("nowhere.example.com")


@pytest.mark.usefixtures("deployed")
def test_the_command_tells_of_a_contact_that_nobody_owns(portal: Portal, tmp_path: Path) -> None:
    portal.add_owner("anna@example.com")
    contact = portal.create_contact({"email": "lead@acme.example.com"})
    policy = tmp_path / "policy.yaml"
    policy.write_text("teams: {inbound: {members: [anna@example.com]}}\notherwise: {team: inbound}\n")
    assert run("policy", "apply", "--yes", str(policy)).exit_code == 0
    result = run("lead", contact, "--would")
    assert result.exit_code == 0, result.output
    lines = [line.strip() for line in result.stdout.splitlines()]
    assert lines[0] == f"Contact {contact}: new"
    assert lines[-1].startswith("If it came now, it would go to anna@example.com.")
    assert json.loads(run("lead", contact, "--json").stdout)["owner"] is None
    nobody = run("lead", "eve@example.com")
    assert (nobody.exit_code, nobody.stderr) == (1, "HubSpot finds no contact with email eve@example.com\n")
