"""What the demo shows of its day, and whether everything held that has to hold."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, replace
from datetime import timedelta
from statistics import quantiles
from typing import TYPE_CHECKING, Final

from rich.table import Table

from fairturn.rules.events import lead_key
from fairturn.rules.explain import story, why
from fairturn.rules.ledger import BAND, TURN, Claim, Ledger, give_back
from fairturn.rules.policy import OWNER
from fairturn.rules.record import State
from fairturn.rules.routing import is_closed
from fairturn.steps.claim import members_of
from fairturn_sandbox.story import START

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from rich.console import Console

    from fairturn.edges.store import Snapshot, Store
    from fairturn.rules.ledger import Booking, GivingBack
    from fairturn.rules.record import Record
    from fairturn.rules.terms import Terms
    from fairturn_sandbox.portal import Portal
    from fairturn_sandbox.sandbox import Sandbox
    from fairturn_sandbox.story import Day

AT_ONCE: Final = 90
"""Records read in one request."""
LOOK_EVERY: Final = timedelta(minutes=5)
"""How often the alarms of the day are looked at."""


@dataclass(frozen=True)
class Check:
    """Something that has to hold, and whether it did."""

    what: str
    held: bool


class Report:
    """The day's books, read from the table and from HubSpot, and compared."""

    def __init__(self, day: Day, store: Store, terms: Terms, portal: Portal, sandbox: Sandbox) -> None:
        self._day = day
        self._store = store
        self._terms = terms
        self._portal = portal
        self._sandbox = sandbox
        self._names = {owner.id: owner.email.partition("@")[0] for owner in portal.owners.values()}
        self._records = self._read_records()
        self._snapshot: Snapshot = store.read(terms.policy.rotas, [])
        self._journals = {rota: self._read_journals(rota) for rota in terms.policy.rotas}
        self._replays = {rota: self._replay(rota) for rota in self._journals}
        self._dead = sandbox.dead_letters()
        ends = Counter(self._end(self._records.get(lead_key("contact", lead))) for lead in day.leads)
        self.assigned, self.waiting, self.dead, self.dropped = (
            ends[end] for end in ("assigned", "waiting", "dead-lettered", "dropped")
        )
        self.gap = max((ledger.gap() for ledger in self._snapshot.ledgers.values()), default=0.0)

    def checks(self) -> list[Check]:
        """Everything that has to hold at the end of a day."""
        held = [record for record in self._records.values() if record.holder is not None]
        loads = {rep: load for rep, load in self._snapshot.loads.items() if load}
        rows = [row for ledger in self._snapshot.ledgers.values() for row in ledger.balances.values()]
        day, webhooks = self._day, self._portal.webhooks
        resent = webhooks.redelivered + self._sandbox.redelivered
        return [
            Check(
                "each lead that is somebody's has one owner, the same in the table and in HubSpot",
                all(self._owner(record.id) == record.holder for record in held),
            ),
            Check("each rep's load equals their open contacts in HubSpot", loads == self._open_contacts()),
            Check(
                f"leads closed ({day.closed}), taken over ({len(day.taken)}) and merged ({len(day.merged)}) "
                "moved each load once",
                loads == Counter(record.holder for record in held),
            ),
            Check(
                f"owners whom somebody chose while ours was being written ({len(day.restored)}) were restored",
                all(self._owner(lead) == chosen for lead, chosen in day.restored.items()),
            ),
            Check(
                f"contacts that were erased ({len(day.erased)}) left no value behind",
                all(self._records[lead_key("contact", lead)].shown == {} for lead in day.erased),
            ),
            Check(
                f"leads that waited for a rep to come on duty ({len(day.waited)}) were given to one",
                all(self._is_assigned(self._records.get(lead_key("contact", lead))) for lead in day.waited),
            ),
            Check(
                f"dead letters that were redriven ({len(day.redriven)}) ended with an owner",
                all(self._is_assigned(self._records.get(lead_key("contact", lead))) for lead in day.redriven),
            ),
            Check(
                "no function failed or ran out of time",
                not any(function.failed for function in self._sandbox.functions.values()),
            ),
            Check("every lane of every ledger sums to 0", all(sum(row.values()) == 0 for row in rows)),
            Check(
                "every decision can be recomputed from its journal, from the first to the last",
                all(holds for *_, holds in self._replays.values()),
            ),
            Check(
                f"{webhooks.duplicated} duplicates and {resent} redeliveries came and changed nothing",
                webhooks.duplicated > 0 and resent > 0,
            ),
            Check(
                "every lead is assigned, waiting, dead-lettered or dropped; none is lost or counted twice",
                self.assigned + self.waiting + self.dead + self.dropped == len(self._day.leads)
                and len(set(self._day.leads)) == len(self._day.leads)
                and self._dead_leads() == {r.id for r in self._records.values() if r.state is State.REFUSED}
                and webhooks.lost == 0
                and self._sandbox.poll() == 0,
            ),
        ]

    def print(self, console: Console) -> None:
        """Show the day: a table per rota, the times, the dead letters, one lead's story."""
        for rota in self._terms.policy.rotas:
            console.print(self._table(rota))
            self._print_worth(rota, console)
        self._print_times(console)
        self._print_spent(console)
        self._print_dead_letters(console)
        self._print_alarms(console)
        self._print_a_story(console)

    def last_line(self) -> str:
        """The day in one line."""
        return (
            f"{len(self._day.leads)} leads: {self.assigned} assigned, {self.waiting} waiting, "
            f"{self.dead} dead-lettered, {self.dropped} dropped; largest gap {self.gap:.2f} turns"
        )

    # What is shown

    def _table(self, rota: str) -> Table:
        ledger = self._snapshot.ledgers[rota]
        got, credited = _tally(self._replays[rota][1])
        waiting = sum(record.state is State.WAITING and record.rota == rota for record in self._records.values())
        table = Table(title=f"Rota {rota}: {got.total()} leads, {waiting} waiting", title_justify="left")
        for name in ("rep", "on duty, or why not", "weight", "leads", "fair share", "owed", "load/capacity"):
            table.add_column(name, justify="left" if name in {"rep", "on duty, or why not"} else "right")
        for rep, member in members_of(rota, self._terms, self._snapshot.loads, self._sandbox.now).items():
            capacity = "-" if member.capacity is None else str(member.capacity)
            stands = why(member.verdict) if not member.verdict.on_duty or member.has_room() else "full"
            table.add_row(
                self._names.get(rep, rep),
                stands,
                str(member.weight),
                str(got[rep]),
                f"{credited[rep] / TURN:.2f}",
                f"{ledger.total(rep) / TURN:+.2f}",
                f"{member.load}/{capacity}",
            )
        return table

    def _print_worth(self, rota: str, console: Console) -> None:
        """How the leads of each band of worth were shared out, the most worth first."""
        worth = self._terms.policy.leads.worth
        for band in reversed(worth.names() if worth else ()):
            got, credited = _tally(
                (sign, booking) for sign, booking in self._replays[rota][1] if booking.lane.endswith(f"{BAND}{band}")
            )
            if not got:
                continue
            shares = [
                f"{self._names.get(rep, rep)} {got[rep]} (fair share {credited[rep] / TURN:.1f})"
                for rep in self._terms.policy.rotas[rota].members
                if credited[rep]
            ]
            words = worth.in_words(band) if worth else ""
            console.print(f"Of the {got.total()} leads {words}: {', '.join(shares)}.", soft_wrap=True)

    def _print_spent(self, console: Console) -> None:
        spent = sum(spent for _, _, spent, _ in self._replays.values())
        if spent:
            what = "Turns that stay spent, because too many leads of the rep were taken away lately"
            console.print(f"{what}: {spent}.", soft_wrap=True)

    def _print_times(self, console: Console) -> None:
        handed = [record for record in self._records.values() if record.state is State.HANDED]
        real = [
            self._day.owned[record.id] - self._day.born[record.id] for record in handed if record.id in self._day.owned
        ]
        waits = [((record.handed_at or 0) - record.occurred_at) / 1000 for record in handed]
        console.print()
        if len(real) > 1:
            console.print(
                f"From event to owner: p50 {_quantile(waits, 50):.1f} s, p95 {_quantile(waits, 95):.1f} s on the day's "
                f"clock, HubSpot's outages included;"
            )
            console.print(
                f"of that, work on this machine: p50 {_quantile(real, 50):.2f} s, p95 {_quantile(real, 95):.2f} s."
            )

    def _print_dead_letters(self, console: Console) -> None:
        console.print()
        console.print(f"Dead letters: {len(self._dead)}")
        for body, reason in self._dead:
            console.print(f"  contact {json.loads(body).get('id', '?')}: {reason}", soft_wrap=True)

    def _print_alarms(self, console: Console) -> None:
        """Which alarms rang during the day, and when."""
        console.print()
        rang = self._alarms()
        console.print(f"Alarms that rang: {len(rang)} of {len(self._sandbox.alarms)}")
        for name, (first, last) in rang.items():
            console.print(f"  {name.removesuffix('Alarm')}, from {first:%H:%M} to {last:%H:%M}")

    def _alarms(self) -> dict[str, tuple[datetime, datetime]]:
        """Alarm → when it rang first and last. Those that are about news which does not come ring until the first of
        it is there, as after an installation: the first minutes are left out."""
        end = self._sandbox.now
        rang: dict[str, tuple[datetime, datetime]] = {}
        moments = [START + number * LOOK_EVERY for number in range(4, (end - START) // LOOK_EVERY + 1)]
        for name, alarm in self._sandbox.alarms.items():
            ringing = [at for at in moments if alarm.rings(self._sandbox.metrics, at)]
            if ringing:
                rang[name] = ringing[0], ringing[-1]
        return rang

    def _print_a_story(self, console: Console) -> None:
        explained = [
            record
            for record in self._records.values()
            if record.state is State.HANDED and record.policy == self._terms.number and record.lane != "any"
        ]
        if not explained:
            return
        record = max(explained, key=lambda record: record.claimed_at or 0)
        claim = self._store.journal(record.rota or "", record.claim or 0)
        if isinstance(claim, Claim):
            console.print()
            console.print("Why one lead went where it went:")
            for line in story(record, claim, self._terms.policy, self._names):
                console.print(f"  {line}", soft_wrap=True, highlight=False)

    # The books

    @staticmethod
    def _is_assigned(record: Record | None) -> bool:
        """Whether Fairturn gave the lead to somebody, whatever became of it after that."""
        return record is not None and record.handed_at is not None

    def _end(self, record: Record | None) -> str:
        """Where a lead is at the end of the day."""
        if self._is_assigned(record) or (record is not None and self._day.erased.get(record.id)):
            return "assigned"
        ends = {State.WAITING: "waiting", State.REFUSED: "dead-lettered"}
        return "dropped" if record is None else ends.get(record.state, "dropped")

    def _open_contacts(self) -> dict[str, int]:
        """Owner → their contacts in HubSpot that are neither deleted nor closed."""
        contacts = [each for each in self._portal.contacts.values() if not each.archived]
        owners = [each.properties.get(OWNER) for each in contacts if not is_closed(each.properties, self._terms.policy)]
        return dict(Counter(owner for owner in owners if owner))

    def _read_records(self) -> dict[str, Record]:
        """The records of the day's leads, and of those that carry one on after a merge."""
        records: dict[str, Record] = {}
        for start in range(0, len(self._day.leads), AT_ONCE):
            leads = [("contact", lead) for lead in self._day.leads[start : start + AT_ONCE]]
            records |= self._store.records(leads).known
        survivors = {record.merged_into for record in records.values() if record.merged_into is not None}
        return {**records, **self._store.records(("contact", survivor) for survivor in survivors).known}

    def _read_journals(self, rota: str) -> list[Claim | GivingBack]:
        last = self._snapshot.ledgers[rota].version
        return [self._store.journal(rota, version) for version in range(1, last + 1)]

    def _replay(self, rota: str) -> tuple[Ledger, list[tuple[int, Booking]], int, bool]:
        """What an empty ledger becomes by the rota's journals; every booking, with 1 where it was made and -1 where it
        was given back; how many turns stay spent; and whether each claim decides the same again and begins where the
        one before it ended."""
        ledger, spent, holds = Ledger(), 0, True
        claims: dict[int, dict[str, Booking]] = {}
        booked: list[tuple[int, Booking]] = []
        for journal in self._journals[rota]:
            if isinstance(journal, Claim):
                claims[journal.version] = journal.bookings()
                decided = journal.recompute()
                winners = [booking.winner for booking in claims[journal.version].values()]
                holds = holds and winners == [given.winner for given in journal.leads] and ledger == journal.before
                booked += [(1, booking) for booking in claims[journal.version].values()]
                ledger = decided.ledger
            else:
                returns = [(claims[each.claim][each.lead], each.is_regret) for each in journal.leads]
                ledger, came_back = give_back(ledger, returns)
                ledger = replace(ledger, version=journal.version)
                booked += [(-1, booking) for (booking, _), back in zip(returns, came_back, strict=True) if back]
                spent += came_back.count(False)
        return ledger, booked, spent, holds and ledger == self._snapshot.ledgers[rota]

    def _owner(self, contact: str) -> str | None:
        return self._portal.contact(contact).properties.get(OWNER) or None

    def _dead_leads(self) -> set[str]:
        return {str(json.loads(body).get("id")) for body, _ in self._dead}


def _tally(booked: Iterable[tuple[int, Booking]]) -> tuple[Counter[str], Counter[str]]:
    """Each rep's leads, and the units of their fair share, over bookings made (1) and given back (-1)."""
    got: Counter[str] = Counter()
    credited: Counter[str] = Counter()
    for sign, booking in booked:
        got[booking.winner] += sign
        credited.update({rep: sign * share for rep, share in booking.shares.items()})
    return got, credited


def _quantile(values: Sequence[float], percent: int) -> float:
    return quantiles(values, n=100, method="inclusive")[percent - 1]
