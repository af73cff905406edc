"""The whole table as it stands, and what must hold of it whenever no transaction is under way."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from fairturn.ledger import TURN, Booking, Claim, GivingBack, Ledger, give_back
from fairturn.record import Record, State

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Set

    from mypy_boto3_dynamodb import DynamoDBClient

    from fairturn.store import ClaimKey, Store


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
                ["LOADS", "LOADS"] | ["POLICY", *_] | ["ROSTER" | "BRAKE" | "LOOK", "CURRENT"] | ["LEAD", _, _, "TRIES"]
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
    """What must hold of every table: nothing lost, nothing twice, everything explained.

    - each load is the number of records that the rep holds;
    - each row of each ledger sums to 0;
    - each ledger is exactly what its journals, replayed from the first, make of an empty one;
    - no lead has more bookings that were not given back than it had rounds;
    - the claim that a record names stands, and is booked for the rep who has the lead by it; a record whose turn
      went back names none;
    - each lead that is claimed is one of a claim that sweep still looks at.
    """
    held = Counter(record.holder for record in table.records.values() if record.holder is not None)
    assert table.loads == dict(held)
    claimed = [record for record in table.records.values() if record.state is State.CLAIMED]
    assert {(record.rota, record.claim) for record in claimed} <= table.unfinished
    for rota, ledger in table.ledgers.items():
        assert all(sum(row.values()) == 0 for row in ledger.balances.values())
        standing, again = replay(table.journals[rota])
        assert again == ledger
        for lead, claims in standing.items():
            assert len(claims) <= table.records[lead].round
        for record in table.records.values():
            if record.rota != rota or record.claim is None:
                continue
            booked_as, claim = record.booking
            booked = standing.get(booked_as, {}).get(claim)
            assert booked is not None
            if record.state in {State.CLAIMED, State.HANDED}:
                assert booked == record.rep


def replay(journals: Mapping[int, Claim | GivingBack]) -> tuple[dict[str, dict[int, str]], Ledger]:
    """What an empty ledger becomes, step by step; and the bookings that stand: lead → claim → rep."""
    assert sorted(journals) == list(range(1, len(journals) + 1))
    ledger = Ledger()
    standing: dict[str, dict[int, str]] = {}
    for version, entry in sorted(journals.items()):
        match entry:
            case Claim():
                assert entry.before == ledger
                allotment = entry.recompute()
                winners = [booking.winner for booking in allotment.bookings if booking is not None]
                assert winners == [given.winner for given in entry.leads]
                ledger = allotment.ledger
                for given in entry.leads:
                    standing.setdefault(given.lead, {})[version] = given.winner
            case GivingBack():
                assert entry.version == version
                returned, came_back = give_back(ledger, _bookings(entry, journals))
                ledger = replace(returned, version=version)
                for (lead, claim, _), back in zip(entry.leads, came_back, strict=True):
                    if back:
                        del standing[lead][claim]
    return standing, ledger


def _bookings(entry: GivingBack, journals: Mapping[int, Claim | GivingBack]) -> Iterable[tuple[Booking, bool]]:
    for lead, version, is_regret in entry.leads:
        claim = journals[version]
        assert isinstance(claim, Claim)
        yield claim.bookings()[lead], is_regret


def bookings(journals: Mapping[int, Claim | GivingBack]) -> list[Booking]:
    """Every booking that was ever made, given back or not."""
    claims = [entry for _, entry in sorted(journals.items()) if isinstance(entry, Claim)]
    return [booking for claim in claims for booking in claim.bookings().values()]


def bound(journals: Mapping[int, Claim | GivingBack]) -> float:
    """Turns by which nobody may be further from his fair share, where the rota has one lane and nobody left.

    g(n - 1)/2, plus one for each turn given back; see ledger.py.
    """
    made = bookings(journals)
    largest = max(sum(sorted(booking.shares.values())[-2:]) for booking in made) / TURN
    ever = {rep for booking in made for rep in booking.shares}
    given_back = sum(len(entry.leads) for entry in journals.values() if isinstance(entry, GivingBack))
    return largest * (len(ever) - 1) / 2 + given_back


def largest_balance(ledger: Ledger) -> float:
    """Turns that the one furthest from his fair share is away from it."""
    return max((abs(ledger.total(rep)) for rep in ledger.reps()), default=0) / TURN
