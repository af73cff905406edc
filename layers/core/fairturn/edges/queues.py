"""SQS: messages are sent, put back with growing delays, and deleted, ten at a time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from threading import Event
from typing import TYPE_CHECKING, Any, Final, TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from fairturn.batches import batched
from fairturn.errors import QueueUnavailable
from fairturn.telemetry import logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import BatchResultErrorEntryTypeDef, MessageAttributeValueTypeDef

    from fairturn.deadline import Deadline

MAX_BATCH: Final = 10
MAX_BATCH_BYTES: Final = 262_144
"""SQS counts the bodies and the names, types and values of the attributes of one request together."""
MAX_AT_ONCE: Final = 10
"""Requests side by side: as many connections as a client of boto3's keeps."""
MAX_DELAY: Final = 42_000
"""Seconds: SQS hides a message for at most twelve hours, counted from when it was received."""
MAX_GROWING_DELAY: Final = 900
"""Seconds: nobody waits longer than this for the next try."""

T = TypeVar("T")

_HANDLE_GONE: Final = frozenset({"ReceiptHandleIsInvalid", "InvalidParameterValue", "MessageNotInflight"})


@dataclass(frozen=True, slots=True)
class Outgoing:
    """What we send: a body, and string attributes that say something about it."""

    body: str
    attributes: Mapping[str, str] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes as SQS counts them."""
        attributes = sum(len(f"{name}{value}String".encode()) for name, value in self.attributes.items())
        return len(self.body.encode()) + attributes


@dataclass(frozen=True, slots=True)
class Incoming:
    """What Lambda got from a queue."""

    id: str
    handle: str
    body: str
    receipts: int
    """How often it has been received, this time included: 1 the first time."""
    first_at: int | None = None
    """When it was received first, epoch milliseconds, as SQS says; None where it doesn't say."""

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Incoming:
        """Read one entry of `Records` in the event that Lambda makes of a queue's messages."""
        attributes = record["attributes"]
        receipts = int(attributes["ApproximateReceiveCount"])
        first_at = attributes.get("ApproximateFirstReceiveTimestamp")
        return cls(
            record["messageId"],
            record["receiptHandle"],
            record["body"],
            receipts,
            None if first_at is None else int(first_at),
        )


def growing_delay(receipts: int, jitter: float) -> int:
    """Seconds until the next try of a message received `receipts` times: doubling, at most 15 minutes.

    `jitter`, 0.8 to 1, scales it, so that what failed together doesn't come back together.
    """
    seconds = min(2 ** min(receipts, 10), MAX_GROWING_DELAY)
    return max(1, int(seconds * jitter))


@dataclass(frozen=True, slots=True)
class _BatchResult:
    """What became of one request."""

    done: int = 0
    """Entries that SQS took."""
    codes: frozenset[str] = frozenset()
    """Why it didn't take the others."""
    error: ClientError | BotoCoreError | None = None
    """Why the request failed as a whole."""


