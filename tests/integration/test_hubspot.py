"""`fairturn hubspot`, typed against a stack and a portal; and what `policy apply` says of the app."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest

from fairturn.deadline import Deadline
from fairturn.edges.hubspot.client import HubSpot, OwnerWrite
from fairturn.rules.explain import CHOSEN_BEFORE, PROPERTIES
from fairturn.rules.policy import Priority
from fairturn_console.commands.hubspot import TOKEN
from fairturn_console.hubspot.app import WEBHOOKS
from fairturn_console.hubspot.properties import DEFINITIONS, Language
from fairturn_console.template import PATH
from fairturn_sandbox import events
from fairturn_sandbox.faults import BAD_GATEWAY, Fault
from tests.integration.shell import run

if TYPE_CHECKING:
    from pathlib import Path

    from fairturn_sandbox.cloud import Stack
    from fairturn_sandbox.portal import Portal

SMALL = """
reps: {anna@example.com: }
teams: {inbound: {members: [anna@example.com]}}
rules: []
otherwise: {team: inbound}
"""
GROUPS = "/crm/v3/properties/contacts/groups"
CREATE = "/crm/v3/properties/contacts"


# fairturn hubspot app


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a policy and the app's files, in which commands are typed."""
    ignored = shutil.ignore_patterns("hsprofile.*")
    shutil.copytree(PATH.parent / "hubspot", tmp_path / "hubspot", ignore=ignored)
    (tmp_path / "policy.yaml").write_text(f"{SMALL}leads:\n  when: {{property: stage, reaches: [hot]}}\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_apps_files_are_written_from_the_policy_and_the_stack_and_then_stay(
    deployed: Stack, portal: Portal, checkout: Path
) -> None:
    result = run("hubspot", "app")
    assert result.exit_code == 0, result.output
    assert result.output.splitlines() == [
        "The app subscribes to propertyChange of stage.",
        "The app no more subscribes to object.propertyChange of hs_lead_status.",
        "The app no more subscribes to object.propertyChange of lifecyclestage.",
        "The app has the account and the webhook URL of the stack in hsprofile.fairturn.json.",
        "Now type `hs project upload --profile fairturn` in hubspot/.",
    ]
    profile = json.loads((checkout / "hubspot/src/hsprofile.fairturn.json").read_text())
    url = deployed.resolve(deployed.template.data["Outputs"]["WebhookUrl"]["Value"])
    assert profile == {"accountId": portal.id, "variables": {"WEBHOOK_URL": url}}
    assert events.KEY in url
    assert events.KEY not in result.output
    again = run("hubspot", "app")
    upload = "If it is not uploaded yet, type `hs project upload --profile fairturn` in hubspot/."
    assert again.output == f"Nothing has changed. {upload}\n"


@pytest.mark.usefixtures("deployed")
def test_without_the_apps_files_it_is_said_where_they_are(checkout: Path) -> None:
    (checkout / "hubspot/src/app/webhooks/webhooks-hsmeta.json").unlink()
    result = run("hubspot", "app")
    assert result.exit_code == 1
    assert result.stderr == (
        f"hubspot/{WEBHOOKS} can't be read (FileNotFoundError): "
        "run this in Fairturn's repository, or take the file from there anew\n"
    )


@pytest.mark.usefixtures("deployed", "checkout")
def test_a_policy_that_needs_what_the_app_does_not_subscribe_to_is_applied_with_a_warning(portal: Portal) -> None:
    portal.add_owner("anna@example.com")
    portal.define_property("stage", options=["hot"])
    result = run("policy", "apply", "--yes")
    assert result.exit_code == 0, result.output
    assert result.stderr == (
        "warning: the app does not subscribe to propertyChange of stage: "
        "run `fairturn hubspot app`, then `hs project upload --profile fairturn` in hubspot/\n"
    )
    assert run("hubspot", "app").exit_code == 0
    assert run("policy", "apply", "--yes").stderr == ""


