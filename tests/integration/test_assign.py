"""What becomes of a lead, from its message to its owner in HubSpot."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any, Final

import pytest

from fairturn.assign import Assign
from fairturn.edges.hubspot.client import BatchRead
from fairturn.edges.items import UNSEEN
from fairturn.errors import HubSpotUnavailable
from fairturn.rules.events import Kind, Message
from fairturn.rules.explain import PROPERTIES
from fairturn.rules.record import State
from fairturn_sandbox.faults import BAD_GATEWAY, DAILY, Fault, slow
from tests.integration.inbox import Inbox
from tests.integration.world import ROTA, World

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_dynamodb import DynamoDBClient

    from fairturn.deadline import Deadline
    from fairturn.edges.queues import Incoming

READ = ("POST", "/crm/v3/objects/contacts/batch/read")
UPDATE = ("POST", "/crm/v3/objects/contacts/batch/update")


@pytest.fixture
def world(dynamodb: DynamoDBClient) -> Iterator[World]:
    with World(dynamodb, "fairturn") as world:
        yield world


# The way of a lead


def test_a_lead_gets_an_owner_who_is_the_same_in_the_table_and_in_hubspot(world: World) -> None:
    (lead,) = world.arrive()
    assert world.take([lead]) == []
    record = world.record(lead)
    assert record is not None
    assert record.state is State.HANDED
    assert record.rep == world.owner(lead)
    assert world.loads() == {record.rep: 1}
    world.check([lead])


def test_the_owner_can_see_on_the_record_why_it_is_his(world: World) -> None:
    (lead,) = world.arrive()
    world.take([lead])
    shown = {name: world.portal.contact(lead).properties[name] for name in PROPERTIES}
    assert shown["fairturn_team"] == ROTA
    assert shown["fairturn_rule"] == "otherwise"
    assert shown["fairturn_priority"] == "normal"
    assert shown["fairturn_assigned_at"] == "2026-11-23T09:00:00Z"
    assert shown["fairturn_reason"] == (
        "Of the 3 reps of inbound on duty with room for it, the owner was owed the most (0.33 of a turn), "
        "level with 2 more, and had waited longest."
    )


def test_a_batch_of_97_leads_costs_two_hubspot_calls_and_four_requests_to_the_table(world: World) -> None:
    leads = world.arrive(97)
    batch = world.received(leads)
    world.assign.take(world.received(world.arrive()))  # now the policy is warm
    world.portal.calls.clear()
    world.requests.clear()
    assert world.assign.take(batch) == []
    assert world.portal.calls == {READ: 1, UPDATE: 1}
    assert world.requests == {"BatchGetItem": 1, "TransactWriteItems": 2, "UpdateItem": 1}
    assert sorted(Counter(world.owner(lead) for lead in leads).values()) == [32, 32, 33]


def test_a_lone_lead_costs_four_requests_to_the_table_and_two_hubspot_calls(world: World) -> None:
    world.take(world.arrive())
    world.portal.calls.clear()
    world.requests.clear()
    world.take(world.arrive())
    assert world.portal.calls == {READ: 1, UPDATE: 1}
    assert world.requests == {"BatchGetItem": 1, "TransactWriteItems": 1, "PutItem": 1, "UpdateItem": 1}


def test_leads_of_several_rotas_are_claimed_rota_by_rota_with_loads_carried_over(
    dynamodb: DynamoDBClient,
) -> None:
    with World(dynamodb, "fairturn") as world:
        one, two, three = world.reps
        world.apply(
            reps={one: {"capacity": 2}, two: None, three: None},
            rotas={"east": {"members": [one, two]}, "west": {"members": [one, three]}},
            rules=[{"name": "west", "when": [{"property": "state", "equals": "CA"}], "rota": "west"}],
            otherwise={"rota": "east"},
        )
        leads = world.arrive(4) + world.arrive(4, state="CA")
        assert world.take(leads) == []
        assert Counter(world.owner(lead) for lead in leads) == {one: 2, two: 2, three: 4}
        world.check(leads)


def test_urgent_leads_come_first_and_then_the_oldest(dynamodb: DynamoDBClient) -> None:
    with World(dynamodb, "fairturn", reps=1) as world:
        (rep,) = world.reps
        world.apply(
            reps={rep: {"capacity": 2}},
            rules=[
                {
                    "name": "hot",
                    "when": [{"property": "message", "contains": "demo"}],
                    "rota": ROTA,
                    "priority": "urgent",
                }
            ],
        )
        young, old, hot = world.arrive(), world.arrive(), world.arrive(message="A demo, please")
        batch = world.received(young, ago=5) + world.received(old, ago=60) + world.received(hot, ago=1)
        world.assign.take(batch)
        assert [world.owner(lead) for (lead,) in (young, old, hot)] == [None, rep, rep]
        assert world.states(young) == {"waiting": 1}


# What comes twice, late, or not at all


def test_a_redelivered_lead_keeps_its_rep_and_moves_nothing(world: World) -> None:
    leads = world.arrive(5)
    world.take(leads)
    before = {lead: world.owner(lead) for lead in leads}, world.loads(), world.balances()
    world.portal.calls.clear()
    assert world.take(leads) == []
    assert ({lead: world.owner(lead) for lead in leads}, world.loads(), world.balances()) == before
    assert world.portal.calls[UPDATE] == 0


def test_a_lead_twice_in_one_batch_is_given_once(world: World) -> None:
    (lead,) = world.arrive()
    assert world.take([lead, lead, lead]) == []
    world.check([lead])
    assert sum(world.loads().values()) == 1


def test_a_contact_that_hubspot_does_not_show_is_put_off_for_a_quarter_of_an_hour_before_it_is_given_up(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    (received,) = world.received(["123"])
    for _ in range(2):
        assert world.assign.take([received]) == [received]
        world.later(449)
    assert world.states(["123"]) == {"absent": 1}
    world.later(3)
    capsys.readouterr()
    assert world.assign.take([received]) == []
    record = world.record("123")
    assert record is not None
    assert (record.state, record.reason) == (State.GONE, "HubSpot does not show the contact")
    assert capsys.readouterr().out.count('"LeadsUnseen":') == 1
    assert world.store.due(UNSEEN, 10) == [("contact", "123")]
    assert world.dead_letters() == []


def test_contacts_that_hubspot_shows_late_are_all_given_to_somebody(world: World) -> None:
    leads = world.arrive(20)
    hidden = set(leads[:6])
    worker = world.worker(crm=Hiding(world, hidden))
    left = worker.take(world.received(leads))
    assert len(left) == 6
    hidden.clear()
    world.later(12)
    assert worker.take(left) == []
    assert world.states(leads) == {"handed": 20}
    world.check(leads)


def test_an_answer_that_shows_none_of_many_contacts_is_no_news_however_long_it_goes_on(world: World) -> None:
    leads = world.arrive(97)
    batch = world.received(leads)
    hidden = set(leads)
    worker = world.worker(crm=Hiding(world, hidden))
    assert worker.take(batch) == batch
    world.later(3600)
    assert worker.take(batch) == batch
    assert world.states(leads) == {"absent": 97}
    hidden.clear()
    assert worker.take(batch) == []
    assert world.states(leads) == {"handed": 97}


def test_a_claim_whose_contact_hubspot_does_not_show_stands_until_it_is_given_up(world: World) -> None:
    (lead,) = world.arrive()
    (received,) = world.received([lead])
    world.portal.faults.extend([usual(), BAD_GATEWAY, BAD_GATEWAY, BAD_GATEWAY])
    assert world.assign.take([received]) == [received]
    world.portal.delete(lead)
    world.later(60)
    assert world.assign.take([received]) == [received]
    assert world.states([lead]) == {"claimed": 1}
    world.later(900)
    assert world.assign.take([received]) == []
    assert world.states([lead]) == {"gone": 1}
    assert (world.loads(), world.balances()) == ({}, {})


def test_a_message_that_cannot_be_read_is_dead_lettered_unchanged_with_the_reason(world: World) -> None:
    (odd,) = world.queued('{"v": 9, "id": "x"}')
    (lead,) = world.arrive()
    assert world.assign.take([odd, *world.received([lead])]) == []
    (letter,) = world.dead_letters()
    assert letter["body"] == '{"v": 9, "id": "x"}'
    assert letter["stage"] == "assign"
    assert letter["reason"]
    assert world.owner(lead) in world.reps


# Who has an owner, and who is nobody's lead


def test_a_contact_that_has_an_owner_keeps_him_and_counts_in_his_load(world: World) -> None:
    somebody = world.reps[2]
    (lead,) = world.arrive(hubspot_owner_id=somebody)
    assert world.take([lead]) == []
    assert world.owner(lead) == somebody
    assert world.states([lead]) == {"external": 1}
    assert world.loads() == {somebody: 1}
    assert world.balances() == {}


def test_an_owner_is_replaced_where_the_policy_keeps_none(world: World) -> None:
    world.apply(leads={"keep_owner": False})
    stranger = world.portal.add_owner("somebody@example.com")
    (lead,) = world.arrive(hubspot_owner_id=stranger)
    world.take([lead])
    assert world.owner(lead) in world.reps


def test_a_lead_that_a_rule_ignores_is_left_alone_without_a_record(world: World) -> None:
    world.apply(rules=[{"name": "tests", "when": [{"property": "email", "contains": "lead0"}], "ignore": "a test"}])
    (lead,) = world.arrive()
    assert world.take([lead]) == []
    assert (world.owner(lead), world.states([lead])) == (None, {"absent": 1})


def test_a_record_from_a_bulk_source_is_nobodys_lead_unless_a_rule_names_the_source(world: World) -> None:
    (lead,) = world.arrive()
    world.take([lead], source="IMPORT")
    assert world.owner(lead) is None
    world.apply(rules=[{"name": "lists", "when": [{"source": ["IMPORT"]}], "rota": ROTA}])
    world.later(31)
    world.take([lead], source="IMPORT")
    assert world.owner(lead) in world.reps


# Who may take it


def test_a_lead_that_nobody_can_take_waits_and_books_nothing(world: World) -> None:
    world.apply(reps={rep: {"capacity": 0} for rep in world.reps})
    (lead,) = world.arrive()
    assert world.take([lead]) == []
    record = world.record(lead)
    assert record is not None
    assert (record.state, record.rota, record.lane) == (State.WAITING, ROTA, "any")
    assert (world.owner(lead), world.loads(), world.balances()) == (None, {}, {})


def test_a_waiting_lead_that_comes_again_is_allotted_when_somebody_can_take_it(world: World) -> None:
    world.apply(reps={rep: {"capacity": 0} for rep in world.reps})
    (lead,) = world.arrive()
    world.take([lead])
    world.apply()
    world.later(31)
    world.take([lead])
    assert world.states([lead]) == {"handed": 1}
    world.check([lead])


def test_nobody_who_is_deactivated_in_hubspot_gets_a_lead(world: World) -> None:
    gone = world.reps[0]
    world.portal.deactivate_owner(gone)
    world.apply()
    leads = world.arrive(6)
    world.take(leads)
    assert Counter(world.owner(lead) for lead in leads) == {world.reps[1]: 3, world.reps[2]: 3}


def test_an_owner_whom_hubspot_does_not_know_is_passed_over_and_his_leads_go_to_others(world: World) -> None:
    lost = world.reps[0]
    del world.portal.owners[lost]
    leads = world.arrive(6)
    assert world.take(leads) == []
    assert Counter(world.owner(lead) for lead in leads) == {world.reps[1]: 3, world.reps[2]: 3}
    world.check(leads)
    assert world.store.pointer().owners[lost].unavailable


# What fails


def test_while_hubspot_is_down_messages_stay_with_growing_delays_and_nothing_is_dead_lettered(
    world: World,
) -> None:
    leads = world.arrive(3)
    batch = world.received(leads, receipts=2)
    world.portal.down(2**62)
    assert world.assign.take(batch) == batch
    assert world.dead_letters() == []
    assert world.states(leads) == {"absent": 3}
    assert world.store.tries(("contact", lead) for lead in leads) == {}


SETTLE: Final = {"settle": {"known": ["country", "numemployees"], "at_most": "5s"}}


def test_a_new_lead_that_lacks_what_is_to_be_known_waits_for_it_and_no_longer_than_it_may(world: World) -> None:
    world.apply(leads=SETTLE)
    full, part, late = (*world.arrive(country="France", numemployees="25-50"), *world.arrive(country="Italy"), "")
    (late,) = world.arrive()
    batch = world.received([full, part, late])
    assert world.assign.take(batch) == batch[1:]
    assert world.owner(full) is not None
    assert world.states([part, late]) == {"absent": 2}
    world.portal.change(part, {"numemployees": "5-25"}, source="DATA_ENRICHMENT")
    world.later(2)
    assert world.assign.take(batch[1:]) == batch[2:]
    assert world.owner(part) is not None
    world.later(1.9)
    assert world.assign.take(batch[2:]) == batch[2:]
    world.later(0.1)
    assert world.assign.take(batch[2:]) == []
    assert world.owner(late) is not None
    world.check([full, part, late])


@pytest.mark.parametrize(("receipts", "delay"), [(1, 1), (2, 3), (3, 4), (9, 4)])
def test_a_lead_that_waits_for_its_properties_is_looked_at_again_soon_and_at_the_end(
    world: World, receipts: int, delay: int
) -> None:
    world.apply(leads=SETTLE)
    delays: list[int] = []
    world.sqs.meta.events.register(
        "before-parameter-build.sqs.ChangeMessageVisibilityBatch",
        lambda params, **_: delays.extend(each["VisibilityTimeout"] for each in params["Entries"]),
    )
    batch = world.received(world.arrive(), receipts=receipts)
    assert world.assign.take(batch) == batch
    assert delays == [delay]


@pytest.mark.parametrize("properties", [{"hubspot_owner_id": "mine"}, {"lifecyclestage": "customer"}])
def test_a_lead_that_is_closed_or_somebodys_waits_for_nothing(world: World, properties: dict[str, str]) -> None:
    world.apply(leads=SETTLE | {"closed": [{"property": "lifecyclestage", "reaches": ["customer"]}]})
    owned = {name: world.reps[0] if value == "mine" else value for name, value in properties.items()}
    (lead,) = world.arrive(1, **owned)
    assert world.take([lead]) == []
    assert world.states([lead]) == {("external" if "hubspot_owner_id" in properties else "closed"): 1}


def test_a_lead_that_sweep_brings_waits_for_nothing(world: World) -> None:
    (lead,) = world.arrive()
    world.apply(leads=SETTLE, mode="pause")
    world.later(1)
    batch = world.received([lead])
    assert world.assign.take(batch) == batch, "it waits for its properties first"
    world.later(5)
    assert world.assign.take(batch) == []
    assert world.states([lead]) == {"waiting": 1}
    world.apply(leads=SETTLE)
    world.later(60)
    world.sweep.run()
    assert world.owner(lead) is not None


def test_a_daily_limit_makes_messages_wait_as_long_as_hubspot_says(world: World) -> None:
    (lead,) = world.arrive()
    (received,) = world.received([lead])
    world.portal.faults.append(DAILY)
    assert world.assign.take([received]) == [received]
    attributes = world.sqs.get_queue_attributes(
        QueueUrl=world.sqs.get_queue_url(QueueName="leads")["QueueUrl"],
        AttributeNames=["ApproximateNumberOfMessagesNotVisible"],
    )["Attributes"]
    assert attributes["ApproximateNumberOfMessagesNotVisible"] == "1"


def test_a_claim_whose_handover_failed_is_handed_over_when_the_message_comes_again(world: World) -> None:
    (lead,) = world.arrive()
    world.take([lead])
    (second,) = world.arrive()
    (received,) = world.received([second])
    world.portal.faults.extend([usual(), BAD_GATEWAY, BAD_GATEWAY, BAD_GATEWAY])
    assert world.assign.take([received]) == [received]
    claimed = world.record(second)
    assert claimed is not None
    assert (claimed.state, world.owner(second)) == (State.CLAIMED, None)
    assert world.worker().take([received]) == []
    handed = world.record(second)
    assert handed is not None
    assert (handed.state, handed.rep, handed.claim) == (State.HANDED, claimed.rep, claimed.claim)
    world.check([lead, second])


def test_without_a_policy_leads_are_dead_lettered_with_what_to_do(world: World) -> None:
    world.dynamodb.delete_item(TableName="fairturn", Key={"pk": {"S": "POLICY"}, "sk": {"S": "CURRENT"}})
    (lead,) = world.arrive()
    assert world.take([lead]) == []
    (letter,) = world.dead_letters()
    assert "fairturn policy apply" in letter["reason"]
    record = world.record(lead)
    assert record is not None
    assert (record.state, record.reason) == (State.REFUSED, letter["reason"])


def test_an_explanation_that_hubspot_refuses_is_left_out_and_the_owner_is_written(world: World) -> None:
    del world.portal.properties["fairturn_reason"]
    leads = world.arrive(3)
    assert world.take(leads) == []
    assert all(world.owner(lead) in world.reps for lead in leads)
    world.check(leads)


def test_a_lead_that_hubspot_refuses_for_good_is_undone_and_dead_lettered_alone(world: World) -> None:
    leads = world.arrive(4)
    bad = leads[1]
    world.portal.refuse_owners(bad, "a phone number is wanted first")
    assert world.take(leads) == []
    (letter,) = world.dead_letters()
    assert bad in letter["body"]
    assert world.states(leads) == {"handed": 3, "refused": 1}
    world.check(leads)
    record = world.record(bad)
    assert record is not None
    assert record.reason == letter["reason"]


# Somebody else at the same time


def test_the_choice_of_a_person_made_meanwhile_wins_and_turn_and_load_go_back(world: World) -> None:
    (lead,) = world.arrive()
    person = world.portal.add_owner("somebody@example.com")
    (received,) = world.received([lead])
    world.portal.faults.extend([usual(), BAD_GATEWAY, BAD_GATEWAY, BAD_GATEWAY])
    assert world.assign.take([received]) == [received]
    world.portal.change(lead, {"hubspot_owner_id": person})
    assert world.assign.take([received]) == []
    assert world.owner(lead) == person
    assert world.states([lead]) == {"external": 1}
    assert world.loads() == {person: 1}
    assert world.balances() == {}


def test_an_owner_read_more_than_two_seconds_ago_is_read_again_before_ours_is_written(world: World) -> None:
    (lead,) = world.arrive()
    person = world.portal.add_owner("somebody@example.com")

    def person_is_faster() -> None:
        world.later(3)
        world.portal.change(lead, {"hubspot_owner_id": person})

    store = Meddling(world, person_is_faster)
    worker = world.worker(store=store)
    assert worker.take(world.received([lead])) == []
    assert world.owner(lead) == person
    assert world.balances() == {}
    assert world.portal.calls[READ] == 2


def test_two_workers_with_the_same_leads_give_each_lead_once(world: World) -> None:
    leads = world.arrive(10)
    rival = world.worker()
    store = Meddling(world, lambda: rival.take(world.received(leads[:6])))
    again = world.worker(store=store).take(world.received(leads))
    assert [Message.read(each.body).id for each in again] == leads[:6]  # what the rival gave is looked at once more
    assert world.take(leads[:6]) == []
    assert world.states(leads) == {"handed": 10}
    world.check(leads)
    assert sorted(world.loads().values()) == [3, 3, 4]


def test_a_claim_under_an_older_policy_than_the_ledger_has_seen_is_decided_anew(world: World) -> None:
    first, *others = world.reps
    world.take(world.arrive())
    world.apply(reps={first: {"capacity": 0}} | dict.fromkeys(others))
    (probe,) = world.arrive()
    world.worker().take(world.received([probe]))  # another function, cold: it has seen the new policy
    leads = world.arrive(6)
    assert world.take(leads) == []
    assert first not in {world.owner(lead) for lead in leads}


def test_a_lead_from_a_rep_over_his_capacity_does_not_hold_up_its_batch(world: World) -> None:
    full, *others = world.reps
    (lead,) = world.arrive(hubspot_owner_id=full)
    world.take([lead])
    world.apply(reps={full: {"capacity": 0}} | dict.fromkeys(others), leads={"cleared": "allot again"})
    world.later(31)
    world.portal.change(lead, {"hubspot_owner_id": ""})
    assert world.loads() == {full: 1}
    world.follow(lead)
    fresh = world.arrive(3)
    assert world.assign.take([*world.passed_on(), *world.received(fresh)]) == []
    assert {world.owner(each) for each in [lead, *fresh]} == set(others)
    world.check([lead, *fresh])


def test_what_a_message_tells_of_a_lead_besides_its_arrival_reaches_track(world: World) -> None:
    lead, same = world.arrive(2)
    world.take([lead, same])
    taker = next(rep for rep in world.reps if rep != world.owner(lead))
    world.portal.change(lead, {"hubspot_owner_id": taker})
    world.later(60)
    assert world.take([lead, same]) == []
    assert world.passed_on("changes") == []  # told again, and nothing else: the change has an event of its own
    kinds = (Kind.CREATION, Kind.PROPERTY_CHANGE)
    both = [Message(id=each, kinds=kinds, occurred_at=1, change_source="FORM") for each in (lead, same)]
    assert world.assign.take(world.queued(*(message.body() for message in both))) == []
    passed_on = world.passed_on("changes")
    assert [Message.read(each.body).id for each in passed_on] == [lead]
    assert world.track.take(passed_on) == []
    after = world.record(lead)
    assert after is not None
    assert after.rep == taker
    world.check([lead, same])


def test_a_claim_of_a_rep_who_left_the_policy_and_hubspot_goes_to_another(world: World) -> None:
    (lead,) = world.arrive()
    (received,) = world.received([lead])
    world.portal.faults.extend([usual(), BAD_GATEWAY, BAD_GATEWAY, BAD_GATEWAY])
    world.assign.take([received])
    claimed = world.record(lead)
    assert claimed is not None
    assert claimed.rep is not None
    staying = [rep for rep in world.reps if rep != claimed.rep]
    world.portal.deactivate_owner(claimed.rep)
    world.apply(reps=dict.fromkeys(staying), rotas={ROTA: {"members": staying}})
    world.later(61)
    assert world.assign.take([received]) == []
    assert world.owner(lead) in staying
    world.check([lead])


def test_a_choice_made_while_journals_are_read_wins_as_well(world: World) -> None:
    (lead,) = world.arrive()
    (received,) = world.received([lead])
    world.portal.faults.extend([usual(), BAD_GATEWAY, BAD_GATEWAY, BAD_GATEWAY])
    world.assign.take([received])
    person = world.portal.add_owner("somebody@example.com")

    class Slow(Meddling):
        def journal(self, rota: str, version: int) -> object:
            world.later(5)
            world.portal.change(lead, {"hubspot_owner_id": person})
            return world.store.journal(rota, version)

    assert world.worker(store=Slow(world, None)).take([received]) == []
    assert world.owner(lead) == person
    assert world.balances() == {}


def test_where_hubspot_stops_midway_the_leads_it_took_are_done_and_only_the_others_come_again(world: World) -> None:
    leads = world.arrive(4)
    world.portal.refuse_owners(leads[0], "a phone number is wanted first")
    batch = world.received(leads)
    # The read, the whole and some of its parts go through; then HubSpot has had enough.
    world.portal.faults.extend([*[usual()] * 5, DAILY])
    left = world.assign.take(batch)
    assert 0 < len(left) < len(batch)
    states = world.states(leads)
    assert states["claimed"] == len(left)
    assert world.assign.take(left) == []
    assert world.states(leads) == {"handed": 3, "refused": 1}
    world.check(leads)


def test_an_owner_who_is_there_already_gets_the_explanation_too(world: World) -> None:
    (rep, *_) = world.reps
    world.apply(leads={"keep_owner": False}, rotas={ROTA: {"members": [rep]}})
    (lead,) = world.arrive(hubspot_owner_id=rep)
    world.take([lead])
    assert world.portal.contact(lead).properties["fairturn_team"] == ROTA


def test_claims_that_are_resumed_or_undone_together_read_their_journal_once(world: World) -> None:
    leads = world.arrive(10)
    batch = world.received(leads)
    world.portal.faults.extend([usual(), BAD_GATEWAY, BAD_GATEWAY, BAD_GATEWAY])
    assert world.assign.take(batch) == batch
    world.requests.clear()
    assert world.assign.take(batch) == []
    assert world.requests == {"BatchGetItem": 2, "TransactWriteItems": 2}  # taken up, and handed over
    world.check(leads)


def test_a_record_that_hubspot_cannot_read_now_holds_up_no_other(world: World) -> None:
    leads = world.arrive(3)
    batch = world.received(leads)

    class Blind:
        def __getattr__(self, name: str) -> object:
            return getattr(world.crm, name)

        def read(self, type: str, ids: list[str], properties: list[str], deadline: Deadline) -> BatchRead:  # noqa: A002
            found = world.crm.read(type, ids, properties, deadline)
            seen = {id_: values for id_, values in found.records.items() if id_ != leads[0]}
            return BatchRead(seen, {leads[0]: HubSpotUnavailable("not now")})

    assert world.worker(crm=Blind()).take(batch) == batch[:1]
    assert world.states(leads) == {"absent": 1, "handed": 2}


def test_leads_of_two_rotas_that_are_resumed_together_keep_their_own_explanations(world: World) -> None:
    one, two, _ = world.reps
    rotas = {"a": {"members": world.reps}, "b": {"members": [one, two]}}
    rule = {"name": "b", "when": [{"property": "state", "equals": "CA"}], "rota": "b"}
    world.apply(rotas=rotas, rules=[rule], otherwise={"rota": "a"})
    leads = world.arrive() + world.arrive(state="CA")
    batch = world.received(leads)
    world.portal.faults.extend([usual(), *[BAD_GATEWAY] * 3])
    assert world.assign.take(batch) == batch
    assert world.assign.take(batch) == []
    reasons = [world.portal.contact(lead).properties["fairturn_reason"] or "" for lead in leads]
    assert ["3 reps of a" in reasons[0], "2 reps of b" in reasons[1]] == [True, True]


def test_losing_the_policy_midway_gives_up_only_what_is_not_settled(world: World) -> None:
    leads = world.arrive(3)
    lost = world.reps[0]
    del world.portal.owners[lost]

    class Forgetful(Meddling):
        def mark_unavailable(self, rep: str) -> None:
            world.store.mark_unavailable(rep)
            world.dynamodb.delete_item(TableName="fairturn", Key={"pk": {"S": "POLICY"}, "sk": {"S": "CURRENT"}})

    assert world.worker(store=Forgetful(world, None)).take(world.received(leads)) == []
    assert world.states(leads) == {"handed": 2, "refused": 1}
    assert len(world.dead_letters()) == 1


# Suspects


def test_a_message_that_kills_the_process_takes_no_other_along(world: World) -> None:
    leads = world.arrive(3)
    poison, *others = world.received(leads, receipts=3)
    others = [replace(other, receipts=1) for other in others]

    class Killed(BaseException):
        pass

    class Deadly:
        def __getattr__(self, name: str) -> object:
            return getattr(world.crm, name)

        def read(self, type: str, ids: list[str], *more: Any) -> object:  # noqa: A002
            if leads[0] in ids:
                raise Killed
            return world.crm.read(type, ids, *more)

    with pytest.raises(Killed):
        world.worker(crm=Deadly()).take([poison, *others])
    assert world.states(leads) == {"absent": 1, "handed": 2}
    world.check(leads)
    url = world.sqs.get_queue_url(QueueName="leads")["QueueUrl"]
    left = world.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["ApproximateNumberOfMessagesNotVisible"])
    assert left["Attributes"]["ApproximateNumberOfMessagesNotVisible"] == "1"


def test_messages_that_met_an_outage_go_through_in_a_few_parts(world: World) -> None:
    leads = world.arrive(97)
    batch = world.received(leads, receipts=40)
    assert world.assign.take(batch) == []
    assert world.portal.calls == {READ: 7, UPDATE: 7}  # 1, 2, 4, 8, 16, 32, and the 34 that are left


def test_a_message_that_kills_every_process_holds_up_the_others_for_a_few_deaths_only(world: World) -> None:
    leads = world.arrive(97)
    poison, queue = leads[50], Inbox()
    for received in world.received(leads):
        queue.arrive(received.body)
    random = Random(5)

    class Killed(BaseException):
        pass

    class Deadly:
        def __getattr__(self, name: str) -> object:
            return getattr(world.crm, name)

        def read(self, type: str, ids: list[str], *more: Any) -> object:  # noqa: A002
            if poison in ids:
                raise Killed
            return world.crm.read(type, ids, *more)

    for _ in range(16):
        worker = world.worker(crm=Deadly(), leads=queue)
        worker = replace(worker, consumer=replace(worker.consumer, jitter=random.random))
        with pytest.raises(Killed):
            worker.take(queue.receive())
        world.later(95)
    assert world.states(leads) == {"absent": 1, "handed": 96}


def test_suspects_whose_dead_letters_are_not_taken_all_stay_in_the_queue(world: World) -> None:
    leads = world.arrive(3)
    for lead in leads:
        world.portal.refuse_owners(lead, "a phone number is wanted first")
    batch = world.received(leads, receipts=3)
    world.sqs.delete_queue(QueueUrl=world.dead_url)
    assert world.assign.take(batch) == batch


def test_a_claim_for_a_rep_who_has_left_meanwhile_is_undone_and_given_to_another(world: World) -> None:
    (lead,) = world.arrive()
    (received,) = world.received([lead])
    rival = dying(world, received)
    claimed = world.record(lead)
    assert claimed is not None
    assert (claimed.state, claimed.worker) == (State.CLAIMED, rival)
    assert claimed.rep is not None
    world.portal.deactivate_owner(claimed.rep)
    world.apply()
    world.later(31)
    assert world.assign.take([received]) == [received]  # somebody else may still be handing it over
    world.later(31)
    assert world.assign.take([received]) == []
    assert world.owner(lead) in set(world.reps) - {claimed.rep}
    world.check([lead])


# One worker at a time


def dying(world: World, received: Incoming) -> str:
    """A worker that claims a lead and dies before it hands it over; gives its name."""
    worker = world.worker(crm=Dying(world))
    with pytest.raises(KeyboardInterrupt):
        worker.take([received])
    assert isinstance(worker.service, Assign)
    return worker.service.claimer.worker


def test_under_a_storm_of_redeliveries_each_owner_is_written_once(world: World) -> None:
    leads = world.arrive(30)
    rivals = [world.worker() for _ in range(3)]
    put_back: list[Incoming] = []

    class Stormy:
        def __getattr__(self, name: str) -> object:
            return getattr(world.crm, name)

        def write_owners(self, *arguments: Any) -> object:
            for rival in rivals:  # the same leads come again while ours is being handed over
                put_back.extend(rival.take(world.received(leads)))
            return world.crm.write_owners(*arguments)

    assert world.worker(crm=Stormy()).take(world.received(leads)) == []
    assert world.portal.calls[UPDATE] == 1
    assert len(put_back) == 90
    world.later(51)
    assert world.assign.take(put_back[:30]) == []
    assert world.portal.calls[UPDATE] == 1
    world.check(leads)


def test_a_claim_whose_worker_has_died_is_taken_up_once_its_run_is_over(world: World) -> None:
    (lead,) = world.arrive()
    (received,) = world.received([lead])
    dying(world, received)
    world.later(49)
    assert world.assign.take([received]) == [received]
    assert world.owner(lead) is None
    world.later(2)
    assert world.assign.take([received]) == []
    world.check([lead])


def test_a_claim_that_could_not_be_handed_over_is_free_for_anybody_at_once(world: World) -> None:
    (lead,) = world.arrive()
    (received,) = world.received([lead])
    world.portal.faults.extend([usual(), BAD_GATEWAY, BAD_GATEWAY, BAD_GATEWAY])
    assert world.assign.take([received]) == [received]
    assert world.worker().take([received]) == []
    world.check([lead])


# One bad lead harms no other


def test_a_record_of_a_newer_version_harms_its_own_lead_only(world: World) -> None:
    leads = world.arrive(20)
    world.take(leads[:1])
    newer = {":state": {"S": "enchanted"}}
    key = {"pk": {"S": f"LEAD#contact#{leads[0]}"}, "sk": {"S": "RECORD"}}
    names = {"#state": "state"}
    world.dynamodb.update_item(
        TableName="fairturn",
        Key=key,
        UpdateExpression="SET #state = :state",
        ExpressionAttributeNames=names,
        ExpressionAttributeValues=newer,
    )
    batch = world.received(leads)
    assert world.assign.take(batch) == batch[:1]
    assert Counter(world.owner(lead) in world.reps for lead in leads[1:]) == {True: 19}
    for _ in range(3):
        assert world.assign.take(batch[:1]) == batch[:1]
    assert world.assign.take(batch[:1]) == []
    (letter,) = world.dead_letters()
    assert letter["body"] == batch[0].body
    assert letter["reason"] == (
        "failed 5 times, last with this version cannot read the record of this lead (ValueError)"
    )


def test_a_lead_whose_journal_is_missing_is_put_back_alone_and_dead_lettered_after_five_tries(world: World) -> None:
    (bad,) = world.arrive()
    (received,) = world.received([bad])
    world.portal.faults.extend([usual(), BAD_GATEWAY, BAD_GATEWAY, BAD_GATEWAY])
    assert world.assign.take([received]) == [received]
    world.dynamodb.delete_item(
        TableName="fairturn", Key={"pk": {"S": f"ROTA#{ROTA}"}, "sk": {"S": "CLAIM#000000000001"}}
    )
    leads = world.arrive(19)
    batch = [received, *world.received(leads)]
    assert world.assign.take(batch) == [received]
    assert world.states(leads) == {"handed": 19}
    for _ in range(3):
        assert world.assign.take([received]) == [received]
    assert world.assign.take([received]) == []
    (letter,) = world.dead_letters()
    assert letter["body"] == received.body
    assert re.fullmatch(r"failed 5 times, last with KeyError in store\.py, line \d+", letter["reason"])


def test_an_outage_is_no_mistake_of_ours_and_leaves_no_try_behind(world: World) -> None:
    leads = world.arrive(3)
    batch = world.received(leads)
    world.portal.down(2**62)
    for _ in range(7):
        assert world.assign.take(batch) == batch
    assert world.store.tries(("contact", lead) for lead in leads) == {}
    world.portal.down(0)
    assert world.assign.take(batch) == []


# Time


def test_what_there_is_no_time_for_is_put_back_before_anything_is_begun(world: World) -> None:
    leads = world.arrive(3)
    batch = world.received(leads)
    assert world.assign.take(batch, seconds=6) == batch
    assert not world.portal.calls
    assert world.states(leads) == {"absent": 3}


def test_leads_for_which_the_time_does_not_last_keep_their_claims_and_are_handed_over_the_next_time(
    world: World,
) -> None:
    leads = world.arrive(3)
    batch = world.received(leads)
    store = Meddling(world, lambda: world.later(24.5))
    worker = world.worker(store=store)
    assert worker.take(batch) == batch
    assert world.states(leads) == {"claimed": 3}
    assert world.portal.calls[UPDATE] == 0
    assert world.assign.take(batch) == []
    world.check(leads)


# Whose a contact is already


def test_a_restored_contact_stays_its_owners_even_where_no_owner_is_kept(world: World) -> None:
    world.apply(leads={"keep_owner": False})
    stranger = world.portal.add_owner("somebody@example.com")
    (contact,) = world.arrive(hubspot_owner_id=stranger)
    (restored,) = world.told(contact, kind=Kind.RESTORE)
    assert world.assign.take([restored]) == []
    assert world.owner(contact) == stranger
    record = world.record(contact)
    assert record is not None
    assert (record.state, record.rep) == (State.EXTERNAL, stranger)


def test_a_new_contact_merged_into_an_old_one_stays_with_the_old_ones_owner(world: World) -> None:
    world.apply(leads={"keep_owner": False})
    stranger = world.portal.add_owner("somebody@example.com")
    (old,) = world.arrive(hubspot_owner_id=stranger)
    (lead,) = world.arrive()
    survivor = world.portal.merge(old, lead)
    assert world.take([lead]) == []
    assert world.assign.take(world.passed_on()) == []
    assert world.owner(survivor) == stranger
    assert world.loads() == {stranger: 1}


def test_a_creation_told_again_never_takes_up_a_lead_that_was_left_without_an_owner(world: World) -> None:
    (lead,) = world.arrive()
    world.take([lead])
    world.later(60)
    world.portal.change(lead, {"hubspot_owner_id": ""})
    world.follow(lead)
    assert world.states([lead]) == {"unowned": 1}
    for ago in (-3600, 0, 3600):
        assert world.take([lead], ago=ago) == []
    assert world.states([lead]) == {"unowned": 1}


# Modes


def test_observe_writes_down_the_decision_and_touches_nothing_else(world: World) -> None:
    world.apply(mode="observe")
    (lead,) = world.arrive()
    (owned,) = world.arrive(hubspot_owner_id=world.reps[0])
    assert world.take([lead, owned]) == []
    record = world.record(lead)
    assert record is not None
    assert record.state is State.OBSERVED
    assert record.rep in world.reps
    assert (world.owner(lead), world.loads(), world.balances()) == (None, {}, {})


def test_pause_lets_leads_wait(world: World) -> None:
    world.apply(mode="pause")
    (lead,) = world.arrive()
    assert world.take([lead]) == []
    assert (world.states([lead]), world.owner(lead)) == ({"waiting": 1}, None)


class Meddling:
    """A store before whose first claim something else happens."""

    def __init__(self, world: World, happens: object) -> None:
        self.world = world
        self.happens = happens

    def __getattr__(self, name: str) -> object:
        return getattr(self.world.store, name)

    def claim(self, *arguments: object) -> None:
        happens, self.happens = self.happens, None
        if happens is not None:
            happens()  # type: ignore[operator]
        self.world.store.claim(*arguments)  # type: ignore[arg-type]


class Hiding:
    """A HubSpot that does not show some contacts, without a word."""

    def __init__(self, world: World, hidden: set[str]) -> None:
        self.world = world
        self.hidden = hidden

    def __getattr__(self, name: str) -> object:
        return getattr(self.world.crm, name)

    def read(self, *arguments: Any) -> BatchRead:
        found = self.world.crm.read(*arguments)
        return replace(found, records={id_: each for id_, each in found.records.items() if id_ not in self.hidden})


class Dying:
    """A HubSpot whose caller dies before it writes."""

    def __init__(self, world: World) -> None:
        self.world = world

    def __getattr__(self, name: str) -> object:
        return getattr(self.world.crm, name)

    def write_owners(self, *_: Any) -> object:
        raise KeyboardInterrupt


def usual() -> Fault:
    """A call that goes through as usual."""
    return slow(0.0)


def test_a_policy_of_another_version_loses_no_lead_and_holds_it_up_until_one_is_applied(
    world: World, dynamodb: DynamoDBClient
) -> None:
    (lead,) = world.arrive()
    dynamodb.update_item(
        TableName="fairturn",
        Key={"pk": {"S": "POLICY"}, "sk": {"S": f"V#{world.version:06d}"}},
        UpdateExpression="SET #policy = :policy",
        ExpressionAttributeNames={"#policy": "policy"},
        ExpressionAttributeValues={":policy": {"S": '{"written": "by another version"}'}},
    )
    received = world.received([lead])
    assert world.assign.take(received) == received
    changed = world.told(lead)
    assert world.track.take(changed) == changed
    assert world.dead_letters() == []
    world.apply()
    world.later(31)
    world.take([lead])
    assert world.owner(lead) in world.reps
