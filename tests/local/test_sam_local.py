"""The built functions in Lambda's containers, beside a sandbox that stays open. `make local` runs this."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from fairturn.edges.store import Store
from fairturn.rules.policy import OWNER
from fairturn.rules.record import State
from fairturn_console.policy import file
from fairturn_console.template import PATH
from fairturn_console.terminal import POLICY
from fairturn_sandbox import events
from fairturn_sandbox.cloud import EVERYWHERE, STACK
from fairturn_sandbox.serve import CONTACT, opened
from tests.integration.test_functions import waiting

if TYPE_CHECKING:
    from pathlib import Path

DONE: dict[str, list[object]] = {"batchItemFailures": []}
PROCESSOR = {"aarch64": "arm64"}.get(platform.machine(), platform.machine())


def invoke(function: str, event: dict[str, Any], variables: Path) -> Any:
    """What a function answers in its container."""
    done = subprocess.run(  # noqa: S603
        [
            os.environ["SAM"],
            *("local", "invoke", function, "--event", "-", "--env-vars", str(variables)),
            *("--parameter-overrides", f"Architecture={PROCESSOR}"),
        ],
        input=json.dumps(event),
        cwd=PATH.parent,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.timeout(600)
def test_a_webhook_is_taken_and_its_lead_gets_an_owner(tmp_path: Path) -> None:
    variables = tmp_path / "env.json"
    with opened(file.load(POLICY), EVERYWHERE, variables) as portal:
        webhook = events.sign(events.load("contact-created"), events.SECRET, events.URL, int(time.time() * 1000))
        assert invoke("IntakeFunction", webhook, variables) == {"statusCode": 200, "body": ""}
        assert invoke("AssignFunction", events.load("lead-queued"), variables) == DONE
        assert portal.contact(CONTACT).properties[OWNER] in portal.owners


@pytest.mark.timeout(600)
def test_a_persons_choice_is_followed_and_a_waiting_lead_gets_an_owner(tmp_path: Path) -> None:
    variables = tmp_path / "env.json"
    with opened(file.load(POLICY), EVERYWHERE, variables) as portal:
        store = Store(boto3.client("dynamodb"), STACK)
        chosen = next(iter(portal.owners))
        portal.change(CONTACT, {OWNER: chosen})
        assert invoke("TrackFunction", events.load("change-queued"), variables) == DONE
        record = store.records([("contact", CONTACT)]).of(CONTACT)
        assert (record.state, record.rep) == (State.EXTERNAL, chosen)
        lead = portal.create_contact({"email": "waiting@example.net"})
        store.move([waiting(lead, "any@0")])
        assert invoke("SweepFunction", events.load("sweep"), variables) is None
        assert portal.contact(lead).properties[OWNER] in portal.owners
