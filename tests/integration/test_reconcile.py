"""Reconciliation, on moto and a portal whose webhooks nobody got."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import boto3
import pytest

from fairturn.edges.hubspot.client import Filter
from fairturn.rules.events import Kind, Message
from fairturn.rules.missed import LOOK_EVERY, NOTICED_WITHIN, OVERLAP, Cause, Watermark
from fairturn.rules.policy import OWNER
from fairturn.rules.record import UNSEEN_FOR, State, milliseconds
from fairturn.settings import settings
from fairturn_sandbox.faults import BAD_GATEWAY, SECONDLY, Lies
from tests.integration.audit import audit, read
from tests.integration.test_alarms import Watch, watching
from tests.integration.world import ROTA, World, deadline

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mypy_boto3_dynamodb import DynamoDBClient

    from fairturn.steps.reconcile import Strays

SEARCH = ("POST", "/crm/v3/objects/contacts/search")
CLOSED = {"closed": [{"property": "hs_lead_status", "reaches": ["UNQUALIFIED"]}]}


@pytest.fixture
def world(dynamodb: DynamoDBClient) -> Iterator[World]:
    with World(dynamodb, "fairturn", leads=CLOSED) as world:
        yield world


def look(world: World, *, back: int = OVERLAP, **how: Any) -> Strays:
    """Look at all that changed within so many milliseconds."""
    at = milliseconds(world.at)
    looked, found = world.reconciliation().look(Watermark(at, at - back), deadline(50), **how)
    assert looked.done
    return found


def tell(world: World) -> None:
    """Let track take what was found, and assign what track passes on."""
    world.later(1)
    assert world.believe(world.passed_on("changes")) == []
    left = world.assign.take(world.passed_on())
    if left:  # what was deleted once has to be shown for long
        world.later(UNSEEN_FOR / 1000)
        left = world.assign.take(left)
    assert left == []


def reconcile(world: World) -> dict[Cause, int]:
    found = look(world)
    tell(world)
    return dict(found.causes)


def late(world: World) -> None:
    """Let the time pass in which a webhook may still come."""
    world.later(NOTICED_WITHIN / 1000 + 1)


def assigned(world: World, number: int = 1) -> list[str]:
    """Leads that reps have."""
    leads = world.arrive(number)
    assert world.take(leads) == []
    return leads


def in_order(world: World, leads: list[str]) -> None:
    world.check(leads)
    audit(read(world.dynamodb, "fairturn", world.store))
    assert look(world).causes == {}


def test_a_lead_of_which_no_webhook_came_gets_an_owner(world: World) -> None:
    leads = world.arrive(4)
    late(world)
    assert reconcile(world) == {Cause.CREATED: 4}
    assert world.states(leads) == {"handed": 4}
    in_order(world, leads)


def test_what_was_created_a_moment_ago_is_left_to_its_webhook(world: World) -> None:
    world.arrive(2)
    assert look(world).messages == {}


def test_where_nothing_was_missed_nothing_is_sent(world: World) -> None:
    leads = assigned(world, 3)
    late(world)
    found = look(world)
    assert (found.contacts, len(found.messages)) == (3, 0)
    assert world.passed_on("changes") == []
    in_order(world, leads)


def test_a_found_lead_that_its_webhook_still_brings_is_given_once(world: World) -> None:
    (lead,) = world.arrive()
    late(world)
    assert look(world).causes == {Cause.CREATED: 1}
    assert world.take([lead]) == []
    tell(world)
    assert world.loads().keys() == {world.owner(lead)}
    in_order(world, [lead])


def test_a_dry_run_tells_and_sends_nothing(world: World) -> None:
    world.arrive()
    late(world)
    assert look(world, dry_run=True).causes == {Cause.CREATED: 1}
    assert world.passed_on("changes") == []


@pytest.mark.parametrize("keep_owner", [True, False])
def test_a_contact_of_before_counts_in_its_owners_load(world: World, keep_owner: bool) -> None:  # noqa: FBT001
    (old,) = world.arrive(hubspot_owner_id=world.reps[1])
    world.later(10 * 24 * 3600)
    world.apply(leads={"keep_owner": keep_owner})
    world.portal.change(old, {"city": "Lyon"})
    late(world)
    assert reconcile(world) == {Cause.OWNER: 1}
    assert world.loads() == {world.reps[1]: 1}
    assert world.owner(old) == world.reps[1]
    in_order(world, [old])


def test_a_contact_of_before_that_nobody_has_is_no_new_lead(world: World) -> None:
    (old,) = world.arrive()
    world.later(10 * 24 * 3600)
    world.portal.change(old, {"city": "Lyon"})
    late(world)
    assert look(world).causes == {}


def test_an_old_contact_that_reaches_the_stage_of_a_lead_gets_an_owner(world: World) -> None:
    world.apply(leads={"when": {"property": "lifecyclestage", "reaches": ["lead"]}})
    (old,) = world.arrive()
    world.later(10 * 24 * 3600)
    world.portal.change(old, {"lifecyclestage": "lead"})
    late(world)
    assert reconcile(world) == {Cause.CREATED: 1}
    assert world.states([old]) == {"handed": 1}


def test_whoever_owns_a_new_contact_keeps_it_even_where_owners_are_not_kept(world: World) -> None:
    """After a restore it may be one that we have given to them."""
    world.apply(leads={"keep_owner": False})
    (lead,) = world.arrive(hubspot_owner_id=world.reps[2])
    late(world)
    assert reconcile(world) == {Cause.OWNER: 1}
    assert (world.owner(lead), world.loads()) == (world.reps[2], {world.reps[2]: 1})


def test_a_lead_that_reopens_is_judged_by_the_source_that_brought_it(world: World) -> None:
    only_forms = {"name": "others", "when": [{"not": {"source": ["FORM"]}}], "ignore": "no form"}
    world.apply(leads=CLOSED, rules=[only_forms])
    (lead,) = assigned(world)
    world.portal.change(lead, {"hs_lead_status": "UNQUALIFIED", OWNER: ""})
    late(world)
    reconcile(world)
    world.portal.change(lead, {"hs_lead_status": "NEW"})
    late(world)
    assert reconcile(world) == {Cause.REOPENED: 1}
    assert world.states([lead]) == {"handed": 1}


def test_what_a_rule_ignores_is_no_stray(world: World) -> None:
    world.apply(rules=[{"name": "spam", "when": [{"property": "city", "equals": "Nowhere"}], "ignore": "spam"}])
    world.arrive(city="Nowhere")
    late(world)
    assert look(world).causes == {}


def test_an_import_that_no_rule_asks_for_is_no_stray(world: World) -> None:
    world.portal.create_contact({"email": "imported@example.com"}, source="IMPORT")
    late(world)
    assert look(world).causes == {}


def test_found_leads_of_an_import_are_held_back_when_they_are_a_flood(world: World) -> None:
    imports = {"name": "imports", "when": [{"source": ["IMPORT"]}], "rota": ROTA}
    world.apply(rules=[imports], flood={"leads": 2, "minutes": 10})
    for number in range(3):
        world.portal.create_contact({"email": f"imported{number}@example.com"}, source="IMPORT")
    late(world)
    assert reconcile(world) == {Cause.CREATED: 3}
    assert world.store.brake().is_pulled(world.version)


def test_a_new_owner_of_whom_nobody_told_takes_the_load_over(world: World) -> None:
    (lead,) = assigned(world)
    other = next(rep for rep in world.reps if rep != world.owner(lead))
    world.later(3600)
    world.portal.change(lead, {OWNER: other})
    late(world)
    assert reconcile(world) == {Cause.OWNER: 1}
    assert world.loads() == {other: 1}
    in_order(world, [lead])


def test_an_owner_that_was_taken_away_unnoticed_is_noticed(world: World) -> None:
    (lead,) = assigned(world)
    world.later(3600)
    world.portal.change(lead, {OWNER: ""})
    late(world)
    assert reconcile(world) == {Cause.OWNER: 1}
    assert world.states([lead]) == {"unowned": 1}


def test_a_lead_that_was_closed_and_reopened_unnoticed_is_followed(world: World) -> None:
    (lead,) = assigned(world)
    world.later(3600)
    world.portal.change(lead, {"hs_lead_status": "UNQUALIFIED", OWNER: ""})
    late(world)
    assert reconcile(world) == {Cause.CLOSED: 1}
    assert world.states([lead]) == {"closed": 1}
    assert world.loads() == {}
    late(world)
    world.portal.change(lead, {"hs_lead_status": "NEW"})
    late(world)
    assert reconcile(world) == {Cause.REOPENED: 1}
    assert world.states([lead]) == {"handed": 1}
    in_order(world, [lead])


def test_a_merge_of_which_nobody_told_carries_the_lead_on(world: World) -> None:
    first, second = assigned(world, 2)
    world.later(3600)
    survivor = world.portal.merge(first, second)
    world.portal.change(survivor, {"city": "Lyon"})
    late(world)
    assert reconcile(world) == {Cause.MERGED: 1}
    assert world.states([first, second]) == {"gone": 2}
    assert world.loads() == {world.owner(survivor): 1}
    in_order(world, [survivor])


def test_a_contact_that_was_restored_unnoticed_is_given_again(world: World) -> None:
    (lead,) = assigned(world)
    world.portal.delete(lead)
    world.later(60)
    world.follow(lead, kind=Kind.DELETION)
    assert world.states([lead]) == {"gone": 1}
    world.portal.restore(lead)
    world.portal.change(lead, {OWNER: ""})
    late(world)
    assert reconcile(world) == {Cause.REOPENED: 1}
    assert world.states([lead]) == {"handed": 1}


def test_an_erased_lead_stays_erased(world: World) -> None:
    (lead,) = assigned(world)
    world.later(60)
    world.follow(lead, kind=Kind.PRIVACY_DELETION)
    assert world.states([lead]) == {"erased": 1}
    world.portal.change(lead, {"city": "Lyon"})
    late(world)
    assert look(world).causes == {}


def test_in_observe_nothing_is_counted_that_was_not_before(world: World) -> None:
    world.apply(mode="observe")
    (lead,) = world.arrive(hubspot_owner_id=world.reps[0])
    late(world)
    assert look(world).causes == {}
    assert world.states([lead]) == {"absent": 1}


def test_a_record_that_cannot_be_read_does_not_hold_up_the_others(world: World) -> None:
    first, second = world.arrive(2)
    item: Any = {"pk": {"S": f"LEAD#contact#{first}"}, "sk": {"S": "RECORD"}, "state": {"S": "unheard of"}}
    world.dynamodb.put_item(TableName="fairturn", Item=item)
    late(world)
    found = look(world)
    assert [message.id for message in found.messages] == [second]


def test_a_look_goes_on_page_by_page_beyond_ten_thousand(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fairturn.steps.reconcile.PAGE", 2)
    monkeypatch.setattr("fairturn_sandbox.portal_api.SEARCH_CAP", 3)  # all pages together, as HubSpot counts them
    leads = world.arrive(7)
    late(world)
    found = look(world)
    assert sorted(message.id for message in found.messages) == sorted(leads)
    assert found.contacts == 7
    assert world.portal.calls[SEARCH] == 4


def test_a_look_that_comes_to_no_end_in_time_goes_on_where_it_was(world: World) -> None:
    leads = world.arrive(3)
    late(world)
    at = milliseconds(world.at)
    begun = Watermark(at, at - OVERLAP, beyond=leads[0])
    looked, found = world.reconciliation().look(begun, deadline(50))
    assert looked.done
    assert {message.id for message in found.messages} == set(leads[1:])
    unbegun, found = world.reconciliation().look(begun, deadline(5))
    assert unbegun == begun
    assert found.contacts == 0


def test_between_two_searches_there_is_a_second(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(world.crm, "_sleep", pauses.append)
    for _ in range(3):
        world.crm.search("contact", [[Filter("email", "EQ", "nobody@example.com")]], deadline(50))
    assert pauses == [1.0, 1.0]
    world.later(1)
    world.crm.search("contact", [[Filter("email", "EQ", "nobody@example.com")]], deadline(50))
    assert len(pauses) == 2


# Sweep looks


def test_sweep_looks_every_quarter_of_an_hour(world: World) -> None:
    for minute in range(46):
        world.sweep.run()
        assert world.portal.calls[SEARCH] == 1 + minute // 15
        world.later(60)


def test_a_lost_webhook_is_made_up_for_by_the_next_sweeps(world: World) -> None:
    world.sweep.run()
    (lead,) = world.arrive()
    for _ in range(21):
        world.later(60)
        world.sweep.run()
        tell(world)
    assert world.states([lead]) == {"handed": 1}


def test_what_searches_lack_or_show_late_is_found_by_a_later_look(world: World) -> None:
    world.sweep.run()
    world.portal.lies = Lies(stale=0.5, lag=300, partial=0.5)
    leads = world.arrive(20)
    for _ in range(75):
        world.later(60)
        world.sweep.run()
        world.later(1)
        left = world.passed_on("changes")
        for _ in range(30):
            left = world.track.take(left)
            if not left:
                break
            world.later(61)
        left = world.passed_on()
        for _ in range(30):
            left = world.assign.take(left)
            if not left:
                break
            world.later(61)
    world.portal.lies = Lies()
    assert all(world.owner(lead) for lead in leads)
    world.check(leads)


def test_a_look_goes_back_to_before_the_last_one_began() -> None:
    last = Watermark(began_at=10 * LOOK_EVERY, since=0, beyond="77", done=True)
    assert last.next(11 * LOOK_EVERY) == Watermark(began_at=11 * LOOK_EVERY, since=10 * LOOK_EVERY - OVERLAP)


def test_a_day_without_sweeps_is_looked_at_from_its_beginning(world: World) -> None:
    world.sweep.run()
    leads = world.arrive(2)
    world.later(24 * 3600)
    world.sweep.run()
    tell(world)
    assert world.states(leads) == {"handed": 2}


def test_no_look_begins_while_the_queues_are_full(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fairturn.sweep.MOST_QUEUED", 2)
    world.sweep.run()
    world.later(LOOK_EVERY / 1000)
    for _ in range(3):
        body = Message(id="1", kinds=(Kind.CREATION,), occurred_at=1, change_source="FORM").body()
        world.sqs.send_message(QueueUrl=world.sqs.get_queue_url(QueueName="leads")["QueueUrl"], MessageBody=body)
    world.sweep.run()
    assert world.portal.calls[SEARCH] == 1
    world.passed_on()
    world.later(60)
    world.sweep.run()
    assert world.portal.calls[SEARCH] == 2


def test_while_hubspot_searches_in_vain_the_look_is_made_by_the_next_run(world: World) -> None:
    world.arrive()
    late(world)
    world.portal.faults.extend([SECONDLY, SECONDLY, SECONDLY])
    world.store.put_roster([], milliseconds(world.at))  # so that the owners are not read now
    world.sweep.run()
    assert world.store.watermark() is None
    world.portal.faults.extend([BAD_GATEWAY])
    world.sweep.run()
    last = world.store.watermark()
    assert last is not None
    assert last.done


def test_a_claim_is_never_taken_for_a_stray(world: World) -> None:
    (lead,) = world.arrive()
    world.portal.down(milliseconds(world.at) + 600_000)
    assert len(world.take([lead])) == 1
    late(world)
    record = world.record(lead)
    assert record is None or record.state is not State.HANDED


# The whole, in the simulator


def lose_one(watch: Watch) -> None:
    """The webhook of one lead never comes."""
    lead = watch.arrive()
    assert watch.portal.deliver(lambda _: 200) == 1
    assert watch.owner(lead) is None


def lose_a_day(watch: Watch) -> None:
    """For more than a day HubSpot reaches nobody, and so gives up what it had to tell."""
    watch.portal.webhooks.url += "x"
    for hour in range(26):
        watch.is_quiet = hour % 4 > 0
        watch.go_on(60, stride=30)
    assert watch.portal.webhooks.lost
    watch.portal.webhooks.url = watch.portal.webhooks.url[:-1]


def lack_creations(watch: Watch) -> None:
    """The app has no subscription to new contacts."""
    watch.portal.webhooks.unsubscribe("creation")
    watch.go_on(30)


@pytest.mark.parametrize("happens", [lose_one, pytest.param(lose_a_day, marks=pytest.mark.exhaustive), lack_creations])
def test_whatever_webhooks_are_lost_no_lead_stays_without_an_owner(happens: Callable[[Watch], None]) -> None:
    with watching() as watch:
        watch.go_on(10)
        happens(watch)
        watch.is_quiet = True
        watch.go_on(60)
        assert watch.leads
        assert [lead for lead in watch.leads if watch.owner(lead) is None] == []
        audit(read(boto3.client("dynamodb"), settings().table, watch.store))
        assert sum(watch.store.loads().values()) == len(watch.leads)
