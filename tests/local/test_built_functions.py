"""What `sam build` made, run on the deployed version of Python with nothing else on its path: `make smoke`.

The sandbox that stays open stands in for AWS and HubSpot, and boto3 of the tests for the one that Lambda's runtime
brings along.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from fairturn.policy import OWNER
from fairturn.record import State
from fairturn.settings import Settings
from fairturn.store import Store
from fairturn_console import events, policies
from fairturn_console.cli import POLICY
from fairturn_console.cloud import REGION, STACK
from fairturn_console.serve import CONTACT, INSIDE, opened
from fairturn_console.template import PATH, Template
from tests.integration.test_functions import changed, waiting

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from fairturn.record import Record
    from fairturn_console.portal import Portal

BUILT = PATH.parent / ".aws-sam/smoke"
RUNTIME = ("boto3", "botocore", "s3transfer")
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": REGION,
}
DONE: dict[str, list[object]] = {"batchItemFailures": []}
INVOKE = """
import json, sys, types
import app
assert app.__file__.startswith(sys.argv[1]), app.__file__
context = types.SimpleNamespace(
    function_name="smoke", memory_limit_in_mb=1024, invoked_function_arn="arn", aws_request_id="1",
    get_remaining_time_in_millis=lambda: 60_000,
)
answer = app.handler(json.load(sys.stdin), context)
print(json.dumps(answer))
"""


@dataclass(frozen=True, slots=True)
class House:
    """The built functions, and what stands around them."""

    portal: Portal
    environments: Mapping[str, Mapping[str, str]]
    runtime: Path

    def run(self, function: str, event: Mapping[str, Any]) -> list[Any]:
        """All that the built handler logs and emits; in the end its answer."""
        code, layer = BUILT / function, BUILT / "CoreLayer/python"
        environment = {
            **CREDENTIALS,
            **self.environments[function],
            "PYTHONPATH": f"{code}:{layer}:{self.runtime}",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        done = subprocess.run(  # noqa: S603
            [os.environ["PYTHON313"], "-S", "-c", INVOKE, str(code)],
            input=json.dumps(event),
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    def invoke(self, function: str, event: Mapping[str, Any]) -> Any:
        """What the built handler answers."""
        return self.run(function, event)[-1]

    @property
    def settings(self) -> Settings:
        return Settings.model_validate(self.environments["IntakeFunction"])

    @property
    def store(self) -> Store:
        return Store(boto3.client("dynamodb"), STACK)

    def record(self) -> Record | None:
        return self.store.records([("contact", CONTACT)]).known.get(f"contact#{CONTACT}")

    def owner(self) -> str | None:
        return self.portal.contact(CONTACT).properties.get(OWNER)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    assert BUILT.exists(), "nothing is built: make smoke"
    variables = tmp_path / "env.json"
    with opened(policies.load(POLICY), "127.0.0.1", variables) as portal:
        environments = json.loads(variables.read_text().replace(INSIDE, "127.0.0.1"))
        yield House(portal, environments, bring_along(tmp_path / "runtime"))


def bring_along(folder: Path) -> Path:
    """A folder with only those packages of the test environment that Lambda's runtime has as well."""
    folder.mkdir()
    for name in RUNTIME:
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.origin is not None
        (folder / name).symlink_to(Path(spec.origin).parent)
    return folder


def delayed(queue: str) -> str:
    """How many messages a queue still keeps to itself."""
    answer = boto3.client("sqs").get_queue_attributes(QueueUrl=queue, AttributeNames=["All"])
    return answer["Attributes"]["ApproximateNumberOfMessagesDelayed"]


def letters(queue: str) -> list[str]:
    """The bodies of the messages in a queue."""
    answer = boto3.client("sqs").receive_message(QueueUrl=queue, MaxNumberOfMessages=10)
    return [message["Body"] for message in answer.get("Messages", [])]


def webhook(secret: str) -> dict[str, Any]:
    """A new contact, as API Gateway tells of it."""
    return events.sign(events.load("contact-created"), secret, events.URL, int(time.time() * 1000))


def test_a_signed_webhook_becomes_a_lead(house: House) -> None:
    assert house.invoke("IntakeFunction", webhook(events.SECRET))["statusCode"] == 200
    assert delayed(house.settings.leads_queue) == "1"


def test_a_webhook_that_hubspot_did_not_sign_is_refused(house: House) -> None:
    assert house.invoke("IntakeFunction", webhook("another-secret"))["statusCode"] == 401
    assert delayed(house.settings.leads_queue) == "0"


def test_a_lead_gets_an_owner(house: House) -> None:
    assert house.invoke("AssignFunction", events.load("lead-queued")) == DONE
    record = house.record()
    assert record is not None
    assert (record.state, record.rep) == (State.HANDED, house.owner())


def test_a_person_whom_somebody_chooses_before_a_lead_is_assigned_keeps_it(house: House) -> None:
    chosen = next(iter(house.portal.owners))
    house.portal.change(CONTACT, {OWNER: chosen})
    assert house.invoke("TrackFunction", events.load("change-queued")) == DONE
    assert house.invoke("AssignFunction", events.load("lead-queued")) == DONE
    record = house.record()
    assert record is not None
    assert (record.state, record.rep, house.owner()) == (State.ELSEWHERE, chosen, chosen)


def test_a_waiting_lead_gets_an_owner_at_the_next_tick(house: House) -> None:
    house.store.move([waiting(CONTACT, "any@0")])
    assert house.invoke("SweepFunction", events.load("sweep")) is None
    record = house.record()
    assert record is not None
    assert record.state is State.HANDED
    assert house.owner() == record.rep


def test_how_many_leads_wait_is_told_as_its_alarm_expects_it(house: House) -> None:
    house.portal.refuse_owners(CONTACT, "no")
    house.store.move([waiting(CONTACT, "any@0")])
    alarm = Template().resources("AWS::CloudWatch::Alarm")["LeadsDueAlarm"]
    emitted = [line for line in house.run("SweepFunction", events.load("sweep")) if alarm["MetricName"] in (line or {})]
    assert [line["_aws"]["CloudWatchMetrics"][0]["Namespace"] for line in emitted] == [alarm["Namespace"]] * 2
    dimensions = [line["_aws"]["CloudWatchMetrics"][0]["Dimensions"] for line in emitted]
    assert dimensions == [[["service"]], [["service", "rota"]]]
    assert [(line["service"], line["LeadsDue"]) for line in emitted] == [(alarm["Dimensions"][0]["Value"], [1])] * 2


@pytest.mark.parametrize(("function", "name"), [("AssignFunction", "lead-queued"), ("TrackFunction", "change-queued")])
def test_a_message_that_cannot_be_understood_is_dead_lettered(house: House, function: str, name: str) -> None:
    event = changed(events.load(name), v=2)
    assert house.invoke(function, event) == DONE
    dead = {
        "AssignFunction": house.settings.leads_dead_letters,
        "TrackFunction": house.settings.changes_dead_letters,
    }
    assert letters(dead[function]) == [event["Records"][0]["body"]]
