"""The operator's commands, before moto, a portal over loopback and a stand-in for CloudFormation."""

from __future__ import annotations

import json
import re
import threading
import time
from random import Random
from typing import TYPE_CHECKING, Final

import boto3
import pytest
from flask import Flask, Response, request
from typer.testing import CliRunner
from werkzeug.serving import make_server

from fairturn.signature import SIGNATURE_HEADER, TIMESTAMP_HEADER
from fairturn.signature import sign as sign_request
from fairturn.store import Store
from fairturn_console import events
from fairturn_console.cli import POLICY, app
from fairturn_console.cloud import Stack
from fairturn_console.portal import Portal
from fairturn_console.template import PATH

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from typer.testing import Result

EXAMPLE: Final = str(PATH.parent / POLICY)
LAST_LINE: Final = re.compile(
    r"(\d+) leads: (\d+) assigned, (\d+) waiting, (\d+) dead-lettered, (\d+) dropped; largest gap \d+\.\d\d turns"
)
XML: Final = (
    '<DescribeStacksResponse xmlns="http://cloudformation.amazonaws.com/doc/2010-05-15/">{}</DescribeStacksResponse>'
)
SMALL: Final = """
reps: {anna@example.com: , bruno@example.com: }
rotas: {inbound: {members: [anna@example.com, bruno@example.com]}}
rules: []
otherwise: {rota: inbound}
"""


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


# fairturn policy check


def test_a_good_policy_has_no_problems() -> None:
    result = run("policy", "check", EXAMPLE)
    assert result.output == f"{EXAMPLE}: 8 reps, 3 rotas, 6 rules and a catch-all. No problems.\n"
    assert result.exit_code == 0


