"""Handover: writes owner and explanation into HubSpot, unless somebody else has chosen meanwhile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from fairturn.edges.hubspot.answers import Refusal
from fairturn.edges.hubspot.client import OwnerWrite
from fairturn.errors import Contended, HubSpotUnavailable, Unavailable
from fairturn.rules.explain import explanation
from fairturn.rules.policy import OWNER
from fairturn.rules.record import Record, State, milliseconds
from fairturn.steps.claim import Undoing, bookings_of
from fairturn.steps.moves import write_moves
from fairturn.telemetry import Metric, count, logger

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from datetime import datetime

    from fairturn.deadline import Deadline
    from fairturn.edges.hubspot.client import HubSpot, WriteResult
    from fairturn.edges.store import Store
    from fairturn.rules.ledger import Booking
    from fairturn.rules.policy import Policy
    from fairturn.steps.claim import Claimer

OWNER_IS_FRESH_FOR: Final = 2_000
"""Milliseconds for which the owner that was read may be relied on; then it is read again before ours is written."""


@dataclass(frozen=True, slots=True)
class HandoverResult:
    """What came of a handover."""

    handed: Sequence[Record]
    taken: Sequence[str]
    """Somebody else chose the owner; the claim is undone."""
    again: Sequence[str]
    """HubSpot doesn't take this owner; the claim is undone, and the lead is to be looked at anew."""
    refused: Mapping[str, str]
    """HubSpot refuses the lead itself; the claim is undone. Key → reason."""
    later: Mapping[str, Unavailable]
    """HubSpot didn't get to these or didn't show them, and their claims stand; or didn't find them, and their claims
    are undone."""


