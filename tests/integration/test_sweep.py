"""What is done every minute: waiting leads, late claims, HubSpot's owners."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from fairturn.edges.items import HELD_BACK, UNSEEN, due_lane
from fairturn.edges.store import MAX_RECORDS
from fairturn.errors import HubSpotUnavailable, TableUnavailable
from fairturn.rules.events import Kind
from fairturn.rules.record import State, milliseconds
from fairturn.steps.claim import Undoing
from fairturn.sweep import MAX_BATCHES
from fairturn_sandbox.faults import BAD_GATEWAY, Fault, slow
from tests.integration.audit import audit, read
from tests.integration.world import ROTA, World, deadline

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_dynamodb import DynamoDBClient

    from fairturn.rules.record import Record

READ = ("POST", "/crm/v3/objects/contacts/batch/read")
UPDATE = ("POST", "/crm/v3/objects/contacts/batch/update")
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
    world.follow(deleted, kind=Kind.DELETION)
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
    assert (record(world, owned).state, record(world, owned).rep) == (State.EXTERNAL, two)
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
    stale = read_contacts("contact", [lost], ["email", "hubspot_owner_id"], deadline(9)).records[lost]
    world.portal.delete(lost)

    def behind(*arguments: Any) -> Any:
        found = read_contacts(*arguments)
        return replace(found, records={**found.records, lost: stale})

    world.crm.read = behind  # type: ignore[assignment]
    world.sweep.run()
    assert world.states(others) == {"handed": 3}
    assert record(world, lost).state is State.WAITING
    world.crm.read = read_contacts  # type: ignore[method-assign]
    world.later(901)
    world.sweep.run()
    (received,) = world.passed_on()  # what is not shown goes through the queue, which waits long enough for it
    assert world.assign.take([received]) == [received]
    world.later(901)
    assert world.assign.take([received]) == []
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


def test_leads_whose_handover_a_sweep_could_not_finish_are_taken_up_by_the_next(world: World) -> None:
    change(world, mode="pause")
    leads = world.arrive(5)
    world.take(leads)
    change(world)
    world.portal.faults.extend([*[usual()] * 3, *[BAD_GATEWAY] * 3])  # the owners, active and archived, and the leads
    world.sweep.run()
    assert world.states(leads) == {"claimed": 5}
    world.later(61)
    world.sweep.run()
    assert world.states(leads) == {"handed": 5}
    world.check(leads)


def test_leads_that_a_sweep_had_claimed_when_it_died_are_taken_up_by_the_next(world: World) -> None:
    change(world, mode="pause")
    leads = world.arrive(5)
    world.take(leads)
    change(world)
    write = world.crm.write_owners

    def dying(*_: Any) -> Any:
        world.crm.write_owners = write  # type: ignore[method-assign]
        raise KeyboardInterrupt

    world.crm.write_owners = dying  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt):
        world.sweep.run()
    assert world.states(leads) == {"claimed": 5}
    world.later(61)
    world.sweeper().run()
    assert world.states(leads) == {"handed": 5}
    world.check(leads)


def test_one_bad_lead_of_a_batch_goes_through_the_queue_and_the_others_are_allotted(world: World) -> None:
    change(world, mode="pause")
    leads = world.arrive(10)
    world.take(leads)
    change(world)
    bad = leads[4]
    explained = world.crm.read

    def failing(type_: str, ids: Any, *more: Any) -> Any:
        if bad in ids:
            raise KeyError("a text that is nobody's business")
        return explained(type_, ids, *more)

    world.crm.read = failing  # type: ignore[assignment]
    world.sweep.run()
    assert world.states(leads) == {"handed": 9, "waiting": 1}
    (received,) = world.passed_on()
    for _ in range(4):
        assert world.assign.take([received]) == [received]
    assert world.assign.take([received]) == []
    (letter,) = world.dead_letters()
    assert letter["reason"].startswith("failed 5 times, last with KeyError in ")
    assert "nobody's business" not in letter["reason"]
    world.later(60)
    world.sweep.run()  # what has been given up is not begun again every minute
    assert world.passed_on() == []


# Monday morning


def monday(world: World, *begins: str, **policy: Any) -> None:
    """Reps who begin at these times, all of them later than now."""
    hours = [{"zone": "UTC", "hours": {"mon": f"{begin}-18:00"}} for begin in begins]
    members = world.reps[: len(begins)]
    change(world, reps=dict(zip(members, hours, strict=True)), rotas={ROTA: {"members": members}}, **policy)


def got(world: World, leads: list[str]) -> list[int]:
    owners = Counter(world.owner(lead) for lead in leads)
    return [owners[rep] for rep in world.reps]


def test_reps_who_begin_within_a_minute_of_each_other_share_what_waited_over_night(dynamodb: DynamoDBClient) -> None:
    with World(dynamodb, "fairturn", reps=4) as world:
        monday(world, "09:10", "09:11", "09:11", "09:11")
        leads = world.arrive(120)
        for start in range(0, 120, 97):
            world.take(leads[start : start + 97])
        world.later(570)  # 09:10
        world.sweep.run()
        assert sum(got(world, leads)) <= 1
        world.later(60)
        world.sweep.run()
        assert all(abs(number - 30) <= 1 for number in got(world, leads))
        world.check(leads)
        audit(read(dynamodb, "fairturn", world.store))


def test_who_begins_alone_with_nobody_due_gets_what_waits_at_once(world: World) -> None:
    monday(world, "09:10", "10:00", "10:00")
    leads = world.arrive(30)
    world.take(leads)
    world.later(570)
    world.sweep.run()
    assert got(world, leads) == [30, 0, 0]


def test_nobody_waits_for_the_others_longer_than_the_policy_says(world: World) -> None:
    monday(world, "09:10", "09:24", "09:24", release="15m")
    leads = world.arrive(9)
    world.take(leads)
    world.later(570)
    world.sweep.run()
    assert sum(got(world, leads)) <= 1
    monday(world, "09:10", "09:27", "09:27", release="15m")  # they come later than they were due
    world.later(900)
    world.sweep.run()
    assert got(world, leads) == [9, 0, 0]


def test_without_a_release_and_for_urgent_leads_nobody_waits_for_anybody(world: World) -> None:
    urgent = [
        {"name": "hot", "when": [{"property": "message", "contains": "demo"}], "rota": ROTA, "priority": "urgent"}
    ]
    monday(world, "09:10", "09:11", "09:11", rules=urgent)
    calm, hot = world.arrive(4), world.arrive(4, message="a demo please")
    world.take([*calm, *hot])
    world.later(570)
    world.sweep.run()
    assert got(world, hot) == [4, 0, 0]
    assert sum(got(world, calm)) == 0
    monday(world, "09:10", "09:12", "09:12", release="0m")
    world.sweep.run()
    assert got(world, calm) == [4, 0, 0]


# Leads that HubSpot did not show


def test_a_lead_that_turns_up_after_an_hour_or_a_day_is_a_lead_like_any_other(world: World) -> None:
    hour, day, never = leads = world.arrive(3)
    seen, hidden = world.crm.read, set(leads)

    def hiding(*arguments: Any) -> Any:
        found = seen(*arguments)
        return replace(found, records={id_: each for id_, each in found.records.items() if id_ not in hidden})

    world.crm.read = hiding  # type: ignore[assignment]
    batch = world.received(leads)
    assert world.assign.take(batch) == batch
    world.later(901)
    assert world.assign.take(batch) == []
    assert world.states(leads) == {"gone": 3}
    hidden.remove(hour)
    world.later(3_590)
    world.sweep.run()
    assert world.states(leads) == {"gone": 3}
    world.later(11)
    world.sweep.run()
    assert record(world, hour).state is State.HANDED
    hidden.remove(day)
    world.later(3_600)
    world.sweep.run()
    assert record(world, day).state is State.GONE
    world.later(86_400)
    world.sweep.run()
    assert record(world, day).state is State.HANDED
    assert record(world, never).state is State.GONE
    assert world.store.due(UNSEEN, 10) == []
    world.check(leads)


# Claims never handed over


@contextmanager
def no_writes(world: World) -> Iterator[None]:
    """HubSpot takes no owner."""
    write = world.crm.write_owners

    def failing(*_: Any) -> Any:
        raise HubSpotUnavailable("down")

    world.crm.write_owners = failing  # type: ignore[assignment]
    yield
    world.crm.write_owners = write  # type: ignore[method-assign]


def stuck(world: World, **properties: str) -> str:
    """A lead that is claimed and whose message is no more."""
    (lead,) = world.arrive(1, **properties)
    with no_writes(world):
        world.take([lead])
    assert record(world, lead).state is State.CLAIMED
    return lead


def test_a_claim_that_was_never_handed_over_is_finished_after_a_minute(world: World) -> None:
    lead = stuck(world)
    world.later(59)
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


def unfinished(world: World) -> list[int]:
    """The claims that sweep still has to look at, by their versions."""
    return [version for _, version in world.store.unfinished(99)]


def test_a_claim_is_finished_with_its_handover(world: World) -> None:
    world.take(world.arrive(3))
    world.take(world.arrive())
    assert unfinished(world) == []


def test_a_claim_is_finished_when_somebody_else_has_one_of_its_leads_and_hubspot_refuses_another(world: World) -> None:
    taken, refused, third = world.arrive(3)
    world.portal.refuse_owners(refused, "a phone number is wanted first")
    read = world.crm.read

    def meanwhile(*arguments: Any) -> Any:
        found = read(*arguments)
        world.portal.change(taken, {"hubspot_owner_id": world.reps[2]})
        world.later(3)  # so the owner is read again before ours is written
        return found

    world.crm.read = meanwhile  # type: ignore[assignment]
    world.take([taken, refused, third])
    assert world.states([taken, refused, third]) == {"external": 1, "refused": 1, "handed": 1}
    assert unfinished(world) == []


def test_of_a_claim_that_was_handed_over_in_part_sweep_brings_the_rest_and_then_finishes_it(world: World) -> None:
    leads = world.arrive(3)
    write = world.crm.write_owners

    def partial(type_: str, writes: Any, deadline: Any) -> Any:
        written = write(type_, writes[:2], deadline)
        return replace(written, put_off={writes[2].id: HubSpotUnavailable("HubSpot did not get to it")})

    world.crm.write_owners = partial  # type: ignore[assignment]
    world.take(leads)
    world.crm.write_owners = write  # type: ignore[method-assign]
    assert world.states(leads) == {"handed": 2, "claimed": 1}
    handed = [record(world, lead) for lead in leads if record(world, lead).state is State.HANDED]
    world.later(61)
    world.sweep.run()
    assert world.states(leads) == {"handed": 3}
    assert [record(world, before.id) for before in handed] == handed
    world.later(61)
    world.portal.calls.clear()
    world.sweep.run()
    assert unfinished(world) == []
    assert READ not in world.portal.calls
    world.check(leads)


def test_a_claim_whose_message_brought_it_to_its_end_is_finished_by_sweep(world: World) -> None:
    lead = stuck(world)
    world.take([lead])
    assert record(world, lead).state is State.HANDED
    assert unfinished(world) == [1]
    world.later(61)
    world.sweep.run()
    assert unfinished(world) == []


def test_a_claim_that_could_not_be_finished_harms_nothing_and_is_finished_by_sweep(world: World) -> None:
    finish = world.store.finish

    def failing(rota: str, version: int, at: int) -> None:
        raise TableUnavailable(f"throttled at {rota} {version} {at}")

    world.store.finish = failing  # type: ignore[method-assign]
    leads = world.arrive(2)
    assert world.take(leads) == []
    assert world.states(leads) == {"handed": 2}
    world.store.finish = finish  # type: ignore[method-assign]
    world.later(61)
    world.sweep.run()
    assert unfinished(world) == []


def test_a_claim_whose_lead_is_claimed_anew_by_another_is_finished_and_leaves_it_to_that(world: World) -> None:
    lead = stuck(world)
    away = record(world, lead).rep or ""
    change(world, reps={**dict.fromkeys(world.reps), away: {"capacity": 0}})
    claimed = record(world, lead)
    at = milliseconds(world.at)
    world.services().claimer.undo([Undoing(claimed, claimed.waiting("it is undone", at))])
    world.later(50)
    change(world)
    assert stuck_again(world, lead) == 3  # the second version gave the first one's turn back
    assert unfinished(world) == [1, 3]
    world.later(20)
    world.sweep.run()
    assert unfinished(world) == [3]
    assert record(world, lead).state is State.CLAIMED
    world.later(61)
    world.sweep.run()
    assert record(world, lead).state is State.HANDED


def stuck_again(world: World, lead: str) -> int | None:
    """Let a lead be claimed and not handed over; the claim's version."""
    with no_writes(world):
        world.take([lead])
    return record(world, lead).claim


