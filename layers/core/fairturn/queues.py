"""SQS: ten at a time, partial failures, growing delays."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from fairturn.errors import QueueUnavailable
from fairturn.telemetry import logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import BatchResultErrorEntryTypeDef, MessageAttributeValueTypeDef

MAX_BATCH: Final = 10
MAX_BATCH_BYTES: Final = 262_144
"""SQS counts the bodies and the names, types and values of the attributes of one request together."""
MAX_DELAY: Final = 42_000
"""Seconds: SQS hides a message for at most twelve hours, counted from when it was received."""
MAX_GROWING_DELAY: Final = 900
"""Seconds: nobody waits longer than this for the next try."""

T = TypeVar("T")

_HANDLE_GONE: Final = frozenset({"ReceiptHandleIsInvalid", "InvalidParameterValue", "MessageNotInflight"})


@dataclass(frozen=True, slots=True)
class Letter:
    """What we send: a body, and string attributes that say something about it."""

    body: str
    attributes: Mapping[str, str] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes as SQS counts them."""
        attributes = sum(len(f"{name}{value}String".encode()) for name, value in self.attributes.items())
        return len(self.body.encode()) + attributes


@dataclass(frozen=True, slots=True)
class Received:
    """What Lambda got from a queue."""

    id: str
    handle: str
    body: str
    receipts: int
    """How often it has been received, this time included: 1 the first time."""

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Received:
        """Read one entry of `Records` in the event that Lambda makes of a queue's messages."""
        receipts = int(record["attributes"]["ApproximateReceiveCount"])
        return cls(record["messageId"], record["receiptHandle"], record["body"], receipts)


def growing_delay(receipts: int, jitter: float) -> int:
    """Seconds until the next try of a message received `receipts` times: doubling, at most 15 minutes.

    `jitter`, 0.8 to 1, scales it, so that what failed together doesn't come back together.
    """
    seconds = min(2 ** min(receipts, 10), MAX_GROWING_DELAY)
    return max(1, int(seconds * jitter))


class Queue:
    """One queue. Every method raises QueueUnavailable if SQS didn't do all of it, having tried all batches.

    Only a request that fails as a whole ends it early: the next would fail the same way, and take as long.
    """

    def __init__(self, client: SQSClient, url: str) -> None:
        self._client = client
        self._url = url

    def send(self, letters: Sequence[Letter]) -> None:
        """Put letters into the queue."""

        def request(batch: Sequence[Letter]) -> Sequence[BatchResultErrorEntryTypeDef]:
            answer = self._client.send_message_batch(
                QueueUrl=self._url,
                Entries=[
                    {"Id": str(n), "MessageBody": letter.body, "MessageAttributes": _attributes(letter)}
                    for n, letter in enumerate(batch)
                ],
            )
            return answer.get("Failed", [])

        self._all("send", len(letters), _parcels(letters), request)

    def put_back(self, delays: Sequence[tuple[Received, int]]) -> None:
        """Let messages be received again after so many seconds each, 0 to 42,000; more is cut to that.

        A message that isn't ours any more (its receipt handle has expired) is only logged.
        """

        def request(batch: Sequence[tuple[Received, int]]) -> Sequence[BatchResultErrorEntryTypeDef]:
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

        self._all("put back", len(delays), _tens(delays), request)

    def delete(self, received: Sequence[Received]) -> None:
        """Take messages out of the queue for good."""

        def request(batch: Sequence[Received]) -> Sequence[BatchResultErrorEntryTypeDef]:
            answer = self._client.delete_message_batch(
                QueueUrl=self._url,
                Entries=[{"Id": str(n), "ReceiptHandle": message.handle} for n, message in enumerate(batch)],
            )
            return answer.get("Failed", [])

        self._all("delete", len(received), _tens(received), request)

    def _all(
        self,
        verb: str,
        count: int,
        batches: Iterable[Sequence[T]],
        request: Callable[[Sequence[T]], Sequence[BatchResultErrorEntryTypeDef]],
    ) -> None:
        done = 0
        codes: set[str] = set()
        try:
            for batch in batches:
                failed = request(batch)
                done += len(batch) - len(failed)
                codes |= {failure["Code"] for failure in failed}
        except ClientError as error:
            code = error.response["Error"]["Code"]
            raise QueueUnavailable(f"could not {verb} {count - done} of {count}: {code}") from error
        except BotoCoreError as error:
            raise QueueUnavailable(f"could not {verb} {count - done} of {count}: {type(error).__name__}") from error
        if done < count:
            raise QueueUnavailable(f"could not {verb} {count - done} of {count}: {', '.join(sorted(codes))}")


def _attributes(letter: Letter) -> dict[str, MessageAttributeValueTypeDef]:
    return {name: {"DataType": "String", "StringValue": value} for name, value in letter.attributes.items()}


def _tens(items: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), MAX_BATCH):
        yield items[start : start + MAX_BATCH]


def _parcels(letters: Sequence[Letter]) -> Iterator[Sequence[Letter]]:
    """At most ten letters each, and no more bytes than one request may have."""
    parcel: list[Letter] = []
    size = 0
    for letter in letters:
        if parcel and (len(parcel) == MAX_BATCH or size + letter.size > MAX_BATCH_BYTES):
            yield parcel
            parcel, size = [], 0
        parcel.append(letter)
        size += letter.size
    if parcel:
        yield parcel
