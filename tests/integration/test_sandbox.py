"""The sandbox: what it makes of the template, and the one that stays open for functions in containers."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from random import Random
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from fairturn.settings import settings
from fairturn_console import events, policies
from fairturn_console.cli import POLICY
from fairturn_console.cloud import aws
from fairturn_console.portal import OWNER, Portal
from fairturn_console.sandbox import Sandbox
from fairturn_console.serve import CONTACT, INSIDE, opened, watch
from fairturn_console.template import PATH, Template
from functions.assign import app as assign
from functions.intake import app as intake
from tests.integration.test_assign_function import Context, forget

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

EXAMPLE = PATH.parent / POLICY
START = datetime(2026, 11, 23, 9, tzinfo=UTC)
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
    with portal, Sandbox(portal, start=START, log=io.StringIO(), parameters=parameters) as sandbox:
        yield sandbox


def test_the_sandbox_has_every_queue_of_the_template_with_its_delay_and_redrive(sandbox: Sandbox) -> None:
    sqs = boto3.client("sqs")
    urls = sqs.list_queues()["QueueUrls"]
    template = Template()
    assert len(urls) == len(template.resources("AWS::SQS::Queue"))
    asked = sqs.get_queue_attributes(QueueUrl=settings().leads_queue, AttributeNames=["All"])["Attributes"]
    assert asked["DelaySeconds"] == str(template.data["Parameters"]["SettleSeconds"]["Default"])
    assert json.loads(asked["RedrivePolicy"])["maxReceiveCount"] == 100
    assert sandbox.settling == timedelta(seconds=int(asked["DelaySeconds"]) + 1)


def test_a_webhook_goes_through_intake_and_its_lead_waits_for_its_delay_in_the_queue(sandbox: Sandbox) -> None:
    lead = sandbox.portal.create_contact({"email": "lead@example.net"})
    sandbox.travel(START + timedelta(seconds=2))
    assert sandbox.portal.deliver(sandbox.post) == 1
    assert sandbox.poll() == 1, "still delayed, so nobody was called"
    sandbox.travel(sandbox.now + sandbox.settling)
    assert sandbox.poll() == 0
    ((body, reason),) = sandbox.dead_letters()
    assert json.loads(body)["id"] == lead
    assert reason == "no policy is in force: apply one with `fairturn policy apply`"


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
    with opened(policies.load(EXAMPLE), "127.0.0.1", variables):
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
    with opened(policies.load(EXAMPLE), "127.0.0.1", variables) as portal:
        webhook = events.sign(events.load("contact-created"), events.SECRET, events.URL, int(time.time() * 1000))
        with told(variables, "IntakeFunction"):
            assert intake.handler(webhook, CONTEXT)["statusCode"] == 200
        with told(variables, "AssignFunction"):
            assert assign.handler(events.load("lead-queued"), CONTEXT) == {"batchItemFailures": []}
        assert portal.contact(CONTACT).properties["hubspot_owner_id"] in portal.owners


def test_a_new_owner_is_told_as_hubspot_would_tell_it(variables: Path) -> None:
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        raise KeyboardInterrupt

    with opened(policies.load(EXAMPLE), "127.0.0.1", variables) as portal:
        owner = next(iter(portal.owners.values()))
        portal.change(CONTACT, {OWNER: owner.id})
        with pytest.raises(KeyboardInterrupt):
            watch(portal, say)
    assert said == [f"HubSpot: contact {CONTACT} belongs to {owner.email} now."]


def test_the_command_says_what_to_type_and_ends_with_ctrl_c(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from fairturn_console.cli import app; app()", "sandbox", "--policy", str(EXAMPLE)]
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(  # noqa: S603
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(4)]
            process.send_signal(signal.SIGINT)
            rest, errors = process.communicate(timeout=20)
        finally:
            process.kill()
    assert CONTACT in lines[0]
    assert "fairturn event contact-created | " in lines[1]
    assert "local invoke AssignFunction" in lines[2]
    assert (process.returncode, rest, errors) == (0, "Closed.\n", "")
    assert (tmp_path / ".sandbox/env.json").exists()
