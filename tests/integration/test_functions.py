"""The real handlers of assign, track and sweep, given what AWS sends them. Moto and a portal over loopback stand behind
them."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import TYPE_CHECKING, Any

import boto3
import pytest
import time_machine

from fairturn.edges.hubspot.client import HubSpot
from fairturn.edges.queues import Incoming
from fairturn.edges.store import Store
from fairturn.rules.events import CONTACT as TYPE
from fairturn.rules.events import Message
from fairturn.rules.findings import Checkpoint
from fairturn.rules.policy import OWNER
from fairturn.rules.record import READS_LAG, State, new
from fairturn.settings import settings
from fairturn_console.policy import applying, reading
from fairturn_sandbox.cloud import Stack
from fairturn_sandbox.events import KEY, SECRET, URL, load, names, sign
from fairturn_sandbox.portal import Portal
from fairturn_sandbox.portal_api import served
from fairturn_sandbox.serve import CONTACT
from fairturn_sandbox.story import furnish
from functions.assign import app as assign
from functions.intake import app as intake
from functions.sweep import app as sweep
from functions.track import app as track

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from fairturn.rules.record import Record

NOW = 1_793_527_205_117
TOKEN = "a-token"
REPS = ("rep1@example.com", "rep2@example.com")
ROTA = "inbound"
READERS: dict[str, Callable[..., Any]] = {"leads": assign.handler, "bulk": assign.handler, "changes": track.handler}
"""The function that reads a queue."""
DONE = {"batchItemFailures": []}  # type: ignore[var-annotated]


@dataclass(frozen=True)
class Context:
    """What Lambda tells a function about itself."""

    function_name: str = "assign"
    memory_limit_in_mb: int = 1024
    invoked_function_arn: str = "arn:aws:lambda:eu-west-1:123456789012:function:assign"
    aws_request_id: str = "6b1f7a30-0000-4000-8000-000000000001"

    def get_remaining_time_in_millis(self) -> int:
        return 30_000


@dataclass(frozen=True)
class House:
    """What stands around the functions."""

    portal: Portal
    stack: Stack
    store: Store

    def send(self, *events: dict[str, Any]) -> list[Any]:
        """Do as AWS does with events, one after the other: each goes to the function that it is for."""
        return [reader(event)(json.loads(json.dumps(event)), Context()) for event in events]

    def owner(self) -> str | None:
        return self.portal.contact(CONTACT).properties.get(OWNER)

    def record(self, contact: str = CONTACT) -> Record | None:
        return self.store.records([(TYPE, contact)]).known.get(f"{TYPE}#{contact}")

    def taken_over(self) -> str:
        """Let a person give the contact to the other rep, whose id this gives."""
        (other,) = self.portal.owners.keys() - {self.owner()}
        self.portal.change(CONTACT, {OWNER: other})
        return other

    def loads(self) -> list[int]:
        return [load for load in self.store.read([], []).loads.values() if load]

    def queued(self, queue: str) -> list[dict[str, str]]:
        """Body and attributes of every message in a queue."""
        answer = boto3.client("sqs").receive_message(
            QueueUrl=self.stack.references[queue], MaxNumberOfMessages=10, MessageAttributeNames=["All"]
        )
        return [
            {"body": message["Body"]}
            | {name: value["StringValue"] for name, value in message.get("MessageAttributes", {}).items()}
            for message in answer.get("Messages", [])
        ]

    def dead_letters(self) -> list[dict[str, str]]:
        return self.queued("LeadsDeadLetters")


def reader(event: dict[str, Any]) -> Callable[..., Any]:
    """The function that AWS calls with an event."""
    if "Records" not in event:
        return sweep.handler
    (queue,) = {record["eventSourceARN"].rpartition("-")[2] for record in event["Records"]}
    return READERS[queue]


@pytest.fixture
def house(aws: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:  # noqa: ARG001 - it must be there first
    portal = Portal(Random(1), token=TOKEN, secret=SECRET, webhook_url="https://example.com/", subscriptions=())
    policy = reading.read(
        {
            "reps": dict.fromkeys(REPS),
            "rotas": {ROTA: {"members": list(REPS)}},
            "rules": [{"name": "imports", "when": [{"source": ["IMPORT"]}], "rota": ROTA}],
            "otherwise": {"rota": ROTA},
        }
    )
    with served(portal):
        parameters: dict[str, str | int] = {"HubSpotPortalId": portal.id, "WebhookKey": KEY}
        stack = Stack(parameters, webhook_secret=SECRET, token=TOKEN)
        for name, value in stack.environment("AssignFunction").items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("HUBSPOT_API_URL", portal.url)
        monkeypatch.setenv("POWERTOOLS_METRICS_NAMESPACE", "Fairturn")
        furnish(portal, policy)
        portal.create_contact({"email": "lead@example.net"}, id=CONTACT)
        store = Store(boto3.client("dynamodb"), stack.references["Table"])
        applying.apply(policy, store, HubSpot(lambda _: TOKEN, portal.url), NOW)
        forget()
        yield House(portal, stack, store)
        forget()


def forget() -> None:
    """Make the functions start cold."""
    settings.cache_clear()
    for service in (intake.intake, assign.services, track.services, sweep.services):
        service.cache_clear()


def waiting(contact: str, lane: str = "any") -> tuple[Record, Record]:
    """The move of a lead that nobody could take so far."""
    at, record = now_ms(), new(contact)
    arrived = replace(record, rota=ROTA, lane=lane, occurred_at=at, source="FORM")
    return record, arrived.waiting("nobody can take it now", at)


def caught_up() -> time_machine.travel:
    """The time from which on HubSpot's reads show all that has happened."""
    return time_machine.travel(datetime.now(UTC) + timedelta(milliseconds=READS_LAG + 1_000))


