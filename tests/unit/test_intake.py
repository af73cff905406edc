"""What intake answers, and what it puts into which queue, whatever HubSpot or a stranger sends."""

from __future__ import annotations

import json
import logging
import re
import time
from collections import Counter
from dataclasses import dataclass, field
from http import HTTPStatus
from threading import Event, Lock
from typing import TYPE_CHECKING, Any, cast

import pytest
from botocore.exceptions import ConnectTimeoutError
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from fairturn.deadline import Deadline
from fairturn.edges.queues import Queue
from fairturn.errors import SecretsUnavailable
from fairturn.intake import MAX_BODY_BYTES, MAX_EVENTS, SHOWN, Intake, Request
from fairturn.rules.events import Kind
from fairturn.rules.signature import sign
from fairturn.telemetry import Metric

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

    from fairturn.edges.credentials import Credentials

URL = "https://hooks.example.com/hubspot/an-unguessable-part"
SECRET = "the-current-secret"
NOW = 1_793_527_200_000
PORTAL = 62515
DEADLINE = Deadline(lambda: 30.0)
"""Far away."""
VALUE = "sesame"
"""The value of a property, which must not turn up anywhere."""


@dataclass
class Sqs:
    """Takes everything, unless the queue's URL is in `down` or `failing`."""

    sent: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    requests: Counter[str] = field(default_factory=Counter)
    down: str = ""
    failing: str = ""
    seconds: float = 0
    """How long each request takes."""
    let_go: Event | None = None
    """Until when a request hangs."""
    lock: Lock = field(default_factory=Lock)

    def send_message_batch(self, QueueUrl: str, Entries: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803
        with self.lock:
            self.requests[QueueUrl] += 1
        time.sleep(self.seconds)
        if self.let_go is not None:
            self.let_go.wait(timeout=10)
        if QueueUrl == self.down:
            raise ConnectTimeoutError(endpoint_url=QueueUrl)
        if QueueUrl == self.failing:
            return {"Failed": [{"Id": Entries[-1]["Id"], "Code": "InternalError", "SenderFault": False}]}
        with self.lock:
            self.sent.setdefault(QueueUrl, []).extend(Entries)
        return {}

    def bodies(self, queue: str) -> list[dict[str, Any]]:
        return [json.loads(entry["MessageBody"]) for entry in self.sent.get(queue, [])]

    def ids(self, queue: str) -> list[str]:
        return [body["id"] for body in self.bodies(queue)]


@dataclass
class Secrets:
    """Knows `now` until it is asked to look again, and `later` from then on."""

    now: tuple[str, ...] = (SECRET,)
    later: tuple[str, ...] | None = None
    refreshed: int = 0
    unavailable: bool = False

    def webhook_secrets(self, *, refresh: bool = False) -> tuple[str, ...]:
        if self.unavailable:
            raise SecretsUnavailable("arn:webhook is of no use")
        self.refreshed += refresh
        if refresh and self.later is not None:
            self.now = self.later
        return self.now


def intake(sqs: Sqs, secrets: Secrets | None = None) -> Intake:
    client = cast("SQSClient", sqs)
    return Intake(
        leads=Queue(client, "leads"),
        bulk=Queue(client, "bulk"),
        changes=Queue(client, "changes"),
        dead_letters=Queue(client, "dead-letters"),
        credentials=cast("Credentials", secrets or Secrets()),
        webhook_url=URL,
        portal=PORTAL,
    )


def request(body: bytes, secret: str = SECRET, at: int = NOW) -> Request:
    signature = sign(secret=secret, method="POST", url=URL, body=body, timestamp=str(at))
    headers = {"x-hubspot-signature-v3": signature, "x-hubspot-request-timestamp": str(at)}
    return Request("POST", headers, body)


def receive(sqs: Sqs, events: object, **fields: Any) -> HTTPStatus:
    body = events if isinstance(events, bytes) else json.dumps(events).encode()
    service, deadline = intake(sqs, fields.pop("secrets", None)), fields.pop("deadline", DEADLINE)
    return service.receive(request(body, **fields), now_ms=NOW, deadline=deadline)


def event(id_: object = 1, name: str = "contact.creation", source: str = "FORM", **fields: Any) -> dict[str, Any]:
    return {
        "eventId": 2905479219,
        "subscriptionId": 4578255,
        "portalId": PORTAL,
        "appId": 19635961,
        "occurredAt": NOW - 600,
        "subscriptionType": name,
        "attemptNumber": 0,
        "objectId": id_,
        "changeSource": source,
        **fields,
    }


@pytest.fixture(autouse=True)
def namespace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POWERTOOLS_METRICS_NAMESPACE", "Fairturn")


@pytest.fixture
def sqs() -> Sqs:
    return Sqs()


def metrics(capsys: pytest.CaptureFixture[str]) -> dict[Metric, float]:
    """What was counted so far."""
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if "_aws" in line]
    return {metric: line[metric][0] for line in lines for metric in Metric if metric in line}


