"""The table's conditions: what they refuse, and that a refusal says who won."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from fairturn.errors import ClaimRefused, Contended, PolicyMissing, PolicyMoved, RecordsMoved, TableUnavailable
from fairturn.ledger import ANY, Claim, GivingBack, Ledger, Member, allot, give_back, settle
from fairturn.policy import Policy
from fairturn.record import Move, Record, State, move
from fairturn.roster import Owner
from fairturn.store import CONFLICT_ATTEMPTS, InForce, Store

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mypy_boto3_dynamodb import DynamoDBClient

ROTA = "inbound"
MEMBERS = {"101": Member(weight=2, capacity=3), "102": Member()}
POLICY = Policy.read(
    {
        "reps": {"101": None, "102": None},
        "rotas": {ROTA: {"members": ["101", "102"]}},
        "rules": [],
        "otherwise": {"rota": ROTA},
    }
)


def claim_of(
    ledger: Ledger,
    *leads: str,
    members: Mapping[str, Member] = MEMBERS,
    records: Mapping[str, Record] | None = None,
) -> tuple[Claim, Ledger, list[tuple[Record | None, Record]]]:
    """A claim of new leads, decided on a ledger."""
    allotment = allot(settle(ledger, members, [ANY]), [ANY] * len(leads), members)
    journal = Claim(
        before=ledger,
        policy=1,
        at=1_000,
        lanes=frozenset({ANY}),
        members=members,
        leads=tuple((f"contact#{id_}", ANY, b.winner) for id_, b in zip(leads, allotment.bookings, strict=True) if b),
    )
    moves = []
    for (key, lane, winner), id_ in zip(journal.leads, leads, strict=True):
        before = (records or {}).get(key)
        facts = {
            "type": "contact",
            "id": id_,
            "rota": ROTA,
            "lane": lane,
            "rep": winner,
            "claim": journal.version,
        }
        moves.append((before, move(before, Move.CLAIM, 1_000, **facts)))
    return journal, replace(allotment.ledger, version=journal.version, policy=1), moves


def make(store: Store, ledger: Ledger, *leads: str) -> Ledger:
    journal, after, moves = claim_of(ledger, *leads)
    store.claim(ROTA, journal, after, moves, store.read([], []).loads)
    return after


def test_what_was_never_written_reads_as_an_empty_ledger_no_loads_and_no_records(store: Store) -> None:
    snapshot = store.read([ROTA], [("contact", "1")])
    assert snapshot.ledgers == {ROTA: Ledger()}
    assert (snapshot.loads, snapshot.records) == ({}, {})


def test_a_claim_writes_ledger_journal_loads_and_records_as_one(store: Store) -> None:
    journal, after, moves = claim_of(Ledger(), "1", "2", "3")
    store.claim(ROTA, journal, after, moves, {})
    snapshot = store.read([ROTA], [("contact", id_) for id_ in "123"])
    assert snapshot.ledgers[ROTA] == after
    assert snapshot.loads == {"101": 2, "102": 1}
    assert list(snapshot.records.values()) == [record for _, record in moves]
    assert store.journal(ROTA, 1) == journal
    assert journal.recompute().ledger == after


def test_a_lead_claimed_twice_keeps_its_first_rep_and_the_refusal_says_who(store: Store) -> None:
    ledger = make(store, Ledger(), "1")
    journal, after, moves = claim_of(ledger, "2", "1")
    with pytest.raises(ClaimRefused) as refused:
        store.claim(ROTA, journal, after, moves, {"101": 1})
    assert refused.value.records["contact#1"] == store.read([], [("contact", "1")]).records["contact#1"]
    assert (refused.value.ledger, refused.value.loads) == (None, None)
    snapshot = store.read([ROTA], [("contact", "2")])
    assert snapshot.ledgers[ROTA] == ledger
    assert (snapshot.records, snapshot.loads) == ({}, {"101": 1})


def test_a_claim_on_a_ledger_that_moved_is_refused_with_the_ledger_of_today(store: Store) -> None:
    today = make(store, Ledger(), "1")
    journal, after, moves = claim_of(Ledger(), "2")
    with pytest.raises(ClaimRefused) as refused:
        store.claim(ROTA, journal, after, moves, {})
    assert refused.value.ledger == today
    yesterday = make(store, today, "3")
    journal, after, moves = claim_of(today, "4")
    with pytest.raises(ClaimRefused) as refused:
        store.claim(ROTA, journal, after, moves, {})
    assert refused.value.ledger == yesterday


@pytest.mark.parametrize(("seen", "loads"), [({"101": 2}, {"101": 3}), ({}, {"101": 3})])
def test_no_claim_exceeds_a_capacity_even_on_loads_read_too_early(
    store: Store, dynamodb: DynamoDBClient, seen: dict[str, int], loads: dict[str, int]
) -> None:
    item = {"pk": {"S": "LOADS"}, "sk": {"S": "LOADS"}, "101": {"N": "3"}}
    dynamodb.put_item(TableName="fairturn", Item=item)
    journal, after, moves = claim_of(Ledger(), "1")
    with pytest.raises(ClaimRefused) as refused:
        store.claim(ROTA, journal, after, moves, seen)
    assert refused.value.loads == loads
    assert store.read([ROTA], []).ledgers[ROTA] == Ledger()


def test_giving_back_returns_turn_load_and_record_as_one(store: Store) -> None:
    ledger = make(store, Ledger(), "1")
    record = store.read([], [("contact", "1")]).records["contact#1"]
    entry = GivingBack(ledger.version, 2_000, ((record.key, 1),))
    claim = store.journal(ROTA, 1)
    assert isinstance(claim, Claim)
    after = replace(give_back(ledger, [claim.bookings()[record.key]]), version=2)
    moves = [(record, move(record, Move.LEAVE, 2_000, rep="900"))]
    store.give_back(ROTA, entry, after, moves)
    snapshot = store.read([ROTA], [("contact", "1")])
    assert snapshot.ledgers[ROTA].balances == {}
    assert snapshot.loads == {"101": 0, "900": 1}
    assert snapshot.records["contact#1"].state is State.ELSEWHERE
    with pytest.raises(ClaimRefused) as refused:
        store.give_back(ROTA, entry, after, moves)
    assert refused.value.ledger == snapshot.ledgers[ROTA]
    assert refused.value.records == snapshot.records
    assert store.journal(ROTA, 2) == entry
    with pytest.raises(KeyError):
        store.journal(ROTA, 3)


def test_a_record_that_moved_is_not_moved_again_and_takes_its_batch_with_it(store: Store) -> None:
    make(store, Ledger(), "1")
    record = store.read([], [("contact", "1")]).records["contact#1"]
    handed = move(record, Move.HAND_OVER, 2_000)
    store.move([(record, handed)])
    fresh = move(None, Move.WAIT, 2_000, type="contact", id="2", rota=ROTA, lane=ANY)
    with pytest.raises(RecordsMoved) as refused:
        store.move([(None, fresh), (record, handed)])
    assert refused.value.records == {"contact#1": handed}
    assert store.read([], [("contact", "2")]).records == {}


def test_waiting_and_claimed_leads_are_found_by_what_is_due_and_reps_leads_by_rep(
    store: Store, dynamodb: DynamoDBClient
) -> None:
    make(store, Ledger(), "1")
    waiting = {"type": "contact", "rota": ROTA, "lane": "fr"}
    store.move(
        [
            (None, move(None, Move.WAIT, 9, **waiting, id="2", priority="normal", occurred_at=5)),
            (None, move(None, Move.WAIT, 9, **waiting, id="3", priority="urgent", occurred_at=8)),
        ]
    )

    def found(index: str, attribute: str, value: str) -> list[str]:
        answer = dynamodb.query(
            TableName="fairturn",
            IndexName=index,
            KeyConditionExpression=f"{attribute} = :value",
            ExpressionAttributeValues={":value": {"S": value}},
        )
        return [item["pk"]["S"] for item in answer["Items"]]

    assert found("by_due", "due_lane", f"{ROTA}#fr") == ["LEAD#contact#3", "LEAD#contact#2"]
    assert found("by_due", "due_lane", "claimed") == ["LEAD#contact#1"]
    assert found("by_rep", "assigned_to", "101") == ["LEAD#contact#1"]


def test_a_finished_record_expires_and_one_that_is_open_or_in_a_load_does_not(
    store: Store, dynamodb: DynamoDBClient
) -> None:
    facts = {"type": "contact", "rota": ROTA, "lane": ANY}
    store.move(
        [
            (None, move(None, Move.LEAVE, 1_700_000_000_000, **facts, id="1")),
            (None, move(None, Move.LEAVE, 1_700_000_000_000, **facts, id="3", rep="7")),
            (None, move(None, Move.WAIT, 1_700_000_000_000, **facts, id="2")),
        ]
    )
    items = dynamodb.scan(
        TableName="fairturn", FilterExpression="sk = :r", ExpressionAttributeValues={":r": {"S": "RECORD"}}
    )
    expiry = {item["id"]["S"]: int(item["ttl"]["N"]) if "ttl" in item else None for item in items["Items"]}
    assert expiry == {"1": 1_700_000_000 + 120 * 86_400, "2": None, "3": None}


def test_a_policy_version_follows_the_one_in_force_and_two_appliers_do_not_overwrite_each_other(
    store: Store,
) -> None:
    store.put_policy(1, POLICY, 5)
    store.put_policy(2, POLICY, 6)
    with pytest.raises(PolicyMoved):
        store.put_policy(2, POLICY, 7)
    assert store.pointer().number == 2
    assert store.policy(1) == POLICY
    with pytest.raises(PolicyMissing, match="fairturn policy apply"):
        store.policy(3)


def test_an_owner_whom_hubspot_refuses_is_marked_until_the_roster_is_refreshed(store: Store) -> None:
    anna = Owner("101", "anna@example.com", archived=False)
    store.put_roster([anna], 5)
    store.mark_unavailable("101")
    store.mark_unavailable("999")
    assert store.pointer().owners == {"101": replace(anna, unavailable=True)}
    store.put_roster([anna], 6)
    assert store.pointer().owners == {"101": anna}


def test_a_warm_function_sees_a_new_policy_after_thirty_seconds_and_reads_nothing_before(
    store: Store,
) -> None:
    time = [0.0]
    in_force = InForce(store, clock=lambda: time[0])
    with pytest.raises(PolicyMissing, match="no policy is in force"):
        in_force.current()
    store.put_policy(1, POLICY, 5)
    assert in_force.current().number == 1
    store.put_policy(2, POLICY, 6)
    time[0] = 29.9
    assert in_force.current().number == 1
    time[0] = 30.0
    assert in_force.current().number == 2


def test_faults_are_remembered_by_lead(store: Store) -> None:
    store.note_faults({("contact", str(n)): n for n in range(30)}, "HubSpot answers 503", 7_000)
    assert store.faults([("contact", "29"), ("contact", "30")]) == {"contact#29": 29}


class Conflicting:
    """A client whose transactions meet somebody else's, so many times."""

    def __init__(self, client: DynamoDBClient, times: int) -> None:
        self.client = client
        self.times = times
        self.calls = 0

    def __getattr__(self, name: str) -> object:
        return getattr(self.client, name)

    def transact_write_items(self, **request: object) -> object:
        self.calls += 1
        if self.calls > self.times:
            return self.client.transact_write_items(**request)  # type: ignore[arg-type]
        count = len(request["TransactItems"])  # type: ignore[arg-type]
        reasons = [{"Code": "TransactionConflict"}, *[{"Code": "None"}] * (count - 1)]
        answer = {
            "Error": {"Code": "TransactionCanceledException", "Message": ""},
            "CancellationReasons": reasons,
        }
        raise ClientError(answer, "TransactWriteItems")  # type: ignore[arg-type]


