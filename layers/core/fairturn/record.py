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
    """Its owner is somebody else's choice; or it has none, because somebody took him away."""
    CLOSED = "closed"
    """Its status or stage says that the work is done, or a rule says that it is nobody's lead."""
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
    """Somebody else chose the owner, or took him away; that choice stands."""
    CLOSE = "close"
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
            (Move.CLOSE, State.CLOSED),
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
            (Move.CLOSE, State.CLOSED),
            (Move.LOSE, State.GONE),
        )
    },
    (State.CLAIMED, Move.HAND_OVER): State.HANDED,
    (State.CLAIMED, Move.WAIT): State.WAITING,
    (State.CLAIMED, Move.LEAVE): State.ELSEWHERE,
    (State.CLAIMED, Move.REFUSE): State.REFUSED,
    (State.CLAIMED, Move.LOSE): State.GONE,
    (State.HANDED, Move.LEAVE): State.ELSEWHERE,
    (State.HANDED, Move.CLOSE): State.CLOSED,
    (State.HANDED, Move.LOSE): State.GONE,
}
"""(state before, move) → state after; None is a lead that we have no record of. What is not here can't be."""

ENDED = frozenset({State.CLOSED, State.ELSEWHERE, State.GONE})
"""From these a lead comes back in a new round: once HubSpot has it again, or by an event later than the change."""

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
    """The owner that HubSpot had when we first looked; only where the policy keeps no owner."""
    rota: str | None = None
    lane: str | None = None
    priority: str | None = None
    rule: str | None = None
    trace: str | None = None
    """The outcome of each condition tried, to be read with the policy's version."""
    policy: int | None = None
    claim: int | None = None
    """The version of the rota's ledger whose journal has the booking; None once the turn has gone back."""
    booked_as: str | None = None
    """The lead's name in that journal, where it was another: a merge has given the lead a new id."""
    claimed_at: int | None = None
    handed_at: int | None = None
    reason: str | None = None
    """Why it is in its state, in words; None where that says enough."""
    merged_into: str | None = None
    """The id under which a merge has carried this lead on."""
    shown: Mapping[str, str] = field(default_factory=dict)
    """The values that the policy marks to be shown."""

    @property
    def key(self) -> str:
        """The lead's name in journals and logs, unique over all types."""
        return lead_key(self.type, self.id)

    @property
    def booking(self) -> tuple[str, int]:
        """The lead's name in the journal of its claim, and that claim. Raises ValueError if there is none."""
        if self.claim is None:
            raise ValueError(f"{self.key} has no booking")
        return self.booked_as or self.key, self.claim

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


@dataclass(frozen=True, slots=True)
class Seen:
    """A record as HubSpot shows it now."""

    owner: str | None
    closed: bool


def move(record: Record | None, what: Move, at: int, **facts: Any) -> Record:
    """The record after a move, with the facts that it brings. `type` and `id` are needed for a new one.

    A lead that comes back from its end starts another round. One that is gone keeps no property's value, so that
    an erasure leaves nothing, in whatever order it and the deletion are told. Raises MoveImpossible where the
    table has no such move.
    """
    before = None if record is None else record.state
    try:
        state = MOVES[before, what]
    except KeyError:
        raise MoveImpossible(f"{what} from {before or 'absent'}") from None
    if state is State.GONE:
        facts |= {"shown": {}, "trace": None}
    elif before is State.GONE:
        facts |= {"merged_into": None}
    if record is None:
        return Record(state=state, rev=1, changed_at=at, **facts)
    comes_back = before in ENDED and state not in ENDED
    return replace(record, state=state, rev=record.rev + 1, changed_at=at, round=record.round + comes_back, **facts)


def may_start(record: Record | None, occurred_at: int) -> bool:
    """Whether an event may start a claim for a lead that HubSpot has: never for one that is claimed or handed or that
    somebody else has, and for one that was closed or left without an owner only by an event later than that."""
    if record is None or record.state in {State.WAITING, State.OBSERVED, State.REFUSED, State.GONE}:
        return True
    return record.state in ENDED and record.holder is None and occurred_at > record.changed_at


def is_counted(record: Record | None) -> bool:
    """Whether the lead has to do with loads: it was not merely observed."""
    return record is not None and record.state is not State.OBSERVED


def follow(record: Record | None, seen: Seen | None) -> Move | None:
    """The move that brings a record in line with what HubSpot shows of it; None if it is so already.

    `seen` is None where HubSpot has no such record. What nobody owns and nobody had calls for no move: whether it
    is to be allotted is the policy's to say.
    """
    state = None if record is None else record.state
    if seen is None:
        return None if state in {None, State.GONE} else Move.LOSE
    if seen.closed:
        return None if state in {None, State.CLOSED} else Move.CLOSE
    if record is None:
        return None if seen.owner is None else Move.LEAVE
    if state is State.CLAIMED:
        return None if seen.owner in {None, record.found_owner, record.rep} else Move.LEAVE
    if state in {State.WAITING, State.OBSERVED, State.REFUSED} and seen.owner == record.found_owner:
        return None
    return None if seen.owner == record.holder else Move.LEAVE


def load_changes(moves: Iterable[tuple[Record | None, Record]]) -> dict[str, int]:
    """How the moves change each rep's load; reps whose load stays are left out."""
    changes: Counter[str] = Counter()
    for before, after in moves:
        if before is not None and before.holder is not None:
            changes[before.holder] -= 1
        if after.holder is not None:
            changes[after.holder] += 1
    return {rep: change for rep, change in changes.items() if change}
