"""Queues in memory: what was not taken out comes again, at once; and what went out for good."""

from __future__ import annotations

import time
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING

from fairturn.edges.queues import Incoming, Outgoing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fairturn.deadline import Deadline


class Inbox:
    """A queue of messages to be handled: what was not deleted comes again."""

    def __init__(self) -> None:
        self.messages: dict[str, Incoming] = {}
        self._numbers = count()

    def arrive(self, body: str, receipts: int = 0) -> None:
        """Let a message come that has been received so often before."""
        id_ = f"m{next(self._numbers)}"
        self.messages[id_] = Incoming(id_, f"handle of {id_}", body, receipts)

    def receive(self, most: int | None = None) -> list[Incoming]:
        """The messages that came first, at most so many, each received once more."""
        at = int(time.time() * 1000)
        batch = [
            replace(each, receipts=each.receipts + 1, first_at=each.first_at or at)
            for each in list(self.messages.values())[:most]
        ]
        self.messages |= {each.id: each for each in batch}
        return batch

    def send(self, messages: Sequence[Outgoing], deadline: Deadline | None = None) -> None:  # noqa: ARG002
        for each in messages:
            self.arrive(each.body)

    def delete(self, received: Sequence[Incoming], deadline: Deadline | None = None) -> None:  # noqa: ARG002
        for each in received:
            self.messages.pop(each.id, None)

    def length(self) -> int:
        return len(self.messages)

    def put_back(self, delays: Sequence[tuple[Incoming, int]], deadline: Deadline | None = None) -> None:  # noqa: ARG002
        """Time is not told here: what is put back comes after all others."""
        for each, _ in delays:
            if each.id in self.messages:
                self.messages[each.id] = self.messages.pop(each.id)


class Graveyard:
    """The dead-letter queue."""

    def __init__(self) -> None:
        self.letters: list[Outgoing] = []

    @property
    def bodies(self) -> list[str]:
        return [letter.body for letter in self.letters]

    def send(self, messages: Sequence[Outgoing], deadline: Deadline | None = None) -> None:  # noqa: ARG002
        self.letters += messages
