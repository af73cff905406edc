"""A lead's record: its states, and the moves between them. Pure.

The record is the one place that says what has become of a lead. It only ever moves along the table below;
every move counts `rev` up by one, and the store writes it only where the record is still as it was read.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

KEPT_FOR = 120 * 24 * 3600
"""Seconds for which a finished record stays: longer than any dead letter lives (14 days), at least 90 days."""


class State(StrEnum):
    """What has become of a lead."""

    WAITING = "waiting"
    """Nobody could take it yet."""
    CLAIMED = "claimed"
    """It is a rep's, by a claim; HubSpot has not been told, or has not said so yet."""
    HANDED = "handed"
    """The rep's, in HubSpot too."""
    OBSERVED = "observed"
    """Decided in the mode `observe`: nothing was written anywhere else."""
    ELSEWHERE = "elsewhere"
    """It has an owner whom somebody else chose, or none because somebody took him away."""
    CLOSED = "closed"
    """Its status or stage says that the work is done."""
    REFUSED = "refused"
    """HubSpot does not take our owner for it: dead-lettered, the reason is in the record."""
    GONE = "gone"
    """HubSpot has no such record any more."""


class Move(StrEnum):
    """What can happen to a lead."""

    WAIT = "wait"
    CLAIM = "claim"
    HAND_OVER = "hand over"
    OBSERVE = "observe"
    LEAVE = "leave"
    """Somebody else chose the owner; that choice stands."""
    REFUSE = "refuse"
    LOSE = "lose"
    """The record is gone from HubSpot."""


MOVES: Mapping[tuple[State | None, Move], State] = {
    **{
        (state, move): result
        for state in (None, State.WAITING, State.OBSERVED, State.REFUSED)
        for move, result in (
            (Move.WAIT, State.WAITING),
            (Move.CLAIM, State.CLAIMED),
            (Move.OBSERVE, State.OBSERVED),
            (Move.LEAVE, State.ELSEWHERE),
            (Move.REFUSE, State.REFUSED),
            (Move.LOSE, State.GONE),
        )
    },
    **{
        (state, move): result
        for state in (State.CLOSED, State.ELSEWHERE, State.GONE)
        for move, result in (
            (Move.WAIT, State.WAITING),
            (Move.CLAIM, State.CLAIMED),
            (Move.LEAVE, State.ELSEWHERE),
            (Move.LOSE, State.GONE),
        )
    },
    (State.CLAIMED, Move.HAND_OVER): State.HANDED,
    (State.CLAIMED, Move.WAIT): State.WAITING,
    (State.CLAIMED, Move.LEAVE): State.ELSEWHERE,
    (State.CLAIMED, Move.REFUSE): State.REFUSED,
    (State.CLAIMED, Move.LOSE): State.GONE,
    (State.HANDED, Move.LEAVE): State.ELSEWHERE,
    (State.HANDED, Move.LOSE): State.GONE,
}
"""(state before, move) → state after; None is a lead that we have no record of. What is not here can't be."""

ENDED = frozenset({State.CLOSED, State.ELSEWHERE, State.GONE})
"""From these a lead comes back only by an event that is later than the change: a new round."""

HELD = frozenset({State.CLAIMED, State.HANDED, State.ELSEWHERE})
"""In these states the record counts in the load of its rep."""


class MoveImpossible(Exception):
    """The table of moves has no such move: a mistake in the program, never a fact of the trade."""


@dataclass(frozen=True, slots=True)
class Record:
    """One lead as Fairturn knows it. Times are epoch milliseconds. No personal data but what the policy shows."""

    type: str
    id: str
    state: State
    rev: int
    """Counts the writes; each write names the `rev` that it was decided on."""
    changed_at: int
    """When the state last changed, by our clock."""
    occurred_at: int = 0
    """When the event happened that brought the lead, by HubSpot's clock."""
    round: int = 1
    """How often the lead has come: a closed lead that qualifies again starts another round."""
    source: str = ""
    """HubSpot's change source of that event."""
    rep: str | None = None
    """The owner: by our claim, or in `elsewhere` whom somebody else chose."""
    found_owner: str | None = None
    """The owner that HubSpot had when the lead was claimed; only where the policy keeps no owner."""
    rota: str | None = None
    lane: str | None = None
    priority: str | None = None
    rule: str | None = None
    trace: str | None = None
    """The outcome of each condition tried, to be read with the policy's version."""
    policy: int | None = None
    claim: int | None = None
    """The version of the rota's ledger whose journal has the booking."""
    claimed_at: int | None = None
    handed_at: int | None = None
    reason: str | None = None
    """Why it is refused or waiting, in words."""
    shown: Mapping[str, str] = field(default_factory=dict)
    """The values that the policy marks to be shown."""

    @property
    def key(self) -> str:
        """The lead's name in journals and logs, unique over all types."""
        return lead_key(self.type, self.id)

    @property
    def holder(self) -> str | None:
        """The rep in whose load this record counts."""
        return self.rep if self.state in HELD else None

    @property
    def expires_at(self) -> int | None:
        """Epoch seconds from which DynamoDB may delete the record; None while it is of use or in a load."""
        return self.changed_at // 1000 + KEPT_FOR if self.state in ENDED and self.holder is None else None


def milliseconds(at: datetime) -> int:
    """A moment as records and journals keep it: epoch milliseconds."""
    return int(at.timestamp() * 1000)


def lead_key(record_type: str, record_id: str) -> str:
    """`contact#123`."""
    return f"{record_type}#{record_id}"


def move(record: Record | None, what: Move, at: int, **facts: Any) -> Record:
    """The record after a move, with the facts that it brings. `type` and `id` are needed for a new one.

    A lead that comes back from its end starts another round. Raises MoveImpossible where the table has no such move.
    """
    before = None if record is None else record.state
    try:
        state = MOVES[before, what]
    except KeyError:
        raise MoveImpossible(f"{what} from {before or 'absent'}") from None
    if record is None:
        return Record(state=state, rev=1, changed_at=at, **facts)
    comes_back = before in ENDED and state not in ENDED
    return replace(record, state=state, rev=record.rev + 1, changed_at=at, round=record.round + comes_back, **facts)


def may_start(record: Record | None, occurred_at: int) -> bool:
    """Whether an event may start a claim: never for a lead that is claimed or handed, and from an ended one
    only by an event later than its end. An owner is not looked at here."""
    if record is None or record.state in {State.WAITING, State.OBSERVED, State.REFUSED}:
        return True
    return record.state in ENDED and occurred_at > record.changed_at


def load_changes(moves: Iterable[tuple[Record | None, Record]]) -> dict[str, int]:
    """How the moves change each rep's load; reps whose load stays are left out."""
    changes: Counter[str] = Counter()
    for before, after in moves:
        if before is not None and before.holder is not None:
            changes[before.holder] -= 1
        if after.holder is not None:
            changes[after.holder] += 1
    return {rep: change for rep, change in changes.items() if change}
