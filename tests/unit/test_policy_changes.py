"""A policy written out again, and what changes from one to another."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from fairturn_console.policy import reading
from fairturn_console.policy.changes import changes
from fairturn_console.policy.file import check, load
from fairturn_console.policy.writing import as_yaml
from tests.unit.test_policy import ANNA, BOB, policies, raw

ROOT = Path(__file__).parents[2]
TODAY = date(2026, 11, 25)
RICH: dict[str, Any] = raw(
    leads={
        "keep_owner": False,
        "when": {"property": "lifecyclestage", "reaches": "lead"},
        "settle": {"known": "country", "at_most": "5s"},
        "worth": {"property": "seats", "bands": [20, 60.5], "priorities": ["low", "normal", "high"]},
        "closed": {"property": "hs_lead_status", "reaches": ["BAD"]},
        "keep_values": "country",
    },
    lists={"named": ["acme.example.com"]},
    groups={"paris": {"reps": [ANNA], "zone": "Europe/Paris", "holidays": "FR", "hours": {"mon-thu": "09:00-17:00"}}},
    reps={
        ANNA: {"skills": ["fr", "Grands comptes"], "weight": "50%"},
        BOB: {"absences": "2026-12-24T08:00Z..2026-12-24T09:00Z"},
    },
    teams={"équipe": {"members": ["paris", BOB], "capacity": 30}, "all": {"members": [ANNA, BOB]}},
    rules=[
        {
            "name": "named",
            "when": {"property": "email", "in_list": "named"},
            "owner": ANNA,
        },
        {
            "name": "dated",
            "when": [
                {"property": "a", "before": "2027-01-01"},
                {"property": "a", "within_days": 30},
                {"property": "b", "contains_any": ["x", "y"]},
                {"property": "b", "not_in": ["NO", "5", 5]},
                {"not": {"any": [{"source": "FORM"}, {"property": "c", "between": [1, 2]}]}},
            ],
            "team": "équipe",
            "skills_from": {"property": "country", "lists": {"fr": ["France"]}},
            "priority": {"urgent": {"property": "score", "at_least": 80}},
            "if_nobody": {"urgent": {"team": "all", "after": "10m"}},
        },
        {"name": "students", "when": {"property": "jobtitle", "ends_with": "student"}, "ignore": "no buyer"},
    ],
    otherwise={"ignore": "not for us"},
)


@pytest.mark.parametrize("path", [ROOT / "policy.yaml", *sorted((ROOT / "docs/policies").glob("*.yaml"))], ids=str)
def test_a_policy_file_that_is_written_out_again_means_the_same(path: Path) -> None:
    policy = check(path, TODAY).policy
    assert check(as_yaml(policy, {}), TODAY).policy == policy


def test_every_part_of_the_language_is_written_out_again() -> None:
    policy = reading.read(RICH, today=TODAY)
    assert check(as_yaml(policy, {}), TODAY).policy == policy


@settings(max_examples=25)
@given(policies())
def test_any_policy_that_is_written_out_again_means_the_same(data: dict[str, Any]) -> None:
    policy = reading.read(data)
    assert load(as_yaml(policy, {})) == policy


def test_reps_are_called_by_their_addresses_where_these_are_known() -> None:
    policy = reading.read({"teams": {"all": {"members": [7, 8]}}, "otherwise": {"team": "all"}})
    assert load(as_yaml(policy, {"7": ANNA})).rotas["all"].members == (ANNA, "8")


@given(policies())
def test_nothing_changes_between_a_policy_and_itself(data: dict[str, Any]) -> None:
    policy = reading.read(data)
    assert changes(policy, policy, {}) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"mode": "pause"}, ["mode: is new: pause"]),
        ({"release": "1h"}, ["release: 15m becomes 60m"]),
        ({"leads": {"turn_back_within": "1h"}}, ["leads.turn_back_within: 10 minutes becomes 60 minutes"]),
        ({"leads": {"keep_owner": False}}, ["leads.keep_owner: is new: false"]),
        ({"reps": {ANNA: {"skills": ["fr", "de"], "weight": 2}, BOB: None}}, [f"reps.{ANNA}.weight: is new: 2"]),
        (
            {"reps": {ANNA: {"skills": ["fr", "it"]}, BOB: None, "carl@example.com": None}},
            [f"reps.{ANNA}.skills: without de, with it", "reps.carl@example.com: is new: nothing"],
        ),
        ({"teams": {"inbound": {"members": [BOB, ANNA]}}}, ["teams.inbound.members: in another order"]),
        ({"teams": {"inbound": {"members": [ANNA]}}}, [f"teams.inbound.members: without {BOB}"]),
        (
            {"rules": [{"name": "x", "when": {"property": "a", "known": True}, "ignore": "why"}]},
            ["rule 'x': is new, number 1 of 1"],
        ),
        (
            {"otherwise": {"ignore": "nobody"}},
            ["otherwise.team: is gone (was inbound)", "otherwise.ignore: is new: nobody"],
        ),
    ],
)
def test_what_changes_is_said_in_words(change: dict[str, Any], said: list[str]) -> None:
    assert changes(reading.read(raw()), reading.read(raw(**change)), {}) == said


def test_rules_that_change_move_or_go_are_named() -> None:
    def policy(*rules: tuple[str, str]) -> Any:
        written = [{"name": name, "when": {"property": "a", "equals": value}, "ignore": "x"} for name, value in rules]
        return reading.read(raw(rules=written))

    before = policy(("one", "1"), ("two", "2"), ("three", "3"))
    assert changes(before, policy(("two", "2"), ("one", "9")), {}) == [
        "rule 'three': is gone",
        "rule 'one'.when: without {property: a, equals: 1}, with {property: a, equals: 9}",
        "rules: are tried in another order: two, one",
    ]
