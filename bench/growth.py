"""What a claim takes as a stack grows: its history, its reps, its lanes and its rules.

    make prove                            # brings DynamoDB Local, once
    .venv/bin/python -m bench.growth      # --history 100000

With the history grow the records and journals in the table; each history has a table of its own, all take turns, and a
claim reads and writes as assign does it. Reps, lanes and rules are measured without a table: how long the deciding
takes, and the bytes and write units of what is stored, which are computed as DynamoDB counts them. Every ledger is
full: everybody is owed something in every lane.
"""

from __future__ import annotations

import argparse
import itertools
import random
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from bench.contention import claim
from bench.stack import dynamodb
from bench.table import Table
from fairturn.edges.store import MAX_RECORDS, Store
from fairturn.rules.events import Kind, Message
from fairturn.rules.ledger import TURN, Claim, Given, Ledger, Member, Offer, align, allot
from fairturn.rules.policy import Priority
from fairturn.rules.record import new
from fairturn.rules.roster import Owner
from fairturn.rules.routing import Lead, Route, route
from fairturn.rules.terms import Terms
from fairturn.steps.claim import Claimer
from fairturn_console.policy import reading
from fairturn_console.policy.claim_cost import LOAD, Scales
from fairturn_console.request_units import TRANSACTIONAL, size, units
from tests.integration.conftest import create_table
from tests.proof.conftest import connect

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mypy_boto3_dynamodb import DynamoDBClient

    from fairturn_console.request_units import Item

HISTORY: Final = (100, 1_000, 10_000, 100_000)
REPS: Final = (5, 20, 60, 200, 500)
LANES: Final = (1, 4, 12, 32)
RULES: Final = (5, 20, 100)
USUAL_REPS: Final = 20
USUAL_LANES: Final = 4
ROTA: Final = "inbound"
ROUNDS: Final = 25
"""Turns that each takes."""
LONG_ENOUGH: Final = 0.01
"""Seconds of one turn without a table, at least."""
LEADS_OF_A_JOURNAL: Final = 10
"""In the history."""
MOST_PUTS: Final = 25
READ_UNIT: Final = 4096
"""Bytes that one unit reads, consistently."""
AT: Final = 1_795_424_400_000


@dataclass(frozen=True, slots=True)
class Weight:
    """What a claim stores."""

    ledger: int
    """Bytes."""
    journal: int
    """Bytes."""
    units: int
    """Write units of the claim."""
    items: Sequence[Item]
    """Ledger, journal, and each lead's record."""


@dataclass(frozen=True, slots=True)
class Step:
    """How it is at one size."""

    what: str
    size: int
    seconds: float
    lone: Weight | None = None
    """A claim of one lead; None where nothing is stored."""
    full: Weight | None = None
    """A claim of 97 leads."""
    requests: int = 0
    """To DynamoDB, for a claim of one lead."""
    reads: int = 0
    """Read units of that."""


def full_ledger(reps: Sequence[str], lanes: Sequence[str], turns: int) -> Ledger:
    """A ledger after so many leads, in which everybody is owed something everywhere."""
    dice = random.Random(1)
    balances = {}
    for lane in lanes:
        row = [dice.randint(-TURN, TURN) for _ in reps[1:]]
        balances[lane] = dict(zip(reps, [*row, -sum(row)], strict=True))
    last = {rep: turns - place for place, rep in enumerate(reps)}
    return Ledger(turns, 1, turns, balances, last)


def decide(ledger: Ledger, members: Mapping[str, Member], lanes: Sequence[str], leads: int) -> tuple[Claim, Ledger]:
    """Give so many leads, of each lane in turn; the journal, and the ledger after it."""
    offers = [Offer(lane) for lane in itertools.islice(itertools.cycle(lanes), leads)]
    allotment = allot(align(ledger, members, lanes), offers, members, lanes)
    given = tuple(
        Given(new(str(70_000_000_000 + n)).key, offer.lane, booking.winner)
        for n, (offer, booking) in enumerate(zip(offers, allotment.bookings, strict=True))
        if booking is not None
    )
    journal = Claim(ledger, 1, AT, frozenset(lanes), members, given)
    return journal, replace(allotment.ledger, version=journal.version, policy=1)


