"""How many leads several workers claim on one rota at once. A design without conditions stands beside it.

    make prove                               # brings DynamoDB Local, once
    .venv/bin/python -m bench.contention     # --runs 5, --seconds 4 for steadier figures

Each worker is a process with a client of its own; it reads, decides and claims one batch after the other. First this is
all they do, as fast as they can: whatever gets in anybody's way then is another's claim. Then HubSpot takes its time
before and after each claim, and the naive design is measured beside ours. It is given our batches, which it has not by
itself: so that is what the conditions cost.

Everything takes turns on one machine, so that only the ratios count. A worker is refused when its claim was decided on
a ledger that has moved, and meets a conflict when another's transaction holds it at that moment. Leads of which the
claim was given up are contended: the queue would bring them again later.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import os
import random
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import astuple, dataclass
from datetime import UTC, datetime
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from bench.naive import give
from bench.stack import dynamodb
from bench.table import Table
from fairturn.edges.refusals import ClaimRefused
from fairturn.edges.store import Store
from fairturn.errors import Contended
from fairturn.rules.events import Kind, Message
from fairturn.rules.ledger import ANY
from fairturn.rules.policy import Priority
from fairturn.rules.roster import Owner
from fairturn.rules.routing import Lead, Route
from fairturn.rules.terms import Terms
from fairturn.steps.claim import Candidate, Claimer
from fairturn_console.policy import reading
from tests.integration.conftest import create_table
from tests.proof.conftest import connect

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mypy_boto3_dynamodb import DynamoDBClient

TABLE: Final = "fairturn"
WORKERS: Final = (1, 2, 4, 8)
BATCHES: Final = (1, 10, 97)
HUBSPOT: Final = 0.08
"""Seconds for which HubSpot keeps each of the two calls of a batch."""
REPS: Final = tuple(str(100 + n) for n in range(8))
CAPACITY: Final = 100_000
RUNS: Final = 3
SECONDS: Final = 0.7
SETTLING: Final = 0.4
"""Seconds that are not told: all begin at once, and get in each other's way more than they do later."""


@dataclass(frozen=True, slots=True)
class Task:
    """What all workers of one run do."""

    url: str
    rota: str
    batch: int
    naive: bool
    hubspot: float
    start: float
    """When they begin, by the machine's monotonic clock."""
    seconds: float


@dataclass(frozen=True, slots=True)
class Tally:
    """How one worker fared, or one run."""

    rate: float
    """Leads each second."""
    refused: float = 0
    conflicts: float = 0
    contended: float = 0
    """Leads whose claim was given up."""


@dataclass(frozen=True, slots=True)
class Contention:
    """What was found, turn by turn."""

    seconds: float
    """That each turn took."""
    alone: Mapping[tuple[int, int], Sequence[Tally]]
    """Batch and workers → how many they claimed as fast as they could."""
    beside: Mapping[int, tuple[Sequence[Tally], Sequence[Tally]]]
    """Batch → how the most workers fared when HubSpot takes its time, and how with the naive design."""

    def ratio(self, batch: int, workers: int) -> float:
        """The leads of so many workers for each of two workers'."""
        return _ratio(self.alone[batch, workers], self.alone[batch, 2])

    def ahead(self, batch: int, naive: int | None = None) -> float:
        """The leads for each of the naive design's, in batches of its own if they are given."""
        return _ratio(self.beside[batch][0], self.beside[naive or batch][1])


def _ratio(some: Sequence[Tally], others: Sequence[Tally]) -> float:
    """The median of the ratios of each turn."""
    return median(one.rate / other.rate for one, other in zip(some, others, strict=True))


class Watched(Store):
    """A store that counts who got in its way."""

    def __init__(self, client: DynamoDBClient, table: str) -> None:
        super().__init__(client, table, sleep=self._pause)
        self.refused = self.conflicts = 0

    def _pause(self, seconds: float) -> None:
        self.conflicts += 1
        time.sleep(seconds)

    def claim(self, *arguments: Any) -> None:
        try:
            super().claim(*arguments)
        except ClaimRefused:
            self.refused += 1
            raise


def work(task: Task) -> Tally:
    """Claim, as one worker, until the time is over."""
    client = connect(task.url)
    rules = {"reps": {rep: {"capacity": CAPACITY} for rep in REPS}, "rotas": {task.rota: {"members": list(REPS)}}}
    policy = reading.read({**rules, "rules": [], "otherwise": {"rota": task.rota}})
    terms = Terms(1, policy, {rep: Owner(rep, f"rep{rep}@example.com", archived=False) for rep in REPS})
    store = Watched(client, TABLE)
    claimer = Claimer(store, f"worker {os.getpid()}", now=lambda: datetime.now(UTC), jitter=random.random)
    ids = (f"{task.rota}-{os.getpid()}-{n}" for n in itertools.count())
    store.loads()  # so that the connection is there
    claimed = contended = 0
    time.sleep(max(task.start - time.monotonic(), 0))
    begun = task.start
    while time.monotonic() < task.start + SETTLING + task.seconds:
        if begun == task.start and time.monotonic() >= task.start + SETTLING:
            begun = time.monotonic()
            claimed = contended = store.refused = store.conflicts = 0
        leads = list(itertools.islice(ids, task.batch))
        time.sleep(task.hubspot)
        if task.naive:
            give(client, TABLE, leads, REPS, CAPACITY, lambda _: time.sleep(task.hubspot))
            claimed += len(leads)
            continue
        try:
            claim(store, claimer, terms, task.rota, leads)
        except Contended:
            contended += len(leads)
            continue
        time.sleep(task.hubspot)
        claimed += len(leads)
    return Tally(claimed / (time.monotonic() - begun), store.refused, store.conflicts, contended)


