"""The real handler of intake, given what API Gateway sends. SQS and Secrets Manager are moto's."""

from __future__ import annotations

import json
import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import boto3
import pytest
import time_machine

from fairturn.intake import MOST_AT_ONCE
from fairturn.rules.events import Message
from fairturn.settings import settings
from fairturn_sandbox.events import load, names, sign
from functions.intake import app

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_secretsmanager import SecretsManagerClient
    from mypy_boto3_sqs import SQSClient

URL = "https://a1b2c3d4e5.execute-api.eu-central-1.amazonaws.com/hubspot/an-unguessable-part"
SECRET = "the-current-secret"
QUEUES = ("leads", "bulk", "changes", "dead-letters")
CONTACT = 546500061938


@dataclass(frozen=True)
class Context:
    """What Lambda tells a function about itself."""

    function_name: str = "intake"
    memory_limit_in_mb: int = 512
    invoked_function_arn: str = "arn:aws:lambda:eu-central-1:123456789012:function:intake"
    aws_request_id: str = "6b1f7a30-0000-4000-8000-000000000000"
    left: int = 30_000

    def get_remaining_time_in_millis(self) -> int:
        return self.left


@dataclass
class Cloud:
    """What stands around intake, and what it has been asked."""

    sqs: SQSClient
    secrets: SecretsManagerClient
    urls: dict[str, str]
    asked: list[str] = field(default_factory=list)

    def bodies(self, queue: str) -> list[str]:
        """Take all that is in a queue."""
        bodies: list[str] = []
        while messages := self.sqs.receive_message(QueueUrl=self.urls[queue], MaxNumberOfMessages=10).get("Messages"):
            bodies += [message["Body"] for message in messages]
        return bodies

    def messages(self, queue: str) -> list[Message]:
        return [Message.read(body) for body in self.bodies(queue)]