def weigh(ledger: Ledger, members: Mapping[str, Member], lanes: Sequence[str], leads: int) -> Weight:
    """What a claim of so many leads stores."""
    journal, after = decide(ledger, members, lanes, leads)
    moves = []
    for given in journal.leads:
        fresh = new(given.lead.partition("#")[2])
        placed = fresh.routed(Route(ROTA, given.lane, Priority.NORMAL, "otherwise", ""), 1, None, {})
        moves.append((fresh, placed.claimed(given.winner, journal.version, "worker", AT)))
    scales = Scales()
    client: Any = scales
    Store(client, "").claim(ROTA, journal, after, moves, {})
    written = sum(scales.units()) + TRANSACTIONAL * units(LOAD * len(members))
    return Weight(size(scales.items[0]), size(scales.items[1]), written, scales.items)


@dataclass(slots=True)
class Trial:
    """Something without a table, at one size."""

    what: str
    size: int
    act: Callable[[], object]
    """What is timed."""
    lone: Weight | None = None
    full: Weight | None = None
    times: list[float] = field(default_factory=list)

    def run(self) -> None:
        """Do it once more, or as often as it takes to be timed well."""
        begun, done = time.perf_counter(), 0
        while (took := time.perf_counter() - begun) < LONG_ENOUGH or not done:
            self.act()
            done += 1
        self.times.append(took / done)

    def step(self) -> Step:
        """How it was."""
        return Step(self.what, self.size, median(self.times), self.lone, self.full)


def deciding(what: str, number: int, reps: int, lanes: int) -> Trial:
    """A claim of 97 leads with so many reps and lanes."""
    names = [str(70_000_000 + 137 * n) for n in range(reps)]
    skills = [f"skill{n}" for n in range(lanes)]
    members = {name: Member(skills=frozenset(skills), load=10, capacity=1000) for name in names}
    ledger = full_ledger(names, skills, 120_000)
    lone, full = (weigh(ledger, members, skills, leads) for leads in (1, MAX_RECORDS))
    return Trial(what, number, lambda: decide(ledger, members, skills, MAX_RECORDS), lone, full)


def routing(rules: int) -> Trial:
    """A lead that is routed and is no rule's."""
    some = [
        {"name": f"rule {n}", "when": [{"property": "country", "equals": f"country {n}"}], "rota": ROTA}
        for n in range(rules)
    ]
    policy = reading.read(
        {"reps": {"1": None}, "rotas": {ROTA: {"members": ["1"]}}, "rules": some, "otherwise": {"rota": ROTA}}
    )
    message = Message(id="1", kinds=(Kind.CREATION,), occurred_at=AT, change_source="FORM")
    return Trial("rules", rules, lambda: route(Lead(message, {"country": "elsewhere"}), policy))


