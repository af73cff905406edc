"""The HubSpot simulator does what HubSpot is known to do: on its API, and with its webhooks."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
import time_machine
import urllib3

from fairturn.errors import SignatureRejected
from fairturn.rules.signature import verify
from fairturn_sandbox.faults import AS_HUBSPOT_DOES, Fault, Lies
from fairturn_sandbox.portal import Portal
from fairturn_sandbox.portal_api import served
from fairturn_sandbox.webhooks import WebhookRequest, sign

if TYPE_CHECKING:
    from collections.abc import Iterator

Json = dict[str, Any]

START = 1_790_000_000
"""The simulated clock starts here, epoch seconds."""
URL = "https://example.com/hubspot/7c1"
SECRET = "yyyyyyyy-yyyy-yyyy-yyyy-yyyyyyyyyyyy"
DAY = 86_400
LAG = Lies().lag
TOKEN = "pat-1"


def new_portal(seed: int = 7, *, generic: bool = False) -> Portal:
    random = Random(seed)
    return Portal(random, token=TOKEN, secret=SECRET, webhook_url=URL, generic=generic)


@pytest.fixture
def clock() -> Iterator[time_machine.Traveller]:
    with time_machine.travel(START, tick=False) as clock:
        yield clock


@pytest.fixture
def portal(clock: time_machine.Traveller) -> Iterator[Portal]:  # noqa: ARG001 - its clock
    with served(new_portal()) as portal:
        yield portal


class Receiver:
    """Takes webhooks, or answers what it is told to."""

    def __init__(self, *statuses: int) -> None:
        self.statuses = list(statuses)
        self.requests: list[WebhookRequest] = []

    def __call__(self, request: WebhookRequest) -> int:
        self.requests.append(request)
        return self.statuses.pop(0) if self.statuses else 200

    @property
    def events(self) -> list[Json]:
        return [event for request in self.requests for event in json.loads(request.body)]

    @property
    def types(self) -> list[str]:
        return sorted(event["subscriptionType"] for event in self.events)


def call(portal: Portal, method: str, path: str, body: object = None, token: str = TOKEN) -> tuple[int, Json]:
    answer = urllib3.request(
        method,
        f"{portal.url}/crm/v3{path}",
        json=body,
        headers={"Authorization": f"Bearer {token}"},
        timeout=5.0,
        retries=False,
    )
    return answer.status, answer.json()


def update(portal: Portal, contact: str, **properties: str) -> tuple[int, Json]:
    body = {"inputs": [{"id": contact, "properties": properties, "objectWriteTraceId": "t1"}]}
    return call(portal, "POST", "/objects/contacts/batch/update", body)


def read(portal: Portal, *contacts: str, **more: object) -> tuple[int, Json]:
    body = {"inputs": [{"id": contact} for contact in contacts], "properties": ["city", "zip"], **more}
    return call(portal, "POST", "/objects/contacts/batch/read", body)


def ids(answer: tuple[int, Json]) -> list[str]:
    return [result["id"] for result in answer[1]["results"]]


def cities(answer: tuple[int, Json]) -> list[str | None]:
    return [record["properties"]["city"] for record in answer[1]["results"]]


def search(portal: Portal, *filters: tuple[str, str, object], **more: object) -> tuple[int, Json]:
    told = [
        {"propertyName": name, "operator": operator, "values" if isinstance(value, list) else "value": value}
        for name, operator, value in filters
    ]
    return call(portal, "POST", "/objects/contacts/search", {"filterGroups": [{"filters": told}], **more})


def drain(portal: Portal, clock: time_machine.Traveller, receiver: Receiver) -> None:
    """Deliver everything, however late."""
    for _ in range(1_000):
        due = portal.next_delivery()
        if due is None:
            return
        clock.move_to(max(due / 1_000, START))
        portal.deliver(receiver)
    raise AssertionError("the webhooks have no end")


# The API -------------------------------------------------------------------------------------------------


def test_a_wrong_token_is_refused_and_counted(portal: Portal) -> None:
    status, body = call(portal, "GET", "/owners", token="old")
    assert (status, body["category"]) == (401, "INVALID_AUTHENTICATION")
    assert portal.calls == {("GET", "/crm/v3/owners"): 1}


def test_an_archived_owner_is_taken_and_an_unknown_one_refused(portal: Portal) -> None:
    contact, owner = portal.create_contact({"email": "a@example.com"}), portal.add_owner("rep@example.com")
    portal.deactivate_owner(owner)
    assert update(portal, contact, hubspot_owner_id=owner)[0] == 200
    status, body = update(portal, contact, hubspot_owner_id="12345")
    assert (status, body["category"]) == (400, "VALIDATION_ERROR")
    assert body["errors"][0]["code"] == "INVALID_OWNER_ID"
    assert '"name":"hubspot_owner_id"' in body["message"]
    assert portal.contact(contact).properties["hubspot_owner_id"] == owner


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("fairturn_rule", "x", "PROPERTY_DOESNT_EXIST"),
        ("createdate", "x", "READ_ONLY_VALUE"),
        ("hs_lead_status", "LUKEWARM", "INVALID_OPTION"),
    ],
)
def test_a_bad_value_fails_the_whole_batch(portal: Portal, name: str, value: str, code: str) -> None:
    good, bad = portal.create_contact({}), portal.create_contact({})
    inputs = [{"id": good, "properties": {"city": "Lyon"}}, {"id": bad, "properties": {name: value}}]
    status, body = call(portal, "POST", "/objects/contacts/batch/update", {"inputs": inputs})
    assert (status, body["errors"][0]["code"]) == (400, code)
    assert "city" not in portal.contact(good).properties


def test_ids_of_merged_contacts_work_in_reads_but_not_in_updates(portal: Portal) -> None:
    primary, merged = portal.create_contact({"city": "Lyon"}), portal.create_contact({"zip": "69001"})
    survivor = portal.merge(primary, merged)
    status, body = update(portal, merged, phone="1")
    assert (status, body["numErrors"]) == (207, 1)
    assert body["errors"][0]["context"] == {"objectWriteTraceId": ["t1"]}
    wanted = {"inputs": [{"id": merged}, {"id": "5"}], "properties": ["city", "zip"]}
    status, body = call(portal, "POST", "/objects/contacts/batch/read", wanted)
    assert (status, body["errors"][0]["context"]) == (207, {"ids": ["5"]})
    assert [record["id"] for record in body["results"]] == [survivor]
    assert body["results"][0]["properties"].items() >= {"city": "Lyon", "zip": "69001"}.items()


def test_the_owners_history_says_who_wrote_it(portal: Portal) -> None:
    ada, bob = portal.add_owner("ada@example.com"), portal.add_owner("bob@example.com")
    contact = portal.create_contact({"hubspot_owner_id": ada}, source="CRM_UI")
    update(portal, contact, hubspot_owner_id=bob)
    wanted = {"inputs": [{"id": contact}], "propertiesWithHistory": ["hubspot_owner_id"]}
    _, body = call(portal, "POST", "/objects/contacts/batch/read", wanted)
    history = body["results"][0]["propertiesWithHistory"]["hubspot_owner_id"]
    assert [(change["value"], change["sourceType"], change["sourceId"]) for change in history] == [
        (bob, "INTEGRATION", str(portal.app_id)),
        (ada, "CRM_UI", None),
    ]


def test_a_contact_merged_again_lists_all_the_ids_that_it_stands_for(portal: Portal) -> None:
    first, second, third, fourth = (portal.create_contact({}) for _ in range(4))
    left, right = portal.merge(first, second), portal.merge(third, fourth)
    survivor = portal.contact(portal.merge(left, right))
    assert survivor.properties["hs_merged_object_ids"] == ";".join([first, second, third, fourth, left, right])
    assert portal.contact(first) is portal.contact(right) is survivor


def test_a_survivor_keeps_the_first_ones_owner_or_has_the_second_ones(portal: Portal) -> None:
    ada, bob = portal.add_owner("ada@example.com"), portal.add_owner("bob@example.com")
    of_ada, of_bob = ({"hubspot_owner_id": owner} for owner in (ada, bob))
    for first, second, owner in ((of_ada, of_bob, ada), ({}, of_bob, bob), ({}, {}, None)):
        survivor = portal.merge(portal.create_contact(first), portal.create_contact(second))
        assert portal.contact(survivor).properties.get("hubspot_owner_id") == owner


def test_a_deleted_contact_can_be_restored_an_erased_or_merged_one_cannot(portal: Portal) -> None:
    deleted, erased, first, second = (portal.create_contact({}) for _ in range(4))
    wanted = {"inputs": [{"id": deleted}]}
    portal.delete(deleted)
    assert call(portal, "POST", "/objects/contacts/batch/read", wanted)[1]["results"] == []
    portal.restore(deleted)
    assert call(portal, "POST", "/objects/contacts/batch/read", wanted)[0] == 200
    portal.privacy_delete(erased)
    portal.delete(portal.merge(first, second))
    for gone in (erased, first):
        with pytest.raises(KeyError):
            portal.restore(gone)
    assert portal.contact(first).archived


def test_a_merged_contact_is_deleted_under_the_survivors_id(portal: Portal) -> None:
    first, second = portal.create_contact({}), portal.create_contact({})
    survivor = portal.merge(first, second)
    portal.delete(first)
    receiver = Receiver()
    portal.deliver(receiver)
    (deletion,) = (event for event in receiver.events if event["subscriptionType"] == "contact.deletion")
    assert deletion["objectId"] == int(survivor)


def test_the_day_of_the_assignment_stays_when_the_owner_is_cleared(
    portal: Portal, clock: time_machine.Traveller
) -> None:
    contact, owner = portal.create_contact({}), portal.add_owner("ada@example.com")
    assert "hubspot_owner_assigneddate" not in portal.contact(contact).properties
    update(portal, contact, hubspot_owner_id=owner)
    assigned = portal.contact(contact).properties["hubspot_owner_assigneddate"]
    clock.shift(60)
    update(portal, contact, hubspot_owner_id="")
    assert portal.contact(contact).properties["hubspot_owner_assigneddate"] == assigned
    update(portal, contact, hubspot_owner_id=owner)
    assert portal.contact(contact).properties["hubspot_owner_assigneddate"] != assigned


def test_histories_are_read_of_fifty_contacts_at_once_and_no_more(portal: Portal) -> None:
    inputs = [{"id": portal.create_contact({})} for _ in range(51)]
    for asked, number, status in (
        ("propertiesWithHistory", 50, 200),
        ("propertiesWithHistory", 51, 400),
        ("p", 51, 200),
    ):
        wanted = {"inputs": inputs[:number], asked: ["hubspot_owner_id"]}
        assert call(portal, "POST", "/objects/contacts/batch/read", wanted)[0] == status


def test_an_administrators_rule_can_be_lifted(portal: Portal) -> None:
    contact, owner = portal.create_contact({}), portal.add_owner("ada@example.com")
    portal.refuse_owners(contact, "A phone number comes first")
    assert update(portal, contact, hubspot_owner_id=owner)[0] == 400
    portal.allow_owners(contact)
    assert update(portal, contact, hubspot_owner_id=owner)[0] == 200


def test_a_person_can_be_a_moment_faster_than_a_batch_update(portal: Portal) -> None:
    ada, bob = portal.add_owner("ada@example.com"), portal.add_owner("bob@example.com")
    contact = portal.create_contact({})
    portal.before_update = lambda: portal.change(contact, {"hubspot_owner_id": bob})
    for _ in range(2):
        assert update(portal, contact, hubspot_owner_id=ada)[0] == 200
    assert portal.before_update is None
    changes = [(change["value"], change["sourceType"]) for change in portal.contact(contact).owners]
    assert changes == [(ada, "INTEGRATION"), (bob, "CRM_UI")]


def test_a_search_filters_sorts_and_pages(portal: Portal, clock: time_machine.Traveller) -> None:
    ids = []
    for employees, city in (("5", "Paris"), ("40", "Nice"), ("100", "Lyon")):
        ids.append(portal.create_contact({"numemployees": employees, "country": "France", "city": city}))
        clock.shift(60)
    portal.create_contact({})

    def found(*filters: tuple[str, str, object]) -> list[str]:
        return [record["id"] for record in search(portal, *filters)[1]["results"]]

    assert found(("numemployees", "GT", "5")) == ids[1:]
    assert found(("country", "EQ", "france"), ("numemployees", "IN", ["5", "100"])) == [ids[0], ids[2]]
    assert found(("createdate", "GTE", str((START + 60) * 1_000)), ("country", "EQ", "France")) == ids[1:]
    assert search(portal, ("country", "HAS_PROPERTY", ""))[0] == 400, "what is not simulated is refused"
    by_city = [{"propertyName": "city", "direction": "ASCENDING"}]
    _, first = search(portal, ("country", "EQ", "France"), limit=2, sorts=by_city)
    assert (first["total"], [record["id"] for record in first["results"]]) == (3, [ids[2], ids[1]])
    _, last = search(portal, ("country", "EQ", "France"), limit=2, sorts=by_city, **first["paging"]["next"])
    assert [record["id"] for record in last["results"]] == ids[:1]
    assert "paging" not in last
    assert search(portal, limit=200, after="9900")[0] == 400


def test_properties_are_listed_with_the_values_and_labels_of_their_options(portal: Portal) -> None:
    options = [{"label": "Big ones", "value": "big"}, {"label": "Small ones", "value": "small"}]
    portal.define_property("size", options={"big": "Big ones", "small": "Small ones"})
    listed = {each["name"]: each for each in call(portal, "GET", "/properties/contacts")[1]["results"]}
    size, status, owner = listed["size"], listed["hs_lead_status"], listed["hubspot_owner_id"]
    assert [{name: each[name] for name in ("label", "value")} for each in size["options"]] == options
    assert {"label": "Bad timing", "value": "BAD_TIMING"}.items() <= status["options"][-1].items()
    assert (listed["country"]["type"], listed["country"]["options"]) == ("string", [])
    assert (owner["type"], owner["options"], owner["externalOptions"]) == ("enumeration", [], True)
    assert update(portal, portal.create_contact({}), size="Big ones")[0] == 400


def test_properties_are_made_once_each_and_in_a_group_that_is_there(portal: Portal) -> None:
    own = {"name": "own", "label": "Own ones"}
    when = {"name": "when", "label": "When", "groupName": "own", "type": "datetime", "fieldType": "date"}
    assert call(portal, "POST", "/properties/contacts", when)[0] == 400
    assert [call(portal, "POST", "/properties/contacts/groups", own)[0] for _ in range(2)] == [201, 409]
    assert own.items() <= call(portal, "GET", "/properties/contacts/groups")[1]["results"][-1].items()
    assert call(portal, "POST", "/properties/contacts", {**when, "fieldType": "text"})[0] == 400
    assert [call(portal, "POST", "/properties/contacts", when)[0] for _ in range(2)] == [201, 409]
    assert when.items() <= call(portal, "GET", "/properties/contacts")[1]["results"][-1].items()
    contact = portal.create_contact({})
    values = ("2026-11-23T09:30:00Z", "1795396873667", "", "yesterday", "2026-11-23T09:30")
    assert [update(portal, contact, when=value)[0] for value in values] == [200, 200, 200, 400, 400]


def test_a_portal_that_is_down_comes_back(portal: Portal, clock: time_machine.Traveller) -> None:
    portal.down((START + 60) * 1_000)
    answer = urllib3.request("GET", f"{portal.url}/crm/v3/owners", retries=False)
    assert (answer.status, answer.headers["content-type"]) == (502, "text/html")
    clock.shift(60)
    assert call(portal, "GET", "/owners")[0] == 200


def test_faults_come_as_often_as_asked_for(portal: Portal) -> None:
    portal.fault_rate = 1.0
    statuses = {urllib3.request("GET", f"{portal.url}/crm/v3/owners", retries=False).status for _ in range(12)}
    assert statuses == {429, 502}


def test_a_story_with_a_slip_is_refused(portal: Portal) -> None:
    with pytest.raises(ValueError, match="does not exist"):
        portal.create_contact({"contry": "France"})
    with pytest.raises(ValueError, match="owner ID"):
        portal.change(portal.create_contact({}), {"hubspot_owner_id": "12"})


# Lies of the API -----------------------------------------------------------------------------------------


def test_a_stale_read_does_not_find_what_was_just_created_or_restored(
    portal: Portal, clock: time_machine.Traveller
) -> None:
    restored = portal.create_contact({})
    portal.delete(restored)
    clock.shift(LAG)
    portal.restore(restored)
    created = portal.create_contact({})
    portal.lies = Lies(stale=1.0)
    status, body = read(portal, created, restored)
    assert (status, body["results"]) == (207, [])
    assert body["errors"][0]["context"] == {"ids": [created, restored]}
    assert ids(search(portal)) == []


def test_a_stale_read_shows_a_contact_with_all_that_it_was_created_with_or_not_at_all(
    portal: Portal, clock: time_machine.Traveller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(portal.webhooks, "announce", lambda *_, **__: clock.shift(1))  # creating takes a while
    contact = portal.create_contact({"city": "Lyon", "zip": "69001"})
    clock.shift(LAG / 2)
    portal.lies = Lies(stale=1.0)
    seen = [[each["properties"] for each in read(portal, contact)[1]["results"]] for _ in range(50)]
    assert [] in seen
    assert {(shown["city"], shown["zip"]) for each in seen for shown in each} == {("Lyon", "69001")}


def test_a_stale_read_shows_old_values_after_our_own_write_which_meets_the_present(
    portal: Portal, clock: time_machine.Traveller
) -> None:
    contact = portal.create_contact({"city": "Lyon"})
    clock.shift(LAG)
    portal.lies = Lies(stale=1.0)
    assert cities(update(portal, contact, city="Paris")) == ["Paris"]
    assert cities(read(portal, contact)) == ["Lyon"]
    assert cities(search(portal, ("city", "EQ", "Lyon"), properties=["city"])) == ["Lyon"]
    new = portal.create_contact({})
    assert ids(read(portal, new)) == []
    assert update(portal, new, city="Nice")[0] == 200
    portal.delete(contact)
    assert update(portal, contact, city="Nice")[0] == 207


def test_a_stale_read_finds_what_was_just_deleted_or_erased(portal: Portal, clock: time_machine.Traveller) -> None:
    deleted, erased = portal.create_contact({"city": "Lyon"}), portal.create_contact({"city": "Nice"})
    clock.shift(LAG)
    portal.delete(deleted)
    portal.privacy_delete(erased)
    portal.lies = Lies(stale=1.0)
    assert read(portal, deleted, erased)[0] == 200
    assert cities(read(portal, deleted, erased)) == ["Lyon", "Nice"]
    assert set(ids(search(portal))) == {deleted, erased}


def test_a_stale_read_finds_both_contacts_of_a_merge_and_not_the_survivor(
    portal: Portal, clock: time_machine.Traveller
) -> None:
    primary, merged = portal.create_contact({"city": "Lyon"}), portal.create_contact({"city": "Nice"})
    clock.shift(LAG)
    survivor = portal.merge(primary, merged)
    portal.lies = Lies(stale=1.0)
    answer = read(portal, primary, merged, survivor, properties=["city", "hs_merged_object_ids"])
    assert (ids(answer), cities(answer)) == ([primary, merged], ["Lyon", "Nice"])
    assert {each["properties"]["hs_merged_object_ids"] for each in answer[1]["results"]} == {None}
    assert answer[1]["errors"][0]["context"] == {"ids": [survivor]}
    assert set(ids(search(portal))) == {primary, merged}
    clock.shift(LAG)
    assert ids(read(portal, primary, merged)) == ids(search(portal)) == [survivor]


def test_a_stale_read_between_two_merges_shows_the_first_survivor(
    portal: Portal, clock: time_machine.Traveller
) -> None:
    first, second, third = (portal.create_contact({}) for _ in range(3))
    survivor = portal.merge(first, second)
    clock.shift(LAG)
    portal.merge(survivor, third)
    portal.lies = Lies(stale=1.0)
    assert ids(read(portal, first, third)) == [survivor, third]


def test_a_stale_history_ends_with_the_owner_of_then(portal: Portal, clock: time_machine.Traveller) -> None:
    ada, bob = portal.add_owner("ada@example.com"), portal.add_owner("bob@example.com")
    contact = portal.create_contact({"hubspot_owner_id": ada})
    clock.shift(LAG)
    update(portal, contact, hubspot_owner_id=bob)
    portal.lies = Lies(stale=1.0)
    _, body = read(portal, contact, propertiesWithHistory=["hubspot_owner_id"])
    history = body["results"][0]["propertiesWithHistory"]["hubspot_owner_id"]
    assert [change["value"] for change in history] == [ada]


def test_nothing_is_shown_as_it_was_before_the_lag(portal: Portal, clock: time_machine.Traveller) -> None:
    portal.lies = Lies(stale=1.0, lag=60.0)
    contact = portal.create_contact({"city": "Lyon"})
    clock.shift(60)
    for city in ("Nice", "Paris"):
        portal.change(contact, {"city": city})
        clock.shift(30)
    portal.change(portal.create_contact({}), {"city": "Lille"})  # whatever happens, the portal remembers enough
    seen = Counter(city for _ in range(100) for city in cities(read(portal, contact)))
    assert seen.keys() == {"Nice", "Paris"}
    assert min(seen.values()) > 25
    clock.shift(30)
    assert {city for _ in range(20) for city in cities(read(portal, contact))} == {"Paris"}
    clock.shift(30)
    new = portal.create_contact({})
    assert portal._past.ids() == [new]  # nor does it remember more than it may show


def test_a_record_is_stale_as_often_as_asked_for(portal: Portal) -> None:
    contacts = [portal.create_contact({}) for _ in range(100)]
    portal.lies = Lies(stale=0.2)
    assert 5 < 100 - len(ids(read(portal, *contacts))) < 40


def test_an_empty_answer_is_a_success_without_results(portal: Portal) -> None:
    contact = portal.create_contact({})
    portal.add_owner("ada@example.com")
    portal.lies = Lies(empty=1.0)
    for more in ({}, {"propertiesWithHistory": ["hubspot_owner_id"]}):
        assert read(portal, contact, "5", **more) == (200, {"status": "COMPLETE", "results": []})
    assert call(portal, "GET", "/owners?limit=1") == (200, {"results": []})
    assert ids(update(portal, contact, city="Lyon")) == [contact]


def test_a_partial_answer_says_nothing_of_what_it_lacks(portal: Portal) -> None:
    contacts = [portal.create_contact({}) for _ in range(10)]
    portal.lies = Lies(partial=1.0)
    status, body = read(portal, *contacts)
    assert (status, set(body)) == (200, {"status", "results"})
    left = ids((status, body))
    assert 0 < len(left) < 10
    assert left == [contact for contact in contacts if contact in left]
    status, body = read(portal, *contacts, "5")
    assert (status, body["errors"][0]["context"]) == (207, {"ids": ["5"]})
    _, body = search(portal)
    assert 0 < body["total"] == len(body["results"]) < 10
    assert ids(read(portal, contacts[0])) == []


def test_a_page_of_owners_can_lack_some_without_a_word(portal: Portal) -> None:
    owners = [portal.add_owner(f"{number}@example.com") for number in range(10)]
    portal.lies = Lies(partial=1.0)
    status, body = call(portal, "GET", "/owners?limit=8")
    left = ids((status, body))
    assert (status, body["paging"]["next"]["after"]) == (200, "8")
    assert 0 < len(left) < 8
    assert left == [owner for owner in owners[:8] if owner in left]


def test_a_seed_repeats_the_lies(clock: time_machine.Traveller) -> None:
    def story(seed: int) -> list[tuple[int, Json]]:
        clock.move_to(START)
        with served(new_portal(seed)) as portal:
            portal.lies = Lies(stale=0.5, empty=0.2, partial=0.2)
            contacts = [portal.create_contact({"city": "Lyon"}) for _ in range(5)]
            clock.shift(10)
            return [read(portal, *contacts) for _ in range(10)]

    assert story(3) == story(3) != story(4)


def test_without_lies_reads_are_true_and_draw_no_numbers(portal: Portal, monkeypatch: pytest.MonkeyPatch) -> None:
    contact, owner = portal.create_contact({"city": "Lyon"}), portal.add_owner("ada@example.com")
    portal.change(contact, {"city": "Paris"})
    monkeypatch.setattr(portal, "fault", lambda: Fault(None))  # which draws a number for every call
    state = portal.random.getstate()
    assert cities(read(portal, contact)) == cities(search(portal, properties=["city"])) == ["Paris"]
    assert ids(call(portal, "GET", "/owners")) == [owner]
    assert portal.random.getstate() == state
    portal.lies = AS_HUBSPOT_DOES
    read(portal, contact)
    assert portal.random.getstate() != state


# Webhooks ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("timestamp", "signature"),
    [
        ("1693657560000", "K36dawei4A+QBNolUOqo7s91KQDWQ5MXZ/QufNYuk/Y="),
        ("1700000300000", "RnbPH7+UMKVkbV32P8bz450N4M56aPmcru1+D3kSDtw="),
    ],
)
def test_signatures_are_those_of_hubspot(timestamp: str, signature: str) -> None:
    body = b"{'example_field':'example_value'}"
    assert sign(SECRET, "POST", "https://www.example.com/webhook_uri", body, timestamp) == signature


def test_twelve_escapes_of_the_url_are_decoded_before_signing() -> None:
    url = "https://example.com/api/hubspot/webhooks?src=hs%3Aapp%2fv3&x=%28a%29"
    signature = sign("autopilot-test-client-secret-0001", "POST", url, b"[]", "1790000004000")
    assert signature == "G8ddQlikFQ0ScZOZn+MHQ0E3WCV7vOJTzKlvrkvbvuk="


def test_a_creation_comes_as_hubspot_sends_it(portal: Portal) -> None:
    contact = portal.create_contact({"email": "a@example.com", "lifecyclestage": "lead"})
    receiver = Receiver()
    assert portal.deliver(receiver) == 1
    (request,) = receiver.requests
    assert (request.method, request.url) == ("POST", URL)
    assert request.headers["x-hubspot-signature-version"] == "v1"
    assert len(request.headers["x-hubspot-signature"]) == 64
    assert request.headers["x-hubspot-timeout-millis"] == "10000"
    assert request.headers["content-type"] == "application/json"
    assert request.headers["user-agent"].startswith("HubSpot Connect 2.0")
    events = {event["subscriptionType"]: event for event in receiver.events}
    common = {"portalId": 62515, "appId": 54321, "occurredAt": START * 1_000, "attemptNumber": 0}
    assert events.keys() == {"contact.creation", "contact.propertyChange"}
    assert events["contact.creation"].items() >= (common | {"changeFlag": "CREATED"}).items()
    assert events["contact.creation"]["objectId"] == int(contact) > 2**32
    assert (
        events["contact.propertyChange"].items() >= {"propertyName": "lifecyclestage", "propertyValue": "lead"}.items()
    )


def test_the_verifier_takes_what_the_portal_signs_and_nothing_else(portal: Portal) -> None:
    portal.create_contact({})
    receiver = Receiver()
    portal.deliver(receiver)
    (request,) = receiver.requests
    signed: Json = {
        "secrets": ["other", SECRET],
        "method": request.method,
        "url": request.url,
        "body": request.body,
        "signature": request.headers["x-hubspot-signature-v3"],
        "timestamp": request.headers["x-hubspot-request-timestamp"],
        "now_ms": START * 1_000,
    }
    verify(**signed)
    with pytest.raises(SignatureRejected):
        verify(**{**signed, "body": request.body + b" "})


def test_generic_events_carry_the_type_and_an_erasure_has_no_generic_form(
    clock: time_machine.Traveller,
) -> None:
    portal = new_portal(generic=True)
    contact = portal.create_contact({"hs_lead_status": "NEW"})
    portal.privacy_delete(contact)
    receiver = Receiver()
    drain(portal, clock, receiver)
    assert receiver.types == [
        "contact.privacyDeletion",
        "object.creation",
        "object.deletion",
        "object.propertyChange",
    ]
    events = {event["subscriptionType"]: event for event in receiver.events}
    assert events["object.creation"]["objectTypeId"] == "0-1"
    assert events["object.propertyChange"]["isSensitive"] is False
    assert "objectTypeId" not in events["contact.privacyDeletion"]


def test_every_turn_of_a_contacts_life_is_told(portal: Portal) -> None:
    first, second = portal.create_contact({}), portal.create_contact({})
    portal.delete(first)
    portal.restore(first)
    survivor = portal.merge(first, second)
    receiver = Receiver()
    portal.deliver(receiver)
    assert Counter(receiver.types) == {
        "contact.creation": 2,
        "contact.deletion": 1,
        "contact.restore": 1,
        "contact.merge": 1,
    }
    (merge,) = (event for event in receiver.events if event["subscriptionType"] == "contact.merge")
    assert (merge["primaryObjectId"], merge["mergedObjectIds"]) == (int(first), [int(second)])
    assert merge["newObjectId"] == int(survivor)


def test_our_own_writes_come_back_as_events(portal: Portal) -> None:
    contact, owner = portal.create_contact({}), portal.add_owner("ada@example.com")
    portal.deliver(Receiver())
    update(portal, contact, hubspot_owner_id=owner, city="Lyon")
    update(portal, contact, hubspot_owner_id=owner)  # changes nothing, so nothing is told
    receiver = Receiver()
    portal.deliver(receiver)
    (event,) = receiver.events
    assert (event["propertyName"], event["propertyValue"]) == ("hubspot_owner_id", owner)
    assert (event["changeSource"], event["sourceId"]) == ("INTEGRATION", "54321")


def test_the_writes_of_other_apps_and_of_workflows_name_their_source(portal: Portal) -> None:
    contact, owner = portal.create_contact({}), portal.add_owner("ada@example.com")
    portal.deliver(Receiver())
    others = [("AUTOMATION_PLATFORM", "workflowId:77"), ("INTEGRATION", "99")]
    for value, (source, by) in zip((owner, ""), others, strict=True):
        portal.change(contact, {"hubspot_owner_id": value}, source=source, by=by)
    receiver = Receiver()
    portal.deliver(receiver)
    assert sorted((event["changeSource"], event["sourceId"]) for event in receiver.events) == others
    changes = [(change["sourceType"], change["sourceId"]) for change in portal.contact(contact).owners]
    assert changes == others[::-1]


def test_a_request_has_at_most_a_hundred_events(portal: Portal) -> None:
    for _ in range(250):
        portal.create_contact({})
    receiver = Receiver()
    assert portal.deliver(receiver) == 3
    assert [len(json.loads(request.body)) for request in receiver.requests] == [100, 100, 50]
    assert portal.next_delivery() is None


def test_a_refused_request_comes_again_as_a_whole_signed_anew(portal: Portal, clock: time_machine.Traveller) -> None:
    portal.create_contact({"lifecyclestage": "lead"})
    receiver = Receiver(503, 401)
    drain(portal, clock, receiver)
    assert [event["attemptNumber"] for event in receiver.events] == [0, 0, 1, 1, 2, 2]
    assert [event["eventId"] for event in receiver.events[:2]] * 2 == [e["eventId"] for e in receiver.events[2:]]
    assert len({request.headers["x-hubspot-signature-v3"] for request in receiver.requests}) == 3
    webhooks = portal.webhooks
    assert (webhooks.delivered, webhooks.redelivered, webhooks.lost) == (2, 4, 0)


def test_after_ten_repetitions_within_a_day_an_event_is_lost(portal: Portal, clock: time_machine.Traveller) -> None:
    portal.create_contact({})
    receiver = Receiver(*[500] * 50)
    drain(portal, clock, receiver)
    sent = [int(request.headers["x-hubspot-request-timestamp"]) for request in receiver.requests]
    waits = [later - earlier for earlier, later in pairwise(sent)]
    assert len(sent) == 11
    assert waits == sorted(waits)
    assert DAY * 0.8 < (sent[-1] - sent[0]) / 1_000 < DAY
    assert (portal.webhooks.delivered, portal.webhooks.lost) == (0, 1)


def test_a_duplicate_is_the_same_event_in_a_later_request(portal: Portal, clock: time_machine.Traveller) -> None:
    portal.webhooks.duplicates = 1.0
    for _ in range(5):
        portal.create_contact({})
    receiver = Receiver()
    drain(portal, clock, receiver)
    assert len(receiver.requests) > 1
    assert set(Counter(event["eventId"] for event in receiver.events).values()) == {2}
    assert portal.webhooks.duplicated == 5


def test_with_disorder_events_overtake_each_other_but_none_is_missing(
    portal: Portal, clock: time_machine.Traveller
) -> None:
    portal.webhooks.disorder = 10.0
    made = []
    for _ in range(50):
        made.append(int(portal.create_contact({})))
        clock.shift(1)
    receiver = Receiver()
    drain(portal, clock, receiver)
    came = [event["objectId"] for event in receiver.events]
    assert sorted(came) == made
    assert came != made


def test_a_seed_repeats_the_story(clock: time_machine.Traveller) -> None:
    def story(seed: int) -> list[bytes]:
        clock.move_to(START)
        portal = new_portal(seed)
        portal.webhooks.duplicates, portal.webhooks.disorder = 0.3, 5.0
        for _ in range(20):
            portal.create_contact({"hs_lead_status": "NEW"})
        receiver = Receiver(500)
        drain(portal, clock, receiver)
        return [request.body for request in receiver.requests]

    assert story(3) == story(3) != story(4)
