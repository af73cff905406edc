"""What a policy can hardly mean is told, and nothing else is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import product
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairturn.rules.events import BULK_SOURCES, SOURCES, Kind, Message
from fairturn.rules.routing import Lead, route
from fairturn_console.policy import reading
from fairturn_console.policy.checks import SMALLER
from fairturn_console.policy.doubts import MANY_CELLS, doubts
from fairturn_console.policy.overlap import MAX_STEPS, can_hold, formula

if TYPE_CHECKING:
    from fairturn.rules.policy import Policy

ANNA, BRUNO = "anna@example.com", "bruno@example.com"
NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)


def raw(**changes: Any) -> dict[str, Any]:
    """Give a small policy of which nothing is doubted, with changes at the top."""
    return {
        "reps": {ANNA: {"skills": ["fr"]}, BRUNO: None},
        "teams": {"inbound": {"members": [ANNA, BRUNO]}},
        "otherwise": {"team": "inbound"},
        **changes,
    }


def with_rules(*rules: Any) -> dict[str, Any]:
    """A policy of rules, each given by its conditions, called a, b, c …"""
    names = "abcdefghijklmnopqrstuvwxyz"
    found = raw(rules=[rule(name, *when) for name, when in zip(names, rules, strict=False)])
    return found | {"lists": {"named": ["acme.example"]}} if "in_list" in repr(rules) else found


def rule(name: str, *when: Any, **more: Any) -> dict[str, Any]:
    return {"name": name, "when": list(when), **(more or {"team": "inbound"})}


def with_rep(**rep: Any) -> dict[str, Any]:
    return raw(reps={ANNA: {"skills": ["fr"]}, BRUNO: rep})


def said(data: object) -> list[str]:
    return [str(doubt) for doubt in doubts(reading.read(data), NOW)]


def p(**comparison: Any) -> dict[str, Any]:
    return {"property": "p", **comparison}


def q(**comparison: Any) -> dict[str, Any]:
    return {"property": "q", **comparison}


def test_nothing_of_a_plain_policy_is_doubted() -> None:
    assert said(raw()) == []


# Leads, reps and rotas


def crowd(reps: int, skills: int) -> dict[str, Any]:
    """A policy of one rota that has a lane for each of so many skills, and one for those without."""
    keys = [str(number) for number in range(reps)]
    names = [f"s{number}" for number in range(skills)]
    rules = [rule(name, p(equals=name), team="inbound", skills=[name]) for name in names]
    return raw(reps={key: {"skills": names} for key in keys}, teams={"inbound": {"members": keys}}, rules=rules)


def test_a_rota_of_more_than_1000_balances_is_doubted() -> None:
    assert MANY_CELLS == 1_000
    assert said(crowd(500, 1)) == []
    assert said(crowd(91, 10)) == [
        "teams.inbound: 91 reps x 11 kinds of leads are 1,001 balances, all written with every claim: " + SMALLER
    ]


@pytest.mark.parametrize("name", ["hubspotscore", "hs_predictivecontactscore_v2", "hs_predictivescoringtier"])
def test_a_worth_that_hubspot_works_out_later_is_doubted(name: str) -> None:
    scored = {"worth": {"property": name, "bands": [20]}}
    (only,) = said(raw(leads=scored))
    assert only.startswith("leads.worth.property: HubSpot works this out only after the lead was created, so the lead")
    reached = {"when": {"property": "lifecyclestage", "reaches": ["lead"]}}
    assert said(raw(leads=scored | reached)) == []


@pytest.mark.parametrize("name", ["score", "annualrevenue", "hs_lead_status", "my_hubspotscore"])
def test_a_worth_that_may_be_known_at_once_is_not_doubted(name: str) -> None:
    assert said(raw(leads={"worth": {"property": name, "bands": [20]}})) == []


def test_a_rep_in_no_rota_is_doubted() -> None:
    assert said(raw(teams={"inbound": {"members": [ANNA]}})) == [f"reps.{BRUNO}: is in no team, so they get no leads"]


def test_a_rota_in_which_everybody_has_capacity_0_is_doubted() -> None:
    waits = "everybody has capacity 0, so its leads wait for ever"
    none = {"capacity": 0}
    assert said(raw(reps={ANNA: none, BRUNO: none})) == [f"teams.inbound: {waits}"]
    assert said(raw(teams={"inbound": {"members": [ANNA, BRUNO], **none}})) == [f"teams.inbound: {waits}"]
    assert (
        said(raw(teams={"inbound": {"members": [ANNA, BRUNO], **none}}, reps={ANNA: None, BRUNO: {"capacity": 1}}))
        == []
    )


def test_a_rule_whose_skills_only_those_with_capacity_0_have_is_doubted() -> None:
    reps = {ANNA: {"skills": ["fr"], "capacity": 0}, BRUNO: None}
    rules = [rule("french", p(equals="x"), team="inbound", skills=["fr"])]
    assert said(raw(reps=reps, rules=rules)) == [
        "rules[0].skills: everybody in team 'inbound' who has fr has capacity 0"
    ]


@pytest.mark.parametrize(
    ("rep", "what"),
    [
        (
            {"zone": "UTC", "absences": [{"from": "2026-01-01", "to": "2199-12-31"}]},
            "absences: their hours never come: they are absent in all of them for 2 years",
        ),
        (  # on duty on Mondays, but for each of them that is to come
            {
                "zone": "Europe/Paris",
                "hours": {"mon": "09:00-17:00"},
                "absences": [{"from": "2026-11-30", "to": "2028-06-01"}, {"from": "2028-06-02", "to": "2029-01-01"}],
            },
            "absences: their hours never come: they are absent in all of them for 2 years",
        ),
        (
            {"zone": "UTC", "absences": [{"from": "2026-12-24T14:00", "to": "2026-12-24T14:00"}]},
            "absences[0]: ends in the moment in which it begins, so they are never away",
        ),
        (
            {"zone": "Etc/GMT-1", "hours": {"mon": "09:00-17:00"}},
            "zone: is no place: it has no summer time, and Etc/GMT-1 is UTC+1",
        ),
    ],
)
def test_hours_and_absences_that_never_come_are_doubted(rep: dict[str, Any], what: str) -> None:
    assert said(with_rep(**rep)) == [f"reps.{BRUNO}.{what}"]


@pytest.mark.parametrize(
    "rep",
    [
        {"absences": [{"from": "2026-12-24", "to": "2026-12-24"}]},
        {"absences": [{"from": "2026-11-01", "to": "2028-11-01"}]},
        {"absences": [{"from": "2000-01-01", "to": "2026-11-24"}]},
        {"absences": [{"from": "2026-11-25T13:00:01", "to": "2199-12-31T00:00"}]},
        {"absences": [{"from": "2000-01-01", "to": "2026-11-30"}], "hours": {"mon": "22:00-02:00"}},
    ],
)
def test_hours_that_come_between_absences_are_not_doubted(rep: dict[str, Any]) -> None:
    assert said(with_rep(zone="Europe/Paris", **rep)) == []


# Values


def test_a_number_is_not_compared_with_ranges() -> None:
    ranges = "HubSpot's own numemployees holds ranges such as 500-1000, which are no numbers: ask for them with `in`"
    staff = {"property": "numemployees"}
    for comparison in ({"at_least": 1000}, {"at_most": 5}, {"between": [1, 5]}):
        assert said(with_rules([staff | comparison])) == [f"rules[0].when[0]: {ranges}"]
    assert said(with_rules([staff | {"in": ["500-1000", "1000+"]}])) == []
    worth = {"worth": {"property": "numemployees", "bands": [20]}}
    assert said(raw(leads=worth)) == [f"leads.worth.property: {ranges}"]


def test_a_value_that_is_there_twice_is_doubted() -> None:
    assert said(with_rules([p(**{"in": ["France", "Réunion", "FRANCE ", 5, "5", 5.0]})])) == [
        "rules[0].when[0].in[2]: 'FRANCE ' is there already",
        "rules[0].when[0].in[5]: '5' is there already",
    ]
    assert said(with_rules([{"any": [p(not_in=["a", "A"]), q(known=True)]}])) == [
        "rules[0].when[0].any[0].not_in[1]: 'A' is there already"
    ]


# Sources


def test_a_source_that_hubspot_is_not_known_to_have_is_doubted() -> None:
    assert said(with_rules([{"any": [{"not": {"source": ["form", " Import", "IMPROT", "x"]}}, p(known=True)]}])) == [
        "rules[0].when[0].any[0].not.source[2]: HubSpot has no known source 'IMPROT', did you mean IMPORT?",
        "rules[0].when[0].any[0].not.source[3]: HubSpot has no known source 'x'",
    ]


def test_every_bulk_source_is_known() -> None:
    assert BULK_SOURCES <= SOURCES


# Conditions that exclude each other


@pytest.mark.parametrize(
    "when",
    [
        [p(at_least=10), p(at_most=5)],
        [p(at_least=10), p(between=[1, 9.5])],
        [p(at_least=10), {"not": p(at_least=9)}],
        [p(at_least=10), {"not": p(at_least=10)}],
        [p(at_most=10), {"not": p(at_most=10)}],
        [p(at_least=10), p(equals=5)],
        [p(at_least=10), p(equals="France")],
        [p(equals="A"), p(equals="B")],
        [p(equals=True), p(equals=False)],
        [p(equals=5), p(equals="6")],
        [p(**{"in": ["A", "B"]}), p(**{"in": ["C", "D"]})],
        [p(**{"in": ["Réunion", "B"]}), {"not": p(**{"in": [" b", "REUNION", "C"]})}],
        [p(known=True), p(unknown=True)],
        [p(unknown=True), p(equals="A")],
        [p(unknown=True), p(at_most=5)],
        [p(contains="demo"), {"not": p(known=True)}],
        [p(contains="Demos"), {"not": p(contains="demo")}],
        [p(starts_with="A"), p(starts_with="B")],
        [p(starts_with="France"), {"not": p(starts_with="FR")}],
        [p(equals="France"), p(contains="x")],
        [p(ends_with="e"), {"not": p(ends_with="E")}],
        [p(ends_with="nce"), {"not": p(ends_with="CE")}],
        [p(ends_with="ab"), p(ends_with="cb")],
        [p(equals="France"), p(ends_with="f")],
        [p(equals="France"), p(not_equals="FRANCE")],
        [p(**{"in": ["A", "B"]}), p(not_in=["a", "b", "c"])],
        [p(equals="A"), p(contains_any=["x", "y"])],
        [p(contains="Demos"), {"not": p(contains_any=["x", "demo"])}],
        [p(in_list="named"), {"not": p(in_list="named")}],
        [p(in_list="named"), p(unknown=True)],
        [p(before="2026-11-25"), {"not": p(before="2026-11-25")}],
        [p(within_days=7), p(unknown=True)],
        [{"source": ["FORM"]}, {"source": ["IMPORT"]}],
        [{"source": ["FORM"]}, {"not": {"source": ["form", "API"]}}],
        [p(equals="A"), {"not": {"any": [p(equals="a"), q(known=True)]}}],
    ],
)
def test_two_conditions_that_exclude_each_other_are_doubted(when: list[Any]) -> None:
    second = "rules[0].when[1]: never holds together with rules[0].when[0]"
    assert said(with_rules(when)) == [second]
    assert said(with_rules(when[::-1])) == [second]


@pytest.mark.parametrize(
    "when",
    [
        [p(at_least=5), p(at_most=5)],
        [p(at_least=5), {"not": p(at_least=6)}],
        [p(equals=5), p(equals="5.0")],
        [p(equals="5"), {"not": p(at_least=5)}],  # of "５" only the text is 5
        [{"not": p(at_least=5)}, {"not": p(at_most=5)}],  # what is no number is neither
        [p(contains="a"), p(contains="b")],
        [p(starts_with="a"), p(starts_with="ab")],
        [p(starts_with="ab"), {"not": p(starts_with="abc")}],
        [p(starts_with="ab"), p(ends_with="ba")],
        [p(ends_with="ab"), {"not": p(ends_with="cab")}],
        [p(not_equals="A"), p(not_in=["B", "C"])],
        [p(not_equals="A"), p(unknown=True)],
        [p(contains_any=["a", "b"]), {"not": p(contains="a")}],
        [p(in_list="named"), p(equals="x")],
        [p(before="2026-11-25"), p(after="2026-11-01")],
        [p(equals="A"), q(equals="B")],
        [{"not": p(equals="A")}, {"not": p(equals="B")}],
        [p(**{"in": ["A", "B"]}), p(**{"in": ["b", "C"]})],
        [{"any": [p(equals="A"), p(equals="B")]}, {"not": p(equals="A")}],
        [{"source": ["FORM", "API"]}, {"source": ["api"]}],
        [{"not": {"all": [p(equals="A"), q(equals="B")]}}, p(equals="A")],
    ],
)
def test_conditions_that_may_hold_together_are_not_doubted(when: list[Any]) -> None:
    assert said(with_rules(when)) == said(with_rules(when[::-1])) == []


def test_conditions_inside_of_others_are_looked_at_too_and_told_alone() -> None:
    inner = {"all": [p(at_least=10), p(at_most=5)]}
    assert said(with_rules([q(known=True), {"any": [q(equals="x"), inner]}], [{"not": inner}], [inner])) == [
        f"rules[{place}.all[1]: never holds together with rules[{place}.all[0]"
        for place in ("0].when[1].any[1]", "1].when[0].not", "2].when[0]")
    ]


def test_three_conditions_of_which_no_two_exclude_each_other_are_doubted_together() -> None:
    when = [{"any": [p(equals="A"), q(equals="B")]}, {"not": p(equals="A")}, {"not": q(equals="B")}]
    assert said(with_rules(when)) == ["rules[0].when: these never hold together"]


def test_a_bulk_source_that_is_named_only_inside_not_is_doubted() -> None:
    assert said(with_rules([{"not": {"not": {"source": ["IMPORT"]}}}])) == [
        "rules[0].when: takes no lead: a bulk source counts only where `source` names it, not inside `not`"
    ]


# Rules that are never reached


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ([], [p(known=True)]),
        ([], []),
        ([p(equals="France")], [p(equals="FRANCE ")]),
        ([p(equals="France")], [q(known=True), p(equals="France")]),
        ([p(**{"in": ["France", "Réunion"]})], [p(equals="reunion")]),
        ([p(**{"in": ["A", "B", "C"]})], [p(**{"in": ["c", "a"]})]),
        ([p(at_least=5)], [p(at_least=10)]),
        ([p(between=[5, 20])], [p(between=[6, 20])]),
        ([p(at_least=5)], [p(**{"in": [5, 10]})]),
        ([p(known=True)], [p(contains="x")]),
        ([p(contains="demo")], [p(equals="A demo, please")]),
        ([p(starts_with="a")], [p(starts_with="ab")]),
        ([p(ends_with="b")], [p(ends_with="ab")]),
        ([p(contains_any=["x", "demo"])], [p(contains="a demo")]),
        ([p(contains_any=["demo", "x"])], [p(contains_any=["Demo 1", "xy"])]),
        ([p(not_equals="A")], [p(equals="B")]),
        ([p(not_in=["A", "B"])], [p(not_in=["A", "B", "C"])]),
        ([p(in_list="named")], [p(in_list="named"), q(known=True)]),
        ([p(known=True)], [p(within_days=7)]),
        ([{"any": [p(equals="A"), q(equals="B")]}], [q(equals="B"), p(known=True)]),
        ([p(known=True)], [{"any": [p(equals="A"), {"all": [p(equals="B"), q(known=True)]}]}]),
        ([{"not": p(equals="A")}], [p(equals="B")]),
        ([{"not": p(equals="A")}], [p(unknown=True)]),
        ([{"source": ["FORM", "IMPORT"]}], [{"source": ["IMPORT"]}, p(known=True)]),
        ([p(equals="A")], [{"source": ["FORM"]}, p(equals="A")]),
    ],
)
def test_a_rule_that_an_earlier_one_shadows_is_doubted(earlier: list[Any], later: list[Any]) -> None:
    assert said(with_rules([q(equals="z")], earlier, later)) == [
        "rules[2]: can never be reached: rule 'b' before it takes all that it takes"
    ]


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ([p(equals="France")], [p(equals="Germany")]),
        ([p(equals="France"), q(known=True)], [p(equals="France")]),
        ([p(equals="A")], [p(**{"in": ["A", "B"]})]),
        ([p(at_least=10)], [p(at_least=5)]),
        ([p(at_least=5)], [p(equals="5")]),
        ([p(contains="demo")], [p(contains_any=["demo", "x"])]),
        ([p(ends_with="ab")], [p(ends_with="b")]),
        ([p(in_list="named")], [p(equals="x")]),
        ([p(not_in=["A", "B", "C"])], [p(not_in=["A", "B"])]),
        ([p(before="2026-11-25")], [p(before="2026-11-24")]),
        ([p(at_least=5), p(at_most=5)], [p(known=True)]),
        # A rule that doesn't name the bulk source passes over its leads.
        ([], [{"source": ["IMPORT"]}]),
        ([p(equals="A")], [{"source": ["FORM", "IMPORT"]}, p(equals="A")]),
        ([{"not": {"source": ["FORM"]}}], [{"source": ["IMPORT"]}]),
        ([{"any": [{"source": ["FORM"]}, p(known=True)]}], [{"source": ["IMPORT"]}, p(known=True)]),
    ],
)
def test_a_rule_that_may_be_reached_is_not_doubted(earlier: list[Any], later: list[Any]) -> None:
    assert said(with_rules(earlier, later)) == []


def test_a_rule_that_ignores_shadows_bulk_sources_too_and_is_shadowed_only_by_such() -> None:
    no = {"ignore": "no"}
    shadowed = ["rules[1]: can never be reached: rule 'a' before it takes all that it takes"]
    assert said(raw(rules=[rule("a", **no), rule("b", {"source": ["IMPORT"]})])) == shadowed
    assert said(raw(rules=[rule("a"), rule("b", p(known=True), **no)])) == []
    assert said(raw(rules=[rule("a", p(known=True), **no), rule("b", p(equals="x"), **no)])) == shadowed


def test_a_rule_that_several_earlier_ones_shadow_together_is_doubted() -> None:
    assert said(with_rules([p(equals="A")], [q(known=True)], [p(equals="B")], [p(**{"in": ["a", "b"]})])) == [
        "rules[3]: can never be reached: the rules before it take all that it takes"
    ]


# Certainty

TEXTS = ["A", "á ", "ab", "5", "5.0", "５", "true", "b"]
NUMBERS = [4, 5, 5.5, 6]
LISTS = {"named": ["b.a", "5"], "letters": ["A", "abc"]}
DAYS = ["2026-11-24", "2026-11-25", "2026-11-26"]
VALUES = [None, " ", "a", "Ab", "abc", "b", "5", "+5.0", "５", "5e0", "4", "5.5", "6", "7", "true", "x@ab.B.A"]
VALUES += ["2026-11-24", "2026-11-25T23:00Z", "1795600800000", "2026-11-26"]
"""What HubSpot may say of a property."""
LEADS = [(source, one, other) for source in ("FORM", "IMPORT") for one, other in product(VALUES, VALUES[::3])]

texts = st.sampled_from(TEXTS)
numbers = st.sampled_from(NUMBERS)
values = texts | numbers | st.booleans()
comparisons = st.one_of(
    st.builds(lambda value: {"equals": value}, values),
    st.builds(lambda several: {"in": several}, st.lists(values, min_size=1, max_size=3)),
    st.builds(lambda value: {"at_least": value}, numbers),
    st.builds(lambda value: {"at_most": value}, numbers),
    st.builds(lambda two: {"between": sorted(two)}, st.tuples(numbers, numbers)),
    st.builds(lambda value: {"not_equals": value}, values),
    st.builds(lambda several: {"not_in": several}, st.lists(values, min_size=1, max_size=3)),
    st.builds(lambda value: {"contains": value}, texts),
    st.builds(lambda several: {"contains_any": several}, st.lists(texts, min_size=1, max_size=3)),
    st.builds(lambda value: {"starts_with": value}, texts),
    st.builds(lambda value: {"ends_with": value}, texts),
    st.builds(lambda name: {"in_list": name}, st.sampled_from([*LISTS])),
    st.builds(lambda day: {"before": day}, st.sampled_from(DAYS)),
    st.builds(lambda day: {"after": day}, st.sampled_from(DAYS)),
    st.sampled_from([{"within_days": 0}, {"within_days": 1}, {"within_days": [-1, 0]}, {"within_days": [1, 2]}]),
    st.sampled_from([{"known": True}, {"unknown": True}]),
)
leaf = st.builds(lambda name, what: {"property": name, **what}, st.sampled_from("ppq"), comparisons) | st.sampled_from(
    [{"source": ["form"]}, {"source": ["IMPORT"]}, {"source": ["FORM", "Import"]}]
)
conditions = st.recursive(
    leaf,
    lambda inner: st.one_of(
        st.builds(lambda parts: {"all": parts}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda parts: {"any": parts}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda part: {"not": part}, inner),
    ),
    max_leaves=4,
)
several_rules = st.lists(
    st.tuples(st.lists(conditions, max_size=3), st.sampled_from([{"team": "inbound"}, {"ignore": "no"}])),
    min_size=2,
    max_size=4,
)


def winners(policy: Policy) -> set[str | None]:
    """The rules that take some lead, by the real routing."""
    taking = set()
    for source, one, other in LEADS:
        at = int(NOW.timestamp() * 1000)
        message = Message(id="1", kinds=(Kind.CREATION,), occurred_at=at, change_source=source)
        taking.add(route(Lead(message, {"p": one, "q": other}), policy).rule)
    return taking


@given(several_rules)
def test_a_rule_that_is_said_never_to_be_reached_or_to_hold_never_takes_a_lead(rules: list[Any]) -> None:
    asked = [rule(f"r{n}", *when, **goal) for n, (when, goal) in enumerate(rules)]
    policy = reading.read(raw(rules=asked, lists=LISTS))
    taking = winners(policy)
    for doubt in doubts(policy, NOW):
        if doubt.place.startswith("lists.") or doubt.what.endswith("is there already"):
            continue
        index = int(doubt.place.removeprefix("rules[").partition("]")[0])
        inside = doubt.place.partition(".when")[2].count("[") > 1
        if not inside:  # of what is said inside of other conditions, no more is said of the rule
            assert f"r{index}" not in taking, (doubt, policy.rules)


@given(st.lists(conditions, min_size=1, max_size=3))
def test_conditions_that_are_said_not_to_hold_together_never_do(when: list[Any]) -> None:
    policy = reading.read(raw(rules=[rule("x", *when, ignore="no")], lists=LISTS))
    if not can_hold(formula(policy.rules[0].when)):
        assert "x" not in winners(policy)


def test_a_question_that_takes_too_many_steps_is_answered_with_yes() -> None:
    def may_hold(choices: int) -> bool:
        when = [{"any": [{"property": f"p{n}", "equals": side} for side in "ab"]} for n in range(choices)]
        never = {"any": [{"all": [q(equals=first), q(equals="z")]} for first in "abc"]}
        return can_hold(formula(reading.read(with_rules([*when, never])).rules[0].when))

    assert MAX_STEPS < 2**12
    assert [may_hold(choices) for choices in (3, 12)] == [False, True]


def test_a_policy_as_large_as_may_be_is_looked_through_in_seconds() -> None:
    def when(number: int) -> list[Any]:
        return [{"any": [{"property": f"p{n}", "equals": f"{number}{side}"} for side in "ab"]} for n in range(2)]

    began = datetime.now(UTC)
    assert said(raw(rules=[rule(f"r{n}", *when(n)) for n in range(100)])) == []
    assert datetime.now(UTC) - began < timedelta(seconds=20)
