"""Several workers, each a process of its own, claim, hand over and undo at the same time."""

from __future__ import annotations

import multiprocessing
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random
from typing import TYPE_CHECKING, Final

from fairturn.edges.items import LOADS
from fairturn.edges.refusals import ClaimRefused
from fairturn.edges.store import Store
from fairturn.errors import Contended
from fairturn.rules.events import Kind, Message
from fairturn.rules.ledger import ANY, GivingBack
from fairturn.rules.policy import Priority
from fairturn.rules.record import State
from fairturn.rules.roster import Owner
from fairturn.rules.routing import Lead, Route
from fairturn.rules.terms import Terms
from fairturn.steps.claim import Candidate, Claimer, Undoing
from fairturn.steps.moves import write_moves
from fairturn_console.policy import reading
from fairturn_console.recount import correct_loads
from tests.integration.audit import audit, bookings, bound, largest_balance, read
from tests.proof.conftest import connect

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from mypy_boto3_dynamodb import DynamoDBClient

    from fairturn.rules.record import Record

WORKERS: Final = 4
LEADS: Final = 400
TRIES: Final = 50
"""How often a worker comes back to one batch, as the queue would bring it again."""
WITHIN: Final = 60.0
"""Seconds for one race."""
STRANGER: Final = "999"
"""Somebody outside the rota, who takes leads over."""
UNLUCKY: Final = ("103", "104", "109")
"""From these every lead is taken away at once, until their grace is used up and after."""


@dataclass(frozen=True, slots=True)
class Race:
    """What each worker must know: a policy, and where each lead belongs."""

    url: str
    table: str
    policy: Mapping[str, Any]
    leads: Mapping[str, tuple[str, str]]
    """Contact → rota and lane."""
    undoing: bool = False
    """Whether claims are also given back, handed over and taken over meanwhile."""


@dataclass(slots=True)
class Tally:
    """How a worker fared."""

    refused: int = 0
    tired: int = 0
    """Batches put back because the ledger kept moving."""


class Watched(Store):
    """A store that counts the refusals of its claims."""

    tally: Tally

    def claim(self, *arguments: Any) -> None:
        try:
            super().claim(*arguments)
        except ClaimRefused:
            self.tally.refused += 1
            raise


def run(race: Race, shares: Sequence[Sequence[str]]) -> Tally:
    """Let each worker have its share of the leads, all starting at once."""
    processes = multiprocessing.get_context("spawn")
    start = processes.Barrier(WORKERS)
    with ProcessPoolExecutor(WORKERS, processes, initializer=_ready, initargs=(start,)) as pool:
        futures = [pool.submit(work, race, share, number) for number, share in enumerate(shares)]
        tallies = [future.result(WITHIN) for future in futures]
    return Tally(sum(tally.refused for tally in tallies), sum(tally.tired for tally in tallies))


def _ready(start: Any) -> None:
    start.wait(WITHIN)


def work(race: Race, share: Sequence[str], number: int) -> Tally:
    """One worker: claim in batches of 1 to 12, and see to what was claimed."""
    random = Random(number)
    store = Watched(connect(race.url), race.table)
    store.tally = Tally()
    owners = {rep: Owner(rep, f"rep{rep}@example.com", archived=False) for rep in race.policy["reps"]}
    terms = Terms(1, reading.read(race.policy), owners)
    claimer = Claimer(store, f"worker {number}", now=_now, jitter=random.random)
    left = list(share)
    while left:
        size = random.randint(1, 12)
        rota = race.leads[left[0]][0]
        batch = [lead for lead in left if race.leads[lead][0] == rota][:size]
        left = [lead for lead in left if lead not in batch]
        for _ in range(TRIES):
            try:
                _bring(race, rota, batch, store, claimer, terms, random)
            except Contended:
                store.tally.tired += 1
                continue
            break
        else:
            raise TimeoutError("one batch never got through")
    return store.tally


