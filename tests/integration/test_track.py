"""What becomes of a record after its assignment, and what of records that we never knew."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from fairturn.edges.hubspot.answers import OwnerChange
from fairturn.edges.items import UNOWNED
from fairturn.errors import HubSpotUnavailable, QueueUnavailable
from fairturn.rules.events import Kind, Message
from fairturn.rules.policy import Mode
from fairturn.rules.record import Record, State, milliseconds, new
from fairturn_sandbox.faults import BAD_GATEWAY, slow
from tests.integration.audit import audit, read
from tests.integration.world import CAUGHT_UP, ROTA, World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mypy_boto3_dynamodb import DynamoDBClient


READ = ("POST", "/crm/v3/objects/contacts/batch/read")
UPDATE = ("POST", "/crm/v3/objects/contacts/batch/update")
CLOSED = [{"property": "hs_lead_status", "reaches": ["UNQUALIFIED"]}]


@pytest.fixture
def world(dynamodb: DynamoDBClient) -> Iterator[World]:
    with World(dynamodb, "fairturn", leads={"closed": CLOSED}) as world:
        yield world
        audit(read(dynamodb, "fairturn", world.store))


def handed(world: World, **properties: str) -> tuple[str, str]:
    """A lead that was handed over, and its rep."""
    (lead,) = world.arrive(1, **properties)
    assert world.take([lead]) == []
    return lead, world.owner(lead) or ""


def record(world: World, lead: str) -> Record:
    found = world.record(lead)
    assert found is not None
    return found


def other(world: World, rep: str) -> str:
    return next(each for each in world.reps if each != rep)


def own(world: World, lead: str, owner: str, **how: Any) -> None:
    world.portal.change(lead, {"hubspot_owner_id": owner}, **how)


# Our own writes


def test_the_echo_of_our_own_handover_costs_no_call_to_hubspot(world: World) -> None:
    lead, rep = handed(world)
    before = record(world, lead)
    world.portal.calls.clear()
    assert world.track.take(world.told(lead, source="INTEGRATION", echo=rep)) == []
    assert world.portal.calls == {}
    assert record(world, lead) == before


def test_an_owner_that_was_written_with_our_token_and_is_not_the_records_is_followed(world: World) -> None:
    lead, rep = handed(world)
    taker = other(world, rep)
    world.later(601)
    own(world, lead, taker, source="INTEGRATION")
    assert world.believe(world.told(lead, source="INTEGRATION", echo=taker)) == []
    assert record(world, lead).rep == taker
    assert world.loads() == {taker: 1}


def test_an_echo_that_comes_with_something_else_is_looked_at(world: World) -> None:
    lead, rep = handed(world)
    world.later(601)
    own(world, lead, other(world, rep))
    told = [*world.told(lead, source="INTEGRATION", echo=rep), *world.told(lead)]
    assert world.believe(told) == []
    assert record(world, lead).rep == other(world, rep)


def test_an_echo_of_a_lead_that_is_somebodys_by_now_is_looked_at(world: World) -> None:
    lead, rep = handed(world)
    world.later(601)
    own(world, lead, other(world, rep))
    assert world.follow(lead) == []
    own(world, lead, rep)
    assert world.believe(world.told(lead, source="INTEGRATION", echo=rep)) == []
    assert record(world, lead).rep == rep
    assert world.loads() == {rep: 1}


# A person takes over


def test_a_lead_that_a_person_takes_over_counts_for_the_taker_and_the_turn_stays(world: World) -> None:
    lead, rep = handed(world)
    balances = world.balances()
    taker = other(world, rep)
    world.later(601)
    own(world, lead, taker)
    assert world.follow(lead) == []
    after = record(world, lead)
    assert (after.state, after.rep, after.reason) == (State.EXTERNAL, taker, "somebody else chose the owner")
    assert world.loads() == {taker: 1}
    assert world.balances() == balances


def test_a_turn_goes_back_exactly_if_the_lead_is_taken_within_the_regret_window(world: World) -> None:
    before = world.balances()
    lead, rep = handed(world)
    assert world.balances() != before
    world.later(600)
    own(world, lead, other(world, rep))
    world.follow(lead)
    assert world.balances() == before
    assert record(world, lead).claim is None
    assert world.loads() == {other(world, rep): 1}


def test_turns_come_back_for_a_few_leads_that_were_taken_away_and_then_stay_spent(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    one, two, three = world.reps
    world.apply(rotas={ROTA: {"members": [one, two]}})
    world.later(31)
    spent: list[bool] = []
    for _ in range(16):
        lead, rep = handed(world)
        world.later(30)
        if rep == one:
            own(world, lead, three)
            world.follow(lead)
            spent.append(record(world, lead).spent)
    assert spent[:6] == [False] * 6  # five at once, and one in four of those that came since
    assert True in spent
    first = spent.index(True)
    assert "turn stays spent" in [each.message for each in caplog.records]
    audit(read(world.dynamodb, "fairturn", world.store))
    journal = world.store.journal(ROTA, world.store.read([ROTA], []).ledgers[ROTA].version)
    assert first >= 6
    assert journal is not None


def test_a_lead_that_was_taken_away_goes_to_somebody_who_has_not_had_it_while_there_is_anybody(world: World) -> None:
    world.apply(leads={"cleared": "allot again", "regret": 0})
    world.later(31)
    (lead,) = world.arrive()
    world.take([lead])
    had = [world.owner(lead)]
    for _ in range(3):
        world.later(3600)
        own(world, lead, "")
        world.follow(lead)
        world.later(CAUGHT_UP)
        assert world.assign.take(world.passed_on()) == []
        had.append(world.owner(lead))
    assert set(had[:3]) == set(world.reps)
    assert record(world, lead).had == tuple(had[:3])
    assert had[3] in world.reps  # all have had it, so all are asked again


def test_regret_goes_by_when_hubspot_saw_the_change_and_not_by_when_we_are_told(world: World) -> None:
    before = world.balances()
    lead, rep = handed(world)
    world.later(300)
    own(world, lead, other(world, rep))
    world.later(3600)
    world.follow(lead)
    assert world.balances() == before


def test_an_old_event_that_comes_late_does_not_bring_a_turn_back(world: World) -> None:
    lead, rep = handed(world)
    balances = world.balances()
    world.later(3600)
    own(world, lead, other(world, rep))
    world.follow(lead, ago=3500)
    assert world.balances() == balances
    assert world.loads() == {other(world, rep): 1}


@pytest.mark.parametrize(("days", "comes_back"), [(119, True), (121, False)])
def test_no_turn_goes_back_that_is_told_of_so_late_that_its_journal_may_have_expired(
    world: World, days: int, *, comes_back: bool
) -> None:
    before = world.balances()
    lead, rep = handed(world)
    world.later(300)
    own(world, lead, other(world, rep))
    world.later(days * 24 * 3600)
    world.follow(lead)
    assert (world.balances() == before) is comes_back
    assert world.loads() == {other(world, rep): 1}


def test_without_a_regret_window_no_turn_goes_back(world: World) -> None:
    world.apply(leads={"regret": 0})
    world.later(31)
    lead, rep = handed(world)
    balances = world.balances()
    world.later(1)
    own(world, lead, other(world, rep))
    world.follow(lead)
    assert world.balances() == balances


def test_the_taker_may_go_beyond_his_capacity_and_gets_no_more(world: World) -> None:
    one, two, three = world.reps
    world.apply(reps={one: {"capacity": 1}, two: {"capacity": 1}, three: {"capacity": 0}})
    first, second = world.arrive(2)
    world.take([first, second])
    assert world.loads() == {one: 1, two: 1}
    own(world, first, three)
    own(world, second, three)
    world.follow(first, second)
    assert world.loads() == {three: 2}
    assert world.store.read([], []).loads[three] == 2


def test_several_turns_of_one_rota_go_back_in_one_transaction(world: World) -> None:
    before = world.balances()
    leads = world.arrive(10)
    world.take(leads)
    for lead in leads:
        own(world, lead, other(world, world.owner(lead) or ""))
    told = world.told(*leads)
    world.later(CAUGHT_UP)
    world.requests.clear()
    assert world.track.take(told) == []
    assert world.requests["TransactWriteItems"] == 1
    assert world.balances() == before
    world.check(leads)


def test_what_an_event_says_twice_moves_a_load_and_a_turn_once(world: World) -> None:
    lead, rep = handed(world)
    own(world, lead, other(world, rep))
    world.follow(lead, lead)
    once = (world.loads(), world.balances(), record(world, lead))
    world.follow(lead)
    world.follow(lead)
    assert (world.loads(), world.balances(), record(world, lead)) == once


def test_our_own_echo_changes_nothing_and_costs_no_write(world: World) -> None:
    lead, _ = handed(world)
    world.follow(lead, source="INTEGRATION")  # now the policy is warm
    before = record(world, lead)
    told = world.told(lead, source="INTEGRATION", ago=21)
    world.requests.clear()
    world.portal.calls.clear()
    assert world.track.take(told) == []
    assert world.requests == {"BatchGetItem": 1}
    assert world.portal.calls == {READ: 1}
    assert record(world, lead) == before


# The owner is taken away


def test_a_lead_whose_owner_is_taken_away_is_left_and_listed(world: World) -> None:
    lead, _ = handed(world)
    world.later(3600)
    own(world, lead, "")
    world.follow(lead)
    after = record(world, lead)
    assert (after.state, after.rep, after.reason) == (State.UNOWNED, None, "the owner was taken away")
    assert world.loads() == {}
    assert world.store.due(UNOWNED, 10) == [("contact", lead)]
    assert world.passed_on() == []


def test_it_is_allotted_again_if_the_policy_says_so(world: World) -> None:
    world.apply(leads={"cleared": "allot again"})
    world.later(31)
    lead, rep = handed(world)
    world.later(3600)
    own(world, lead, "")
    world.follow(lead)
    assert world.loads() == {}
    assert world.assign.take(world.passed_on()) == []
    after = record(world, lead)
    assert after.state is State.HANDED
    assert after.round == 2
    assert after.rep == world.owner(lead) != rep
    world.check([lead])


def test_an_owner_taken_away_within_the_regret_window_was_never_had(world: World) -> None:
    before = world.balances()
    lead, _ = handed(world)
    world.later(3)
    own(world, lead, "")
    world.later(3600)
    world.follow(lead, ago=3600)
    assert world.balances() == before


# Closed and open again


def test_a_lead_that_is_closed_counts_no_more_and_one_that_is_open_again_does(world: World) -> None:
    lead, rep = handed(world)
    balances = world.balances()
    world.portal.change(lead, {"hs_lead_status": "UNQUALIFIED"})
    world.follow(lead)
    assert record(world, lead).state is State.CLOSED
    assert world.loads() == {}
    world.portal.change(lead, {"hs_lead_status": "OPEN"})
    world.follow(lead)
    assert record(world, lead).state is State.EXTERNAL
    assert world.loads() == {rep: 1}
    assert world.balances() == balances


def test_a_closed_lead_that_qualifies_again_without_an_owner_is_assigned_again(world: World) -> None:
    lead, _ = handed(world)
    world.portal.change(lead, {"hs_lead_status": "UNQUALIFIED", "hubspot_owner_id": ""})
    world.follow(lead)
    world.later(86_400)
    world.portal.change(lead, {"hs_lead_status": "NEW"})
    told = world.told(lead, ago=86_500)  # an event older than the closing, and all the same
    assert world.track.take(told) == []
    assert world.assign.take(world.passed_on()) == []
    after = record(world, lead)
    assert (after.state, after.round) == (State.HANDED, 2)
    world.check([lead])


def test_a_lead_that_came_closed_is_assigned_when_it_opens(world: World) -> None:
    (lead,) = world.arrive(hs_lead_status="UNQUALIFIED")
    world.take([lead])
    assert record(world, lead).state is State.CLOSED
    world.later(5)
    world.portal.change(lead, {"hs_lead_status": "OPEN"})
    world.follow(lead)
    world.assign.take(world.passed_on())
    assert record(world, lead).state is State.HANDED


# Records that we don't know


def test_an_owner_on_a_record_that_we_do_not_know_is_written_down_and_stops_a_claim_in_flight(world: World) -> None:
    (lead,) = world.arrive()
    batch = world.received([lead])
    claim = world.store.claim

    def meanwhile(*arguments: Any, **more: Any) -> None:
        world.store.claim = claim  # type: ignore[method-assign]
        own(world, lead, world.reps[2])
        world.follow(lead)
        claim(*arguments, **more)

    world.store.claim = meanwhile  # type: ignore[method-assign]
    assert world.assign.take(batch) == batch  # the record moved meanwhile
    assert world.assign.take(batch) == []
    after = record(world, lead)
    assert (after.state, after.rep) == (State.EXTERNAL, world.reps[2])
    assert world.owner(lead) == world.reps[2]
    assert world.loads() == {world.reps[2]: 1}


def test_where_owners_are_not_kept_an_owner_does_not_stop_a_lead_that_is_yet_to_be_assigned(world: World) -> None:
    world.apply(leads={"keep_owner": False})
    world.later(31)
    (lead,) = world.arrive(hubspot_owner_id=world.reps[0])
    world.follow(lead)
    assert world.record(lead) is None
    world.take([lead])
    assert record(world, lead).state is State.HANDED


def test_a_record_that_is_nobody_s_lead_leaves_nothing(world: World) -> None:
    leads = world.arrive(3)
    world.follow(*leads)
    assert world.states(leads) == {"absent": 3}
    assert world.passed_on() == []


def test_a_property_that_reaches_its_value_makes_a_lead(world: World) -> None:
    world.apply(leads={"when": {"property": "lifecyclestage", "reaches": ["marketingqualifiedlead"]}})
    world.later(31)
    (lead,) = world.arrive(lifecyclestage="subscriber")
    assert world.take([lead]) == []
    world.follow(lead)
    assert world.passed_on() == []
    world.portal.change(lead, {"lifecyclestage": "marketingqualifiedlead"})
    world.follow(lead, lead)
    assert world.assign.take(world.passed_on()) == []
    assert record(world, lead).state is State.HANDED
    world.check([lead])


def test_a_bulk_creation_is_passed_on_only_where_a_rule_asks_for_its_source(world: World) -> None:
    world.apply(
        rules=[
            {
                "name": "demos",
                "when": [{"source": ["IMPORT"]}, {"property": "message", "contains": "demo"}],
                "rota": ROTA,
            }
        ]
    )
    world.later(31)
    wanted, unwanted = *world.arrive(message="a demo please"), *world.arrive(message="hello")
    world.follow(wanted, unwanted, kind=Kind.CREATION, source="IMPORT")
    assert world.assign.take(world.passed_on()) == []
    assert world.states([wanted, unwanted]) == {"handed": 1, "absent": 1}
    assert record(world, wanted).source == "IMPORT"


def test_a_waiting_lead_whose_owner_was_found_with_it_is_nobodys_choice(world: World) -> None:
    rules = [{"name": "imports", "when": [{"source": ["IMPORT"]}], "rota": ROTA}]
    world.apply(leads={"keep_owner": False}, mode="pause", rules=rules, flood={"leads": 1, "minutes": 1})
    world.later(31)
    lead, *held_back = world.arrive(3, hubspot_owner_id=world.reps[0])
    world.take([lead])
    world.follow(*held_back, kind=Kind.CREATION, source="IMPORT")
    world.follow(lead, *held_back)
    assert world.states([lead, *held_back]) == {"waiting": 3}
    world.apply(leads={"keep_owner": False}, rules=rules)
    world.later(31)
    world.sweep.run()
    assert world.states([lead, *held_back]) == {"handed": 3}


def test_a_waiting_lead_that_belongs_to_another_lane_now_is_routed_at_once(world: World) -> None:
    one, two, three = world.reps
    world.apply(
        reps={one: {"capacity": 0}, two: None, three: None},
        rotas={"east": {"members": [one]}, "west": {"members": [two, three]}},
        rules=[{"name": "west", "when": [{"property": "state", "equals": "CA"}], "rota": "west"}],
        otherwise={"rota": "east"},
    )
    world.later(31)
    (lead,) = world.arrive()
    world.take([lead])
    world.follow(lead)
    assert world.passed_on() == []
    world.portal.change(lead, {"state": "CA"})
    world.follow(lead)
    assert world.assign.take(world.passed_on()) == []
    assert (record(world, lead).state, record(world, lead).rota) == (State.HANDED, "west")


def test_a_change_of_an_old_contact_makes_no_lead_where_leads_are_those_created(world: World) -> None:
    (contact,) = world.arrive()
    world.follow(contact, source="AUTOMATION_PLATFORM")
    assert world.passed_on() == []


# Gone


def test_a_deleted_lead_frees_its_rep_and_an_erased_one_leaves_no_value(world: World) -> None:
    world.apply(leads={"show": ["country"]})
    world.later(31)
    for kinds in ((Kind.DELETION, Kind.PRIVACY_DELETION), (Kind.PRIVACY_DELETION, Kind.DELETION)):
        lead, _ = handed(world, country="France")
        assert record(world, lead).shown == {"country": "France"}
        world.portal.privacy_delete(lead)
        for kind in kinds:
            world.follow(lead, kind=kind)
        after = record(world, lead)
        assert (after.state, after.shown, after.trace) == (State.ERASED, {}, None)
        assert world.follow(lead, kind=kinds[0]) == []
        assert record(world, lead) == after
        items = world.dynamodb.scan(TableName="fairturn")["Items"]
        assert "France" not in json.dumps(items, default=str)
    assert world.loads() == {}


def test_a_deletion_that_is_told_after_the_restore_is_not_believed(world: World) -> None:
    lead, rep = handed(world)
    world.portal.delete(lead)
    world.portal.restore(lead)
    told = world.told(lead, kind=Kind.DELETION)
    assert world.track.take(told) == told  # HubSpot may be slow to show it, so it is looked at again
    world.later(300)
    assert world.track.take(told) == []
    assert record(world, lead).state is State.HANDED
    assert world.loads() == {rep: 1}


def test_an_erasure_is_believed_before_hubspot_shows_it(world: World) -> None:
    lead, _ = handed(world)
    assert world.follow(lead, kind=Kind.PRIVACY_DELETION) == []
    assert record(world, lead).state is State.ERASED
    assert world.loads() == {}


def lose_policy(world: World) -> None:
    world.dynamodb.delete_item(TableName="fairturn", Key={"pk": {"S": "POLICY"}, "sk": {"S": "CURRENT"}})
    world.track = world.tracker()


def lose_hubspot(world: World) -> None:
    world.portal.down(milliseconds(world.at) + 3_600_000)


@pytest.mark.parametrize("lose", [lose_policy, lose_hubspot])
def test_an_erasure_needs_neither_hubspot_nor_a_policy(world: World, lose: Callable[[World], None]) -> None:
    world.apply(leads={"show": ["country"]})
    world.later(31)
    lead, _ = handed(world, country="France")
    lose(world)
    asked = world.portal.calls.total()
    assert world.track.take(world.told(lead, kind=Kind.PRIVACY_DELETION)) == []
    assert world.portal.calls.total() == asked
    after = record(world, lead)
    assert after == Record("contact", lead, State.ERASED, after.rev, after.changed_at)
    assert world.loads() == {}


@pytest.mark.parametrize("lose", [lose_policy, lose_hubspot])
def test_a_deletion_drops_what_is_shown_at_once_and_leaves_it_to_hubspot_what_is_gone(
    world: World, lose: Callable[[World], None]
) -> None:
    world.apply(leads={"show": ["country"]})
    world.later(31)
    lead, rep = handed(world, country="France")
    lose(world)
    world.track.take(world.told(lead, kind=Kind.DELETION))
    after = record(world, lead)
    assert (after.state, after.shown, after.trace) == (State.HANDED, {}, None)
    assert world.loads() == {rep: 1}
    assert "France" not in json.dumps(world.dynamodb.scan(TableName="fairturn")["Items"], default=str)


def test_of_a_lead_that_is_erased_nothing_is_stored_anew_whatever_comes_later(world: World) -> None:
    lead, _ = handed(world)
    other, _ = handed(world)
    world.follow(lead, kind=Kind.PRIVACY_DELETION)
    after = record(world, lead)
    assert world.take([lead]) == []  # its creation comes again, and HubSpot still shows it
    for kind in (Kind.CREATION, Kind.RESTORE, Kind.PROPERTY_CHANGE, Kind.DELETION, Kind.PRIVACY_DELETION):
        assert world.follow(lead, kind=kind) == []
    assert world.follow(other, kind=Kind.MERGE, merged=[lead]) == []
    world.sweep.run()
    assert record(world, lead) == after
    assert world.passed_on() == []


def test_who_is_erased_before_they_were_known_is_never_known(world: World) -> None:
    (lead,) = world.arrive()
    world.follow(lead, kind=Kind.PRIVACY_DELETION)
    assert world.take([lead]) == []
    assert record(world, lead).state is State.ERASED
    assert world.owner(lead) is None


def test_what_was_merged_into_somebody_who_is_erased_is_erased_with_them(world: World) -> None:
    first, _ = handed(world)
    second, _ = handed(world)
    survivor = world.portal.merge(first, second)
    world.follow(survivor, kind=Kind.PRIVACY_DELETION)
    world.follow(survivor, kind=Kind.MERGE, merged=[first, second])
    assert world.states([first, second, survivor]) == {"erased": 3}
    assert world.loads() == {}


def test_an_erasure_waits_for_a_claim_that_is_under_way_and_gives_its_turn_back(world: World) -> None:
    (lead,) = world.arrive()
    world.portal.faults.extend([slow(0), BAD_GATEWAY, BAD_GATEWAY, BAD_GATEWAY])  # it is read, and can't be written
    world.take([lead])
    assert record(world, lead).state is State.CLAIMED
    told = world.told(lead, kind=Kind.PRIVACY_DELETION)
    left = world.track.take(told)
    world.later(120)
    assert world.track.take(left) == []
    assert record(world, lead).state is State.ERASED
    assert all(not any(row.values()) for row in world.balances().values())


def test_a_reading_from_before_the_handover_is_not_taken_for_a_change(world: World) -> None:
    lead, rep = handed(world)
    before = record(world, lead)
    world.portal.contact(lead).properties["hubspot_owner_id"] = None  # HubSpot is slow to show it
    told = world.told(lead, source="INTEGRATION")
    assert world.track.take(told) == told
    assert record(world, lead) == before
    world.portal.contact(lead).properties["hubspot_owner_id"] = rep
    assert world.believe(told) == []
    assert record(world, lead) == before


def test_a_restored_lead_counts_again_for_its_owner(world: World) -> None:
    lead, rep = handed(world)
    world.portal.delete(lead)
    world.follow(lead, kind=Kind.DELETION)
    assert world.loads() == {}
    world.portal.restore(lead)
    world.follow(lead, kind=Kind.RESTORE, source="CRM_UI_BULK_ACTION")
    assert record(world, lead).state is State.EXTERNAL
    assert world.loads() == {rep: 1}


def test_a_lead_deleted_while_it_waited_is_assigned_when_it_is_restored_in_bulk(world: World) -> None:
    world.apply(mode="pause")
    world.later(31)
    (lead,) = world.arrive()
    world.take([lead])
    world.portal.delete(lead)
    world.follow(lead, kind=Kind.DELETION)
    assert record(world, lead).state is State.GONE
    world.apply()
    world.later(31)
    world.portal.restore(lead)
    world.follow(lead, kind=Kind.RESTORE, source="CRM_UI_BULK_ACTION")
    assert world.assign.take(world.passed_on()) == []
    assert record(world, lead).state is State.HANDED


def test_a_deletion_of_what_we_never_knew_leaves_a_tombstone_that_explains_why_nothing_is_there(world: World) -> None:
    (contact,) = world.arrive()
    lead = world.received([contact], ago=5)
    world.portal.delete(contact)
    assert world.follow(contact, kind=Kind.DELETION) == []
    assert (record(world, contact).state, record(world, contact).reason) == (State.GONE, "deleted")
    before = record(world, contact)
    assert world.assign.take(lead) == []  # its creation comes late, and nobody waits for it to be shown
    assert record(world, contact) == before


def test_a_record_that_hubspot_does_not_show_is_let_go_for_a_deletion_only(world: World) -> None:
    lead, rep = handed(world)
    world.later(60)
    world.portal.delete(lead)
    told = world.told(lead)
    for _ in range(2):
        assert world.track.take(told) == told
        world.later(449)
    world.later(3)
    assert world.track.take(told) == []
    assert record(world, lead).state is State.HANDED
    assert world.loads() == {rep: 1}
    assert world.follow(lead, kind=Kind.DELETION) == []
    assert record(world, lead).state is State.GONE
    assert world.loads() == {}


def test_an_answer_that_shows_none_of_many_records_lets_none_go(world: World) -> None:
    leads = world.arrive(10)
    world.take(leads)
    world.later(60)
    told = world.told(*leads)
    seen = world.crm.read
    world.crm.read = lambda *arguments: replace(seen(*arguments), records={})  # type: ignore[method-assign]
    for _ in range(3):
        assert world.track.take(told) == told
        world.later(900)
    world.crm.read = seen  # type: ignore[method-assign]
    assert world.track.take(told) == []
    assert world.states(leads) == {"handed": 10}


def test_a_deletion_is_told_after_the_restore_and_a_reading_lacks_the_contact_and_it_stays_all_the_same(
    world: World,
) -> None:
    lead, rep = handed(world)
    world.later(60)
    world.portal.delete(lead)
    deleted = world.told(lead, kind=Kind.DELETION)
    world.later(60)
    world.portal.restore(lead)
    assert world.follow(lead, kind=Kind.RESTORE) == []
    seen = world.crm.read
    world.crm.read = lambda *arguments: replace(seen(*arguments), records={})  # type: ignore[method-assign]
    assert world.track.take(deleted) == deleted
    world.crm.read = seen  # type: ignore[method-assign]
    assert world.believe(deleted) == []
    assert record(world, lead).state is State.HANDED
    assert world.loads() == {rep: 1}


def test_a_lead_whose_claim_stands_goes_back_when_its_contact_is_deleted(world: World) -> None:
    before = world.balances()
    (lead,) = world.arrive()
    world.portal.faults.extend([slow(0), *[BAD_GATEWAY] * 3])
    world.take([lead])
    assert record(world, lead).state is State.CLAIMED
    world.portal.delete(lead)
    world.follow(lead, kind=Kind.DELETION)
    assert record(world, lead).state is State.GONE
    assert (world.loads(), world.balances()) == ({}, before)


# Merged


def merge(world: World, primary: str, merged: str, *, told: bool = True) -> str:
    survivor = world.portal.merge(primary, merged)
    if told:
        assert world.follow(survivor, kind=Kind.MERGE, merged=[primary, merged]) == []
    return survivor


def test_a_merged_lead_moves_to_the_id_that_hubspot_answers_to(world: World) -> None:
    lead, rep = handed(world)
    (contact,) = world.arrive()
    survivor = merge(world, lead, contact)
    after = record(world, survivor)
    assert (after.state, after.rep, after.id) == (State.HANDED, rep, survivor)
    assert after.booking == (f"contact#{lead}", 1)
    old = record(world, lead)
    assert (old.state, old.merged_into) == (State.GONE, survivor)
    assert (record(world, contact).state, record(world, contact).merged_into) == (State.GONE, survivor)
    assert world.loads() == {rep: 1}


def test_the_turn_of_a_merged_lead_can_still_go_back(world: World) -> None:
    before = world.balances()
    lead, rep = handed(world)
    (contact,) = world.arrive()
    survivor = merge(world, contact, lead)
    world.later(60)
    own(world, survivor, other(world, rep))
    world.follow(survivor)
    assert world.balances() == before
    assert world.loads() == {other(world, rep): 1}


def test_of_two_leads_merged_one_rep_keeps_his_and_the_other_is_freed(world: World) -> None:
    (one, _), (two, second) = handed(world), handed(world)
    survivor = world.portal.merge(two, one)
    for _ in range(2):
        world.follow(survivor, kind=Kind.MERGE, merged=[one, two])
    assert world.owner(survivor) == second
    assert record(world, survivor).rep == second
    assert {record(world, each).merged_into for each in (one, two)} == {survivor}
    assert world.loads() == {second: 1}


def test_a_merge_that_nobody_told_of_is_seen_in_the_answer(world: World) -> None:
    lead, rep = handed(world)
    (contact,) = world.arrive()
    survivor = merge(world, lead, contact, told=False)
    assert world.follow(lead) == []
    assert record(world, survivor).state is State.HANDED
    assert record(world, lead).merged_into == survivor
    assert world.loads() == {rep: 1}


def test_a_chain_of_merges_ends_at_the_last_id(world: World) -> None:
    lead, rep = handed(world)
    first = merge(world, lead, world.arrive()[0], told=False)
    last = merge(world, first, world.arrive()[0], told=False)
    world.follow(first, kind=Kind.MERGE, merged=[lead])
    assert record(world, last).rep == rep
    assert record(world, lead).merged_into == last
    assert world.loads() == {rep: 1}


def test_a_lead_merged_before_it_was_assigned_comes_again_under_its_new_id(world: World) -> None:
    lead, contact = world.arrive(2)
    survivor = merge(world, lead, contact)
    assert world.take([lead]) == []
    assert record(world, lead).merged_into == survivor
    assert world.assign.take(world.passed_on()) == []
    assert record(world, survivor).state is State.HANDED
    world.check([survivor])


@pytest.mark.parametrize("merged_first", [True, False])
def test_a_lead_whose_merge_is_told_before_its_first_look_is_not_lost_though_its_old_id_answers_nothing(
    world: World, *, merged_first: bool
) -> None:
    lead, contact = world.arrive(2)
    creation = world.received([lead])
    survivor = world.portal.merge(contact, lead)
    seen = world.crm.read
    world.crm.read = lambda *arguments: replace(seen(*arguments), merged={})  # type: ignore[method-assign]
    told = world.told(survivor, kind=Kind.MERGE, merged=[lead, contact])
    if merged_first:
        assert world.believe(told) == []
        assert world.assign.take(creation) == []
    else:
        assert world.assign.take(creation) == creation
        world.later(901)
        assert world.assign.take(creation) == []
        assert world.believe(told) == []
    assert world.assign.take(world.passed_on()) == []
    assert record(world, survivor).state is State.HANDED
    world.check([survivor])


@pytest.mark.parametrize("told_first", [True, False])
def test_a_new_contact_merged_into_an_old_one_leaves_that_to_its_owner_though_no_owner_is_kept(
    world: World, *, told_first: bool
) -> None:
    world.apply(leads={"keep_owner": False})
    world.later(31)
    (old,) = world.arrive(hubspot_owner_id=world.reps[0])
    (lead,) = world.arrive()
    creation = world.received([lead])
    survivor = world.portal.merge(old, lead)
    told = world.told(survivor, kind=Kind.MERGE, merged=[lead, old])
    if told_first:
        assert world.believe(told) == []
    assert world.assign.take(creation) == []
    assert world.assign.take(world.passed_on()) == []
    assert world.believe(told) == []
    assert world.assign.take(world.passed_on()) == []
    assert (record(world, survivor).state, record(world, survivor).rep) == (State.EXTERNAL, world.reps[0])
    assert world.owner(survivor) == world.reps[0]


def test_an_old_contact_that_is_restored_counts_for_its_owner_though_no_owner_is_kept(world: World) -> None:
    world.apply(leads={"keep_owner": False})
    world.later(31)
    (old,) = world.arrive(hubspot_owner_id=world.reps[0])
    world.portal.delete(old)
    world.follow(old, kind=Kind.DELETION)
    world.portal.restore(old)
    assert world.follow(old, kind=Kind.RESTORE) == []
    assert world.passed_on() == []
    assert (record(world, old).state, record(world, old).rep) == (State.EXTERNAL, world.reps[0])


def test_a_restored_contact_without_an_owner_is_a_new_lead(world: World) -> None:
    (old,) = world.arrive()
    world.portal.delete(old)
    world.follow(old, kind=Kind.DELETION)
    world.portal.restore(old)
    assert world.follow(old, kind=Kind.RESTORE) == []
    world.later(CAUGHT_UP)
    assert world.assign.take(world.passed_on()) == []
    assert record(world, old).state is State.HANDED


def test_a_waiting_lead_waits_on_under_its_new_id(world: World) -> None:
    world.apply(mode="pause")
    world.later(31)
    (lead,) = world.arrive()
    world.take([lead])
    survivor = merge(world, lead, world.arrive()[0])
    assert record(world, survivor).state is State.WAITING
    assert world.store.due(f"{ROTA}#any", 10) == [("contact", survivor)]


def test_a_lead_that_a_merge_took_from_a_handover_is_not_lost(world: World) -> None:
    lead, contact = world.arrive(2)
    survivors: list[str] = []
    world.portal.before_update = lambda: survivors.append(world.portal.merge(lead, contact))
    (received,) = batch = world.received([lead])
    assert world.assign.take(batch) == [received]  # not found, so it is looked at again
    assert record(world, lead).state is State.WAITING
    assert world.assign.take(batch) == []
    (survivor,) = survivors
    assert record(world, lead).merged_into == survivor
    assert world.assign.take(world.passed_on()) == []
    assert record(world, survivor).state is State.HANDED
    world.follow(survivor, kind=Kind.MERGE, merged=[lead, contact])
    world.check([survivor])


def test_a_merge_that_was_followed_but_not_passed_on_is_passed_on_the_next_time(world: World) -> None:
    lead, contact = world.arrive(2)
    before = new(lead)
    after = replace(before, occurred_at=1).gone("not shown", 1, unseen_at=1)
    world.store.move([(before, after)])  # as assign has left it when HubSpot did not show it
    survivor = world.portal.merge(lead, contact)
    told = world.told(survivor, kind=Kind.MERGE, merged=[lead, contact])
    world.later(CAUGHT_UP)
    send = world.leads.send

    def failing(messages: Any, deadline: Any = None) -> None:  # noqa: ARG001
        world.leads.send = send  # type: ignore[method-assign]
        raise QueueUnavailable(f"{len(messages)} not taken")

    world.leads.send = failing  # type: ignore[method-assign]
    assert world.track.take(told) == told
    assert record(world, lead).merged_into == survivor
    assert world.track.take(told) == []
    assert world.assign.take(world.passed_on()) == []
    assert record(world, survivor).state is State.HANDED


def test_a_refused_lead_that_was_merged_is_redriven_under_its_new_id(world: World) -> None:
    lead, contact = world.arrive(2)
    world.portal.refuse_owners(lead, "a rule of an administrator")
    world.take([lead])
    survivor = merge(world, lead, contact)
    assert record(world, survivor).state is State.REFUSED
    world.portal.allow_owners(lead)
    assert world.take([lead]) == []  # redriven
    assert world.assign.take(world.passed_on()) == []
    assert record(world, survivor).state is State.HANDED


def test_two_changes_of_one_batch_do_not_hide_each_others_failures(world: World) -> None:
    change_of_mode = {"mode": "pause"}
    world.apply(**change_of_mode)
    world.later(31)
    (lead,) = world.arrive()
    world.take([lead])
    contact = world.arrive()[0]
    survivor = world.portal.merge(lead, contact)
    seen = world.crm.read

    def unmerged(*arguments: Any) -> Any:
        """One answer in which HubSpot knows the new id, and nothing of what became of the old one."""
        world.crm.read = seen  # type: ignore[method-assign]
        return replace(seen(*arguments), merged={})

    world.crm.read = unmerged  # type: ignore[assignment]
    told = [*world.told(lead), *world.told(survivor, kind=Kind.MERGE, merged=[lead, contact])]
    assert world.believe(told) == []
    world.apply()
    world.later(31)
    world.sweep.run()
    world.assign.take(world.passed_on())
    assert record(world, survivor).state is State.HANDED


def test_a_merge_of_more_leads_than_a_transaction_takes_is_followed_all_the_same(world: World) -> None:
    leads = world.arrive(110)
    world.take(leads[:97])
    world.take(leads[97:])
    survivor = leads[0]
    for lead in leads[1:]:
        survivor = world.portal.merge(survivor, lead)
    told = [
        each
        for start in range(0, 110, 30)
        for each in world.told(survivor, kind=Kind.MERGE, merged=leads[start : start + 30])
    ]
    assert world.believe(told) == []
    assert world.loads() == {world.owner(survivor): 1}
    assert {record(world, lead).merged_into for lead in leads} == {survivor}


# Claims under way


def test_a_change_waits_for_a_claim_that_is_under_way(world: World) -> None:
    (lead,) = world.arrive()
    batch = world.received([lead])
    write = world.crm.write_owners

    def failing(*arguments: Any) -> Any:
        world.crm.write_owners = write  # type: ignore[method-assign]
        raise HubSpotUnavailable(f"down, so {len(arguments)} arguments are lost")

    world.crm.write_owners = failing  # type: ignore[assignment]
    assert world.assign.take(batch) == batch
    assert record(world, lead).state is State.CLAIMED
    own(world, lead, world.reps[2])
    told = world.told(lead)
    assert world.track.take(told) == told
    assert record(world, lead).state is State.CLAIMED
    assert world.assign.take(batch) == []
    assert world.believe(told) == []
    after = record(world, lead)
    assert (after.state, after.rep) == (State.EXTERNAL, world.reps[2])
    assert all(not units for row in world.balances().values() for units in row.values())


# Nobody fights a person


def test_a_choice_made_between_our_read_and_our_write_is_restored_once(world: World) -> None:
    before = world.balances()
    (lead,) = world.arrive()
    chosen = world.reps[2]
    world.portal.before_update = lambda: own(world, lead, chosen)
    world.take([lead])
    assert record(world, lead).state is State.HANDED
    assert world.owner(lead) != chosen
    world.later(1)
    world.follow(lead, ago=1)
    assert world.owner(lead) == chosen
    after = record(world, lead)
    assert (after.state, after.rep) == (State.EXTERNAL, chosen)
    assert world.balances() == before
    assert world.loads() == {chosen: 1}
    shown = world.portal.contact(lead).properties
    assert "restored" in (shown["fairturn_reason"] or "")
    assert shown["fairturn_rule"] is None
    own(world, lead, world.reps[0])  # whoever changes it now has the last word
    world.portal.calls.clear()
    world.follow(lead)
    assert world.owner(lead) == world.reps[0]
    assert UPDATE not in world.portal.calls


def test_a_choice_is_restored_even_if_an_answer_lacked_its_history(world: World) -> None:
    (lead,) = world.arrive()
    chosen = world.reps[2]
    world.portal.before_update = lambda: own(world, lead, chosen)
    world.take([lead])
    told, histories = world.told(lead), world.crm.owner_histories
    world.later(CAUGHT_UP)
    world.crm.owner_histories = lambda *_: {}  # type: ignore[method-assign]
    assert world.track.take(told) == told
    world.crm.owner_histories = histories  # type: ignore[method-assign]
    assert world.track.take(told) == []
    assert world.owner(lead) == chosen


def test_a_choice_told_while_the_handover_is_not_noted_yet_is_restored_once_it_is(world: World) -> None:
    (lead,) = world.arrive()
    chosen = world.reps[2]
    world.portal.before_update = lambda: own(world, lead, chosen)
    batch = world.received([lead])
    write = world.crm.write_owners

    def unheard(*arguments: Any) -> Any:
        world.crm.write_owners = write  # type: ignore[method-assign]
        write(*arguments)
        raise HubSpotUnavailable("the answer came too late")

    world.crm.write_owners = unheard  # type: ignore[assignment]
    assert world.assign.take(batch) == batch
    assert world.owner(lead) not in {chosen, None}
    told = world.told(lead)
    assert world.track.take(told) == told
    world.later(60)
    assert world.assign.take(batch) == []
    assert world.believe(told) == []
    assert world.owner(lead) == chosen
    assert record(world, lead).rep == chosen


@pytest.mark.parametrize(("ours_ago", "theirs_ago"), [(3600, 3601), (0, 3600)])
def test_a_choice_of_long_ago_is_not_restored(world: World, ours_ago: int, theirs_ago: int) -> None:
    lead, rep = handed(world)
    now = milliseconds(world.at)
    history = [
        OwnerChange(rep, now - ours_ago * 1000, "INTEGRATION", None),
        OwnerChange(other(world, rep), now - theirs_ago * 1000, "CRM_UI", None),
    ]
    world.crm.owner_histories = lambda *_: {lead: history}  # type: ignore[method-assign]
    world.follow(lead)
    assert world.owner(lead) == rep
    assert record(world, lead).state is State.HANDED


def test_a_choice_is_restored_once_even_if_we_die_right_after_it(world: World) -> None:
    (lead,) = world.arrive()
    chosen = world.reps[2]
    world.portal.before_update = lambda: own(world, lead, chosen)
    world.take([lead])
    told = world.told(lead)
    give_back = world.store.give_back

    def dying(*_: Any) -> None:
        world.store.give_back = give_back  # type: ignore[method-assign]
        raise KeyboardInterrupt

    world.store.give_back = dying  # type: ignore[assignment]
    world.later(CAUGHT_UP)
    with pytest.raises(KeyboardInterrupt):
        world.track.take(told)
    assert world.tracker().take(told) == []
    assert world.owner(lead) == chosen
    assert record(world, lead).rep == chosen
    world.check([lead])


def test_a_person_who_changed_something_else_meanwhile_costs_one_look_and_nothing_more(world: World) -> None:
    (lead,) = world.arrive()
    world.portal.before_update = lambda: world.portal.change(lead, {"phone": "1"})
    world.take([lead])
    before = record(world, lead)
    told = world.told(lead)
    world.later(CAUGHT_UP)
    world.portal.calls.clear()
    assert world.track.take(told) == []
    assert world.portal.calls == {READ: 2}
    assert record(world, lead) == before


def test_a_choice_that_was_made_and_taken_back_later_is_not_restored(world: World) -> None:
    lead, rep = handed(world)
    world.later(3)
    own(world, lead, other(world, rep))
    world.later(60)
    own(world, lead, rep)
    world.follow(lead, ago=60)
    assert world.owner(lead) == rep
    assert record(world, lead).state is State.HANDED


def test_a_choice_is_restored_even_if_something_else_happened_later(world: World) -> None:
    (lead,) = world.arrive()
    chosen = world.reps[2]
    world.portal.before_update = lambda: own(world, lead, chosen)
    world.take([lead])
    told = [*world.told(lead), *world.told(lead, ago=-120)]
    world.later(120)
    assert world.track.take(told) == []
    assert world.owner(lead) == chosen


def test_a_workflow_that_keeps_taking_owners_away_is_named_and_does_not_go_on_for_ever(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.apply(leads={"cleared": "allot again"})
    world.later(31)
    lead, _ = handed(world)
    for _ in range(8):
        world.later(30)
        own(world, lead, "", source="AUTOMATION_PLATFORM", by="workflowId:77")
        world.follow(lead, source="AUTOMATION_PLATFORM")
        world.assign.take(world.passed_on())
    after = record(world, lead)
    assert (after.state, after.rep, after.round) == (State.UNOWNED, None, 5)
    assert world.store.due(UNOWNED, 10) == [("contact", lead)]
    assert [each for each in caplog.records if getattr(each, "source", "") == "AUTOMATION_PLATFORM workflowId:77"]


def test_the_alarm_names_the_workflow_and_not_the_person_who_did_something_else(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        lead, rep = handed(world)
        world.later(2)
        own(world, lead, other(world, rep), source="AUTOMATION_PLATFORM", by="workflowId:77")
        world.believe([*world.told(lead, source="AUTOMATION_PLATFORM"), *world.told(lead, source="CRM_UI")])
        lead, rep = handed(world)
        world.later(2)
        own(world, lead, other(world, rep))
        world.believe([*world.told(lead, source="AUTOMATION_PLATFORM"), *world.told(lead, source="CRM_UI")])
    named = [getattr(each, "source", "") for each in caplog.records if hasattr(each, "times_today")]
    assert named == ["AUTOMATION_PLATFORM workflowId:77"]


def test_a_workflow_that_keeps_overwriting_owners_is_named_from_the_second_time_on(
    world: World, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    for times in range(1, 4):
        lead, rep = handed(world)
        world.later(2)
        own(world, lead, other(world, rep), source="AUTOMATION_PLATFORM", by="workflowId:77")
        caplog.clear()
        capsys.readouterr()
        world.follow(lead, source="AUTOMATION_PLATFORM")
        metrics = capsys.readouterr().out.count('"OwnersOverwritten":')
        named = [each for each in caplog.records if getattr(each, "source", "") == "AUTOMATION_PLATFORM workflowId:77"]
        assert metrics == len(named) == (1 if times >= 2 else 0)


def test_a_person_who_takes_leads_over_raises_no_alarm(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(3):
        lead, rep = handed(world)
        world.later(2)
        own(world, lead, other(world, rep))
        world.follow(lead)
    assert "OwnersOverwritten" not in capsys.readouterr().out


# Floods


def test_a_flood_from_bulk_sources_is_held_back_until_a_policy_is_applied(world: World) -> None:
    policy: dict[str, Any] = {
        "flood": {"leads": 5, "minutes": 10},
        "rules": [{"name": "imports", "when": [{"source": ["IMPORT"]}], "rota": ROTA}],
    }
    world.apply(**policy)
    world.later(31)
    few, many = world.arrive(5), world.arrive(4)
    world.follow(*few, kind=Kind.CREATION, source="IMPORT")
    world.assign.take(world.passed_on())
    assert world.states(few) == {"handed": 5}
    world.later(60)
    world.follow(*many, kind=Kind.CREATION, source="IMPORT")
    assert world.passed_on() == []
    assert world.states(many) == {"waiting": 4}
    world.sweep.run()
    assert world.states(many) == {"waiting": 4}
    (single,) = world.arrive()
    world.take([single])
    assert record(world, single).state is State.HANDED  # nobody else is held up
    world.apply(**policy)
    world.later(31)
    world.sweep.run()
    assert world.states(many) == {"handed": 4}
    world.check([*few, *many, single])


def test_a_lead_from_a_bulk_source_is_counted_once_however_often_its_message_fails(world: World) -> None:
    rules = [{"name": "imports", "when": [{"source": ["IMPORT"]}], "rota": ROTA}]
    world.apply(flood={"leads": 5, "minutes": 10}, rules=rules)
    world.later(31)
    leads = world.arrive(4)
    told = world.told(*leads, kind=Kind.CREATION, source="IMPORT")
    send = world.leads.send

    def failing(*_: Any) -> None:
        raise KeyError("a text that is nobody's business")

    world.leads.send = failing  # type: ignore[assignment]
    for _ in range(3):
        world.track.take(told)
    world.leads.send = send  # type: ignore[method-assign]
    assert sum(world.store.brake().minutes.values()) == 4
    assert not world.store.brake().is_pulled(world.version)
    world.sweep.run()  # what could not be passed on waits, and is not lost
    assert world.states(leads) == {"handed": 4}


def test_few_leads_from_bulk_sources_at_a_time_are_no_flood(world: World) -> None:
    world.apply(
        flood={"leads": 2, "minutes": 10}, rules=[{"name": "imports", "when": [{"source": ["IMPORT"]}], "rota": ROTA}]
    )
    for _ in range(4):
        world.later(700)
        leads = world.arrive(2)
        world.follow(*leads, kind=Kind.CREATION, source="IMPORT")
        world.assign.take(world.passed_on())
        assert world.states(leads) == {"handed": 2}


# Modes


def test_in_observe_nothing_is_counted_that_was_not_counted_before(world: World) -> None:
    known, rep = handed(world)
    world.apply(mode=Mode.OBSERVE.value)
    world.later(31)
    (unknown,) = world.arrive(hubspot_owner_id=rep)
    world.follow(unknown)
    assert world.record(unknown) is None
    assert world.loads() == {rep: 1}
    own(world, known, other(world, rep))
    world.follow(known)
    assert world.loads() == {other(world, rep): 1}


def test_in_observe_a_merge_counts_nothing_either(world: World) -> None:
    world.apply(mode=Mode.OBSERVE.value)
    world.later(31)
    (lead,) = world.arrive()
    world.take([lead])
    own(world, lead, world.reps[0])
    survivor = merge(world, lead, world.arrive()[0])
    assert record(world, survivor).state is State.OBSERVED
    assert world.loads() == {}


# Failures


def test_while_hubspot_is_down_a_change_is_put_back_and_nothing_moves(world: World) -> None:
    lead, rep = handed(world)
    own(world, lead, other(world, rep))
    world.portal.down(milliseconds(world.at) + 60_000)
    told = world.told(lead)
    assert world.track.take(told) == told
    assert record(world, lead).state is State.HANDED
    world.later(61)
    assert world.believe(told) == []
    assert record(world, lead).state is State.EXTERNAL


def test_a_message_that_cannot_be_read_is_dead_lettered_alone(world: World) -> None:
    lead, rep = handed(world)
    own(world, lead, other(world, rep))
    (bad,) = world.queued('{"v":2}', queue="changes")
    assert world.believe([bad, *world.told(lead)]) == []
    (letter,) = world.dead_letters()
    assert (letter["body"], letter["stage"]) == ('{"v":2}', "track")
    assert record(world, lead).state is State.EXTERNAL


def test_a_lead_that_comes_back_while_there_is_no_policy_is_dead_lettered_and_not_forgotten(world: World) -> None:
    lead, _ = handed(world)
    world.portal.change(lead, {"hs_lead_status": "UNQUALIFIED", "hubspot_owner_id": ""})
    world.later(60)
    world.follow(lead)
    world.portal.change(lead, {"hs_lead_status": "NEW"})
    world.follow(lead)
    world.dynamodb.delete_item(TableName="fairturn", Key={"pk": {"S": "POLICY"}, "sk": {"S": "CURRENT"}})
    world.later(31)
    assert world.assign.take(world.passed_on()) == []
    assert {Message.read(letter["body"]).id for letter in world.dead_letters()} == {lead}


def test_a_change_without_a_policy_is_dead_lettered_with_the_reason(world: World) -> None:
    (contact,) = world.arrive()
    world.dynamodb.delete_item(TableName="fairturn", Key={"pk": {"S": "POLICY"}, "sk": {"S": "CURRENT"}})
    assert world.follow(contact) == []
    (letter,) = world.dead_letters()
    assert Message.read(letter["body"]).id == contact
    assert "fairturn policy apply" in letter["reason"]


# What it costs


def test_a_hundred_changes_cost_one_read_at_hubspot_and_no_write_where_nothing_has_changed(world: World) -> None:
    leads = [*world.arrive(97), *world.arrive(3)]
    world.take(leads[:97])
    world.take(leads[97:])
    world.follow(leads[0])  # now the policy is warm
    told = world.told(*leads, source="INTEGRATION", ago=21)
    world.requests.clear()
    world.portal.calls.clear()
    assert world.track.take(told) == []
    assert world.portal.calls == {READ: 1}
    assert world.requests == {"BatchGetItem": 1}


def test_a_hundred_records_that_have_changed_cost_one_read_and_at_most_a_transaction_each(world: World) -> None:
    leads = [*world.arrive(97), *world.arrive(3)]
    world.take(leads[:97])
    world.take(leads[97:])
    world.later(3600)
    for number, lead in enumerate(leads):
        if number % 3 == 0:
            world.portal.change(lead, {"hs_lead_status": "UNQUALIFIED"})
        elif number % 3 == 1:
            own(world, lead, world.reps[number % 2])
        else:
            world.portal.delete(lead)
    deleted = [lead for lead in leads if world.portal.contact(lead).archived]
    others = [lead for lead in leads if lead not in deleted]
    told = [*world.told(*others), *world.told(*deleted, kind=Kind.DELETION)]
    world.later(CAUGHT_UP)
    changed = sum(1 for lead in leads if world.portal.contact(lead).archived or _differs(world, lead))
    world.requests.clear()
    world.portal.calls.clear()
    assert world.track.take(told) == []
    assert world.portal.calls == {READ: 1}
    assert 0 < world.requests["TransactWriteItems"] <= changed
    assert world.requests["TransactWriteItems"] <= 2  # far fewer, in fact
    assert set(world.requests) == {"BatchGetItem", "TransactWriteItems"}


def _differs(world: World, lead: str) -> bool:
    properties = world.portal.contact(lead).properties
    known = record(world, lead)
    return properties.get("hs_lead_status") == "UNQUALIFIED" or properties.get("hubspot_owner_id") != known.rep


def test_a_record_that_moves_under_our_hands_is_looked_at_again(world: World) -> None:
    lead, rep = handed(world)
    own(world, lead, other(world, rep))
    before = record(world, lead)
    told = world.told(lead)
    give_back = world.store.give_back

    def meanwhile(*arguments: Any) -> Any:
        world.store.give_back = give_back  # type: ignore[method-assign]
        world.store.move([(before, before.external(world.reps[0], None, milliseconds(world.at)))])
        return give_back(*arguments)

    world.store.give_back = meanwhile  # type: ignore[assignment]
    assert world.believe(world.believe(told)) == []
    assert record(world, lead).rep == other(world, rep)
    world.check([lead])
