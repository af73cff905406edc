"""Audit: whether ledgers, journals, loads, records and HubSpot say the same, while leads flow.

Nothing that is merely under way is a finding:

- A ledger is read before its journals, which never change, so they make it.
- Loads are read between two readings of all records. What one reading is torn by leaves a doubt, and a doubt is none of
  the findings; see `Tally`.
- A finding that rests on records stands only if these have not moved after the journals were read.
- Where HubSpot differs, track looks at the lead anew. It is a finding only if all has been still for long.

The daily audit does one step after the other and notes how far it has come, so that the next run of sweep goes on.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import chain
from random import Random
from typing import TYPE_CHECKING, Final

from fairturn.batches import batched
from fairturn.edges.hubspot.answers import ASSIGNED_AT, CHANGED_AT, moment
from fairturn.edges.queues import Outgoing
from fairturn.edges.store import MAX_KEYS, MAX_RECORDS
from fairturn.errors import OutOfTime
from fairturn.rules.events import CONTACT, UNKNOWN_SOURCE, Kind, Message, lead_of
from fairturn.rules.findings import (
    Bookings,
    Checkpoint,
    Drift,
    Finding,
    Replay,
    Tally,
    What,
    differs,
    drifts,
    misbooked,
    misloaded,
    overbooked,
    stale,
)
from fairturn.rules.ledger import Claim
from fairturn.rules.record import Records, State, milliseconds
from fairturn.telemetry import Metric, count, logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime

    from fairturn.deadline import Deadline
    from fairturn.edges.hubspot.client import HubSpot
    from fairturn.edges.queues import Queue
    from fairturn.edges.store import Store
    from fairturn.errors import RecordUnreadable
    from fairturn.rules.findings import Resting
    from fairturn.rules.ledger import ClaimKey
    from fairturn.rules.record import Record
    from fairturn.rules.terms import Terms

LEAST: Final = 6.0
"""Seconds without which no further page is begun: to a page of journals belong all claims that it gives back."""
ROUNDS: Final = 3
"""How often loads are held against the records, where some remain in doubt."""
MAX_PAGES: Final = 20_000
"""Pages of one reading of all records, of 1 MB each."""
MOST_TRIES: Final = 5
"""How often a daily audit begins to read all records: where they are too many for one run, the audit says so."""
MOST_CLAIMS: Final = 2_000
"""Claims that records are held against in a daily audit, the latest ones."""
MOST_SUSPECTS: Final = 500
"""Findings that rest on records and are looked at once more; with so many, the rest say nothing new."""
MOST_LOGGED: Final = 20
"""Findings that one run logs. All are counted."""
LEAST_READING: Final = 20.0
"""Seconds without which it is not begun to read all records."""
CLAIMS_KEPT: Final = 64
"""Claims kept in memory, of which the next giving back may give something back, too."""


@dataclass(slots=True)
class Report:
    """What an audit, or a step of it, has looked at and found."""

    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What it could not look at although nothing is wrong, in sentences."""
    rotas: int = 0
    versions: int = 0
    """Versions of ledgers that were replayed."""
    records: int = 0
    compared: int = 0
    """Records that were compared with HubSpot."""
    undecided: list[str] = field(default_factory=list)
    """Reps of whose load it can't say whether it is right, because their leads kept moving."""


@dataclass(frozen=True, slots=True)
class Reading:
    """All records as the last of several readings found them, and the loads held against all of these."""

    records: Records
    loads: Mapping[str, int]
    """As they were read last."""
    drifts: Mapping[str, Drift]
    """By how much each rep's load is too high; 0 where it is right. Transactions do not change it, so it is still true
    when the load has moved on."""

    def add_to(self, report: Report) -> None:
        """Say of the loads, and of records that can't be read."""
        report.records += len(self.records.known)
        report.findings += misloaded(self.loads, self.drifts)
        report.findings += [
            Finding(What.RECORD, lead, "this version cannot read the record")
            for lead in sorted(self.records.unreadable)
        ]
        report.undecided += [rep for rep, drift in self.drifts.items() if not drift.is_known and not drift.is_wrong]


