"""What a claim costs, roughly, before there is one: DynamoDB counts a write in units of 1 KB, twice in a transaction.

A claim writes four things at once: the ledger of its rota and the journal, each with the balance of every rep in every
lane; the loads; and the record of each lead.
"""

from __future__ import annotations

import zlib
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

from fairturn.ledger import MOST_GRACE, PAST, TURN, Ledger
from fairturn.store import packed
from fairturn_console.units import TRANSACTIONAL, units

if TYPE_CHECKING:
    from collections.abc import Collection

    from fairturn.policy import Policy

FRAME: Final = 100
"""Bytes of a ledger or a journal that are not packed: keys, names, versions."""
LEAD: Final = 40
"""Bytes that one lead adds to a journal."""
MEMBERS: Final = 160
"""Bytes of a journal that say how the reps stood, however few they are."""
MEMBER: Final = 9
"""Bytes that one rep adds to that."""


def write_units(policy: Policy, rota: str, leads: int = 1) -> int:
    """The write units of one claim of so many leads in a rota whose reps all have a balance in every lane."""
    reps, loads = len(policy.rotas[rota].members), 1
    ledger = FRAME + len(packed(asdict(_plausible(reps, policy.lanes(rota)))))
    journal = ledger + MEMBERS + MEMBER * reps + LEAD * leads
    return TRANSACTIONAL * (units(ledger) + units(journal) + loads + leads)


def _plausible(reps: int, lanes: Collection[str]) -> Ledger:
    """A ledger after some years. Its numbers look drawn by lot, for others would pack too well, but never change."""
    ids = [str(70_000_000 + _scattered(number) % 10_000_000) for number in range(reps)]
    balances = {
        lane: {rep: _scattered(row * reps + column) % (2 * TURN) - TURN for column, rep in enumerate(ids)}
        for row, lane in enumerate([*sorted(lanes), PAST])
    }
    last = {rep: 120_000 - _scattered(int(rep)) % 1_000 for rep in ids}
    grace = {rep: _scattered(int(rep)) % MOST_GRACE for rep in ids[::3]}
    return Ledger(90_000, 20, 120_000, balances, last, grace)


def _scattered(number: int) -> int:
    return zlib.crc32(str(number).encode())
