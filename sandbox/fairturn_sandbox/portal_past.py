"""What a portal's records were a while ago: a read that lags shows it."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fairturn_sandbox.portal import Record

Key = tuple[str, str]
"""Type and id of a record."""


class Past:
    """For each id, what was under it until when. Its times are epoch milliseconds."""

    def __init__(self) -> None:
        self._kept: dict[Key, deque[tuple[int, Record | None]]] = {}
        self._order: deque[tuple[int, Key]] = deque()

    def keep(self, type: str, id: str, record: Record | None, until: int) -> None:  # noqa: A002 - HubSpot's words
        """Keep what is under this id until now; None: nothing."""
        copy = record and replace(record, properties={**record.properties}, owners=[*record.owners])
        self._kept.setdefault((type, id), deque()).append((until, copy))
        self._order.append((until, (type, id)))

    def forget(self, moment: float) -> None:
        """Forget what was no more at that moment."""
        while self._order and self._order[0][0] <= moment:
            _, key = self._order.popleft()
            self._kept[key].popleft()
            if not self._kept[key]:
                del self._kept[key]

    def at(self, type: str, id: str, moment: float, present: Record | None) -> Record | None:  # noqa: A002
        """What was under this id at that moment: the present, unless something else is kept."""
        kept = self._kept.get((type, id), ())
        return next((record for until, record in kept if until > moment), present)

    def ids(self, type: str) -> list[str]:  # noqa: A002
        """The ids of which something is kept."""
        return [id_ for each, id_ in self._kept if each == type]