@pytest.mark.usefixtures("deployed")
def test_going_back_to_what_the_app_does_not_subscribe_to_any_more_is_warned_of(checkout: Path, portal: Portal) -> None:
    portal.add_owner("anna@example.com")
    portal.define_property("stage", options=["hot"])
    assert run("policy", "apply", "--yes").exit_code == 0
    (checkout / "policy.yaml").write_text(SMALL)
    assert run("policy", "apply", "--yes").exit_code == 0
    assert run("hubspot", "app").exit_code == 0
    assert "does not subscribe to propertyChange of stage" in run("policy", "rollback", "--yes").stderr


@pytest.mark.usefixtures("deployed")
def test_where_the_apps_files_are_not_it_is_said_that_nothing_is_known_of_them(checkout: Path, portal: Portal) -> None:
    portal.add_owner("anna@example.com")
    portal.define_property("stage", options=["hot"])
    shutil.rmtree(checkout / "hubspot")
    result = run("policy", "apply", "--yes")
    assert result.exit_code == 0
    assert result.stderr.startswith("warning: whether the app subscribes to what the policy needs is not known: ")


# fairturn hubspot setup


@pytest.fixture
def token(portal: Portal, monkeypatch: pytest.MonkeyPatch) -> str:
    """A token of the operator's own, in the shell."""
    portal.token = "pat-of-the-operator"
    monkeypatch.setenv(TOKEN, portal.token)
    monkeypatch.setenv("HUBSPOT_API_URL", portal.url)
    return portal.token


@pytest.mark.usefixtures("token")
@pytest.mark.parametrize(
    ("language", "label", "urgent"), [("en", "Fairturn team", "Urgent"), ("fr", "Équipe Fairturn", "Urgente")]
)
def test_the_group_and_the_properties_are_made_once(portal: Portal, language: str, label: str, urgent: str) -> None:
    first = run("hubspot", "setup", "--language", language)
    assert first.exit_code == 0, first.output
    assert first.output.splitlines() == ["group Fairturn: made", *(f"{name}: made" for name in PROPERTIES)]
    made = {name: portal.properties[name] for name in PROPERTIES}
    assert {each.group for each in made.values()} == {"fairturn"}
    assert made["fairturn_team"].label == label
    assert made["fairturn_priority"].options["urgent"] == urgent
    assert made["fairturn_assigned_at"].type == "datetime"
    second = run("hubspot", "setup", "--language", "en" if language == "fr" else "fr")
    assert second.output.splitlines() == ["group Fairturn: is there", *(f"{name}: is there" for name in PROPERTIES)]
    assert {name: portal.properties[name] for name in PROPERTIES} == made
    assert (portal.calls["POST", GROUPS], portal.calls["POST", CREATE]) == (1, 5)


def test_every_property_is_described_in_every_language_and_takes_every_priority() -> None:
    assert tuple(each.name for each in DEFINITIONS) == PROPERTIES
    for each in DEFINITIONS:
        for text in (each.label, each.description, *each.options.values()):
            assert text.keys() == set(Language)
            assert len(set(text.values())) == len(Language)
    (priority,) = (each for each in DEFINITIONS if each.options)
    assert list(priority.options) == list(Priority)


@pytest.mark.parametrize("priority", list(Priority))
def test_hubspot_takes_what_a_handover_writes_into_the_properties(portal: Portal, token: str, priority: str) -> None:
    assert run("hubspot", "setup").exit_code == 0
    hubspot = HubSpot(lambda _: token, portal.url)
    owner, contact = portal.add_owner("anna@example.com"), portal.create_contact({})
    why = dict.fromkeys(PROPERTIES, "words") | {
        "fairturn_priority": priority,
        "fairturn_assigned_at": "2026-11-23T09:30:00Z",
    }
    for explanation in (why, CHOSEN_BEFORE):
        result = hubspot.write_owners("contact", [OwnerWrite(contact, owner, explanation)], Deadline.after(10))
        assert (result.refused, result.explained) == ({}, True)
        written = portal.contact(contact).properties
        assert {name: written.get(name) or "" for name in PROPERTIES} == explanation