class Queue:
    """One queue. Every method raises QueueUnavailable if SQS didn't do all of it, having tried all batches.

    Ten requests at most run side by side, so the batches may be taken in any order. Two things end it early, for the
    requests that have not begun: one that fails as a whole, because the next would fail the same way, and take as
    long; and the deadline. When it passes, the requests that still run are not waited for: the client's own timeouts
    end them, and what they ask for may still be done.
    """

    def __init__(self, client: SQSClient, url: str) -> None:
        self._client = client
        self._url = url

    def send(self, messages: Sequence[Outgoing], deadline: Deadline | None = None) -> None:
        """Put messages into the queue."""

        def request(batch: Sequence[Outgoing]) -> Sequence[BatchResultErrorEntryTypeDef]:
            answer = self._client.send_message_batch(
                QueueUrl=self._url,
                Entries=[
                    {"Id": str(n), "MessageBody": message.body, "MessageAttributes": _attributes(message)}
                    for n, message in enumerate(batch)
                ],
            )
            return answer.get("Failed", [])

        self._all("send", list(_in_batches(messages)), request, deadline)

    def length(self) -> int:
        """About how many messages it has: at hand, being worked on, or put back."""
        try:
            names: list[Any] = [f"ApproximateNumberOfMessages{what}" for what in ("", "NotVisible", "Delayed")]
            answer = self._client.get_queue_attributes(QueueUrl=self._url, AttributeNames=names)
        except (ClientError, BotoCoreError) as error:
            raise QueueUnavailable(f"could not tell its length: {type(error).__name__}") from error
        return sum(map(int, answer["Attributes"].values()))

    def put_back(self, delays: Sequence[tuple[Incoming, int]], deadline: Deadline | None = None) -> None:
        """Let messages be received again after so many seconds each, 0 to 42,000; more is cut to that.

        A message that isn't ours any more (its receipt handle has expired) is only logged.
        """

        def request(batch: Sequence[tuple[Incoming, int]]) -> Sequence[BatchResultErrorEntryTypeDef]:
            answer = self._client.change_message_visibility_batch(
                QueueUrl=self._url,
                Entries=[
                    {
                        "Id": str(n),
                        "ReceiptHandle": received.handle,
                        "VisibilityTimeout": min(seconds, MAX_DELAY),
                    }
                    for n, (received, seconds) in enumerate(batch)
                ],
            )
            failed = answer.get("Failed", [])
            gone = [failure for failure in failed if failure["Code"].rpartition(".")[2] in _HANDLE_GONE]
            if gone:
                ids = [batch[int(failure["Id"])][0].id for failure in gone]
                logger.warning("not ours any more, so not put back", extra={"message_ids": ids})
            return [failure for failure in failed if failure not in gone]

        self._all("put back", list(batched(delays, MAX_BATCH)), request, deadline)

    def delete(self, received: Sequence[Incoming], deadline: Deadline | None = None) -> None:
        """Take messages out of the queue for good."""

        def request(batch: Sequence[Incoming]) -> Sequence[BatchResultErrorEntryTypeDef]:
            answer = self._client.delete_message_batch(
                QueueUrl=self._url,
                Entries=[{"Id": str(n), "ReceiptHandle": message.handle} for n, message in enumerate(batch)],
            )
            return answer.get("Failed", [])

        self._all("delete", list(batched(received, MAX_BATCH)), request, deadline)

    def _all(
        self,
        verb: str,
        batches: Sequence[Sequence[T]],
        request: Callable[[Sequence[T]], Sequence[BatchResultErrorEntryTypeDef]],
        deadline: Deadline | None,
    ) -> None:
        ended = Event()

        def outcome(batch: Sequence[T]) -> _BatchResult:
            if ended.is_set():
                return _BatchResult()
            try:
                failed = request(batch)
            except (ClientError, BotoCoreError) as error:
                ended.set()
                return _BatchResult(error=error)
            return _BatchResult(len(batch) - len(failed), frozenset(failure["Code"] for failure in failed))

        count = sum(len(batch) for batch in batches)
        in_time = True
        if len(batches) > 1 or (batches and deadline is not None):
            outcomes = _side_by_side(outcome, batches, deadline)
            in_time = len(outcomes) == len(batches)
        else:
            outcomes = [outcome(batch) for batch in batches]
        done = sum(each.done for each in outcomes)
        if done == count:
            return
        trouble = f"could not {verb} {count - done} of {count}"
        error = next((each.error for each in outcomes if each.error), None)
        if isinstance(error, ClientError):
            raise QueueUnavailable(f"{trouble}: {error.response['Error']['Code']}") from error
        if error is not None:
            raise QueueUnavailable(f"{trouble}: {type(error).__name__}") from error
        if not in_time:
            raise QueueUnavailable(f"{trouble}, as far as is known: no answer in time")
        raise QueueUnavailable(f"{trouble}: {', '.join(sorted(set().union(*(each.codes for each in outcomes))))}")


def _side_by_side(
    outcome: Callable[[Sequence[T]], _BatchResult], batches: Sequence[Sequence[T]], deadline: Deadline | None
) -> list[_BatchResult]:
    """Give the outcomes that are there by the deadline, in the order of the batches."""
    left = None if deadline is None else deadline.left()
    if left is not None and left <= 0:
        return []
    # Not a `with`: leaving it would wait for every thread.
    threads = ThreadPoolExecutor(min(MAX_AT_ONCE, len(batches)), thread_name_prefix="sqs")
    futures = [threads.submit(outcome, batch) for batch in batches]
    try:
        wait(futures, left)
    finally:
        threads.shutdown(wait=False, cancel_futures=True)
    return [future.result() for future in futures if future.done() and not future.cancelled()]


def _attributes(message: Outgoing) -> dict[str, MessageAttributeValueTypeDef]:
    return {name: {"DataType": "String", "StringValue": value} for name, value in message.attributes.items()}


def _in_batches(messages: Sequence[Outgoing]) -> Iterator[Sequence[Outgoing]]:
    """At most ten messages each, and no more bytes than one request may have."""
    batch: list[Outgoing] = []
    size = 0
    for message in messages:
        if batch and (len(batch) == MAX_BATCH or size + message.size > MAX_BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(message)
        size += message.size
    if batch:
        yield batch
