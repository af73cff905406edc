"""What `sam build` made, run on the Python that is deployed with nothing else on its path. `make smoke` runs this.

The sandbox that stays open stands in for AWS and HubSpot, and boto3 of the tests for the one that Lambda's runtime
brings along.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import time
import zipfile
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from fairturn.edges.store import Store
from fairturn.rules.events import Message
from fairturn.rules.policy import OWNER
from fairturn.rules.record import State
from fairturn.settings import Settings
from fairturn_console.policy import file
from fairturn_console.template import PATH, Template
from fairturn_console.terminal import POLICY
from fairturn_sandbox import events
from fairturn_sandbox.cloud import REGION, STACK
from fairturn_sandbox.faults import BAD_GATEWAY, SECONDLY, TEN_SECONDLY, Fault
from fairturn_sandbox.serve import CONTACT, INSIDE, TOKEN, opened
from tests.integration.test_functions import changed, waiting

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from fairturn.rules.record import Record
    from fairturn_sandbox.portal import Portal

BUILT = PATH.parent / ".aws-sam/smoke"
LAYER = BUILT / "CoreLayer/python"
RUNTIME = ("boto3", "botocore", "s3transfer")
LARGEST_LAYER = 3_500_000
"""Bytes, zipped."""
UNCHECKED_HASH = 0b01
"""The flags of bytecode that is taken without a look at its source."""
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": REGION,
}
DONE: dict[str, list[object]] = {"batchItemFailures": []}
INVOKE = """
import gc, json, sys, types
import app
assert gc.isenabled()
assert app.__file__.startswith(sys.argv[1]), app.__file__
services = app.intake if hasattr(app, "intake") else app.services
assert services.cache_info().currsize == 1, "it is made while Lambda starts the function"
made = getattr(services(), "__dict__", {})
assert not {"claimer", "assign", "track", "sweep"} & made.keys(), "a worker's name would be in a snapshot"
context = types.SimpleNamespace(
    function_name="smoke", memory_limit_in_mb=1024, invoked_function_arn="arn", aws_request_id="1",
    get_remaining_time_in_millis=lambda: 60_000,
)
answer = app.handler(json.load(sys.stdin), context)
print(json.dumps(answer))
"""
COUNT_MODULES = "import sys, app; print(len(sys.modules))"
IMPORT_ALL = """
import importlib, pathlib, sys
layer = pathlib.Path(sys.argv[1])
for path in sorted(layer.rglob("*.py")):
    name = ".".join(path.relative_to(layer).with_suffix("").parts).removesuffix(".__init__")
    assert importlib.import_module(name).__file__ == str(path), name
"""
ASK_HUBSPOT = """
import json, sys
from fairturn.edges.hubspot.client import HubSpot, OwnerWrite
from fairturn.deadline import Deadline
from fairturn.errors import Unavailable
url, token, contact = sys.argv[1:]
hubspot = HubSpot(lambda _: token, url, timeout=(1, 0.5), sleep=lambda _: None)
in_time = Deadline(lambda: 60)
def write():
    written = hubspot.write_owners("contact", [OwnerWrite(contact, "999", {})], in_time)
    if written.put_off:
        raise written.put_off[contact]
    return written.refused[contact]
for ask in (
    lambda: hubspot.read("contact", [contact], ["email"], in_time).records[contact]["email"],
    lambda: len(hubspot.owners(in_time)),
    write,
):
    try:
        print(json.dumps(ask()))
    except Unavailable as error:
        print(json.dumps([type(error).__name__, str(error)]))
"""


@dataclass(frozen=True, slots=True)
class House:
    """The built functions, and what stands around them."""

    portal: Portal
    environments: Mapping[str, Mapping[str, str]]
    runtime: Path

    def run(self, function: str, event: Mapping[str, Any]) -> list[Any]:
        """All that the built handler logs and emits; in the end its answer."""
        code = BUILT / function
        environment = {**CREDENTIALS, **self.environments[function], "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand"}
        lines = run(INVOKE, str(code), path=(code, LAYER, self.runtime), environment=environment, given=event)
        return [json.loads(line) for line in lines]

    def invoke(self, function: str, event: Mapping[str, Any]) -> Any:
        """What the built handler answers."""
        return self.run(function, event)[-1]

    def modules(self, function: str) -> int:
        """How many modules the built function has imported before its first event."""
        code = BUILT / function
        environment = {**CREDENTIALS, **self.environments[function], "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand"}
        return int(run(COUNT_MODULES, path=(code, LAYER, self.runtime), environment=environment)[0])

    def ask_hubspot(self) -> list[Any]:
        """What the layer's client makes of three calls: reading, listing the owners, writing an unknown one."""
        environment = {**CREDENTIALS, "POWERTOOLS_LOG_LEVEL": "ERROR"}
        arguments = (self.portal.url, TOKEN, CONTACT)
        lines = run(ASK_HUBSPOT, *arguments, path=(LAYER, self.runtime), environment=environment)
        return [json.loads(line) for line in lines]

    @property
    def settings(self) -> Settings:
        return Settings.read(self.environments["IntakeFunction"])

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
    with opened(file.load(POLICY), "127.0.0.1", variables) as portal:
        environments = json.loads(variables.read_text().replace(INSIDE, "127.0.0.1"))
        yield House(portal, environments, bring_along(tmp_path / "runtime"))


