"""The client of HubSpot against a portal that answers over HTTP, on good and on bad days."""

from __future__ import annotations

import json
import logging
import socket
import time
import traceback
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random
from threading import Event, Thread
from typing import TYPE_CHECKING, ClassVar

import pytest

from fairturn.deadline import Deadline
from fairturn.edges.hubspot import client as crm
from fairturn.edges.hubspot.answers import OwnerChange, Refusal
from fairturn.edges.hubspot.client import BatchRead, HubSpot, OwnerWrite, WriteResult
from fairturn.errors import HubSpotUnavailable, OutOfTime
from fairturn.rules.roster import Owner
from fairturn_sandbox.faults import BAD_GATEWAY, DAILY, SECONDLY, TEN_SECONDLY, Fault, slow
from fairturn_sandbox.portal import Portal
from fairturn_sandbox.portal_api import served

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

READ = ("POST", "/crm/v3/objects/contacts/batch/read")
UPDATE = ("POST", "/crm/v3/objects/contacts/batch/update")
OWNERS = ("GET", "/crm/v3/owners")
PROPERTIES = ("GET", "/crm/v3/properties/contacts")
TOKEN = "pat-1"
NOBODY = "999"
WHY = {"fairturn_reason": "It was Ada's turn.", "fairturn_team": "france"}
JSON = {"content-type": "application/json"}
PERSON = "jo.smith@example.com"
IN_TIME = Deadline(lambda: 60.0)
"""Time enough, whenever it is asked."""


@pytest.fixture
def portal() -> Iterator[Portal]:
    portal = Portal(Random(1), token=TOKEN, secret="s", webhook_url="https://example.com/hook")
    for name in WHY:
        portal.define_property(name)
    with served(portal):
        yield portal


@pytest.fixture
def pauses() -> list[float]:
    return []


@pytest.fixture
def hubspot(portal: Portal, pauses: list[float]) -> HubSpot:
    return HubSpot(lambda _: TOKEN, portal.url, sleep=pauses.append)


@pytest.fixture
def ada(portal: Portal) -> str:
    return portal.add_owner("ada@example.com")


def contacts(portal: Portal, number: int) -> list[str]:
    return [portal.create_contact({"email": f"lead{place}@example.com"}) for place in range(number)]


def owner_of(portal: Portal, contact: str) -> str | None:
    return portal.contact(contact).properties.get("hubspot_owner_id")


def refused(body: object, status: int = 400) -> Fault:
    return Fault(status, json.dumps(body).encode(), JSON)


def text_of(error: BaseException) -> str:
    """All that a log could say of an exception and what led to it."""
    return "".join(traceback.format_exception(error)) + repr(error.__context__) + repr(error.__cause__)


# Reading -----------------------------------------------------------------------------------------------


def test_a_hundred_records_are_read_in_one_call(portal: Portal, hubspot: HubSpot) -> None:
    ids = contacts(portal, 100)
    portal.change(ids[0], {"country": "Réunion"})
    records = hubspot.read("contact", ids, ["country", "email"], IN_TIME).records
    assert list(records) == ids
    assert records[ids[0]]["country"] == "Réunion"
    assert records[ids[1]]["country"] is None
    assert "hs_merged_object_ids" not in records[ids[0]]
    assert portal.calls == {READ: 1}


def test_nothing_is_asked_about_no_records(portal: Portal, hubspot: HubSpot, ada: str) -> None:
    assert hubspot.read("contact", [], ["email"], IN_TIME) == BatchRead({}, {})
    assert hubspot.write_owners("contact", [], IN_TIME) == WriteResult({})
    assert hubspot.owner_histories("contact", [], IN_TIME) == {}
    assert not portal.calls
    with pytest.raises(ValueError, match="100"):
        hubspot.read("contact", ["1"] * 101, [], IN_TIME)
    with pytest.raises(ValueError, match="50"):
        hubspot.owner_histories("contact", ["1"] * 51, IN_TIME)
    with pytest.raises(ValueError, match="100"):
        hubspot.write_owners("contact", [OwnerWrite("1", ada, {})] * 101, IN_TIME)


def test_records_that_hubspot_does_not_know_are_absent(portal: Portal, hubspot: HubSpot) -> None:
    kept, deleted = contacts(portal, 2)
    portal.delete(deleted)
    assert list(hubspot.read("contact", [kept, deleted, "123"], ["email"], IN_TIME).records) == [kept]
    assert hubspot.read("contact", ["123"], ["email"], IN_TIME) == BatchRead({}, {})