def test_a_late_claim_that_somebody_has_just_taken_up_is_left_to_them(world: World) -> None:
    lead = stuck(world)
    write = world.crm.write_owners

    def dying(*_: Any) -> Any:
        raise KeyboardInterrupt

    world.later(55)
    world.crm.write_owners = dying  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt):
        world.take([lead])
    world.crm.write_owners = write  # type: ignore[method-assign]
    world.later(10)
    world.portal.calls.clear()
    world.sweep.run()
    assert READ not in world.portal.calls
    world.later(51)
    world.sweep.run()
    assert record(world, lead).state is State.HANDED


def test_two_runs_at_once_finish_a_late_claim_once(world: World) -> None:
    lead = stuck(world)
    world.later(61)
    move = world.store.move

    def meanwhile(moves: Any) -> None:
        world.store.move = move  # type: ignore[method-assign]
        world.sweeper().run()
        move(moves)

    world.store.move = meanwhile  # type: ignore[method-assign]
    world.portal.calls.clear()
    world.sweep.run()
    assert record(world, lead).state is State.HANDED
    assert world.portal.calls[UPDATE] == 1
    for _ in range(2):
        world.later(61)
        world.sweep.run()
    assert unfinished(world) == []
    world.check([lead])


def test_what_cannot_be_read_of_a_late_claim_goes_through_the_queue_and_keeps_it_open(world: World) -> None:
    lead = stuck(world)
    put_state(world, lead, "paused")
    world.later(61)
    world.sweep.run()
    assert unfinished(world) == [1]
    assert [each.body for each in world.passed_on() if "UNKNOWN" in each.body] != []
    put_state(world, lead, "claimed")