def read_loads(store: Store, deadline: Deadline) -> Reading:
    """Hold every rep's load against the records, as often as it takes to be sure of all, at most three times.

    Raises TableUnavailable, and OutOfTime if all records can't be read twice.
    """
    before = _read_records(store, deadline)
    tallies: list[Tally] = []
    for _ in range(ROUNDS):
        began = deadline.left()
        loads = store.loads()
        after = _read_records(store, deadline)
        unreadable = len(before.unreadable.keys() | after.unreadable.keys())
        tallies.append(Tally.of(before.known, loads, after.known, unreadable=unreadable))
        found, took = drifts(tallies), began - deadline.left()
        if all(drift.is_known for drift in found.values()) or deadline.left() < 1.5 * took + LEAST:
            break
        before = after
    return Reading(after, loads, found)


def _read_records(store: Store, deadline: Deadline) -> Records:
    """Every record, each as it was at some moment of the reading."""
    known: dict[str, Record] = {}
    unreadable: dict[str, RecordUnreadable] = {}
    page, beyond = store.page_of_records()
    for _ in range(MAX_PAGES):
        known |= page.known
        unreadable |= page.unreadable
        if beyond is None:
            return Records(known, unreadable)
        deadline.check(LEAST)
        page, beyond = store.page_of_records(beyond)
    raise OutOfTime(f"the table has more than {MAX_PAGES} pages of records")


def audit_table(store: Store, at: int, deadline: Deadline) -> Report:
    """Look at the whole table, from the oldest journals that are kept. Raises TableUnavailable and OutOfTime."""
    report = Report()
    reading = read_loads(store, deadline)
    reading.add_to(report)
    records = reading.records.known
    named = {record.rota for record in records.values() if record.rota is not None}
    books: dict[str, Bookings] = {}
    for rota in sorted(named | _rotas(store)):
        replay, is_done = _replay(store, rota, 1, at, deadline, report)
        if not is_done:
            raise OutOfTime("the journals are too many for the time that there is")
        books[rota] = replay.bookings
    unfinished = _unfinished(_entries(store, _claimed(records.values()), deadline))
    resting = chain(misbooked(records.values(), books, unfinished), overbooked(records, books))
    report.findings += _confirmed(store, resting)
    return report


def _rotas(store: Store) -> set[str]:
    """The rotas that any version of the policy named."""
    return {lane.partition("#")[0] for lane in store.pointer().lanes}


def _replay(store: Store, rota: str, first: int, at: int, deadline: Deadline, report: Report) -> tuple[Replay, bool]:
    """Replay the journals of a rota from one version on, as far as there is time; whether that was to the end."""

    @lru_cache(CLAIMS_KEPT)
    def claim_of(version: int) -> Claim | None:
        entry, _ = store.entries([(rota, version)]).get((rota, version), (None, False))
        return entry if isinstance(entry, Claim) else None

    replay = Replay(rota, claim_of)
    ledger = store.read([rota], []).ledgers[rota]
    next_: int | None = first
    while next_ is not None and next_ <= ledger.version and deadline.left() >= LEAST:
        entries, next_ = store.journals_from(rota, next_, ledger.version, at)
        for version, entry in entries.items():
            replay.follow(version, entry)
    is_done = next_ is None or next_ > ledger.version
    if is_done:
        replay.close(ledger)
        ahead = (rota, ledger.version + 1)
        if store.entries([ahead]) and store.read([rota], []).ledgers[rota].version <= ledger.version:
            says = f"the ledger is at version {ledger.version}, and there is a journal of a later one"
            replay.findings.append(Finding(What.LEDGER, rota, says))
    report.findings += replay.findings
    report.notes += replay.notes
    report.versions += replay.versions
    report.rotas += is_done
    return replay, is_done


def _claimed(records: Iterable[Record]) -> set[ClaimKey]:
    """The claims of all that is claimed."""
    return {
        (record.rota, record.claim)
        for record in records
        if record.state is State.CLAIMED and record.rota is not None and record.claim is not None
    }


def _entries(store: Store, claims: Iterable[ClaimKey], deadline: Deadline) -> dict[ClaimKey, tuple[Claim | None, bool]]:
    """The claims themselves, as far as they are kept, and whether sweep looks at them."""
    found: dict[ClaimKey, tuple[Claim | None, bool]] = {}
    for part in batched(sorted(claims), MAX_KEYS):
        deadline.check(LEAST)
        entries = store.entries(part)
        found |= {key: (entry, is_due) for key, (entry, is_due) in entries.items() if isinstance(entry, Claim)}
    return found