def claim(store: Store, claimer: Claimer, terms: Terms, rota: str, leads: Sequence[str]) -> None:
    """Claim a batch as assign does it."""
    snapshot = store.read([rota], [("contact", lead) for lead in leads])
    candidates = []
    for lead in leads:
        message = Message(id=lead, kinds=(Kind.CREATION,), occurred_at=1, change_source="FORM")
        route = Route(rota, ANY, Priority.NORMAL, "otherwise", "")
        candidates.append(Candidate(snapshot.records.of(lead), Lead(message, {}), route, terms.number, {}))
    claimer.claim(rota, candidates, terms, snapshot.ledgers[rota], snapshot.loads)


def run(pool: ProcessPoolExecutor, workers: int, task: Task) -> Tally:
    """Let so many workers do it at once."""
    tallies = [astuple(each) for each in pool.map(work, [task] * workers)]
    return Tally(*map(sum, zip(*tallies, strict=True)))


def middle(tallies: Sequence[Tally]) -> Tally:
    """What is in the middle of several runs, figure by figure."""
    return Tally(*map(median, zip(*map(astuple, tallies), strict=True)))


def measure(runs: int, seconds: float) -> Contention:
    """Let workers take turns on one rota."""
    rotas = (f"r{n}" for n in itertools.count())
    processes = multiprocessing.get_context("spawn")
    with dynamodb() as url, ProcessPoolExecutor(max(WORKERS), processes) as pool:
        create_table(connect(url), TABLE)

        def measured(workers: int, batch: int, hubspot: float, *, naive: bool = False) -> Tally:
            start = time.monotonic() + 0.3
            return run(pool, workers, Task(url, next(rotas), batch, naive, hubspot, start, seconds))

        run(pool, max(WORKERS), Task(url, next(rotas), 10, False, 0.0, time.monotonic() + 2, 2))  # noqa: FBT003 - warms up
        alone: dict[tuple[int, int], list[Tally]] = {(batch, workers): [] for batch in BATCHES for workers in WORKERS}
        beside: dict[int, tuple[list[Tally], list[Tally]]] = {batch: ([], []) for batch in BATCHES}
        for _ in range(runs):
            for (batch, workers), tallies in alone.items():
                tallies.append(measured(workers, batch, 0))
            for batch, both in beside.items():
                for naive, tallies in enumerate(both):
                    tallies.append(measured(max(WORKERS), batch, HUBSPOT, naive=bool(naive)))
    return Contention(seconds, alone, beside)


def tables(found: Contention) -> tuple[Table, Table]:
    """As they are shown: claims alone, and beside the naive design."""
    rows = []
    for (batch, workers), tallies in found.alone.items():
        tally = middle(tallies)
        hundreds = tally.rate * found.seconds / 100
        rows.append(
            (
                str(batch),
                str(workers),
                f"{tally.rate:,.0f}",
                f"{found.ratio(batch, workers):.2f}",
                f"{tally.refused / hundreds:.1f}",
                f"{tally.conflicts / hundreds:.1f}",
                f"{tally.contended:.0f}",
            )
        )
    columns = ("batch", "workers", "leads/s", "× 2 workers", "refused", "conflicts", "contended")
    beside = [
        (
            str(batch),
            f"{middle(ours).rate:,.0f}",
            f"{middle(naive).rate:,.0f}",
            f"{found.ahead(batch):.2f}",
            f"{found.ahead(batch, naive=1):.1f}",
            f"{middle(ours).contended:.0f}",
        )
        for batch, (ours, naive) in found.beside.items()
    ]
    others = ("batch", "leads/s", "naive", "× naive", "× naive, one lead at a time", "contended")
    return Table(columns, rows), Table(others, beside)


def main() -> None:
    """Measure and print both tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    options = parser.parse_args()
    alone, beside = tables(measure(options.runs, options.seconds))
    print("claims alone; refusals and conflicts for each 100 leads", alone, sep="\n")
    print(f"{max(WORKERS)} workers with HubSpot at {HUBSPOT * 1000:.0f} ms for each call", beside, sep="\n")


if __name__ == "__main__":
    main()