LEADS: dict[str, tuple[int, Sequence[str]]] = {
    "lead-queued": (1, []),
    "lead-queued-twice": (1, []),
    "lead-redelivered": (1, []),
    "lead-not-readable": (0, ["v: Input should be 1"]),
}
"""What becomes of each stored batch: how many leads get an owner, and the reason of each dead letter."""


CHANGES = ("change-queued", "change-merged")
"""A person's choice of an owner, and a merge with another contact."""


def test_every_stored_event_but_webhooks_has_its_story() -> None:
    stored = [name for name in names() if "requestContext" not in load(name)]
    assert stored == sorted([*LEADS, *CHANGES, "sweep"])


@pytest.mark.parametrize("name", [*LEADS, *CHANGES])
def test_a_stored_batch_is_what_lambda_makes_of_messages(name: str) -> None:
    for record in load(name)["Records"]:
        assert record["md5OfBody"] == hashlib.md5(record["body"].encode(), usedforsecurity=False).hexdigest()
        assert record.keys() == {
            *("messageId", "receiptHandle", "body", "attributes", "messageAttributes", "md5OfBody"),
            *("eventSource", "eventSourceARN", "awsRegion"),
        }


@pytest.mark.parametrize("name", [name for name in (*LEADS, *CHANGES) if name != "lead-not-readable"])
def test_a_stored_message_is_as_intake_writes_it_and_about_the_contact(name: str) -> None:
    for record in load(name)["Records"]:
        message = Message.read(record["body"])
        assert message.body() == record["body"]
        assert CONTACT in {message.id, *message.merged}


@pytest.mark.parametrize("name", LEADS)
def test_a_stored_batch_becomes_what_its_story_says(house: House, name: str) -> None:
    assigned, reasons = LEADS[name]
    assert house.send(load(name)) == [DONE]
    record = house.record()
    assert house.loads() == [1] * assigned
    assert [letter["reason"] for letter in house.dead_letters()] == reasons
    assert (house.owner() in house.portal.owners) is bool(assigned)
    assert (None if record is None else record.rep) == house.owner()


def test_a_redelivered_lead_keeps_its_first_owner(house: House) -> None:
    (before,), (again,) = (
        [Incoming.from_record(record) for record in load(name)["Records"]]
        for name in ("lead-queued", "lead-redelivered")
    )
    assert (again.id, again.receipts) == (before.id, before.receipts + 1)
    house.send(load("lead-queued"))
    first = house.record()
    assert house.send(load("lead-redelivered")) == [DONE]
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
    assert house.send({"Records": records}) == [DONE]
    assert house.loads() == [1]
    assert len(house.dead_letters()) == 1


