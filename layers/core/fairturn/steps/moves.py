"""Moves of records that touch no turn, written in batches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fairturn.edges.refusals import RecordsMoved
from fairturn.errors import Contended

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fairturn.edges.store import Store
    from fairturn.rules.record import Record

MAX_MOVES: Final = 99
"""Records in one transaction; the loads are the hundredth item."""
MOVE_ATTEMPTS: Final = 4


def write_moves(store: Store, moves: Sequence[tuple[Record, Record]]) -> list[Record]:
    """Write moves that touch no turn. What has moved meanwhile is left to whoever moved it.

    Returns the records as written. Raises Unavailable.
    """
    written: list[Record] = []
    for start in range(0, len(moves), MAX_MOVES):
        batch = moves[start : start + MAX_MOVES]
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
