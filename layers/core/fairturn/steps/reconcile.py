"""Reconcile: looks at HubSpot for what has happened there and no webhook told of.

HubSpot gives a webhook up after 24 hours, and a subscription may be missing. So whatever has changed since the last
look is held against the records. What differs goes to track, as if its webhook had come: track reads the table and
HubSpot anew, so that nothing is done on the word of a search, and nothing twice.

A look goes by the time of the last change, and begins again a while before the last one began, because what was changed
a moment ago is not found by a search yet. It is made in pages of 200, and may be gone on with later.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from fairturn.batches import batched
from fairturn.edges.hubspot.answers import CHANGED_AT
from fairturn.edges.hubspot.client import BATCH_LIMIT, SEARCH_PAGE, Filter
from fairturn.edges.queues import Outgoing
from fairturn.errors import RecordUnreadable, Unavailable
from fairturn.rules.events import CONTACT, lead_key
from fairturn.rules.missed import NOTICED_WITHIN, missed
from fairturn.rules.record import milliseconds
from fairturn.telemetry import logger

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from fairturn.deadline import Deadline
    from fairturn.edges.hubspot.client import HubSpot
    from fairturn.edges.queues import Queue
    from fairturn.edges.store import Store
    from fairturn.rules.events import Message
    from fairturn.rules.missed import Cause, Sighting, Watermark
    from fairturn.rules.terms import Terms

PAGE: Final = SEARCH_PAGE
"""Contacts that are looked at together."""
LEAST: Final = 8.0
"""Seconds without which no further page is begun: a search, two readings, and the queue."""


@dataclass(frozen=True, slots=True)
class Strays:
    """What a look has found."""

    contacts: int = 0
    """How many it looked at."""
    messages: Mapping[Message, Cause] = field(default_factory=dict)
    """What goes to track, and why."""

    @property
    def causes(self) -> Counter[Cause]:
        """How many there are of each cause."""
        return Counter(self.messages.values())

    def __or__(self, further: Strays) -> Strays:
        """Both together."""
        return Strays(self.contacts + further.contacts, {**self.messages, **further.messages})


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """Looks at HubSpot for what no webhook has told, and tells track."""

    store: Store
    terms: Callable[[], Terms]
    """What is in force."""
    crm: HubSpot
    changes: Queue
    now: Callable[[], datetime]
    """An aware datetime."""

    def look(self, watermark: Watermark, deadline: Deadline, *, dry_run: bool = False) -> tuple[Watermark, Strays]:
        """Go on with a look, page by page, for as long as there is time; gives how far it has come, and what it found
        on the way. Raises Unavailable if it does not come any further.

        With `dry_run`, nothing is sent.
        """
        found = Strays()
        while not watermark.done and deadline.left() >= LEAST:
            try:
                sightings = self.crm.search(
                    CONTACT, [[_changed_since(watermark)]], deadline, beyond=watermark.beyond, most=PAGE
                )
                strays = self.strays(sightings.page, watermark.since, deadline)
                if not dry_run:
                    self.changes.send([Outgoing(message.body()) for message in strays])
            except Unavailable as error:
                if not found.contacts:
                    raise
                logger.warning("the look is gone on with later", extra={"reason": str(error)})
                break
            found |= Strays(len(sightings.page), strays)
            last = sightings.page[-1].id if sightings.page else watermark.beyond
            watermark = replace(watermark, beyond=last, done=sightings.is_last or not sightings.page)
        return watermark, found

    def strays(self, page: Sequence[Sighting], since: int, deadline: Deadline) -> dict[Message, Cause]:
        """What has to be told of the contacts of one page; those that are new to us and were created before `since`,
        epoch milliseconds, are no new leads. Raises Unavailable.

        The table is read before HubSpot, as track does it.
        """
        at = milliseconds(self.now())
        terms = self.terms()
        due = [each for each in page if max(each.created_at, each.changed_at) <= at - NOTICED_WITHIN]
        ids = [record for each in due for record in (each.id, *each.merged)]
        records = self.store.records((CONTACT, record) for record in dict.fromkeys(ids))
        strays: dict[Message, Cause] = {}
        for part in batched(due, BATCH_LIMIT):
            found = self.crm.read(CONTACT, [each.id for each in part], terms.policy.properties(), deadline)
            for sighting in part:
                properties = found.records.get(sighting.id)
                if properties is None or sighting.id in found.merged:
                    continue  # the next look finds it as it is then
                try:
                    stray = missed(sighting, properties, records.of, terms.policy, since, at)
                except RecordUnreadable as error:
                    lead = lead_key(CONTACT, sighting.id)
                    logger.warning("not reconciled", extra={"lead": lead, "reason": str(error)})
                    continue
                if stray is not None:
                    strays[stray[0]] = stray[1]
        return strays


def _changed_since(watermark: Watermark) -> Filter:
    return Filter(CHANGED_AT, "GTE", str(watermark.since))
