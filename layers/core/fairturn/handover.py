"""Handover: writing the owner and the explanation into HubSpot, where nobody else has chosen meanwhile."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from fairturn.claim import bookings_of
from fairturn.crm import OwnerWrite, Refusal
from fairturn.errors import Contended, HubSpotUnavailable, RecordsMoved
from fairturn.explain import explanation
from fairturn.policy import OWNER
from fairturn.record import Move, Record, milliseconds, move
from fairturn.telemetry import Metric, count, logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import datetime

    from fairturn.claim import Claims, Undoing
    from fairturn.crm import HubSpot, Written
    from fairturn.errors import Unavailable
    from fairturn.ledger import Booking
    from fairturn.store import Store

OWNER_IS_FRESH_FOR: Final = 2.0
"""Seconds for which the owner that was read may be relied on; after that it is read again before ours is written."""
MAX_MOVES: Final = 99
"""Records in one transaction; the loads are the hundredth item."""
MOVE_ATTEMPTS: Final = 4
MAX_REASON: Final = 200
"""Characters of a reason that a record keeps."""


@dataclass(slots=True)
class Outcome:
    """What came of a handover."""

    handed: list[Record] = field(default_factory=list)
    taken: list[str] = field(default_factory=list)
    """Somebody else chose the owner; the claim is undone."""
    again: list[str] = field(default_factory=list)
    """HubSpot doesn't take this owner, or has no such lead any more; the claim is undone, and the lead is to be looked
    at anew."""
    refused: dict[str, str] = field(default_factory=dict)
    """HubSpot refuses the lead itself; the claim is undone. Key → reason."""
    later: dict[str, Unavailable] = field(default_factory=dict)
    """HubSpot didn't get to these, and their claims stand; or didn't find them, and their claims are undone."""


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
        refusal: Move = Move.REFUSE,
    ) -> Outcome:
        """Write the owner of claimed leads, at most 97 of one type, into HubSpot and mark them handed over.

        `owners` has the owner of each lead as HubSpot had it at `read_at` (seconds, by `clock`), None where
        there was none; a lead that is absent is gone. `refusal` is the move of a record that HubSpot refuses.
        Between the last reading of the owners and the writing of ours there is nothing but that request.
        """
        outcome = Outcome()
        if not claimed:
            return outcome
        writes = self._owner_writes(claimed)
        if self._clock() - read_at > OWNER_IS_FRESH_FOR:
            owners = self._owners([record for record, _ in claimed], outcome)
        undone: list[Undoing] = []
        ready: dict[str, Record] = {}
        for record, _ in claimed:
            owner = owners.get(record.key)
            if record.key in outcome.later:
                continue
            if record.key not in owners:
                outcome.again.append(record.key)
                undone.append((record, Move.WAIT, {"rep": None, "reason": "gone before it was handed over"}))
            elif owner not in {None, record.found_owner, record.rep}:
                outcome.taken.append(record.key)
                undone.append((record, Move.LEAVE, {"rep": owner, "reason": "somebody else chose the owner"}))
            else:
                ready[record.id] = record
        written = self._write([writes[id_] for id_ in ready], claimed[0][0].type)
        outcome.later |= {ready[id_].key: failure for id_, failure in written.put_off.items()}
        done = [record for id_, record in ready.items() if id_ not in written.refused and id_ not in written.put_off]
        at = milliseconds(self._now())
        outcome.handed = write_moves(
            self._store, [(record, move(record, Move.HAND_OVER, at, handed_at=at)) for record in done]
        )
        undone += self._judge(written.refused, ready, outcome, refusal)
        self._claims.undo(undone)
        return outcome

    def _owner_writes(self, claimed: Sequence[tuple[Record, Booking | None]]) -> dict[str, OwnerWrite]:
        resumed = bookings_of(self._store, [record for record, booking in claimed if booking is None])
        return {
            record.id: OwnerWrite(record.id, record.rep or "", explanation(record, booking or resumed[record.key]))
            for record, booking in claimed
        }

    def _owners(self, records: Sequence[Record], outcome: Outcome) -> dict[str, str | None]:
        answer = self._crm.read(records[0].type, [record.id for record in records], [OWNER])
        outcome.later |= {
            record.key: answer.unreadable[record.id] for record in records if record.id in answer.unreadable
        }
        found = answer.records
        return {record.key: found[record.id].get(OWNER) or None for record in records if record.id in found}

    def _write(self, writes: Sequence[OwnerWrite], record_type: str) -> Written:
        written = self._crm.write_owners(record_type, writes)
        if not written.explained:
            count(Metric.EXPLANATION_REFUSED)
            logger.error("HubSpot refuses our explanation properties: the owners were written without them")
        return written

    def _judge(
        self,
        refusals: Mapping[str, tuple[Refusal, str]],
        ready: Mapping[str, Record],
        outcome: Outcome,
        refusal: Move,
    ) -> Iterator[Undoing]:
        unavailable = {ready[id_].rep for id_, (kind, _) in refusals.items() if kind is Refusal.OWNER}
        for rep in sorted(rep for rep in unavailable if rep is not None):
            self._store.mark_unavailable(rep)
            count(Metric.REPS_UNAVAILABLE)
            logger.error("HubSpot refuses this owner: no lead goes to him", extra={"rep": rep})
        for id_, (kind, reason) in refusals.items():
            record = ready[id_]
            if kind is Refusal.OWNER:
                outcome.again.append(record.key)
                yield record, Move.WAIT, {"rep": None, "reason": "HubSpot refuses the owner"}
            elif kind is Refusal.GONE:  # or merged, as a later reading will tell
                outcome.later[record.key] = HubSpotUnavailable("HubSpot shows the record, but does not find it")
                yield record, Move.WAIT, {"rep": None, "reason": reason[:MAX_REASON]}
            else:
                outcome.refused[record.key] = f"HubSpot refuses to give this lead an owner: {reason}"[:MAX_REASON]
                yield record, refusal, {"rep": None, "reason": outcome.refused[record.key]}


def write_moves(store: Store, moves: Sequence[tuple[Record | None, Record]]) -> list[Record]:
    """Write moves that touch no turn. What has moved meanwhile is left to whoever moved it.

    Returns the records as written. Raises Unavailable.
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
            raise Contended("records kept moving")
    return written
