"""The table's conditions: what they refuse, and that a refusal says who won."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from msgspec import structs

from fairturn.edges.in_force import InForce
from fairturn.edges.items import HELD_BACK, REFUSED, UNOWNED, UNSEEN
from fairturn.edges.refusals import BrakeMoved, ClaimRefused, PolicyMoved, RecordsMoved, RosterMoved
from fairturn.edges.store import CONFLICT_ATTEMPTS, Store, Tries
from fairturn.errors import Contended, PolicyMissing, RecordUnreadable, TableUnavailable
from fairturn.rules.brake import Brake, register
from fairturn.rules.events import lead_key
from fairturn.rules.ledger import (
    ANY,
    GRACE_OF_A_TURN,
    MOST_GRACE,
    PAST,
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
from fairturn.rules.policy import Flood, Mode, Priority
from fairturn.rules.record import KEPT_FOR, LOOK_AFTER, Record, Records, State, new
from fairturn.rules.roster import Owner
from fairturn.rules.routing import Route
from fairturn.rules.terms import Version
from fairturn.rules.verdict import Code, Source, Verdict
from fairturn_console.policy import reading

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mypy_boto3_dynamodb import DynamoDBClient

ROTA = "inbound"
MEMBERS = {"101": Member(weight=2, capacity=3), "102": Member()}
POLICY = reading.read(
    {
        "reps": {"101": None, "102": None},
        "rotas": {ROTA: {"members": ["101", "102"]}},
        "rules": [],
        "otherwise": {"rota": ROTA},
    }
)


def placed(record: Record, *, lane: str = ANY, priority: Priority = Priority.NORMAL, at: int = 0) -> Record:
    """A record with a place in the rota, as of a lead that came at `at`."""
    routed = record.routed(Route(ROTA, lane, priority, "otherwise", ""), 1, None, {})
    return replace(routed, occurred_at=at)


def the(store: Store, id_: str) -> Record:
    """The record of a contact."""
    return store.records([("contact", id_)]).of(id_)


def claim_of(
    ledger: Ledger,
    *leads: str,
    members: Mapping[str, Member] = MEMBERS,
    records: Mapping[str, Record] | None = None,
) -> tuple[Claim, Ledger, list[tuple[Record, Record]]]:
    """A claim of new leads, decided on a ledger."""
    allotment = allot(align(ledger, members, [ANY]), [Offer(ANY)] * len(leads), members, [ANY])
    journal = Claim(
        before=ledger,
        policy=1,
        at=1_000,
        lanes=frozenset({ANY}),
        members=members,
        leads=tuple(
            Given(f"contact#{id_}", ANY, b.winner) for id_, b in zip(leads, allotment.bookings, strict=True) if b
        ),
    )
    moves = []
    for (key, lane, winner, *_), id_ in zip(journal.leads, leads, strict=True):
        before = (records or {}).get(key, new(id_))
        moves.append((before, placed(before, lane=lane).claimed(winner, journal.version, "worker 1", 1_000)))
    return journal, replace(allotment.ledger, version=journal.version, policy=1), moves


def make(store: Store, ledger: Ledger, *leads: str) -> Ledger:
    journal, after, moves = claim_of(ledger, *leads)
    store.claim(ROTA, journal, after, moves, store.read([], []).loads)
    return after


def test_what_was_never_written_reads_as_an_empty_ledger_no_loads_and_no_records(store: Store) -> None:
    snapshot = store.read([ROTA], [("contact", "1")])
    assert snapshot.ledgers == {ROTA: Ledger()}
    assert (snapshot.loads, snapshot.records) == ({}, Records({}, {}))
    assert snapshot.records.of("1") == new("1")


def test_a_claim_writes_ledger_journal_loads_and_records_as_one(store: Store) -> None:
    journal, after, moves = claim_of(Ledger(), "1", "2", "3")
    store.claim(ROTA, journal, after, moves, {})
    snapshot = store.read([ROTA], [("contact", id_) for id_ in "123"])
    assert snapshot.ledgers[ROTA] == after
    assert snapshot.loads == {"101": 2, "102": 1}
    assert list(snapshot.records.known.values()) == [record for _, record in moves]
    assert store.journal(ROTA, 1) == journal
    assert journal.recompute().ledger == after


def test_a_lead_claimed_twice_keeps_its_first_rep_and_the_refusal_says_who(store: Store) -> None:
    ledger = make(store, Ledger(), "1")
    journal, after, moves = claim_of(ledger, "2", "1")
    with pytest.raises(ClaimRefused) as refused:
        store.claim(ROTA, journal, after, moves, {"101": 1})
    assert refused.value.records == {"contact#1": the(store, "1")}
    assert (refused.value.ledger, refused.value.loads) == (None, None)
    snapshot = store.read([ROTA], [("contact", "2")])
    assert snapshot.ledgers[ROTA] == ledger
    assert (snapshot.records.known, snapshot.loads) == ({}, {"101": 1})


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
    record = the(store, "1")
    entry = GivingBack(ledger.version, 2_000, (Returned(record.key, 1),))
    claim = store.journal(ROTA, 1)
    assert isinstance(claim, Claim)
    returned, _ = give_back(ledger, [(claim.bookings()[record.key], False)])
    after = replace(returned, version=2)
    moves = [(record, record.external("900", None, 2_000).given_back())]
    store.give_back(ROTA, entry, after, moves)
    snapshot = store.read([ROTA], [("contact", "1")])
    assert snapshot.ledgers[ROTA].balances == {}
    assert snapshot.loads == {"101": 0, "900": 1}
    assert snapshot.records.of("1").state is State.EXTERNAL
    assert snapshot.records.of("1").claim is None
    with pytest.raises(ClaimRefused) as refused:
        store.give_back(ROTA, entry, after, moves)
    assert refused.value.ledger == snapshot.ledgers[ROTA]
    assert refused.value.records == snapshot.records.known
    assert store.journal(ROTA, 2) == entry
    with pytest.raises(KeyError):
        store.journal(ROTA, 3)


def test_a_journal_comes_back_from_the_table_as_it_was_written_with_all_that_the_claim_rested_on(store: Store) -> None:
    members = {
        "101": Member(weight=2, skills=frozenset({"fr", "de"}), came_lately=True, capacity=9),
        "102": Member(verdict=Verdict(Code.OFF), is_due=True, load=3),
        "104": Member(verdict=Verdict(Code.AWAY, until="2026-12-31")),
        "103": Member(verdict=Verdict(Code.DEACTIVATED, Source.HUBSPOT)),
    }
    before = Ledger(
        turns=7,
        balances={"de+fr@60": {"101": 5, "102": -5}, PAST: {"101": -2, "103": 2}},
        last={"101": 7, "102": 6},
        grace={"101": 3},
    )
    lanes = frozenset({"de+fr@0", "de+fr@60"})
    leads = (
        Given("contact#1", "de+fr@60", "101", is_patient=True),
        Given("contact#2", "de+fr@0", "101", ("102", "900")),
    )
    journal = Claim(before, 1, 1_000, lanes, members, leads)
    after = journal.recompute().ledger
    assert after.grace == {"101": 5}  # each turn earns a quarter
    moves = [(new(id_), placed(new(id_)).claimed("101", 1, "worker 1", 1_000)) for id_ in "12"]
    store.claim(ROTA, journal, after, moves, {})
    assert store.journal(ROTA, 1) == journal
    assert store.read([ROTA], []).ledgers[ROTA] == after


def test_a_ledger_and_a_giving_back_keep_whose_grace_was_taken(store: Store) -> None:
    ledger = make(store, Ledger(), "1", "2")
    claim = store.journal(ROTA, 1)
    assert isinstance(claim, Claim)
    records = [the(store, id_).handed(2_000) for id_ in "12"]
    store.move([(the(store, record.id), record) for record in records])
    regrets = (True, False)
    bookings = [claim.bookings()[record.key] for record in records]
    returned, _ = give_back(ledger, list(zip(bookings, regrets, strict=True)))
    assert returned.grace == {bookings[0].winner: MOST_GRACE - GRACE_OF_A_TURN}
    leads = tuple(Returned(record.key, 1, regret) for record, regret in zip(records, regrets, strict=True))
    entry = GivingBack(ledger.version, 3_000, leads)
    moves = [(record, record.external("900", None, 3_000).given_back()) for record in records]
    store.give_back(ROTA, entry, replace(returned, version=2), moves)
    assert store.read([ROTA], []).ledgers[ROTA] == replace(returned, version=2)
    assert store.journal(ROTA, 2) == entry


def test_a_lead_whose_turn_stays_spent_keeps_its_booking(store: Store) -> None:
    ledger = replace(make(store, Ledger(), "1"), grace={"101": GRACE_OF_A_TURN - 1})
    claim = store.journal(ROTA, 1)
    assert isinstance(claim, Claim)
    handed = the(store, "1").handed(2_000)
    store.move([(the(store, "1"), handed)])
    returned, came_back = give_back(ledger, [(claim.bookings()[handed.key], True)])
    assert (returned, came_back) == (ledger, (False,))
    taken = handed.external("900", "somebody else chose the owner", 3_000).stays_spent()
    entry = GivingBack(1, 3_000, (Returned(handed.key, 1, is_regret=True),))
    store.give_back(ROTA, entry, replace(returned, version=2), [(handed, taken)])
    assert the(store, "1") == taken
    assert (taken.booking, taken.had) == ((handed.key, 1), ("101",))
    assert store.loads() == {"101": 0, "900": 1}


def test_a_record_that_moved_is_not_moved_again_and_takes_its_batch_with_it(store: Store) -> None:
    make(store, Ledger(), "1")
    record = the(store, "1")
    handed = record.handed(2_000)
    store.move([(record, handed)])
    fresh = placed(new("2")).waiting("full", 2_000)
    with pytest.raises(RecordsMoved) as refused:
        store.move([(new("2"), fresh), (record, handed)])
    assert refused.value.records == {"contact#1": handed}
    assert the(store, "2") == new("2")


def test_a_record_that_was_there_and_is_not_any_more_is_told_as_a_new_one(store: Store) -> None:
    expired = replace(new("1"), rev=3, state=State.CLOSED)
    with pytest.raises(RecordsMoved) as refused:
        store.move([(expired, placed(expired).waiting("full", 2_000))])
    assert refused.value.records == {"contact#1": new("1")}


def test_waiting_leads_are_found_by_their_lane_the_most_urgent_first(store: Store) -> None:
    store.move(
        [
            (new("2"), placed(new("2"), lane="fr@60", at=5).waiting("full", 9)),
            (new("3"), placed(new("3"), lane="fr@60", at=8, priority=Priority.URGENT).waiting("full", 9)),
        ]
    )
    assert store.due(f"{ROTA}#fr@60", 9) == [("contact", "3"), ("contact", "2")]
    assert store.backlog(f"{ROTA}#fr@60").leads == 2


def test_what_is_still_to_be_done_about_a_lead_says_in_which_lane_it_is_due(store: Store) -> None:
    owned = new("2").external("900", None, 5)
    store.move(
        [
            (new("1"), replace(new("1"), occurred_at=3).waiting("comes from a bulk source", 5)),
            (new("2"), owned),
            (new("3"), new("3").refused("no", 7)),
            (new("4"), new("4").external("900", None, 5)),
            (new("5"), new("5").closed(None, 5)),
            (new("6"), new("6").gone("deleted", 5)),
            (new("7"), new("7").erased(5)),
        ]
    )
    store.move([(owned, owned.unowned(6))])
    due = {lane: [id_ for _, id_ in store.due(lane, 9)] for lane in (HELD_BACK, UNOWNED, REFUSED, UNSEEN)}
    assert due == {HELD_BACK: ["1"], UNOWNED: ["2"], REFUSED: ["3"], UNSEEN: []}


def test_a_claim_is_found_by_its_journal_until_it_is_finished(store: Store) -> None:
    ledger = make(store, Ledger(), "1", "2")
    make(store, ledger, "3")
    journal = store.journal(ROTA, 1)
    assert store.unfinished(9) == [(ROTA, 1), (ROTA, 2)]
    assert store.unfinished(1) == [(ROTA, 1)]
    assert store.unfinished(9, 1_000) == []
    assert store.unfinished(9, 1_001) == [(ROTA, 1), (ROTA, 2)]
    store.finish(ROTA, 1, 5_000)
    assert store.unfinished(9) == [(ROTA, 2)]
    assert store.journal(ROTA, 1) == journal


def test_a_journal_expires_so_many_days_after_its_claim_was_finished_and_not_before_that(
    dynamodb: DynamoDBClient,
) -> None:
    store = Store(dynamodb, "fairturn", journal_days=150)
    make(store, Ledger(), "1")
    assert expiry(dynamodb, f"ROTA#{ROTA}", "CLAIM#000000000001") is None
    store.finish(ROTA, 1, 5_000)
    assert expiry(dynamodb, f"ROTA#{ROTA}", "CLAIM#000000000001") == 5 + 150 * 24 * 3600
    store.finish(ROTA, 1, 99_000)
    assert expiry(dynamodb, f"ROTA#{ROTA}", "CLAIM#000000000001") == 5 + 150 * 24 * 3600


def test_a_journal_that_outlives_its_neighbours_counts_as_gone_like_them(dynamodb: DynamoDBClient) -> None:
    store = Store(dynamodb, "fairturn", journal_days=150)
    make(store, make(store, Ledger(), "1"), "2")
    store.finish(ROTA, 1, 100 * 24 * 3_600_000)  # a hundred days late
    kept, _ = store.journals_from(ROTA, 1, 2, 148 * 24 * 3_600_000)
    assert sorted(kept) == [1, 2]
    kept, _ = store.journals_from(ROTA, 1, 2, 151 * 24 * 3_600_000)
    assert kept == {}


def test_the_journal_of_a_giving_back_expires_so_many_days_later(store: Store, dynamodb: DynamoDBClient) -> None:
    ledger = make(store, Ledger(), "1")
    entry = GivingBack(1, 9_000, (Returned("contact#1", 1),))
    store.give_back(ROTA, entry, replace(ledger, version=2), [])
    assert expiry(dynamodb, f"ROTA#{ROTA}", "CLAIM#000000000002") == 9 + 400 * 24 * 3600


def test_a_version_of_the_policy_expires_once_it_is_superseded_and_the_one_in_force_never(
    store: Store, dynamodb: DynamoDBClient
) -> None:
    for number in (1, 2, 3):
        store.put_policy(number, POLICY, number * 1_000)
    with pytest.raises(PolicyMoved):
        store.put_policy(3, POLICY, 99_000)
    expiries = [expiry(dynamodb, "POLICY", f"V#{number:06d}") for number in (1, 2, 3)]
    assert expiries == [2 + 400 * 24 * 3600, 3 + 400 * 24 * 3600, None]
    assert [version.number for version in store.versions(9)] == [3, 2, 1]


def expiry(dynamodb: DynamoDBClient, pk: str, sk: str) -> int | None:
    """Epoch seconds from which DynamoDB may delete an item; None: never."""
    item = dynamodb.get_item(TableName="fairturn", Key={"pk": {"S": pk}, "sk": {"S": sk}})["Item"]
    return int(item["ttl"]["N"]) if "ttl" in item else None


def test_a_claim_that_is_finished_twice_or_is_none_stays_as_it_is(store: Store) -> None:
    make(store, Ledger(), "1")
    for version in (1, 1, 2):
        store.finish(ROTA, version, 5_000)
    assert store.unfinished(9) == []
    assert store.journals([(ROTA, 1), (ROTA, 2)]).keys() == {(ROTA, 1)}


def test_a_record_moves_alone_on_the_same_condition_and_a_refusal_says_how_it_is(store: Store) -> None:
    make(store, Ledger(), "1")
    record = the(store, "1")
    handed = record.handed(2_000)
    store.move([(record, handed)])
    assert the(store, "1") == handed
    with pytest.raises(RecordsMoved) as refused:
        store.move([(record, record.released(3_000))])
    assert refused.value.records == {"contact#1": handed}
    expired = replace(new("2"), rev=3, state=State.CLOSED)
    with pytest.raises(RecordsMoved) as refused:
        store.move([(expired, placed(expired).waiting("full", 2_000))])
    assert refused.value.records == {"contact#2": new("2")}


def test_a_record_whose_writing_is_repeated_because_the_answer_was_lost_counts_as_moved(store: Store) -> None:
    make(store, Ledger(), "1")
    record = the(store, "1")
    for _ in range(2):
        store.move([(record, record.handed(2_000))])
    assert the(store, "1") == record.handed(2_000)


def test_a_lead_that_hubspot_did_not_show_is_due_after_an_hour_and_after_a_day_and_then_no_more(store: Store) -> None:
    since = 1_700_000_000_000
    first, second = (since + after for after in LOOK_AFTER)
    record, before = new("1").gone("not shown", since, unseen_at=since), new("1")
    for look in (first, second):
        store.move([(before, record)])
        assert store.due(UNSEEN, 9, look) == []
        assert store.due(UNSEEN, 9, look + 1) == [("contact", "1")]
        before, record = record, record.gone("not shown", look + 1, unseen_at=record.unseen_at)
    store.move([(before, record)])
    assert store.due(UNSEEN, 9) == []
    assert the(store, "1") == record


def test_a_finished_record_expires_and_one_that_is_open_or_in_a_load_does_not(
    store: Store, dynamodb: DynamoDBClient
) -> None:
    at = 1_700_000_000_000
    owned = new("1").external("7", None, at - 9)
    store.move([(new("1"), owned)])
    store.move(
        [
            (owned, owned.unowned(at)),
            (new("2"), placed(new("2")).waiting("full", at)),
            (new("3"), new("3").external("7", None, at)),
            (new("4"), new("4").closed(None, at)),
            (new("5"), new("5").gone("deleted", at)),
            (new("6"), new("6").erased(at)),
            (new("7"), new("7").refused("no", at)),
        ]
    )
    items = dynamodb.scan(
        TableName="fairturn", FilterExpression="sk = :r", ExpressionAttributeValues={":r": {"S": "RECORD"}}
    )
    expiry = {item["id"]["S"]: int(item["ttl"]["N"]) if "ttl" in item else None for item in items["Items"]}
    ends = at // 1000 + KEPT_FOR
    assert expiry == {"1": ends, "2": None, "3": None, "4": ends, "5": ends, "6": ends, "7": None}


def test_a_record_comes_back_from_the_table_as_it_was_written(store: Store) -> None:
    record = replace(
        placed(new("1"), lane="fr@60", at=5).claimed("101", 3, "worker 1", 9),
        round=2,
        source="FORM",
        found_owner="102",
        worth="worth 60 or more",
        booked_as="contact#7",
        had=("102", "900"),
        spent=True,
        deleted_at=3,
        restored_at=4,
        shown={"country": "France"},
    )
    store.move([(new("1"), record)])
    assert the(store, "1") == record
    unseen = record.gone("not shown", 10, unseen_at=10)
    store.move([(record, unseen)])
    assert the(store, "1") == unseen


# Records of another version


def put_raw(dynamodb: DynamoDBClient, id_: str, **attributes: str) -> None:
    """Write a record as some other version of the program might."""
    key = {"pk": f"LEAD#contact#{id_}", "sk": "RECORD"}
    dynamodb.put_item(TableName="fairturn", Item={name: {"S": value} for name, value in {**key, **attributes}.items()})


@pytest.mark.parametrize(
    "attributes",
    [
        {"type": "contact", "id": "2", "state": "paused by ada@example.com"},
        {"type": "contact", "id": "2"},
        {"id": "2", "state": "waiting"},
    ],
)
def test_a_record_that_cannot_be_read_is_so_alone_and_the_others_are_read(
    store: Store, dynamodb: DynamoDBClient, attributes: dict[str, str]
) -> None:
    waits = placed(new("1")).waiting("full", 9)
    store.move([(new("1"), waits)])
    put_raw(dynamodb, "2", **attributes)
    leads = [("contact", id_) for id_ in "123"]
    for records in (store.records(leads), store.read([ROTA], leads).records):
        assert records.known == {"contact#1": waits}
        assert records.unreadable.keys() == {"contact#2"}
        assert (records.of("1"), records.of("3")) == (waits, new("3"))
        with pytest.raises(RecordUnreadable, match="cannot read the record") as unreadable:
            records.of("2")
        assert "ada@example.com" not in str(unreadable.value)


def test_a_record_that_says_more_than_we_know_is_read(store: Store, dynamodb: DynamoDBClient) -> None:
    put_raw(dynamodb, "2", type="contact", id="2", state="waiting", mood="good")
    assert the(store, "2") == replace(new("2"), state=State.WAITING)


def test_what_cannot_be_read_is_not_written_over(store: Store, dynamodb: DynamoDBClient) -> None:
    put_raw(dynamodb, "2", type="contact", id="2", state="paused")
    with pytest.raises(RecordUnreadable):
        store.move([(new("2"), placed(new("2")).waiting("full", 9))])
    with pytest.raises(RecordUnreadable):
        the(store, "2")


# Policy and roster


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


def test_versions_are_listed_the_newest_first_with_who_applied_them_and_what_for(store: Store) -> None:
    assert store.versions(5) == []
    paused = structs.replace(POLICY, mode=Mode.PAUSE)
    store.put_policy(1, POLICY, 5, by="arn:aws:iam::123456789012:user/anna", message="a first try")
    store.put_policy(2, paused, 6)
    versions = [
        Version(2, 6, Mode.PAUSE),
        Version(1, 5, Mode.LIVE, "arn:aws:iam::123456789012:user/anna", "a first try"),
    ]
    assert store.versions(100) == store.versions(2) == versions
    assert store.versions(1) == versions[:1]
    assert store.policy(1) == POLICY


def test_an_owner_whom_hubspot_refuses_is_marked_until_the_roster_is_refreshed(store: Store) -> None:
    anna = Owner("101", "anna@example.com", archived=False)
    store.put_roster([anna], 5)
    store.mark_unavailable("101")
    store.mark_unavailable("999")
    assert store.pointer().owners == {"101": replace(anna, unavailable=True)}
    store.put_roster([anna], 6)
    assert store.pointer().owners == {"101": anna}


def test_that_an_owner_was_missing_from_a_list_is_remembered(store: Store) -> None:
    anna = Owner("101", "anna@example.com", archived=False, missed=True)
    store.put_roster([anna], 5)
    assert store.pointer().owners == {"101": anna}
    assert store.pointer().owners_at == 5


def test_of_two_who_refresh_the_owners_at_once_only_the_first_does(store: Store) -> None:
    anna, bruno = (Owner(str(n), f"{n}@example.com", archived=False) for n in (101, 102))
    store.put_roster([anna], 5, read_at=0)
    for read_at in (0, 4):
        with pytest.raises(RosterMoved):
            store.put_roster([bruno], 6, read_at=read_at)
    store.put_roster([bruno], 6, read_at=5)
    assert store.pointer().owners == {"102": bruno}


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


# Mistakes of ours


def test_each_try_with_a_lead_that_a_mistake_ended_is_counted(store: Store) -> None:
    lead, other = ("contact", "1"), ("contact", "2")
    assert [store.note_try(lead, "ValueError in record.py, line 7", 7_000 + n) for n in range(3)] == [1, 2, 3]
    assert store.note_try(other, "KeyError", 9_000) == 1
    assert store.tries([lead, other, ("contact", "3")]) == {
        "contact#1": Tries(3, 7_002, "ValueError in record.py, line 7"),
        "contact#2": Tries(1, 9_000, "KeyError"),
    }


def test_tries_are_remembered_for_as_long_as_a_message_can_live(store: Store, dynamodb: DynamoDBClient) -> None:
    store.note_try(("contact", "1"), "KeyError", 7_000_000)
    store.note_try(("contact", "1"), "ValueError", 9_000_000)
    item = dynamodb.get_item(TableName="fairturn", Key={"pk": {"S": "LEAD#contact#1"}, "sk": {"S": "TRIES"}})["Item"]
    assert (item["what"]["S"], int(item["ttl"]["N"])) == ("ValueError", 9_000 + 14 * 86_400)


def test_tries_are_there_without_a_record_and_make_none(store: Store) -> None:
    store.note_try(("contact", "1"), "KeyError", 7_000)
    assert store.records([("contact", "1")]) == Records({}, {})
    store.move([(new("1"), new("1").closed(None, 8_000))])
    assert store.note_try(("contact", "1"), "KeyError", 9_000) == 2


# Floods

FLOOD = Flood(leads=3, minutes=10)


def held(*ids: str) -> list[tuple[Record, Record]]:
    """Leads from a bulk source that are to wait."""
    return [(new(id_), new(id_).unrouted(None).waiting("comes from a bulk source", 9)) for id_ in ids]


def counted(brake: Brake, leads: int) -> Brake:
    return register(brake, leads, 600_000, FLOOD, policy=1)


def test_leads_are_held_back_and_counted_as_one(store: Store) -> None:
    assert store.brake() == Brake()
    first = counted(Brake(), 2)
    store.hold_back(Brake(), first, held("1", "2"))
    assert store.brake() == first
    assert not first.is_pulled(1)
    second = counted(first, 2)
    store.hold_back(first, second, held("3", "4"))
    assert store.brake() == second
    assert second.is_pulled(1)
    assert store.due(HELD_BACK, 9) == [("contact", id_) for id_ in "1234"]
    assert store.loads() == {}


def test_leads_are_not_held_back_if_others_were_counted_meanwhile(store: Store) -> None:
    theirs = counted(Brake(), 1)
    store.hold_back(Brake(), theirs, held("1"))
    for seen in (Brake(), replace(theirs, rev=7)):
        with pytest.raises(BrakeMoved):
            store.hold_back(seen, counted(seen, 2), held("2", "3"))
    assert store.brake() == theirs
    assert store.due(HELD_BACK, 9) == [("contact", "1")]


def test_leads_are_not_counted_if_one_of_them_has_moved_meanwhile(store: Store) -> None:
    (pair,) = held("1")
    store.move([pair])
    with pytest.raises(RecordsMoved) as refused:
        store.hold_back(Brake(), counted(Brake(), 3), held("2", "1", "3"))
    assert refused.value.records == {pair[1].key: pair[1]}
    assert store.brake() == Brake()
    assert store.due(HELD_BACK, 9) == [("contact", "1")]


def test_if_both_moved_the_leads_are_told_so_that_nobody_counts_them_twice(store: Store) -> None:
    theirs = counted(Brake(), 1)
    store.hold_back(Brake(), theirs, held("1"))
    with pytest.raises(RecordsMoved) as refused:
        store.hold_back(Brake(), theirs, held("1"))
    assert refused.value.records.keys() == {lead_key("contact", "1")}
    assert store.brake() == theirs


# Conflicts, and a table that does not answer


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
