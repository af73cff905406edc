"""The largest claim, giving back, batch of moves and policy are within what DynamoDB takes.

DynamoDB Local is as strict as DynamoDB about the size of items, expressions and transactions; the first tests
hold that, for otherwise the rest would prove nothing.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

import pytest
from botocore.exceptions import ClientError

from fairturn.edges.items import HELD_BACK
from fairturn.edges.refusals import ClaimRefused, RecordsMoved
from fairturn.edges.store import MAX_RECORDS
from fairturn.rules.brake import Brake, register
from fairturn.rules.ledger import (
    ANY,
    MOST_GRACE,
    PAST,
    TURN,
    Claim,
    Given,
    GivingBack,
    Ledger,
    Member,
    Offer,
    Returned,
    align,
    allot,
    give_back,
)
from fairturn.rules.policy import Flood, Policy, Priority
from fairturn.rules.record import MAX_REASON, MOST_OWNERS, Record, new
from fairturn.rules.routing import Route
from fairturn.steps.moves import MAX_MOVES
from fairturn_console.policy import reading
from fairturn_console.policy.checks import MAX_CELLS, MAX_LANES
from fairturn_console.policy.file import MAX_STORED
from fairturn_console.policy.written import MAX_MEMBERS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from mypy_boto3_dynamodb import DynamoDBClient

    from fairturn.edges.store import Store

ROTA = "inbound"
REPS = [str(number) for number in Random(3).sample(range(10_000_000_000, 100_000_000_000), MAX_MEMBERS)]
"""Owner ids of eleven digits: the longest that HubSpot is known to give."""
SKILLS = [f"skill-{n:02d}" for n in range(1, MAX_LANES)]
Moves = list[tuple[Record, Record]]


def lanes_of(count: int) -> list[str]:
    """So many lanes: one without a skill, the others with one each."""
    return [ANY, *SKILLS[: count - 1]]


def claim_of(
    ledger: Ledger,
    leads: Sequence[str],
    members: Mapping[str, Member],
    lanes: Sequence[str] = (ANY,),
    had: tuple[str, ...] = (),
) -> tuple[Claim, Ledger, Moves]:
    """A claim of contacts, spread over the lanes; each of them had these owners before."""
    offers = [Offer(lanes[n % len(lanes)], had) for n in range(len(leads))]
    allotment = allot(align(ledger, members, lanes), offers, members, lanes)
    given = tuple(
        Given(f"contact#{id_}", offer.lane, booking.winner, had)
        for id_, offer, booking in zip(leads, offers, allotment.bookings, strict=True)
        if booking
    )
    journal = Claim(ledger, 1, 1_000, frozenset(lanes), members, given)
    moves: Moves = []
    for id_, (_, lane, winner, *_) in zip(leads, given, strict=True):
        before = replace(new(id_), had=had)
        routed = before.routed(Route(ROTA, lane, Priority.NORMAL, "otherwise", ""), 1, None, {})
        moves.append((before, routed.claimed(winner, journal.version, "worker 1", 1_000)))
    return journal, replace(allotment.ledger, version=journal.version, policy=1), moves


def full_ledger(reps: Sequence[str], lanes: Sequence[str]) -> Ledger:
    """Everybody is owed something in every lane and from the past, of the size that balances have at most, and has
    little grace left."""
    random = Random(1)
    balances = {}
    for lane in (*lanes, PAST):
        row = [random.randint(TURN // 2, TURN * 2) * random.choice((-1, 1)) for _ in reps[1:]]
        balances[lane] = dict(zip(reps, [*row, -sum(row)], strict=True))
    last = {rep: random.randint(8_000_000, 9_000_000) for rep in reps}
    grace = {rep: random.randrange(MOST_GRACE - 1) for rep in reps}
    return Ledger(turns=9_000_000, balances=balances, last=last, grace=grace)


def ids(count: int) -> list[str]:
    return [str(70_000_000_000 + n) for n in range(count)]


# DynamoDB Local draws the lines where DynamoDB draws them


@pytest.mark.parametrize(
    ("condition", "complaint"),
    [
        (" AND ".join(["a <= :n"] * 151), "operators"),  # 151 + 150
        (" AND ".join([f"attribute_not_exists({'a' * 100})"] * 34), "size"),  # over 4096
    ],
)
def test_an_expression_beyond_the_limits_is_refused_here_as_well(
    dynamodb: DynamoDBClient, table: str, condition: str, complaint: str
) -> None:
    with pytest.raises(ClientError, match=complaint):
        dynamodb.update_item(
            TableName=table,
            Key={"pk": {"S": "x"}, "sk": {"S": "x"}},
            UpdateExpression="SET z = :n",
            ConditionExpression=condition,
            ExpressionAttributeValues={":n": {"N": "1"}},
        )


def test_an_item_of_more_than_400_kb_is_refused_here_as_well(dynamodb: DynamoDBClient, table: str) -> None:
    def put(size: int) -> None:
        dynamodb.put_item(TableName=table, Item={"pk": {"S": "x"}, "sk": {"S": "x"}, "a": {"S": "x" * size}})

    put(400 * 1024 - 7)
    with pytest.raises(ClientError, match="size"):
        put(400 * 1024 + 1)


def test_a_transaction_of_more_than_100_items_is_refused_here_as_well(dynamodb: DynamoDBClient, table: str) -> None:
    def write(count: int) -> None:
        items: Any = [
            {"Put": {"TableName": table, "Item": {"pk": {"S": str(n)}, "sk": {"S": "x"}}}} for n in range(count)
        ]
        dynamodb.transact_write_items(TransactItems=items)

    write(100)
    with pytest.raises(ClientError):
        write(101)


# Claims


def test_a_claim_takes_97_leads_to_97_different_reps_each_with_a_capacity(store: Store) -> None:
    members = {rep: Member(capacity=5) for rep in REPS[:MAX_RECORDS]}
    first, ledger, moves = claim_of(Ledger(), ids(MAX_RECORDS), members)
    assert len({given.winner for given in first.leads}) == MAX_RECORDS
    store.claim(ROTA, first, ledger, moves, {})  # nobody has a load: the longest condition
    seen = store.read([], []).loads
    second, ledger, moves = claim_of(ledger, [f"9{id_}" for id_ in ids(MAX_RECORDS)], members)
    store.claim(ROTA, second, ledger, moves, seen)
    snapshot = store.read([ROTA], [])
    assert snapshot.ledgers[ROTA] == ledger
    assert snapshot.loads == dict.fromkeys(members, 2)


LARGEST = [(MAX_MEMBERS, MAX_CELLS // MAX_MEMBERS), (MAX_CELLS // MAX_LANES, MAX_LANES)]
"""Reps and lanes of the largest rotas: with as many reps as one may have, and with as many lanes."""


@pytest.mark.parametrize(("reps", "lanes"), LARGEST)
def test_the_largest_rotas_are_claimed_for_read_and_recomputed(
    store: Store, dynamodb: DynamoDBClient, table: str, reps: int, lanes: int
) -> None:
    names, ledger = lanes_of(lanes), full_ledger(REPS[:reps], lanes_of(lanes))
    members = {
        rep: Member(weight=7, skills=frozenset(SKILLS), load=9_000 + n, capacity=10_000)
        for n, rep in enumerate(REPS[:reps])
    }
    had = tuple(REPS[:MOST_OWNERS])
    journal, after, moves = claim_of(ledger, ids(MAX_RECORDS), members, names, had)
    assert not {winner for _, _, winner, *_ in journal.leads} & {*had}
    store.claim(ROTA, journal, after, moves, {})
    assert store.read([ROTA], [("contact", id_) for id_ in ids(MAX_RECORDS)]).ledgers[ROTA] == after
    kept = store.journal(ROTA, 1)
    assert kept == journal
    assert isinstance(kept, Claim)
    assert kept.recompute().ledger == after
    for sort in ("LEDGER", f"CLAIM#{1:012d}"):
        item = dynamodb.get_item(TableName=table, Key={"pk": {"S": f"ROTA#{ROTA}"}, "sk": {"S": sort}})["Item"]
        packed = sum(len(value["B"]) for value in item.values() if "B" in value)
        assert 20_000 < packed < 100_000, "far from the 400 KB of an item, and yet full"


def test_a_refusal_of_the_largest_claim_carries_the_ledger_the_loads_and_all_records(store: Store) -> None:
    members = {rep: Member(capacity=5) for rep in REPS}
    journal, after, moves = claim_of(full_ledger(REPS, [ANY]), ids(MAX_RECORDS), members)
    store.claim(ROTA, journal, after, moves, {})
    with pytest.raises(ClaimRefused) as refused:
        store.claim(ROTA, journal, after, moves, {})
    present = store.read([ROTA], [("contact", id_) for id_ in ids(MAX_RECORDS)])
    assert refused.value.ledger == present.ledgers[ROTA] == after
    assert refused.value.loads == present.loads
    assert refused.value.records == present.records.known
    assert len(present.records.known) == MAX_RECORDS


# Givings back and moves


def test_97_leads_of_97_reps_go_back_to_97_others_in_one(store: Store) -> None:
    members = {rep: Member(capacity=5) for rep in REPS[:MAX_RECORDS]}
    journal, ledger, moves = claim_of(Ledger(), ids(MAX_RECORDS), members)
    store.claim(ROTA, journal, ledger, moves, {})
    records = [record for _, record in moves]
    takers = [f"5{rep}" for rep in REPS[:MAX_RECORDS]]
    back: Moves = [
        (record, record.external(taker, None, 2_000).given_back())
        for record, taker in zip(records, takers, strict=True)
    ]
    returned, _ = give_back(ledger, [(booking, True) for booking in journal.bookings().values()])
    after = replace(returned, version=2)
    entry = GivingBack(1, 2_000, tuple(Returned(record.key, 1, is_regret=True) for record in records))
    store.give_back(ROTA, entry, after, back)
    snapshot = store.read([ROTA], [])
    assert snapshot.ledgers[ROTA] == after
    assert (after.balances, len(after.grace)) == ({}, MAX_RECORDS)
    assert snapshot.loads == dict.fromkeys(members, 0) | dict.fromkeys(takers, 1)
    assert store.journal(ROTA, 2) == entry
    with pytest.raises(ClaimRefused) as refused:
        store.give_back(ROTA, entry, after, back)
    assert refused.value.ledger == after
    assert refused.value.records == {record.key: record for _, record in back}


def test_99_records_move_from_99_reps_to_99_others_in_one(store: Store) -> None:
    leads = ids(MAX_MOVES)
    first: Moves = [(new(id_), new(id_).external(rep, None, 1)) for id_, rep in zip(leads, REPS, strict=False)]
    store.move(first)
    takers = [f"5{rep}" for rep in REPS[:MAX_MOVES]]
    second: Moves = [
        (record, record.external(taker, None, 2)) for (_, record), taker in zip(first, takers, strict=True)
    ]
    store.move(second)
    assert store.read([], []).loads == dict.fromkeys(REPS[:MAX_MOVES], 0) | dict.fromkeys(takers, 1)
    with pytest.raises(RecordsMoved) as refused:
        store.move(second)
    assert refused.value.records == {record.key: record for _, record in second}


def test_a_record_that_moves_alone_is_refused_with_the_record_of_today(store: Store) -> None:
    before = new("1")
    store.move([(before, before.closed(None, 1))])
    with pytest.raises(RecordsMoved) as refused:
        store.move([(before, before.closed(None, 2))])
    assert refused.value.records == {"contact#1": before.closed(None, 1)}


def test_a_claim_that_is_finished_is_found_no_more_and_its_journal_stays(store: Store) -> None:
    members = {rep: Member() for rep in REPS[:2]}
    journal, ledger, moves = claim_of(Ledger(), ids(2), members)
    store.claim(ROTA, journal, ledger, moves, {})
    assert store.unfinished(9) == [(ROTA, 1)]
    for _ in range(2):
        store.finish(ROTA, 1, 5_000)
    store.finish(ROTA, 2, 5_000)  # there is none
    assert store.unfinished(9) == []
    assert store.journals([(ROTA, 1), (ROTA, 2)]) == {(ROTA, 1): journal}


def test_97_leads_from_bulk_sources_are_held_back_and_counted_in_one(store: Store) -> None:
    leads = ids(MAX_RECORDS)
    moves: Moves = [(new(id_), new(id_).unrouted(None).waiting("x" * MAX_REASON, 1)) for id_ in leads]
    flood = Flood(leads=1_000, minutes=10)
    after = register(Brake(), len(moves), 600_000, flood, 1)
    store.hold_back(Brake(), after, moves)
    assert store.brake() == after
    assert store.backlog(HELD_BACK).leads == MAX_RECORDS
    with pytest.raises(RecordsMoved) as refused:
        store.hold_back(after, register(after, len(moves), 600_000, flood, 1), moves)
    assert refused.value.records == {record.key: record for _, record in moves}
    assert store.brake() == after


# Policy


def test_a_policy_as_large_as_any_that_may_be_applied_is_stored_and_read(store: Store) -> None:
    def policy(rules: int) -> Policy:
        values = [f"{n:03d} zurück nach Ærøskøbing" for n in range(120)]
        rule = {"when": [{"property": "city", "in": values}], "rota": ROTA}
        return reading.read(
            {
                "reps": dict.fromkeys(REPS),
                "rotas": {ROTA: {"members": REPS}},
                "rules": [{"name": f"rule {n}", **rule} for n in range(rules)],
                "otherwise": {"rota": ROTA},
            }
        )

    sizes = {rules: len(policy(rules).dump().encode()) for rules in range(50, 100)}
    largest = policy(max(rules for rules, size in sizes.items() if size <= MAX_STORED))
    assert len(largest.dump().encode()) > 0.97 * MAX_STORED
    store.put_policy(1, largest, 5)
    assert store.policy(1) == largest
