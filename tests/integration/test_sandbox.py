"""The sandbox: what it makes of the template, and the one that stays open for containers."""

from __future__ import annotations

import io
import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from tenacity import wait_none

from fairturn.edges.hubspot import client as crm
from fairturn.edges.hubspot.client import HubSpot
from fairturn.edges.queues import MAX_GROWING_DELAY
from fairturn.edges.store import Store
from fairturn.rules.record import State, milliseconds
from fairturn.settings import settings
from fairturn_console.policy import applying, file, reading
from fairturn_console.template import PATH, Template
from fairturn_console.terminal import POLICY
from fairturn_sandbox import events
from fairturn_sandbox.cloud import STACK, aws
from fairturn_sandbox.function import Function
from fairturn_sandbox.portal import OWNER, Portal
from fairturn_sandbox.portal_api import served
from fairturn_sandbox.sandbox import Sandbox
from fairturn_sandbox.serve import CONTACT, INSIDE, opened, watch
from fairturn_sandbox.story import furnish
from functions.assign import app as assign
from functions.intake import app as intake
from functions.sweep import app as sweep
from functions.track import app as track
from tests.integration.test_functions import Context, caught_up, forget, waiting

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aws_lambda_powertools.utilities.typing import LambdaContext

EXAMPLE = PATH.parent / POLICY
START = datetime(2026, 11, 23, 9, tzinfo=UTC)
"""A Monday."""
REPS = ("rep1@example.com", "rep2@example.com")
CONTEXT: Any = Context()


# AWS on this machine


def test_aws_is_empty_each_time_it_is_opened() -> None:
    for _ in range(2):
        with aws():
            assert boto3.client("sqs").list_queues().get("QueueUrls", []) == []
            boto3.client("sqs").create_queue(QueueName="leads")


def test_the_shell_is_left_as_it_was_and_its_own_account_is_never_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "production")
    before = dict(os.environ)
    with aws():
        assert "AWS_PROFILE" not in os.environ
        credentials = boto3.Session().get_credentials()
        assert credentials is not None
        assert credentials.access_key == "sandbox"
    assert dict(os.environ) == before


# On simulated time


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    portal = Portal(Random(1), token="pat", secret=events.SECRET, webhook_url=events.URL)
    parameters: dict[str, str | int] = {"HubSpotPortalId": portal.id, "WebhookKey": events.KEY}
    with served(portal), Sandbox(portal, start=START, log=io.StringIO(), parameters=parameters) as sandbox:
        yield sandbox


@pytest.mark.usefixtures("sandbox")
def test_the_sandbox_has_every_queue_of_the_template_with_its_redrive() -> None:
    sqs = boto3.client("sqs")
    urls = sqs.list_queues()["QueueUrls"]
    template = Template()
    assert len(urls) == len(template.resources("AWS::SQS::Queue"))
    asked = sqs.get_queue_attributes(QueueUrl=settings().leads_queue, AttributeNames=["All"])["Attributes"]
    assert json.loads(asked["RedrivePolicy"])["maxReceiveCount"] == 100


def test_a_webhook_goes_through_intake_and_its_lead_to_assign_at_once(sandbox: Sandbox) -> None:
    lead = sandbox.portal.create_contact({"email": "lead@example.net"})
    sandbox.travel(START + timedelta(seconds=2))
    assert sandbox.portal.deliver(sandbox.post) == 1
    assert sandbox.poll() == 0
    for _ in range(2):  # looking at them changes nothing
        ((body, reason),) = sandbox.dead_letters()
        assert json.loads(body)["id"] == lead
        assert reason == "no policy is in force: apply one with `fairturn policy apply`"
        assert sandbox.dead_letters("changes") == []


def test_a_change_goes_through_intake_to_track_when_its_window_is_over(sandbox: Sandbox) -> None:
    sandbox.portal.create_contact({"email": "lead@example.net"}, source="IMPORT", id=CONTACT)
    sandbox.travel(START + timedelta(seconds=2))
    sandbox.portal.deliver(sandbox.post)
    assert sandbox.poll() == 1, "more may come"
    assert sandbox.gathers
    sandbox.travel(sandbox.now + timedelta(seconds=1))
    assert sandbox.poll() == 0
    assert not sandbox.gathers
    ((body, _),) = sandbox.dead_letters("changes")
    assert json.loads(body)["id"] == CONTACT
    assert sandbox.dead_letters() == []


