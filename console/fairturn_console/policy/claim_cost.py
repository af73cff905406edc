"""What a claim will roughly cost, told before there is one. See request_units.py for how DynamoDB counts.

A claim writes four things at once: the ledger of its rota and the journal, each with the balance of every rep in every
lane; the loads; and the record of each lead.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any, Final

from fairturn.edges.store import Store
from fairturn.rules.ledger import MOST_GRACE, PAST, TURN, Claim, Given, Ledger, Member
from fairturn.rules.policy import Priority
from fairturn.rules.record import new
from fairturn.rules.routing import Route
from fairturn.rules.verdict import Code, Verdict
from fairturn_console.request_units import TRANSACTIONAL, indexes, units, units_of_write

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fairturn.rules.policy import Policy
    from fairturn_console.request_units import Item

AT: Final = 1_795_424_400_000
VERDICTS: Final = (Verdict(), Verdict(Code.OFF), Verdict(Code.AWAY, until="2026-12-31"))
LOAD: Final = 12
"""Bytes that one rep adds to the loads."""


def write_units(policy: Policy, rota: str, leads: int = 1) -> int:
    """The write units of one claim of so many leads in a rota whose reps all have a balance in every lane."""
    lanes = sorted(policy.lanes(rota))
    reps = [str(70_000_000 + _scattered(number) % 10_000_000) for number in range(len(policy.rotas[rota].members))]
    before = _plausible(reps, lanes)
    names = [str(70_000_000_000 + number) for number in range(leads)]
    given = [Given(new(name).key, lanes[n % len(lanes)], reps[n % len(reps)]) for n, name in enumerate(names)]
    claim = Claim(before, before.policy, AT, frozenset(lanes), _seated(reps), tuple(given))
    moves = []
    for name, (_, lane, rep, *_) in zip(names, given, strict=True):
        placed = new(name).routed(Route(rota, lane, Priority.NORMAL, "otherwise", ""), before.policy, None, {})
        moves.append((new(name), placed.claimed(rep, claim.version, "worker", AT)))
    scales = Scales()
    client: Any = scales
    Store(client, "").claim(rota, claim, before, moves, {})
    return sum(scales.units()) + TRANSACTIONAL * units(LOAD * len(policy.reps))


class Scales:
    """A client of DynamoDB that only weighs what a transaction puts."""

    def __init__(self) -> None:
        self.items: list[Item] = []

    def transact_write_items(self, **request: Any) -> None:
        self.items += [item["Put"]["Item"] for item in request["TransactItems"] if "Put" in item]

    def units(self) -> Sequence[int]:
        """What each item costs, if it is put where nothing was or what was not larger."""
        return [units_of_write({}, item, indexes(), in_transaction=True) for item in self.items]


def _plausible(reps: Sequence[str], lanes: Sequence[str]) -> Ledger:
    """A ledger after some years. Its numbers look drawn by lot, for others would pack too well, but never change."""
    balances = {
        lane: {rep: _scattered(row * len(reps) + column) % (2 * TURN) - TURN for column, rep in enumerate(reps)}
        for row, lane in enumerate([*lanes, PAST])
    }
    last = {rep: 120_000 - _scattered(int(rep)) % 1_000 for rep in reps}
    grace = {rep: _scattered(int(rep)) % MOST_GRACE for rep in reps[::3]}
    return Ledger(90_000, 20, 120_000, balances, last, grace)


def _seated(reps: Sequence[str]) -> dict[str, Member]:
    """How those reps stand, just as well."""
    lots = {rep: _scattered(int(rep)) for rep in reps}
    return {rep: Member(weight=1 + lot % 2, verdict=VERDICTS[lot % 3], load=lot % 40) for rep, lot in lots.items()}


def _scattered(number: int) -> int:
    return zlib.crc32(str(number).encode())
