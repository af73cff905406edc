"""The recount: every load becomes what HubSpot has, whatever nobody told of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from fairturn.edges.refusals import LoadsCorrected
from fairturn.errors import HubSpotUnavailable
from fairturn.rules.events import Kind, Message
from fairturn.rules.policy import OWNER
from fairturn.rules.record import milliseconds
from fairturn_console.policy import reading
from fairturn_console.recount import Count, Recount
from tests.integration.audit import audit, read
from tests.integration.world import World

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mypy_boto3_dynamodb import DynamoDBClient

SEARCH = ("POST", "/crm/v3/objects/contacts/search")
READ = ("POST", "/crm/v3/objects/contacts/batch/read")
CLOSED = {"closed": [{"property": "hs_lead_status", "reaches": ["UNQUALIFIED"]}]}


@pytest.fixture
def world(dynamodb: DynamoDBClient) -> Iterator[World]:
    with World(dynamodb, "fairturn", leads=CLOSED) as world:
        yield world
        audit(read(dynamodb, "fairturn", world.store))


def recount(world: World, *reps: str, dry_run: bool = False, **changed: Any) -> dict[str, Count]:
    counting = Recount(
        changed.get("store", world.store),
        world.crm,
        world.reconciliation(),
        world.changes,
        lambda: world.at,
        world.later,
    )
    policy = world.store.policy(world.version)
    counts = counting.run(reps or world.reps, policy, lambda _: None, dry_run=dry_run)
    return {count.rep: count for count in counts}


def tell(world: World) -> None:
    world.later(1)
    assert world.believe(world.passed_on("changes")) == []
    assert world.passed_on() == []


def are_level(world: World) -> bool:
    return agree(recount(world))


def agree(counts: Mapping[str, Count]) -> bool:
    """Whether load, records and HubSpot agree for every rep."""
    return not any(count.drift or count.strays for count in counts.values())


def assigned(world: World, number: int) -> list[str]:
    leads = world.arrive(number)
    assert world.take(leads) == []
    world.later(3600)
    return leads


def plant(world: World, rep: str, load: int) -> None:
    """Spoil a load."""
    world.dynamodb.update_item(
        TableName="fairturn",
        Key={"pk": {"S": "LOADS"}, "sk": {"S": "LOADS"}},
        UpdateExpression="SET #rep = :load",
        ExpressionAttributeNames={"#rep": rep},
        ExpressionAttributeValues={":load": {"N": str(load)}},
    )


def test_what_is_level_costs_two_searches_for_each_rep_and_no_page(world: World) -> None:
    assigned(world, 3)
    counts = recount(world)
    assert agree(counts)
    assert sum(count.held for count in counts.values()) == 3
    assert world.portal.calls[SEARCH] == 2 * len(world.reps)
    assert world.passed_on("changes") == []


def test_contacts_of_before_the_installation_come_into_their_owners_loads(world: World) -> None:
    first, second, _ = world.reps
    for _ in range(3):
        world.arrive(hubspot_owner_id=first)
    world.arrive(hubspot_owner_id=second)
    world.arrive(hubspot_owner_id=first, hs_lead_status="UNQUALIFIED")  # nobody's work any more
    world.arrive()  # nobody's
    world.later(3600)
    counts = recount(world)
    assert {rep: (count.held, count.open, len(count.strays)) for rep, count in counts.items()} == {
        world.reps[0]: (0, 3, 3),
        world.reps[1]: (0, 1, 1),
        world.reps[2]: (0, 0, 0),
    }
    tell(world)
    assert world.loads() == {first: 3, second: 1}
    assert are_level(world)


def test_without_keep_owner_they_come_into_them_all_the_same(world: World) -> None:
    world.apply(leads={"keep_owner": False})
    world.arrive(hubspot_owner_id=world.reps[0])
    world.later(3600)
    recount(world)
    tell(world)
    assert world.loads() == {world.reps[0]: 1}


def test_a_criterion_that_is_new_closes_what_meets_it(world: World) -> None:
    leads = assigned(world, 3)
    for lead in leads:
        world.portal.change(lead, {"hs_lead_status": "CONNECTED"})
    world.later(3600)
    world.apply(leads={"closed": [{"property": "hs_lead_status", "reaches": ["connected"]}]})
    recount(world)
    tell(world)
    assert world.loads() == {}
    assert world.states(leads) == {"closed": 3}


def test_an_owner_who_changed_unnoticed_is_followed(world: World) -> None:
    (lead,) = assigned(world, 1)
    before = world.owner(lead)
    other = next(rep for rep in world.reps if rep != before)
    world.portal.change(lead, {OWNER: other})
    world.later(3600)
    recount(world)
    tell(world)
    assert world.loads() == {other: 1}
    assert are_level(world)


def test_a_deletion_of_which_nobody_told_gives_the_room_back(world: World) -> None:
    lead, _ = assigned(world, 2)
    world.portal.delete(lead)
    world.later(3600)
    before = world.at
    counts = recount(world)
    assert [count.strays for count in counts.values() if count.strays] == [{lead}]
    assert (world.at - before).total_seconds() >= 20  # it has to be missing twice
    tell(world)
    assert world.states([lead]) == {"gone": 1}
    assert are_level(world)


def test_answers_that_show_nothing_at_all_are_taken_for_no_deletion(world: World) -> None:
    leads = assigned(world, 6)
    for lead in leads:
        world.portal.contact(lead).archived = True
    with pytest.raises(HubSpotUnavailable, match="its answers say nothing"):
        recount(world)
    assert world.passed_on("changes") == []
    assert world.states(leads) == {"handed": 6}


def test_what_hubspot_shows_at_the_second_look_is_not_taken_for_deleted(world: World) -> None:
    (lead,) = assigned(world, 1)
    world.portal.delete(lead)
    world.later(3600)
    later = world.later

    def meanwhile(seconds: float) -> None:
        world.portal.restore(lead)
        later(seconds)

    world.later = meanwhile  # type: ignore[method-assign]
    recount(world)
    world.later = later  # type: ignore[method-assign]
    assert world.passed_on("changes") == []
    assert world.states([lead]) == {"handed": 1}


def test_a_merge_of_which_nobody_told_is_followed(world: World) -> None:
    first, second = assigned(world, 2)
    survivor = world.portal.merge(first, second)
    for _ in range(2):  # the count of the first lead's owner is right at first, by chance
        world.later(3600)
        recount(world)
        tell(world)
    assert world.loads() == {world.owner(survivor): 1}
    assert are_level(world)


@pytest.mark.parametrize("load", [0, 1, 7])
def test_a_load_that_is_wrong_is_set_right(world: World, load: int) -> None:
    assigned(world, 6)
    rep = world.reps[1]
    plant(world, rep, load)
    counts = recount(world)
    assert {each: count.drift for each, count in counts.items() if count.drift} == {rep: load - 2}
    assert world.loads() == dict.fromkeys(world.reps, 2)
    assert are_level(world)


def test_loads_are_set_right_in_parts_where_many_are_wrong(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fairturn_console.recount.MOST_AT_ONCE", 2)
    assigned(world, 3)
    for rep in world.reps:
        plant(world, rep, 9)
    assert [count.drift for count in recount(world).values()] == [8, 8, 8]
    assert (world.loads(), world.store.corrections()) == (dict.fromkeys(world.reps, 1), 2)


def test_a_load_is_set_right_while_leads_come(world: World) -> None:
    assigned(world, 3)
    plant(world, world.reps[0], 5)
    correct = world.store.correct_loads

    class Busy(type(world.store)):  # type: ignore[misc]
        """A lead comes between the counting and the correction."""

        def correct_loads(self, changes: dict[str, int], corrections: int) -> None:
            assigned(world, 3)
            correct(changes, corrections)

    recount(world, store=Busy(world.dynamodb, "fairturn"))
    assert world.loads() == dict.fromkeys(world.reps, 2)


def test_two_recounts_at_once_correct_a_load_once(world: World) -> None:
    assigned(world, 3)
    plant(world, world.reps[0], 5)
    correct = world.store.correct_loads

    class Second(type(world.store)):  # type: ignore[misc]
        """Somebody else corrects just before."""

        def correct_loads(self, changes: dict[str, int], corrections: int) -> None:
            if self.corrections() == 0:
                correct(changes, corrections)
            correct(changes, corrections)

    counts = recount(world, store=Second(world.dynamodb, "fairturn"))
    assert world.loads() == dict.fromkeys(world.reps, 1)
    assert counts[world.reps[0]].drift == 0  # the other's doing


def test_a_correction_is_refused_where_loads_were_corrected_meanwhile(world: World) -> None:
    rep = world.reps[0]
    world.store.correct_loads({rep: 2}, 0)
    with pytest.raises(LoadsCorrected):
        world.store.correct_loads({rep: 2}, 0)
    assert (world.loads(), world.store.corrections()) == ({rep: 2}, 1)
    world.store.correct_loads({rep: -2}, 1)
    assert world.store.corrections() == 2


def test_a_dry_run_changes_and_sends_nothing(world: World) -> None:
    world.arrive(hubspot_owner_id=world.reps[0])
    plant(world, world.reps[1], 4)
    world.later(3600)
    counts = recount(world, dry_run=True)
    assert (len(counts[world.reps[0]].strays), counts[world.reps[1]].drift) == (1, 4)
    assert world.passed_on("changes") == []
    assert world.loads() == {world.reps[1]: 4}
    plant(world, world.reps[1], 0)


def test_only_the_reps_who_are_named_are_counted(world: World) -> None:
    for rep in world.reps:
        world.arrive(hubspot_owner_id=rep)
    world.later(3600)
    assert recount(world, world.reps[2]).keys() == {world.reps[2]}
    tell(world)
    assert world.loads() == {world.reps[2]: 1}


def test_with_more_criteria_than_a_search_takes_every_page_is_looked_at(world: World) -> None:
    criteria = [{"property": f"p{n}", "reaches": ["x"]} for n in range(6)]
    for criterion in criteria:
        world.portal.define_property(str(criterion["property"]))
    world.apply(leads={"closed": criteria})
    assigned(world, 3)
    counts = recount(world)
    assert {count.open for count in counts.values()} == {None}
    assert world.portal.calls[SEARCH] == len(world.reps)
    assert agree(counts)


def test_hubspot_is_asked_for_texts_and_options_alike(world: World) -> None:
    policy = reading.read(
        {
            "reps": {"1": {}},
            "rotas": {"inbound": {"members": ["1"]}},
            "rules": [],
            "otherwise": {"rota": "inbound"},
            "leads": {"closed": [{"property": "score", "reaches": [5, True, "Done"]}]},
        }
    )
    asked: list[Any] = []

    class Asked(type(world.crm)):  # type: ignore[misc]
        def search(self, *arguments: Any, **options: Any) -> Any:
            asked.append(arguments[1])
            return super().search(*arguments, **options)

    crm = Asked(lambda _: "pat", world.portal.url, sleep=lambda _: None)
    world.arrive(hubspot_owner_id=world.reps[0])
    world.portal.define_property("score")
    Recount(world.store, crm, world.reconciliation(), world.changes, lambda: world.at, world.later)._open(
        world.reps[0], policy
    )
    assert asked[1][0][1].value == ("5", "true", "Done", "done")


def test_while_hubspot_is_down_it_says_so_and_what_is_done_is_done(world: World) -> None:
    assigned(world, 3)
    plant(world, world.reps[0], 5)
    world.portal.down(milliseconds(world.at) + 3_600_000)
    with pytest.raises(HubSpotUnavailable):
        recount(world)
    assert world.loads() == dict.fromkeys(world.reps, 1)


def test_a_message_of_a_recount_is_read_like_any_other(world: World) -> None:
    world.arrive(hubspot_owner_id=world.reps[0])
    world.later(3600)
    recount(world)
    (received,) = world.passed_on("changes")
    assert Message.read(received.body).kinds == (Kind.FOUND,)
