"""Moves: writes in batches what becomes of records, where no turn moves with them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fairturn.batches import batched
from fairturn.edges.refusals import RecordsMoved
from fairturn.errors import Contended

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fairturn.edges.store import Store
    from fairturn.rules.record import Record

MAX_MOVES: Final = 99
"""Records in one transaction; the loads are the hundredth item."""
ATTEMPTS: Final = 4
"""How often moves are tried of which some records have moved meanwhile."""


def write_moves(store: Store, moves: Sequence[tuple[Record, Record]]) -> list[Record]:
    """Write moves that touch no turn. What has moved meanwhile is left to whoever moved it.

    Returns the records as written. Raises Unavailable.
    """
    return [record for part in batched(moves, MAX_MOVES) for record in _write(store, part)]


def _write(store: Store, moves: Sequence[tuple[Record, Record]]) -> list[Record]:
    for _ in range(ATTEMPTS):
        if not moves:
            return []
        try:
            store.move(moves)
        except RecordsMoved as refused:
            moves = [pair for pair in moves if pair[1].key not in refused.records]
        else:
            return [record for _, record in moves]
    raise Contended("records kept moving")