def put_state(world: World, lead: str, state: str) -> None:
    world.dynamodb.update_item(
        TableName="fairturn",
        Key={"pk": {"S": f"LEAD#contact#{lead}"}, "sk": {"S": "RECORD"}},
        UpdateExpression="SET #state = :state",
        ExpressionAttributeNames={"#state": "state"},
        ExpressionAttributeValues={":state": {"S": state}},
    )


def test_a_late_claim_is_undone_where_somebody_else_has_the_lead_by_now(world: World) -> None:
    before = world.balances()
    lead = stuck(world)
    world.portal.change(lead, {"hubspot_owner_id": world.reps[2]})
    world.later(901)
    world.sweep.run()
    assert (record(world, lead).state, record(world, lead).rep) == (State.EXTERNAL, world.reps[2])
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


def test_an_owner_whom_the_policy_names_no_more_is_forgotten_once_no_claim_for_them_is_under_way(world: World) -> None:
    lead = stuck(world)
    rep = record(world, lead).rep
    assert rep is not None
    others = [each for each in world.reps if each != rep]
    world.apply(rotas={ROTA: {"members": others}}, reps=dict.fromkeys(others))
    with no_writes(world):
        world.later(301)
        world.sweep.run()
    assert rep in world.store.pointer().owners
    for _ in range(3):  # it is handed over, then found to be finished, and what is refreshed comes before both
        assert rep in world.store.pointer().owners
        world.later(301)
        world.sweep.run()
        assert world.owner(lead) == rep
    assert world.store.pointer().owners.keys() == {*others}


