"""The write units of a lead's whole way, from its claim until nothing is left to do about it."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any, Final

import pytest

from fairturn.edges.store import MAX_RECORDS
from fairturn.rules.ledger import PAST, TURN, Claim, Ledger
from fairturn_console.request_units import Meter
from tests.integration.world import ROTA, World

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_dynamodb import DynamoDBClient

REPS: Final = 20
BANDS: Final = [20, 60]
"""They make three lanes."""


@pytest.fixture
def meter(dynamodb: DynamoDBClient) -> Meter:
    return Meter(dynamodb)


@pytest.fixture
def world(meter: Any) -> Iterator[World]:
    """A rota of twenty reps and three lanes, in which everybody is owed something everywhere."""
    with World(meter, "fairturn", reps=REPS, leads={"worth": {"property": "seats", "bands": BANDS}}) as world:
        world.portal.define_property("seats")
        grow_old(world)
        yield world


def grow_old(world: World) -> None:
    """Let the ledger be as it is after some years."""
    random = Random(1)
    balances = {}
    for lane in ("any@0", "any@20", "any@60", PAST):
        row = [random.randint(-TURN, TURN) for _ in world.reps[1:]]
        balances[lane] = dict(zip(world.reps, [*row, -sum(row)], strict=True))
    last = {rep: 120_000 - number for number, rep in enumerate(world.reps)}
    old = Ledger(version=1, policy=1, turns=120_000, balances=balances, last=last)
    world.store.claim(ROTA, Claim(Ledger(), 1, 1, frozenset(balances) - {PAST}, {}, ()), old, [], {})


def taken(world: World, meter: Meter, leads: int) -> float:
    """The units that each of so many leads costs that come at once, on the second such day."""
    for _ in range(2):
        meter.units = 0
        ids = [world.arrive(seats=str(number % 90))[0] for number in range(leads)]
        assert world.take(ids) == []
        assert world.states(ids) == {"handed": leads}
        world.later(3600)
    return meter.units / leads


def test_a_lone_lead_costs_twelve_units(world: World, meter: Meter) -> None:
    # Twice each: ledger, journal, loads, record. Once each: the claim's entry in the index, the record as it is handed
    # over, the journal without its entry, and the entry as it goes.
    assert taken(world, meter, leads=1) == 2 * 4 + 4


def test_a_lead_in_a_full_batch_costs_four_units_and_a_little(world: World, meter: Meter) -> None:
    # Its record, twice each time; what the claim costs besides is shared by 97.
    assert 4 < taken(world, meter, leads=MAX_RECORDS) < 4.2
