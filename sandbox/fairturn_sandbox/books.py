"""The books of the demo's day: what became of each lead, by the table, HubSpot and the log."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from fairturn.rules.events import CONTACT, lead_key
from fairturn.rules.ledger import TURN, Claim, Ledger, give_back
from fairturn.rules.policy import OWNER
from fairturn.rules.record import State
from fairturn.rules.routing import is_closed

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from fairturn.edges.store import Snapshot, Store
    from fairturn.rules.ledger import Booking, GivingBack
    from fairturn.rules.record import Record
    from fairturn.rules.terms import Terms
    from fairturn_sandbox.portal import Portal
    from fairturn_sandbox.sandbox import Sandbox
    from fairturn_sandbox.stage import Day

AT_ONCE: Final = 90
"""Records read in one request."""
ENDS: Final = {State.WAITING: "waiting", State.REFUSED: "dead-lettered"}
TELLING: Final = frozenset({"assigned", "dropped"})
"""Lines of the log that name the rule which took a lead, or why no rule did."""


class Entry(NamedTuple):
    """A booking that was made, or given back."""

    sign: int
    """1 or -1."""
    lead: str
    booking: Booking


class Replay:
    """What an empty ledger becomes by the journals of a rota, from the first to the last."""

    def __init__(self, journals: Iterable[Claim | GivingBack], now: Ledger) -> None:
        """`now` is the ledger as the table has it."""
        self.spent = 0
        """Turns that stay spent."""
        self.entries: list[Entry] = []
        """All of them, in order."""
        holds, ledger = True, Ledger()
        claims: dict[int, dict[str, Booking]] = {}
        for journal in journals:
            if isinstance(journal, Claim):
                decided = journal.recompute()
                each = zip(journal.leads, decided.bookings, strict=True)
                made = {given.lead: booking for given, booking in each if booking is not None}
                claims[journal.version] = made
                winners = [booking.winner for booking in made.values()]
                holds = holds and winners == [given.winner for given in journal.leads] and ledger == journal.before
                self.entries += [Entry(1, lead, booking) for lead, booking in made.items()]
                ledger = decided.ledger
            else:
                returns = [(claims[each.claim][each.lead], each.is_regret) for each in journal.leads]
                ledger, came_back = give_back(ledger, returns)
                ledger = replace(ledger, version=journal.version)
                gone = zip(journal.leads, returns, came_back, strict=True)
                self.entries += [Entry(-1, back.lead, booking) for back, (booking, _), came in gone if came]
                self.spent += came_back.count(False)
        self.holds = holds and ledger == now
        """Whether each claim decides the same again, and begins where the one before it ended."""


class Books:
    """All that is known of the day at its end."""

    def __init__(self, day: Day, store: Store, terms: Terms, portal: Portal, sandbox: Sandbox, log: Path) -> None:
        self.day = day
        self.store = store
        self.terms = terms
        self.portal = portal
        self.sandbox = sandbox
        self._told = _read_log(log)
        self.records = self._read_records()
        self.snapshot: Snapshot = store.read(terms.policy.rotas, [])
        self.replays = {rota: Replay(self._journals(rota), self.snapshot.ledgers[rota]) for rota in terms.policy.rotas}
        self.dead = sandbox.dead_letters()
        self.ends = {lead: self._end(lead) for lead in day.leads}
        counted = Counter(self.ends.values())
        self.assigned, self.waiting, self.dead_lettered, self.dropped = (
            counted[end] for end in ("assigned", *ENDS.values(), "dropped")
        )
        self.gap = max((ledger.gap() for ledger in self.snapshot.ledgers.values()), default=0.0)
        """Leads by which somebody is away from their fair share, at most."""

    def record(self, lead: str) -> Record | None:
        """What the table says of a lead."""
        return self.records.get(lead_key(CONTACT, lead))

    def was_given(self, lead: str) -> bool:
        """Whether Fairturn gave the lead to somebody, whatever became of it after that."""
        record = self.record(lead)
        return record is not None and record.handed_at is not None

    def owner(self, contact: str) -> str | None:
        """Whose a contact is in HubSpot."""
        return self.portal.contact(contact).properties.get(OWNER) or None

    def rules(self) -> Counter[str]:
        """How many leads each rule took, the catch-all among them."""
        found = (self._rule(lead) for lead in self.day.leads)
        return Counter(rule for rule in found if rule is not None)

    def booked_at_most(self) -> int:
        """How many turns the lead with the most of them has cost, those left out that came back."""
        turns: Counter[str] = Counter()
        for replay in self.replays.values():
            for entry in replay.entries:
                turns[entry.lead] += entry.sign
        return max(turns.values(), default=0)

    def why_dropped(self) -> Counter[str]:
        """Why leads that were dropped were nobody's, in the words of the log."""
        return Counter(self._why_dropped(lead) for lead, end in self.ends.items() if end == "dropped")

    def shares(self, rota: str, band: str = "") -> tuple[Counter[str], dict[str, float]]:
        """Each rep's leads of a rota, and their fair share of them, of one band of worth if it is named (`@20`)."""
        got: Counter[str] = Counter()
        credited: Counter[str] = Counter()
        for sign, _, booking in self.replays[rota].entries:
            if booking.lane.endswith(band):
                got[booking.winner] += sign
                credited.update({rep: sign * share for rep, share in booking.shares.items()})
        return got, {rep: units / TURN for rep, units in credited.items()}

    def open_contacts(self) -> dict[str, int]:
        """Owner → their contacts in HubSpot that are neither deleted nor closed. Those that keep an owner only until
        Fairturn gives them to another one are left out."""
        policy = self.terms.policy
        owners: Counter[str] = Counter()
        for contact in self.portal.contacts.values():
            record = self.record(contact.id)
            uncounted = not policy.leads.keep_owner and (record is None or record.state in ENDS)
            owner = contact.properties.get(OWNER)
            if owner and not (contact.archived or uncounted or is_closed(contact.properties, policy)):
                owners[owner] += 1
        return dict(owners)

    def dead_leads(self) -> set[str]:
        """The leads of all dead letters."""
        return {str(json.loads(body).get("id")) for body, _ in self.dead}

    def _rule(self, lead: str) -> str | None:
        record = self.record(lead)
        rule: str | None = self._told.get(lead, {}).get("rule")
        return rule if rule is not None or record is None else record.rule

    def _why_dropped(self, lead: str) -> str:
        record, told = self.record(lead), self._told.get(lead, {})
        if record is not None and record.state is State.OBSERVED:
            return "only observed"
        return str(told.get("reason") or (record and (record.reason or record.state)) or "not looked at")

    def _end(self, lead: str) -> str:
        """Where a lead is at the end of the day."""
        record = self.record(lead)
        if self.was_given(lead) or self.day.erased.get(lead):
            return "assigned"
        return "dropped" if record is None else ENDS.get(record.state, "dropped")

    def _read_records(self) -> dict[str, Record]:
        """The records of the day's leads, and of those that carry one on after a merge."""
        records: dict[str, Record] = {}
        for start in range(0, len(self.day.leads), AT_ONCE):
            leads = [(CONTACT, lead) for lead in self.day.leads[start : start + AT_ONCE]]
            records |= self.store.records(leads).known
        survivors = {record.merged_into for record in records.values() if record.merged_into is not None}
        return {**records, **self.store.records((CONTACT, survivor) for survivor in survivors).known}

    def _journals(self, rota: str) -> list[Claim | GivingBack]:
        last = self.snapshot.ledgers[rota].version
        return [self.store.journal(rota, version) for version in range(1, last + 1)]


def _read_log(log: Path) -> dict[str, dict[str, Any]]:
    """Lead → the latest line that tells which rule took it, or why none did."""
    told: dict[str, dict[str, Any]] = {}
    with log.open(encoding="utf-8") as lines:
        for line in lines:
            if '"lead"' in line:
                fields = json.loads(line)
                if fields.get("message") in TELLING:
                    told[fields["lead"].partition("#")[2]] = fields
    return told
