"""A lead's record: its states, and the moves between them. Pure.

The record is the one place that says what has become of a lead. It only ever moves along the table below;
every move counts `rev` up by one, and the store writes it only where the record is still as it was read.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from fairturn.rules.events import CONTACT, UNKNOWN_SOURCE, Kind, lead_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from fairturn.errors import RecordUnreadable
    from fairturn.rules.events import Message
    from fairturn.rules.routing import Route

KEPT_FOR: Final = 120 * 24 * 3600
"""Seconds for which a finished record stays: longer than any dead letter lives (14 days), at least 90 days."""
READS_LAG: Final = 20_000
"""Milliseconds by which HubSpot's reads may be behind what has happened there, our own writes included; readings were
seen up to 15 seconds old, and HubSpot's clock may differ from ours."""
UNSEEN_FOR: Final = 15 * 60_000
"""Milliseconds since a message was first received, in which HubSpot may not show what is there, or still show what is
not."""
MOST_UNSEEN: Final = 3
"""If HubSpot shows none of more records than that, its answer says nothing."""
LOOK_AFTER: Final = (3_600_000, 86_400_000)
"""Milliseconds after which a lead that HubSpot did not show is looked for again: an hour, and a day."""
MOST_OWNERS: Final = 5
"""Owners that a record remembers: they get the lead again only if nobody else can take it."""
MAX_REASON: Final = 256
"""Characters of a reason that a record keeps."""


class State(StrEnum):
    """What has become of a lead."""

    NEW = "new"
    """There is no record of it."""
    WAITING = "waiting"
    """Nobody could take it yet."""
    CLAIMED = "claimed"
    """It is a rep's, by a claim; HubSpot has not been told, or has not said so yet."""
    HANDED = "handed"
    """The rep's, in HubSpot too."""
    OBSERVED = "observed"
    """Decided in the mode `observe`: nothing was written anywhere else."""
    EXTERNAL = "external"
    """Its owner was chosen outside Fairturn: by a person, a workflow or another app. That choice stands."""
    UNOWNED = "unowned"
    """Somebody took the owner away and named nobody."""
    CLOSED = "closed"
    """Its status or stage says that the work is done, or a rule says that it is nobody's lead."""
    REFUSED = "refused"
    """HubSpot does not take our owner for it: dead-lettered, the reason is in the record."""
    GONE = "gone"
    """It was deleted or merged into another; or HubSpot has not shown it for so long that it was given up."""
    ERASED = "erased"
    """The person asked to be forgotten: for good."""


class Move(StrEnum):
    """What can happen to a lead."""

    WAIT = "wait"
    CLAIM = "claim"
    RESUME = "resume"
    """A worker takes a standing claim up, to hand it over."""
    RELEASE = "release"
    """A worker could not hand it over; the next one may."""
    HAND_OVER = "hand over"
    OBSERVE = "observe"
    TAKE_OVER = "take over"
    """Somebody else chose the owner."""
    CLEAR = "clear"
    """Somebody took the owner away."""
    CLOSE = "close"
    REFUSE = "refuse"
    LOSE = "lose"
    ERASE = "erase"


_ANYWHERE: Final = {Move.TAKE_OVER: State.EXTERNAL, Move.CLOSE: State.CLOSED, Move.LOSE: State.GONE}
_FREE: Final = {**_ANYWHERE, Move.WAIT: State.WAITING, Move.CLAIM: State.CLAIMED}

MOVES: Mapping[tuple[State, Move], State] = {
    **{
        (state, move): result
        for state in (State.NEW, State.WAITING, State.OBSERVED, State.REFUSED)
        for move, result in {**_FREE, Move.OBSERVE: State.OBSERVED, Move.REFUSE: State.REFUSED}.items()
    },
    **{(state, move): result for state in (State.CLOSED, State.UNOWNED, State.GONE) for move, result in _FREE.items()},
    **{
        (state, move): result
        for state in (State.HANDED, State.EXTERNAL)
        for move, result in {**_ANYWHERE, Move.CLEAR: State.UNOWNED}.items()
    },
    (State.CLAIMED, Move.RESUME): State.CLAIMED,
    (State.CLAIMED, Move.RELEASE): State.CLAIMED,
    (State.CLAIMED, Move.HAND_OVER): State.HANDED,
    (State.CLAIMED, Move.WAIT): State.WAITING,
    **{(State.CLAIMED, move): result for move, result in {**_ANYWHERE, Move.REFUSE: State.REFUSED}.items()},
    **{(state, Move.ERASE): State.ERASED for state in State if state is not State.ERASED},
}
"""(state before, move) → state after. What is not here can't be."""

ENDED: Final = frozenset({State.CLOSED, State.UNOWNED, State.GONE})
"""From these a lead comes back in another round."""

