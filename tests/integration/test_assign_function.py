"""The real handler of assign, given what Lambda makes of SQS messages, before moto and a portal over loopback."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from fairturn.crm import HubSpot
from fairturn.events import Message
from fairturn.policy import Policy
from fairturn.queues import Received
from fairturn.settings import settings
from fairturn.store import Store
from fairturn_console import policies
from fairturn_console.cloud import Stack
from fairturn_console.events import KEY, SECRET, URL, load, names, sign
from fairturn_console.portal import Portal
from fairturn_console.serve import CONTACT
from fairturn_console.story import furnish
from functions.assign import app
from functions.intake import app as intake

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from fairturn.record import Record

NOW = 1_793_527_205_117
TOKEN = "a-token"
REPS = ("rep1@example.com", "rep2@example.com")


@dataclass(frozen=True)
class Context:
    """What Lambda tells a function about itself."""

    function_name: str = "assign"
    memory_limit_in_mb: int = 1024
    invoked_function_arn: str = "arn:aws:lambda:eu-west-1:123456789012:function:assign"
    aws_request_id: str = "6b1f7a30-0000-4000-8000-000000000001"


@dataclass(frozen=True)
class House:
    """What stands around assign."""

    portal: Portal
    stack: Stack
    store: Store

    def send(self, *events: dict[str, Any]) -> list[dict[str, Any]]:
        """Let the function take events, one after the other."""
        return [app.handler(json.loads(json.dumps(event)), Context()) for event in events]  # type: ignore[arg-type]

    def owner(self) -> str | None:
        return self.portal.contact(CONTACT).properties.get("hubspot_owner_id")

    def record(self) -> Record | None:
        return self.store.read([], [("contact", CONTACT)]).records.get(f"contact#{CONTACT}")

    def loads(self) -> list[int]:
        return [load for load in self.store.read([], []).loads.values() if load]

    def dead_letters(self) -> list[dict[str, str]]:
        """Body and attributes of every dead letter."""
        answer = boto3.client("sqs").receive_message(
            QueueUrl=self.stack.references["LeadsDeadLetters"], MaxNumberOfMessages=10, MessageAttributeNames=["All"]
        )
        return [
            {"body": message["Body"]}
            | {name: value["StringValue"] for name, value in message["MessageAttributes"].items()}
            for message in answer.get("Messages", [])
        ]


@pytest.fixture
def house(aws: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:  # noqa: ARG001 - it must be there first
    portal = Portal(Random(1), token=TOKEN, secret=SECRET, webhook_url="https://example.com/", subscriptions=())
    policy = Policy.read(
        {
            "reps": dict.fromkeys(REPS),
            "rotas": {"inbound": {"members": list(REPS)}},
            "rules": [],
            "otherwise": {"rota": "inbound"},
        }
    )
    with portal:
        stack = Stack({"HubSpotPortalId": portal.id, "WebhookKey": KEY}, webhook_secret=SECRET, token=TOKEN)
        for name, value in stack.environment("AssignFunction").items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("HUBSPOT_API_URL", portal.url)
        monkeypatch.setenv("POWERTOOLS_METRICS_NAMESPACE", "Fairturn")
        furnish(portal, policy)
        portal.create_contact({"email": "lead@example.net"}, id=CONTACT)
        store = Store(boto3.client("dynamodb"), stack.references["Table"])
        policies.apply(policy, store, HubSpot(lambda _: TOKEN, portal.url), NOW)
        forget()
        yield House(portal, stack, store)
        forget()


def forget() -> None:
    """Make the function start cold."""
    settings.cache_clear()
    app.assign.cache_clear()
    intake.intake.cache_clear()


LEADS: dict[str, tuple[int, Sequence[str]]] = {
    "lead-queued": (1, []),
    "lead-queued-twice": (1, []),
    "lead-redelivered": (1, []),
    "lead-not-readable": (0, ["v: Input should be 1"]),
}
"""What becomes of each stored batch: how many leads get an owner, and the reason of each dead letter."""


def test_every_stored_batch_has_its_story() -> None:
    assert [name for name in names() if name.startswith("lead-")] == sorted(LEADS)


@pytest.mark.parametrize("name", LEADS)
def test_a_stored_batch_is_what_lambda_makes_of_messages(name: str) -> None:
    for record in load(name)["Records"]:
        assert record["md5OfBody"] == hashlib.md5(record["body"].encode(), usedforsecurity=False).hexdigest()
        assert record.keys() == {
            *("messageId", "receiptHandle", "body", "attributes", "messageAttributes", "md5OfBody"),
            *("eventSource", "eventSourceARN", "awsRegion"),
        }


@pytest.mark.parametrize("name", [name for name in LEADS if name != "lead-not-readable"])
def test_a_stored_lead_is_a_message_as_intake_writes_it(name: str) -> None:
    for record in load(name)["Records"]:
        message = Message.read(record["body"])
        assert (message.id, message.body()) == (CONTACT, record["body"])


@pytest.mark.parametrize("name", LEADS)
def test_a_stored_batch_becomes_what_its_story_says(house: House, name: str) -> None:
    assigned, reasons = LEADS[name]
    assert house.send(load(name)) == [{"batchItemFailures": []}]
    record = house.record()
    assert house.loads() == [1] * assigned
    assert [letter["reason"] for letter in house.dead_letters()] == reasons
    assert (house.owner() in house.portal.owners) is bool(assigned)
    assert (None if record is None else record.rep) == house.owner()


def test_a_redelivered_lead_keeps_its_first_owner(house: House) -> None:
    (before,), (again,) = (
        [Received.from_record(record) for record in load(name)["Records"]]
        for name in ("lead-queued", "lead-redelivered")
    )
    assert (again.id, again.receipts) == (before.id, before.receipts + 1)
    house.send(load("lead-queued"))
    first = house.record()
    assert house.send(load("lead-redelivered")) == [{"batchItemFailures": []}]
    assert house.record() == first
    assert house.loads() == [1]


def test_a_dead_letter_is_the_message_as_it_came(house: House) -> None:
    house.send(load("lead-not-readable"))
    (letter,) = house.dead_letters()
    (record,) = load("lead-not-readable")["Records"]
    assert (letter["body"], letter["message"]) == (record["body"], record["messageId"])


def test_while_hubspot_is_down_every_message_stays_in_the_queue(house: House) -> None:
    house.portal.down(9_999_999_999_999)
    batch = load("lead-queued-twice")
    (answer,) = house.send(batch)
    assert {failure["itemIdentifier"] for failure in answer["batchItemFailures"]} == {
        record["messageId"] for record in batch["Records"]
    }
    assert house.record() is None


def test_a_batch_of_which_one_cannot_be_read_gives_the_other_its_owner(house: House) -> None:
    records = load("lead-not-readable")["Records"] + load("lead-queued")["Records"]
    assert house.send({"Records": records}) == [{"batchItemFailures": []}]
    assert house.loads() == [1]
    assert len(house.dead_letters()) == 1


# What the functions may do


def test_the_functions_call_of_aws_what_their_roles_grant_and_nothing_else(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: set[tuple[str, str]] = set()
    session = boto3.Session()
    session.events.register(
        "before-parameter-build",
        lambda params, model, **_: calls.update(needed(house.stack, model, params)),
    )
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", session)

    for name in names():
        if not name.startswith("lead-"):
            receive(sign(load(name), SECRET, URL, now_ms()))
    receive(sign({**load("contact-created"), "body": '[{"portalId": 62515, "occurredAt": 1}]'}, SECRET, URL, now_ms()))
    assert calls == granted(house.stack, "IntakeFunction")

    calls.clear()
    house.send(*(load(name) for name in LEADS))
    house.portal.down(9_999_999_999_999)
    house.send(load("lead-queued"))
    assert calls == granted(house.stack, "AssignFunction") - polled(house.stack)


def receive(event: dict[str, Any]) -> None:
    intake.handler(event, Context())  # type: ignore[arg-type]


def now_ms() -> int:
    return int(time.time() * 1000)


def needed(stack: Stack, model: Any, params: dict[str, Any]) -> set[tuple[str, str]]:
    """The actions that a request needs, each with its resource. A transaction needs those of its items."""
    match model.service_model.service_name, model.name:
        case "secretsmanager", operation:
            return {(f"secretsmanager:{operation}", params["SecretId"])}
        case "sqs", operation:
            (arn,) = (
                stack.references[f"{name}.Arn"] for name in stack.queues if stack.references[name] == params["QueueUrl"]
            )
            return {(f"sqs:{operation.removesuffix('Batch')}", arn)}
        case "dynamodb", "TransactWriteItems":
            items = {(kind, each["TableName"]) for item in params["TransactItems"] for kind, each in item.items()}
            return {(f"dynamodb:{kind}Item", table(stack, name)) for kind, name in items}
        case "dynamodb", operation:
            tables = params.get("RequestItems", [params.get("TableName")])
            return {(f"dynamodb:{operation}", table(stack, name)) for name in tables}
    raise AssertionError(model.service_model.service_name)


def table(stack: Stack, name: str) -> str:
    assert name == stack.references["Table"]
    return stack.references["Table.Arn"]


def granted(stack: Stack, function: str) -> set[tuple[str, str]]:
    """What a function's role allows it to call; logs and traces are Lambda's own doing."""
    role = stack.template.functions()[function]["Role"]["Fn::GetAtt"][0]
    (policy,) = stack.resolve(stack.template.resource(role)["Properties"]["Policies"])
    return {
        (action, resource)
        for statement in policy["PolicyDocument"]["Statement"]
        for action in statement["Action"]
        for resource in statement["Resource"]
        if not action.startswith(("logs:", "xray:"))
    }


def polled(stack: Stack) -> set[tuple[str, str]]:
    """What Lambda does, in the function's name, with the queue that it reads."""
    leads = stack.references["LeadsQueue.Arn"]
    return {(f"sqs:{action}", leads) for action in ("ReceiveMessage", "DeleteMessage", "GetQueueAttributes")}
