"""A thousand leads at once: how fast they get owners, and how many calls to HubSpot that takes. The naive design stands
beside it.

    make prove                           # brings DynamoDB Local, once
    .venv/bin/python -m bench.burst      # --leads 1000 --seconds 60

They come in webhooks of a hundred events. HubSpot answers after 150 ms and takes 150 calls in any ten seconds. The
naive design is given a minute; what it would need for all of them follows from how fast it is.

Then it is counted what breaks in a smaller burst, in which HubSpot refuses nothing: once the reps have room for two
thirds of the leads only, and once every tenth message comes twice at the same moment, as SQS says that it may.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bench.naive import Naive, loads
from bench.stack import REPS, Fairturn, Neighbour, account, dynamodb
from bench.table import Table
from fairturn.rules.policy import OWNER

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.stack import Stack

LATENCY: Final = 0.15
"""Seconds until HubSpot answers."""
WARMING: Final = 20
"""Leads that come before those that count."""
FEW: Final = 168
"""Leads of the burst after which all is counted."""
ROOM: Final = FEW * 2 // 3 // len(REPS)
"""Leads that each rep has room for, where room is short."""
QUIET: Final = 3.0
"""Seconds."""
TWICE: Final = 0.1
"""How many messages come twice, where some do."""


@dataclass(frozen=True, slots=True)
class Burst:
    """How a burst went."""

    design: str
    leads: int
    owned: Sequence[float]
    """Seconds after the burst began at which each lead that got an owner got it, ascending."""
    calls: int
    """Calls to HubSpot, refused ones included."""
    seconds: float
    """From the first event to the last owner, or to when it was ended."""
    refused: int
    """Calls that HubSpot refused because of its limit."""
    most_calls: int
    """Calls in any ten seconds, at most."""

    @property
    def rate(self) -> float:
        """Leads each second."""
        return len(self.owned) / self.seconds


@dataclass(frozen=True, slots=True)
class Audit:
    """What is wrong after a burst."""

    burst: str
    design: str
    given: int
    """Leads with an owner."""
    overshot: int
    """Leads that reps got beyond their capacity."""
    twice: int
    """Leads whose owner was written more than once."""
    miscounted: int
    """By how many leads the loads in the table are wrong, all reps together."""


def measure(url: str, leads: int, seconds: float) -> list[Burst]:
    """Both designs, one after the other."""
    bursts = []
    for design in (Fairturn, Naive):
        portal = Neighbour(LATENCY)
        with account(url, portal) as (client, table), design(portal, client, table) as stack:
            stack.wait(_arrive(stack, WARMING), 30)
            portal.asked.clear()
            portal.refusals = 0
            begun = time.monotonic()
            ids = _arrive(stack, leads)
            stack.wait(ids, seconds)
            took = time.monotonic() - begun
            owned = sorted(portal.owned[id_][0][0] - begun for id_ in ids if id_ in portal.owned)
            calls, refused = len(portal.asked), portal.refusals
            bursts.append(Burst(design.__name__, leads, owned, calls, took, refused, portal.most_in_ten_seconds()))
    return bursts


def count_faults(url: str) -> list[Audit]:
    """Let both designs take the same bursts, and count."""
    audits = []
    for burst, capacity, twice in (("room is short", ROOM, 0.0), ("messages come twice", None, TWICE)):
        for design in (Fairturn, Naive):
            portal = Neighbour(LATENCY, limit=None)
            with account(url, portal, capacity=capacity) as (client, table):
                with design(portal, client, table, capacity=capacity, twice=twice) as stack:
                    ids = _arrive(stack, FEW)
                    _come_to_rest(portal)
                held = Counter(owner for id_ in ids if (owner := portal.contact(id_).properties.get(OWNER)))
                told = loads(client, table)
                audits.append(
                    Audit(
                        burst,
                        design.__name__,
                        held.total(),
                        overshot=sum(max(number - (capacity or FEW), 0) for number in held.values()),
                        twice=sum(len(portal.owned[id_]) > 1 for id_ in ids),
                        miscounted=sum(abs(told.get(rep, 0) - held[rep]) for rep in {*told, *held}),
                    )
                )
    return audits


def _arrive(stack: Stack, leads: int) -> list[str]:
    portal = stack.portal
    with portal.lock:  # so that they are told together
        return [portal.create_contact({"email": f"lead{n}@example.net"}) for n in range(leads)]


def _come_to_rest(portal: Neighbour) -> None:
    """Wait until HubSpot has not been asked for some seconds; a minute at most."""
    begun = time.monotonic()
    while time.monotonic() - max([begun, *portal.asked[-1:]]) < QUIET and time.monotonic() < begun + 60:
        time.sleep(0.1)


def tables(bursts: Sequence[Burst], audits: Sequence[Audit]) -> tuple[Table, Table]:
    """As they are shown."""
    naive = bursts[-1]
    speed = Table(
        ("", "leads", "with an owner", "after s", "leads/s", "× naive", "calls per lead", "refused", "calls in 10 s"),
        [
            (
                each.design,
                f"{each.leads:,}",
                f"{len(each.owned):,}",
                f"{each.seconds:.1f}",
                f"{each.rate:.1f}",
                f"{each.rate / naive.rate:.1f}",
                f"{each.calls / len(each.owned):.2f}",
                f"{each.refused:,}",
                f"{each.most_calls:,}",
            )
            for each in bursts
        ],
    )
    faults = Table(
        ("burst", "", "leads", "given", "beyond capacity", "owner written twice", "loads wrong by"),
        [
            (
                each.burst,
                each.design,
                str(FEW),
                str(each.given),
                str(each.overshot),
                str(each.twice),
                str(each.miscounted),
            )
            for each in audits
        ],
    )
    return speed, faults


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--leads", type=int, default=1_000)
    parser.add_argument("--seconds", type=float, default=60, help="that either design is given")
    options = parser.parse_args()
    with dynamodb() as url:
        for table in tables(measure(url, options.leads, options.seconds), count_faults(url)):
            print(table, end="\n\n")


if __name__ == "__main__":
    main()
