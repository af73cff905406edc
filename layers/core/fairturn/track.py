"""Track: sees in HubSpot what became of a record, and follows it in the table.

Events come late, twice and in any order, so none of them is believed: each only says which record to look at. Nor is
any single reading of HubSpot's: it may be old, or lack what is there. So the table is read before HubSpot, every write
is on condition of what was read, and nothing is concluded from a reading that may be older than what is known.
What only an event can tell (a merge, a deletion, a restore, an erasure) goes by HubSpot's own times, in any order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from fairturn.edges.hubspot.answers import ASSIGNED_AT, moment
from fairturn.edges.queues import Outgoing
from fairturn.edges.refusals import RecordsMoved
from fairturn.errors import (
    ContactUnseen,
    Contended,
    HubSpotUnavailable,
    Mistake,
    PolicyInvalid,
    PolicyMissing,
    RecordUnreadable,
    Unavailable,
)
from fairturn.rules.conditions import Reached
from fairturn.rules.events import ARRIVALS, BULK_SOURCES, CONTACT, Kind, Message
from fairturn.rules.policy import Cleared
from fairturn.rules.record import (
    KEPT_FOR,
    MOST_UNSEEN,
    READS_LAG,
    UNSEEN_FOR,
    Record,
    Seen,
    State,
    follow,
    milliseconds,
)
from fairturn.rules.routing import Ignored, Route, route
from fairturn.steps.case import Case, Change, Resolution, gathered, put_off
from fairturn.steps.claim import Undoing
from fairturn.steps.consumer import Outcome
from fairturn.steps.flood import BulkLead, hold_back
from fairturn.steps.forgetting import forget
from fairturn.steps.merging import merge
from fairturn.steps.moves import write_moves
from fairturn.steps.restoring import BY_HAND, may_have_overwritten, name_overwriters, read_histories, restore_choices
from fairturn.telemetry import Metric, count, logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import datetime

    from fairturn.deadline import Deadline
    from fairturn.edges.hubspot.client import HubSpot
    from fairturn.edges.in_force import InForce
    from fairturn.edges.queues import Queue
    from fairturn.edges.store import Store
    from fairturn.rules.terms import Terms
    from fairturn.steps.claim import Claimer

ROUNDS: Final = 4
"""How often the records of one batch are looked at anew: they moved meanwhile, or were merged into others."""
BACK_WITHIN: Final = KEPT_FOR * 1000
"""Milliseconds after the handover for which a turn can go back: by far more than any message lives, and less than the
journal of its claim does, which takes 150 days at least."""
MOST_ROUNDS: Final = 5
"""A lead that has come so often is not allotted again when its owner is taken away."""


@dataclass(frozen=True, slots=True)
class Track:
    """Follows what people, apps and HubSpot itself do with records."""

    store: Store
    in_force: InForce
    crm: HubSpot
    claimer: Claimer
    leads: Queue
    """Takes what has become a lead."""
    bulk: Queue
    """Takes those of bulk sources."""
    now: Callable[[], datetime]
    """An aware datetime."""

    def process(self, messages: Sequence[Message], deadline: Deadline) -> Outcome:
        """Follow what became of each message's record, at most 100. To forget who was erased or deleted takes neither
        HubSpot nor a policy. Raises Unavailable."""
        outcome, changes = forget(gathered(map(Change.of, messages)), self.store, self.claimer, self.now)
        try:
            for _ in range(ROUNDS):
                if not changes:
                    return outcome
                part, again = self._round(changes, deadline)
                outcome |= part
                changes = gathered(again)
        except (PolicyMissing, PolicyInvalid) as error:
            count(Metric.POLICY_MISSING)
            logger.error("no policy to decide by", extra={"reason": str(error)})
            if isinstance(
                error, PolicyInvalid
            ):  # of another version of this program: all wait until it is applied anew
                return outcome | put_off(changes, Unavailable(str(error)))
            return outcome | Outcome(refused={lead: str(error) for change in changes for lead in change.named})
        return outcome | put_off(changes, Contended("the record kept moving"))

    def _round(self, changes: Sequence[Change], deadline: Deadline) -> tuple[Outcome, list[Change]]:
        """Look at each record once and follow it. Gives also the changes to be looked at again."""
        terms = self.in_force.current()
        cases, again, outcome = self._read(changes, terms, deadline)
        resolutions: list[Resolution] = []
        touched: set[str] = set()
        for case in cases:
            keys = {record.key for record in case.records}
            if not touched.isdisjoint(keys):  # each record is moved once
                again.append(case.change)
                continue
            touched |= keys
            resolution = self._resolve(case, terms)
            if resolution.later is None:
                resolutions.append(resolution)
            if (why := resolution.later or resolution.again) is not None:
                outcome |= put_off([case.change], why)
        histories, late = read_histories(resolutions, self.crm, deadline)
        outcome |= put_off(
            [each.case.change for each in late], Unavailable("HubSpot has not said yet who chose the owner")
        )
        to_do = [each for each in resolutions if each not in late]
        to_do, not_restored = restore_choices(to_do, histories, self.crm, self.now, deadline)
        written = self._write(to_do)
        done = [each for each in to_do if each.keys <= written.keys()]
        for each in done:
            _log(each, written)
        name_overwriters(done, histories, self.store, milliseconds(self.now()))
        self._pass_on([each.case for each in done], written, terms)
        missed = [each.case.change for each in to_do if not each.keys <= written.keys()]
        return outcome | not_restored, [*again, *missed]

    # What there is

    def _read(
        self, changes: Sequence[Change], terms: Terms, deadline: Deadline
    ) -> tuple[list[Case], list[Change], Outcome]:
        """Read the table, then HubSpot. Gives the cases, the changes to be looked at under another id, and those of
        which nothing can be said."""
        ids = sorted({record for change in changes for record in (change.id, *change.merged)})
        records = self.store.records((CONTACT, record) for record in ids)
        # Only the table tells an echo: others may write with our token, and a write that we gave up may come late.
        changes = [change for change in changes if not change.is_echo_of(records.known.get(change.key))]
        at = milliseconds(self.now())
        wanted = [*terms.policy.properties(), ASSIGNED_AT]
        found = self.crm.read(CONTACT, [change.id for change in changes], wanted, deadline)
        cases: list[Case] = []
        again: list[Change] = []
        outcome = Outcome()
        for change in changes:
            stored = records.known.get(change.key)
            if change.id in found.unreadable:
                outcome |= put_off([change], found.unreadable[change.id])
            elif into := found.merged.get(change.id) or (stored and stored.merged_into):
                again.append(change.carried_to(into))
            else:
                try:
                    cases.append(Case.of(change, records, found.records.get(change.id), terms.policy, at))
                except RecordUnreadable as error:
                    outcome |= Outcome(failed=dict.fromkeys(change.named, Mistake(str(error))))
        unexplained = [case for case in cases if case.seen is None and not case.is_explained]
        if not found.records and len(unexplained) > MOST_UNSEEN:
            raise HubSpotUnavailable(f"HubSpot shows none of {len(changes)} contacts")
        return cases, again, outcome

    # What is to be done about one record

    def _resolve(self, case: Case, terms: Terms) -> Resolution:
        """Judge a record by what the table, HubSpot and the events say of it."""
        record, at = case.record, milliseconds(self.now())
        if any(each.state is State.CLAIMED and self.claimer.left_to(each) > 0 for each in case.records):
            return Resolution(case, later=Unavailable("a claim is under way"))
        if record.state is State.ERASED:
            return _ending(case, None, at)
        if record.is_deleted(0) and case.seen is None:
            known = record.state is State.GONE and case.stored == record
            return _ending(case, None if known else record.gone("deleted", at), at)
        if record.is_deleted(0) and case.at < record.deleted_at + READS_LAG:
            return Resolution(case, later=HubSpotUnavailable("HubSpot still shows what was deleted"))
        if case.seen is None:
            return self._missing(case, terms, at)
        if any(each.state is State.CLAIMED for each in case.records):
            return Resolution(case, later=Unavailable("a claim is to be handed over first"))
        if case.absorbed and (case.is_fresh or case.is_young):
            return Resolution(case, later=HubSpotUnavailable("HubSpot may not show yet what was merged"))
        if case.absorbed:
            return merge(case, terms.policy, at)
        return self._follow(case, case.seen, terms, at)

    def _follow(self, case: Case, seen: Seen, terms: Terms, at: int) -> Resolution:
        """The record comes in line with what HubSpot shows, unless the reading may be older than what is known."""
        record, after = case.record, follow(case.record, seen, at)
        wanted = _wants_an_owner(case, record, terms)
        if record.rev and case.is_young and (after is not None or record.state in {State.CLOSED, State.GONE}):
            return Resolution(case, later=HubSpotUnavailable("HubSpot may show the record as it was before"))
        if after is None and not wanted and (case.is_fresh or (record.rev and case.is_young)):
            return Resolution(case, later=HubSpotUnavailable("HubSpot may not show yet what has happened"))
        # What it shows is news, and yet it may not show all that has happened.
        again = HubSpotUnavailable("HubSpot may not show yet all that has happened") if case.is_fresh else None
        if after is None:
            # A message tells assign of the restore, but none goes out for a lead that waits where it should.
            moves = [] if wanted and record.state is not State.WAITING else self._noted(case, terms, at)
            return Resolution(case, moves, is_suspected=may_have_overwritten(case), again=again)
        if not case.is_ours_to_follow(record, terms.policy):
            logger.info("not followed", extra={"lead": record.key, "state": after.state})
            return Resolution(case, again=again)
        if after.state in {State.EXTERNAL, State.UNOWNED} and self._is_regretted(case, seen, terms):
            by_app = any(each.source not in BY_HAND for each in case.change.occurrences)
            undone = [Undoing(record, after, is_regret=True)]
            return Resolution(case, undone=undone, is_overwritten=by_app, again=again)
        return Resolution(case, [(record, case.brought(after))], again=again)

    def _noted(self, case: Case, terms: Terms, at: int) -> list[tuple[Record, Record]]:
        """What is written down though nothing moves: a contact that comes to us closed, so that its reopening is
        noticed; and when the contact was restored, so that an older deletion is not believed later."""
        record = case.record
        if case.would_be_a_lead(terms.policy):
            return [(record, case.brought(record.closed(None, at)))]
        if record.is_deleted(0):  # it was shown long after that, so it was restored
            record = record.with_deletion_times(restored_at=record.deleted_at + 1)
        is_news = (record.deleted_at, record.restored_at) != (case.stored.deleted_at, case.stored.restored_at)
        return [(record, record.touched(at))] if is_news and record.rev else []

    def _is_regretted(self, case: Case, seen: Seen, terms: Terms) -> bool:
        """Whether somebody else changed the owner so soon after the handover that the rep's turn goes back."""
        record = case.record
        if record.state is not State.HANDED or record.claim is None or record.handed_at is None:
            return False
        if milliseconds(self.now()) > record.handed_at + BACK_WITHIN:
            return False
        until = record.handed_at + terms.policy.leads.regret * 60_000
        if milliseconds(self.now()) <= until:
            return True
        if seen.owner is not None:
            assigned_at = moment(case.properties.get(ASSIGNED_AT))
            return assigned_at is not None and assigned_at <= until
        return record.handed_at < case.change.occurred_at <= until

    def _missing(self, case: Case, terms: Terms, at: int) -> Resolution:
        """HubSpot does not show a record, and nothing says that it was deleted: it is never let go for that. What was
        merged into it lives on there all the same."""
        received_at = case.change.received_at
        if received_at is None or case.at < received_at + UNSEEN_FOR:
            return Resolution(case, later=ContactUnseen("HubSpot does not show the contact"))
        count(Metric.CHANGES_UNSEEN)
        logger.warning("not shown by HubSpot, so not followed", extra={"lead": case.change.key})
        if any(each.state is State.CLAIMED for each in case.absorbed):
            return Resolution(case, later=Unavailable("a claim is to be handed over first"))
        if case.absorbed:
            return merge(case, terms.policy, at)
        record = case.record
        if record.state is State.NEW and case.change.kinds & ARRIVALS:  # sweep looks for it again, as for any lead
            gone = record.gone("HubSpot does not show the contact", at, unseen_at=at)
            return Resolution(case, [(record, case.brought(gone))])
        return Resolution(case)

    # What is done

    def _write(self, resolutions: Sequence[Resolution]) -> dict[str, Record]:
        """Make the moves; gives the records as written. What has moved meanwhile is missing."""
        undone = [undoing for each in resolutions for undoing in each.undone]
        moves = [pair for each in resolutions for pair in each.moves]
        written = [*self.claimer.undo(undone), *write_moves(self.store, moves)]
        for each in resolutions:
            if each.inheritance:
                try:
                    self.store.move(each.inheritance)
                except RecordsMoved:
                    continue
                written += [after for _, after in each.inheritance]
        return {record.key: record for record in written}

    # What has become a lead

    def _pass_on(self, cases: Iterable[Case], written: Mapping[str, Record], terms: Terms) -> None:
        """Send what the policy makes a lead to the leads queue; hold the bulk sources back when they flood us."""
        sent: list[Message] = []
        found: set[str] = set()  # nobody waits for these, and there may be many
        bulk: list[BulkLead] = []
        for case in cases:
            record = written.get(case.change.key, case.record)
            if not _wants_an_owner(case, record, terms):
                continue
            message = case.change.message(record)
            if not _is_news(record, route(case.lead(message), terms.policy)):
                continue
            if Kind.FOUND in case.change.kinds:
                found.add(message.key)
            if message.change_source in BULK_SOURCES and record.state is not State.WAITING:
                owner = None if case.seen is None else case.seen.owner
                held = record.brought_by(message).unrouted(owner)
                bulk.append((record, held.waiting("comes from a bulk source", milliseconds(self.now())), message))
            else:
                sent.append(message)
        sent += hold_back(bulk, terms, self.store, self.now)
        if sent:
            in_numbers = [message for message in sent if message.change_source in BULK_SOURCES or message.key in found]
            self.leads.send([Outgoing(message.body()) for message in sent if message not in in_numbers])
            self.bulk.send([Outgoing(message.body()) for message in in_numbers])
            logger.info("passed on", extra={"leads": [message.key for message in sent]})


