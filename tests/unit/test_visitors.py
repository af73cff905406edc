"""The leads that the demo makes from a policy's own conditions: each kind that there can be."""

from __future__ import annotations

from datetime import UTC, datetime
from random import Random
from typing import TYPE_CHECKING

import pytest

from fairturn.rules.policy import OTHERWISE
from fairturn_console.policy import file
from fairturn_sandbox.visitors import Visitors
from tests.shapes import FILES, SHAPES, generated, read

if TYPE_CHECKING:
    from fairturn.rules.policy import Policy

NOW = datetime(2027, 1, 11, 9, tzinfo=UTC)


def visitors(policy: Policy, seed: int = 1) -> Visitors:
    return Visitors(policy, Random(seed), NOW, owners=["11", "12"])


@pytest.mark.parametrize("shape", sorted({*SHAPES} - {"a rule that nothing meets"}))
def test_each_rule_skill_and_priority_is_met(shape: str) -> None:
    met = visitors(read(shape))
    assert met.unmet == []
    assert all(kind.is_it(met.route(met.one_of(kind, 5))) for kind in met.kinds)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_so_it_is_in_the_policies_that_ship_with_fairturn(path: str) -> None:
    assert visitors(file.check(path).policy).unmet == []


def test_a_rule_that_nothing_meets_is_told() -> None:
    met = visitors(read("a rule that nothing meets"))
    assert [kind.rule for kind in met.unmet] == ["never"]
    assert [kind.rule for kind in met.kinds] == [OTHERWISE]


@pytest.mark.parametrize("seed", range(60))
def test_what_is_made_for_a_rule_goes_by_that_rule_whatever_stands_before_it(seed: int) -> None:
    met = visitors(generated(seed), seed)
    for kind in met.kinds:
        assert all(kind.is_it(met.route(example)) for example in kind.examples)
        assert kind.is_it(met.route(met.one_of(kind, 7)))


def test_a_rule_below_others_is_met_by_what_they_do_not_take() -> None:
    policy = file.check("""
teams: {sales: {members: [ann@example.com]}}
rules:
  - {name: large, when: [{property: seats, at_least: 50}], team: sales}
  - {name: french, when: [{property: country, in: [France, Monaco]}, {property: phone, known: true}], team: sales}
  - {name: seated, when: [{property: seats, known: true}, {property: country, equals: France}], team: sales}
otherwise: {team: sales}
""").policy
    met = visitors(policy)
    assert [kind.rule for kind in met.kinds] == ["large", "french", "seated", OTHERWISE]
    (seated,) = (kind for kind in met.kinds if kind.rule == "seated")
    for example in seated.examples:
        assert example.properties["country"] == "France"
        assert float(example.properties["seats"]) < 50
        assert not example.properties.get("phone")


def test_the_skills_and_priorities_of_a_goal_are_kinds_of_their_own() -> None:
    met = visitors(read("groups, holidays, skills and priorities from properties"))
    assert [kind.what for kind in met.kinds] == [
        'rule "anywhere"',
        'rule "anywhere", skill fr',
        'rule "anywhere", skill ja',
        'rule "anywhere", skill large',
        'rule "anywhere", priority urgent',
        'rule "anywhere", priority low',
        "the catch-all",
    ]


def test_the_same_seed_makes_the_same_leads() -> None:
    one, other = (visitors(read("every operator"), 3) for _ in range(2))
    assert [kind.examples for kind in one.kinds] == [kind.examples for kind in other.kinds]
    assert [one.somebody(number) for number in range(9)] == [other.somebody(number) for number in range(9)]
