"""How many leads several workers claim on one rota at once, beside two workers, and beside a design without conditions.

    make prove                               # brings DynamoDB Local, once
    .venv/bin/python -m bench.contention     # --runs 5, --seconds 4 for steadier figures

Each worker is a process with a client of its own; it reads, decides and claims one batch after the other. First this is
all they do, as fast as they can: whatever gets in anybody's way then is another's claim. Then HubSpot takes its time
before and after each claim, and the naive design is measured beside ours: it reads the loads, gives each lead to
whoever has fewest, and writes records and loads without a condition, so that capacities are overshot.

Everything takes turns on one machine, so that only the ratios count. A worker is refused when his claim was decided on
a ledger that has moved, and meets a conflict when another's transaction holds it at that moment. Leads of which the
claim was given up are contended: the queue would bring them again later.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import os
import random
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import astuple, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from boto3.dynamodb.types import TypeSerializer

from fairturn.claim import Candidate, Claims
from fairturn.errors import ClaimRefused, Contended
from fairturn.events import Kind, Message
from fairturn.ledger import ANY
from fairturn.policy import Policy, Priority
from fairturn.roster import Owner
from fairturn.routing import Lead, Route
from fairturn.store import LOADS, Store, Terms
from tests.integration.conftest import create_table
from tests.proof.conftest import connect, running

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mypy_boto3_dynamodb import DynamoDBClient

ROOT: Final = Path(__file__).parents[1]
TABLE: Final = "fairturn"
WORKERS: Final = (1, 2, 4, 8)
BATCHES: Final = (1, 10, 97)
HUBSPOT: Final = 0.08
"""Seconds for which HubSpot keeps each of the two calls of a batch."""
REPS: Final = tuple(str(100 + n) for n in range(8))
CAPACITY: Final = 100_000
SETTLING: Final = 0.4
"""Seconds that are not told: all begin at once, and get in each other's way more than they do later."""
MOST_PUTS: Final = 25
"""Items that DynamoDB takes in one request without conditions."""


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
    policy = Policy.read({**rules, "rules": [], "otherwise": {"rota": task.rota}})
    terms = Terms(1, policy, {rep: Owner(rep, f"rep{rep}@example.com", archived=False) for rep in REPS})
    store = Watched(client, TABLE)
    claims = Claims(store, f"worker {os.getpid()}", now=lambda: datetime.now(UTC), jitter=random.random)
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
        try:
            if task.naive:
                give(client, leads)
            else:
                claim(store, claims, terms, task.rota, leads)
        except Contended:
            contended += len(leads)
            continue
        time.sleep(task.hubspot)
        claimed += len(leads)
    return Tally(claimed / (time.monotonic() - begun), store.refused, store.conflicts, contended)


def claim(store: Store, claims: Claims, terms: Terms, rota: str, leads: Sequence[str]) -> None:
    """Claim a batch as assign does it."""
    snapshot = store.read([rota], [("contact", lead) for lead in leads])
    candidates = []
    for lead in leads:
        message = Message(id=lead, kinds=(Kind.CREATION,), occurred_at=1, change_source="FORM")
        route = Route(rota, ANY, Priority.NORMAL, "otherwise", "")
        candidates.append(Candidate(snapshot.records.of(lead), Lead(message, {}), route, terms.number, {}))
    claims.claim(rota, candidates, terms, snapshot.ledgers[rota], snapshot.loads)


