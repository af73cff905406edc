"""How long a form lead waits while thousands of contacts are imported, and when all is quiet.

    make prove                             # brings DynamoDB Local, once
    .venv/bin/python -m bench.imported     # --contacts 5000

HubSpot answers after 150 ms, and refuses nothing, so that it is seen what it is asked. A rule takes the imported
contacts, so each of them is a lead. All functions share this machine, which they don't on Lambda: what they take from
each other here is in the ratio.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from statistics import median
from threading import Thread
from typing import TYPE_CHECKING, Final

from bench.stack import LIMIT, Fairturn, Neighbour, account, dynamodb
from bench.table import Table

if TYPE_CHECKING:
    from collections.abc import Sequence

LATENCY: Final = 0.15
"""Seconds until HubSpot answers."""
AT_ONCE: Final = 50
"""Contacts that HubSpot makes at once."""
EVERY: Final = 0.1
"""Seconds between two such lots."""
QUIET: Final = 15
"""Form leads that come while all is quiet."""
PAUSE: Final = 0.5
"""Seconds between a form lead's owner and the next form lead."""
CONTACTS: Final = 5_000
LONGEST: Final = 600
"""Seconds until an import must be over."""


@dataclass(frozen=True, slots=True)
class Import:
    """How an import went."""

    contacts: int
    owned: int
    seconds: float
    """From its first event to its last owner."""
    quiet: Sequence[float]
    """Seconds from the event to the owner, of form leads that came before it."""
    meanwhile: Sequence[float]
    """The same, of those that came during it."""
    calls: int
    """Calls to HubSpot during it, those for form leads included."""
    most_calls: int
    """Calls in any ten seconds, at most."""

    @property
    def ratio(self) -> float:
        """How many times as long a form lead takes during the import."""
        return median(self.meanwhile) / median(self.quiet)


def measure(url: str, contacts: int) -> Import:
    """Let form leads come, then an import, and more of them meanwhile."""
    portal = Neighbour(LATENCY, limit=None)
    with account(url, portal) as (client, table), Fairturn(portal, client, table) as stack:
        quiet = [_one_lead(stack) for _ in range(QUIET)][3:]
        imported: list[str] = []
        portal.asked.clear()
        begun = time.monotonic()
        importing = Thread(target=_import, args=(portal, contacts, imported), daemon=True)
        importing.start()
        meanwhile = []
        while importing.is_alive() or not all(map(stack.is_done, imported)):
            if time.monotonic() - begun > LONGEST:
                break
            meanwhile.append(_one_lead(stack))
        owned = [portal.owned[id_][0][0] for id_ in imported if id_ in portal.owned]
        calls, most = len(portal.asked), portal.most_in_ten_seconds()
    return Import(contacts, len(owned), max(owned) - begun, quiet, meanwhile, calls, most)


def _one_lead(stack: Fairturn) -> float:
    """Seconds from a form lead's event to its owner."""
    time.sleep(PAUSE)
    begun = time.monotonic()
    lead = stack.portal.create_contact({"email": "lead@example.net"})
    stack.wait([lead], LONGEST)
    return stack.portal.owned[lead][0][0] - begun


def _import(portal: Neighbour, contacts: int, imported: list[str]) -> None:
    while len(imported) < contacts:
        with portal.lock:
            lot = range(min(AT_ONCE, contacts - len(imported)))
            imported += [portal.create_contact({"email": "contact@example.net"}, source="IMPORT") for _ in lot]
        time.sleep(EVERY)


def table(found: Import) -> Table:
    """As it is shown."""
    return Table(
        ("", "median", "slowest", "× quiet"),
        [
            (name, f"{median(times) * 1000:.0f} ms", f"{max(times) * 1000:.0f} ms", f"{ratio:.2f}")
            for name, times, ratio in (
                (f"a form lead when all is quiet ({len(found.quiet)})", found.quiet, 1.0),
                (f"a form lead during the import ({len(found.meanwhile)})", found.meanwhile, found.ratio),
            )
        ],
    )


def say(found: Import) -> str:
    """What else is to be told."""
    return (
        f"Of {found.contacts:,} imported contacts {found.owned:,} had their owner after {found.seconds:.0f} s, "
        f"{found.owned / found.seconds:.0f} in a second. HubSpot was called {found.calls:,} times, "
        f"{found.calls / found.contacts:.3f} times for each, and at most {found.most_calls} times in any ten seconds; "
        f"the smallest portal allows {LIMIT}."
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--contacts", type=int, default=CONTACTS)
    options = parser.parse_args()
    with dynamodb() as url:
        found = measure(url, options.contacts)
    print(table(found))
    print(say(found))


if __name__ == "__main__":
    main()
