"""Flood: counts the leads from bulk sources, and holds them back when they are too many."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fairturn.batches import batched
from fairturn.edges.refusals import BrakeMoved, RecordsMoved
from fairturn.edges.store import MAX_RECORDS
from fairturn.errors import Contended
from fairturn.rules.brake import register
from fairturn.rules.record import milliseconds
from fairturn.telemetry import Metric, count, logger

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from fairturn.edges.store import Store
    from fairturn.rules.events import Message
    from fairturn.rules.record import Record
    from fairturn.rules.terms import Terms

ATTEMPTS: Final = 5
"""How often leads are counted anew, where somebody else has counted meanwhile."""

BulkLead = tuple["Record", "Record", "Message"]
"""A lead from a bulk source: its record as it was read, as it is while it waits, and the message that brings it."""


def hold_back(leads: Sequence[BulkLead], terms: Terms, store: Store, now: Callable[[], datetime]) -> list[Message]:
    """Let leads wait, and count them, once; gives the messages of those that may go on, because they are no flood. The
    others wait until a policy is applied. Raises Unavailable."""
    going_on: list[Message] = []
    for part in batched(leads, MAX_RECORDS):
        going_on += _hold_back(part, terms, store, now)
    return going_on


def _hold_back(leads: Sequence[BulkLead], terms: Terms, store: Store, now: Callable[[], datetime]) -> list[Message]:
    for _ in range(ATTEMPTS):
        moves = [(record, held) for record, held, _ in leads]
        brake = store.brake()
        after = register(brake, len(moves), milliseconds(now()), terms.policy.flood, terms.number)
        try:
            if after is brake:
                store.move(moves)
            else:
                store.hold_back(brake, after, moves)
        except BrakeMoved:
            continue
        except RecordsMoved as refused:
            leads = [each for each in leads if each[0].key not in refused.records]
            if not leads:
                return []
            continue
        if not after.is_pulled(terms.number):
            return [message for *_, message in leads]
        logger.info("held back", extra={"leads": [record.key for record, *_ in leads]})
        if after is not brake:
            count(Metric.BULK_PAUSED)
            number = len(leads) + sum(brake.minutes.values())
            what = "bulk sources are paused until a policy is applied"
            logger.error(what, extra={"leads": number, "policy": terms.number})
        return []
    raise Contended("the brake kept moving")