# Sorting into queues


def test_a_creation_goes_to_leads_and_the_rest_to_changes(sqs: Sqs) -> None:
    answer = receive(
        sqs,
        [
            event(1, "contact.propertyChange", propertyName="email", propertyValue=VALUE),
            event(2, "object.creation", objectTypeId="0-1"),
            event(3, source="IMPORT"),
            event(4, "contact.deletion"),
        ],
    )
    assert answer is HTTPStatus.OK
    assert sqs.ids("leads") == ["2"]
    assert sqs.ids("changes") == ["1", "3", "4"]
    assert "dead-letters" not in sqs.requests


def test_no_property_value_leaves_intake(
    sqs: Sqs, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        receive(
            sqs,
            [
                event(1, "contact.propertyChange", propertyName="email", propertyValue=VALUE),
                event(None, "contact.propertyChange", propertyName="email", propertyValue=VALUE),
                event({"value": VALUE}, "contact.propertyChange", note=VALUE),
            ],
        )
    assert len(sqs.bodies("dead-letters")) == 2
    logged = "".join(str(record.__dict__) for record in caplog.records)
    assert VALUE not in f"{sqs.sent}{capsys.readouterr()}{logged}"


def test_nothing_to_do_is_done_without_a_request(sqs: Sqs) -> None:
    assert receive(sqs, []) is HTTPStatus.OK
    assert receive(sqs, [event(1, "company.creation")]) is HTTPStatus.OK
    assert not sqs.requests


def test_a_hundred_events_cost_at_most_twelve_requests(sqs: Sqs) -> None:
    for leads in range(101):
        for changes in {0, (100 - leads) // 2, 100 - leads}:
            events = [event(n + 1, source="FORM" if n < leads else "IMPORT") for n in range(leads + changes)]
            sqs.requests.clear()
            assert receive(sqs, events + [event(None)] * (100 - leads - changes)) is HTTPStatus.OK
            assert sqs.requests.total() <= 12


def test_there_is_one_log_line_for_a_request_however_many_events_it_has(
    sqs: Sqs, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        receive(sqs, [event(n + 1) for n in range(50)] + [event(None)] * 25 + [event(1, "deal.creation")] * 25)
    assert len(caplog.records) == 1
    line = caplog.records[0].__dict__
    assert line["leads"] == [str(n + 1) for n in range(50)]
    assert (line["events"], line["unasked"], line["dead_lettered"]) == (100, 25, 25)
    assert line["reasons"] == ["objectId: not a positive 64-bit whole number"]


# One event of a request


def test_an_event_that_cannot_be_understood_is_dead_lettered_and_the_rest_proceed(sqs: Sqs) -> None:
    answer = receive(sqs, [event("?"), event(2), {}, event(3, source="IMPORT")])
    assert answer is HTTPStatus.OK
    assert (sqs.ids("leads"), sqs.ids("changes")) == (["2"], ["3"])
    first, second = sqs.sent["dead-letters"]
    assert json.loads(first["MessageBody"]) == event("text of 1 characters")
    assert {name: attribute["StringValue"] for name, attribute in first["MessageAttributes"].items()} == {
        "reason": "objectId: not a positive 64-bit whole number",
        "stage": "intake",
    }
    assert second["MessageBody"] == "{}"


@pytest.mark.parametrize(
    "value",
    ["x" * 9_999, '"\\\n' * 99, "é🙂\ud800" * 99, 10**400, -(10**400), 1.5, True, None, [1], {"a": 1}],
)
def test_a_dead_letter_is_small_and_holds_only_plain_values(sqs: Sqs, value: object) -> None:
    fields = dict.fromkeys((*SHOWN, "propertyValue", "note"), value)
    assert receive(sqs, [fields | {"subscriptionType": "contact.creation"}]) is HTTPStatus.OK
    (letter,) = sqs.sent["dead-letters"]
    assert len(letter["MessageBody"].encode()) <= 1_024
    shown = json.loads(letter["MessageBody"])
    assert set(shown) <= set(SHOWN)
    assert all(isinstance(each, str | int) for each in shown.values())


def test_events_of_another_portal_and_unasked_types_are_counted_and_dropped(
    sqs: Sqs, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = receive(
        sqs,
        [
            event(1, portalId=1),
            event(2, portalId=1),
            event(3, "deal.creation"),
            event(None),
            event(5),
            event(6),
        ],
    )
    assert answer is HTTPStatus.OK
    assert sqs.ids("leads") == ["5", "6"]
    assert metrics(capsys) == {
        Metric.EVENTS_RECEIVED: 6,
        Metric.OTHER_PORTAL: 2,
        Metric.DEAD_LETTERED: 1,
    }


def test_what_did_not_happen_is_not_counted(sqs: Sqs, capsys: pytest.CaptureFixture[str]) -> None:
    receive(sqs, [event(1)])
    assert metrics(capsys) == {Metric.EVENTS_RECEIVED: 1}
    receive(sqs, [])
    assert metrics(capsys) == {}


def test_the_portal_may_come_as_digits(sqs: Sqs) -> None:
    receive(sqs, [event(1, portalId=str(PORTAL))])
    assert sqs.ids("leads") == ["1"]


def test_what_is_said_to_happen_in_the_future_happens_now(sqs: Sqs) -> None:
    receive(sqs, [event(1, occurredAt=9_999_999_999_999), event(2, "contact.deletion", occurredAt=NOW + 1)])
    assert [body["occurredAt"] for body in sqs.bodies("leads") + sqs.bodies("changes")] == [NOW, NOW]


def test_events_of_the_test_button_are_counted_and_end_here(
    sqs: Sqs, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    test = event(123, source="CRM", eventId=100)
    with caplog.at_level(logging.INFO):
        assert receive(sqs, [test, event(1), test, event(123), event(None, eventId=100)]) is HTTPStatus.OK
    assert sqs.ids("leads") == ["1", "123"]
    assert [record.__dict__["tests"] for record in caplog.records] == [2]
    assert metrics(capsys) == {
        Metric.EVENTS_RECEIVED: 5,
        Metric.DEAD_LETTERED: 1,
    }


# The signature


def test_an_unsigned_request_is_refused_and_the_reason_is_only_logged(
    sqs: Sqs, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    answer = intake(sqs).receive(Request("POST", {}, b"[]"), now_ms=NOW, deadline=DEADLINE)
    assert answer is HTTPStatus.UNAUTHORIZED
    assert metrics(capsys) == {}
    assert [record.__dict__["reason"] for record in caplog.records] == ["a signature header is missing"]
    assert not sqs.requests


@pytest.mark.parametrize("body", [b"{", b"\xff", b"[" * 300_000])
def test_the_body_is_not_read_before_the_signature_holds(sqs: Sqs, body: bytes) -> None:
    assert receive(sqs, body, secret="another") is HTTPStatus.UNAUTHORIZED
    assert receive(sqs, body) is HTTPStatus.BAD_REQUEST


def test_a_stale_request_is_refused(sqs: Sqs) -> None:
    assert receive(sqs, [event()], at=NOW - 300_001) is HTTPStatus.UNAUTHORIZED


def test_a_signature_for_another_url_is_refused(sqs: Sqs) -> None:
    signature = sign(secret=SECRET, method="POST", url=URL + "/", body=b"[]", timestamp=str(NOW))
    headers = {"x-hubspot-signature-v3": signature, "x-hubspot-request-timestamp": str(NOW)}
    assert (
        intake(sqs).receive(Request("POST", headers, b"[]"), now_ms=NOW, deadline=DEADLINE) is HTTPStatus.UNAUTHORIZED
    )


def test_a_replaced_secret_is_read_anew_when_a_signature_fails(sqs: Sqs) -> None:
    secrets = Secrets(later=("replaced", SECRET))
    assert receive(sqs, [event(1)], secret="replaced", secrets=secrets) is HTTPStatus.OK
    assert receive(sqs, [event(2)], secrets=secrets) is HTTPStatus.OK
    assert secrets.refreshed == 1
    assert sqs.ids("leads") == ["1", "2"]


def test_secrets_are_read_anew_once_for_a_request(sqs: Sqs, capsys: pytest.CaptureFixture[str]) -> None:
    for later in (None, ("replaced",)):
        secrets = Secrets(later=later)
        assert receive(sqs, [event()], secret="wrong", secrets=secrets) is HTTPStatus.UNAUTHORIZED
        assert secrets.refreshed == 1
        assert metrics(capsys) == {}


def test_without_secrets_hubspot_is_asked_to_come_again(sqs: Sqs, capsys: pytest.CaptureFixture[str]) -> None:
    assert receive(sqs, [event()], secrets=Secrets(unavailable=True)) is HTTPStatus.SERVICE_UNAVAILABLE
    assert not sqs.requests
    assert metrics(capsys) == {}


# The body


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{}",
        b"null",
        b"1",
        b'"[]"',
        b"[1]",
        b"[{}, []]",
        b"[{},]",
        b"[] []",
        b"[NaN]",
        b'[{"objectId": NaN}]',
        b'[{"objectId": -Infinity}]',
        b"\xef\xbb\xbf[]",
        b'[{"a": "\xff"}]',
        b"[" * 100_000,
        b'[{"a":' * 100_000,
        b'[{"objectId": ' + b"9" * 5_000 + b"}]",
        "[]".encode("utf-16"),
    ],
)
def test_what_is_not_a_json_array_of_objects_is_refused(sqs: Sqs, body: bytes) -> None:
    assert receive(sqs, body) is HTTPStatus.BAD_REQUEST
    assert not sqs.requests


@pytest.mark.parametrize(
    ("body", "ids"),
    [
        (b'[{"objectId": 7, "objectId": 8, %s}]', ["8"]),
        (b'[{"objectId": 7, "propertyValue": "\\ud83d", "\\ud83d": 1, %s}]', ["7"]),
        (b'[{"objectId": 7, "changeSource": "\\ud83d", %s}]', ["7"]),
        (b'[{"objectId": 7, "more": ' + b"[" * 400 + b"]" * 400 + b", %s}]", ["7"]),
        (b'[{"objectId": 1e999, %s}]', []),
        (b'[{"objectId": %s}]' % (b"9" * 400 + b", %s"), []),
    ],
)
def test_odd_but_valid_json_is_taken(sqs: Sqs, body: bytes, ids: list[str]) -> None:
    rest = json.dumps({"subscriptionType": "contact.creation", "portalId": PORTAL, "occurredAt": NOW})[1:-1]
    assert receive(sqs, body.replace(b"%s", rest.encode())) is HTTPStatus.OK
    assert sqs.ids("leads") == ids
    assert len(sqs.bodies("dead-letters")) == 1 - len(ids)


def test_a_body_may_have_one_mebibyte_and_not_a_byte_more(sqs: Sqs) -> None:
    padding = b" " * (MAX_BODY_BYTES - 2)
    assert MAX_BODY_BYTES == 2**20
    assert receive(sqs, b"[" + padding + b"]") is HTTPStatus.OK
    assert receive(sqs, b"[" + padding + b" ]") is HTTPStatus.REQUEST_ENTITY_TOO_LARGE


def test_too_large_a_body_is_refused_before_anything_is_looked_at(sqs: Sqs) -> None:
    body = b"x" * (MAX_BODY_BYTES + 1)
    answer = intake(sqs, Secrets(unavailable=True)).receive(Request("POST", {}, body), now_ms=NOW, deadline=DEADLINE)
    assert answer is HTTPStatus.REQUEST_ENTITY_TOO_LARGE


def test_more_events_than_can_be_queued_in_time_are_refused(sqs: Sqs) -> None:
    assert receive(sqs, [event(n + 1) for n in range(MAX_EVENTS)]) is HTTPStatus.OK
    assert receive(sqs, [{}] * (MAX_EVENTS + 1)) is HTTPStatus.REQUEST_ENTITY_TOO_LARGE


# The queues


@pytest.mark.parametrize("queue", ["leads", "changes", "dead-letters"])
@pytest.mark.parametrize("how", ["down", "failing"])
def test_hubspot_is_asked_to_come_again_unless_sqs_took_everything(
    queue: str, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    sqs = Sqs(down=queue) if how == "down" else Sqs(failing=queue)
    answer = receive(sqs, [event(1), event(2, source="IMPORT"), event(None)])
    assert answer is HTTPStatus.SERVICE_UNAVAILABLE
    assert metrics(capsys) == {}


def test_a_hundred_events_are_taken_well_within_hubspots_five_seconds_though_sqs_is_slow(
    sqs: Sqs, capsys: pytest.CaptureFixture[str]
) -> None:
    sqs.seconds = 0.5
    events = [event(n + 1, source="FORM" if n < 80 else "IMPORT") for n in range(90)]
    began = time.monotonic()
    assert receive(sqs, events + [event(None)] * 10, deadline=Deadline.after(3.5)) is HTTPStatus.OK
    assert time.monotonic() - began < 3
    assert [len(sqs.bodies(queue)) for queue in ("bulk", "changes", "dead-letters")] == [80, 10, 10]
    assert metrics(capsys) == {Metric.EVENTS_RECEIVED: 100, Metric.DEAD_LETTERED: 10}


@pytest.mark.parametrize(("number", "queue"), [(1, "leads"), (10, "leads"), (11, "bulk")])
def test_a_few_leads_are_queued_for_themselves_and_more_in_numbers(sqs: Sqs, number: int, queue: str) -> None:
    changes = [event(100 + n, source="IMPORT") for n in range(20)]
    assert receive(sqs, [*changes, *(event(n + 1) for n in range(number))]) is HTTPStatus.OK
    assert sorted(sqs.ids(queue), key=int) == [str(n + 1) for n in range(number)]
    assert sqs.sent.keys() == {queue, "changes"}


ONE_FOR: dict[str, dict[str, Any]] = {
    "leads": event(1),
    "changes": event(2, source="IMPORT"),
    "dead-letters": event(None),
}
"""An event for each queue."""


@pytest.mark.parametrize("queue", ONE_FOR)
@pytest.mark.parametrize("count", [1, 100])
def test_while_sqs_hangs_the_answer_still_comes_in_time(
    sqs: Sqs, capsys: pytest.CaptureFixture[str], queue: str, count: int
) -> None:
    sqs.let_go = Event()
    events = [ONE_FOR[queue] | {"objectId": ONE_FOR[queue]["objectId"] and n + 1} for n in range(count)]
    began = time.monotonic()
    assert receive(sqs, events, deadline=Deadline.after(0.3)) is HTTPStatus.SERVICE_UNAVAILABLE
    assert time.monotonic() - began < 2
    sqs.let_go.set()
    assert metrics(capsys) == {}


@pytest.mark.parametrize("queue", ONE_FOR)
def test_nothing_is_queued_that_could_not_be_answered_for(sqs: Sqs, queue: str) -> None:
    late = Deadline(lambda: 0.0)
    assert receive(sqs, [ONE_FOR[queue]], deadline=late) is HTTPStatus.SERVICE_UNAVAILABLE
    assert not sqs.requests


# Anything


@given(st.data())
def test_a_dead_letter_holds_whole_numbers_and_hubspots_words_and_no_text_of_an_event(data: st.DataObject) -> None:
    texts = st.text(st.characters(codec=None, exclude_categories=()), max_size=60) | st.sampled_from(
        [VALUE, "anna@example.com", "+44 20 7946 0000", "Via Roma 1", "userId:98499705", "FORM ", "\u0661", "1\n"]
    )
    numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)  # the others are no JSON
    fields = data.draw(st.dictionaries(st.sampled_from(list(SHOWN)), texts | numbers, min_size=1))
    sqs = Sqs()
    receive(sqs, [{**fields, "subscriptionType": "contact.creation", "objectId": None}])
    (shown,) = sqs.bodies("dead-letters")
    for name, value in fields.items():
        if name in {"subscriptionType", "objectId"}:
            continue
        if isinstance(value, str) and value not in SHOWN[name] and not re.fullmatch(r"[0-9]{1,19}", value):
            assert shown[name] == f"text of {len(value)} characters"
        elif isinstance(value, str) or (isinstance(value, int) and abs(value) < 2**63):
            assert shown[name] == value
        else:
            assert shown[name] == "another number"


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(codec=None, exclude_categories=()), max_size=20)
    | st.sampled_from([PORTAL, NOW, "0-1", *(f"{noun}.{kind}" for noun in ("contact", "object") for kind in Kind)]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(list(event())) | st.text(), inner),
    max_leaves=20,
)
events_of_any_shape = st.lists(
    st.dictionaries(st.sampled_from([*event(), "objectTypeId", "primaryObjectId", "mergedObjectIds"]), json_values).map(
        lambda fields: event() | fields
    )
)


@given(st.binary(max_size=200) | (json_values | events_of_any_shape).map(lambda value: json.dumps(value).encode()))
@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_signed_body_is_taken_or_refused(body: bytes) -> None:
    assert receive(Sqs(), body) in (HTTPStatus.OK, HTTPStatus.BAD_REQUEST)


@given(
    st.dictionaries(
        st.sampled_from(["x-hubspot-signature-v3", "x-hubspot-request-timestamp"]),
        st.text(st.characters(codec=None, exclude_categories=())) | st.just(str(NOW)),
    )
)
@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_headers_of_a_stranger_are_refused(headers: dict[str, str]) -> None:
    assert (
        intake(Sqs()).receive(Request("POST", headers, b"[]"), now_ms=NOW, deadline=DEADLINE) is HTTPStatus.UNAUTHORIZED
    )
