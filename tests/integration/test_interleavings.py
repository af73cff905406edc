"""What others do between two steps of ours, and what comes late, twice or never."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from fairturn.edges.items import UNSEEN
from fairturn.errors import HubSpotUnavailable
from fairturn.rules.events import Kind
from fairturn.rules.record import State, milliseconds, new
from tests.integration.audit import audit, read
from tests.integration.test_sweep import change, full, record, stuck
from tests.integration.world import CAUGHT_UP, ROTA, World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mypy_boto3_dynamodb import DynamoDBClient

    from fairturn.edges.queues import Incoming

IMPORTS = [{"name": "imports", "when": [{"source": ["IMPORT"]}], "rota": ROTA}]
HOURS = 30
"""So long, in hours, what nobody tells of may take."""


@pytest.fixture
def world(dynamodb: DynamoDBClient) -> Iterator[World]:
    with World(dynamodb, "fairturn") as world:
        yield world
        audit(read(dynamodb, "fairturn", world.store))


def hide(world: World, *ids: str) -> Callable[[], None]:
    """Let HubSpot show nothing of these contacts; what this gives lets it show them again."""
    seen = world.crm.read

    def hiding(*arguments: Any) -> Any:
        found = seen(*arguments)
        return replace(found, records={id_: each for id_, each in found.records.items() if id_ not in ids})

    world.crm.read = hiding  # type: ignore[assignment]
    return lambda: setattr(world.crm, "read", seen)


def before_next(world: World, method: str, happens: Callable[[], object]) -> None:
    """Let something happen right before the store's next call of this method."""
    real = getattr(world.store, method)

    def overtaken(*arguments: Any) -> Any:
        setattr(world.store, method, real)
        happens()
        return real(*arguments)

    setattr(world.store, method, overtaken)


def let_hours_go_by(world: World, hours: int = HOURS) -> None:
    for _ in range(hours):
        world.sweep.run()
        world.assign.take(world.passed_on())
        world.later(3600)


def given_up(world: World, lead: str) -> None:
    """Let assign give up a lead that HubSpot does not show."""
    show = hide(world, lead)
    batch = world.received([lead])
    assert world.assign.take(batch) == batch
    world.later(901)
    assert world.assign.take(batch) == []
    world.leads.delete(batch)
    assert record(world, lead).state is State.GONE
    show()


def test_a_lead_that_ends_between_reading_and_claim_is_not_claimed_on_the_old_reading(world: World) -> None:
    lead, other = world.arrive(2)

    def merged() -> None:
        survivor = world.portal.merge(other, lead)
        unknown = new(lead)
        world.store.move([(unknown, unknown.merged(survivor, milliseconds(world.at)))])

    before_next(world, "claim", merged)
    (received,) = world.received([lead])
    assert world.assign.take([received]) == [received]
    assert record(world, lead).state is State.GONE
    assert world.store.read([ROTA], []).ledgers[ROTA].version == 0


def test_a_lead_whose_waiting_could_not_be_written_comes_again(world: World) -> None:
    change(world, reps=full(world))
    lead, other = world.arrive(2)
    survivors: list[str] = []

    def merged() -> None:
        survivors.append(world.portal.merge(other, lead))
        told = world.told(survivors[0], kind=Kind.MERGE, merged=[lead, other])
        world.later(CAUGHT_UP)
        assert world.tracker().take(told) == []

    before_next(world, "move", merged)
    (received,) = world.received([lead])
    assert world.assign.take([received]) == [received]
    assert world.assign.take([received]) == []
    assert world.assign.take(world.passed_on()) == []
    assert record(world, survivors[0]).state is State.WAITING


@pytest.mark.parametrize("is_merge_told", [False, True])
def test_an_import_that_was_merged_into_an_old_contact_leaves_that_to_its_owner(
    world: World, *, is_merge_told: bool
) -> None:
    members = {ROTA: {"members": world.reps[1:]}}
    change(world, leads={"keep_owner": False}, rules=IMPORTS, rotas=members)
    (old,) = world.arrive(hubspot_owner_id=world.reps[0])
    (lead,) = world.arrive()
    told = world.told(lead, kind=Kind.CREATION, source="IMPORT")
    survivor = world.portal.merge(old, lead)
    if is_merge_told:
        told += world.told(survivor, kind=Kind.MERGE, merged=[lead, old])
    world.later(CAUGHT_UP)
    assert world.believe(told) == []
    world.later(CAUGHT_UP)
    world.assign.take(world.passed_on())
    assert world.owner(survivor) == world.reps[0]


def test_what_ended_an_id_that_was_merged_away_did_not_end_the_survivor(world: World) -> None:
    change(world, reps=full(world))
    lead, other = world.arrive(2)
    world.take([lead])
    survivor = world.portal.merge(lead, other)
    world.follow(survivor, kind=Kind.MERGE, merged=[lead, other])
    world.later(60)
    show = hide(world, survivor)
    left = world.track.take(world.told(other, kind=Kind.DELETION))
    show()
    world.believe(left)
    assert record(world, survivor).state is State.WAITING