def give(client: DynamoDBClient, leads: Sequence[str]) -> None:
    """The naive design: read, choose, write."""
    item = client.get_item(TableName=TABLE, Key={"pk": {"S": LOADS["pk"]}, "sk": {"S": LOADS["sk"]}}).get("Item", {})
    loads = {rep: int(item[rep]["N"]) if rep in item else 0 for rep in REPS}
    before = dict(loads)
    serialize = TypeSerializer().serialize
    puts: list[Any] = []
    for lead in leads:
        rep = min(REPS, key=loads.__getitem__)
        loads[rep] += 1
        record = {"pk": f"LEAD#contact#{lead}", "sk": "RECORD", "state": "claimed", "rep": rep, "rev": 1}
        puts.append({"PutRequest": {"Item": {name: serialize(value) for name, value in record.items()}}})
    for start in range(0, len(puts), MOST_PUTS):
        client.batch_write_item(RequestItems={TABLE: puts[start : start + MOST_PUTS]})
    changed = [rep for rep in REPS if loads[rep] > before[rep]]
    client.update_item(
        TableName=TABLE,
        Key={"pk": {"S": LOADS["pk"]}, "sk": {"S": LOADS["sk"]}},
        UpdateExpression="ADD " + ", ".join(f"#r{rep} :c{rep}" for rep in changed),
        ExpressionAttributeNames={f"#r{rep}": rep for rep in changed},
        ExpressionAttributeValues={f":c{rep}": {"N": str(loads[rep] - before[rep])} for rep in changed},
    )


def run(pool: ProcessPoolExecutor, workers: int, task: Task) -> Tally:
    """Let so many workers do it at once."""
    tallies = [astuple(each) for each in pool.map(work, [task] * workers)]
    return Tally(*map(sum, zip(*tallies, strict=True)))


def middle(tallies: Sequence[Tally]) -> Tally:
    """What is in the middle of several runs, figure by figure."""
    return Tally(*map(median, zip(*map(astuple, tallies), strict=True)))


def table(pool: ProcessPoolExecutor, url: str, runs: int, seconds: float) -> Iterator[str]:
    """The lines of both tables."""
    rotas = (f"r{n}" for n in itertools.count())

    def measured(workers: int, batch: int, hubspot: float, *, naive: bool = False) -> Tally:
        start = time.monotonic() + 0.3
        return run(pool, workers, Task(url, next(rotas), batch, naive, hubspot, start, seconds))

    run(pool, max(WORKERS), Task(url, next(rotas), 10, False, 0.0, time.monotonic() + 2, 2))  # noqa: FBT003 - warms up
    yield f"claims alone; medians of {runs} runs of {seconds:g} s, refusals and conflicts for each 100 leads"
    yield f"{'batch':>6}{'workers':>9}{'leads/s':>9}{'x 2 workers':>13}{'refused':>9}{'conflicts':>11}{'contended':>11}"
    for batch in BATCHES:
        found = {workers: middle([measured(workers, batch, 0) for _ in range(runs)]) for workers in WORKERS}
        for workers, tally in found.items():
            leads = tally.rate * seconds / 100
            yield (
                f"{batch:6}{workers:9}{tally.rate:9.0f}{tally.rate / found[2].rate:13.2f}"
                f"{tally.refused / leads:9.1f}{tally.conflicts / leads:11.1f}{tally.contended:11.0f}"
            )
    yield ""
    yield f"{max(WORKERS)} workers with HubSpot at {HUBSPOT * 1000:.0f} ms for each call, beside the naive design"
    yield f"{'batch':>6}{'leads/s':>9}{'naive':>9}{'x naive':>9}{'contended':>11}"
    for batch in BATCHES:
        pairs = [[measured(max(WORKERS), batch, HUBSPOT, naive=naive) for naive in (False, True)] for _ in range(runs)]
        ours, naive = (middle(tallies) for tallies in zip(*pairs, strict=True))
        yield f"{batch:6}{ours.rate:9.0f}{naive.rate:9.0f}{ours.rate / naive.rate:9.2f}{ours.contended:11.0f}"


def main() -> None:
    """Measure and print both tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.7)
    parser.add_argument("--dynamodb", type=Path, default=None)
    options = parser.parse_args()
    unpacked = options.dynamodb or max(ROOT.glob(".dynamodb-local/*/"), default=None)
    if unpacked is None:
        raise SystemExit("DynamoDB Local is not here: make prove")
    processes = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder, running(unpacked, Path(folder) / "log") as url:
        create_table(connect(url), TABLE)
        with ProcessPoolExecutor(max(WORKERS), processes) as pool:
            for line in table(pool, url, options.runs, options.seconds):
                print(line, flush=True)


if __name__ == "__main__":
    main()
