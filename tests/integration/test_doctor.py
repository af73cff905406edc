"""What the doctor finds in a deployment, and how it is to be mended."""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from flask import Flask, Response, request
from werkzeug.serving import make_server

from fairturn.deadline import Deadline
from fairturn.edges.hubspot.client import HubSpot
from fairturn.edges.queues import Outgoing, Queue
from fairturn.edges.store import Store
from fairturn.intake import Intake, Request
from fairturn.rules.explain import PROPERTIES
from fairturn_console.policy import applying, reading
from fairturn_sandbox import events
from tests.integration.shell import run

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from fairturn_sandbox.cloud import Stack
    from fairturn_sandbox.portal import Portal

POLICY = {"teams": {"inbound": {"members": ["anna@example.com"]}}, "otherwise": {"team": "inbound"}}


class Door:
    """The real intake behind an address on this machine."""

    def __init__(self) -> None:
        self.secret = events.SECRET
        self.taken: list[bytes] = []
        web = Flask("intake")
        web.add_url_rule("/hubspot/key", view_func=self.receive, methods=["POST"])
        self.server = make_server("127.0.0.1", 0, web, threaded=True)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hubspot/key"

    def webhook_secrets(self, *, refresh: bool = False) -> tuple[str, ...]:  # noqa: ARG002
        return (self.secret,)

    def receive(self) -> Response:
        nowhere: Any = Queue(boto3.client("sqs"), "https://nowhere.example.com")
        credentials: Any = self
        intake = Intake(nowhere, nowhere, nowhere, nowhere, credentials, self.url, 1)
        headers = {name.lower(): value for name, value in request.headers}
        asked = Request(request.method, headers, request.get_data())
        status = intake.receive(asked, now_ms=int(time.time() * 1000), deadline=Deadline.after(5))
        self.taken.append(asked.body)
        return Response(status=status)


