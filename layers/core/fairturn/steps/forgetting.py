"""Forgetting: who asked to be erased, and the values of who was deleted. It takes neither HubSpot nor a policy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fairturn.errors import Contended, Mistake, RecordUnreadable, Unavailable
from fairturn.rules.events import CONTACT
from fairturn.rules.record import State, milliseconds
from fairturn.steps.case import put_off
from fairturn.steps.claim import Undoing
from fairturn.steps.consumer import Settled
from fairturn.steps.moves import write_moves
from fairturn.telemetry import logger

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from fairturn.edges.store import Store
    from fairturn.rules.record import Record
    from fairturn.steps.case import Change
    from fairturn.steps.claim import Claims

ATTEMPTS: Final = 4
"""How often records that have moved meanwhile are read anew."""


def forget(
    changes: Sequence[Change], store: Store, claims: Claims, now: Callable[[], datetime]
) -> tuple[Settled, list[Change]]:
    """Erase who is to be erased, and drop all values of who was deleted. Gives also the changes that are still to be
    looked at: whether a deleted contact is gone is HubSpot's to say, because it may have been restored.

    Raises Unavailable.
    """
    settled, left = Settled(), [change for change in changes if change.forgets]
    for _ in range(ATTEMPTS):
        if not left:
            break
        part, left = _forget_once(left, store, claims, milliseconds(now()))
        settled |= part
    settled |= put_off(left, Contended("the record kept moving"))
    held_up = settled.later.keys() | settled.failed.keys()
    others = [each for each in changes if not (each.is_erasure or each.named & held_up)]
    return settled, others


def _forget_once(changes: Sequence[Change], store: Store, claims: Claims, at: int) -> tuple[Settled, list[Change]]:
    """Do it once; gives also the changes whose records have moved meanwhile."""
    ids = {record for change in changes for record in (change.id, *change.merged)}
    records = store.records((CONTACT, record) for record in sorted(ids))
    settled = Settled()
    moves: dict[str, tuple[Record, Record]] = {}
    for change in changes:
        try:
            own = [records.of(record) for record in (change.id, *sorted(change.merged))]
        except RecordUnreadable as error:
            settled |= Settled(failed=dict.fromkeys(change.named, Mistake(str(error))))
            continue
        if change.is_erasure and any(each.state is State.CLAIMED and claims.left_to(each) > 0 for each in own):
            settled |= put_off([change], Unavailable("a claim is under way"))
            continue
        moves |= {each.key: (each, after) for each in own if (after := _forgotten(change, each, at)) is not None}
    claimed = [Undoing(*pair) for pair in moves.values() if pair[0].state is State.CLAIMED]
    others = [pair for pair in moves.values() if pair[0].state is not State.CLAIMED]
    written = {record.key for record in (*claims.undo(claimed), *write_moves(store, others))}
    for key in sorted(written):
        logger.info("forgotten", extra={"lead": key, "state": moves[key][1].state})
    missed = moves.keys() - written
    return settled, [each for each in changes if each.keys & missed]


def _forgotten(change: Change, record: Record, at: int) -> Record | None:
    """The record as it is to be written; None if there is nothing to forget. What is claimed keeps its values until its
    claim has come to its end, and track looks at it then."""
    if change.is_erasure:
        return None if record.state is State.ERASED else record.erased(at)
    if record.state is State.CLAIMED or record == record.emptied():
        return None
    return record.emptied().noted(at)
