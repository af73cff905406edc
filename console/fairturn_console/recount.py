"""A recount: every load is made what the records say, and every record what HubSpot says."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from tenacity import retry, retry_if_exception_type, stop_after_attempt

from fairturn.deadline import Deadline
from fairturn.edges.hubspot.client import BATCH_LIMIT, MOST_GROUPS, Filter
from fairturn.edges.queues import Outgoing
from fairturn.edges.refusals import LoadsCorrected
from fairturn.errors import HubSpotUnavailable, OutOfTime
from fairturn.rules.events import CONTACT, OWNER, UNKNOWN_SOURCE, Kind, Message, lead_of
from fairturn.rules.record import MOST_UNSEEN, READS_LAG, milliseconds
from fairturn.rules.wording import as_text
from fairturn.steps.audit import read_loads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from fairturn.edges.hubspot.client import HubSpot
    from fairturn.edges.queues import Queue
    from fairturn.edges.store import Store
    from fairturn.rules.conditions import Reached
    from fairturn.rules.missed import Sighting
    from fairturn.rules.policy import Policy
    from fairturn.rules.record import Record
    from fairturn.steps.reconcile import Reconciliation

ATTEMPTS: Final = 3
"""How often loads are held against the records, if somebody else corrects them meanwhile."""
MOST_AT_ONCE: Final = 100
"""Loads that are corrected in one request: an expression of DynamoDB's has at most 4 KB."""
READING_WITHIN: Final = 1_800.0
"""Seconds for reading all records, some times over."""
ASKED_WITHIN: Final = 30.0
"""Seconds for one search, or one reading, with its attempts."""
MOST_PAGES: Final = 5_000
"""Pages of one rep's contacts: a million."""


@retry(retry=retry_if_exception_type(LoadsCorrected), stop=stop_after_attempt(ATTEMPTS), reraise=True)
def correct_loads(
    store: Store, reps: Sequence[str], *, dry_run: bool = False
) -> tuple[dict[str, dict[str, Record]], dict[str, int]]:
    """Make loads what the records say, while leads flow. Gives what each rep holds, by id, and by how much their load
    was higher; 0 for whose leads kept moving.

    Raises LoadsCorrected if others correct loads again and again, and Unavailable.
    """
    corrections = store.corrections()
    reading = read_loads(store, Deadline.after(READING_WITHIN))
    known = {rep: drift.low for rep, drift in reading.drifts.items() if drift.is_known}
    drifts = {rep: known.get(rep, 0) for rep in reps}
    wrong = [] if dry_run else [rep for rep in reps if drifts[rep]]
    for number, start in enumerate(range(0, len(wrong), MOST_AT_ONCE)):
        part = wrong[start : start + MOST_AT_ONCE]
        store.correct_loads({rep: -drifts[rep] for rep in part}, corrections + number)
    held: dict[str, dict[str, Record]] = {rep: {} for rep in reps}
    for record in reading.records.known.values():
        if record.holder in held:
            held[record.holder][record.id] = record
    return held, drifts


@dataclass(frozen=True, slots=True)
class Count:
    """What a recount found of one rep."""

    rep: str
    held: int
    """Leads that are theirs by the records."""
    drift: int
    """By how much their load was higher than that; 0 where it was right, or where their leads kept moving."""
    open: int | None
    """Open leads in HubSpot, by the count of its search; None if the policy has too many criteria to ask for it."""
    strays: frozenset[str] = field(default=frozenset())
    """Contacts of which record and HubSpot differ."""


