"""What is done every minute: waiting leads, late claims, HubSpot's owners."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from fairturn.errors import HubSpotUnavailable, TableUnavailable
from fairturn.events import Kind
from fairturn.record import State, milliseconds
from fairturn.store import HELD_BACK, MAX_RECORDS, due_lane
from fairturn.sweep import MAX_BATCHES
from tests.integration.audit import audit, read
from tests.integration.world import ROTA, World

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_dynamodb import DynamoDBClient

    from fairturn.record import Record

READ = ("POST", "/crm/v3/objects/<type>/batch/read")
UPDATE = ("POST", "/crm/v3/objects/<type>/batch/update")
OWNERS = ("GET", "/crm/v3/owners")


@pytest.fixture
def world(dynamodb: DynamoDBClient) -> Iterator[World]:
    with World(dynamodb, "fairturn") as world:
        yield world
        audit(read(dynamodb, "fairturn", world.store))


def change(world: World, **policy: Any) -> None:
    """Put a policy into force, and wait until everybody sees it."""
    world.apply(**policy)
    world.later(31)


def record(world: World, lead: str) -> Record:
    found = world.record(lead)
    assert found is not None
    return found


def full(world: World, room: int = 0) -> dict[str, Any]:
    """Reps of whom only the first has any room."""
    first, *others = world.reps
    return {first: {"capacity": room}, **{rep: {"capacity": 0} for rep in others}}


def east_and_west(world: World) -> dict[str, Any]:
    """Two rotas, one lane each: the first rep's, and for leads from California that of the others."""
    one, two, three = world.reps
    return {
        "rotas": {"east": {"members": [one]}, "west": {"members": [two, three]}},
        "rules": [{"name": "west", "when": [{"property": "state", "equals": "CA"}], "rota": "west"}],
        "otherwise": {"rota": "east"},
    }


# Waiting leads


def test_a_waiting_lead_is_allotted_as_soon_as_somebody_can_take_it(world: World) -> None:
    change(world, reps=full(world))
    (lead,) = world.arrive()
    world.take([lead])
    world.sweep.run()
    waiting = record(world, lead)
    assert (waiting.state, waiting.rev) == (State.WAITING, 1)
    change(world)
    world.sweep.run()
    assert record(world, lead).state is State.HANDED
    world.check([lead])


def test_a_lane_that_nobody_can_serve_costs_no_look_at_its_leads(world: World) -> None:
    change(world, reps=full(world))
    world.take(world.arrive(5))
    world.sweep.run()
    world.portal.calls.clear()
    world.later(60)
    world.sweep.run()
    assert world.portal.calls == {}


def test_leads_that_wait_on_as_before_cost_no_write(world: World) -> None:
    change(world, reps=full(world, room=1))
    leads = world.arrive(3)
    world.take(leads)
    assert world.states(leads) == {"handed": 1, "waiting": 2}
    change(world, reps=full(world, room=2))
    world.sweep.run()
    assert world.states(leads) == {"handed": 2, "waiting": 1}
    (left,) = [lead for lead in leads if record(world, lead).state is State.WAITING]
    assert record(world, left).rev == 1


def test_the_most_urgent_leads_come_first_and_then_the_oldest(world: World) -> None:
    rules = [{"name": "hot", "when": [{"property": "message", "contains": "demo"}], "rota": ROTA, "priority": "urgent"}]
    change(world, reps=full(world), rules=rules)
    calm, old, hot = *world.arrive(), *world.arrive(), *world.arrive(message="demo")
    world.take([calm], ago=20)
    world.take([old], ago=30)
    world.take([hot], ago=10)
    for room, states in ((1, [State.WAITING, State.WAITING]), (2, [State.WAITING, State.HANDED])):
        change(world, reps=full(world, room=room), rules=rules)
        world.sweep.run()
        assert record(world, hot).state is State.HANDED
        assert [record(world, calm).state, record(world, old).state] == states