def test_a_transaction_in_conflict_is_tried_again_a_bounded_number_of_times(dynamodb: DynamoDBClient) -> None:
    pauses: list[float] = []
    lucky = Conflicting(dynamodb, times=CONFLICT_ATTEMPTS - 1)
    make(Store(lucky, "fairturn", sleep=pauses.append), Ledger(), "1")  # type: ignore[arg-type]
    assert len(pauses) == CONFLICT_ATTEMPTS - 1
    assert max(pauses) <= 0.5
    unlucky = Conflicting(dynamodb, times=99)
    with pytest.raises(Contended, match="conflict"):
        make(Store(unlucky, "fairturn", sleep=pauses.append), Ledger(), "2")  # type: ignore[arg-type]
    assert unlucky.calls == CONFLICT_ATTEMPTS


@pytest.mark.parametrize(
    "error",
    [
        ClientError({"Error": {"Code": "ThrottlingException", "Message": ""}}, "BatchGetItem"),
        EndpointConnectionError(endpoint_url="http://localhost"),
    ],
)
def test_a_table_that_does_not_answer_is_unavailable_and_no_more(error: Exception) -> None:
    class Down:
        def batch_get_item(self, **_: object) -> None:
            raise error

    with pytest.raises(TableUnavailable):
        Store(Down(), "fairturn").read([ROTA], [])  # type: ignore[arg-type]