def test_a_merged_record_answers_under_the_survivors_id(portal: Portal, hubspot: HubSpot) -> None:
    first, second = old = contacts(portal, 2)
    survivor = portal.merge(first, second)
    found = hubspot.read("contact", old, ["email"], IN_TIME)
    assert list(found.records) == [survivor]
    assert found.merged == {first: survivor, second: survivor}
    assert "hs_merged_object_ids" not in found.records[survivor]
    asked = hubspot.read("contact", old, ["hs_merged_object_ids"], IN_TIME)
    assert asked.records[survivor]["hs_merged_object_ids"] == f"{first};{second}"


def test_a_record_merged_time_and_again_answers_under_the_last_survivors_id(portal: Portal, hubspot: HubSpot) -> None:
    first, second, third, other, erased = contacts(portal, 5)
    between = portal.merge(first, second)
    survivor = portal.merge(third, between)
    portal.privacy_delete(erased)
    found = hubspot.read("contact", [survivor, first, between, other, erased], ["email"], IN_TIME)
    assert found.records.keys() == {survivor, other}
    assert found.merged == {first: survivor, between: survivor}
    assert portal.calls == {READ: 1}


def test_a_record_whose_survivor_answers_is_neither_absent_nor_unreadable(portal: Portal, hubspot: HubSpot) -> None:
    read = {"id": "2", "properties": {"email": "a@b.c", "hs_merged_object_ids": "1;2;7"}}
    body = {"results": [read], "errors": [{"category": "VALIDATION_ERROR"}]}
    portal.faults.append(Fault(207, json.dumps(body).encode(), JSON))
    found = hubspot.read("contact", ["1", "2", "3"], ["email"], IN_TIME)
    assert found.merged == {"1": "2"}
    assert found.unreadable.keys() == {"3"}


@pytest.mark.parametrize("named", [{"context": {"ids": ["1"]}}, {}])
def test_an_error_of_a_record_that_is_not_its_absence_makes_that_record_unreadable_and_no_other(
    portal: Portal, hubspot: HubSpot, named: dict[str, object]
) -> None:
    read = {"id": "2", "properties": {"email": "a@b.c"}}
    body = {"results": [read], "errors": [{"category": "VALIDATION_ERROR", "message": PERSON, **named}]}
    portal.faults.append(Fault(207, json.dumps(body).encode(), JSON))
    found = hubspot.read("contact", ["1", "2"], ["email"], IN_TIME)
    assert found.records == {"2": {"email": "a@b.c"}}
    assert found.unreadable.keys() == {"1"}
    assert "VALIDATION_ERROR" in str(found.unreadable["1"])
    assert PERSON not in str(found.unreadable["1"])


def test_owners_are_read_page_by_page_archived_ones_too(
    portal: Portal, hubspot: HubSpot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crm, "OWNERS_PER_PAGE", 2)
    owners = [portal.add_owner(f"rep{place}@example.com") for place in range(5)]
    portal.deactivate_owner(owners[0])
    assert hubspot.owners(IN_TIME) == [
        *(Owner(owners[place], f"rep{place}@example.com", archived=False) for place in range(1, 5)),
        Owner(owners[0], "rep0@example.com", archived=True),
    ]
    assert portal.calls == {OWNERS: 3}


def test_pages_of_owners_without_end_are_given_up(
    portal: Portal, hubspot: HubSpot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crm, "OWNER_PAGES", 3)
    page = {"results": [], "paging": {"next": {"after": "1"}}}
    portal.faults.extend(Fault(200, json.dumps(page).encode(), JSON) for _ in range(9))
    with pytest.raises(HubSpotUnavailable, match="3 pages"):
        hubspot.owners(IN_TIME)
    assert portal.calls == {OWNERS: 3}


# Histories ---------------------------------------------------------------------------------------------


def history(*changes: Mapping[str, object]) -> Fault:
    """HubSpot's answer about record 1, whose owner had these values."""
    record = {"id": "1", "properties": {}, "propertiesWithHistory": {"hubspot_owner_id": changes}}
    return Fault(200, json.dumps({"results": [record]}).encode(), JSON)


def test_the_histories_of_fifty_records_owners_are_read_in_one_call(portal: Portal, hubspot: HubSpot, ada: str) -> None:
    ids = contacts(portal, 50)
    bob, at = portal.add_owner("bob@example.com"), 1_790_000_000_123
    hubspot.write_owners("contact", [OwnerWrite(ids[0], ada, {})], IN_TIME)
    portal.change(ids[1], {"hubspot_owner_id": bob}, source="AUTOMATION_PLATFORM", at=at, by="workflowId:77")
    portal.change(ids[1], {"hubspot_owner_id": ""}, at=at + 1)
    portal.change(ids[1], {"hubspot_owner_id": ada}, source="INTEGRATION", at=at - 1, by="99")
    portal.calls.clear()
    histories = hubspot.owner_histories("contact", ids, IN_TIME)
    assert portal.calls == {READ: 1}
    assert list(histories) == ids
    ((ours,), (cleared, workflow, app), *rest) = histories.values()
    assert (ours.owner, ours.source, ours.by) == (ada, "INTEGRATION", str(portal.app_id))
    assert cleared == OwnerChange(None, at + 1, "CRM_UI", None)
    assert workflow == OwnerChange(bob, at, "AUTOMATION_PLATFORM", "workflowId:77")
    assert app == OwnerChange(ada, at - 1, "INTEGRATION", "99")
    assert not any(rest)


