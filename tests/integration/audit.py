"""The whole table as it stands, and what must hold of it whenever no transaction is under way."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING

from fairturn.rules.findings import Bookings, Finding, Replay, Tally, drifts, misbooked, misloaded, overbooked
from fairturn.rules.ledger import TURN, Booking, Claim, GivingBack, Ledger

if TYPE_CHECKING:
    from collections.abc import Mapping, Set

    from mypy_boto3_dynamodb import DynamoDBClient

    from fairturn.edges.store import Store
    from fairturn.rules.ledger import ClaimKey
    from fairturn.rules.record import Record


@dataclass(frozen=True, slots=True)
class Table:
    """All that leads have left in a table."""

    ledgers: Mapping[str, Ledger]
    journals: Mapping[str, Mapping[int, Claim | GivingBack]]
    """Rota → version → what made it."""
    loads: Mapping[str, int]
    """Of those who have any."""
    records: Mapping[str, Record]
    unfinished: Set[ClaimKey] = field(default=frozenset(), compare=False)
    """The claims that sweep looks at."""


def read(client: DynamoDBClient, name: str, store: Store) -> Table:
    """Read everything."""
    rotas: set[str] = set()
    versions: set[tuple[str, int]] = set()
    leads: set[tuple[str, str]] = set()
    unfinished: set[ClaimKey] = set()
    shown = "pk, sk, due_lane"
    pages = client.get_paginator("scan").paginate(TableName=name, ConsistentRead=True, ProjectionExpression=shown)
    for item in (item for page in pages for item in page["Items"]):
        match [*item["pk"]["S"].split("#"), *item["sk"]["S"].split("#")]:
            case ["ROTA", rota, "LEDGER"]:
                rotas.add(rota)
            case ["ROTA", rota, "CLAIM", version]:
                versions.add((rota, int(version)))
                if "due_lane" in item:
                    unfinished.add((rota, int(version)))
            case ["LEAD", type_, id_, "RECORD"]:
                leads.add((type_, id_))
            case (
                ["LOADS", "LOADS"]
                | ["POLICY", *_]
                | ["ROSTER" | "AWAY" | "BRAKE" | "WATERMARK" | "AUDIT", "CURRENT"]
                | ["LEAD", _, _, "TRIES"]
            ):
                pass
            case ["OVERWRITES", _]:
                pass
            case stray:
                raise AssertionError(f"nobody knows what this is: {stray}")
    snapshot = store.read(rotas | {rota for rota, _ in versions}, leads)
    journals: dict[str, dict[int, Claim | GivingBack]] = {rota: {} for rota in rotas}
    for rota, number in sorted(versions):
        journals.setdefault(rota, {})[number] = store.journal(rota, number)
    loads = {rep: load for rep, load in snapshot.loads.items() if load}
    assert not snapshot.records.unreadable
    return Table(snapshot.ledgers, journals, loads, snapshot.records.known, unfinished)


def audit(table: Table) -> None:
    """What must hold of every table: nothing lost, nothing twice, everything explained; see fairturn.rules.findings."""
    assert findings(table) == []


def findings(table: Table) -> list[Finding]:
    """All that the audit which runs in production finds, its journals being all that there ever were."""
    found: list[Finding] = []
    books: dict[str, Bookings] = {}
    for rota, journals in table.journals.items():
        replay = Replay(rota, partial(_claim, journals))
        for version, entry in sorted(journals.items()):
            replay.follow(version, entry)
        replay.close(table.ledgers[rota])
        assert replay.notes == []
        assert replay.versions == 0 or min(journals) == 1
        found += replay.findings
        books[rota] = replay.bookings
    tally = Tally.of(table.records, table.loads, table.records)
    found += misloaded(table.loads, drifts([tally]))
    records = table.records.values()
    resting = chain(misbooked(records, books, table.unfinished), overbooked(table.records, books))
    return [*found, *(finding for finding, _ in resting)]


def _claim(journals: Mapping[int, Claim | GivingBack], version: int) -> Claim | None:
    entry = journals.get(version)
    return entry if isinstance(entry, Claim) else None


def bookings(journals: Mapping[int, Claim | GivingBack]) -> list[Booking]:
    """Every booking that was ever made, given back or not."""
    claims = [entry for _, entry in sorted(journals.items()) if isinstance(entry, Claim)]
    return [booking for claim in claims for booking in claim.bookings().values()]


def bound(journals: Mapping[int, Claim | GivingBack]) -> float:
    """Turns by which nobody may be further from their fair share, where the rota has one lane and nobody left.

    g(n - 1)/2, plus one for each turn given back; see ledger.py.
    """
    made = bookings(journals)
    largest = max(sum(sorted(booking.shares.values())[-2:]) for booking in made) / TURN
    ever = {rep for booking in made for rep in booking.shares}
    given_back = sum(len(entry.leads) for entry in journals.values() if isinstance(entry, GivingBack))
    return largest * (len(ever) - 1) / 2 + given_back


def largest_balance(ledger: Ledger) -> float:
    """Turns that the one furthest from their fair share is away from it."""
    return max((abs(ledger.total(rep)) for rep in ledger.reps()), default=0) / TURN
