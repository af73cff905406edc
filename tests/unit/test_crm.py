"""What HubSpot's errors mean, before any call is made."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fairturn.edges.hubspot.answers import Refusal, StandardError, read
from fairturn.edges.hubspot.client import MOMENT, SECOND, _failure

UNKNOWN_PROPERTY = [
    {
        "isValid": False,
        "message": 'Property "fairturn_rule" does not exist',
        "error": "PROPERTY_DOESNT_EXIST",
        "name": "fairturn_rule",
    }
]


def error(**fields: Any) -> StandardError:
    return read(StandardError, json.dumps(fields))


def test_codes_and_properties_are_read_from_the_list_of_errors() -> None:
    told = error(
        category="VALIDATION_ERROR",
        message="Property values were not valid",
        errors=[{"code": "INVALID_OWNER_ID", "context": {"propertyName": ["hubspot_owner_id"]}}],
    )
    assert told.refusal() is Refusal.OWNER
    assert told.summary() == "VALIDATION_ERROR INVALID_OWNER_ID hubspot_owner_id"


def test_codes_and_properties_are_read_from_json_within_the_message() -> None:
    told = error(
        category="VALIDATION_ERROR",
        message=f"Property values were not valid: {json.dumps(UNKNOWN_PROPERTY)}",
    )
    assert told.names(frozenset({"fairturn_rule", "fairturn_team"})) == {"fairturn_rule"}
    assert told.summary() == "VALIDATION_ERROR PROPERTY_DOESNT_EXIST fairturn_rule"


def test_a_property_is_named_by_the_plain_words_of_a_message_too() -> None:
    told = error(category="VALIDATION_ERROR", message="fairturn_team violates a rule of this portal")
    assert told.names(frozenset({"fairturn_team", "fairturn_rule"})) == {"fairturn_team"}


def test_a_summary_holds_nothing_that_a_person_wrote() -> None:
    told = error(
        category="jo@example.com",
        code="JO SMITH",
        message='jo@example.com: [{"error":"Jo","name":"+33 1 23"}]',
        context={"propertyName": ["jo@example.com"], "missingScopes": ["Jo Smith"], "ids": ["7"]},
    )
    assert told.summary() == "without a reason"


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"category": None, "code": None, "message": None, "context": None, "errors": None},
        {"context": {"propertyName": "hs_lead_status"}},
        {"unheardOf": {"a": 1}, "errors": [{}]},
    ],
)
def test_every_field_of_an_error_may_be_missing(fields: dict[str, Any]) -> None:
    told = error(**fields)
    assert told.refusal() is Refusal.OTHER
    assert told.ids() == frozenset()


def test_a_record_that_is_not_found_is_gone() -> None:
    told = error(category="OBJECT_NOT_FOUND", context={"ids": ["7", "8"]})
    assert told.refusal() is Refusal.GONE
    assert told.ids() == {"7", "8"}


@pytest.mark.parametrize(
    ("status", "told", "retry_after"),
    [
        (429, {"policyName": "TEN_SECONDLY_ROLLING"}, 10),
        (429, {"message": "You have reached your ten_secondly_rolling limit."}, 10),
        (429, {"policyName": "DAILY"}, 900),
        (429, {}, 10),
        (423, {}, 2),
        (477, {}, 0),
        (401, {"category": "INVALID_AUTHENTICATION"}, 0),
    ],
)
def test_longer_waits_are_left_to_the_queue(status: int, told: dict[str, str], retry_after: float) -> None:
    failure = _failure(status, {}, json.dumps(told))
    assert failure.again is None
    assert failure.retry_after == retry_after


@pytest.mark.parametrize("status", [500, 502, 503, 504, 521, 523, 524])
def test_a_fault_of_the_server_is_tried_again_in_a_moment(status: int) -> None:
    assert _failure(status, {}, "<html>").again is MOMENT


@pytest.mark.parametrize("told", [{"policyName": "SECONDLY"}, {"message": "You have reached your secondly limit."}])
def test_the_limit_per_second_is_tried_again_after_a_second(told: dict[str, str]) -> None:
    assert _failure(429, {}, json.dumps(told)).again is SECOND


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("3600", 3_600), ("999999999", 86_400), ("soon", 0), ("-1", 0), ("²", 0), ("", 0)],
)
def test_retry_after_is_taken_in_whole_seconds_up_to_a_day(header: str, seconds: float) -> None:
    assert _failure(477, {"Retry-After": header}, "").retry_after == seconds


@pytest.mark.parametrize("body", ["", "<html>", "[]", "null", '{"errors": 7}', '{"message": {}}'])
def test_a_rejection_counts_only_when_it_is_hubspots_own(body: str) -> None:
    assert not _failure(404, {}, body).rejected
    assert _failure(404, {}, '{"category": "OBJECT_NOT_FOUND"}').rejected


def test_a_missing_scope_is_named() -> None:
    body = {
        "category": "MISSING_SCOPES",
        "errors": [{"context": {"requiredGranularScopes": ["crm.objects.contacts.write"]}}],
    }
    failure = _failure(403, {}, json.dumps(body))
    assert not failure.rejected
    assert failure.what == "HubSpot answers 403 MISSING_SCOPES crm.objects.contacts.write"
