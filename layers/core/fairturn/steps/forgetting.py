"""Forgetting: erases who asked for it, and drops the values of who was deleted. HubSpot and a policy are not needed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fairturn.errors import Contended, Mistake, RecordUnreadable, Unavailable
from fairturn.rules.events import CONTACT
from fairturn.rules.record import State, milliseconds
from fairturn.steps.case import put_off
from fairturn.steps.claim import Undoing
from fairturn.steps.consumer import Outcome
from fairturn.steps.moves import write_moves
from fairturn.telemetry import logger

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from fairturn.edges.store import Store
    from fairturn.rules.record import Record
    from fairturn.steps.case import Change
    from fairturn.steps.claim import Claimer

ATTEMPTS: Final = 4
"""How often records that have moved meanwhile are read anew."""


def forget(
    changes: Sequence[Change], store: Store, claimer: Claimer, now: Callable[[], datetime]
) -> tuple[Outcome, list[Change]]:
    """Erase who is to be erased, and drop all values of who was deleted. Gives also the changes that are still to be
    looked at: whether a deleted contact is gone is HubSpot's to say, because it may have been restored.

    Raises Unavailable.
    """
    outcome, left = Outcome(), [change for change in changes if change.forgets]
    for _ in range(ATTEMPTS):
        if not left:
            break
        part, left = _forget_once(left, store, claimer, milliseconds(now()))
        outcome |= part
    outcome |= put_off(left, Contended("the record kept moving"))
    held_up = outcome.later.keys() | outcome.failed.keys()
    others = [each for each in changes if not (each.is_erasure or each.named & held_up)]
    return outcome, others


def _forget_once(changes: Sequence[Change], store: Store, claimer: Claimer, at: int) -> tuple[Outcome, list[Change]]:
    """Do it once; gives also the changes whose records have moved meanwhile."""
    ids = {record for change in changes for record in (change.id, *change.merged)}
    records = store.records((CONTACT, record) for record in sorted(ids))
    outcome = Outcome()
    moves: dict[str, tuple[Record, Record]] = {}
    for change in changes:
        try:
            own = [records.of(record) for record in (change.id, *sorted(change.merged))]
        except RecordUnreadable as error:
            outcome |= Outcome(failed=dict.fromkeys(change.named, Mistake(str(error))))
            continue
        if change.is_erasure and any(each.state is State.CLAIMED and claimer.left_to(each) > 0 for each in own):
            outcome |= put_off([change], Unavailable("a claim is under way"))
            continue
        moves |= {each.key: (each, after) for each in own if (after := _forgotten(change, each, at)) is not None}
    claimed = [Undoing(*pair) for pair in moves.values() if pair[0].state is State.CLAIMED]
    others = [pair for pair in moves.values() if pair[0].state is not State.CLAIMED]
    written = {record.key for record in (*claimer.undo(claimed), *write_moves(store, others))}
    for key in sorted(written):
        logger.info("forgotten", extra={"lead": key, "state": moves[key][1].state})
    missed = moves.keys() - written
    return outcome, [each for each in changes if each.keys & missed]


def _forgotten(change: Change, record: Record, at: int) -> Record | None:
    """The record as it is to be written; None if there is nothing to forget. What is claimed keeps its values until its
    claim has come to its end, and track looks at it then."""
    if change.is_erasure:
        return None if record.state is State.ERASED else record.erased(at)
    if record.state is State.CLAIMED or record == record.without_values():
        return None
    return record.without_values().touched(at)