def test_records_that_hubspot_does_not_know_have_no_history(portal: Portal, hubspot: HubSpot) -> None:
    kept, deleted = contacts(portal, 2)
    portal.delete(deleted)
    assert hubspot.owner_histories("contact", [kept, deleted, "123"], IN_TIME) == {kept: ()}


def test_changes_of_one_moment_stay_in_hubspots_order(portal: Portal, hubspot: HubSpot) -> None:
    moment = {"timestamp": "2026-09-21T12:00:00.250Z", "sourceType": "CRM_UI"}
    portal.faults.append(history({**moment, "value": "2"}, {**moment, "value": "1"}))
    assert [change.owner for change in hubspot.owner_histories("contact", ["1"], IN_TIME)["1"]] == ["2", "1"]


@pytest.mark.parametrize("unreadable", [{}, {"timestamp": None}, {"timestamp": "soon"}, {"timestamp": "2026-09-21"}])
def test_a_change_without_a_time_is_left_out(portal: Portal, hubspot: HubSpot, unreadable: dict[str, object]) -> None:
    known = {"value": "1", "timestamp": "2026-09-21T14:00:00+02:00"}
    portal.faults.append(history({"value": "2", **unreadable}, known))
    (change,) = hubspot.owner_histories("contact", ["1"], IN_TIME)["1"]
    assert change == OwnerChange("1", 1_789_992_000_000, "UNKNOWN", None)


@pytest.mark.parametrize("person", [PERSON, "Jo Smith", "+33 1 23 45", "x" * 65, ""])
def test_a_change_tells_nothing_of_a_person(portal: Portal, hubspot: HubSpot, person: str) -> None:
    told = {"value": None, "sourceType": person, "sourceId": person, "sourceLabel": PERSON}
    portal.faults.append(history({**told, "timestamp": "1970-01-01T00:00:01Z"}))
    assert hubspot.owner_histories("contact", ["1"], IN_TIME) == {"1": (OwnerChange(None, 1_000, "UNKNOWN", None),)}


def test_histories_that_hubspot_cannot_read_now_are_not_taken_for_absent(portal: Portal, hubspot: HubSpot) -> None:
    errors = [{"category": "OBJECT_NOT_FOUND", "context": {"ids": ["2"]}}, {"category": "INTERNAL_ERROR"}]
    portal.faults.append(Fault(207, json.dumps({"results": [], "errors": errors}).encode(), JSON))
    with pytest.raises(HubSpotUnavailable, match="INTERNAL_ERROR"):
        hubspot.owner_histories("contact", ["1", "2"], IN_TIME)


# Writing -----------------------------------------------------------------------------------------------


def test_owners_and_explanations_are_written_in_one_call(portal: Portal, hubspot: HubSpot, ada: str) -> None:
    ids = contacts(portal, 100)
    assert hubspot.write_owners("contact", [OwnerWrite(lead, ada, WHY) for lead in ids], IN_TIME) == WriteResult({})
    assert portal.calls == {UPDATE: 1}
    for lead in ids:
        assert portal.contact(lead).properties.items() >= {"hubspot_owner_id": ada, **WHY}.items()


def test_empty_texts_clear_the_explanation(portal: Portal, hubspot: HubSpot, ada: str) -> None:
    (lead,) = contacts(portal, 1)
    hubspot.write_owners("contact", [OwnerWrite(lead, ada, WHY)], IN_TIME)
    assert hubspot.write_owners("contact", [OwnerWrite(lead, ada, dict.fromkeys(WHY, ""))], IN_TIME) == WriteResult({})
    assert hubspot.read("contact", [lead], list(WHY), IN_TIME).records[lead].items() >= dict.fromkeys(WHY).items()