@pytest.fixture
def door() -> Iterator[Door]:
    door = Door()
    thread = threading.Thread(target=door.server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield door
    door.server.shutdown()
    thread.join()
    door.server.server_close()


@pytest.fixture
def other_outputs(door: Door) -> dict[str, str]:
    return {"WebhookUrl": door.url}


@pytest.fixture
def store(deployed: Stack, portal: Portal) -> Store:
    """All is well: a policy is in force, HubSpot has our properties, alarms are wired, sweep runs."""
    for name in PROPERTIES:
        portal.define_property(name)
    portal.add_owner("anna@example.com")
    store = Store(boto3.client("dynamodb"), deployed.references["Table"])
    crm = HubSpot(lambda _: portal.token, portal.url)
    applying.apply(reading.read(POLICY), store, crm, int(time.time() * 1000))
    alarm("fairturn-SweepStoppedAlarm-1A2B")
    alarm("website-Down")
    return store


ONCALL = ("arn:aws:sns:eu-west-1:123456789012:oncall",)


def alarm(name: str, actions: Sequence[str] = ONCALL, state: str = "OK") -> None:
    client: Any = boto3.client("cloudwatch")
    client.put_metric_alarm(
        AlarmName=name,
        AlarmActions=list(actions),
        MetricName="Swept",
        Namespace="Fairturn",
        Statistic="Sum",
        Period=60,
        EvaluationPeriods=1,
        Threshold=1,
        ComparisonOperator="LessThanThreshold",
    )
    client.set_alarm_state(AlarmName=name, StateValue=state, StateReason="test")


def examine() -> tuple[int, dict[str, tuple[str, str, str]]]:
    """The exit code; and each check with the last that it found: health, words, mend."""
    result = run("doctor", "--json")
    found = [json.loads(line) for line in result.stdout.splitlines()]
    return result.exit_code, {each["what"]: (each["health"], each["found"], each["mend"]) for each in found}


@pytest.mark.usefixtures("store")
def test_a_deployment_that_is_well_has_nothing_to_be_mended(door: Door) -> None:
    code, found = examine()
    assert {what: health for what, (health, _, _) in found.items()} == {
        "AWS account": "ok",
        "stack": "ok",
        "webhook": "ok",
        "HubSpot": "ok",
        "explanation": "ok",
        "policy": "ok",
        "subscriptions": "ok",
        "reps": "ok",
        "queues": "ok",
        "dead letters": "ok",
        "alarms": "ok",
        "sweep": "ok",
        "last lead": "look",
    }
    assert code == 0
    assert door.taken == [b"[]"]
    assert found["alarms"][1] == "all 1 are wired to a topic"
    shown = [" ".join(line.split()) for line in run("doctor").stdout.splitlines()]
    assert any(line.startswith("ok webhook a signed request is taken") for line in shown)


@pytest.mark.usefixtures("store")
def test_a_secret_that_the_function_does_not_know_is_found(door: Door) -> None:
    door.secret = "another"
    code, found = examine()
    assert (code, found["webhook"][0]) == (1, "BAD")
    assert "WebhookSecretArn" in found["webhook"][2]


@pytest.mark.usefixtures("store")
def test_a_target_url_at_which_nothing_answers_is_found(door: Door) -> None:
    door.server.shutdown()
    door.server.server_close()
    code, found = examine()
    assert (code, found["webhook"][0]) == (1, "BAD")
    assert found["webhook"][1].startswith("nothing answers at the target URL")


@pytest.mark.usefixtures("store")
def test_a_missing_property_is_found_with_the_command_that_makes_it(portal: Portal) -> None:
    del portal.properties["fairturn_reason"]
    code, found = examine()
    assert (code, found["explanation"]) == (
        1,
        ("BAD", "HubSpot has no contact property fairturn_reason", "create them: `fairturn hubspot setup`"),
    )


def test_a_subscription_that_the_policy_needs_and_the_app_lacks_is_found(store: Store, portal: Portal) -> None:
    policy = {**POLICY, "leads": {"when": {"property": "lead_grade", "reaches": "A"}}}
    portal.define_property("lead_grade", options=["A"])
    applying.apply(reading.read(policy), store, HubSpot(lambda _: portal.token, portal.url), int(time.time() * 1000))
    code, found = examine()
    assert (code, found["subscriptions"][0]) == (1, "BAD")
    assert "lead_grade" in found["subscriptions"][1]


@pytest.mark.usefixtures("store")
def test_a_missing_scope_is_found(portal: Portal) -> None:
    portal.lacking.add("crm.objects.owners.read")
    code, found = examine()
    assert (code, found["HubSpot"][0]) == (1, "BAD")
    assert "crm.objects.owners.read" in found["HubSpot"][1]


def test_a_rep_who_has_left_hubspot_is_found(store: Store, portal: Portal) -> None:
    (owner,) = portal.owners.values()
    store.mark_unavailable(owner.id)
    code, found = examine()
    assert (code, found["reps"][:2]) == (1, ("BAD", "HubSpot does not take anna@example.com"))


def test_dead_letters_and_ringing_or_deaf_alarms_are_found(store: Store, deployed: Stack) -> None:
    Queue(boto3.client("sqs"), deployed.references["LeadsDeadLetters"]).send([Outgoing("{}")])
    alarm("fairturn-DeadLettersAlarm-3C", state="ALARM")
    alarm("fairturn-Deaf", actions=())
    result = run("doctor", "--json")
    found = [json.loads(line) for line in result.stdout.splitlines()]
    alarms = [each["found"] for each in found if each["what"] == "alarms"]
    assert alarms == ["1 of 3 tell nobody when they ring", "fairturn-DeadLettersAlarm-3C rings"]
    assert [each["found"] for each in found if each["what"] == "dead letters"] == ["there are 1"]
    assert result.exit_code == 1
    assert store


def test_a_sweep_that_is_silent_is_found(store: Store) -> None:
    pointer = store.pointer()
    store.put_roster(pointer.owners.values(), int((time.time() - 3600) * 1000))
    code, found = examine()
    assert (code, found["sweep"][:2]) == (1, ("BAD", "owners were refreshed 60 minutes ago"))


@pytest.mark.usefixtures("deployed")
def test_a_stack_without_a_policy_is_told_what_to_type() -> None:
    _, found = examine()
    assert found["policy"][0] == found["reps"][0] == "?"
    assert found["policy"][2] == "apply a policy: `fairturn policy apply`"
