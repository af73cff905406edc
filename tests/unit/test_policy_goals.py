"""Where leads go: skills and priorities by properties, fixed owners, nobody, and second teams."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from fairturn.errors import PolicyInvalid
from fairturn.rules.events import Kind, Message
from fairturn.rules.policy import FIXED, Fallback, Goal, Policy, Priority
from fairturn.rules.routing import Ignored, Lead, Route, route
from fairturn_console.policy import reading, summary
from fairturn_console.policy.checks import MAX_TOLD
from fairturn_console.policy.doubts import doubts

ANNA, BOB, PARTNER = "anna@example.com", "bob@example.com", "partner@example.com"
NOW = datetime(2026, 11, 25, tzinfo=UTC)
SKILLS = ["fr", "dach", "large", "small"]
COUNTRY = {"property": "country", "lists": {"fr": ["France", "Monaco"], "dach": ["Germany", "Austria"]}}
SIZE = {"property": "seats", "at_least": {"small": 1, "large": 500}}


def raw(**otherwise: Any) -> dict[str, Any]:
    """Return a policy without rules and with two teams; what is otherwise is given."""
    return {
        "reps": {ANNA: {"skills": SKILLS}, BOB: {"skills": ["fr"]}},
        "teams": {"inbound": [ANNA, BOB], "anyone": [BOB]},
        "otherwise": {"team": "inbound", **otherwise}
        if otherwise.keys().isdisjoint(("owner", "ignore"))
        else otherwise,
    }


def policy(**otherwise: Any) -> Policy:
    return reading.read(raw(**otherwise))


def problems(data: object) -> list[str]:
    with pytest.raises(PolicyInvalid) as caught:
        reading.read(data)
    return [str(problem) for problem in caught.value.problems]


def doubted(data: object) -> list[str]:
    return [str(doubt) for doubt in doubts(reading.read(data), NOW)]


def routed(policy: Policy, source: str = "FORM", **properties: str) -> Route | Ignored:
    message = Message(id="1", kinds=(Kind.CREATION,), occurred_at=1_795_424_400_000, change_source=source)
    return route(Lead(message, properties), policy)


def way(policy: Policy, **properties: str) -> Route:
    found = routed(policy, **properties)
    assert isinstance(found, Route)
    return found


# Skills from a property


@pytest.mark.parametrize(
    ("properties", "lane"),
    [
        ({"country": "FRANCE "}, "fr"),
        ({"country": "austria"}, "dach"),
        ({"country": "Peru"}, "any"),
        ({}, "any"),
        ({"seats": "500"}, "large"),
        ({"seats": "499.9"}, "small"),
        ({"seats": "0"}, "any"),
        ({"seats": "500+"}, "any"),
        ({"country": "Monaco", "seats": "1e3"}, "fr+large"),
    ],
)
def test_a_lead_asks_for_the_skill_that_its_properties_tell(properties: dict[str, str], lane: str) -> None:
    assert way(policy(skills_from=[COUNTRY, SIZE]), **properties).lane == lane


def test_what_properties_tell_comes_beside_the_skills_that_are_named() -> None:
    found = policy(skills="small", skills_from=COUNTRY)
    assert [way(found, country=country).lane for country in ("France", "Peru")] == ["fr+small", "small"]
    assert found.lanes("inbound") == {"small", "fr+small", "dach+small"}


def test_every_combination_is_a_lane_and_its_properties_are_read() -> None:
    found = policy(skills_from=[COUNTRY, SIZE])
    kinds = {"any", "fr", "dach", "large", "small", "fr+large", "fr+small", "dach+large", "dach+small"}
    assert found.lanes("inbound") == kinds
    assert {"country", "seats"} <= set(found.properties())


def test_combinations_that_nobody_has_are_told_a_few_by_name() -> None:
    lists = {"property": "country", "lists": {"fr": "France", "it": "Italy", "es": "Spain", "pt": "Portugal"}}
    lacking = problems(raw(skills_from=[lists, SIZE]))
    assert MAX_TOLD == 3
    nobody = "otherwise.skills_from: nobody in team 'inbound' has"
    assert lacking == [
        f"{nobody} es: nobody could take the lead",
        f"{nobody} es and large: nobody could take the lead",
        f"{nobody} es and small: nobody could take the lead",
        "otherwise.skills_from: nor has anybody there 6 more sets of skills",
    ]


def test_combinations_that_nobody_has_are_no_problem_where_all_fall_back_on_somebody() -> None:
    lists = {"property": "country", "lists": {"it": "Italy"}}
    assert way(policy(skills_from=lists, if_nobody="anyone"), country="Italy").lane == "it"
    assert problems(raw(skills_from=lists, if_nobody={"urgent": "anyone"}))


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ({"property": "a"}, "skills_from.lists: is missing"),
        ({"lists": {"fr": "France"}}, "skills_from.property: is missing"),
        ({"property": "a", "lists": {}}, "skills_from.lists: must have at least 1, has 0"),
        ({"property": "a", "lists": {"fr": []}}, "skills_from.lists.fr: must have at least 1, has 0"),
        ({"property": "a", "at_least": {"fr": "5"}}, "skills_from.at_least.fr: must be a number, without quotes"),
        ({"property": "a", "at_least": {"fr": 5}, "lists": {}}, "skills_from.lists: unknown key 'lists'"),
        ({"property": "a", "list": {"fr": "x"}}, "skills_from.lists: is missing"),
        ([COUNTRY, {"property": "company.size", "at_least": {"large": 5}}], "skills_from[1].property: a company's"),
        ([SIZE] * 4, "skills_from: must have at most 3, has 4"),
        (
            [{"property": name, "lists": {f"s{n}": "x" for n in range(10)}} for name in "abc"],
            "skills_from: makes 1331 combinations of skills; at most 32",
        ),
    ],
)
def test_skills_that_are_told_wrongly_are_named_with_their_place(written: object, said: str) -> None:
    assert problems(raw(skills_from=written))[0].startswith(f"otherwise.{said}")


def test_a_value_in_two_lists_and_a_number_of_a_range_are_doubted() -> None:
    twice = {"property": "country", "lists": {"fr": ["France", "Monaco"], "dach": ["Germany", "MONACO"]}}
    (said,) = doubted(raw(skills_from=twice, if_nobody="anyone"))
    assert said == "otherwise.skills_from[0].lists.dach[1]: 'MONACO' is there already"
    ranges = {"property": "numemployees", "at_least": {"large": 500}}
    (said,) = doubted(raw(skills_from=ranges, if_nobody="anyone"))
    what = "HubSpot's own numemployees holds ranges such as 500-1000, which are no numbers: use `lists`"
    assert said == f"otherwise.skills_from[0].property: {what}"


# Priority by conditions

BY_SCORE = {
    "high": {"property": "score", "at_least": 50},
    "urgent": [{"property": "score", "at_least": 80}, {"property": "country", "known": True}],
}


def priority(policy: Policy, **properties: str) -> str:
    return way(policy, **properties).priority.value


def test_a_lead_has_the_most_urgent_priority_whose_conditions_all_hold() -> None:
    found = policy(priority=BY_SCORE)
    assert priority(found, score="80", country="Peru") == "urgent"
    assert priority(found, score="80") == "high"
    assert priority(found, score="50", country="Peru") == "high"
    assert priority(found, score="49") == "normal"
    assert {"score", "country"} <= set(found.properties())


def test_a_priority_without_conditions_is_that_of_all_others() -> None:
    found = policy(priority=BY_SCORE | {"low": []})
    assert [priority(found, score=score) for score in ("50", "49")] == ["high", "low"]


def test_where_no_condition_of_a_priority_holds_the_worth_decides() -> None:
    worth = {"property": "seats", "bands": [20], "priorities": ["low", "high"]}
    found = reading.read(raw(priority={"urgent": {"property": "score", "at_least": 80}}) | {"leads": {"worth": worth}})
    assert priority(found, seats="5", score="90") == "urgent"
    assert [priority(found, seats=seats) for seats in ("5", "20")] == ["low", "high"]


def test_conditions_of_a_priority_are_in_no_trace() -> None:
    assert way(policy(priority=BY_SCORE), score="80").trace == ""


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("asap", "priority: must be urgent, high, normal or low"),
        ({"asap": {"property": "a", "known": True}}, "priority.asap: must be urgent, high, normal or low"),
        ({"urgent": {"property": "a"}}, "priority.urgent: has no operator"),
        ({"urgent": {"property": "a", "in_list": "x"}}, "priority.urgent[0].in_list: unknown list 'x'; allowed: none"),
    ],
)
def test_a_wrong_priority_is_named_with_its_place(written: object, said: str) -> None:
    assert problems(raw(priority=written))[0].startswith(f"otherwise.{said}")


# One fixed owner, or nobody


def test_a_fixed_owner_gets_all_of_the_leads_and_is_a_rep_of_their_own() -> None:
    found = policy(owner="Partner@example.com", priority="high")
    routed = way(found)
    assert routed.rota.startswith(FIXED)
    assert found.rotas[routed.rota].members == (PARTNER,)
    assert (routed.lane, routed.priority) == ("any", Priority.HIGH)
    assert PARTNER in found.reps
    assert "partner" not in routed.rota
    assert found.teams() == ["inbound", "anyone"]


def test_rules_with_the_same_owner_share_one_ledger() -> None:
    rules = [{"name": name, "when": {"property": "a", "equals": name}, "owner": PARTNER} for name in "xy"]
    found = reading.read(raw(owner=ANNA) | {"rules": rules})
    assert way(found, a="x").rota == way(found, a="y").rota != way(found).rota


@pytest.mark.parametrize("key", ["team", "skills", "skills_from"])
def test_a_fixed_owner_goes_with_no_team_and_no_skills(key: str) -> None:
    written = {"team": "inbound", "skills": "fr", "skills_from": COUNTRY}[key]
    data = raw(owner=PARTNER, **{key: written})
    assert problems(data) == [f"otherwise.{key}: goes with no `owner`: one fixed owner gets all of these leads"]


def test_an_owner_who_is_no_address_is_told() -> None:
    assert problems(raw(owner="the partner")) == [
        "otherwise.owner: 'the partner' is no HubSpot e-mail address or owner id"
    ]


def test_a_fixed_owner_who_may_have_no_lead_is_doubted() -> None:
    data = raw(owner=PARTNER)
    data["reps"] |= {PARTNER: {"capacity": 0}}
    assert f"reps.{PARTNER}: has capacity 0, so leads that are theirs wait for ever" in doubted(data)


def test_what_no_rule_takes_may_be_ignored_with_a_reason() -> None:
    rules = [{"name": "french", "when": {"property": "country", "equals": "France"}, "team": "inbound"}]
    found = reading.read(raw(ignore="not from our countries") | {"rules": rules})
    assert way(found, country="France").rota == "inbound"
    assert routed(found, country="Peru") == Ignored("not from our countries", "otherwise", "0")
    assert routed(found, source="IMPORT") == Ignored("comes from IMPORT, and no rule asks for it", None, "0")
    assert summary.parts(found) == "2 reps, 2 teams, 1 rule and nothing else is a lead"


def test_what_is_ignored_says_why_and_nothing_else() -> None:
    assert problems(raw(ignore="x", team="inbound")) == ["otherwise.team: unknown key 'team'; allowed: ignore"]
    assert problems(raw(ignore=" ")) == ["otherwise.ignore: must be one line of text"]


# Whom a team falls back on


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("anyone", (Fallback("anyone"),)),
        ({"team": "anyone", "skills": "fr", "after": "10 minutes"}, (Fallback("anyone", ("fr",), after=10),)),
        ({"team": "anyone", "after": 0}, (Fallback("anyone"),)),
        ({"urgent": "anyone"}, (Fallback("anyone", priorities=(Priority.URGENT,)),)),
        (
            {"high": {"team": "anyone", "after": "1h"}, "normal": "inbound"},
            (
                Fallback("anyone", priorities=(Priority.HIGH,), after=60),
                Fallback("inbound", priorities=(Priority.NORMAL,)),
            ),
        ),
    ],
)
def test_a_fallback_is_written_in_three_ways(written: object, meant: tuple[Fallback, ...]) -> None:
    otherwise = policy(if_nobody=written).otherwise
    assert isinstance(otherwise, Goal)
    assert otherwise.fallbacks == meant


def test_a_lead_is_routed_with_its_fallback_if_its_priority_has_one() -> None:
    found = policy(
        skills="large", priority=BY_SCORE, if_nobody={"urgent": "anyone", "high": {"team": "anyone", "after": "2h"}}
    )
    urgent, high = way(found, score="80", country="Peru"), way(found, score="50")
    assert urgent.fallback is not None
    assert (urgent.lane, urgent.after) == ("large", 0)
    assert (urgent.fallback.rota, urgent.fallback.lane, urgent.fallback.priority) == ("anyone", "any", Priority.URGENT)
    assert high.after == 120
    assert way(found).fallback is None
    assert urgent.rotas() == ("inbound", "anyone")
    assert found.lanes("anyone") == {"any"}


def test_a_fallback_keeps_the_band_of_worth() -> None:
    worth = {"property": "seats", "bands": [20]}
    found = way(reading.read(raw(if_nobody="anyone") | {"leads": {"worth": worth}}), seats="20")
    assert found.fallback is not None
    assert (found.lane, found.fallback.lane) == ("any@20", "any@20")


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("anyon", "if_nobody: unknown team 'anyon', did you mean 'anyone'? allowed: inbound, anyone"),
        ({"urgent": "anyon"}, "if_nobody.urgent: unknown team 'anyon', did you mean 'anyone'?"),
        ({"urgen": "anyone"}, "if_nobody.urgen: must be urgent, high, normal or low"),
        ({"team": "anyone", "after": 10}, "if_nobody.after: must be minutes such as 10 minutes"),
        ({"team": "anyone", "after": "25h"}, "if_nobody.after: must be minutes such as 10 minutes"),
        ({"after": "10m"}, "if_nobody.team: is missing"),
        ({"team": "anyone", "skills": "dach"}, "if_nobody: nobody in team 'anyone' has dach"),
        ({}, "if_nobody: must have at least 1, has 0"),
        (5, "if_nobody: must be a mapping"),
    ],
)
def test_a_wrong_fallback_is_named_with_its_place(written: object, said: str) -> None:
    assert problems(raw(if_nobody=written))[0].startswith(f"otherwise.{said}")


def test_a_fallback_of_a_priority_that_no_lead_has_is_doubted() -> None:
    said = "otherwise.if_nobody.urgent: no lead is urgent here"
    assert doubted(raw(if_nobody={"urgent": "anyone"})) == [said]
    assert doubted(raw(priority="high", if_nobody={"urgent": "anyone", "high": "anyone"})) == [said]
    assert doubted(raw(priority=BY_SCORE, if_nobody={"urgent": "anyone", "normal": "anyone"})) == []
    worth = {"leads": {"worth": {"property": "seats", "bands": [20], "priorities": ["low", "urgent"]}}}
    assert doubted(raw(if_nobody={"urgent": "anyone"}) | worth) == []


def test_a_fallback_on_the_same_team_is_doubted_unless_it_asks_for_less() -> None:
    (said,) = [doubt for doubt in doubted(raw(if_nobody="inbound")) if "anyone" not in doubt]
    assert said == "otherwise.if_nobody: names the same team once more, which helps nobody"
    unused = ["teams.anyone: gets no leads: no rule names it"]
    assert doubted(raw(skills="large", if_nobody="inbound")) == unused
    assert doubted(raw(skills_from=COUNTRY, if_nobody="inbound")) == unused


def test_a_team_that_only_helps_out_is_in_use_and_one_that_no_rule_names_is_doubted() -> None:
    assert doubted(raw(if_nobody="anyone")) == []
    assert doubted(raw()) == ["teams.anyone: gets no leads: no rule names it"]


# All of it


def test_a_policy_with_all_of_that_is_read_back_the_same() -> None:
    data = raw(skills_from=[COUNTRY, SIZE], priority=BY_SCORE, if_nobody={"urgent": {"team": "anyone", "after": "5m"}})
    data["rules"] = [
        {"name": "partner", "when": {"property": "a", "known": True}, "owner": PARTNER, "if_nobody": "anyone"}
    ]
    found = reading.read(data)
    assert Policy.load(found.dump()) == found