def run(
    script: str, *arguments: str, path: Sequence[Path], environment: Mapping[str, str], given: object = None
) -> list[str]:
    """What a script prints on the deployed version of Python, with nothing on its path but these folders."""
    done = subprocess.run(  # noqa: S603
        [os.environ["PYTHON313"], "-S", "-c", script, *arguments],
        input=json.dumps(given),
        env={**environment, "PYTHONPATH": ":".join(map(str, path)), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


def bring_along(folder: Path) -> Path:
    """A folder with only those packages of the test environment that Lambda's runtime has as well."""
    folder.mkdir()
    for name in RUNTIME:
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.origin is not None
        (folder / name).symlink_to(Path(spec.origin).parent)
    return folder


def letters(queue: str) -> list[str]:
    """The bodies of the messages in a queue."""
    answer = boto3.client("sqs").receive_message(QueueUrl=queue, MaxNumberOfMessages=10)
    return [message["Body"] for message in answer.get("Messages", [])]


def webhook(secret: str) -> dict[str, Any]:
    """A new contact, as API Gateway tells of it."""
    return events.sign(events.load("contact-created"), secret, events.URL, int(time.time() * 1000))


def test_every_module_of_the_layer_finds_all_that_it_imports(tmp_path: Path) -> None:
    run(IMPORT_ALL, str(LAYER), path=(LAYER, bring_along(tmp_path / "runtime")), environment=CREDENTIALS)


def test_the_layer_does_not_grow_unseen() -> None:
    with zipfile.ZipFile(BytesIO(), "w", zipfile.ZIP_DEFLATED) as archive:
        for path in LAYER.rglob("*"):
            archive.write(path)
        assert sum(each.compress_size for each in archive.infolist()) < LARGEST_LAYER


def test_all_that_is_deployed_is_compiled_for_good() -> None:
    sources = list(BUILT.rglob("*.py"))
    assert LAYER / "fairturn/edges/hubspot/client.py" in sources
    assert BUILT / "IntakeFunction/app.py" in sources
    for source in sources:
        flags = (source.parent / f"__pycache__/{source.stem}.cpython-313.pyc").read_bytes()[4:8]
        assert int.from_bytes(flags, "little") == UNCHECKED_HASH, source


@pytest.mark.parametrize(
    ("function", "most"),
    [("IntakeFunction", 460), ("AssignFunction", 620), ("TrackFunction", 620), ("SweepFunction", 620)],
)
def test_a_function_imports_no_more_at_its_start_than_it_did(function: str, most: int, house: House) -> None:
    assert house.modules(function) < most


DENIED = Fault(403, b'{"category": "MISSING_SCOPES", "context": {"missingScopes": ["crm.objects.owners.read"]}}')


@pytest.mark.parametrize(
    ("fault", "kind", "told"),
    [
        (Fault(401, b"{}"), "HubSpotDenied", "HubSpot answers 401 without a reason"),
        (DENIED, "HubSpotDenied", "HubSpot answers 403 MISSING_SCOPES crm.objects.owners.read"),
        (TEN_SECONDLY, "HubSpotUnavailable", "HubSpot answers 429 without a reason"),
        (SECONDLY, "HubSpotUnavailable", "HubSpot answers 429 without a reason"),
        (BAD_GATEWAY, "HubSpotUnavailable", "HubSpot answers 502 without a reason"),
        (Fault(200, b"<html>"), "HubSpotUnavailable", "HubSpot answers something else than expected"),
        (Fault(200, b"", delay=0.8), "HubSpotUnavailable", "HubSpot does not answer: ReadTimeoutError"),
    ],
)
def test_the_client_in_the_layer_tells_hubspots_errors_apart(house: House, fault: Fault, kind: str, told: str) -> None:
    """Each of three calls meets the fault at each of its attempts."""
    house.portal.faults.extend([fault] * 9)
    assert house.ask_hubspot() == [[kind, told]] * 3


def test_the_client_in_the_layer_reads_and_understands_a_refusal(house: House) -> None:
    assert house.ask_hubspot() == [
        "lead@example.net",
        len(house.portal.owners),
        ["owner", "VALIDATION_ERROR INVALID_OWNER_ID hubspot_owner_id"],
    ]


def test_a_signed_webhook_becomes_a_lead(house: House) -> None:
    assert house.invoke("IntakeFunction", webhook(events.SECRET))["statusCode"] == 200
    (letter,) = letters(house.settings.leads_queue)
    assert Message.read(letter).id == CONTACT


def test_a_webhook_that_hubspot_did_not_sign_is_refused(house: House) -> None:
    assert house.invoke("IntakeFunction", webhook("another-secret"))["statusCode"] == 401
    assert letters(house.settings.leads_queue) == []


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
    assert (record.state, record.rep, house.owner()) == (State.EXTERNAL, chosen, chosen)


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
    assert dimensions == [[["stack"]], [["stack", "rota"]]]
    assert [dimension["Name"] for dimension in alarm["Dimensions"]] == ["stack"]
    assert [(line["stack"], line["LeadsDue"]) for line in emitted] == [(STACK, [1])] * 2


@pytest.mark.parametrize(("function", "name"), [("AssignFunction", "lead-queued"), ("TrackFunction", "change-queued")])
def test_a_message_that_cannot_be_understood_is_dead_lettered(house: House, function: str, name: str) -> None:
    event = changed(events.load(name), v=2)
    assert house.invoke(function, event) == DONE
    dead = {
        "AssignFunction": house.settings.leads_dead_letters,
        "TrackFunction": house.settings.changes_dead_letters,
    }
    assert letters(dead[function]) == [event["Records"][0]["body"]]