def _unfinished(entries: Mapping[ClaimKey, tuple[Claim | None, bool]]) -> set[ClaimKey]:
    return {claim for claim, (_, is_due) in entries.items() if is_due}


def _confirmed(store: Store, resting: Iterable[Resting]) -> list[Finding]:
    """The findings whose records have not moved since they were read."""
    suspects = [each for each, _ in zip(resting, range(MOST_SUSPECTS), strict=False)]
    keys = {record.key for _, records in suspects for record in records}
    now = store.records(map(lead_of, sorted(keys))).known
    return [
        finding
        for finding, records in suspects
        if all(record.key in now and now[record.key].rev == record.rev for record in records)
    ]


@dataclass(frozen=True, slots=True)
class Audit:
    """The daily audit."""

    store: Store
    crm: HubSpot
    changes: Queue
    now: Callable[[], datetime]
    """An aware datetime."""

    def run(self, terms: Terms, deadline: Deadline) -> None:
        """Begin what is due, go on with what was begun, as far as there is time, and tell what was found. The first
        audit is made a day after the installation.

        Raises Unavailable if somebody can't be asked now.
        """
        checkpoint, at = self.store.checkpoint(), milliseconds(self.now())
        if checkpoint is None:
            self.store.note_checkpoint(Checkpoint(began_at=at, done=True))
            return
        logged = 0
        if checkpoint.is_late(at):
            checkpoint = replace(checkpoint, late_logged_at=at)
            says = "it was not begun or not finished for two days"
            logged += _log(Report([Finding(What.LATE, "the audit", says)]), MOST_LOGGED)
            self.store.note_checkpoint(checkpoint)
        if checkpoint.is_over(at):
            rotas = {*terms.policy.rotas, *_rotas(self.store)}
            checkpoint = checkpoint.next(at, rotas)
        while not checkpoint.done and deadline.left() >= LEAST:
            checkpoint, report = self._go_on(checkpoint, terms, deadline)
            logged += _log(report, MOST_LOGGED - logged, done=checkpoint.done)
            self.store.note_checkpoint(checkpoint)

    def _go_on(self, checkpoint: Checkpoint, terms: Terms, deadline: Deadline) -> tuple[Checkpoint, Report]:
        """Do the next step of an audit; gives how far it has come then, and what it found."""
        report = Report()
        if checkpoint.left:
            checkpoint = self._replay(checkpoint, deadline, report)
        elif not checkpoint.counted:
            checkpoint = self._check_records(checkpoint, deadline, report)
        elif checkpoint.sample:
            checkpoint = self._compare(checkpoint, terms, deadline, report)
        else:
            checkpoint = replace(checkpoint, done=True)
        return checkpoint, report

    def _replay(self, checkpoint: Checkpoint, deadline: Deadline, report: Report) -> Checkpoint:
        """Replay one rota, from the last claim that was replayed: so that the chain of journals has no gap."""
        rota, *others = checkpoint.left
        at, first = milliseconds(self.now()), checkpoint.upto.get(rota, 1)
        replay, is_done = _replay(self.store, rota, first, at, deadline, report)
        since = {rota: replay.bookings.since} | dict(checkpoint.since) if replay.bookings.since else checkpoint.since
        upto = dict(checkpoint.upto) | ({rota: replay.last_claim} if replay.last_claim else {})
        report.findings += self._not_given_back(rota, replay.bookings.returned)
        return replace(checkpoint, left=tuple(others) if is_done else checkpoint.left, since=since, upto=upto)

    def _not_given_back(self, rota: str, returned: Iterable[tuple[str, int]]) -> list[Finding]:
        """Records that name a claim whose turn had gone back before they were read."""
        found: list[Finding] = []
        for part in batched(sorted(returned), MAX_KEYS):
            known = self.store.records(lead_of(lead) for lead, _ in part).known.values()
            found += [
                Finding(What.CLAIM, record.key, f"it names claim {record.claim} of {rota}, whose turn has gone back")
                for record in known
                if record.rota == rota and record.claim is not None and record.booking in part
            ]
        return found

    def _check_records(self, checkpoint: Checkpoint, deadline: Deadline, report: Report) -> Checkpoint:
        """Hold all records against the loads, and against the claims that were replayed. That has to be done in one
        run, so it is not begun without a fair part of one, and given up for the day after a few tries."""
        deadline.check(LEAST_READING)
        try:
            reading = read_loads(self.store, deadline)
            records = reading.records.known.values()
            named = {(each.rota, each.claim) for each in records if each.rota is not None and each.claim is not None}
            recent = [(rota, claim) for rota, claim in named if claim >= checkpoint.since.get(rota, claim + 1)]
            recent = sorted(recent, key=lambda each: each[1], reverse=True)[:MOST_CLAIMS]
            entries = _entries(self.store, {*recent, *_claimed(records)}, deadline)
        except OutOfTime:
            checkpoint = replace(checkpoint, tries=checkpoint.tries + 1)
            if checkpoint.tries < MOST_TRIES:
                return checkpoint
            report.findings.append(
                Finding(What.LATE, "the audit", "all records can't be read twice in one run of sweep")
            )
            return replace(checkpoint, counted=True)
        reading.add_to(report)
        books: defaultdict[str, Bookings] = defaultdict(Bookings)
        for rota, claim in recent:
            book, (entry, _) = books[rota], entries.get((rota, claim), (None, False))
            book.since, book.upto = claim, max(book.upto, claim)  # they come in falling order
            if entry is not None:
                book.given[claim] = {given.lead: given.winner for given in entry.leads}
        report.findings += _confirmed(self.store, misbooked(records, books, _unfinished(entries)))
        held = sorted(each.key for each in records if each.state in {State.HANDED, State.EXTERNAL})
        chance = Random(f"{self.now():%Y-%m-%d}")  # noqa: S311 - a sample, no secret
        return replace(checkpoint, counted=True, sample=tuple(chance.sample(held, min(MAX_RECORDS, len(held)))))

    def _compare(self, checkpoint: Checkpoint, terms: Terms, deadline: Deadline, report: Report) -> Checkpoint:
        """Compare a sample of what reps hold with HubSpot. What differs goes to track."""
        known = self.store.records(map(lead_of, checkpoint.sample)).known.values()
        held = [record for record in known if record.state in {State.HANDED, State.EXTERNAL}]
        wanted = [*terms.policy.properties(), ASSIGNED_AT, CHANGED_AT]
        found = self.crm.read(CONTACT, [record.id for record in held], wanted, deadline)
        at = milliseconds(self.now())
        moved: list[Record] = []
        for record in held:
            shown = found.records.get(found.merged.get(record.id, record.id))
            if record.id in found.unreadable:
                continue
            report.compared += 1
            if shown is None:
                report.notes.append(f"{record.key}: HubSpot does not show it, and its deletion was not told.")
            elif record.id in found.merged or differs(record, shown, terms.policy, at):
                moved.append(record)
                changed_at = [moment(shown.get(CHANGED_AT)) or at, moment(shown.get(ASSIGNED_AT)) or 0]
                finding = stale(record, changed_at, at)
                report.findings += [] if finding is None else [finding]
        messages = [
            Message(id=record.id, kinds=(Kind.PROPERTY_CHANGE,), occurred_at=at, change_source=UNKNOWN_SOURCE)
            for record in moved
        ]
        self.changes.send([Outgoing(message.body()) for message in messages])
        return replace(checkpoint, sample=())


def _log(report: Report, most: int, *, done: bool = False) -> int:
    """Count what was found, and log it, at most so many lines; gives how many."""
    if report.findings or done:
        count(Metric.AUDIT_FINDINGS, len(report.findings))
    lines = report.findings[: max(most, 0)]
    for finding in lines:
        told = {"what": finding.what, "where": finding.where, "says": finding.says, "do": finding.do}
        logger.error("found by the audit", extra=told)
    looked = {"rotas": report.rotas, "versions": report.versions, "records": report.records}
    doubts = {"compared": report.compared, "undecided": report.undecided, "notes": report.notes[:MOST_LOGGED]}
    logger.info("audited", extra=looked | doubts | {"findings": len(report.findings), "done": done})
    return len(lines)
