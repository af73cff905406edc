"""What a portal's contacts were a while ago, for reads that lag."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fairturn_sandbox.records import Contact


class Past:
    """For each id, what was under it until when. Its times are epoch milliseconds."""

    def __init__(self) -> None:
        self._kept: dict[str, deque[tuple[int, Contact | None]]] = {}
        self._order: deque[tuple[int, str]] = deque()

    def keep(self, id: str, contact: Contact | None, until: int) -> None:  # noqa: A002 - HubSpot's word
        """Keep what is under this id until now; None: nothing."""
        copy = contact and replace(contact, properties={**contact.properties}, owners=[*contact.owners])
        self._kept.setdefault(id, deque()).append((until, copy))
        self._order.append((until, id))

    def forget(self, moment: float) -> None:
        """Forget what was no more at that moment."""
        while self._order and self._order[0][0] <= moment:
            _, id_ = self._order.popleft()
            self._kept[id_].popleft()
            if not self._kept[id_]:
                del self._kept[id_]

    def at(self, id: str, moment: float, present: Contact | None) -> Contact | None:  # noqa: A002
        """What was under this id at that moment: the present, unless something else is kept."""
        kept = self._kept.get(id, ())
        return next((contact for until, contact in kept if until > moment), present)

    def ids(self) -> list[str]:
        """The ids of which something is kept."""
        return [*self._kept]
