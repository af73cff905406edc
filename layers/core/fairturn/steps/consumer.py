"""Consumer: takes a batch from a queue; each message is done, comes again, or is dead-lettered."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from math import ceil
from typing import TYPE_CHECKING, Final

from fairturn.edges.queues import Outgoing, growing_delay
from fairturn.errors import MessageRejected, Mistake, OutOfTime, Unavailable, attempt
from fairturn.rules.events import Message
from fairturn.rules.record import MAX_REASON, milliseconds
from fairturn.telemetry import Metric, count, count_held_up, logger

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from datetime import datetime

    from fairturn.deadline import Deadline
    from fairturn.edges.queues import Incoming, Queue
    from fairturn.edges.store import Store

SUSPECT_FROM: Final = 3
"""A message received so often may be what kills the process: nobody else says why it came back."""
MOST_TRIES: Final = 5
"""So many mistakes of ours with one lead, and its message is dead-lettered."""
RESERVE: Final = 9.0
"""Seconds kept at the end of a run for what comes after the processing, such as putting back and dead-lettering: as
long as SQS may take to say nothing."""
LAST_WORDS: Final = 1.0
"""Seconds kept for the answer itself."""
LEAST: Final = 2.0
"""Seconds without which no part of a batch is begun."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of the leads of a batch, by their names. Those that are named nowhere are done."""

    refused: Mapping[str, str] = field(default_factory=dict)
    """HubSpot or we refuse them for good: why."""
    later: Mapping[str, Unavailable] = field(default_factory=dict)
    """Not now: a neighbour didn't get to them, it is too early to tell, or somebody else is at it."""
    failed: Mapping[str, Mistake] = field(default_factory=dict)
    """A mistake of ours: which."""

    def __or__(self, other: Outcome) -> Outcome:
        return Outcome(
            {**self.refused, **other.refused}, {**self.later, **other.later}, {**self.failed, **other.failed}
        )


def process_apart(
    messages: Sequence[Message], process: Callable[[Sequence[Message], Deadline], Outcome], deadline: Deadline
) -> Outcome:
    """Process a batch so that one bad lead harms no other.

    After a mistake of ours the leads are halved until the bad one is alone; the others are processed. What there is no
    time for, or what a neighbour holds up, is for later.
    """
    leads: defaultdict[str, list[Message]] = defaultdict(list)
    for message in messages:
        leads[message.key].append(message)
    outcome = Outcome()
    parts = [list(leads)]
    while parts:
        part = parts.pop()
        try:
            deadline.check(LEAST)
            result = attempt(lambda part=part: process([each for lead in part for each in leads[lead]], deadline))  # type: ignore[misc]
        except Unavailable as failure:
            outcome |= Outcome(later=dict.fromkeys(part, failure))
            continue
        if isinstance(result, Outcome):
            outcome |= result
        elif len(part) > 1:
            half = len(part) // 2
            parts += [part[half:], part[:half]]
        else:
            outcome |= Outcome(failed={part[0]: result})
    return outcome


