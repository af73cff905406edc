"""Sending, putting back and deleting: ten at a time, side by side, and nothing fails in silence."""

from __future__ import annotations

import json
import logging
import time
from threading import Barrier, Event, Lock, Thread, current_thread
from typing import TYPE_CHECKING, Any, cast

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError
from hypothesis import given
from hypothesis import strategies as st

from fairturn.deadline import Deadline
from fairturn.edges.queues import MAX_BATCH_BYTES, Incoming, Outgoing, Queue, growing_delay
from fairturn.errors import QueueUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mypy_boto3_sqs import SQSClient

URL = "https://sqs.example.com/123456789012/leads"


class Sqs:
    """Takes every batch, but for the entries that `failing` names by their body or handle.

    A request with an entry that is in `down` fails as a whole.
    """

    def __init__(
        self, failing: Mapping[str, str] | None = None, down: Mapping[str, Exception] | None = None, seconds: float = 0
    ) -> None:
        self.requests: list[list[dict[str, Any]]] = []
        self.failing = failing or {}
        self.down = down or {}
        self.seconds = seconds
        """How long each request takes."""
        self.most = 0
        """How many requests there were at once."""
        self.together = Barrier(1)
        """As many requests wait for each other before anything becomes of them."""
        self._running = 0
        self._lock = Lock()

    def _take(self, QueueUrl: str, Entries: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803
        assert QueueUrl == URL
        assert len({entry["Id"] for entry in Entries}) == len(Entries)
        with self._lock:
            self.requests.append(Entries)
            self._running += 1
            self.most = max(self.most, self._running)
        self.together.wait(timeout=10)
        names = [name(entry) for entry in Entries]
        for each in names:
            if each in self.down:
                raise self.down[each]
        time.sleep(self.seconds)
        with self._lock:
            self._running -= 1
        failed = [
            {"Id": entry["Id"], "Code": self.failing[each], "SenderFault": False}
            for each, entry in zip(names, Entries, strict=True)
            if each in self.failing
        ]
        return {"Failed": failed} if failed else {}

    send_message_batch = change_message_visibility_batch = delete_message_batch = _take

    @property
    def sizes(self) -> list[int]:
        return [len(entries) for entries in self._in_order()]

    @property
    def entries(self) -> list[dict[str, Any]]:
        return [entry for entries in self._in_order() for entry in entries]

    def _in_order(self) -> list[list[dict[str, Any]]]:
        """The requests by the number that their first entry ends in: side by side, they come in any order."""
        return sorted(self.requests, key=lambda entries: int(name(entries[0]).rpartition("-")[2]))


def name(entry: dict[str, Any]) -> str:
    text: str = entry.get("MessageBody") or entry["ReceiptHandle"]
    return text


def queue(sqs: Sqs) -> Queue:
    return Queue(cast("SQSClient", sqs), URL)


def letters(count: int) -> list[Outgoing]:
    return [Outgoing(f"letter-{n}") for n in range(count)]


def received(count: int) -> list[Incoming]:
    return [Incoming(f"id-{n}", f"handle-{n}", "{}", 1) for n in range(count)]


def ask(act: str, sqs: Sqs, count: int, deadline: Deadline | None = None) -> None:
    if act == "send":
        queue(sqs).send(letters(count), deadline)
    elif act == "put back":
        queue(sqs).put_back([(each, 0) for each in received(count)], deadline)
    else:
        queue(sqs).delete(received(count), deadline)


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
    queue(sqs).send([Outgoing("letter-0", {"reason": "no such owner", "stage": "assign"})])
    assert sqs.entries[0]["MessageAttributes"] == {
        "reason": {"DataType": "String", "StringValue": "no such owner"},
        "stage": {"DataType": "String", "StringValue": "assign"},
    }


@given(st.lists(st.tuples(st.text("aé🙂", max_size=9), st.integers(0, MAX_BATCH_BYTES // 48)), max_size=30))
def test_no_request_is_larger_than_sqs_takes(some: list[tuple[str, int]]) -> None:
    sqs = Sqs()
    sent = [
        Outgoing(f"{(text or 'x') * times}-{n}", {"reason": text} if text else {})
        for n, (text, times) in enumerate(some)
    ]
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
        queue(sqs).send([Outgoing(f"{'x' * (size - 2)}-{n}") for n in range(4)])
        assert sqs.sizes == sizes


def test_names_types_and_values_of_attributes_count_as_well() -> None:
    half = 131_072 - len("reasonStringé".encode())
    for size, sizes in ((half, [2]), (half + 1, [1, 1])):
        sqs = Sqs()
        queue(sqs).send([Outgoing(f"{'x' * (size - 2)}-{n}", {"reason": "é"}) for n in range(2)])
        assert sqs.sizes == sizes


def test_one_that_is_not_taken_is_an_error_after_all_others_were_tried() -> None:
    sqs = Sqs(failing={"letter-3": "InternalError", "letter-12": "InternalError"})
    with pytest.raises(QueueUnavailable, match=r"could not send 2 of 25: InternalError"):
        queue(sqs).send(letters(25))
    assert sqs.sizes == [10, 10, 5]


def test_one_that_cannot_be_deleted_is_an_error() -> None:
    sqs = Sqs(failing={"handle-0": "ReceiptHandleIsInvalid"})
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
def test_after_a_request_that_fails_as_a_whole_no_other_begins(error: Exception, name: str) -> None:
    sqs = Sqs(failing={"letter-0": "InternalError"}, down={"letter-10": error}, seconds=0.3)
    sqs.together = Barrier(10)
    with pytest.raises(QueueUnavailable, match=rf"^could not send 161 of 250: {name}$") as failure:
        queue(sqs).send(letters(250))
    assert failure.value.__cause__ is error
    assert sqs.sizes == [10] * 10


# Side by side


@pytest.mark.parametrize("act", ["send", "put back", "delete"])
def test_a_hundred_take_as_long_as_ten(act: str) -> None:
    sqs = Sqs(seconds=0.5)
    began = time.monotonic()
    ask(act, sqs, 100)
    assert time.monotonic() - began < 1.5
    assert (len(sqs.entries), sqs.most) == (100, 10)


def test_no_more_than_ten_requests_run_at_once() -> None:
    sqs = Sqs(seconds=0.01)
    queue(sqs).send(letters(1_000))
    assert (len(sqs.entries), sqs.most) == (1_000, 10)


def test_one_request_runs_in_the_callers_own_thread() -> None:
    sqs = Sqs()
    threads: list[Thread] = []
    sqs.together = Barrier(1, action=lambda: threads.append(current_thread()))
    queue(sqs).send(letters(10))
    assert threads == [current_thread()]


# The deadline


class Hanging(Sqs):
    """Answers nothing until it is let go, but for the first `answered` requests."""

    def __init__(self, answered: int = 0) -> None:
        super().__init__()
        self.answered = answered
        self.let_go = Event()

    def _hang(self, QueueUrl: str, Entries: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803
        answer = self._take(QueueUrl, Entries)
        if int(name(Entries[0]).rpartition("-")[2]) >= self.answered * 10:
            self.let_go.wait(timeout=10)
        return answer

    send_message_batch = change_message_visibility_batch = delete_message_batch = _hang


@pytest.fixture
def hanging() -> Iterator[Hanging]:
    sqs = Hanging(answered=2)
    yield sqs
    sqs.let_go.set()


@pytest.mark.parametrize("act", ["send", "put back", "delete"])
def test_at_the_deadline_it_is_told_how_many_are_not_known_to_be_taken(hanging: Hanging, act: str) -> None:
    began = time.monotonic()
    deadline = Deadline.after(0.3)
    with pytest.raises(QueueUnavailable, match=rf"^could not {act} 130 of 150, as far as is known: no answer in time$"):
        ask(act, hanging, 150, deadline)
    assert 0.3 <= time.monotonic() - began < 2
    hanging.let_go.set()
    time.sleep(0.1)
    assert len(hanging.entries) == 120  # ten requests hung, and none began afterwards


def test_the_deadline_holds_for_a_single_request_as_well(hanging: Hanging) -> None:
    hanging.answered = 0
    with pytest.raises(QueueUnavailable, match=r"^could not send 1 of 1, as far as is known: no answer in time$"):
        queue(hanging).send(letters(1), Deadline.after(0.1))


def test_nothing_begins_after_the_deadline() -> None:
    sqs = Sqs()
    with pytest.raises(QueueUnavailable, match=r"^could not send 11 of 11, as far as is known: no answer in time$"):
        queue(sqs).send(letters(11), Deadline(lambda: 0.0))
    queue(sqs).send([], Deadline(lambda: 0.0))
    assert sqs.requests == []


def test_before_the_deadline_all_is_as_without_one() -> None:
    sqs = Sqs(failing={"letter-3": "InternalError"})
    with pytest.raises(QueueUnavailable, match=r"^could not send 1 of 25: InternalError$"):
        queue(sqs).send(letters(25), Deadline.after(30))
    queue(sqs).send(letters(3), Deadline.after(30))


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
        queue(Sqs(failing={"handle-1": code})).put_back([(each, 2) for each in received(2)])
    assert [record.__dict__["message_ids"] for record in caplog.records] == [["id-1"]]


def test_putting_back_what_sqs_refuses_otherwise_is_an_error() -> None:
    sqs = Sqs(failing={"handle-0": "InternalError", "handle-1": "ReceiptHandleIsInvalid"})
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
    assert Incoming.from_record(record) == Incoming("m-1", "h-1", "{}", 3)
    record["attributes"]["ApproximateFirstReceiveTimestamp"] = "1793527205117"
    assert Incoming.from_record(record) == Incoming("m-1", "h-1", "{}", 3, first_at=1_793_527_205_117)


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