HELD: Final = frozenset({State.CLAIMED, State.HANDED, State.EXTERNAL})
"""In these states the record counts in the load of its rep."""

TRACKED: Final = frozenset({State.HANDED, State.EXTERNAL, State.CLOSED, State.UNOWNED})
"""In these states somebody has, or had, the lead. Track follows it."""


class MoveImpossible(Exception):
    """The table of moves has no such move: a mistake in the program, never a fact of the trade."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A record as HubSpot shows it now."""

    owner: str | None
    closed: bool


@dataclass(frozen=True, slots=True)
class Record:
    """One lead as Fairturn knows it. Times are epoch milliseconds. No personal data but what the policy shows."""

    type: str
    id: str
    state: State = State.NEW
    rev: int = 0
    """Counts the writes; each write names the `rev` that it was decided on. 0: there is no record."""
    changed_at: int = 0
    """When it last moved, by our clock."""
    occurred_at: int = 0
    """When the event happened that brought the lead, by HubSpot's clock. 0: it never came as a lead."""
    round: int = 1
    """How often the lead has come: a closed lead that qualifies again starts another round."""
    source: str = ""
    """HubSpot's change source of that event."""
    rep: str | None = None
    """The owner: by our claim, or in `external` whom somebody else chose; once it has ended, the last one."""
    found_owner: str | None = None
    """The owner that HubSpot had when we first looked; only where the policy keeps no owner."""
    rota: str | None = None
    lane: str | None = None
    priority: str | None = None
    rule: str | None = None
    worth: str | None = None
    """What it is worth, in words; None where the policy doesn't say."""
    trace: str | None = None
    """The outcome of each condition tried, to be read with the policy's version."""
    policy: int | None = None
    claim: int | None = None
    """The version of the rota's ledger whose journal has the booking; None once the turn has gone back."""
    booked_as: str | None = None
    """The lead's name in that journal, where it was another: a merge has given the lead a new id."""
    claimed_at: int | None = None
    worker: str | None = None
    """Who is handing the claim over, since `changed_at`; None: nobody."""
    handed_at: int | None = None
    had: tuple[str, ...] = ()
    """Its last five owners before this one, the latest last."""
    waited: bool = False
    """In this round it was looked at before it was claimed, and nobody got it then: it came to its owner late."""
    spent: bool = False
    """It was taken away so soon that its turn would have come back, but the rep had no grace left: it stays spent."""
    reason: str | None = None
    """Why it is in its state, in words; None where that says enough."""
    merged_into: str | None = None
    """The id under which a merge has carried this lead on."""
    deleted_at: int = 0
    """When it was deleted, as an event told, by HubSpot's clock; 0: never, or it was restored since."""
    restored_at: int = 0
    """When it was restored, likewise; 0: never, or it was deleted since."""
    unseen_at: int | None = None
    """When it was given up because HubSpot did not show it, though no event explains that."""
    shown: Mapping[str, str] = field(default_factory=dict)
    """The values that the policy marks to be shown."""

    # What it says

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
    def place(self) -> tuple[str | None, str | None, str | None]:
        """Where it waits: rota, lane and priority."""
        return self.rota, self.lane, self.priority

    @property
    def holder(self) -> str | None:
        """The rep in whose load this record counts."""
        return self.rep if self.state in HELD else None

    @property
    def owners(self) -> tuple[str, ...]:
        """Its last five owners, the latest last: a claim that was never handed over made nobody its owner."""
        if self.rep is None or self.state not in {*TRACKED, State.GONE}:
            return self.had
        return (*(rep for rep in self.had if rep != self.rep), self.rep)[-MOST_OWNERS:]

    @property
    def is_counted(self) -> bool:
        """Whether the lead has to do with loads: we know it, and not because it was merely observed."""
        return self.state not in {State.NEW, State.OBSERVED}

    @property
    def came(self) -> bool:
        """Whether it ever came as a lead."""
        return self.occurred_at > 0

    @property
    def look_again_at(self) -> int | None:
        """When a lead that HubSpot did not show is to be looked for again; None: not again."""
        if self.state is not State.GONE or self.unseen_at is None:
            return None
        looks = (self.unseen_at + after for after in LOOK_AFTER)
        return next((look for look in looks if look > self.changed_at), None)

    @property
    def expires_at(self) -> int | None:
        """Epoch seconds from which DynamoDB may delete the record; None while it is of use or in a load."""
        return self.changed_at // 1000 + KEPT_FOR if self.state in {*ENDED, State.ERASED} else None

    def may_be_claimed_in(self, round: int) -> bool:  # noqa: A002 - the word of the trade
        """Whether a message of this round may lead to a claim, if HubSpot has the contact.

        A lead that is claimed, handed over, external or erased is not claimed. A lead that is closed or unowned is
        claimed again only in a later round than its own.
        """
        if self.state in {State.CLOSED, State.UNOWNED}:
            return round > self.round
        return self.state in {State.NEW, State.WAITING, State.OBSERVED, State.REFUSED, State.GONE}

    def is_deleted(self, since: int) -> bool:
        """Whether an event tells that it was deleted at `since` or later, and none that it was restored after that."""
        return self.deleted_at > 0 and self.deleted_at >= since

    # What is known of it, before it moves

    def brought_by(self, message: Message) -> Record:
        """With what is known from the message that brought it."""
        restored = self.with_deletion_times(restored_at=message.occurred_at if Kind.RESTORE in message.kinds else 0)
        says_source = message.change_source != UNKNOWN_SOURCE or not self.source
        source = message.change_source if says_source else self.source
        return replace(restored, occurred_at=message.occurred_at, source=source)

    def routed(self, route: Route, policy: int, owner: str | None, shown: Mapping[str, str]) -> Record:
        """With the place that a version of the policy gives it; `owner` and `shown` are what HubSpot has of it."""
        return replace(
            self,
            rota=route.rota,
            lane=route.lane,
            priority=route.priority.value,
            rule=route.rule,
            worth=route.worth,
            trace=route.trace,
            policy=policy,
            found_owner=owner,
            shown=shown,
        )

    def unrouted(self, owner: str | None) -> Record:
        """Without a place in any rota; `owner` is whom HubSpot has."""
        return replace(self, rota=None, lane=None, priority=None, rule=None, found_owner=owner)

    def with_deletion_times(self, *, deleted_at: int = 0, restored_at: int = 0) -> Record:
        """With when it was deleted or restored. Only the later of the two is kept; of two at the same moment, the
        restore. So the order in which we learn of them makes no difference."""
        deleted_at, restored_at = max(self.deleted_at, deleted_at), max(self.restored_at, restored_at)
        is_back = restored_at >= deleted_at
        return replace(self, deleted_at=0 if is_back else deleted_at, restored_at=restored_at if is_back else 0)

    def carried_to(self, id: str) -> Record:  # noqa: A002 - HubSpot's word
        """The same lead under the id that a merge has given it, of which there is no record yet."""
        booked_as = None if self.claim is None else self.booking[0]
        return replace(self, id=id, rev=0, booked_as=booked_as)

    # How it moves

    def waiting(self, reason: str, at: int) -> Record:
        """Nobody can take it now, or its claim is undone."""
        after = self._moved(Move.WAIT, at)
        return replace(
            after,
            rep=None,
            had=self.owners,
            claim=None,
            booked_as=None,
            waited=after.waited or self.state is not State.CLAIMED,
            reason=reason[:MAX_REASON],
        )

    def claimed(self, rep: str, claim: int, worker: str, at: int) -> Record:
        """Given to a rep by a claim that this worker makes and will hand over."""
        after = self._moved(Move.CLAIM, at)
        return replace(
            after,
            rep=rep,
            had=self.owners,
            claim=claim,
            booked_as=None,
            claimed_at=at,
            handed_at=None,
            worker=worker,
            spent=False,
            reason=None,
        )

    def resumed(self, worker: str, at: int) -> Record:
        """Its claim is handed over by this worker now."""
        return replace(self._moved(Move.RESUME, at), worker=worker)

    def released(self, at: int) -> Record:
        """Its claim could not be handed over now, and anybody may try."""
        return self._moved(Move.RELEASE, at)

    def handed(self, at: int) -> Record:
        """HubSpot has the owner."""
        return replace(self._moved(Move.HAND_OVER, at), handed_at=at)

    def observed(self, rep: str | None, at: int) -> Record:
        """Decided, and nothing else: it would have been this rep's, or nobody's."""
        return replace(self._moved(Move.OBSERVE, at), rep=rep, waited=True, reason=None)

    def external(self, owner: str, reason: str | None, at: int) -> Record:
        """With the owner whom somebody else chose."""
        had = tuple(rep for rep in self.owners if rep != owner)
        return replace(self._moved(Move.TAKE_OVER, at), rep=owner, had=had, reason=reason)

    def unowned(self, at: int) -> Record:
        """Without an owner, as somebody took it away."""
        return replace(self._moved(Move.CLEAR, at), rep=None, had=self.owners, reason="the owner was taken away")

    def closed(self, reason: str | None, at: int, *, rule: str | None = None) -> Record:
        """Nobody's work any more; or a rule's, by which it is nobody's lead."""
        return replace(self._moved(Move.CLOSE, at), reason=reason, rule=rule or self.rule)

    def refused(self, reason: str, at: int) -> Record:
        """Given up: HubSpot or we refuse it for good."""
        after = self._moved(Move.REFUSE, at)
        return replace(after, rep=None, claim=None, booked_as=None, waited=True, reason=reason[:MAX_REASON])

    def gone(self, reason: str, at: int, *, unseen_at: int | None = None) -> Record:
        """Not in HubSpot any more; `unseen_at` says since when we only think so."""
        after = self._ended(Move.LOSE, at)
        return replace(after, reason=reason, unseen_at=unseen_at, waited=after.waited or unseen_at is not None)

    def merged(self, into: str, at: int) -> Record:
        """Carried on under another id."""
        return replace(self._ended(Move.LOSE, at), reason="merged", merged_into=into)

    def erased(self, at: int) -> Record:
        """Forgotten, whatever events come later.

        For 120 days its id stays, so that it stays forgotten, and how often it came, against which the bookings in
        journals are held. These name the lead by its id, until they expire.
        """
        after = self._moved(Move.ERASE, at)
        return Record(after.type, after.id, after.state, after.rev, after.changed_at, round=after.round)

    def without_values(self) -> Record:
        """Without any property's value."""
        return replace(self, shown={}, trace=None, worth=None)

    def touched(self, at: int) -> Record:
        """Written again, in the same state."""
        return replace(self, rev=self.rev + 1, changed_at=at)

    def given_back(self) -> Record:
        """Without the claim whose turn goes back with this move."""
        return replace(self, claim=None, booked_as=None)

    def stays_spent(self) -> Record:
        """With the claim whose turn would go back with this move, if the rep had the grace for it."""
        return replace(self, spent=True, reason=f"{self.reason}; the turn stays spent")

    def _moved(self, what: Move, at: int) -> Record:
        """Raises MoveImpossible where the table has no such move."""
        try:
            state = MOVES[self.state, what]
        except KeyError:
            raise MoveImpossible(f"{what} from {self.state}") from None
        comes_back = self.state in ENDED and state in {State.WAITING, State.CLAIMED}
        merged_into = self.merged_into if state is State.GONE else None
        never_theirs = self.state is State.OBSERVED or (self.state is State.CLAIMED and state in {*ENDED, State.ERASED})
        return replace(
            self,
            state=state,
            rev=self.rev + 1,
            changed_at=at,
            rep=None if never_theirs else self.rep,
            round=self.round + comes_back,
            waited=self.waited and not (comes_back and self.unseen_at is None),
            worker=None,
            merged_into=merged_into,
            unseen_at=None,
        )

    def _ended(self, what: Move, at: int) -> Record:
        """What is no more keeps no property's value."""
        return self._moved(what, at).without_values()