@dataclass(frozen=True, slots=True)
class Consumer:
    """Sees to it that no message of a queue is lost, and that a bad one takes no other along."""

    queue: Queue
    dead_letters: Queue
    store: Store
    stage: str
    """What its dead letters name."""
    now: Callable[[], datetime]
    """An aware datetime."""
    jitter: Callable[[], float]
    """A random number from 0 to 1."""

    def take(
        self,
        batch: Sequence[Incoming],
        process: Callable[[Sequence[Message], Deadline], Outcome],
        deadline: Deadline,
    ) -> list[Incoming]:
        """Bring each message as far as it goes; returns those that must stay in the queue."""
        done: set[Incoming] = set()
        messages: dict[Incoming, Message] = {}
        for received in batch:
            try:
                messages[received] = Message.read(received.body, received.first_at)
            except MessageRejected as error:
                done |= self._dead_letter({received: str(error)}, {}, deadline)
        parts = self._parts(list(messages))
        for place, part in enumerate(parts):
            if deadline.left() < RESERVE:  # then nothing more is begun
                rest = [received for each in parts[place:] for received in each]
                self._put_back(dict.fromkeys(rest, OutOfTime("no time is left in this run")), deadline)
                break
            if place:  # a message that kills the process takes none of them along that are done
                self._delete(done, deadline)
            done |= self._process({received: messages[received] for received in part}, process, deadline)
        return [received for received in batch if received not in done]

    def _parts(self, batch: Sequence[Incoming]) -> list[list[Incoming]]:
        """What is processed together: first all that is not suspect, then the suspects in parts that grow.

        Whatever has come back twice may be what kills the process, and may as well have met an outage. By parts of 1,
        2, 4 and so on, in any order, an outage costs a few more requests, and a message that kills holds up the others
        for a few deaths only.
        """
        parts = [[received for received in batch if received.receipts < SUSPECT_FROM]]
        suspects = sorted((each for each in batch if each.receipts >= SUSPECT_FROM), key=lambda _: self.jitter())
        size = 1
        while suspects:
            parts.append(suspects[:size])
            suspects = suspects[size:]
            size *= 2
        return [part for part in parts if part]

    def _process(
        self,
        messages: Mapping[Incoming, Message],
        process: Callable[[Sequence[Message], Deadline], Outcome],
        deadline: Deadline,
    ) -> set[Incoming]:
        """Process messages, or put them back, or dead-letter them; returns those that are done."""
        outcome = process_apart(list(messages.values()), process, deadline.less(RESERVE))
        again: dict[Incoming, Unavailable] = {}
        given_up: dict[Incoming, str] = {}
        tried: dict[str, Unavailable | str] = {
            lead: self._note_try(next(each for each in messages.values() if each.key == lead), mistake)
            for lead, mistake in outcome.failed.items()
        }
        for received, message in messages.items():
            fate = tried.get(message.key) or outcome.later.get(message.key) or outcome.refused.get(message.key)
            if isinstance(fate, Unavailable):
                again[received] = fate
            elif fate is not None:
                given_up[received] = fate
        self._put_back(again, deadline)
        taken = self._dead_letter(given_up, {received: messages[received].key for received in given_up}, deadline)
        return (messages.keys() - again.keys() - given_up.keys()) | taken

    def _note_try(self, message: Message, mistake: Mistake) -> Unavailable | str:
        """Count a mistake of ours: the message comes again, or is dead-lettered with this reason."""
        logger.error("a mistake of ours", extra={"lead": message.key, "what": mistake.what})
        try:
            tries = self.store.note_try((message.type, message.id), mistake.what, milliseconds(self.now()))
        except Unavailable as error:
            return error
        if tries % MOST_TRIES == 0:
            return f"failed {tries} times, last with {mistake.what}"
        return Unavailable(f"try {tries} failed: {mistake.what}")

    def _put_back(self, messages: Mapping[Incoming, Unavailable], deadline: Deadline) -> None:
        """Let messages be received again after growing delays."""
        if not messages:
            return
        at = milliseconds(self.now())
        # What may wait for so long only, waits because the policy says so.
        held_up = [each for each, why in messages.items() if why.retry_within is None]
        if held_up:
            longest = max(at - (at if each.first_at is None else each.first_at) for each in held_up)
            count(Metric.SECONDS_PUT_BACK, longest / 1000, seconds=True)
        count_held_up(messages.values())
        reasons: defaultdict[str, int] = defaultdict(int)
        for error in messages.values():
            reasons[str(error)] += 1
        for reason, number in reasons.items():
            logger.warning("put back", extra={"messages": number, "reason": reason})
        delays = [(received, self._delay(received, error)) for received, error in messages.items()]
        try:
            self.queue.put_back(delays, deadline.less(LAST_WORDS))
        except Unavailable as down:  # they come back by themselves when their visibility ends
            logger.warning("delays not set", extra={"reason": str(down)})

    def _delay(self, received: Incoming, error: Unavailable) -> int:
        """Whole seconds until a message may come again."""
        delay = max(growing_delay(received.receipts, 0.8 + 0.2 * self.jitter()), ceil(error.retry_after))
        return delay if error.retry_within is None else min(delay, ceil(error.retry_within))

    def _dead_letter(
        self, reasons: Mapping[Incoming, str], leads: Mapping[Incoming, str], deadline: Deadline
    ) -> set[Incoming]:
        """Dead-letter messages, bodies unchanged; returns those that the queue took.

        `leads` names the lead of each message that could be read.
        """
        messages = [
            Outgoing(
                received.body,
                {
                    "reason": reason[:MAX_REASON],
                    "stage": self.stage,
                    "message": received.id,
                    "receipts": str(received.receipts),
                },
            )
            for received, reason in reasons.items()
        ]
        try:
            self.dead_letters.send(messages, deadline.less(LAST_WORDS))
        except Unavailable as error:
            logger.error("not dead-lettered", extra={"messages": len(messages), "reason": str(error)})
            self._put_back(dict.fromkeys(reasons, error), deadline)
            return set()
        for received, reason in reasons.items():
            count(Metric.DEAD_LETTERED)
            logger.error(
                "dead-lettered", extra={"message_id": received.id, "lead": leads.get(received), "reason": reason}
            )
        return set(reasons)

    def _delete(self, done: Collection[Incoming], deadline: Deadline) -> None:
        try:
            self.queue.delete(list(done), deadline.less(LAST_WORDS))
        except Unavailable as error:  # they come again and are found done
            logger.warning("not deleted", extra={"messages": len(done), "reason": str(error)})
