"""What waits: the leads that nobody could take yet, by team, and those left without an owner."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from fairturn.edges.items import HELD_BACK, REFUSED, UNFINISHED, UNOWNED, UNSEEN
from fairturn.edges.store import MAX_KEYS
from fairturn.rules.events import lead_key
from fairturn.rules.wording import asked_in_words
from fairturn.steps.claim import still_claimed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fairturn.edges.store import Store
    from fairturn.rules.policy import Policy
    from fairturn.rules.record import Record

NAMES: Final = {
    UNFINISHED: "claimed, not handed over yet",
    HELD_BACK: "held back, from bulk sources",
    REFUSED: "refused: see the dead letters",
    UNOWNED: "left without an owner",
    UNSEEN: "not shown by HubSpot, to be looked for again",
}


@dataclass(frozen=True, slots=True)
class Waiting:
    """The leads that are due for the same reason."""

    lane: str
    """The due lane."""
    leads: int
    """How many; at most 1,000 are counted, and of what is claimed those of the first 100 claims."""
    first: tuple[Record, ...]
    """Those whose turn it is first: by urgency, then the oldest."""


def name(lane: str, policy: Policy | None) -> str:
    """Say which leads a due lane has: `inbound, asking for de, worth 60 or more`."""
    if lane in NAMES:
        return NAMES[lane]
    rota, _, asked = lane.partition("#")
    if policy is None:
        return f"{rota}, asking for {asked}"
    return f"{policy.team(rota)}, asking for {asked_in_words(asked, policy)}"


def waiting(store: Store, most: int) -> Iterator[Waiting]:
    """Every due lane that has leads, with its first ones, at most `most` (1 to 100) of them.

    Raises TableUnavailable.
    """
    for lane in [*sorted(store.pointer().lanes), HELD_BACK, UNFINISHED, REFUSED, UNOWNED, UNSEEN]:
        found = _claimed(store, most) if lane == UNFINISHED else _due(store, lane, most)
        if found.leads:
            yield found


def _due(store: Store, lane: str, most: int) -> Waiting:
    due = store.due(lane, min(most, MAX_KEYS))
    known = store.records(due).known
    first = tuple(known[key] for lead in due if (key := lead_key(*lead)) in known)
    return Waiting(lane, store.backlog(lane).leads if due else 0, first)


def _claimed(store: Store, most: int) -> Waiting:
    """The leads that are claimed: their claims are due, not they."""
    claims = still_claimed(store, store.unfinished(MAX_KEYS)).values()
    claimed = [record for each in claims for record in each.known.values()]
    return Waiting(UNFINISHED, len(claimed), tuple(claimed[:most]))
