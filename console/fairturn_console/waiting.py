"""What waits: the leads of each lane that nobody could take yet, and those that somebody left without an owner."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from fairturn.events import lead_key
from fairturn.store import CLAIMED, HELD_BACK, MAX_KEYS, REFUSED, UNOWNED, UNSEEN

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fairturn.record import Record
    from fairturn.store import Store

NAMES: Final = {
    CLAIMED: "claimed, not handed over yet",
    HELD_BACK: "held back, from bulk sources",
    REFUSED: "refused: see the dead letters",
    UNOWNED: "left without an owner",
    UNSEEN: "not shown by HubSpot, to be looked for again",
}


@dataclass(frozen=True, slots=True)
class Lane:
    """The leads that are due for the same reason."""

    name: str
    leads: int
    """How many; at most 1,000 are counted."""
    first: tuple[Record, ...]
    """Those whose turn it is first: by urgency, then the oldest."""


def waiting(store: Store, most: int) -> Iterator[Lane]:
    """Every lane in which something is due, with its first leads, at most `most` (1 to 100) of them.

    Raises TableUnavailable.
    """
    for lane in [*sorted(store.pointer().lanes), HELD_BACK, CLAIMED, REFUSED, UNOWNED, UNSEEN]:
        due = store.due(lane, min(most, MAX_KEYS))
        if due:
            known = store.records(due).known
            first = tuple(known[key] for lead in due if (key := lead_key(*lead)) in known)
            yield Lane(NAMES.get(lane, lane.replace("#", ", ")), store.backlog(lane).leads, first)
