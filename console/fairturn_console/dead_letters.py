"""Dead letters: looked at where they lie, and sent back to the queues that they came from."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from botocore.exceptions import BotoCoreError, ClientError

from fairturn.edges.queues import MAX_BATCH, Incoming, Outgoing, Queue
from fairturn.errors import MessageRejected, QueueUnavailable
from fairturn.rules.events import Message
from fairturn.telemetry import logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import MessageTypeDef

MOST_LETTERS: Final = 1_000
"""Letters of each queue that are looked at."""
HELD_FOR: Final = 300
"""Seconds for which nobody else sees a letter that is looked at: only a command that was killed leaves it so."""
SHORTEST_ID: Final = 6
"""Characters of an id that name a letter, if no other begins with them."""
INTAKE: Final = "intake"
"""The stage whose letters hold events of HubSpot's, not messages of ours."""
NO_MESSAGE: Final = "stage intake: an event that could not be understood, which no queue takes"
TOO_OFTEN: Final = "received too often"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message or an event that was given up."""

    id: str
    """SQS's."""
    queue: str
    """`leads` or `changes`: the queue that it came from."""
    lead: str | None
    """`contact 123`; None if the body is no message of ours."""
    sent_at: int
    """Epoch milliseconds: when it was dead-lettered; without a stage, when it came into the queue before that.

    A message that SQS itself moves keeps its time, and nothing tells when it was moved. In both cases the days
    after which SQS drops the letter count from this time.
    """
    stage: str | None
    """What gave it up; None if SQS did, because the message was received too often."""
    reason: str
    body: str


@dataclass(frozen=True, slots=True)
class Listing:
    """Dead letters of both queues, oldest first."""

    letters: tuple[DeadLetter, ...]
    complete: bool
    """False if there may be more than were looked at."""


@dataclass(frozen=True, slots=True)
class Left:
    """A letter that was to be redriven and was not."""

    letter: DeadLetter
    why: str


@dataclass(frozen=True, slots=True)
class Redrive:
    """What became of the letters that were to be redriven."""

    redriven: tuple[DeadLetter, ...]
    """Now in a queue again."""
    left: tuple[Left, ...]
    """Still dead."""
    problems: tuple[str, ...]
    """Why not all that was asked for could be tried, a sentence each: an id that names no letter, SQS failing."""
    complete: bool
    """False if there may be more letters than were looked at."""


@dataclass(frozen=True, slots=True)
class _Held:
    letter: DeadLetter
    received: Incoming