def test_a_blocked_lane_starves_no_other(world: World) -> None:
    one, two, three = world.reps
    policy = east_and_west(world)
    nobody = {one: {"capacity": 0}, two: {"capacity": 0}, three: {"capacity": 0}}
    change(world, reps=nobody, **policy)
    east, west = world.arrive(120), world.arrive(2, state="CA")
    for start in (0, 97):
        world.take(east[start : start + 97])
    world.take(west)
    change(world, reps=nobody | {two: None}, **policy)
    world.sweep.run()
    assert world.states(west) == {"handed": 2}
    assert world.states(east) == {"waiting": 120}


def test_a_waiting_lead_is_read_and_routed_anew(world: World) -> None:
    one, two, three = world.reps
    closed = [{"property": "hs_lead_status", "reaches": ["UNQUALIFIED"]}]
    change(world, reps=full(world), leads={"closed": closed})
    moved, owned, ignored, closed_, deleted, left = leads = world.arrive(6)
    world.take(leads)
    world.portal.change(moved, {"state": "CA"})
    world.portal.change(owned, {"hubspot_owner_id": two})
    world.portal.change(ignored, {"jobtitle": "student"})
    world.portal.change(closed_, {"hs_lead_status": "UNQUALIFIED"})
    world.portal.delete(deleted)
    change(
        world,
        rotas={ROTA: {"members": [one, two]}, "west": {"members": [three]}},
        leads={"closed": closed},
        rules=[
            {"name": "students", "when": [{"property": "jobtitle", "equals": "student"}], "ignore": "no buyer"},
            {"name": "west", "when": [{"property": "state", "equals": "CA"}], "rota": "west"},
        ],
    )
    world.sweep.run()
    assert (record(world, moved).state, record(world, moved).rota) == (State.HANDED, "west")
    assert (record(world, owned).state, record(world, owned).rep) == (State.ELSEWHERE, two)
    assert (record(world, ignored).state, record(world, ignored).reason) == (State.CLOSED, "no buyer")
    assert record(world, closed_).state is State.CLOSED
    assert record(world, deleted).state is State.GONE
    assert record(world, left).state is State.HANDED
    world.check([moved, owned, left])


def test_leads_that_wait_in_a_lane_which_the_policy_names_no_more_are_routed_anew(world: World) -> None:
    one, two, three = world.reps
    change(world, reps=full(world))
    (lead,) = world.arrive()
    world.take([lead])
    change(world, rotas={"renamed": {"members": [one, two, three]}}, otherwise={"rota": "renamed"})
    world.sweep.run()
    assert (record(world, lead).state, record(world, lead).rota) == (State.HANDED, "renamed")


def test_a_merged_waiting_lead_comes_again_under_its_new_id(world: World) -> None:
    change(world, reps=full(world))
    lead, contact = world.arrive(2)
    world.take([lead])
    survivor = world.portal.merge(lead, contact)
    change(world)
    world.sweep.run()
    assert record(world, lead).merged_into == survivor
    world.assign.take(world.passed_on())
    assert record(world, survivor).state is State.HANDED


@pytest.mark.parametrize("mode", ["pause", "observe"])
def test_nothing_is_allotted_while_the_mode_is_not_live(world: World, mode: str) -> None:
    change(world, reps=full(world))
    (lead,) = world.arrive()
    world.take([lead])
    change(world, mode=mode)
    world.sweep.run()
    assert record(world, lead).state is State.WAITING


def test_what_was_paused_is_allotted_when_the_mode_is_live_again(world: World) -> None:
    change(world, mode="pause")
    leads = world.arrive(3)
    world.take(leads)
    assert world.states(leads) == {"waiting": 3}
    change(world)
    world.sweep.run()
    assert world.states(leads) == {"handed": 3}