# Days that take seconds


def in_force(sandbox: Sandbox, hours: str = "00:00-24:00") -> Store:
    """The table, with a policy under which both reps are on duty at these hours."""
    policy = reading.read(
        {
            "reps": {rep: {"zone": "UTC", "hours": {"mon-sun": hours}} for rep in REPS},
            "rotas": {"inbound": {"members": list(REPS)}},
            "rules": [{"name": "imports", "when": [{"source": ["IMPORT"]}], "rota": "inbound"}],
            "otherwise": {"rota": "inbound"},
        }
    )
    furnish(sandbox.portal, policy)
    store = Store(boto3.client("dynamodb"), settings().table)
    applying.apply(policy, store, HubSpot(lambda _: sandbox.portal.token, sandbox.portal.url), milliseconds(START))
    return store


def owner_of(sandbox: Sandbox, contact: str) -> str | None:
    return sandbox.portal.contact(contact).properties.get(OWNER)


def test_what_one_request_tells_is_queued_in_the_same_order_each_time(sandbox: Sandbox) -> None:
    contacts = [sandbox.portal.create_contact({"email": f"{n}@example.net"}, source="IMPORT") for n in range(95)]
    sandbox.travel(START + timedelta(seconds=2))
    assert sandbox.portal.deliver(sandbox.post) == 1
    sqs, queued = boto3.client("sqs"), []
    while messages := sqs.receive_message(QueueUrl=settings().changes_queue, MaxNumberOfMessages=10).get("Messages"):
        queued += [json.loads(message["Body"])["id"] for message in messages]
    assert queued == contacts


def test_a_lone_lead_costs_two_calls_to_hubspot_with_all_that_hubspot_tells_of_it(sandbox: Sandbox) -> None:
    in_force(sandbox)
    sandbox.portal.calls.clear()
    lead = sandbox.portal.create_contact({"email": "lead@example.net"})
    for _ in range(10):
        sandbox.travel(sandbox.now + timedelta(seconds=2))
        sandbox.portal.deliver(sandbox.post)
        sandbox.poll()
    assert owner_of(sandbox, lead) is not None
    assert sandbox.portal.webhooks.delivered == 2, "the creation, and the owner"
    assert sorted(number for number in sandbox.portal.calls.values()) == [1, 1]


def go_on(sandbox: Sandbox, until: datetime, step: timedelta = timedelta(minutes=1)) -> int:
    """Let time pass; every half hour is swept. Returns how many messages are left."""
    left = 0
    while sandbox.now < until:
        sandbox.portal.deliver(sandbox.post)
        left = sandbox.poll()
        if sandbox.now.minute % 30 == 0:
            sandbox.tick()
        sandbox.travel(min(sandbox.now + step, until))
    return left