def test_every_problem_of_a_policy_is_shown_with_its_line(tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text(SMALL.replace("[anna", "[nobody").replace("rota: inbound", "rota: outbound"))
    result = run("policy", "check", str(bad))
    assert result.exit_code == 1
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert [line.partition(",")[0] for line in lines] == [f"{bad}: line {number}" for number in (3, 5)]
    assert "nobody@example.com" in lines[0]
    assert "outbound" in lines[1]


def test_a_policy_that_is_not_there_is_named() -> None:
    result = run("policy", "check", "nowhere.yaml")
    assert result.exit_code == 2
    assert "nowhere.yaml" in result.stderr
    assert "does not exist" in result.stderr


# fairturn policy apply


@pytest.fixture
def portal() -> Iterator[Portal]:
    with Portal(Random(1), token="pat", secret="s", webhook_url="https://example.com/", subscriptions=()) as portal:
        yield portal


@pytest.fixture
def deployed(aws: None, portal: Portal, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:  # noqa: ARG001
    """A stack as CloudFormation shows it to the shell."""
    stack = Stack(
        {"HubSpotPortalId": portal.id, "WebhookKey": events.KEY}, webhook_secret=events.SECRET, token=portal.token
    )
    outputs = {name: stack.resolve(each["Value"]) for name, each in stack.template.data["Outputs"].items()}
    server = make_server("127.0.0.1", 0, cloudformation(outputs), threaded=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    monkeypatch.setenv("AWS_ENDPOINT_URL_CLOUDFORMATION", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("HUBSPOT_API_URL", portal.url)
    yield stack
    server.shutdown()
    thread.join()
    server.server_close()


def cloudformation(outputs: Mapping[str, str]) -> Flask:
    """What CloudFormation answers about its only stack, and about any other."""
    web = Flask("cloudformation")

    @web.post("/")
    def describe() -> Response:
        stack = request.form["StackName"]
        if stack != "fairturn":
            error = f"<Code>ValidationError</Code><Message>Stack with id {stack} does not exist</Message>"
            return Response(f"<ErrorResponse><Error>{error}</Error></ErrorResponse>", 400, content_type="text/xml")
        members = "".join(
            f"<member><OutputKey>{name}</OutputKey><OutputValue>{value}</OutputValue></member>"
            for name, value in outputs.items()
        )
        member = f"<member><StackName>{stack}</StackName><Outputs>{members}</Outputs></member>"
        answer = XML.format(f"<DescribeStacksResult><Stacks>{member}</Stacks></DescribeStacksResult>")
        return Response(answer, content_type="text/xml")

    return web


@pytest.fixture
def small(tmp_path: Path) -> str:
    path = tmp_path / "small.yaml"
    path.write_text(SMALL)
    return str(path)


def test_each_policy_applied_is_a_new_version(deployed: Stack, portal: Portal, small: str) -> None:
    owners = [portal.add_owner(f"{name}@example.com") for name in ("anna", "bruno")]
    outputs = [run("policy", "apply", small).output for _ in range(2)]
    assert outputs == [f"Version {n} is in force; every function sees it within 30 seconds.\n" for n in (1, 2)]
    store = Store(boto3.client("dynamodb"), deployed.references["Table"])
    number, roster = store.pointer()
    assert number == 2
    assert sorted(roster) == sorted(store.policy(2).reps) == sorted(owners)


def test_reps_whom_hubspot_does_not_know_or_has_archived_are_named_and_nothing_is_applied(
    deployed: Stack, portal: Portal, small: str
) -> None:
    portal.deactivate_owner(portal.add_owner("bruno@example.com"))
    result = run("policy", "apply", small)
    assert result.exit_code == 1
    assert result.stderr == (
        "reps.anna@example.com: is not known to HubSpot as an owner\n"
        "reps.bruno@example.com: is deactivated in HubSpot\n"
    )
    store = Store(boto3.client("dynamodb"), deployed.references["Table"])
    assert store.pointer()[0] == 0


def test_a_stack_that_is_not_there_is_named_with_what_to_check(deployed: Stack, small: str) -> None:  # noqa: ARG001
    result = run("policy", "apply", small, "--stack", "fairturm")
    assert result.exit_code == 1
    assert result.stderr == (
        "no stack 'fairturm' to be seen (ClientError): check --stack, the region and the credentials of this shell\n"
    )


def test_a_policy_with_problems_asks_nobody(tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("rotas: {}")
    result = run("policy", "apply", str(bad))
    assert result.exit_code == 1
    assert f"{bad}: line 1" in result.stderr


# fairturn event


def test_the_stored_events_are_listed() -> None:
    assert run("event").output.splitlines() == events.names()


def test_a_webhook_is_printed_as_signed_this_moment_for_the_sandbox() -> None:
    event = json.loads(run("event", "contact-created").output)
    timestamp = event["headers"][TIMESTAMP_HEADER]
    assert abs(int(timestamp) - time.time() * 1000) < 60_000
    assert event["headers"][SIGNATURE_HEADER] == sign_request(
        secret=events.SECRET, method="POST", url=events.URL, body=event["body"].encode(), timestamp=timestamp
    )


def test_a_webhook_can_be_signed_for_another_place() -> None:
    arguments = ("event", "contact-created", "--secret", "another", "--url", "https://hooks.example.com/x")
    event = json.loads(run(*arguments).output)
    assert event["rawPath"] == "/x"
    assert event["headers"][SIGNATURE_HEADER] == sign_request(
        secret="another",
        method="POST",
        url="https://hooks.example.com/x",
        body=event["body"].encode(),
        timestamp=event["headers"][TIMESTAMP_HEADER],
    )


def test_a_batch_of_messages_is_printed_as_it_is_stored() -> None:
    assert json.loads(run("event", "lead-queued").output) == events.load("lead-queued")


def test_an_event_that_is_not_stored_is_answered_with_those_that_are() -> None:
    result = run("event", "contact-kissed")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "contact-kissed" in result.stderr
    assert all(name in result.stderr for name in events.names())


# fairturn demo


def test_the_demo_ends_in_one_line_that_adds_up_and_its_seed_repeats_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    first, second = (run("demo", "--seed", "7", "--leads", "20", "--policy", EXAMPLE) for _ in range(2))
    assert first.exit_code == 0, first.output
    said = LAST_LINE.fullmatch(first.output.splitlines()[-1])
    assert said is not None
    leads, *fates = map(int, said.groups())
    assert leads == sum(fates) == 22
    assert fates[2] == 2
    assert "BROKEN" not in first.output
    assert first.output.splitlines()[-1] == second.output.splitlines()[-1]
