"""Sending, putting back and deleting: ten at a time, and nothing fails in silence."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any, cast

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError
from hypothesis import given
from hypothesis import strategies as st

from fairturn.errors import QueueUnavailable
from fairturn.queues import MAX_BATCH_BYTES, Letter, Queue, Received, growing_delay

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

URL = "https://sqs.example.com/123456789012/leads"


class Sqs:
    """Takes every batch, but for the entries whose number (over all requests) is in `failing`.

    A request whose number is in `down` fails as a whole.
    """

    def __init__(self, failing: dict[int, str] | None = None, down: dict[int, Exception] | None = None) -> None:
        self.requests: list[list[dict[str, Any]]] = []
        self.failing = failing or {}
        self.down = down or {}

    def _take(self, QueueUrl: str, Entries: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803
        assert QueueUrl == URL
        assert len({entry["Id"] for entry in Entries}) == len(Entries)
        before = sum(len(entries) for entries in self.requests)
        self.requests.append(Entries)
        if error := self.down.get(len(self.requests) - 1):
            raise error
        failed = [
            {"Id": entry["Id"], "Code": self.failing[before + n], "SenderFault": False}
            for n, entry in enumerate(Entries)
            if before + n in self.failing
        ]
        return {"Failed": failed} if failed else {}

    send_message_batch = change_message_visibility_batch = delete_message_batch = _take

    @property
    def sizes(self) -> list[int]:
        return [len(entries) for entries in self.requests]

    @property
    def entries(self) -> list[dict[str, Any]]:
        return [entry for entries in self.requests for entry in entries]


def queue(sqs: Sqs) -> Queue:
    return Queue(cast("SQSClient", sqs), URL)


def letters(count: int) -> list[Letter]:
    return [Letter(f"letter {n}") for n in range(count)]


def received(count: int) -> list[Received]:
    return [Received(f"id-{n}", f"handle-{n}", "{}", 1) for n in range(count)]


def throttled() -> ClientError:
    return ClientError({"Error": {"Code": "RequestThrottled", "Message": "lead@example.com"}}, "SendMessageBatch")


@pytest.mark.parametrize(
    ("count", "sizes"),
    [(0, []), (1, [1]), (10, [10]), (11, [10, 1]), (100, [10] * 10), (101, [*[10] * 10, 1])],
)
def test_ten_at_a_time_and_nothing_for_nothing(count: int, sizes: list[int]) -> None:
    for act in ("send", "put back", "delete"):
        sqs = Sqs()
        if act == "send":
            queue(sqs).send(letters(count))
            assert [entry["MessageBody"] for entry in sqs.entries] == [each.body for each in letters(count)]
        if act == "put back":
            queue(sqs).put_back([(each, n) for n, each in enumerate(received(count))])
            assert [entry["VisibilityTimeout"] for entry in sqs.entries] == list(range(count))
        if act == "delete":
            queue(sqs).delete(received(count))
        if act != "send":
            assert [entry["ReceiptHandle"] for entry in sqs.entries] == [each.handle for each in received(count)]
        assert sqs.sizes == sizes


def test_attributes_are_strings() -> None:
    sqs = Sqs()
    queue(sqs).send([Letter("{}", {"reason": "no such owner", "stage": "assign"})])
    assert sqs.entries[0]["MessageAttributes"] == {
        "reason": {"DataType": "String", "StringValue": "no such owner"},
        "stage": {"DataType": "String", "StringValue": "assign"},
    }


@given(st.lists(st.tuples(st.text("aé🙂", max_size=9), st.integers(0, MAX_BATCH_BYTES // 48)), max_size=30))
def test_no_request_is_larger_than_sqs_takes(some: list[tuple[str, int]]) -> None:
    sqs = Sqs()
    sent = [Letter(text * times, {"reason": text}) if text else Letter("x" * times) for text, times in some]
    queue(sqs).send(sent)
    assert [entry["MessageBody"] for entry in sqs.entries] == [each.body for each in sent]
    for entries in sqs.requests:
        attributes = sum(
            len(f"{name}{value['DataType']}{value['StringValue']}".encode())
            for entry in entries
            for name, value in entry["MessageAttributes"].items()
        )
        assert len(entries) <= 10
        assert sum(len(entry["MessageBody"].encode()) for entry in entries) + attributes <= MAX_BATCH_BYTES


def test_letters_that_fill_a_request_to_the_byte_share_it() -> None:
    half = 131_072
    for size, sizes in ((half, [2, 2]), (half + 1, [1, 1, 1, 1])):
        sqs = Sqs()
        queue(sqs).send([Letter("x" * size)] * 4)
        assert sqs.sizes == sizes


def test_names_types_and_values_of_attributes_count_as_well() -> None:
    half = 131_072 - len("reasonStringé".encode())
    for size, sizes in ((half, [2]), (half + 1, [1, 1])):
        sqs = Sqs()
        queue(sqs).send([Letter("x" * size, {"reason": "é"})] * 2)
        assert sqs.sizes == sizes


def test_one_that_is_not_taken_is_an_error_after_all_others_were_tried() -> None:
    sqs = Sqs(failing={3: "InternalError", 12: "InternalError"})
    with pytest.raises(QueueUnavailable, match=r"could not send 2 of 25: InternalError"):
        queue(sqs).send(letters(25))
    assert sqs.sizes == [10, 10, 5]


def test_one_that_cannot_be_deleted_is_an_error() -> None:
    sqs = Sqs(failing={0: "ReceiptHandleIsInvalid"})
    with pytest.raises(QueueUnavailable, match=r"could not delete 1 of 11: ReceiptHandleIsInvalid"):
        queue(sqs).delete(received(11))
    assert sqs.sizes == [10, 1]


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (throttled(), "RequestThrottled"),
        (ReadTimeoutError(endpoint_url="https://sqs.example.com"), "ReadTimeoutError"),
    ],
)
def test_a_request_that_fails_as_a_whole_ends_the_sending(error: Exception, name: str) -> None:
    sqs = Sqs(failing={0: "InternalError"}, down={1: error})
    with pytest.raises(QueueUnavailable, match=rf"^could not send 16 of 25: {name}$") as failure:
        queue(sqs).send(letters(25))
    assert failure.value.__cause__ is error
    assert sqs.sizes == [10, 10]


@pytest.mark.parametrize(
    "code",
    [
        "ReceiptHandleIsInvalid",
        "InvalidParameterValue",
        "MessageNotInflight",
        "AWS.SimpleQueueService.MessageNotInflight",
    ],
)
def test_putting_back_what_is_no_longer_ours_is_only_logged(code: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        queue(Sqs(failing={1: code})).put_back([(each, 2) for each in received(2)])
    assert [record.__dict__["message_ids"] for record in caplog.records] == [["id-1"]]


def test_putting_back_what_sqs_refuses_otherwise_is_an_error() -> None:
    sqs = Sqs(failing={0: "InternalError", 1: "ReceiptHandleIsInvalid"})
    with pytest.raises(QueueUnavailable, match=r"could not put back 1 of 2: InternalError"):
        queue(sqs).put_back([(each, 2) for each in received(2)])


def test_nothing_is_put_back_for_longer_than_sqs_hides_it() -> None:
    sqs = Sqs()
    queue(sqs).put_back([(each, seconds) for each, seconds in zip(received(2), (0, 86_400), strict=True)])
    assert [entry["VisibilityTimeout"] for entry in sqs.entries] == [0, 42_000]


def test_a_record_of_lambdas_event_is_read() -> None:
    record = json.loads(
        '{"messageId":"m-1","receiptHandle":"h-1","body":"{}","attributes":{"ApproximateReceiveCount":"3",'
        '"SentTimestamp":"1793527199400"},"messageAttributes":{},"eventSource":"aws:sqs"}'
    )
    assert Received.from_record(record) == Received("m-1", "h-1", "{}", 3)


@pytest.mark.parametrize(
    ("receipts", "jitter", "seconds"),
    [
        (1, 1.0, 2),
        (3, 1.0, 8),
        (3, 0.8, 6),
        (9, 1.0, 512),
        (10, 1.0, 900),
        (100, 0.8, 720),
        (10**9, 1.0, 900),
        (0, 0.8, 1),
    ],
)
def test_delays_double_up_to_a_quarter_of_an_hour(receipts: int, jitter: float, seconds: int) -> None:
    assert growing_delay(receipts, jitter) == seconds


@given(st.integers(1, 200), st.floats(0.8, 1))
def test_a_delay_is_whole_seconds_within_bounds_and_never_shrinks(receipts: int, jitter: float) -> None:
    delay = growing_delay(receipts, jitter)
    assert isinstance(delay, int)
    assert 1 <= delay <= 900
    assert growing_delay(receipts + 1, jitter) >= delay
