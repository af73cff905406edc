"""Properties and options of a policy that HubSpot does not have are found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest

from fairturn_console.policy import definitions, reading

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fairturn.deadline import Deadline
    from fairturn.edges.hubspot.client import HubSpot
    from fairturn.rules.policy import Policy

ANNA = "anna@example.com"
DEFINED: Mapping[str, Mapping[str, str] | None] = {
    "country": None,
    "hubspot_owner_id": None,
    "hs_lead_status": {"NEW": "New", "OPEN": "Open", "BAD_TIMING": "Bad timing"},
    "is_partner": {"true": "Yes", "false": "No"},
    "seats": {"5": "5", "10.0": "10", "1000+": "1000 or more"},
    "staff": {"1-5": "1 to 5", "5-25": "5 to 25", "25+": "more"},
    "years": {"5": "5", "10": "10"},
    "topics": {"a": "Accounts", "b": "Billing"},
    "letters": {letter: letter for letter in "abcdefghijkl"},
}


class Definitions:
    """HubSpot, as far as it is asked here."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def options(self, type: str, deadline: Deadline) -> Mapping[str, Mapping[str, str] | None]:  # noqa: A002
        assert deadline.left() <= definitions.WITHIN
        self.asked.append(type)
        return DEFINED


def policy(*conditions: Any, **changes: Any) -> Policy:
    return reading.read(
        {
            "reps": {ANNA: None},
            "teams": {"inbound": {"members": [ANNA]}},
            "rules": [{"name": "x", "when": list(conditions), "team": "inbound"}],
            "otherwise": {"team": "inbound"},
            **changes,
        }
    )


def said(policy: Policy) -> list[str]:
    return [str(problem) for problem in definitions.unknown(policy, cast("HubSpot", Definitions()))]


def status(value: Any) -> dict[str, Any]:
    return {"property": "hs_lead_status", "equals": value}


def test_a_policy_that_names_no_property_asks_nobody() -> None:
    hubspot = Definitions()
    assert definitions.unknown(policy({"source": ["FORM"]}), cast("HubSpot", hubspot)) == []
    assert hubspot.asked == []
    assert definitions.unknown(policy(status("NEW")), cast("HubSpot", hubspot)) == []
    assert hubspot.asked == ["contact"]


def test_a_property_that_hubspot_does_not_have_is_named_wherever_it_is() -> None:
    leads = {
        "when": {"property": "contry", "reaches": ["x"]},
        "worth": {"property": "seets", "bands": [20]},
        "closed": [{"property": "hs_lead_status", "reaches": ["OPEN"]}, {"property": "lead_status", "reaches": ["x"]}],
        "show": ["country", "xyz"],
    }
    nested = {"any": [{"not": {"property": "countri", "known": True}}, {"source": ["FORM"]}]}
    has_no = "HubSpot has no contact property"
    assert said(policy(nested, leads=leads)) == [
        f"leads.when.property: {has_no} 'contry', did you mean 'country'?",
        f"leads.worth.property: {has_no} 'seets', did you mean 'seats'?",
        f"leads.closed[1].property: {has_no} 'lead_status', did you mean 'hs_lead_status'?",
        f"leads.keep_values[1]: {has_no} 'xyz' by this internal name",
        f"rules[0].when[0].any[0].not.property: {has_no} 'countri', did you mean 'country'?",
    ]


@pytest.mark.parametrize(
    "condition",
    [
        status("new"),
        status(" Öpen"),
        status("NEW;bad_timing"),
        {"property": "hs_lead_status", "in": ["NEW", "Bad_Timing"]},
        {"property": "hs_lead_status", "contains": "TIM"},
        {"property": "is_partner", "equals": True},
        {"property": "is_partner", "equals": "FALSE"},
        {"property": "seats", "in": [5, 10, "10.0", "1000+"]},
        {"property": "country", "equals": "anything"},
        {"property": "hubspot_owner_id", "equals": "101"},
    ],
)
def test_what_compares_with_an_option_is_one(condition: dict[str, Any]) -> None:
    assert said(policy(condition)) == []