@pytest.fixture
def delays(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> list[tuple[datetime, int]]:
    """When a message was put back, and for how many seconds."""
    seen: list[tuple[datetime, int]] = []

    def note(params: dict[str, Any], **_: object) -> None:
        seen.extend((sandbox.now, entry["VisibilityTimeout"]) for entry in params["Entries"])

    session = boto3.Session()
    session.events.register("provide-client-params.sqs.ChangeMessageVisibilityBatch", note)
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", session)
    return seen


@pytest.mark.parametrize("hours", [3, pytest.param(12, marks=pytest.mark.exhaustive)])
def test_hours_of_hubspot_being_down_dead_letter_nothing(
    sandbox: Sandbox, delays: list[tuple[datetime, int]], monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    monkeypatch.setattr(crm, "MOMENT", wait_none())  # the pauses between the attempts of one call are real ones
    random.seed(3)  # other delays may put a change off once more than half an hour has room for
    store, portal = in_force(sandbox), sandbox.portal
    taken = portal.create_contact({"email": "lead0@example.net"})
    assert go_on(sandbox, START + timedelta(minutes=5)) == 0
    rep = owner_of(sandbox, taken)
    (other,) = portal.owners.keys() - {rep}

    begun, back, step = sandbox.now, sandbox.now + timedelta(hours=hours), timedelta(minutes=5)
    portal.down(milliseconds(back))
    portal.change(taken, {OWNER: other})
    leads = [portal.create_contact({"email": "lead1@example.net"})]
    assert go_on(sandbox, begun + timedelta(minutes=20)) == 2
    assert go_on(sandbox, begun + timedelta(hours=hours / 2), step) == 2
    leads.append(portal.create_contact({"email": "lead2@example.net"}))
    leads.append(portal.create_contact({"email": "lead3@example.net"}, source="IMPORT"))
    assert go_on(sandbox, back, step) == 4
    assert all(owner_of(sandbox, lead) is None for lead in leads)
    assert store.records([("contact", taken)]).of(taken).rep == rep

    assert go_on(sandbox, back + timedelta(minutes=30), step) == 0
    assert all(owner_of(sandbox, lead) in portal.owners for lead in leads)
    records = store.read([], [("contact", lead) for lead in [*leads, taken]])
    assert [records.records.of(lead).state for lead in leads] == [State.HANDED] * len(leads)
    assert records.records.of(taken).rep == other
    assert sum(records.loads.values()) == len(leads) + 1
    assert sandbox.dead_letters() == sandbox.dead_letters("changes") == []
    assert 0.8 * MAX_GROWING_DELAY <= max(delay for _, delay in delays) <= MAX_GROWING_DELAY
    assert min(delay for at, delay in delays if at < begun + timedelta(minutes=2)) <= 2


def test_a_waiting_lead_is_allotted_by_the_tick_after_a_rep_has_come_on_duty(sandbox: Sandbox) -> None:
    store = in_force(sandbox, "09:30-18:00")
    lead = sandbox.portal.create_contact({"email": "lead@example.net"})
    assert go_on(sandbox, START + timedelta(minutes=29)) == 0
    sandbox.tick()
    assert owner_of(sandbox, lead) is None
    assert store.records([("contact", lead)]).of(lead).state is State.WAITING
    sandbox.travel(START + timedelta(minutes=30))
    assert sandbox.poll() == 0
    assert owner_of(sandbox, lead) is None, "no message brings it any more"
    sandbox.tick()
    assert owner_of(sandbox, lead) in sandbox.portal.owners
    assert store.records([("contact", lead)]).of(lead).state is State.HANDED


def test_a_function_that_was_not_called_for_long_starts_with_nothing_warm(sandbox: Sandbox) -> None:
    function = sandbox.functions["SweepFunction"]
    sandbox.tick()
    warm = function._handler
    sandbox.travel(sandbox.now + timedelta(minutes=1))
    sandbox.tick()
    assert function._handler is warm
    sandbox.travel(sandbox.now + timedelta(minutes=16))
    sandbox.tick()
    assert function._handler is not warm


def test_a_functions_time_runs_out_on_the_simulated_clock(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[int] = []

    def handler(_: object, context: LambdaContext) -> dict[str, int]:
        for _ in range(4):
            left.append(context.get_remaining_time_in_millis())
            sandbox.travel(sandbox.now + timedelta(seconds=1.5))
        return {"statusCode": 200}

    monkeypatch.setattr(Function, "_start", lambda _: handler)
    sandbox.portal.create_contact({"email": "lead@example.net"})
    sandbox.travel(START + timedelta(seconds=2))
    sandbox.portal.deliver(sandbox.post)
    assert Template().functions()["IntakeFunction"]["Timeout"] == 4
    assert left == [4_000, 2_500, 1_000, 0]


def test_an_answer_that_is_lost_is_a_failure_to_hubspot(sandbox: Sandbox) -> None:
    sandbox.portal.create_contact({"email": "lead@example.net"})
    sandbox.travel(START + timedelta(seconds=2))
    sandbox.lose_answers = lambda: True
    sandbox.portal.deliver(sandbox.post)
    assert sandbox.unheard == 1
    assert sandbox.portal.webhooks.delivered == 0
    assert sandbox.portal.next_delivery() is not None


# On real time, for containers


@pytest.fixture
def variables(tmp_path: Path) -> Path:
    return tmp_path / "env.json"


@contextmanager
def told(variables: Path, function: str) -> Iterator[None]:
    """Be a function in a container, newly started, but on this machine."""
    environment: dict[str, str] = json.loads(variables.read_text())[function]
    with pytest.MonkeyPatch.context() as container:
        for name, value in environment.items():
            container.setenv(name, value.replace(INSIDE, "127.0.0.1"))
        forget()
        yield
        forget()


def test_every_function_is_told_all_that_the_template_names_and_where_a_container_finds_this_machine(
    variables: Path,
) -> None:
    with opened(file.load(EXAMPLE), "127.0.0.1", variables):
        environments = json.loads(variables.read_text())
    functions = Template().functions()
    assert environments.keys() == functions.keys()
    for name, environment in environments.items():
        assert environment.keys() == functions[name]["Environment"]["Variables"].keys()
        assert environment["WEBHOOK_URL"] == events.URL
        for address in ("AWS_ENDPOINT_URL", "HUBSPOT_API_URL", "LEADS_QUEUE_URL"):
            assert environment[address].startswith(f"http://{INSIDE}:")
        assert "127.0.0.1" not in json.dumps(environment)


def test_the_stored_webhook_is_taken_and_the_stored_lead_gets_an_owner(variables: Path) -> None:
    with opened(file.load(EXAMPLE), "127.0.0.1", variables) as portal:
        webhook = events.sign(events.load("contact-created"), events.SECRET, events.URL, int(time.time() * 1000))
        with told(variables, "IntakeFunction"):
            assert intake.handler(webhook, CONTEXT)["statusCode"] == 200
        with told(variables, "AssignFunction"):
            assert assign.handler(events.load("lead-queued"), CONTEXT) == {"batchItemFailures": []}
        assert portal.contact(CONTACT).properties["hubspot_owner_id"] in portal.owners


def test_the_stored_change_is_followed_and_at_the_stored_tick_a_waiting_lead_gets_an_owner(variables: Path) -> None:
    with opened(file.load(EXAMPLE), "127.0.0.1", variables) as portal:
        store = Store(boto3.client("dynamodb"), STACK)
        with told(variables, "AssignFunction"):
            assign.handler(events.load("lead-queued"), CONTEXT)
        other = next(owner for owner in portal.owners if owner != portal.contact(CONTACT).properties[OWNER])
        portal.change(CONTACT, {OWNER: other})
        with told(variables, "TrackFunction"), caught_up():
            assert track.handler(events.load("change-queued"), CONTEXT) == {"batchItemFailures": []}
        record = store.records([("contact", CONTACT)]).of(CONTACT)
        assert (record.state, record.rep) == (State.EXTERNAL, other)
        lead = portal.create_contact({"email": "waiting@example.net"})
        store.move([waiting(lead, "any@0")])
        with told(variables, "SweepFunction"):
            assert sweep.handler(events.load("sweep"), CONTEXT) is None
        assert portal.contact(lead).properties[OWNER] in portal.owners


def test_a_new_owner_is_told_as_hubspot_would_tell_it(variables: Path) -> None:
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        raise KeyboardInterrupt

    with opened(file.load(EXAMPLE), "127.0.0.1", variables) as portal:
        owner = next(iter(portal.owners.values()))
        portal.change(CONTACT, {OWNER: owner.id})
        with pytest.raises(KeyboardInterrupt):
            watch(portal, say)
    assert said == [f"HubSpot: contact {CONTACT} belongs to {owner.email} now."]


def test_the_command_says_what_to_type_and_ends_with_ctrl_c(tmp_path: Path) -> None:
    # A job that was started in the background, as CI may be, leaves Ctrl-C ignored to all that it starts.
    listens = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    program = f"{listens}; from fairturn_console.cli import app; app()"
    command = [sys.executable, "-c", program, "sandbox", "--policy", str(EXAMPLE)]
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(  # noqa: S603
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            lines = list(takewhile(lambda line: line != "Ctrl-C closes it.\n", process.stdout))
            process.send_signal(signal.SIGINT)
            rest, errors = process.communicate(timeout=20)
        finally:
            process.kill()
    assert CONTACT in lines[0]
    assert "fairturn event contact-created | " in lines[1]
    assert "local invoke AssignFunction" in lines[2]
    assert all(Path(PATH.parent, line.split(" -e ")[1].strip()).exists() for line in lines[2:])
    assert (process.returncode, rest, errors) == (0, "Closed.\n", "")
    assert (tmp_path / ".sandbox/env.json").exists()
