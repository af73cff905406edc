"""What the reps of each team got in some days, beside their fair share.

It is told by the journals of that time and the leads' records; nothing is kept for it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Final

from fairturn.batches import batched
from fairturn.edges.store import MAX_KEYS
from fairturn.rules.events import lead_of
from fairturn.rules.ledger import BAND, TURN, Claim
from fairturn.rules.record import State

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from fairturn.edges.store import Store
    from fairturn.rules.ledger import GivingBack
    from fairturn.rules.record import Record
    from fairturn.rules.terms import Terms

ALL: Final = ""
"""The band of a team that has none."""


@dataclass(slots=True)
class Row:
    """What one rep got of one team's leads, or of those in one band of worth."""

    team: str
    band: str
    """The lower bound of the band; empty where the policy names no worth."""
    rep: str
    """Owner id."""
    got: int = 0
    """Leads that they were given, whatever became of these."""
    fair_share: float = 0.0
    """Leads that they were entitled to: for each lead that they could have taken, their share of one turn. What came
    back is left out of it."""
    came_back: int = 0
    """Turns that were given back to them, because the lead did not become or stay theirs."""
    spent: int = 0
    """Leads that were taken from them so soon that the turn would have come back, had they not used up their grace."""
    taken_over: int = 0
    """Leads that somebody else has by now, by another's choice."""
    closed: int = 0
    ended: set[str] = field(default_factory=set)
    """The leads that are counted as closed or taken over: each of them once, however often it came."""
    seconds: list[float] = field(default_factory=list)
    """From HubSpot's event to the owner in HubSpot, of each lead that did not wait."""

    @property
    def median_seconds(self) -> float | None:
        """Half of the leads had their owner within so many seconds; None if there were none."""
        return median(self.seconds) if self.seconds else None


@dataclass(frozen=True, slots=True)
class Report:
    """What was looked at, and what it came to."""

    rows: Sequence[Row]
    turns: int
    """Turns that were given: one for each lead, and one more each time that it came again or was given anew."""
    is_whole: bool
    """Whether the journals reach back to the beginning of the time."""


def report(store: Store, terms: Terms, since: int, progress: Callable[[str], None]) -> Report:
    """Look at every claim since a time in epoch milliseconds. `progress` takes a line now and then.

    Whether a turn that was taken back stayed spent is told by the lead's record. Where the lead has come again since,
    or its record has expired, the turn counts as come back. Raises TableUnavailable.
    """
    rows: dict[tuple[str, str, str], Row] = {}
    turns, is_whole = 0, True
    for rota in terms.policy.teams():
        team = terms.policy.team(rota)
        returned: set[tuple[int, str]] = set()
        for journals, are_all in _since(store, rota, since):
            is_whole &= are_all
            for version, entry in journals:
                if isinstance(entry, Claim):
                    turns += len(entry.leads)
                    _count(version, entry, returned, store, rows, team)
                else:  # newer than the claims whose turns it gave back
                    returned |= {(each.claim, each.lead) for each in entry.leads}
            progress(f"{team}: {turns} turns looked at ...")
    return Report(sorted(rows.values(), key=lambda row: (row.team, row.band, row.rep)), turns, is_whole)


def _since(store: Store, rota: str, since: int) -> Iterator[tuple[list[tuple[int, Claim | GivingBack]], bool]]:
    """The journals of a rota since a time, the newest first; and whether all of them are there."""
    newest = store.read([rota], []).ledgers[rota].version
    for numbers in batched(range(newest, 0, -1), MAX_KEYS):
        found = store.entries([(rota, number) for number in numbers])
        read = [(number, found[rota, number][0]) for number in numbers if (rota, number) in found]
        entries = [(number, entry) for number, entry in read if entry is not None]
        lately = [(number, entry) for number, entry in entries if entry.at >= since]
        yield lately, len(entries) == len(numbers) or len(lately) < len(entries)
        if len(lately) < len(numbers):
            return


def _count(
    version: int,
    claim: Claim,
    returned: Collection[tuple[int, str]],
    store: Store,
    rows: dict[tuple[str, str, str], Row],
    team: str,
) -> None:
    known = store.records(lead_of(each.lead) for each in claim.leads).known
    for lead, booking in claim.bookings().items():
        band, record = booking.lane.partition(BAND)[2], known.get(lead)
        winner = _row(rows, team, band, booking.winner)
        winner.got += 1
        is_spent = record is not None and record.spent and record.claim == version
        winner.spent += is_spent
        if (version, lead) in returned and not is_spent:
            winner.came_back += 1
        else:
            for rep, share in booking.shares.items():
                _row(rows, team, band, rep).fair_share += share / TURN
        if record is not None:
            _follow(record, version, winner)


def _follow(record: Record, version: int, winner: Row) -> None:
    """See what has become of a lead since."""
    if record.claim == version and record.handed_at is not None and not record.waited:
        winner.seconds.append((record.handed_at - record.occurred_at) / 1000)
    if record.key not in winner.ended:
        winner.ended.add(record.key)
        winner.closed += record.state is State.CLOSED and record.rep == winner.rep
        winner.taken_over += record.state is State.EXTERNAL and winner.rep in record.had


def _row(rows: dict[tuple[str, str, str], Row], team: str, band: str, rep: str) -> Row:
    return rows.setdefault((team, band, rep), Row(team, band, rep))