@pytest.fixture
def cloud(aws: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:  # noqa: ARG001 - it must be there first
    sqs = boto3.client("sqs")
    secrets = boto3.client("secretsmanager")
    urls = {name: sqs.create_queue(QueueName=name)["QueueUrl"] for name in QUEUES}
    arn = secrets.create_secret(Name="webhook", SecretString=json.dumps({"current": SECRET}))["ARN"]
    for name, value in {
        "TABLE_NAME": "not-for-intake",
        "LEADS_QUEUE_URL": urls["leads"],
        "BULK_QUEUE_URL": urls["bulk"],
        "CHANGES_QUEUE_URL": urls["changes"],
        "LEADS_DEAD_LETTERS_URL": urls["dead-letters"],
        "CHANGES_DEAD_LETTERS_URL": "not-for-intake",
        "WEBHOOK_URL": URL,
        "WEBHOOK_SECRET_ARN": arn,
        "HUBSPOT_TOKEN_ARN": "not-for-intake",
        "HUBSPOT_PORTAL_ID": "62515",
        "POWERTOOLS_METRICS_NAMESPACE": "Fairturn",
    }.items():
        monkeypatch.setenv(name, value)
    cloud = Cloud(sqs, secrets, urls)
    monkeypatch.setattr(boto3, "client", watched(cloud.asked))
    forget()
    yield cloud
    forget()


def forget() -> None:
    """Make the function start cold."""
    settings.cache_clear()
    app.intake.cache_clear()


def watched(asked: list[str]) -> Any:
    """Make clients as boto3 does, but note each request that they send."""
    make = boto3.client

    def client(*args: Any, **kwargs: Any) -> Any:
        made: Any = make(*args, **kwargs)
        made.meta.events.register("before-send", lambda event_name, **_: asked.append(event_name.partition(".")[2]))
        return made

    return client


def send(event: dict[str, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = app.handler(json.loads(json.dumps(event)), Context())  # type: ignore[arg-type]
    return answer


def fresh(name: str = "contact-created", secret: str = SECRET) -> dict[str, Any]:
    return sign(load(name), secret, URL, int(time.time() * 1000))


def body_of(event: dict[str, Any], events: object) -> dict[str, Any]:
    """The same event with another body, signed for it."""
    return sign({**event, "body": json.dumps(events)}, SECRET, URL, int(time.time() * 1000))


STORIES: dict[str, tuple[int, list[tuple[str, list[str], str]], list[tuple[str, list[str], str]]]] = {
    "contact-created": (200, [(f"{CONTACT}", ["creation"], "FORM")], []),
    "contact-created-generic": (200, [(f"{CONTACT + 1}", ["creation"], "INTEGRATION")], []),
    "contact-created-with-properties": (
        200,
        [(f"{CONTACT + 2}", ["creation", "propertyChange"], "CRM_UI")],
        [],
    ),
    "contacts-imported": (200, [], [(f"{CONTACT + n}", ["creation"], "IMPORT") for n in (10, 11, 12)]),
    "contact-merged": (200, [], [(f"{CONTACT + 20}", ["merge"], "CRM_UI")]),
    "contact-deleted": (200, [], [(f"{CONTACT}", ["deletion"], "CRM_UI")]),
    "contact-privacy-deleted": (
        200,
        [],
        [(f"{CONTACT}", ["deletion"], "CRM_UI"), (f"{CONTACT}", ["privacyDeletion"], "CRM_UI")],
    ),
    "contact-restored": (200, [], [(f"{CONTACT}", ["restore"], "CRM_UI")]),
    "contact-owner-changed": (200, [], [(f"{CONTACT}", ["propertyChange"], "CRM_UI")]),
    "ui-test-button": (200, [], []),
    "webhook-not-signed": (401, [], []),
    "webhook-base64": (200, [(f"{CONTACT + 31}", ["creation"], "CRM_UI")], []),
}
"""What becomes of each stored webhook: the answer, what is in leads, what is in changes."""


def test_every_stored_webhook_has_its_story() -> None:
    assert [name for name in names() if "requestContext" in load(name)] == sorted(STORIES)


@pytest.mark.parametrize("name", STORIES)
def test_a_stored_webhook_becomes_what_its_story_says(cloud: Cloud, name: str) -> None:
    status, leads, changes = STORIES[name]
    assert send(fresh(name)) == {"statusCode": status, "body": ""}
    for queue, expected in (("leads", leads), ("changes", changes), ("dead-letters", [])):
        told = [(message.id, list(message.kinds), message.change_source) for message in cloud.messages(queue)]
        assert sorted(told) == expected


def test_a_merge_says_which_ids_lead_to_the_survivor(cloud: Cloud) -> None:
    send(fresh("contact-merged"))
    assert [message.merged for message in cloud.messages("changes")] == [(f"{CONTACT}", f"{CONTACT + 1}")]


def test_what_is_queued_happened_when_hubspot_says(cloud: Cloud) -> None:
    with time_machine.travel(1_800_000_000, tick=False):
        send(fresh("contact-created"))
        assert [message.occurred_at for message in cloud.messages("leads")] == [1_800_000_000_000]


def test_a_stored_webhook_is_stale_until_it_is_signed_anew(cloud: Cloud) -> None:
    assert send(load("contact-created"))["statusCode"] == 401
    with time_machine.travel(int(load("contact-created")["headers"]["x-hubspot-request-timestamp"]) / 1000):
        assert send(load("contact-created"))["statusCode"] == 401  # signed with a secret that nobody has
        assert send(fresh("contact-created"))["statusCode"] == 200
        assert len(cloud.bodies("leads")) == 1


def test_a_replaced_secret_is_learnt_from_the_first_request_signed_with_it(cloud: Cloud) -> None:
    assert send(fresh(secret="replaced"))["statusCode"] == 401
    assert send(fresh())["statusCode"] == 200
    cloud.secrets.put_secret_value(
        SecretId="webhook", SecretString=json.dumps({"current": "replaced", "previous": SECRET})
    )
    assert send(fresh(secret="replaced"))["statusCode"] == 401  # asked less than five seconds ago
    forget()
    assert send(fresh(secret="replaced"))["statusCode"] == 200
    assert send(fresh())["statusCode"] == 200


def test_before_the_secret_is_put_hubspot_is_asked_to_come_again(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    arn = cloud.secrets.create_secret(Name="without-a-value")["ARN"]
    monkeypatch.setenv("WEBHOOK_SECRET_ARN", arn)
    forget()
    assert send(fresh()) == {"statusCode": 503, "body": ""}
    assert [f'cannot read {arn}; it should hold {{"current": ' in line["reason"] for line in logged(caplog)] == [True]


@pytest.mark.parametrize("queue", QUEUES)
def test_a_queue_that_is_not_there_makes_hubspot_come_again(cloud: Cloud, queue: str) -> None:
    cloud.sqs.delete_queue(QueueUrl=cloud.urls[queue])
    created = json.loads(load("contact-created")["body"])[0]
    leads = [created | {"objectId": 2 + n} for n in range(MOST_AT_ONCE + 1 if queue == "bulk" else 1)]
    imported = created | {"objectId": 1, "changeSource": "IMPORT"}
    event = body_of(load("contact-created"), [*leads, imported, created | {"objectId": None}])
    assert send(event) == {"statusCode": 503, "body": ""}


@pytest.mark.parametrize(("left", "status"), [(500, 503), (3_500, 200)])
def test_half_a_second_of_the_functions_time_is_kept_for_the_answer(cloud: Cloud, left: int, status: int) -> None:
    assert app.handler(fresh(), Context(left=left)) == {"statusCode": status, "body": ""}  # type: ignore[arg-type]
    assert len(cloud.messages("leads")) == (status == 200)


def test_a_dead_letter_carries_its_reason(cloud: Cloud) -> None:
    created = json.loads(load("contact-created")["body"])[0]
    event = body_of(load("contact-created"), [created | {"objectId": None, "propertyValue": "lead@example.com"}])
    assert send(event)["statusCode"] == 200
    (letter,) = cloud.sqs.receive_message(QueueUrl=cloud.urls["dead-letters"], MessageAttributeNames=["All"])[
        "Messages"
    ]
    assert {name: value["StringValue"] for name, value in letter["MessageAttributes"].items()} == {
        "reason": "objectId: not a positive 64-bit whole number",
        "stage": "intake",
    }
    assert "lead@example.com" not in letter["Body"]


@pytest.mark.parametrize("body", ["=", "W10", "W10=\n", "é", "[]"])
def test_a_body_that_is_not_base64_though_it_should_be_is_refused(cloud: Cloud, body: str) -> None:
    event = fresh("webhook-base64")
    assert send({**event, "body": body}) == {"statusCode": 400, "body": ""}
    assert cloud.asked == []


def test_a_body_with_half_a_character_is_refused(cloud: Cloud) -> None:
    assert send({**fresh(), "body": "\ud800"}) == {"statusCode": 400, "body": ""}
    assert cloud.asked == []


@pytest.mark.usefixtures("cloud")
@pytest.mark.parametrize("body", [None, ""])
def test_an_empty_body_is_not_signed_for(body: str | None) -> None:
    assert send({**fresh(), "body": body})["statusCode"] == 401


def test_a_hundred_events_cost_at_most_twelve_requests_and_the_first_one_a_secret(cloud: Cloud) -> None:
    created = json.loads(load("contact-created")["body"])[0]
    events = [created | {"objectId": 1 + n, "changeSource": "IMPORT" if n < 41 else "FORM"} for n in range(82)]
    event = body_of(load("contact-created"), [*events, *[created | {"objectId": None}] * 18])
    for secrets in (["secrets-manager.GetSecretValue"], []):
        cloud.asked.clear()
        assert send(event)["statusCode"] == 200
        assert cloud.asked == [*secrets, *["sqs.SendMessageBatch"] * 12]
    assert len(cloud.messages("bulk")) == len(cloud.messages("changes")) == 82


@pytest.mark.usefixtures("cloud")
def test_the_logs_and_metrics_say_nothing_about_people(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        send(fresh("contact-created-with-properties"))
    assert [line["message"] for line in logged(caplog)] == ["webhook taken"]
    said = f"{logged(caplog)}{capsys.readouterr()}"
    assert "EventsReceived" in said
    assert "lead@example.com" not in said
    assert "an-unguessable-part" not in said


def logged(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [record.__dict__ for record in caplog.records if record.name != "botocore.credentials"]


def test_an_event_that_is_not_stored_is_answered_with_those_that_are() -> None:
    with pytest.raises(LookupError, match=r"'contact-sold'; there are .*, contact-created, "):
        load("contact-sold")


def test_an_event_is_signed_for_the_url_it_is_sent_to_and_its_story_is_kept() -> None:
    stored = load("contacts-imported")
    event = sign(stored, SECRET, "https://hooks.example.com/hubspot/key", 1_800_000_000_000)
    assert event["routeKey"] == event["requestContext"]["routeKey"] == "POST /hubspot/key"
    assert event["headers"]["host"] == "hooks.example.com"
    assert event["headers"]["content-length"] == str(len(event["body"]))
    times = [each["occurredAt"] for each in json.loads(event["body"])]
    assert times == [1_799_999_999_998, 1_799_999_999_999, 1_800_000_000_000]
    assert stored == load("contacts-imported")