# What becomes of a lead afterwards


def test_a_person_who_takes_a_lead_over_keeps_it_and_the_turn_goes_back(house: House) -> None:
    house.send(load("lead-queued"))
    other = house.taken_over()
    with caught_up():
        assert house.send(load("change-queued")) == [DONE]
    record = house.record()
    assert record is not None
    assert (record.state, record.rep, record.claim) == (State.EXTERNAL, other, None)
    snapshot = house.store.read([ROTA], [])
    assert {rep: load for rep, load in snapshot.loads.items() if load} == {other: 1}
    assert [snapshot.ledgers[ROTA].total(rep) for rep in house.portal.owners] == [0, 0]
    with caught_up(), caught_up():
        assert house.send(load("change-queued")) == [DONE]
    assert house.record() == record


def test_our_own_echo_changes_nothing(house: House) -> None:
    house.send(load("lead-queued"))
    before = house.record()
    with caught_up():
        assert house.send(load("change-queued")) == [DONE]
    assert house.record() == before


def test_a_merged_lead_lives_on_under_the_id_that_hubspot_answers_to(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.send(load("lead-queued"))
    rep = house.owner()
    message = Message.read(load("change-merged")["Records"][0]["body"])
    (other,) = set(message.merged) - {CONTACT}
    house.portal.create_contact({"email": "twin@example.net"}, id=other)
    monkeypatch.setattr(house.portal, "_next_id", lambda: message.id)
    house.portal.merge(CONTACT, other)
    with caught_up():
        assert house.send(load("change-merged")) == [DONE]
    old, new = house.record(), house.record(message.id)
    assert old is not None
    assert new is not None
    assert (old.state, old.merged_into) == (State.GONE, message.id)
    assert (new.state, new.rep) == (State.HANDED, rep)
    assert house.loads() == [1]


def test_while_hubspot_is_down_every_change_stays_in_its_queue(house: House) -> None:
    house.portal.down(9_999_999_999_999)
    event = load("change-queued")
    (answer,) = house.send(event)
    assert answer == {"batchItemFailures": [{"itemIdentifier": event["Records"][0]["messageId"]}]}
    assert house.queued("ChangesDeadLetters") == []


def test_an_imported_contact_that_a_rule_wants_is_sent_to_the_bulk_queue_and_never_before_a_form(house: House) -> None:
    assert house.send(changed(load("change-queued"), kinds=["creation"], changeSource="IMPORT")) == [DONE]
    (letter,) = house.queued("BulkQueue")
    assert Message.read(letter["body"]).id == CONTACT
    assert house.queued("LeadsQueue") == []


def test_what_hubspot_refuses_for_now_goes_back_to_the_queue_that_it_came_from(house: House) -> None:
    house.portal.down(9_999_999_999_999)
    bulk = house.stack.references["BulkQueue"]
    sqs = boto3.client("sqs")
    sqs.send_message(QueueUrl=bulk, MessageBody=load("lead-queued")["Records"][0]["body"])
    (message,) = sqs.receive_message(QueueUrl=bulk, MessageSystemAttributeNames=["All"])["Messages"]
    record = load("lead-queued")["Records"][0] | {
        "messageId": message["MessageId"],
        "receiptHandle": message["ReceiptHandle"],
        "eventSourceARN": house.stack.references["BulkQueue.Arn"],
    }
    delays: list[tuple[str, int]] = []
    boto3.DEFAULT_SESSION.events.register(  # type: ignore[union-attr]
        "before-parameter-build.sqs.ChangeMessageVisibilityBatch",
        lambda params, **_: delays.extend(
            (params["QueueUrl"], each["VisibilityTimeout"]) for each in params["Entries"]
        ),
    )
    forget()
    (answer,) = house.send({"Records": [record]})
    assert answer == {"batchItemFailures": [{"itemIdentifier": message["MessageId"]}]}
    assert [queue for queue, _ in delays] == [bulk]


def test_a_change_that_cannot_be_read_is_a_dead_letter_of_its_own_queue(house: House) -> None:
    assert house.send(changed(load("change-queued"), v=2)) == [DONE]
    (letter,) = house.queued("ChangesDeadLetters")
    assert (letter["reason"], letter["stage"]) == ("v: Input should be 1", "track")
    assert house.dead_letters() == []


def test_the_stored_tick_gives_a_waiting_lead_its_owner(house: House) -> None:
    house.store.move([waiting(CONTACT)])
    assert house.send(load("sweep")) == [None]
    record = house.record()
    assert record is not None
    assert record.state is State.HANDED
    assert house.owner() == record.rep
    assert house.loads() == [1]


def changed(event: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """The event with another message."""
    (record,) = event["Records"]
    return {"Records": [record | {"body": json.dumps(json.loads(record["body"]) | fields)}]}


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
        if "requestContext" in load(name):
            receive(sign(load(name), SECRET, URL, now_ms()))
    receive(sign({**load("contact-created"), "body": '[{"portalId": 62515, "occurredAt": 1}]'}, SECRET, URL, now_ms()))
    many = [json.loads(load("contact-created")["body"])[0] | {"objectId": n + 1} for n in range(11)]
    receive(sign({**load("contact-created"), "body": json.dumps(many)}, SECRET, URL, now_ms()))
    assert calls == granted(house.stack, "IntakeFunction")

    calls.clear()
    house.send(*(load(name) for name in LEADS))
    twin, third = (house.portal.create_contact({"email": f"{name}@example.net"}) for name in ("twin", "third"))
    house.portal.merge(third, twin)
    house.send(changed(load("lead-queued"), id=twin))
    rep = house.owner() or ""
    house.taken_over()
    house.send(changed(load("lead-queued"), kinds=["creation", "propertyChange"]))
    house.portal.change(CONTACT, {OWNER: rep})
    house.portal.down(9_999_999_999_999)
    house.send(load("lead-queued"))
    (record,) = load("lead-queued")["Records"]
    house.send({"Records": [record | {"eventSourceARN": house.stack.references["BulkQueue.Arn"]}]})
    assert calls == granted(house.stack, "AssignFunction") - polled(house.stack, "LeadsQueue", "BulkQueue")

    house.portal.down(0)
    forget()
    calls.clear()
    house.taken_over()
    imported = house.portal.create_contact({"email": "imported@example.net"}, source="IMPORT")
    restored = house.portal.create_contact({"email": "restored@example.net"})
    with caught_up():
        house.send(load("change-queued"), changed(load("change-queued"), v=2))
        house.send(changed(load("change-queued"), id=imported, kinds=["creation"], changeSource="IMPORT"))
        house.send(changed(load("change-queued"), id=restored, kinds=["restore"], changeSource="CRM_UI"))
    house.portal.down(9_999_999_999_999)
    house.send(load("change-queued"))
    assert calls == granted(house.stack, "TrackFunction") - polled(house.stack, "ChangesQueue")

    house.portal.down(0)
    refused = house.portal.create_contact({"email": "refused@example.net"})
    house.store.move([waiting(refused)])
    house.portal.refuse_owners(refused, "no")
    house.store.note_checkpoint(Checkpoint(began_at=1, done=True))  # the next one is due
    forget()
    calls.clear()
    house.send(load("sweep"))
    # A lead that is handed over and merged between sweep's reading and assign's is told to track.
    rare = {("sqs:SendMessage", house.stack.references["ChangesQueue.Arn"])}
    assert calls | rare == granted(house.stack, "SweepFunction")


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
        case "dynamodb", operation if "IndexName" in params:
            return {(f"dynamodb:{operation}", f"{table(stack, params['TableName'])}/index/{params['IndexName']}")}
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


def polled(stack: Stack, *queues: str) -> set[tuple[str, str]]:
    """What Lambda does, in the function's name, with the queues that it reads."""
    actions = ("ReceiveMessage", "DeleteMessage", "GetQueueAttributes")
    return {(f"sqs:{action}", stack.references[f"{queue}.Arn"]) for queue in queues for action in actions}
