"""What has to hold at the end of the demo's day, whatever happened and under every policy."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fairturn.rules.record import State

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fairturn_sandbox.books import Books


@dataclass(frozen=True)
class Check:
    """Something that has to hold, and whether it did."""

    what: str
    held: bool | None
    """None: there was nothing to check."""

    @property
    def verdict(self) -> str:
        """The same in a few words."""
        return "nothing to check" if self.held is None else "held" if self.held else "BROKEN"


def checks(books: Books) -> list[Check]:
    """Check everything."""
    return [*_leads(books), *_scenes(books), *_machinery(books)]


def _leads(books: Books) -> Iterable[Check]:
    """That each lead is where it has to be, once."""
    held = [record for record in books.records.values() if record.holder is not None]
    loads = {rep: load for rep, load in books.snapshot.loads.items() if load}
    day = books.day
    yield _all(
        "each lead that is somebody's has one owner, the same in the table and in HubSpot",
        (books.owner(record.id) == record.holder for record in held),
    )
    yield _if(held, "each rep's load equals their open contacts in HubSpot", loads == books.open_contacts())
    yield _if(
        day.closed or day.taken or day.merged,
        f"leads closed ({day.closed}), taken over ({len(day.taken)}) and merged ({len(day.merged)}) "
        "moved each load once",
        loads == Counter(record.holder for record in held),
    )
    yield Check(
        "every lead is assigned, waiting, dead-lettered or dropped; none is lost or counted twice",
        len(set(day.leads)) == len(day.leads)
        and books.dead_leads() == {record.id for record in books.records.values() if record.state is State.REFUSED}
        and books.portal.webhooks.lost == 0
        and books.sandbox.poll() == 0,
    )


def _scenes(books: Books) -> Iterable[Check]:
    """That what happened was followed."""
    day = books.day
    yield _all(
        f"owners whom somebody chose while ours was being written ({len(day.restored)}) were restored",
        (books.owner(lead) == chosen for lead, chosen in day.restored.items()),
    )
    yield _all(
        f"contacts that were erased ({len(day.erased)}) left no value behind",
        (record.shown == {} for lead in day.erased if (record := books.record(lead)) is not None),
    )
    yield _all(
        f"leads that waited and have an owner now ({len(day.waited)}) were given to them",
        (books.ends[lead] == "assigned" for lead in day.waited),
    )
    yield _all(
        f"dead letters that were redriven ({len(day.redriven)}) ended with an owner",
        (books.was_given(lead) for lead in day.redriven),
    )


def _machinery(books: Books) -> Iterable[Check]:
    """That the ledgers are right, and that nothing broke."""
    webhooks = books.portal.webhooks
    resent = webhooks.redelivered + books.sandbox.redelivered
    rows = [row for ledger in books.snapshot.ledgers.values() for row in ledger.balances.values()]
    booked = any(replay.entries for replay in books.replays.values())
    yield Check(
        "no function failed or ran out of time",
        not any(function.failed for function in books.sandbox.functions.values()),
    )
    yield _all("every lane of every ledger sums to 0", (sum(row.values()) == 0 for row in rows))
    yield _if(
        booked,
        "every decision can be recomputed from its journal, from the first to the last",
        all(replay.holds for replay in books.replays.values()),
    )
    yield _if(
        webhooks.duplicated or resent,
        f"{webhooks.duplicated} duplicates and {resent} redeliveries came and changed nothing",
        books.booked_at_most() <= 1,
    )


def _all(what: str, held: Iterable[bool]) -> Check:
    """That each of these held; of none, nothing is said."""
    each = [*held]
    return Check(what, all(each) if each else None)


def _if(there_are_any: object, what: str, held: bool) -> Check:  # noqa: FBT001 - what is checked, not how
    """That it held, if there was anything to check."""
    return Check(what, held if there_are_any else None)