def test_a_refresh_does_not_undo_a_policy_applied_meanwhile(world: World) -> None:
    owners = world.crm.owners
    later = world.portal.add_owner("later@example.com")

    def meanwhile(_: Any) -> Any:
        world.reps.append(later)
        world.crm.owners = owners  # type: ignore[method-assign]
        found = owners(deadline(9))
        world.apply()
        world.store.put_roster(found, milliseconds(world.at))
        return found

    world.crm.owners = meanwhile  # type: ignore[assignment]
    world.later(301)
    world.sweep.run()
    assert later in world.store.pointer().owners


def test_if_the_owners_cannot_be_refreshed_the_rest_is_done_all_the_same(world: World) -> None:
    change(world, mode="pause")
    (lead,) = world.arrive()
    world.take([lead])
    world.apply()

    def failing(_: Any) -> Any:
        raise HubSpotUnavailable("the token lacks a scope")

    world.crm.owners = failing  # type: ignore[assignment]
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


def test_a_sign_of_life_is_given_only_if_all_was_gone_through(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.sweep.run()
    assert len(gauges(capsys.readouterr().out, "Swept")) == 1
    due, world.store.due = world.store.due, _broken  # type: ignore[method-assign, assignment]
    world.sweep.run()
    output = capsys.readouterr().out
    assert gauges(output, "Swept") == []
    assert gauges(output, "LeadsDue") != []
    world.store.due = due  # type: ignore[method-assign]
    world.later(301)
    world.portal.down(milliseconds(world.at) + 60_000)
    world.sweep.run()
    assert gauges(capsys.readouterr().out, "Swept") == []
    world.later(61)
    world.sweep.run()
    assert len(gauges(capsys.readouterr().out, "Swept")) == 1


def _broken(*_: Any) -> Any:
    raise KeyError("a text that is nobody's business")


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
    assert world.requests == {
        "BatchGetItem": 5,  # policy in force and owners; brake; ledgers and loads; last look at HubSpot; last audit
        "Query": 4,  # the only lane and the bulk sources; late claims; unseen
    }
    assert world.store.due(due_lane(ROTA, "any"), 10) == []


def test_each_run_goes_by_the_policy_that_is_in_force_when_it_begins(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.sweep.run()
    world.apply(mode="pause")
    capsys.readouterr()
    world.sweep.run()
    assert len(gauges(capsys.readouterr().out, "PolicyPaused")) == 1


def test_a_lane_that_was_empty_in_one_run_is_looked_at_by_the_next(world: World) -> None:
    change(world, reps=full(world))
    world.sweep.run()
    (lead,) = world.arrive()
    world.take([lead])
    change(world)
    world.sweep.run()
    assert record(world, lead).state is State.HANDED


def usual() -> Fault:
    """A call that goes through as usual."""
    return slow(0.0)