def test_an_unknown_owner_is_found_by_halving_and_the_others_are_written(
    portal: Portal, hubspot: HubSpot, ada: str
) -> None:
    ids = contacts(portal, 97)
    bad = set(ids[10:20])
    writes = [OwnerWrite(lead, NOBODY if lead in bad else ada, WHY) for lead in ids]
    written = hubspot.write_owners("contact", writes, IN_TIME)
    assert written.refused.keys() == bad
    assert {kind for kind, _ in written.refused.values()} == {Refusal.OWNER}
    assert written.refused[ids[10]][1] == "VALIDATION_ERROR INVALID_OWNER_ID hubspot_owner_id"
    assert written.explained
    assert {owner_of(portal, lead) for lead in ids if lead not in bad} == {ada}
    assert portal.calls[UPDATE] <= 16


def test_one_unknown_owner_of_all_is_refused_in_one_call(portal: Portal, hubspot: HubSpot) -> None:
    ids = contacts(portal, 50)
    written = hubspot.write_owners("contact", [OwnerWrite(lead, NOBODY, WHY) for lead in ids], IN_TIME)
    assert written.refused.keys() == set(ids)
    assert portal.calls == {UPDATE: 1}


def test_halving_takes_at_most_two_calls_per_record(portal: Portal, hubspot: HubSpot) -> None:
    portal.faults.extend([refused({"category": "VALIDATION_ERROR"})] * 300)
    written = hubspot.write_owners("contact", [OwnerWrite(str(lead), "1", WHY) for lead in range(1, 101)], IN_TIME)
    assert len(written.refused) == 100
    assert {kind for kind, _ in written.refused.values()} == {Refusal.OTHER}
    assert portal.calls == {UPDATE: 199}


def test_a_refused_explanation_property_is_left_out_and_said_so(portal: Portal, hubspot: HubSpot, ada: str) -> None:
    ids = contacts(portal, 97)
    del portal.properties["fairturn_reason"]
    written = hubspot.write_owners("contact", [OwnerWrite(lead, ada, WHY) for lead in ids], IN_TIME)
    assert written == WriteResult({}, explained=False)
    assert portal.calls == {UPDATE: 2}
    assert {owner_of(portal, lead) for lead in ids} == {ada}
    assert "fairturn_team" not in portal.contact(ids[0]).properties


def test_an_unknown_owner_is_told_from_a_refused_explanation(portal: Portal, hubspot: HubSpot, ada: str) -> None:
    good, bad = contacts(portal, 2)
    portal.define_property("fairturn_team", options=["spain"])
    written = hubspot.write_owners("contact", [OwnerWrite(good, ada, WHY), OwnerWrite(bad, NOBODY, WHY)], IN_TIME)
    assert not written.explained
    assert {lead: kind for lead, (kind, _) in written.refused.items()} == {bad: Refusal.OWNER}
    assert owner_of(portal, good) == ada


def test_refusals_of_single_records_are_told_apart(portal: Portal, hubspot: HubSpot, ada: str) -> None:
    portal.judges_each = True
    good, bad, deleted, merged, other = contacts(portal, 5)
    portal.delete(deleted)
    portal.merge(merged, other)
    owners = {good: ada, bad: NOBODY, deleted: ada, merged: ada, "7": ada}
    written = hubspot.write_owners("contact", [OwnerWrite(*each, WHY) for each in owners.items()], IN_TIME)
    assert {lead: kind for lead, (kind, _) in written.refused.items()} == {
        bad: Refusal.OWNER,
        deleted: Refusal.GONE,
        merged: Refusal.GONE,
        "7": Refusal.GONE,
    }
    assert owner_of(portal, good) == ada
    assert portal.calls == {UPDATE: 1}


def test_records_whose_explanation_is_refused_are_written_again_without_it(
    portal: Portal, hubspot: HubSpot, ada: str
) -> None:
    portal.judges_each = True
    portal.define_property("fairturn_team", options=["france"])
    first, second = contacts(portal, 2)
    writes = [OwnerWrite(first, ada, WHY), OwnerWrite(second, ada, {**WHY, "fairturn_team": "spain"})]
    assert hubspot.write_owners("contact", writes, IN_TIME) == WriteResult({}, explained=False)
    assert portal.calls == {UPDATE: 2}
    assert portal.contact(first).properties["fairturn_team"] == "france"
    assert (owner_of(portal, first), owner_of(portal, second)) == (ada, ada)
    assert "fairturn_team" not in portal.contact(second).properties


def test_an_error_that_names_no_record_is_of_those_without_a_result(portal: Portal, hubspot: HubSpot) -> None:
    body = {
        "results": [{"id": "1", "properties": {}}, {"id": "77", "objectWriteTraceId": "2"}],
        "errors": [{"category": "OBJECT_NOT_FOUND"}],
    }
    portal.faults.append(Fault(207, json.dumps(body).encode(), JSON))
    written = hubspot.write_owners("contact", [OwnerWrite(lead, "5", {}) for lead in ("1", "2", "3")], IN_TIME)
    assert written.refused == {"3": (Refusal.GONE, "OBJECT_NOT_FOUND")}