@dataclass(frozen=True, slots=True)
class Records:
    """The records of some leads, by the leads' names."""

    known: Mapping[str, Record]
    """Those that there are."""
    unreadable: Mapping[str, RecordUnreadable]

    def of(self, id: str, type: str = CONTACT) -> Record:  # noqa: A002 - HubSpot's words
        """A lead's record; a new one where there is none. Raises RecordUnreadable."""
        key = lead_key(type, id)
        if key in self.unreadable:
            raise self.unreadable[key]
        return self.known.get(key) or new(id, type)


def new(id: str, type: str = CONTACT) -> Record:  # noqa: A002 - HubSpot's words
    """The record of a lead of which there is none."""
    return Record(type, id)


def milliseconds(at: datetime) -> int:
    """A moment as records and journals keep it: epoch milliseconds."""
    return int(at.timestamp() * 1000)


def follow(record: Record, seen: Seen, at: int) -> Record | None:
    """The record in line with what HubSpot shows of it; None if it is so already.

    What nobody owns and nobody had calls for no move: whether it is to be allotted is the policy's to say.
    """
    state = record.state
    if state is State.ERASED:
        return None
    if seen.closed:
        return None if state in {State.NEW, State.CLOSED} else record.closed(None, at)
    if state is State.CLAIMED and seen.owner in {None, record.found_owner, record.rep}:
        return None
    if state in {State.WAITING, State.OBSERVED, State.REFUSED} and seen.owner == record.found_owner:
        return None
    if seen.owner == record.holder:
        return None
    return (
        record.unowned(at) if seen.owner is None else record.external(seen.owner, "somebody else chose the owner", at)
    )


def load_changes(moves: Iterable[tuple[Record, Record]]) -> dict[str, int]:
    """How the moves change each rep's load; reps whose load stays are left out."""
    changes: Counter[str] = Counter()
    for before, after in moves:
        if before.holder is not None:
            changes[before.holder] -= 1
        if after.holder is not None:
            changes[after.holder] += 1
    return {rep: change for rep, change in changes.items() if change}