def _bring(
    race: Race, rota: str, batch: Sequence[str], store: Store, claimer: Claimer, terms: Terms, random: Random
) -> None:
    snapshot = store.read([rota], [("contact", lead) for lead in batch])
    candidates: list[Candidate] = []
    claimed_before: list[Record] = []
    for lead in batch:
        record = snapshot.records.of(lead)
        if record.state is State.CLAIMED:
            claimed_before.append(record)
        elif record.may_be_claimed_in(1):
            candidates.append(_candidate(record, rota, race.leads[lead][1]))
    claimed = claimer.claim(rota, candidates, terms, snapshot.ledgers[rota], snapshot.loads)
    write_moves(store, [(each.record, each.routed.waiting("full", 2)) for each in claimed.waiting])
    if race.undoing:
        records = claimed_before + [record for record, _ in claimed.bookings]
        undone: list[Undoing] = []
        for record in records:
            match random.randrange(6):
                case 0:
                    undone.append(Undoing(record, record.external(STRANGER, None, 3)))
                case 1:
                    undone.append(Undoing(record, record.waiting("refused", 3)))
                case 2:
                    undone.append(Undoing(record, record.gone("deleted", 3)))
        chosen = {each.record.key for each in undone}
        claimer.undo(undone)
        rest = [record for record in records if record.key not in chosen]
        handed = write_moves(store, [(record, record.handed(3)) for record in rest])
        at_once = [record for record in handed if record.rep in UNLUCKY]
        claimer.undo([Undoing(record, record.external(STRANGER, "chosen", 4), is_regret=True) for record in at_once])
        later = [record for record in handed if record.rep not in UNLUCKY and random.random() < 0.3]
        write_moves(store, [(record, record.external(STRANGER, "chosen", 4)) for record in later])


def _candidate(record: Record, rota: str, lane: str) -> Candidate:
    message = Message(id=record.id, kinds=(Kind.CREATION,), occurred_at=1, change_source="FORM")
    return Candidate(record, Lead(message, {}), Route(rota, lane, Priority.NORMAL, "otherwise", ""), 1, {})


def _now() -> datetime:
    return datetime.now(UTC)


def shares_of(leads: Sequence[str], random: Random) -> list[list[str]]:
    """Half of the leads come to one worker only, a third to two, the rest to all of them; each in another order."""
    shares: list[list[str]] = [[] for _ in range(WORKERS)]
    for number, lead in enumerate(leads):
        times = (1, 1, 1, 2, 2, WORKERS)[number % 6]
        for share in random.sample(shares, times):
            share.append(lead)
    for share in shares:
        random.shuffle(share)
    return shares


def test_four_workers_give_each_lead_of_one_rota_once_and_fairly(
    url: str, dynamodb: DynamoDBClient, table: str
) -> None:
    capacities = {"101": 200, "102": 30, "103": 200, "104": 60, "105": 200, "106": 1, "107": 200, "108": 200}
    policy = {
        "reps": {rep: {"capacity": capacity} for rep, capacity in capacities.items()},
        "rotas": {"inbound": {"members": list(capacities)}},
        "rules": [],
        "otherwise": {"rota": "inbound"},
    }
    leads = [str(1000 + n) for n in range(LEADS)]
    race = Race(url, table, policy, dict.fromkeys(leads, ("inbound", ANY)))
    began = time.monotonic()
    tally = run(race, shares_of(leads, Random(7)))
    assert time.monotonic() - began < WITHIN
    assert tally.refused > 0, "nobody got in anybody's way: that was no race"

    after = read(dynamodb, table, Store(dynamodb, table))
    audit(after)
    assert Counter(record.state for record in after.records.values()) == {State.CLAIMED: LEADS}
    assert len(bookings(after.journals["inbound"])) == LEADS
    assert all(load <= capacities[rep] for rep, load in after.loads.items())
    assert (after.loads["102"], after.loads["104"], after.loads["106"]) == (30, 60, 1)
    assert largest_balance(after.ledgers["inbound"]) <= bound(after.journals["inbound"])