def test_a_passing_error_of_one_record_puts_off_that_record_alone(portal: Portal, hubspot: HubSpot) -> None:
    body = {"results": [{"id": "2"}], "errors": [{"category": "RATE_LIMITS", "context": {"ids": ["1"]}}]}
    portal.faults.append(Fault(207, json.dumps(body).encode(), JSON))
    written = hubspot.write_owners("contact", [OwnerWrite("1", "5", {}), OwnerWrite("2", "5", {})], IN_TIME)
    assert written.refused == {}
    assert written.put_off.keys() == {"1"}
    assert "RATE_LIMITS" in str(written.put_off["1"])


def test_a_record_that_hubspot_says_nothing_of_is_put_off(portal: Portal, hubspot: HubSpot) -> None:
    portal.faults.append(Fault(200, json.dumps({"results": [{"id": "2"}]}).encode(), JSON))
    written = hubspot.write_owners("contact", [OwnerWrite("1", "5", {}), OwnerWrite("2", "5", {})], IN_TIME)
    assert written.refused == {}
    assert written.put_off.keys() == {"1"}


def test_a_fault_amid_the_halves_puts_off_what_is_left(portal: Portal, hubspot: HubSpot, ada: str) -> None:
    ids = contacts(portal, 4)
    writes = [OwnerWrite(lead, NOBODY if lead == ids[0] else ada, WHY) for lead in ids]
    portal.faults.extend([slow(0), slow(0), TEN_SECONDLY])
    written = hubspot.write_owners("contact", writes, IN_TIME)
    assert {failure.retry_after for failure in written.put_off.values()} == {10}
    assert 0 < len(written.put_off) < 4
    assert all(owner_of(portal, lead) == ada for lead in set(ids) - written.put_off.keys() - written.refused.keys())
    assert hubspot.write_owners("contact", writes, IN_TIME).refused.keys() == {ids[0]}
    assert {owner_of(portal, lead) for lead in ids[1:]} == {ada}


# Bad days ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [
        BAD_GATEWAY,
        Fault(500, b"", {}),
        Fault(503, b"", {"Retry-After": "86400"}),
        Fault(524, "Délai dépassé".encode("latin-1"), {"content-type": "text/plain"}),
        Fault(200, b"<html>hello</html>", {"content-type": "text/html"}),
        Fault(200, b"", {}),
        Fault(200, b"null", JSON),
        Fault(200, b'{"status": "PENDING"}', JSON),
        Fault(204, b"", {}),
        SECONDLY,
    ],
)
def test_what_passes_in_a_moment_is_tried_three_times_and_then_left_to_the_queue(
    portal: Portal, hubspot: HubSpot, pauses: list[float], fault: Fault
) -> None:
    (lead,) = contacts(portal, 1)
    portal.faults.extend([fault, fault])
    assert lead in hubspot.read("contact", [lead], ["email"], IN_TIME).records
    assert portal.calls == {READ: 3}
    low, high = (1.0, 1.3) if fault is SECONDLY else (0.2, 0.6)
    assert all(low <= pause <= high for pause in pauses)
    assert len(pauses) == 2
    portal.faults.extend([fault, fault, fault])
    with pytest.raises(HubSpotUnavailable):
        hubspot.read("contact", [lead], ["email"], IN_TIME)
    assert portal.calls == {READ: 6}


@pytest.mark.parametrize(
    ("fault", "retry_after"),
    [
        (TEN_SECONDLY, 10),
        (DAILY, 900),
        (refused({"category": "LOCKED"}, 423), 2),
        (Fault(477, b"", {"Retry-After": "3600"}), 3_600),
        (refused({"category": "MISSING_SCOPES"}, 403), 0),
        (refused({"category": "VALIDATION_ERROR"}), 0),
        (Fault(404, b"<html>", {}), 0),
        (Fault(302, b"", {"Location": "/elsewhere"}), 0),
    ],
)
@pytest.mark.parametrize(
    "call",
    [
        lambda hubspot: hubspot.read("contact", ["1"], ["email"], IN_TIME),
        lambda hubspot: hubspot.owner_histories("contact", ["1"], IN_TIME),
        lambda hubspot: hubspot.owners(IN_TIME),
    ],
)
def test_what_takes_longer_is_left_to_the_queue_at_once(
    portal: Portal,
    hubspot: HubSpot,
    pauses: list[float],
    fault: Fault,
    retry_after: float,
    call: Callable[[HubSpot], object],
) -> None:
    portal.faults.append(fault)
    with pytest.raises(HubSpotUnavailable) as caught:
        call(hubspot)
    assert caught.value.retry_after == retry_after
    assert portal.calls.total() == 1
    assert pauses == []


