"""What is stored of a contact or a rep, given out and erased."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from fairturn.edges.refusals import RosterMoved
from fairturn.errors import HubSpotUnavailable
from fairturn.rules.events import Kind
from fairturn.rules.record import Record, State
from fairturn_console.dead_letters import DeadLetters
from fairturn_console.person import NotErased, People, PersonUnknown
from tests.integration.audit import audit, read
from tests.integration.world import ROTA, World

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_dynamodb import DynamoDBClient

ABSENCE = {"from": "2026-12-24", "to": "2026-12-31"}


@pytest.fixture
def world(dynamodb: DynamoDBClient) -> Iterator[World]:
    with World(dynamodb, "fairturn", reps=3, leads={"show": ["country"]}) as world:
        yield world


@pytest.fixture
def people(world: World) -> People:
    urls = (world.dead_url, world.sqs.create_queue(QueueName="again")["QueueUrl"])
    empty = (world.sqs.create_queue(QueueName="dead-changes")["QueueUrl"], urls[1])
    letters = DeadLetters(world.sqs, leads=urls, changes=empty, wait=0)
    return People(world.store, letters, world.services().claimer, lambda: world.at)


def handed(world: World, number: int = 1) -> list[str]:
    leads = world.arrive(number, country="France")
    world.take(leads)
    assert world.states(leads) == {"handed": number}
    return leads


def record(world: World, lead: str) -> Record:
    found = world.record(lead)
    assert found is not None
    return found


def bury(world: World, **body: Any) -> None:
    world.sqs.send_message(QueueUrl=world.dead_url, MessageBody=json.dumps(body))


def check(world: World) -> None:
    audit(read(world.dynamodb, "fairturn", world.store))


# A contact


def test_all_that_is_stored_of_a_contact_is_given_out_and_nothing_of_others(world: World, people: People) -> None:
    lead, other = handed(world, 2)
    world.store.note_try(("contact", lead), "KeyError in routing", 5_000)
    bury(world, objectId=int(lead))
    bury(world, id=other)
    data = json.loads(json.dumps(people.contact(lead)))
    assert data["complete"]
    (kept,) = data["records"]
    assert (kept["id"], kept["shown"]) == (lead, {"country": "France"})
    assert data["tries"] == [{"lead": f"contact#{lead}", "number": 1, "at": 5_000, "what": "KeyError in routing"}]
    (row,) = data["journals"]
    assert (row["rota"], row["version"], row["lead"]) == (ROTA, 1, f"contact#{lead}")
    assert row["booking"]["winner"] == row["winner"] == kept["rep"]
    assert len(data["deadLetters"]) == 1
    assert other not in json.dumps(data)


def test_what_is_erased_of_a_contact_is_gone_and_the_ledger_and_its_journals_still_agree(
    world: World, people: People
) -> None:
    lead, other = handed(world, 2)
    world.store.note_try(("contact", lead), "KeyError in routing", 5_000)
    bury(world, id=lead)
    bury(world, id=other)
    erased = people.erase_contact(lead)
    assert [line.partition(" (")[0] for line in erased.gone] == [
        "records",
        "what is known of mistakes",
        "dead letters",
    ]
    assert any("400 days" in line for line in erased.stays)
    assert record(world, lead).state is State.ERASED
    world.later(1)  # SQS, as moto plays it, shows what was handed back as soon as time goes on
    data = people.contact(lead)
    assert (data["tries"], data["deadLetters"]) == ([], [])
    assert "France" not in json.dumps(data)
    world.later(1)
    assert len(people.contact(other)["deadLetters"]) == 1
    assert world.loads().get(record(world, other).rep or "") == 1
    check(world)


def test_a_contact_that_is_erased_stays_so_whatever_comes_of_it_later(world: World, people: People) -> None:
    (lead,) = handed(world)
    people.erase_contact(lead)
    erased = record(world, lead)
    world.later(60)
    assert world.take([lead]) == []
    world.follow(lead)
    assert record(world, lead) == erased
    assert people.erase_contact(lead).gone
    assert record(world, lead) == erased


def test_the_turn_of_a_claim_that_was_never_handed_over_goes_back(
    world: World, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    def down(*_: Any) -> None:
        raise HubSpotUnavailable("down")

    monkeypatch.setattr(world.crm, "write_owners", down)
    (lead,) = world.arrive()
    before = world.balances()
    world.take([lead])
    assert record(world, lead).state is State.CLAIMED
    with pytest.raises(NotErased, match="repeat the command in a minute"):
        people.erase_contact(lead)
    world.later(61)
    people.erase_contact(lead)
    assert (world.balances(), world.loads()) == (before, {})
    check(world)


def test_nothing_is_written_about_a_contact_of_whom_nothing_is_stored(world: World, people: People) -> None:
    erased = people.erase_contact("404")
    assert (erased.gone, erased.stays) == ([], [])
    assert world.record("404") is None


def test_those_who_were_merged_into_a_contact_are_erased_with_it(world: World, people: People) -> None:
    one, two = handed(world, 2)
    survivor = world.portal.merge(one, two)
    world.follow(survivor, kind=Kind.MERGE, merged=[one, two])
    assert {each["id"] for each in people.contact(survivor)["records"]} == {one, two, survivor}
    people.erase_contact(survivor)
    assert world.states([one, two, survivor]) == {"erased": 3}
    assert world.loads() == {}
    check(world)


def test_what_cannot_be_read_is_not_taken_for_the_contacts_and_makes_the_answer_incomplete(
    world: World, people: People
) -> None:
    handed(world)
    key = {"pk": {"S": f"ROTA#{ROTA}"}, "sk": {"S": "CLAIM#000000000001"}}
    world.dynamodb.put_item(TableName="fairturn", Item={**key, "kind": {"S": "claim"}, "journal": {"B": b"?"}})
    assert people.contact("404")["complete"] is False
    assert people.erase_contact("404").gone == []
    assert world.record("404") is None


# A rep


def without(world: World, rep: str) -> None:
    """Take a rep out of the policy."""
    others = [each for each in world.reps if each != rep]
    world.apply(reps=dict.fromkeys(others), rotas={ROTA: {"members": others}})


def test_all_that_is_stored_of_a_rep_is_given_out(world: World, people: People) -> None:
    rep, other, _ = world.reps
    world.apply(reps={rep: {"zone": "Europe/Paris", "absences": [ABSENCE]}, **dict.fromkeys(world.reps[1:])})
    world.later(31)
    leads = handed(world, 3)
    (own,) = [lead for lead in leads if world.owner(lead) == rep]
    assert people.owner_ids("Rep1@Example.com ") == {rep}
    data = json.loads(json.dumps(people.rep(rep)))
    assert data["complete"]
    assert data["roster"]["email"] == "rep1@example.com"
    assert (data["load"], [row["lead"] for row in data["leads"]]) == (1, [f"contact#{own}"])
    assert data["ledgers"].keys() <= {ROTA}
    (journal,) = data["journals"]
    assert (journal["got"], journal["stood"]["verdict"]["code"]) == ([f"contact#{own}"], "on duty")
    assert [row["version"] for row in data["policies"]] == [2, 1]
    assert data["policies"][0]["rep"]["absences"]
    assert "rep2@example.com" not in json.dumps(data)
    assert other not in json.dumps(data)


def test_a_rep_whom_the_policy_in_force_names_is_not_erased_and_it_is_said_what_to_do(
    world: World, people: People
) -> None:
    before = world.store.pointer()
    with pytest.raises(NotErased, match="fairturn policy apply"):
        people.erase_rep(world.reps[0])
    assert world.store.pointer() == before


def test_what_is_erased_of_a_rep_is_the_address_and_all_of_old_policies_but_what_their_rules_need(
    world: World, people: People
) -> None:
    rep = world.reps[0]
    hours = {"mon-sun": "00:00-24:00"}
    said = {"zone": "Europe/Paris", "hours": hours, "absences": [ABSENCE], "weight": 2, "skills": ["fr"]}
    world.apply(reps={rep: said, **dict.fromkeys(world.reps[1:])})
    handed(world)
    without(world, rep)
    erased = people.erase_rep(rep)
    assert len(erased.gone) == 2
    assert rep not in world.store.pointer().owners
    with pytest.raises(PersonUnknown):
        people.owner_ids("rep1@example.com")
    kept = world.store.policy(2).reps[rep]
    assert (kept.weight, kept.skills) == (2, ("fr",))
    assert (kept.zone, kept.hours, kept.absences) == (None, None, ())
    assert any("400 days" in line for line in erased.stays)
    assert people.rep(rep)["roster"] is None
    assert people.erase_rep(rep).gone == []
    check(world)


def test_who_applied_a_policy_and_what_they_said_goes_where_it_names_the_address(world: World, people: People) -> None:
    rep = world.reps[0]
    policy = world.store.policy(1)
    world.store.put_policy(
        2, policy, 5, by="arn:aws:sts::1:assumed-role/sso/rep1@example.com", message="for Rep1@example.com"
    )
    world.version = 2
    without(world, rep)
    people.erase_rep(rep)
    by_number = {version.number: version for version in world.store.versions(9)}
    assert (by_number[2].by, by_number[2].message) == (None, None)


def test_owners_who_were_refreshed_meanwhile_are_not_overwritten(
    world: World, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    rep = world.reps[0]
    without(world, rep)
    put = world.store.put_roster

    def refreshed_first(owners: Any, at: int, **more: Any) -> None:
        put(world.store.pointer().owners.values(), at + 1)
        put(owners, at, **more)

    monkeypatch.setattr(world.store, "put_roster", refreshed_first)
    with pytest.raises(RosterMoved):
        people.erase_rep(rep)