def test_a_run_takes_lane_by_lane_page_by_page(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fairturn.sweep.MAX_RECORDS", 7)
    change(world, mode="pause")
    leads = world.arrive(17)
    world.take(leads)
    change(world)
    world.sweep.run()
    assert world.states(leads) == {"handed": 17}


def test_the_work_of_a_run_is_bounded_and_the_next_one_goes_on(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    assert MAX_BATCHES * MAX_RECORDS <= 1_000
    monkeypatch.setattr("fairturn.sweep.MAX_BATCHES", 2)
    monkeypatch.setattr("fairturn.sweep.MAX_RECORDS", 5)
    change(world, mode="pause")
    leads = world.arrive(12)
    world.take(leads)
    change(world)
    world.sweep.run()
    assert world.states(leads)["handed"] == 10
    world.sweep.run()
    assert world.states(leads) == {"handed": 12}


def test_each_run_begins_with_another_lane(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fairturn.sweep.MAX_BATCHES", 1)
    monkeypatch.setattr("fairturn.sweep.MAX_RECORDS", 2)
    policy = east_and_west(world)
    change(world, mode="pause", **policy)
    east, west = world.arrive(4), world.arrive(4, state="CA")
    world.take([*east, *west])
    change(world, **policy)
    for _ in range(6):  # of three lanes, that of the bulk sources has nothing to give
        world.sweep.run()
        world.later(60)
    assert world.states([*east, *west]) == {"handed": 8}


def test_a_lead_that_hubspot_shows_but_does_not_find_holds_up_no_other(world: World) -> None:
    change(world, mode="pause")
    lost, *others = world.arrive(4)
    world.take([lost, *others])
    change(world)
    read_contacts = world.crm.read
    stale = read_contacts("contact", [lost], ["email", "hubspot_owner_id"]).records[lost]
    world.portal.delete(lost)

    def behind(*arguments: Any) -> Any:
        found = read_contacts(*arguments)
        return replace(found, records={**found.records, lost: stale})

    world.crm.read = behind  # type: ignore[assignment]
    world.sweep.run()
    assert world.states(others) == {"handed": 3}
    assert record(world, lost).state is State.WAITING
    world.crm.read = read_contacts  # type: ignore[method-assign]
    world.sweep.run()
    assert record(world, lost).state is State.GONE


def test_no_batch_begins_when_a_run_has_lasted_for_long(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fairturn.sweep.MAX_RECORDS", 5)
    policy = east_and_west(world)
    change(world, mode="pause", **policy)
    east, west = world.arrive(5), world.arrive(5, state="CA")
    world.take(east)
    world.take(west)
    change(world, **policy)
    read_contacts = world.crm.read

    def slow(*arguments: Any) -> Any:
        world.later(21)
        return read_contacts(*arguments)

    world.crm.read = slow  # type: ignore[assignment]
    world.sweep.run()
    assert sorted([world.states(east)["handed"], world.states(west)["handed"]]) == [0, 5]


def test_two_runs_at_once_do_no_harm(world: World) -> None:
    change(world, mode="pause")
    leads = world.arrive(6)
    world.take(leads)
    change(world)
    claim = world.store.claim

    def meanwhile(*arguments: Any, **more: Any) -> None:
        world.store.claim = claim  # type: ignore[method-assign]
        world.sweeper().run()
        claim(*arguments, **more)

    world.store.claim = meanwhile  # type: ignore[method-assign]
    world.sweep.run()
    assert world.states(leads) == {"handed": 6}
    assert sorted(world.loads().values()) == [2, 2, 2]
    world.check(leads)


def test_while_hubspot_is_down_waiting_leads_wait_and_nothing_else_happens(world: World) -> None:
    change(world, mode="pause")
    leads = world.arrive(2)
    world.take(leads)
    change(world)
    world.portal.down(milliseconds(world.at) + 60_000)
    world.sweep.run()
    assert world.states(leads) == {"waiting": 2}
    world.later(61)
    world.sweep.run()
    assert world.states(leads) == {"handed": 2}


def test_what_waits_is_told_while_hubspot_is_down_too(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    change(world, mode="pause")
    world.take(world.arrive(2))
    change(world)
    world.portal.down(milliseconds(world.at) + 60_000)
    capsys.readouterr()
    world.sweep.run()
    assert '"LeadsDue":[2.0]' in gauges(capsys.readouterr().out, "LeadsDue")[0]


def test_a_late_claim_that_cannot_be_finished_holds_up_no_waiting_lead(world: World) -> None:
    late = stuck(world)
    change(world, mode="pause")
    (lead,) = world.arrive()
    world.take([lead])
    change(world)
    world.later(901)
    bookings = world.store.journal

    def failing(rota: str, version: int) -> Any:
        world.store.journal = bookings  # type: ignore[method-assign]
        raise TableUnavailable(f"throttled at {rota} {version}")

    world.store.journal = failing  # type: ignore[method-assign]
    world.sweep.run()
    assert record(world, late).state is State.CLAIMED
    assert record(world, lead).state is State.HANDED


def test_a_lead_that_hubspot_refuses_goes_through_the_queue_to_the_dead_letters(world: World) -> None:
    change(world, mode="pause")
    (lead,) = world.arrive()
    world.take([lead])
    world.portal.refuse_owners(lead, "a rule of an administrator")
    change(world)
    world.sweep.run()
    assert record(world, lead).state is State.WAITING
    assert world.dead_letters() == []
    assert world.assign.take(world.passed_on()) == []
    assert record(world, lead).state is State.REFUSED
    (letter,) = world.dead_letters()
    assert letter["stage"] == "assign"
    assert all(not units for row in world.balances().values() for units in row.values())


# Claims never handed over


def stuck(world: World, **properties: str) -> str:
    """A lead that is claimed and whose message is no more."""
    (lead,) = world.arrive(1, **properties)
    write = world.crm.write_owners

    def failing(*_: Any) -> Any:
        raise HubSpotUnavailable("down")

    world.crm.write_owners = failing  # type: ignore[assignment]
    world.take([lead])
    world.crm.write_owners = write  # type: ignore[method-assign]
    assert record(world, lead).state is State.CLAIMED
    return lead


def test_a_claim_that_was_never_handed_over_is_finished_after_fifteen_minutes(world: World) -> None:
    lead = stuck(world)
    world.later(899)
    world.sweep.run()
    assert record(world, lead).state is State.CLAIMED
    world.later(2)
    world.sweep.run()
    assert record(world, lead).state is State.HANDED
    world.check([lead])


@pytest.mark.parametrize("mode", ["pause", "observe"])
def test_a_late_claim_is_finished_in_every_mode(world: World, mode: str) -> None:
    lead = stuck(world)
    world.apply(mode=mode)
    world.later(901)
    world.sweep.run()
    assert record(world, lead).state is State.HANDED


def test_a_late_claim_is_undone_where_somebody_else_has_the_lead_by_now(world: World) -> None:
    before = world.balances()
    lead = stuck(world)
    world.portal.change(lead, {"hubspot_owner_id": world.reps[2]})
    world.later(901)
    world.sweep.run()
    assert (record(world, lead).state, record(world, lead).rep) == (State.ELSEWHERE, world.reps[2])
    assert world.balances() == before
    world.check([lead])


def test_a_late_claim_for_a_rep_who_has_left_goes_to_another(world: World) -> None:
    lead = stuck(world)
    rep = record(world, lead).rep or ""
    world.portal.deactivate_owner(rep)
    world.later(901)
    world.sweep.run()
    assert record(world, lead).state is State.HANDED
    assert record(world, lead).rep not in {rep, None}
    world.check([lead])


# Owners


def test_a_deactivated_owner_gets_no_lead_after_the_owners_were_refreshed(world: World) -> None:
    gone, *others = world.reps
    world.portal.deactivate_owner(gone)
    world.later(301)
    world.sweep.run()
    world.later(31)
    leads = world.arrive(4)
    world.take(leads)
    assert {world.owner(lead) for lead in leads} == set(others)


def test_owners_are_refreshed_every_five_minutes_and_not_more_often(world: World) -> None:
    world.later(301)
    world.sweep.run()
    for _ in range(4):
        world.portal.calls.clear()
        world.later(60)
        world.sweep.run()
        assert OWNERS not in world.portal.calls
    world.later(61)
    world.sweep.run()
    assert world.portal.calls[OWNERS] == 2


def test_an_owner_who_was_refused_gets_another_chance_with_the_next_refresh(world: World) -> None:
    world.store.mark_unavailable(world.reps[0])
    world.later(301)
    world.sweep.run()
    assert not world.store.pointer().owners[world.reps[0]].unavailable


def test_owners_whom_no_policy_ever_named_are_not_stored(world: World) -> None:
    stranger = world.portal.add_owner("stranger@example.com")
    world.later(301)
    world.sweep.run()
    assert world.store.pointer().owners.keys() == set(world.reps)
    assert stranger not in world.store.pointer().owners


def test_a_refresh_does_not_undo_a_policy_applied_meanwhile(world: World) -> None:
    owners = world.crm.owners
    later = world.portal.add_owner("later@example.com")

    def meanwhile() -> Any:
        world.reps.append(later)
        world.crm.owners = owners  # type: ignore[method-assign]
        found = owners()
        world.apply()
        world.store.put_roster(found, milliseconds(world.at))
        return found

    world.crm.owners = meanwhile  # type: ignore[method-assign]
    world.later(301)
    world.sweep.run()
    assert later in world.store.pointer().owners


def test_if_the_owners_cannot_be_refreshed_the_rest_is_done_all_the_same(world: World) -> None:
    change(world, mode="pause")
    (lead,) = world.arrive()
    world.take([lead])
    world.apply()

    def failing() -> Any:
        raise HubSpotUnavailable("the token lacks a scope")

    world.crm.owners = failing  # type: ignore[method-assign]
    world.later(301)
    world.sweep.run()
    assert record(world, lead).state is State.HANDED


# What those who run it are told


def gauges(output: str, name: str) -> list[str]:
    return [line for line in output.splitlines() if f'"{name}":[' in line]


def test_waiting_leads_are_counted_in_all_and_by_rota(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    change(world, reps=full(world))
    world.take(world.arrive(3))
    capsys.readouterr()
    world.sweep.run()
    in_all, by_rota = gauges(capsys.readouterr().out, "LeadsDue")
    assert '"LeadsDue":[3.0]' in in_all
    assert '"LeadsDue":[3.0]' in by_rota
    assert f'"rota":"{ROTA}"' in by_rota


@pytest.mark.parametrize(("mode", "metric"), [("pause", "PolicyPaused"), ("observe", "PolicyObserving")])
def test_a_mode_that_is_not_live_is_told_every_minute(
    world: World, capsys: pytest.CaptureFixture[str], mode: str, metric: str
) -> None:
    world.sweep.run()
    assert gauges(capsys.readouterr().out, metric) == []
    change(world, mode=mode)
    world.sweep.run()
    assert len(gauges(capsys.readouterr().out, metric)) == 1


def test_a_pulled_brake_is_told_every_minute(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    rules = [{"name": "imports", "when": [{"source": ["IMPORT"]}], "rota": ROTA}]
    change(world, flood={"leads": 1, "minutes": 10}, rules=rules)
    leads = world.arrive(2)
    world.follow(*leads, kind=Kind.CREATION, source="IMPORT")
    assert len(world.store.due(HELD_BACK, 10)) == 2
    capsys.readouterr()
    world.sweep.run()
    output = capsys.readouterr().out
    assert len(gauges(output, "BulkPaused")) == 1
    assert '"LeadsDue":[2.0]' in gauges(output, "LeadsDue")[0]


def test_without_a_policy_a_run_says_so_and_does_nothing(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.dynamodb.delete_item(TableName="fairturn", Key={"pk": {"S": "POLICY"}, "sk": {"S": "CURRENT"}})
    world.sweep.run()
    assert len(gauges(capsys.readouterr().out, "PolicyMissing")) == 1


def test_a_run_with_nothing_to_do_asks_hubspot_nothing_and_writes_nothing(world: World) -> None:
    world.sweep.run()
    world.portal.calls.clear()
    world.requests.clear()
    world.later(60)
    world.sweep.run()
    assert world.portal.calls == {}
    assert set(world.requests) == {"BatchGetItem", "Query"}
    assert world.requests["Query"] == 5  # late claims; the only lane and the bulk sources, to allot and to count
    assert world.store.due(due_lane(ROTA, "any"), 10) == []