def test_a_page_that_is_not_hubspots_never_means_that_a_record_is_gone(portal: Portal, hubspot: HubSpot) -> None:
    portal.faults.append(Fault(404, b"<html>Not Found</html>", {}))
    written = hubspot.write_owners("contact", [OwnerWrite("1", "5", {})], IN_TIME)
    assert written.refused == {}
    assert written.put_off.keys() == {"1"}


def test_a_late_answer_is_not_waited_for(portal: Portal, pauses: list[float]) -> None:
    hurried = HubSpot(lambda _: TOKEN, portal.url, timeout=(0.5, 0.05), sleep=pauses.append)
    portal.faults.extend([slow(0.15)] * 3)
    written = hurried.write_owners("contact", [OwnerWrite("1", "5", {})], IN_TIME)
    assert "ReadTimeoutError" in str(written.put_off["1"])
    assert portal.calls == {UPDATE: 3}


def test_nobody_at_the_address_is_not_there_now(pauses: list[float]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(HubSpotUnavailable, match="NewConnectionError"):
        HubSpot(lambda _: TOKEN, f"http://127.0.0.1:{port}", sleep=pauses.append).owners(IN_TIME)
    assert len(pauses) == 2


def test_an_error_of_tls_is_not_mistaken_for_a_mistake_of_ours(portal: Portal, pauses: list[float]) -> None:
    url = portal.url.replace("http", "https")
    with pytest.raises(HubSpotUnavailable, match="SSLError"):
        HubSpot(lambda _: TOKEN, url, sleep=pauses.append).read("contact", ["1"], [], IN_TIME)


def test_a_rotated_token_is_asked_for_once(portal: Portal) -> None:
    asked: list[bool] = []

    def token(refresh: bool) -> str:  # noqa: FBT001 - as HubSpot calls it
        asked.append(refresh)
        return "new" if True in asked else TOKEN

    hubspot = HubSpot(token, portal.url)
    portal.token = "new"
    assert hubspot.owners(IN_TIME) == []
    assert asked == [False, True, False]
    assert portal.calls == {OWNERS: 3}


def test_a_token_that_stays_wrong_is_not_tried_for_ever(portal: Portal) -> None:
    hubspot = HubSpot(lambda _: "wrong", portal.url)
    with pytest.raises(HubSpotUnavailable, match="401 INVALID_AUTHENTICATION"):
        hubspot.read("contact", ["1"], [], IN_TIME)
    assert portal.calls == {READ: 2}


@pytest.mark.parametrize(
    "fault",
    [
        refused({"category": "VALIDATION_ERROR", "message": f"{PERSON} is not valid", "context": {"x": [PERSON]}}),
        refused({"category": PERSON, "errors": [{"code": PERSON, "context": {"propertyName": [PERSON]}}]}, 403),
        Fault(502, PERSON.encode(), {"x-person": PERSON}),
        Fault(200, f'{{"results": [{{"id": {{}}, "properties": "{PERSON}"}}]}}'.encode(), JSON),
        Fault(500, f"é{PERSON}".encode("latin-1"), {"x-person": PERSON}),
    ],
)
def test_no_exception_or_log_tells_what_hubspot_said_about_a_person(
    portal: Portal,
    hubspot: HubSpot,
    fault: Fault,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    portal.faults.extend([fault] * 3)
    with caplog.at_level(logging.DEBUG), pytest.raises(HubSpotUnavailable) as caught:
        hubspot.read("contact", ["1"], ["email"], IN_TIME)
    told = text_of(caught.value) + caplog.text + "".join(capsys.readouterr())
    assert PERSON not in told
    assert TOKEN not in told


def test_no_refusal_tells_what_hubspot_said_about_a_person(portal: Portal, hubspot: HubSpot) -> None:
    told = {"category": "VALIDATION_ERROR", "message": f'{PERSON}: [{{"name":"{PERSON}"}}]'}
    portal.faults.append(refused(told))
    written = hubspot.write_owners("contact", [OwnerWrite("1", "5", WHY)], IN_TIME)
    assert written.refused == {"1": (Refusal.OTHER, "VALIDATION_ERROR")}


# Deadlines ---------------------------------------------------------------------------------------------


class _Dripping(BaseHTTPRequestHandler):
    """Answers one byte at a time, and never comes to an end before `stopped` is set."""

    drips: ClassVar[str]
    stopped: ClassVar[Event]
    requests: ClassVar[list[str]] = []

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.requests.append(self.path)
        body = b'{"results": []}'
        if self.drips == "headers":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Drip: ")
        else:
            self.send_response(200)
            self.end_headers()
        while not self.stopped.wait(0.2):
            self.wfile.write(b" ")
        self.wfile.write(b"\r\n\r\n" + body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def dripping(drips: str) -> Iterator[str]:
    _Dripping.drips, _Dripping.stopped = drips, Event()
    _Dripping.requests.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), _Dripping) as server:
        Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        _Dripping.stopped.set()
        server.shutdown()


@pytest.mark.parametrize("drips", ["headers", "body"])
def test_an_answer_that_drips_is_given_up_at_the_deadline(drips: str) -> None:
    with dripping(drips) as url:
        hubspot = HubSpot(lambda _: TOKEN, url)
        began = time.monotonic()
        with pytest.raises(HubSpotUnavailable, match="too slowly"):
            hubspot.read("contact", ["1"], [], Deadline.after(1.1))
        assert 1.0 < time.monotonic() - began < 1.6
        written = hubspot.write_owners("contact", [OwnerWrite("1", "5", {})], Deadline.after(1.1))
        assert "too slowly" in str(written.put_off["1"])
        assert time.monotonic() - began < 3.2
        assert len(_Dripping.requests) == 2


def test_what_takes_longer_than_one_attempt_may_is_tried_again_while_there_is_time(
    portal: Portal, hubspot: HubSpot, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crm, "LONGEST_CALL", 0.1)
    portal.faults.append(slow(0.3))
    assert hubspot.owners(IN_TIME) == []
    assert portal.calls == {OWNERS: 3}
    assert len(pauses) == 1


def test_requests_that_were_given_up_are_few_and_make_way_when_they_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crm, "LONGEST_CALL", 0.05)
    with dripping("body") as url:
        hubspot = HubSpot(lambda _: TOKEN, url, sleep=lambda _: None)
        for _ in range(3):
            with pytest.raises(HubSpotUnavailable, match="too slowly"):
                hubspot.read("contact", ["1"], [], IN_TIME)
        assert len(_Dripping.requests) == crm.CALLERS
        _Dripping.stopped.set()
        monkeypatch.setattr(crm, "LONGEST_CALL", 5.0)
        assert hubspot.read("contact", ["1"], [], IN_TIME) == BatchRead({}, {})
        assert len(_Dripping.requests) == crm.CALLERS + 1