@pytest.mark.usefixtures("token")
def test_a_property_of_another_type_is_told_and_left(portal: Portal) -> None:
    portal.define_property("fairturn_priority")
    result = run("hubspot", "setup")
    assert result.exit_code == 0
    assert result.stderr == "fairturn_priority: is there as string, not as enumeration; it was left as it is\n"
    assert portal.properties["fairturn_priority"].type == "string"
    assert portal.calls["POST", CREATE] == 4


@pytest.mark.usefixtures("token")
def test_what_somebody_else_makes_meanwhile_is_as_good(portal: Portal) -> None:
    """A first try whose answer was lost looks just the same."""
    hubspot = HubSpot(lambda _: portal.token, portal.url)
    group = {"name": "fairturn", "label": "Fairturn"}
    for _ in range(2):
        hubspot.create_property_group("contact", group, Deadline.after(10))
        hubspot.create_property("contact", DEFINITIONS[0].as_json(0, Language.EN), Deadline.after(10))
    assert (portal.calls["POST", GROUPS], portal.calls["POST", CREATE]) == (2, 2)


@pytest.mark.parametrize("scope", ["crm.schemas.contacts.read", "crm.schemas.contacts.write"])
def test_a_scope_that_the_token_lacks_is_named(portal: Portal, token: str, scope: str) -> None:
    portal.lacking.add(scope)
    result = run("hubspot", "setup")
    assert result.exit_code == 1
    assert result.stderr == (
        f"HubSpot answers 403 MISSING_SCOPES {scope}. "
        "The token needs the scopes crm.schemas.contacts.read and crm.schemas.contacts.write.\n"
    )
    assert token not in result.output


def test_without_a_token_in_the_shell_it_is_asked_for_and_not_shown(
    portal: Portal, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(TOKEN)
    result = run("hubspot", "setup", typed=f"{token}\n")
    assert result.exit_code == 0, result.output
    assert "fairturn_team: made" in result.output
    assert token not in result.output
    assert portal.properties["fairturn_team"].type == "string"


@pytest.mark.parametrize("wrong", ["pat with blanks", "pat\x00", "pät"])
def test_a_token_that_is_none_is_not_sent_and_not_shown(
    portal: Portal, monkeypatch: pytest.MonkeyPatch, token: str, wrong: str
) -> None:
    monkeypatch.delenv(TOKEN)
    result = run("hubspot", "setup", typed=f"{wrong}\n")
    assert result.exit_code == 1
    assert result.stderr.endswith("That is no access token: it has blanks, or characters that no token has.\n")
    assert wrong not in result.output
    assert token
    assert not portal.calls


def test_a_token_that_hubspot_does_not_take_is_not_shown(portal: Portal, token: str) -> None:
    portal.token = "another"
    result = run("hubspot", "setup")
    assert result.exit_code == 1
    assert result.stderr.startswith("HubSpot answers 401 INVALID_AUTHENTICATION.")
    assert token not in result.output


@pytest.mark.usefixtures("token")
def test_what_was_made_before_hubspot_failed_stays_and_the_rest_is_made_by_the_next_time(portal: Portal) -> None:
    portal.faults.extend([Fault(None)] * 4 + [BAD_GATEWAY] * 3)
    result = run("hubspot", "setup")
    assert result.exit_code == 1
    assert result.stdout.splitlines() == ["group Fairturn: made", "fairturn_team: made"]
    assert result.stderr.splitlines()[-1] == "What was made before that stays; the command may be repeated."
    assert run("hubspot", "setup").stdout.splitlines()[:3] == [
        "group Fairturn: is there",
        "fairturn_team: is there",
        "fairturn_rule: made",
    ]
    assert portal.properties.keys() >= set(PROPERTIES)
