"""Which rule takes a lead, and how the trace tells why."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairturn.rules.conditions import leaves
from fairturn.rules.events import BULK_SOURCES, Kind, Message
from fairturn.rules.policy import Policy, Priority
from fairturn.rules.routing import Ignored, Lead, Route, is_closed, route
from fairturn.rules.wording import describe
from fairturn_console.policy import reading

REP = "anna@example.com"


def policy(*rules: dict[str, Any], **changes: Any) -> Policy:
    data = {
        "reps": {REP: {"skills": ["fr", "de"]}},
        "teams": {"inbound": {"members": [REP]}, "europe": {"members": [REP]}},
        "rules": [{"team": "europe", **rule} if "ignore" not in rule else rule for rule in rules],
        "otherwise": {"team": "inbound"},
    }
    return reading.read({**data, **changes})


def lead(source: str = "FORM", **properties: str | None) -> Lead:
    message = Message(id="1", kinds=(Kind.CREATION,), occurred_at=1_780_000_000_000, change_source=source)
    return Lead(message, properties)


def holds(condition: dict[str, Any], value: str | None, source: str = "FORM") -> bool:
    """Tell whether a condition on the property `p` holds for a value."""
    if not {"source", "all", "any", "not"} & set(condition):
        condition = {"property": "p", **condition}
    found = route(lead(source, p=value), policy({"name": "x", "when": [condition]}))
    assert isinstance(found, Route)
    return found.rule == "x"


def is_(value: str) -> dict[str, Any]:
    return {"property": "country", "equals": value}


# Comparisons


@pytest.mark.parametrize(
    ("condition", "value", "expected"),
    [
        ({"equals": "FRANCE"}, "france ", True),
        ({"equals": "reunion"}, "La Réunion", False),
        ({"equals": 5}, "5.0", True),
        ({"equals": 5}, " 5 ", True),
        ({"equals": 5}, "+5", True),
        ({"equals": 5}, "0.5e1", True),
        ({"equals": 0.1}, "0.10", True),
        ({"equals": 0.1}, "0.1000000000000000055511151231257827", False),
        ({"equals": 5}, "5 employees", False),
        ({"equals": "5"}, "5.0", False),
        ({"equals": "5"}, "5", True),
        ({"equals": True}, "true", True),
        ({"equals": True}, "1", False),
        ({"equals": False}, "FALSE", True),
        ({"equals": False}, None, False),
        ({"equals": 1}, "true", False),
        ({"in": ["NO", 5, True]}, "no", True),
        ({"in": ["NO", 5, True]}, "5.00", True),
        ({"in": ["NO", 5, True]}, "True", True),
        ({"in": ["NO", 5, True]}, "false", False),
        ({"in": ["NO", 5, True]}, None, False),
        ({"at_least": 5}, "5", True),
        ({"at_least": 5}, "10", True),
        ({"at_least": 5}, "4.999", False),
        ({"at_least": 5}, "1e400", True),
        ({"at_least": -5}, None, False),
        ({"at_most": 5}, "5", True),
        ({"at_most": 5}, "-1e400", True),
        ({"at_most": 5}, "5.001", False),
        ({"at_most": 5}, "", False),
        ({"between": [5, 10]}, "5", True),
        ({"between": [5, 10]}, "10.0", True),
        ({"between": [5, 10]}, "4.9", False),
        ({"between": [5, 10]}, "10.1", False),
        ({"contains": "DÉMO"}, "I want a demo!", True),
        ({"contains": "demo"}, None, False),
        ({"starts_with": "+33"}, " +33 1 23", True),
        ({"starts_with": "33"}, "+33", False),
        ({"starts_with": "33"}, None, False),
        ({"known": True}, "0", True),
        ({"known": True}, "  \u00a0", False),
        ({"known": True}, None, False),
        ({"unknown": True}, "", True),
        ({"unknown": True}, None, True),
        ({"unknown": True}, "x", False),
        ({"source": ["form", "API"]}, None, True),
        ({"source": ["IMPORT"]}, None, False),
        ({"not": {"property": "p", "equals": "x"}}, None, True),
        ({"not": {"property": "p", "equals": "x"}}, "X", False),
    ],
)
def test_a_condition_compares_with_what_hubspot_says(
    condition: dict[str, Any], value: str | None, *, expected: bool
) -> None:
    assert holds(condition, value) is expected


@pytest.mark.parametrize(
    "value",
    [
        "1_000",
        "NaN",
        "Infinity",
        "-inf",
        "１０００",
        "1,000",
        "0x3e8",
        "1e999999999",
        "1e",
        ".",
        "9" * 41,
        "१०००",
    ],
)
def test_what_is_no_plain_number_is_neither_equal_nor_more_nor_less(value: str) -> None:
    assert not holds({"at_least": 0}, value)
    assert not holds({"at_most": 1000}, value)
    assert not holds({"equals": 1000}, value)


@pytest.mark.parametrize("value", ["1e999999999", "1e-999999999", "1" * 65_536, "1." + "0" * 65_536, "é" * 65_536])
def test_a_monstrous_value_is_answered_at_once(value: str) -> None:
    conditions = [{"property": "p", "at_least": 5}, {"property": "p", "contains": "x"}] * 100
    strict = policy({"name": "x", "when": conditions})
    begun = time.perf_counter()
    route(lead(p=value), strict)
    assert time.perf_counter() - begun < 0.5


def test_groups_are_all_any_and_not() -> None:
    one, two = ({"property": "p", "contains": letter} for letter in "ab")
    assert holds({"all": [one, two]}, "ab")
    assert not holds({"all": [one, two]}, "a")
    assert holds({"any": [one, two]}, "b")
    assert not holds({"any": [one, two]}, "c")
    assert holds({"not": {"any": [one, two]}}, "c")


# Which rule


def test_the_first_rule_whose_conditions_all_hold_takes_the_lead() -> None:
    rules = policy(
        {"name": "big french", "when": [is_("France"), {"property": "size", "at_least": 50}]},
        {"name": "french", "when": [is_("France")], "skills": ["fr", "de"], "priority": "urgent"},
        {"name": "french again", "when": [is_("France")]},
    )
    assert route(lead(country="FRANCE"), rules) == Route("europe", "de+fr", Priority.URGENT, "french", "10 1")


def test_a_lead_that_no_rule_takes_goes_by_the_catch_all() -> None:
    rules = policy({"name": "french", "when": [is_("France")]})
    assert route(lead(), rules) == Route("inbound", "any", Priority.NORMAL, "otherwise", "0")
    assert route(lead(), policy()) == Route("inbound", "any", Priority.NORMAL, "otherwise", "")


def test_a_rule_without_conditions_takes_everything() -> None:
    assert route(lead(), policy({"name": "all"})) == Route("europe", "any", Priority.NORMAL, "all", "-")


def test_an_ignoring_rule_gives_its_reason() -> None:
    rules = policy({"name": "rivals", "when": [{"property": "email", "contains": "@rival."}], "ignore": "a rival"})
    assert route(lead(email="x@RIVAL.example.com"), rules) == Ignored("a rival", "rivals", "1")


def test_every_condition_is_in_the_trace_even_when_the_outcome_is_clear_before() -> None:
    condition = {"any": [is_("France"), {"all": [is_("Spain"), {"not": is_("France")}]}]}
    found = route(lead(country="France"), policy({"name": "x", "when": [condition, is_("Peru"), is_("france")]}))
    assert found.trace == "10101"


def test_only_what_has_reached_the_value_is_a_lead() -> None:
    leads = {"when": {"property": "lifecyclestage", "reaches": ["marketingqualifiedlead", 12345]}}
    qualified = policy({"name": "french", "when": [is_("France")]}, leads=leads)
    said = "not a lead until lifecyclestage is marketingqualifiedlead or 12345"
    assert route(lead(country="France"), qualified) == Ignored(said, None, "1")
    assert isinstance(route(lead(lifecyclestage="MarketingQualifiedLead"), qualified), Route)
    assert isinstance(route(lead(lifecyclestage="12345"), qualified), Route)


def test_a_closed_record_is_told_apart_and_routed_as_if_it_were_open() -> None:
    closing = policy(leads={"closed": [{"property": "hs_lead_status", "reaches": ["UNQUALIFIED", "BAD_TIMING"]}]})
    assert is_closed({"hs_lead_status": "bad_timing"}, closing)
    assert not is_closed({"hs_lead_status": "OPEN"}, closing)
    assert not is_closed({}, closing)
    assert route(lead(hs_lead_status="UNQUALIFIED"), closing) == route(lead(hs_lead_status="OPEN"), closing)


@pytest.mark.parametrize(("owner", "found"), [("7", "7"), ("", None), (None, None)])
def test_a_lead_has_an_owner_only_if_hubspot_names_one(owner: str | None, found: str | None) -> None:
    assert lead(hubspot_owner_id=owner).owner == found
    assert lead().owner is None


# What a lead is worth

WORTH = {"property": "score", "bands": [20, 60]}


@pytest.mark.parametrize(
    ("score", "lane", "words"),
    [
        ("60", "any@60", "worth 60 or more"),
        (" 1e400 ", "any@60", "worth 60 or more"),
        ("59.99", "any@20", "worth 20 to 60"),
        ("20.0", "any@20", "worth 20 to 60"),
        ("19.99", "any@0", "worth less than 20"),
        ("-5", "any@0", "worth less than 20"),
        ("", "any@0", "worth less than 20"),
        ("1,000", "any@0", "worth less than 20"),
        (None, "any@0", "worth less than 20"),
    ],
)
def test_a_lead_goes_to_the_lane_of_what_it_is_worth(score: str | None, lane: str, words: str) -> None:
    found = route(lead(score=score), policy(leads={"worth": WORTH}))
    assert found == Route("inbound", lane, Priority.NORMAL, "otherwise", "", words)


def test_the_band_comes_behind_the_skills() -> None:
    rules = policy({"name": "all", "skills": ["fr", "de"]}, leads={"worth": WORTH})
    assert route(lead(score="70"), rules) == Route(
        "europe", "de+fr@60", Priority.NORMAL, "all", "-", "worth 60 or more"
    )


def test_the_worth_gives_the_priority_only_of_leads_whose_rule_names_none() -> None:
    rules = policy(
        {"name": "french", "when": [is_("France")], "priority": "normal"},
        {"name": "german", "when": [is_("Germany")]},
        leads={"worth": WORTH | {"priorities": ["low", "high", "urgent"]}},
    )

    def priority(country: str, score: str) -> str:
        found = route(lead(country=country, score=score), rules)
        assert isinstance(found, Route)
        return found.priority.value

    assert [priority("France", score) for score in ("0", "20", "60")] == ["normal", "normal", "normal"]
    assert [priority("Germany", score) for score in ("0", "20", "60")] == ["low", "high", "urgent"]
    assert [priority("Peru", score) for score in ("0", "20", "60")] == ["low", "high", "urgent"]


def test_a_band_is_said_in_words_if_the_policy_has_it() -> None:
    worth = policy(leads={"worth": WORTH}).leads.worth
    assert worth is not None
    assert worth.in_words("60") == "worth 60 or more"
    assert worth.in_words("0") == "worth less than 20"
    assert worth.in_words("40") == ""
    assert worth.in_words("") == ""


# Bulk sources

IMPORTED = {"source": ["IMPORT"]}


@pytest.mark.parametrize("source", sorted(BULK_SOURCES))
def test_a_bulk_source_is_ignored_unless_a_rule_names_it(source: str) -> None:
    rules = policy({"name": "french", "when": [is_("France")]})
    assert route(lead(source, country="France"), rules) == Ignored(
        f"comes from {source}, and no rule asks for it", None, "1"
    )


def test_a_rule_that_names_the_bulk_source_takes_it() -> None:
    rules = policy({"name": "french", "when": [is_("France")]}, {"name": "imports", "when": [is_("France"), IMPORTED]})
    found = route(lead("import", country="France"), rules)
    assert found == Route("europe", "any", Priority.NORMAL, "imports", "1 11")
    assert isinstance(route(lead("import", country="Spain"), rules), Ignored)
    assert isinstance(route(lead("MIGRATION", country="France"), rules), Ignored)


def test_a_source_named_in_a_group_counts_and_one_that_is_excluded_does_not() -> None:
    named = policy({"name": "x", "when": [{"any": [is_("France"), {"source": ["API", "IMPORT"]}]}]})
    assert isinstance(route(lead("IMPORT"), named), Route)
    elsewhere = policy({"name": "x", "when": [{"any": [is_("France"), {"source": ["API"]}]}]})
    assert isinstance(route(lead("IMPORT", country="France"), elsewhere), Ignored)
    excluded = policy({"name": "x", "when": [{"any": [is_("France"), {"not": IMPORTED}]}]})
    assert isinstance(route(lead("IMPORT", country="France"), excluded), Ignored)


def test_an_ignoring_rule_holds_for_bulk_sources_too() -> None:
    rules = policy(
        {"name": "rivals", "when": [is_("Spain")], "ignore": "a rival"},
        {"name": "imports", "when": [IMPORTED]},
    )
    assert route(lead("IMPORT", country="Spain"), rules) == Ignored("a rival", "rivals", "1")
    assert isinstance(route(lead("IMPORT", country="Peru"), rules), Route)


def test_an_ignoring_rule_that_names_a_bulk_source_asks_for_nothing() -> None:
    rules = policy({"name": "no imports", "when": [IMPORTED, is_("Spain")], "ignore": "imported"})
    assert route(lead("IMPORT", country="Peru"), rules) == Ignored(
        "comes from IMPORT, and no rule asks for it", None, "10"
    )


# Whatever HubSpot says

NAMES = ["country", "size", "note"]
hubspot_values = (
    st.none() | st.text() | st.integers().map(str) | st.floats().map(str) | st.sampled_from(["France", "1e999999999"])
)
rules_tried = policy(
    {"name": "a", "when": [is_("France"), {"any": [IMPORTED, {"property": "size", "between": [1, 99]}]}]},
    {
        "name": "b",
        "when": [{"not": {"property": "size", "at_least": 0.5}}, {"property": "note", "contains": "a"}],
    },
    {"name": "c", "when": [{"property": "note", "in": ["x", 7, True]}], "ignore": "no"},
    {"name": "d", "when": [{"property": "size", "starts_with": "1"}, {"property": "note", "known": True}]},
)


@given(st.dictionaries(st.sampled_from(NAMES), hubspot_values), st.sampled_from(["FORM", "IMPORT", "", "é"]))
def test_any_values_are_routed_and_the_trace_fits_the_policy(properties: dict[str, str | None], source: str) -> None:
    found = route(lead(source, **properties), rules_tried)
    tried = found.trace.split()
    shape = [sum(1 for _ in leaves(rule.when)) for rule in rules_tried.rules]
    assert [len(outcomes) for outcomes in tried] == shape[: len(tried)]
    assert set(found.trace) <= {"0", "1", " "}
    names = [rule.name for rule in rules_tried.rules]
    if found.rule in names:
        assert len(tried) == names.index(found.rule) + 1
    else:
        assert len(tried) == len(names)


@given(hubspot_values)
def test_unknown_is_the_opposite_of_known(value: str | None) -> None:
    assert holds({"unknown": True}, value) is not holds({"known": True}, value)


@given(st.decimals(-1000, 1000, places=2), st.decimals(-1000, 1000, places=2))
def test_numbers_compare_as_numbers(wanted: Any, value: Any) -> None:
    assert holds({"equals": wanted}, str(value)) is (value == wanted)
    assert holds({"at_least": wanted}, str(value)) is (value >= wanted)
    assert holds({"at_most": wanted}, str(value)) is (value <= wanted)


# In words


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        (is_("France"), "country is France"),
        ({"property": "country", "in": ["France", "Réunion"]}, "country is France or Réunion"),
        ({"property": "a", "in": ["x", 5, True]}, "a is x, 5 or true"),
        ({"property": "a", "at_least": 1000}, "a is at least 1000"),
        ({"property": "a", "at_most": 0.5}, "a is at most 0.5"),
        ({"property": "a", "between": [1, 2]}, "a is from 1 to 2"),
        ({"property": "a", "contains": "x"}, "a contains x"),
        ({"property": "a", "starts_with": "x"}, "a starts with x"),
        ({"property": "a", "known": True}, "a is known"),
        ({"property": "a", "unknown": True}, "a is unknown"),
        ({"source": ["FORM", "API"]}, "the source is FORM or API"),
        ({"not": is_("France")}, "country is not France"),
        ({"not": {"property": "a", "contains": "x"}}, "a does not contain x"),
        ({"not": {"property": "a", "starts_with": "x"}}, "a does not start with x"),
        ({"not": {"not": is_("France")}}, "not (country is not France)"),
        ({"any": [is_("France"), {"source": ["API"]}]}, "country is France, or the source is API"),
        (
            {"all": [is_("Peru"), {"any": [is_("A"), is_("B")]}]},
            "country is Peru, and (country is A, or country is B)",
        ),
        ({"not": {"all": [is_("A"), is_("B")]}}, "not (country is A, and country is B)"),
        ({"any": [is_("A")]}, "country is A"),
    ],
)
def test_a_condition_can_be_said_in_words(condition: dict[str, Any], words: str) -> None:
    (only,) = policy({"name": "x", "when": [condition]}).rules[0].when
    assert describe(only) == words


def test_all_conditions_of_a_rule_can_be_said_together() -> None:
    rule = policy({"name": "x", "when": [is_("A"), {"any": [is_("B"), is_("C")]}]}).rules[0]
    assert describe(rule.when) == "country is A, and (country is B, or country is C)"
    assert describe(()) == "always"


# What strangers write


@pytest.mark.parametrize(
    "text",
    [
        "\u0301\u0323" * 32_768,
        "\u0344" * 4_096 + "\u0323" * 61_440,
        "\u0f73" * 65_536,
        "\u1f82" * 65_536,
        "\ufdfa" * 65_536,
        "enterpris" * 7_281,
        "\u2003" * 65_536,
        "1" * 65_536,
    ],
    ids=[
        "marks",
        "two marks in one",
        "marks in one that is none",
        "letters with marks",
        "phrases as letters",
        "almost what is searched",
        "blanks",
        "digits",
    ],
)
def test_a_batch_of_the_longest_texts_is_routed_in_moments(text: str) -> None:
    """Of what HubSpot lets in: text that costs most to normalise, to search, to strip and to read as a number."""
    conditions = [
        *({"property": "p", "contains": f"enterprise {n}"} for n in range(20)),
        *({"property": "p", "equals": f"Réunion {n}"} for n in range(20)),
        *({"property": "p", "at_least": n} for n in range(360)),
    ]
    rules = policy({"name": "x", "when": [{"any": conditions}]})
    began = time.process_time()
    for _ in range(97):
        assert isinstance(route(lead(p=text), rules), Route)
    assert time.process_time() - began < 4  # what is not bounded takes minutes