@pytest.mark.parametrize("left", [0.9, 0.0, -3.0])
def test_nothing_begins_when_too_little_time_is_left(portal: Portal, left: float) -> None:
    asked: list[bool] = []

    def token(refresh: bool) -> str:  # noqa: FBT001 - as HubSpot calls it
        asked.append(refresh)
        return TOKEN

    hubspot = HubSpot(token, portal.url)
    deadline = Deadline(lambda: left)
    with pytest.raises(OutOfTime):
        hubspot.read("contact", ["1"], [], deadline)
    with pytest.raises(OutOfTime):
        hubspot.owner_histories("contact", ["1"], deadline)
    with pytest.raises(OutOfTime):
        hubspot.owners(deadline)
    written = hubspot.write_owners("contact", [OwnerWrite("1", "5", {})], deadline)
    assert isinstance(written.put_off["1"], OutOfTime)
    assert not portal.calls
    assert asked == []


def test_a_request_does_not_begin_when_reading_the_token_took_the_time(portal: Portal) -> None:
    left = [5.0]

    def token(_: bool) -> str:  # noqa: FBT001 - as HubSpot calls it
        left[0] -= 4.5
        return TOKEN

    with pytest.raises(OutOfTime):
        HubSpot(token, portal.url).owners(Deadline(lambda: left[0]))
    assert not portal.calls


@pytest.mark.parametrize(("left", "calls"), [(1.4, 1), (1.9, 2)])
def test_no_pause_is_made_before_an_attempt_that_would_have_no_time(
    portal: Portal, pauses: list[float], caplog: pytest.LogCaptureFixture, left: float, calls: int
) -> None:
    deadline = Deadline(lambda: left - 0.3 * portal.calls.total() - sum(pauses))
    portal.faults.extend([BAD_GATEWAY] * 3)
    with caplog.at_level(logging.INFO), pytest.raises(HubSpotUnavailable, match="502"):
        HubSpot(lambda _: TOKEN, portal.url, sleep=pauses.append).owners(deadline)
    assert portal.calls == {OWNERS: calls}
    assert len(pauses) == caplog.text.count("HubSpot is asked again") == calls - 1


def test_a_token_is_not_tried_anew_when_the_refusal_took_the_time(portal: Portal) -> None:
    deadline = Deadline(lambda: 1.5 - portal.calls.total())
    with pytest.raises(OutOfTime):
        HubSpot(lambda _: "wrong", portal.url).owners(deadline)
    assert portal.calls == {OWNERS: 1}