@pytest.mark.parametrize(
    ("condition", "what"),
    [
        (
            status("Bad timing"),
            "'Bad timing' is no option of 'hs_lead_status', but the label of one: write 'BAD_TIMING'",
        ),
        (status("BAD_TIMNG"), "'BAD_TIMNG' is no option of 'hs_lead_status', did you mean 'BAD_TIMING'?"),
        (status("Bad timming"), "'Bad timming' is no option of 'hs_lead_status', did you mean 'BAD_TIMING'?"),
        (status("x"), "'x' is no option of 'hs_lead_status'; it has NEW, OPEN, BAD_TIMING"),
        (status("NEW;x"), "'NEW;x' is no option of 'hs_lead_status', did you mean 'NEW'?"),
        (status(5), "5 is no option of 'hs_lead_status'; it has NEW, OPEN, BAD_TIMING"),
        (
            {"property": "is_partner", "equals": "yes"},
            "'yes' is no option of 'is_partner', but the label of one: write 'true'",
        ),
        (
            {"property": "letters", "equals": "xyz"},
            "'xyz' is no option of 'letters'; it has a, b, c, d, e, f, g, h, i, j, …",
        ),
    ],
)
def test_what_compares_with_no_option_is_named_with_what_may_be_meant(condition: dict[str, Any], what: str) -> None:
    assert said(policy(condition)) == [f"rules[0].when[0].equals: {what}"]


def test_what_is_to_be_reached_is_an_option_too() -> None:
    leads = {
        "when": {"property": "hs_lead_status", "reaches": ["OPEN", "OPENED"]},
        "closed": [{"property": "topics", "reaches": ["Billing"]}],
    }
    assert said(policy(leads=leads)) == [
        "leads.when.reaches[1]: 'OPENED' is no option of 'hs_lead_status', did you mean 'OPEN'?",
        "leads.closed[0].reaches[0]: 'Billing' is no option of 'topics', but the label of one: write 'b'",
    ]


def test_what_is_not_to_be_equal_is_an_option_too() -> None:
    unequal, none_of = (
        {"property": "hs_lead_status", "not_equals": "OPENED"},
        {"property": "topics", "not_in": ["a", "x"]},
    )
    assert said(policy(unequal, none_of)) == [
        "rules[0].when[0].not_equals: 'OPENED' is no option of 'hs_lead_status', did you mean 'OPEN'?",
        "rules[0].when[1].not_in[1]: 'x' is no option of 'topics'; it has a, b",
    ]


def test_a_number_is_not_compared_with_options_that_are_ranges() -> None:
    ranges = "'staff' holds ranges such as 1-5, which are no numbers: ask with `in`"
    assert said(policy({"property": "staff", "at_least": 25})) == [f"rules[0].when[0].property: {ranges}"]
    assert said(policy({"property": "staff", "in": ["1-5", "25+"]})) == []
    assert said(policy(leads={"worth": {"property": "staff", "bands": [20]}})) == [f"leads.worth.property: {ranges}"]
    assert said(policy({"property": "years", "at_least": 25})) == []


def test_what_tells_a_skill_or_a_priority_is_looked_up_too() -> None:
    otherwise = {
        "team": "inbound",
        "skills_from": [
            {"property": "hs_lead_status", "lists": {"français": ["OPEN", "Bad timing"]}},
            {"property": "staff", "at_least": {"français": 5}},
        ],
        "priority": {"urgent": {"property": "hs_lead_status", "equals": "NEWS"}},
    }
    reps = {ANNA: {"skills": "français"}}
    label = "'Bad timing' is no option of 'hs_lead_status', but the label of one: write 'BAD_TIMING'"
    assert said(policy(otherwise=otherwise, reps=reps)) == [
        "otherwise.priority.urgent[0].equals: 'NEWS' is no option of 'hs_lead_status', did you mean 'NEW'?",
        f"otherwise.skills_from[0].lists.français[1]: {label}",
        "otherwise.skills_from[1].property: 'staff' holds ranges such as 1-5, which are no numbers: ask with `in`",
    ]
