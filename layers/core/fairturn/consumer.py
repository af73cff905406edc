"""Consumer: a batch of a queue's messages, of which each is done, comes again, or is dead-lettered."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from fairturn.errors import MessageRejected, TableUnavailable, Unavailable
from fairturn.events import Message
from fairturn.queues import Letter, growing_delay
from fairturn.record import Move, milliseconds
from fairturn.telemetry import Metric, count, logger

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from datetime import datetime

    from fairturn.queues import Queue, Received
    from fairturn.store import Store

SUSPECT_FROM: Final = 3
"""A message received so often without a word of why may be what kills the process."""
SUSPECT_AFTER: Final = 2
"""Receipts since the last fault that was noted, from which on a message is a suspect."""
MAX_REASON: Final = 256
"""Characters of a reason in a dead letter's attributes."""


@dataclass(slots=True)
class OpenEnds:
    """The leads of a batch that could not be settled: key → why."""

    refused: dict[str, str] = field(default_factory=dict)
    """HubSpot or we refuse them for good."""
    later: dict[str, Unavailable] = field(default_factory=dict)
    """Not now: a neighbour didn't get to them, or somebody else is at it."""
    refusal: Move = Move.REFUSE
    """What becomes of the records of those that are refused."""


class Consumer:
    """Sees to it that no message of a queue is lost, and that a bad one takes no other along."""

    def __init__(
        self,
        *,
        queue: Queue,
        dead_letters: Queue,
        store: Store,
        stage: str,
        now: Callable[[], datetime],
        jitter: Callable[[], float],
    ) -> None:
        """`stage` is what its dead letters name; `now` an aware datetime, `jitter` a random number from 0 to 1."""
        self._queue = queue
        self._dead_letters = dead_letters
        self._store = store
        self._stage = stage
        self._now = now
        self._jitter = jitter

    def take(self, batch: Sequence[Received], settle: Callable[[Sequence[Message], OpenEnds], None]) -> list[Received]:
        """Let `settle` bring each message as far as it goes; returns those that must stay in the queue.

        `settle` notes what it could not settle in the open ends, or raises Unavailable if that is everything. A
        suspect is handled alone, after the others are out of the queue, so that a message which kills the process
        takes none of them along.
        """
        done: set[Received] = set()
        messages: dict[Received, Message] = {}
        for received in batch:
            try:
                messages[received] = Message.read(received.body)
            except MessageRejected as error:
                done |= self._bury({received: str(error)}, {})
        suspects = self._suspects(messages)
        others = {received: message for received, message in messages.items() if received not in suspects}
        try:
            done |= self._bring(others, settle)
        except Unavailable as error:
            self._put_back(others, error)
        if suspects:
            self._forget(done)
        for position, suspect in enumerate(suspects):
            try:
                brought = self._bring({suspect: messages[suspect]}, settle)
            except Unavailable as error:  # the others behind would fare no better
                self._put_back({received: messages[received] for received in suspects[position:]}, error)
                break
            self._forget(brought)
            done |= brought
        return [received for received in batch if received not in done]

    def _suspects(self, messages: Mapping[Received, Message]) -> list[Received]:
        """Messages that have come back twice since a fault was last noted: nobody says why."""
        often = [received for received in messages if received.receipts >= SUSPECT_FROM]
        if not often:
            return []
        try:
            faults = self._store.faults((messages[received].type, messages[received].id) for received in often)
        except TableUnavailable:
            return []  # then nothing goes through anyway, and that will be noted
        return [
            received
            for received in often
            if received.receipts - _noted(faults.get(messages[received].key), received) >= SUSPECT_AFTER
        ]

    def _bring(
        self, messages: Mapping[Received, Message], settle: Callable[[Sequence[Message], OpenEnds], None]
    ) -> set[Received]:
        """Settle the messages, or dead-letter them; returns those that are done. Raises Unavailable."""
        if not messages:
            return set()
        open_ends = OpenEnds()
        settle(list(messages.values()), open_ends)
        later: defaultdict[tuple[str, float], dict[Received, Message]] = defaultdict(dict)
        for received, message in messages.items():
            if (failure := open_ends.later.get(message.key)) is not None:
                later[str(failure), failure.retry_after][received] = message
        for together in later.values():
            self._put_back(together, open_ends.later[next(iter(together.values())).key])
        refused = open_ends.refused.keys() - open_ends.later.keys()
        unhappy = {received: message.key for received, message in messages.items() if message.key in refused}
        buried = self._bury({received: open_ends.refused[lead] for received, lead in unhappy.items()}, unhappy)
        put_back = {received for together in later.values() for received in together}
        return (messages.keys() - put_back - unhappy.keys()) | buried

    def _put_back(self, messages: Mapping[Received, Message], error: Unavailable) -> None:
        """Let messages be received again after growing delays, and note why they failed."""
        count(Metric.LEADS_PUT_BACK, len(messages))
        logger.warning("put back", extra={"messages": len(messages), "reason": str(error)})
        delays = [
            (received, max(growing_delay(received.receipts, 0.8 + 0.2 * self._jitter()), int(error.retry_after)))
            for received in messages
        ]
        try:
            self._queue.put_back(delays)
        except Unavailable as down:  # they come back by themselves when their visibility ends
            logger.warning("delays not set", extra={"reason": str(down)})
        if isinstance(error, TableUnavailable):
            return  # nothing can be noted
        receipts: dict[tuple[str, str], int] = {}
        for received, message in messages.items():
            lead = (message.type, message.id)
            receipts[lead] = max(received.receipts, receipts.get(lead, 0))
        try:
            self._store.note_faults(receipts, str(error), milliseconds(self._now()))
        except Unavailable as down:
            logger.warning("faults not noted", extra={"reason": str(down)})

    def _bury(self, reasons: Mapping[Received, str], leads: Mapping[Received, str]) -> set[Received]:
        """Dead-letter messages, bodies unchanged; returns those that the queue took.

        `leads` names the lead of each message that could be read.
        """
        letters = [
            Letter(
                received.body,
                {
                    "reason": reason[:MAX_REASON],
                    "stage": self._stage,
                    "message": received.id,
                    "receipts": str(received.receipts),
                },
            )
            for received, reason in reasons.items()
        ]
        try:
            self._dead_letters.send(letters)
        except Unavailable as error:
            logger.error("not dead-lettered", extra={"messages": len(letters), "reason": str(error)})
            return set()
        for received, reason in reasons.items():
            count(Metric.LEADS_DEAD_LETTERED)
            logger.error(
                "dead-lettered", extra={"message_id": received.id, "lead": leads.get(received), "reason": reason}
            )
        return set(reasons)

    def _forget(self, done: Collection[Received]) -> None:
        try:
            self._queue.delete(list(done))
        except Unavailable as error:  # they come again and are found done
            logger.warning("not deleted", extra={"messages": len(done), "reason": str(error)})


def _noted(fault: int | None, received: Received) -> int:
    """At which receipt a fault was last noted; one of an earlier message about the same lead says nothing."""
    return fault if fault is not None and fault < received.receipts else 0