def test_halving_stops_at_the_deadline_and_what_is_left_is_put_off(portal: Portal, hubspot: HubSpot) -> None:
    """97 refused writes, 0.3 s each: all would take a minute."""
    deadline = Deadline(lambda: 20.0 - 0.3 * portal.calls.total())
    portal.faults.extend([refused({"category": "VALIDATION_ERROR"})] * 193)
    writes = [OwnerWrite(str(lead), "1", WHY) for lead in range(1, 98)]
    written = hubspot.write_owners("contact", writes, deadline)
    assert portal.calls == {UPDATE: 64}
    assert written.refused
    assert written.put_off
    assert written.refused.keys() | written.put_off.keys() == {write.id for write in writes}
    assert not written.refused.keys() & written.put_off.keys()
    assert all(isinstance(failure, OutOfTime) for failure in written.put_off.values())


# Connections -------------------------------------------------------------------------------------------


class _KeptAlive(BaseHTTPRequestHandler):
    """Answers every call on the same connection, for as long as the caller keeps it."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    connections: ClassVar[set[int]] = set()
    requests: ClassVar[list[str]] = []

    def handle_one(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.connections.add(self.client_address[1])
        self.requests.append(self.path)
        status = 500 if len(self.requests) == 2 else 200
        body = b'{"results": []}' if status == 200 else b"<html>"
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = handle_one  # noqa: N815 - the server looks for these

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def kept_alive() -> Iterator[str]:
    _KeptAlive.connections.clear()
    _KeptAlive.requests.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), _KeptAlive) as server:
        server.daemon_threads = True
        Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_calls_of_one_kind_share_a_connection_whatever_comes_of_them() -> None:
    with kept_alive() as url:
        hubspot = HubSpot(lambda _: TOKEN, url, sleep=lambda _: None)
        for _ in range(5):
            hubspot.read("contact", ["1"], ["email"], IN_TIME)
            hubspot.write_owners("contact", [OwnerWrite("1", "5", {})], IN_TIME)
        assert len(_KeptAlive.requests) == 11
        assert len(_KeptAlive.connections) == 1
        hubspot.owners(IN_TIME)
        hubspot.owners(IN_TIME)
        assert len(_KeptAlive.connections) == 2


# Definitions of properties


def test_properties_are_listed_with_their_options_in_one_request(hubspot: HubSpot, portal: Portal) -> None:
    portal.define_property("size", options={"big": "Big ones", "small": "Small ones"})
    options = hubspot.options("contact", IN_TIME)
    assert options["size"] == {"big": "Big ones", "small": "Small ones"}
    assert options["country"] is None
    assert options["hubspot_owner_id"] is None  # its options are owners
    assert options.keys() == portal.properties.keys()
    assert portal.calls[PROPERTIES] == 1


def test_a_property_that_is_no_choice_has_no_options_whatever_is_listed(hubspot: HubSpot, portal: Portal) -> None:
    listed = [
        {"name": "a", "type": "string", "options": [{"label": "Yes", "value": "true"}]},
        {"name": "b", "type": "bool", "options": [{"label": "Yes", "value": "true"}, {"value": "false"}]},
        {"name": "c", "type": "enumeration", "options": None},
        {"name": "d", "type": "enumeration", "options": [{"value": "1"}], "externalOptions": True},
        {"name": "e"},
    ]
    portal.faults.append(refused({"results": listed}, 200))
    assert hubspot.options("contact", IN_TIME) == {
        "a": None,
        "b": {"true": "Yes", "false": "false"},
        "c": None,
        "d": None,
        "e": None,
    }


def test_a_missing_scope_for_properties_is_named(hubspot: HubSpot, portal: Portal) -> None:
    body = {"category": "MISSING_SCOPES", "errors": [{"context": {"requiredGranularScopes": ["crm.schemas.x.read"]}}]}
    portal.faults.append(refused(body, 403))
    with pytest.raises(HubSpotUnavailable, match=r"^HubSpot answers 403 MISSING_SCOPES crm\.schemas\.x\.read$"):
        hubspot.options("contact", IN_TIME)


def test_a_list_without_any_property_is_not_believed(hubspot: HubSpot, portal: Portal) -> None:
    portal.faults.append(refused({"results": []}, 200))
    with pytest.raises(HubSpotUnavailable, match="lists no properties"):
        hubspot.options("contact", IN_TIME)


def test_properties_are_listed_after_a_bad_moment(hubspot: HubSpot, portal: Portal) -> None:
    portal.faults.append(BAD_GATEWAY)
    assert "country" in hubspot.options("contact", IN_TIME)
    assert portal.calls[PROPERTIES] == 2