def _ending(case: Case, after: Record | None, at: int) -> Resolution:
    """The record ends, and so do those that were merged into it, erased with it if it is; where a claim stands, its
    turn goes back."""
    is_erased = case.record.state is State.ERASED
    moves = [(each, each.erased(at) if is_erased else each.merged(case.change.id, at)) for each in case.absorbed]
    if after is not None:
        moves.append((case.record, after))
    claimed = [Undoing(*pair) for pair in moves if pair[0].state is State.CLAIMED]
    return Resolution(case, [pair for pair in moves if pair[0].state is not State.CLAIMED], undone=claimed)


def _log(resolution: Resolution, written: Mapping[str, Record]) -> None:
    after = written.get(resolution.case.change.key)
    if after is None:
        return
    before = resolution.case.stored.state
    ids = {"lead": after.key, "before": before, "state": after.state, "rep": after.rep, "reason": after.reason}
    logger.info("followed", extra=ids | {"merged": sorted(resolution.case.change.merged)})
    if after.state is State.UNOWNED:
        count(Metric.LEADS_UNOWNED)


def _wants_an_owner(case: Case, record: Record, terms: Terms) -> bool:
    """Whether a record has become a lead that somebody should get, if the rules say so as well."""
    leads, change = terms.policy.leads, case.change
    if case.seen is None or case.seen.closed:
        return False
    if record.state is State.NEW:
        is_new = bool(change.kinds & ARRIVALS) or isinstance(leads.when, Reached) or case.was_ours
        return is_new and (case.seen.owner is None or not (leads.keep_owner or change.is_return))
    if record.state is State.WAITING:
        return record.rota is not None  # what is held back is the sweep's
    if case.seen.owner is not None:
        return False
    if record.state is State.UNOWNED:
        return leads.cleared is Cleared.ALLOT_AGAIN and record.round < MOST_ROUNDS
    return record.state in {State.CLOSED, State.GONE}


def _is_news(record: Record, decision: Route | Ignored) -> bool:
    """Whether what the rules say of a record now is something that assign has not acted on."""
    if record.state is State.WAITING:
        return isinstance(decision, Ignored) or (record.rota, record.lane) != (decision.rota, decision.lane)
    return isinstance(decision, Route)