class DeadLetters:
    """Both dead-letter queues. Every method raises QueueUnavailable if they cannot be read; it says what to check.

    Letters that are looked at are held meanwhile, and handed back at once afterwards, also when interrupted: who
    looks at the same time sees the others only.
    """

    def __init__(self, client: SQSClient, *, leads: tuple[str, str], changes: tuple[str, str], wait: int) -> None:
        """`leads` and `changes` are URLs: of the dead-letter queue, and of the queue that its letters go to.

        `wait`, 0 to 20, is how many seconds SQS waits for more. With 0 it asks only some of its servers, and may
        miss letters.
        """
        self._client = client
        self._wait = wait
        self._urls = {"leads": leads[0], "changes": changes[0]}
        self._dead_letters = {name: Queue(client, url) for name, url in self._urls.items()}
        self._queues = {"leads": Queue(client, leads[1]), "changes": Queue(client, changes[1])}

    def list(self) -> Listing:
        """Every letter, up to 1,000 of each queue. They stay where they are."""
        with self._held() as (held, complete):
            return _listing(held.values(), complete=complete)

    def drop(self, wanted: Callable[[DeadLetter], bool]) -> Listing:
        """Delete the letters that are wanted, of up to 1,000 of each queue, for good; gives those."""
        with self._held() as (held, complete):
            chosen = [each for each in held.values() if wanted(each.letter)]
            for name, batch in _tens(chosen):
                self._dead_letters[name].delete([each.received for each in batch])
                for each in batch:
                    del held[each.letter.id]
        return _listing(chosen, complete=complete)

    def redrive(self, ids: Iterable[str]) -> Redrive:
        """Send letters back, bodies unchanged; see `redrive_all`. An id may be cut to 6 characters or more."""
        with self._held() as (held, complete):
            chosen, problems = _named(ids, held, complete=complete)
            return self._redrive(chosen, held, problems, complete=complete)

    def redrive_all(self) -> Redrive:
        """Send every letter, up to 1,000 of each queue, back, body unchanged.

        Leads go to the bulk queue, so that they never stand before a new lead; changes go to their own.

        A letter is deleted only after its queue has taken it, so none is lost; whatever ends this in between
        leaves up to ten that are in both places. That is harmless: what is redriven twice is decided once.
        Letters of the stage intake are left. SQS's own StartMessageMoveTask would move them, too, and it would keep the
        attributes with the old reason; nor does it read from a queue that is no dead-letter queue.
        """
        with self._held() as (held, complete):
            return self._redrive(list(held.values()), held, [], complete=complete)

    def _redrive(
        self, chosen: Sequence[_Held], held: dict[str, _Held], problems: Sequence[str], *, complete: bool
    ) -> Redrive:
        fit = [each for each in chosen if each.letter.stage != INTAKE]
        left = [Left(each.letter, NO_MESSAGE) for each in chosen if each.letter.stage == INTAKE]
        sent: dict[str, DeadLetter] = {}
        try:
            for name, batch in _tens(fit):
                self._queues[name].send([Outgoing(each.letter.body) for each in batch])
                sent |= {each.letter.id: each.letter for each in batch}
                self._dead_letters[name].delete([each.received for each in batch])
                for each in batch:
                    del held[each.letter.id]
        except QueueUnavailable as error:
            problems = [*problems, f"SQS: {error}; letters may be in both queues, and can be redriven again"]
            left += [Left(each.letter, str(error)) for each in fit if each.letter.id not in sent]
        return Redrive(tuple(sent.values()), tuple(left), tuple(problems), complete)

    @contextmanager
    def _held(self) -> Iterator[tuple[dict[str, _Held], bool]]:
        """Every letter by its id, and whether these are all; what is still in there at the end is handed back."""
        held: dict[str, _Held] = {}
        try:
            complete = [self._hold(name, held) for name in self._urls]
            yield held, all(complete)
        finally:
            for name, queue in self._dead_letters.items():
                try:
                    queue.put_back([(each.received, 0) for each in held.values() if each.letter.queue == name])
                except QueueUnavailable as error:  # they come back by themselves
                    logger.warning("not handed back", extra={"reason": str(error), "seconds": HELD_FOR})

    def _hold(self, name: str, held: dict[str, _Held]) -> bool:
        """Add the letters of one queue to `held`; returns whether these are all."""
        seen = 0
        while seen < MOST_LETTERS:
            try:
                messages = self._client.receive_message(
                    QueueUrl=self._urls[name],
                    MaxNumberOfMessages=min(MAX_BATCH, MOST_LETTERS - seen),
                    VisibilityTimeout=HELD_FOR,
                    WaitTimeSeconds=self._wait,
                    MessageAttributeNames=["All"],
                    MessageSystemAttributeNames=["SentTimestamp", "ApproximateReceiveCount"],
                ).get("Messages", [])
            except (ClientError, BotoCoreError) as error:
                code = error.response["Error"]["Code"] if isinstance(error, ClientError) else type(error).__name__
                raise QueueUnavailable(
                    f"the dead letters of the {name} queue cannot be read ({code}): check that the stack is complete, "
                    "and that the credentials of this shell may receive, send and delete messages of its queues"
                ) from error
            if not messages:
                return True
            held |= {message["MessageId"]: _read(message, name) for message in messages}
            seen += len(messages)
        return False


def _read(message: MessageTypeDef, queue: str) -> _Held:
    body = message["Body"]
    said = {name: value.get("StringValue") for name, value in message.get("MessageAttributes", {}).items()}
    try:
        about = Message.read(body)
        lead = f"{about.type} {about.id}"
    except MessageRejected:
        lead = None
    sent_at = int(message["Attributes"]["SentTimestamp"])
    receipts = int(message["Attributes"]["ApproximateReceiveCount"])
    reason = said.get("reason") or TOO_OFTEN
    letter = DeadLetter(message["MessageId"], queue, lead, sent_at, said.get("stage"), reason, body)
    return _Held(letter, Incoming(letter.id, message["ReceiptHandle"], body, receipts))


def _listing(held: Iterable[_Held], *, complete: bool) -> Listing:
    return Listing(tuple(sorted((each.letter for each in held), key=_age)), complete)


def _named(ids: Iterable[str], held: Mapping[str, _Held], *, complete: bool) -> tuple[list[_Held], list[str]]:
    """The letters that ids or their beginnings name, each once; and what is wrong with the other ids."""
    chosen: dict[str, _Held] = {}
    problems: list[str] = []
    for wanted in ids:
        found = [known for known in held if known.startswith(wanted)]
        if len(wanted) < SHORTEST_ID:
            problems.append(f"{wanted}: too short; give at least {SHORTEST_ID} characters of the id")
        elif not found:
            where = "" if complete else f" among the {MOST_LETTERS:,} of each queue that were looked at"
            problems.append(f"{wanted}: no dead letter has this id{where}")
        elif len(found) > 1:
            problems.append(f"{wanted}: more than one dead letter begins so: {', '.join(sorted(found))}")
        else:
            chosen[found[0]] = held[found[0]]
    return list(chosen.values()), problems


def _tens(letters: Iterable[_Held]) -> Iterator[tuple[str, Sequence[_Held]]]:
    """Ten at a time of one queue, oldest first, with its name."""
    by_queue: dict[str, list[_Held]] = {}
    for each in sorted(letters, key=lambda each: _age(each.letter)):
        by_queue.setdefault(each.letter.queue, []).append(each)
    for name, own in by_queue.items():
        for start in range(0, len(own), MAX_BATCH):
            yield name, own[start : start + MAX_BATCH]


def _age(letter: DeadLetter) -> tuple[int, str]:
    return letter.sent_at, letter.id