class Old:
    """A table with a history, and a worker on it."""

    def __init__(self, url: str, history: int) -> None:
        self.history, self._table = history, f"history-{history}"
        self._client = connect(url)
        create_table(self._client, self._table)
        reps = [str(70_000_000 + 137 * n) for n in range(USUAL_REPS)]
        rules = {"reps": dict.fromkeys(reps), "rotas": {ROTA: {"members": reps}}, "rules": []}
        self._terms = Terms(
            1,
            reading.read({**rules, "otherwise": {"rota": ROTA}}),
            {rep: Owner(rep, f"rep{rep}@example.com", archived=False) for rep in reps},
        )
        lanes = sorted(self._terms.policy.lanes(ROTA))
        members = {rep: Member() for rep in reps}
        self.lone, self.full = (weigh(full_ledger(reps, lanes, history), members, lanes, n) for n in (1, MAX_RECORDS))
        self._store = Store(self._client, self._table)
        self._claims = Claimer(self._store, "worker", now=lambda: datetime.now(UTC), jitter=random.random)
        self._requests: Counter[str] = Counter()
        self._client.meta.events.register("before-call.dynamodb", self._noted)
        self.times: list[float] = []
        self._fill(url)

    def _fill(self, url: str) -> None:
        """Put records and journals where the history would have put them."""
        ledger, journal, record = self.full.items[:3]
        bare = {name: value for name, value in journal.items() if name not in {"due_lane", "due"}}
        records = ({**record, "pk": {"S": f"LEAD#contact#{n}"}} for n in range(self.history))
        versions = range(1, self.history // LEADS_OF_A_JOURNAL)
        journals = ({**bare, "sk": {"S": f"CLAIM#{version:012d}"}} for version in versions)
        puts = ({"PutRequest": {"Item": item}} for item in itertools.chain([ledger], records, journals))
        batches = iter(lambda: list(itertools.islice(puts, MOST_PUTS)), [])
        clients = [connect(url) for _ in range(4)]

        def put(client: DynamoDBClient, batch: Any) -> None:
            client.batch_write_item(RequestItems={self._table: batch})

        with ThreadPoolExecutor(len(clients)) as pool:
            list(pool.map(put, itertools.cycle(clients), batches))

    def claim(self) -> None:
        """Give one lead."""
        lead = str(10**9 + len(self.times))
        begun = time.perf_counter()
        claim(self._store, self._claims, self._terms, ROTA, [lead])
        self.times.append(time.perf_counter() - begun)

    def step(self) -> Step:
        """How it was: the first claim does not count."""
        sizes = (size(self.lone.items[0]), LOAD * USUAL_REPS, 0)
        reads = sum(max(-(-each // READ_UNIT), 1) for each in sizes)
        requests = sum(self._requests.values()) // len(self.times)
        return Step("history", self.history, median(self.times[1:]), self.lone, self.full, requests, reads)

    def _noted(self, model: Any, **_: Any) -> None:
        self._requests[model.name] += 1


def measure(longest: int) -> list[Step]:
    """All of it; histories up to the longest."""
    with dynamodb() as url:
        tables = [Old(url, history) for history in HISTORY if history <= longest]
        for _ in range(ROUNDS + 1):
            for table in tables:
                table.claim()
        histories = [table.step() for table in tables]
    trials = [
        *(deciding("reps", reps, reps, USUAL_LANES) for reps in REPS),
        *(deciding("lanes", lanes, USUAL_REPS, lanes) for lanes in LANES),
        *map(routing, RULES),
    ]
    for _ in range(ROUNDS):
        for trial in trials:
            trial.run()
    return [*histories, *(trial.step() for trial in trials)]


def ratios(steps: Sequence[Step]) -> dict[str, list[tuple[int, float]]]:
    """What grows → its sizes, and how many times as long it takes as at the smallest."""
    found: dict[str, list[tuple[int, float]]] = {}
    for each in steps:
        smallest = next(other for other in steps if other.what == each.what)
        found.setdefault(each.what, []).append((each.size, each.seconds / smallest.seconds))
    return found


def table(steps: Sequence[Step]) -> Table:
    """As it is shown."""
    times = {(what, number): ratio for what, row in ratios(steps).items() for number, ratio in row}
    rows = []
    for each in steps:
        smallest = next(other for other in steps if other.what == each.what).size
        row = [each.what, f"{each.size:,}", f"{each.size / smallest:,.0f}", f"{times[each.what, each.size]:.1f}"]
        row += [str(each.requests), str(each.reads)] if each.requests else ["", ""]
        if each.lone is not None and each.full is not None:
            row += [f"{each.full.ledger:,}", f"{each.lone.journal:,}", f"{each.full.journal:,}"]
            row += [str(each.lone.units), f"{each.full.units / MAX_RECORDS:.1f}"]
        else:
            row += [""] * 5
        rows.append(row)
    columns = ("", "size", "× smallest", "× time", "requests", "read units")
    stored = ("ledger, B", "journal, B", "of 97, B", "write units", "of 97, per lead")
    return Table((*columns, *stored), rows)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--history", type=int, default=max(HISTORY), help="leads of the longest")
    print(table(measure(parser.parse_args().history)))


if __name__ == "__main__":
    main()
