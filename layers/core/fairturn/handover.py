"""Handover: writing the owner and the explanation into HubSpot, where nobody else has chosen meanwhile."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from fairturn.claim import booking_of
from fairturn.crm import OwnerWrite, Refusal
from fairturn.errors import RecordsMoved, TableUnavailable
from fairturn.explain import explanation
from fairturn.record import Move, Record, move
from fairturn.telemetry import Metric, count, logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import datetime

    from fairturn.claim import Claims
    from fairturn.crm import HubSpot
    from fairturn.ledger import Booking
    from fairturn.store import Store

OWNER: Final = "hubspot_owner_id"
OWNER_IS_FRESH_FOR: Final = 2.0
"""Seconds for which the owner that was read may be relied on; after that it is read again before ours is written."""
MAX_WRITES: Final = 100
"""Records in one batch update at HubSpot."""
MAX_MOVES: Final = 99
"""Records in one transaction; the loads are the hundredth item."""
MOVE_ATTEMPTS: Final = 4


@dataclass(slots=True)
class Outcome:
    """What came of a handover."""

    handed: list[Record] = field(default_factory=list)
    taken: list[str] = field(default_factory=list)
    """Somebody else chose the owner; the claim is undone."""
    gone: list[str] = field(default_factory=list)
    again: list[str] = field(default_factory=list)
    """HubSpot doesn't take this owner; the claim is undone, and the lead is to be allotted without him."""
    refused: dict[str, str] = field(default_factory=dict)
    """HubSpot refuses the lead itself; the claim is undone. Key → reason."""


class Handover:
    """Tells HubSpot whose the claimed leads are."""

    def __init__(
        self,
        store: Store,
        crm: HubSpot,
        claims: Claims,
        *,
        now: Callable[[], datetime],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._crm = crm
        self._claims = claims
        self._now = now
        self._clock = clock

    def hand_over(
        self,
        claimed: Sequence[tuple[Record, Booking | None]],
        owners: Mapping[str, str | None],
        read_at: float,
    ) -> Outcome:
        """Write the owner of claimed leads into HubSpot and mark them handed over.

        `owners` has the owner of each lead as HubSpot had it at `read_at` (seconds, by `clock`), None where
        there was none; a lead that is absent is gone. Raises HubSpotUnavailable with the claims left standing:
        the next try goes on from there.
        """
        outcome = Outcome()
        undone: list[tuple[Record, Move, dict[str, Any]]] = []
        if self._clock() - read_at > OWNER_IS_FRESH_FOR:
            owners = self._owners(claimed)
        writes: dict[str, OwnerWrite] = {}
        ready: dict[str, Record] = {}
        for record, booking in claimed:
            owner = owners.get(record.key)
            if record.key not in owners:
                outcome.gone.append(record.key)
                undone.append((record, Move.LOSE, {"rep": None, "reason": "gone before it was handed over"}))
            elif owner not in {None, record.found_owner, record.rep}:
                outcome.taken.append(record.key)
                undone.append((record, Move.LEAVE, {"rep": owner, "reason": "somebody else chose the owner"}))
            else:
                ready[record.key] = record
                if owner != record.rep:
                    writes[record.key] = self._owner_write(record, booking)
        self._undo(undone)
        refusals = self._write(writes, ready)
        self._mark_handed([record for key, record in ready.items() if key not in refusals], outcome)
        self._undo(list(self._judge(refusals, ready, outcome)))
        return outcome

    def _owners(self, claimed: Iterable[tuple[Record, Booking | None]]) -> dict[str, str | None]:
        owners: dict[str, str | None] = {}
        by_type: dict[str, list[Record]] = {}
        for record, _ in claimed:
            by_type.setdefault(record.type, []).append(record)
        for record_type, records in by_type.items():
            for start in range(0, len(records), MAX_WRITES):
                batch = records[start : start + MAX_WRITES]
                found = self._crm.read(record_type, [record.id for record in batch], [OWNER])
                owners |= {record.key: found[record.id].get(OWNER) or None for record in batch if record.id in found}
        return owners

    def _owner_write(self, record: Record, booking: Booking | None) -> OwnerWrite:
        if record.rep is None:
            raise ValueError(f"{record.key} is nobody's")
        booking = booking or booking_of(self._store, record)
        return OwnerWrite(record.id, record.rep, explanation(record, booking))

    def _write(self, writes: Mapping[str, OwnerWrite], ready: Mapping[str, Record]) -> dict[str, tuple[Refusal, str]]:
        refusals: dict[str, tuple[Refusal, str]] = {}
        by_type: dict[str, list[OwnerWrite]] = {}
        for key, write in writes.items():
            by_type.setdefault(ready[key].type, []).append(write)
        keys = {(record.type, record.id): key for key, record in ready.items()}
        for record_type, batch in by_type.items():
            for start in range(0, len(batch), MAX_WRITES):
                written = self._crm.write_owners(record_type, batch[start : start + MAX_WRITES])
                if not written.explained:
                    count(Metric.EXPLANATION_REFUSED)
                    logger.error("HubSpot refuses our explanation properties: the owners were written without them")
                refusals |= {keys[record_type, id_]: refusal for id_, refusal in written.refused.items()}
        return refusals

    def _mark_handed(self, records: Sequence[Record], outcome: Outcome) -> None:
        at = int(self._now().timestamp() * 1000)
        moves = [(record, move(record, Move.HAND_OVER, at, handed_at=at)) for record in records]
        written = write_moves(self._store, moves)
        outcome.handed += written

    def _judge(
        self, refusals: Mapping[str, tuple[Refusal, str]], ready: Mapping[str, Record], outcome: Outcome
    ) -> Iterable[tuple[Record, Move, dict[str, Any]]]:
        unavailable = {ready[key].rep for key, (kind, _) in refusals.items() if kind is Refusal.OWNER}
        for rep in sorted(rep for rep in unavailable if rep is not None):
            self._store.mark_unavailable(rep)
            count(Metric.REPS_UNAVAILABLE)
            logger.error("HubSpot refuses this owner: no lead goes to him", extra={"rep": rep})
        for key, (kind, reason) in refusals.items():
            record = ready[key]
            if kind is Refusal.OWNER:
                outcome.again.append(key)
                yield record, Move.WAIT, {"rep": None, "reason": f"HubSpot refuses the owner {record.rep}"}
            elif kind is Refusal.GONE:
                outcome.gone.append(key)
                yield record, Move.LOSE, {"rep": None, "reason": reason}
            else:
                outcome.refused[key] = f"HubSpot refuses to give this lead an owner: {reason}"
                yield record, Move.REFUSE, {"rep": None, "reason": outcome.refused[key]}

    def _undo(self, undone: Sequence[tuple[Record, Move, dict[str, Any]]]) -> None:
        if undone:
            self._claims.undo(undone)


def write_moves(store: Store, moves: Sequence[tuple[Record | None, Record]]) -> list[Record]:
    """Write moves that touch no turn. What has moved meanwhile is left to whoever moved it.

    Returns the records as written. Raises TableUnavailable.
    """
    written: list[Record] = []
    for start in range(0, len(moves), MAX_MOVES):
        batch = list(moves[start : start + MAX_MOVES])
        for _ in range(MOVE_ATTEMPTS):
            if not batch:
                break
            try:
                store.move(batch)
            except RecordsMoved as refused:
                batch = [pair for pair in batch if pair[1].key not in refused.records]
                continue
            written += [record for _, record in batch]
            break
        else:
            raise TableUnavailable("records kept moving")
    return written