def test_four_workers_on_two_rotas_that_share_reps_exceed_no_capacity_while_claims_go_back(
    url: str, dynamodb: DynamoDBClient, table: str
) -> None:
    capacities = {str(rep): 4 + rep % 5 * 6 for rep in range(101, 113)}
    reps = list(capacities)
    policy = {
        "reps": {
            rep: {"capacity": capacity, "skills": ["fr"] if int(rep) % 2 else []}
            for rep, capacity in capacities.items()
        },
        "rotas": {"east": {"members": reps[:8]}, "west": {"members": reps[4:]}},
        "rules": [
            {
                "name": f"{rota} {skills}",
                "when": [{"property": "city", "equals": f"{rota} {skills}"}],
                "rota": rota,
                "skills": skills,
            }
            for rota in ("east", "west")
            for skills in ([], ["fr"])
        ],
        "otherwise": {"rota": "east"},
    }
    leads = [str(1000 + n) for n in range(LEADS)]
    places = {lead: (("east", "west")[n % 2], ("fr", ANY, ANY)[n % 3]) for n, lead in enumerate(leads)}
    race = Race(url, table, policy, places, undoing=True)
    began = time.monotonic()
    tally = run(race, shares_of(leads, Random(8)))
    assert time.monotonic() - began < WITHIN
    assert tally.refused > 0, "nobody got in anybody's way: that was no race"

    after = read(dynamodb, table, Store(dynamodb, table))
    audit(after)
    assert len(after.records) == LEADS
    states = Counter(record.state for record in after.records.values())
    assert states.keys() <= {State.HANDED, State.WAITING, State.EXTERNAL, State.GONE}
    assert all(load <= capacities[rep] for rep, load in after.loads.items() if rep != STRANGER)
    regretted = [
        each
        for journals in after.journals.values()
        for entry in journals.values()
        if isinstance(entry, GivingBack)
        for each in entry.leads
        if each.is_regret
    ]
    spent = [record for record in after.records.values() if record.spent]
    assert 0 < len(spent) < len(regretted), "nobody's grace was put to test"
    assert {record.state for record in spent} == {State.EXTERNAL}
    assert all(record.owners[-2] in UNLUCKY for record in spent)
    assert any(after.loads.get(rep) == capacity for rep, capacity in capacities.items()), "no capacity was put to test"


def test_loads_that_are_spoilt_while_four_workers_claim_and_undo_are_set_right_meanwhile(
    url: str, dynamodb: DynamoDBClient, table: str
) -> None:
    reps = [str(rep) for rep in range(101, 111)]
    policy = {
        "reps": {rep: {} for rep in reps},
        "rotas": {"inbound": {"members": reps}},
        "rules": [],
        "otherwise": {"rota": "inbound"},
    }
    leads = [str(1000 + n) for n in range(LEADS)]
    race = Race(url, table, policy, dict.fromkeys(leads, ("inbound", ANY)), undoing=True)
    store, everybody = Store(dynamodb, table), [*reps, STRANGER]
    planted: Counter[str] = Counter()
    found: Counter[str] = Counter()
    random = Random(9)
    with ThreadPoolExecutor(1) as aside:
        workers = aside.submit(run, race, shares_of(leads, Random(9)))
        while not workers.done():
            rep, wrong = random.choice(everybody), random.choice([-3, 4])
            spoil(dynamodb, table, rep, wrong)
            planted[rep] += wrong
            _, drifts = correct_loads(store, everybody)
            found.update(drifts)
        workers.result()
    during = dict(found)
    _, drifts = correct_loads(store, everybody)
    found.update(drifts)
    assert any(during.values()), "nothing was set right while leads came"
    assert {rep: wrong for rep, wrong in found.items() if wrong} == {
        rep: wrong for rep, wrong in planted.items() if wrong
    }
    audit(read(dynamodb, table, store))


def spoil(client: DynamoDBClient, table: str, rep: str, wrong: int) -> None:
    """Make a load wrong by so much."""
    client.update_item(
        TableName=table,
        Key={name: {"S": key} for name, key in LOADS.items()},
        UpdateExpression="ADD #rep :wrong",
        ExpressionAttributeNames={"#rep": rep},
        ExpressionAttributeValues={":wrong": {"N": str(wrong)}},
    )
