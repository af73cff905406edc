"""Reconcile: look at all contacts that changed in HubSpot since some time, as long as it takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fairturn.deadline import Deadline
from fairturn.errors import OutOfTime
from fairturn.rules.missed import Watermark
from fairturn.rules.record import milliseconds
from fairturn.steps.reconcile import Strays

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime, timedelta

    from fairturn.steps.reconcile import Reconciliation

ROUND: Final = 60.0
"""Seconds between two lines of progress."""
MOST_ROUNDS: Final = 24 * 60
"""A day's, and some 15 million contacts."""


def look_all(
    reconciliation: Reconciliation, begun: datetime, back: timedelta, *, dry_run: bool, say: Callable[[str], None]
) -> Strays:
    """Watermark at all contacts that changed in HubSpot since so long before `begun`. Raises Unavailable.

    `say` takes a line of progress every minute.
    """
    look, found = Watermark(milliseconds(begun), milliseconds(begun - back)), Strays()
    for _ in range(MOST_ROUNDS):
        look, part = reconciliation.look(look, Deadline.after(ROUND), dry_run=dry_run)
        found |= part
        if look.done:
            return found
        say(f"{found.contacts} contacts looked at, {len(found.messages)} strays ...")
    raise OutOfTime(f"after a day and {found.contacts} contacts the look has come to no end")