def test_a_single_write_in_conflict_is_tried_again_as_well(dynamodb: DynamoDBClient) -> None:
    class Busy:
        calls = 0

        def put_item(self, **request: object) -> object:
            self.calls += 1
            if self.calls < CONFLICT_ATTEMPTS:
                raise ClientError({"Error": {"Code": "TransactionConflictException", "Message": ""}}, "PutItem")
            return dynamodb.put_item(**request)  # type: ignore[arg-type]

    busy = Busy()
    Store(busy, "fairturn", sleep=lambda _: None).put_roster([], 5)  # type: ignore[arg-type]
    assert busy.calls == CONFLICT_ATTEMPTS


def test_a_request_that_is_our_own_mistake_is_never_taken_for_bad_weather() -> None:
    class Strict:
        def put_item(self, **_: object) -> None:
            raise ClientError({"Error": {"Code": "ValidationException", "Message": ""}}, "PutItem")

    with pytest.raises(ClientError):
        Store(Strict(), "fairturn").put_roster([], 5)  # type: ignore[arg-type]


def test_reps_whom_hubspot_does_not_have_are_named_when_the_policy_is_read(store: Store) -> None:
    store.put_policy(1, POLICY, 5)
    store.put_roster([Owner("101", "anna@example.com", archived=False)], 5)
    terms = InForce(store, clock=lambda: 0.0).current()
    assert [terms.is_owner(rep) for rep in ("101", "102", None)] == [True, False, False]