def test_a_dead_letter_that_is_redriven_while_nobody_can_take_it_is_swept_like_any_lead(world: World) -> None:
    change(world, reps=full(world))
    (lead,) = world.arrive()
    world.take([lead])
    world.later(60)
    seen = world.crm.read

    def failing(*_: Any) -> Any:
        raise KeyError("a text that is nobody's business")

    world.crm.read = failing  # type: ignore[assignment]
    (received,) = world.received([lead])
    for _ in range(4):
        assert world.assign.take([received]) == [received]
    assert world.assign.take([received]) == []
    world.crm.read = seen  # type: ignore[method-assign]
    world.later(60)
    world.sweep.run()
    assert world.take([lead]) == []
    world.later(60)
    change(world)
    world.sweep.run()
    assert record(world, lead).state is State.HANDED


def test_a_claim_whose_contact_was_merged_is_not_forgotten_though_hubspot_fails_in_between(world: World) -> None:
    lead = stuck(world)
    (contact,) = world.arrive()
    survivor = world.portal.merge(contact, lead)
    world.passed_on()  # its message is no more
    seen, calls = world.crm.read, iter(range(100))

    def second_fails(*arguments: Any) -> Any:
        if next(calls) == 1:
            raise HubSpotUnavailable("HubSpot answers 502")
        return seen(*arguments)

    world.crm.read = second_fails  # type: ignore[assignment]
    world.later(61)
    let_hours_go_by(world, 3)
    assert record(world, survivor).state is State.HANDED


def test_a_waiting_lead_that_was_restored_outlives_an_older_deletion(world: World) -> None:
    change(world, reps=full(world))
    (lead,) = world.arrive()
    world.take([lead])
    world.later(60)
    world.portal.delete(lead)
    deleted = world.told(lead, kind=Kind.DELETION)
    world.later(60)
    world.portal.restore(lead)
    assert world.follow(lead, kind=Kind.RESTORE) == []
    show = hide(world, lead)
    left = world.track.take(deleted)
    show()
    world.believe(left)
    assert record(world, lead).state is State.WAITING


def test_a_lead_whose_restore_nobody_told_is_allotted_once_it_is_shown_for_long(world: World) -> None:
    change(world, mode="pause")
    (lead,) = world.arrive()
    creation = world.received([lead], ago=5)
    world.portal.delete(lead)
    assert world.follow(lead, kind=Kind.DELETION) == []
    world.portal.restore(lead)
    world.later(60)
    assert world.assign.take(creation) == creation
    world.later(901)
    assert world.assign.take(creation) == []
    assert record(world, lead).state is State.WAITING
    change(world)
    world.sweep.run()
    assert record(world, lead).state is State.HANDED


def test_an_import_that_track_never_sees_is_looked_for_again_like_any_lead(world: World) -> None:
    change(world, rules=IMPORTS)
    (lead,) = world.arrive()
    told = world.told(lead, kind=Kind.CREATION, source="IMPORT")
    world.portal.down(2**62)
    assert world.track.take(told) == told
    world.later(1000)
    world.portal.down(0)
    show = hide(world, lead)
    assert world.track.take(told) == []  # the first answer after an outage lacks it
    show()
    let_hours_go_by(world, 3)
    assert record(world, lead).state is State.HANDED


def test_a_lead_that_was_given_up_and_merged_since_is_sent_on_once(world: World) -> None:
    lead, contact = world.arrive(2)
    given_up(world, lead)
    survivor = world.portal.merge(contact, lead)
    world.later(3_700)
    sent = []
    for _ in range(5):
        world.sweep.run()
        sent += world.passed_on()
        world.later(60)
    assert len(sent) == 1
    assert record(world, lead).merged_into == survivor


def test_a_lead_that_was_given_up_and_is_ignored_since_is_looked_for_once(world: World) -> None:
    (lead,) = world.arrive(message="spam")
    given_up(world, lead)
    rule = {"name": "spam", "when": [{"property": "message", "contains": "spam"}], "ignore": "spam"}
    change(world, rules=[rule])
    world.later(3_700)
    world.sweep.run()
    assert world.store.due(UNSEEN, 9) == []
    assert record(world, lead).state is State.CLOSED


def test_waiting_leads_that_hubspot_does_not_show_make_no_flood_of_messages(world: World) -> None:
    change(world, reps=full(world))
    leads = world.arrive(3)
    world.take(leads)
    change(world)
    hide(world, *leads)
    pending: list[Incoming] = []
    most = 0
    for _ in range(40):
        world.sweep.run()
        pending = world.assign.take(pending + world.passed_on())
        most = max(most, len(pending))
        world.later(60)
    assert most <= 3
    assert world.states(leads) == {"gone": 3}


def test_a_claim_is_not_handed_over_to_somebody_who_is_away_by_now(world: World) -> None:
    lead = stuck(world)
    rep = record(world, lead).rep or ""
    away = {"zone": "UTC", "absences": [{"from": "2026-11-23 10:00", "to": "2026-12-01 10:00"}]}
    change(world, reps={**dict.fromkeys(world.reps), rep: away})
    world.later(4 * 3600)
    world.sweep.run()
    assert record(world, lead).state is State.HANDED
    assert record(world, lead).rep != rep
    world.check([lead])