@dataclass(frozen=True, slots=True)
class Recount:
    """Makes every load what HubSpot has, while leads flow.

    Loads are held against the records first: their difference is no transaction's doing, and so the same whenever it
    is measured. It is taken back on condition that nobody else has corrected loads since. Then the records are held
    against HubSpot, rep by rep, and what differs goes to track.
    """

    store: Store
    crm: HubSpot
    reconciliation: Reconciliation
    changes: Queue
    now: Callable[[], datetime]
    """An aware datetime."""
    sleep: Callable[[float], None]

    def run(
        self, reps: Sequence[str], policy: Policy, say: Callable[[str], None], *, dry_run: bool = False
    ) -> Iterator[Count]:
        """Count anew what these owners have. Raises Unavailable; what was given before that is done.

        `say` takes a line of progress. With `dry_run`, nothing is corrected and nothing sent.
        """
        held, drifts = correct_loads(self.store, reps, dry_run=dry_run)
        unseen: dict[str, Record] = {}
        shows = False  # whether HubSpot shows anything at all
        for number, rep in enumerate(reps, 1):
            say(f"rep {number} of {len(reps)} ...")
            total = self._open(rep, policy)
            shows |= bool(total)
            strays: set[str] = set()
            if total != len(held[rep]):
                messages, missing = self._compare(rep, held[rep])
                strays = {message.id for message in messages} | {record.id for record in missing.values()}
                unseen |= missing
                self._send(messages, dry_run=dry_run)
            yield Count(rep, len(held[rep]), drifts[rep], total, frozenset(strays))
        if unseen:
            if len(unseen) > MOST_UNSEEN and not shows:
                raise HubSpotUnavailable(
                    f"HubSpot shows none of {len(unseen)} contacts and no other of their reps: its answers say nothing"
                )
            say(f"{len(unseen)} contacts that HubSpot does not show are looked for again ...")
            self.sleep(READS_LAG / 1000)
            self._send(self._gone(unseen), dry_run=dry_run)

    def _open(self, rep: str, policy: Policy) -> int | None:
        """How many open contacts an owner has, in at most two searches: all of them, and those that are closed."""
        closed = policy.leads.closed
        if len(closed) > MOST_GROUPS:
            return None
        theirs = Filter(OWNER, "EQ", rep)
        total = self.crm.search(CONTACT, [[theirs]], Deadline.after(ASKED_WITHIN), most=1).total
        if not closed or not total:
            return total
        groups = [[theirs, _reached(each)] for each in closed]
        return total - self.crm.search(CONTACT, groups, Deadline.after(ASKED_WITHIN), most=1).total

    def _compare(self, rep: str, held: Mapping[str, Record]) -> tuple[list[Message], dict[str, Record]]:
        """Look at all that an owner has in HubSpot, and at all that they hold by the records and do not have there.
        Gives the messages for track, and the records that HubSpot does not show."""
        messages: list[Message] = []
        seen: set[str] = set()
        for page in self._pages(rep):
            seen |= {each.id for each in page}
            messages += self.reconciliation.strays(page, milliseconds(self.now()), Deadline.after(ASKED_WITHIN))
        missing = [held[lead] for lead in sorted(held.keys() - seen, key=int)]
        shown, unseen = self._shown(missing)
        return [*messages, *(self._message(lead, Kind.FOUND) for lead in shown)], unseen

    def _pages(self, rep: str) -> Iterator[tuple[Sighting, ...]]:
        beyond = "0"
        for _ in range(MOST_PAGES):
            theirs = [[Filter(OWNER, "EQ", rep)]]
            found = self.crm.search(CONTACT, theirs, Deadline.after(ASKED_WITHIN), beyond=beyond)
            yield found.page
            if found.is_last or not found.page:
                return
            beyond = found.page[-1].id
        raise OutOfTime(f"owner {rep} has more contacts than a recount looks at")

    def _shown(self, records: Sequence[Record]) -> tuple[list[str], dict[str, Record]]:
        """The ids that HubSpot shows as anything else than the records say; and the records that it does not show."""
        shown: list[str] = []
        unseen: dict[str, Record] = {}
        for start in range(0, len(records), BATCH_LIMIT):
            part = records[start : start + BATCH_LIMIT]
            found = self.crm.read(CONTACT, [each.id for each in part], [OWNER], Deadline.after(ASKED_WITHIN))
            for record in part:
                properties = found.records.get(record.id)
                if properties is not None:
                    shown += [record.id] if properties.get(OWNER) != record.rep else []
                elif record.id in found.merged:
                    shown.append(record.id)
                elif record.id not in found.unreadable:
                    unseen[record.key] = record
        return shown, unseen

    def _gone(self, unseen: Mapping[str, Record]) -> list[Message]:
        """Deletions that no event reported: not shown twice, and the record has not moved meanwhile."""
        _, still = self._shown(list(unseen.values()))
        now = self.store.records(map(lead_of, still)).known
        gone = [record for key, record in still.items() if key in now and now[key].rev == record.rev]
        return [self._message(record.id, Kind.DELETION) for record in gone]

    def _message(self, lead: str, kind: Kind) -> Message:
        kinds = tuple(sorted({kind, Kind.FOUND}))
        at = milliseconds(self.now())
        return Message(id=lead, kinds=kinds, occurred_at=at, change_source=UNKNOWN_SOURCE)

    def _send(self, messages: Iterable[Message], *, dry_run: bool) -> None:
        if not dry_run:
            self.changes.send([Outgoing(message.body()) for message in messages])


def _reached(criterion: Reached) -> Filter:
    """What closes a contact, as a search asks for it: options go by their case, texts by small letters."""
    values = [as_text(value) for value in criterion.reaches]
    return Filter(criterion.property, "IN", tuple(dict.fromkeys([*values, *(value.lower() for value in values)])))