@dataclass(frozen=True, slots=True)
class Handover:
    """Tells HubSpot whose the claimed leads are."""

    store: Store
    crm: HubSpot
    claimer: Claimer
    now: Callable[[], datetime]
    """An aware datetime."""
    gives_up: bool = True
    """Whether a lead that HubSpot refuses is given up: only where there is a message of it to be dead-lettered. Else it
    waits."""

    def hand_over(
        self,
        claimed: Sequence[tuple[Record, Booking]],
        resumed: Sequence[Record],
        owners: Mapping[str, str | None],
        read_at: int,
        policy: Policy,
        deadline: Deadline,
    ) -> HandoverResult:
        """Write the owner of claimed leads, at most 97 of one type, into HubSpot and mark them handed over.

        `claimed` were claimed just now; `resumed` before, by somebody who is not at it any more. `owners` has the owner
        of each lead as HubSpot had it at `read_at` (epoch milliseconds), None where there was none. The policy says
        how teams and skills are called. Between the last reading of the owners and the writing of ours there is nothing
        but that request. Raises Unavailable.
        """
        bookings = {record.key: booking for record, booking in claimed} | bookings_of(self.store, resumed)
        records, later = self._take_up([record for record, _ in claimed], resumed)
        owners, unread = self._owners(records, owners, read_at, deadline)
        later |= unread
        at = milliseconds(self.now())
        ready: dict[str, Record] = {}
        undone: list[Undoing] = []
        for record in records:
            owner = owners.get(record.key)
            if record.key in later:
                continue
            if owner is None or owner in {record.found_owner, record.rep}:
                ready[record.id] = record
            else:
                undone.append(Undoing(record, record.external(owner, "somebody else chose the owner", at)))
        taken = [each.record.key for each in undone]
        written = self._write(ready, bookings, policy, deadline)
        later |= {ready[id_].key: failure for id_, failure in written.put_off.items()}
        at = milliseconds(self.now())
        done = [record for id_, record in ready.items() if id_ not in written.refused and record.key not in later]
        over = [
            *((record, record.handed(at)) for record in done),
            *((record, record.released(at)) for record in records if record.key in later),
        ]
        moved = write_moves(self.store, over)
        self._mark_unavailable(written, ready)
        again, refused = [], {}
        for id_, (kind, why) in written.refused.items():
            record = ready[id_]
            if kind is Refusal.OWNER:
                again.append(record.key)
                undone.append(Undoing(record, record.waiting("HubSpot refuses the owner", at)))
            elif kind is Refusal.GONE:  # or merged, as a later reading will tell
                later[record.key] = HubSpotUnavailable("HubSpot shows the record, but does not find it")
                undone.append(Undoing(record, record.waiting(why, at)))
            else:
                refused[record.key] = f"HubSpot refuses to give this lead an owner: {why}"
                reason = refused[record.key]
                after = record.refused(reason, at) if self.gives_up else record.waiting(reason, at)
                undone.append(Undoing(record, after))
        undid = self.claimer.undo(undone)
        self._finish(claimed, {record.key for record in (*moved, *undid) if record.state is not State.CLAIMED})
        handed = [record for record in moved if record.state is State.HANDED]
        return HandoverResult(handed, taken, again, refused, later)

    def _finish(self, claimed: Sequence[tuple[Record, Booking]], done: Collection[str]) -> None:
        """Note which of the claims made just now have no lead left to hand over. The others are sweep's to finish, and
        so are those of which it can't be noted now."""
        claims = {(record.rota or "", record.claim or 0) for record, _ in claimed}
        left = {(record.rota or "", record.claim or 0) for record, _ in claimed if record.key not in done}
        try:
            for rota, version in sorted(claims - left):
                self.store.finish(rota, version, milliseconds(self.now()))
        except Unavailable as error:
            logger.warning("left to sweep", extra={"reason": str(error)})

    def _take_up(
        self, claimed: Sequence[Record], resumed: Sequence[Record]
    ) -> tuple[list[Record], dict[str, Unavailable]]:
        """All claims that are ours to hand over now; and those that somebody else was faster to take up."""
        at = milliseconds(self.now())
        taken_up = write_moves(self.store, [(record, record.resumed(self.claimer.worker, at)) for record in resumed])
        lost = {record.key for record in resumed} - {record.key for record in taken_up}
        return [*claimed, *taken_up], dict.fromkeys(lost, Contended("somebody else has taken the claim up"))

    def _owners(
        self, records: Sequence[Record], owners: Mapping[str, str | None], read_at: int, deadline: Deadline
    ) -> tuple[Mapping[str, str | None], dict[str, Unavailable]]:
        """The owners as they are now, or were two seconds ago; and the records of which HubSpot does not say it."""
        if not records or milliseconds(self.now()) - read_at <= OWNER_IS_FRESH_FOR:
            return owners, {}
        try:
            found = self.crm.read(records[0].type, [record.id for record in records], [OWNER], deadline)
        except Unavailable as failure:
            return owners, {record.key: failure for record in records}
        unread: dict[str, Unavailable] = {
            record.key: found.unreadable.get(record.id) or HubSpotUnavailable("HubSpot does not show the record now")
            for record in records
            if record.id not in found.records
        }
        return {r.key: found.records[r.id].get(OWNER) or None for r in records if r.id in found.records}, unread

    def _write(
        self, ready: Mapping[str, Record], bookings: Mapping[str, Booking], policy: Policy, deadline: Deadline
    ) -> WriteResult:
        writes = [
            OwnerWrite(record.id, record.rep or "", explanation(record, bookings[record.key], policy))
            for record in ready.values()
        ]
        written = self.crm.write_owners(next((record.type for record in ready.values()), ""), writes, deadline)
        if not written.explained:
            count(Metric.EXPLANATION_REFUSED)
            logger.error("HubSpot refuses our explanation properties: the owners were written without them")
        return written

    def _mark_unavailable(self, written: WriteResult, ready: Mapping[str, Record]) -> None:
        reps = {ready[id_].rep or "" for id_, (kind, _) in written.refused.items() if kind is Refusal.OWNER}
        for rep in sorted(reps):
            self.store.mark_unavailable(rep)
            count(Metric.REPS_UNAVAILABLE)
            logger.error("HubSpot refuses this owner: they get no lead", extra={"rep": rep})
