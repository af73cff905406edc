"""What a policy may say, what is refused with which words, and what it means."""

from __future__ import annotations

import contextlib
import copy
import json
import unicodedata
from datetime import date
from decimal import Decimal
from typing import Any
from zoneinfo import available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairturn.errors import PolicyInvalid
from fairturn.rules.conditions import MAX_COMPARED, AtLeast, Equals, exact, fold, leaves
from fairturn.rules.ledger import Member
from fairturn.rules.policy import Cleared, Goal, Mode, Policy, Priority, Rep, RoutingRule, Shift, Worth, lane
from fairturn.rules.roster import Owner
from fairturn_console.policy import reading
from fairturn_console.policy.applying import resolve
from fairturn_console.policy.checks import MAX_CELLS, MAX_LANES

ANNA, BOB = "anna@example.com", "bob@example.com"


def raw(**changes: Any) -> dict[str, Any]:
    """Return a small valid policy with changes at the top."""
    return {
        "reps": {ANNA: {"skills": ["fr", "de"]}, BOB: None},
        "teams": {"inbound": {"members": [ANNA, BOB]}},
        "otherwise": {"team": "inbound"},
        **changes,
    }


def with_rule(*conditions: Any, **changes: Any) -> dict[str, Any]:
    return raw(rules=[{"name": "first", "when": list(conditions), "team": "inbound", **changes}])


def with_rep(**rep: Any) -> dict[str, Any]:
    return raw(reps={ANNA: {"skills": ["fr", "de"]}, BOB: rep})


def problems(data: object) -> list[str]:
    with pytest.raises(PolicyInvalid) as caught:
        reading.read(data)
    return [str(problem) for problem in caught.value.problems]


def problem(data: object) -> str:
    (only,) = problems(data)
    return only


def stored(policy: Policy) -> Any:
    return json.loads(policy.dump())


# What is taken in


def test_what_is_left_out_has_its_default() -> None:
    policy = reading.read(raw())
    assert policy.mode is Mode.LIVE
    assert policy.leads.when == "created"
    assert policy.leads.keep_owner
    assert policy.leads.regret == 10
    assert policy.leads.cleared is Cleared.LEAVE
    assert (policy.flood.leads, policy.flood.minutes) == (500, 10)
    assert policy.reps[BOB] == Rep()
    assert policy.leads.worth is None
    assert policy.release == 15
    assert policy.otherwise == Goal("inbound")


def settle(known: list[str], at_most: object) -> dict[str, object]:
    return {"known": known, "at_most": at_most}


def test_a_lead_waits_for_nothing_unless_it_is_said() -> None:
    assert reading.read(raw()).leads.settle is None


def test_a_lead_waits_for_what_is_to_be_known_for_seconds_up_to_a_quarter_of_an_hour() -> None:
    for text, seconds in {"1s": 1, "5s": 5, "900s": 900, "2m": 120, "15m": 900}.items():
        policy = reading.read(raw(leads={"settle": settle(["country"], text)}))
        assert policy.leads.settle is not None
        assert (policy.leads.settle.known, policy.leads.settle.at_most) == (("country",), seconds)
        assert "country" in policy.properties()


def test_a_release_is_held_back_for_whole_minutes_up_to_four_hours() -> None:
    meant = {0: 0, "0m": 0, "0h": 0, "1m": 1, "15m": 15, "2h": 120, "240m": 240, "4h": 240}
    assert {value: reading.read(raw(release=value)).release for value in meant} == meant


def test_regret_is_from_no_minute_to_a_whole_day() -> None:
    assert [reading.read(raw(leads={"regret": minutes})).leads.regret for minutes in (0, 1440)] == [0, 1440]


def test_a_lead_whose_owner_is_taken_away_may_be_allotted_again() -> None:
    assert reading.read(raw(leads={"cleared": "allot again"})).leads.cleared is Cleared.ALLOT_AGAIN


def test_priorities_rank_from_urgent_to_low() -> None:
    assert [Priority(word).rank for word in ("urgent", "high", "normal", "low")] == [0, 1, 2, 3]


def test_a_lane_is_named_by_its_skills_whatever_their_order() -> None:
    assert lane(["fr", "de", "fr"]) == lane(["de", "fr"]) == "de+fr"
    assert lane([]) == "any"


def test_a_lane_of_a_band_has_it_behind_the_skills() -> None:
    assert lane([], "60") == "any@60"
    assert lane(["enterprise", "de"], "0") == "de+enterprise@0"


def test_who_fits_a_lane_fits_it_in_every_band() -> None:
    able, other = Member(skills=frozenset({"de", "fr"})), Member(skills=frozenset({"de"}))
    for band in (None, "0", "0.5"):
        assert [member.fits(lane(["de", "fr"], band)) for member in (able, other)] == [True, False]
        assert other.fits(lane([], band))


def with_worth(*bands: Any, **more: Any) -> dict[str, Any]:
    return {"worth": {"property": "score", "bands": list(bands), **more}}


def worth(*bands: Any, **more: Any) -> Worth:
    found = reading.read(raw(leads=with_worth(*bands, **more))).leads.worth
    assert found is not None
    return found


def test_a_band_is_named_by_its_lower_bound_and_the_lowest_by_0() -> None:
    assert worth(0.5, 20, 60.0, Decimal("1E+3")).names() == ("0", "0.5", "20", "60", "1000")


@pytest.mark.parametrize(
    ("number", "band"),
    [(None, "0"), ("-1e400", "0"), ("19.999", "0"), ("20", "20"), ("59.9", "20"), ("60.0", "60"), ("1e400", "60")],
)
def test_a_worth_is_in_the_highest_band_whose_bound_it_reaches(number: str | None, band: str) -> None:
    assert worth(20, 60).band(None if number is None else Decimal(number)) == band


def test_a_band_is_said_in_words() -> None:
    assert [worth(20, 60).in_words(band) for band in ("0", "20", "60", "40", "")] == [
        "worth less than 20",
        "worth 20 to 60",
        "worth 60 or more",
        "",
        "",
    ]
    assert [worth(0.5).in_words(band) for band in ("0", "0.5")] == ["worth less than 0.5", "worth 0.5 or more"]


def test_each_band_has_its_priority_and_all_are_normal_if_none_is_named() -> None:
    graded = worth(20, 60, priorities=["low", "high", "urgent"])
    assert [graded.priority(band) for band in graded.names()] == [Priority.LOW, Priority.HIGH, Priority.URGENT]
    plain = worth(20, 60)
    assert [plain.priority(band) for band in plain.names()] == [Priority.NORMAL] * 3


def test_a_rep_is_the_same_however_the_address_is_written() -> None:
    policy = reading.read(raw(reps={"Anna@Example.com": {}}, teams={"inbound": {"members": ["ANNA@example.com"]}}))
    assert policy.rotas["inbound"].members == (ANNA,)


def test_an_owner_id_may_be_a_number_in_the_file() -> None:
    policy = reading.read(raw(reps={"41": {}}, teams={"inbound": {"members": [41]}}))
    assert policy.rotas["inbound"].members == ("41",)


def test_lanes_are_those_that_rules_and_the_catch_all_name() -> None:
    policy = reading.read(with_rule(skills=["fr", "de"]))
    assert policy.lanes("inbound") == {"any", "de+fr"}
    assert policy.lanes("nowhere") == frozenset()


def test_every_set_of_skills_has_a_lane_for_each_band_of_worth() -> None:
    policy = reading.read(with_rule(skills=["fr", "de"]) | {"leads": with_worth(20, 60)})
    assert policy.lanes("inbound") == {"any@0", "any@20", "any@60", "de+fr@0", "de+fr@20", "de+fr@60"}
    assert policy.lanes("nowhere") == frozenset()


def test_capacity_is_the_reps_own_before_the_rotas() -> None:
    rotas = {"inbound": {"members": [ANNA, BOB], "capacity": 30}, "free": {"members": [ANNA, BOB]}}
    policy = reading.read(raw(reps={ANNA: {"skills": ["fr", "de"], "capacity": 0}, BOB: {}}, teams=rotas))
    assert policy.capacity("inbound", ANNA) == 0
    assert policy.capacity("inbound", BOB) == 30
    assert policy.capacity("free", BOB) is None


def test_properties_are_all_that_a_decision_reads() -> None:
    data = with_rule({"not": {"any": [{"property": "country", "known": True}, {"source": ["FORM"]}]}})
    data["leads"] = {
        "when": {"property": "lifecyclestage", "reaches": ["lead"]},
        "closed": [{"property": "hs_lead_status", "reaches": ["BAD_TIMING"]}],
        "show": ["city"],
        **with_worth(20),
    }
    assert reading.read(data).properties() == (
        "city",
        "country",
        "hs_lead_status",
        "hubspot_owner_id",
        "lifecyclestage",
        "score",
    )


def test_leaves_come_in_the_order_of_the_file() -> None:
    names = iter("abcde")

    def leaf() -> dict[str, Any]:
        return {"property": next(names), "equals": 1}

    data = with_rule({"all": [leaf(), {"any": [leaf(), {"not": leaf()}]}, leaf()]}, leaf())
    found = leaves(reading.read(data).rules[0].when)
    assert [leaf.property for leaf in found if isinstance(leaf, Equals)] == list("abcde")


def test_a_night_shift_ends_after_midnight() -> None:
    policy = reading.read(with_rep(zone="Europe/Paris", hours={"Fri": "22:00-06:00", "sat": "23:00 - 24:00"}))
    assert policy.reps[BOB].hours == (Shift(4, 22 * 60, 30 * 60), Shift(5, 23 * 60, 24 * 60))


def test_a_range_of_days_may_run_over_the_end_of_the_week() -> None:
    hours = reading.read(with_rep(zone="Asia/Dubai", hours={"sun-tue": "09:00-17:00"})).reps[BOB].hours
    assert hours is not None
    assert [shift.day for shift in hours] == [0, 1, 6]


def test_hours_that_touch_do_not_overlap() -> None:
    hours = {"mon-sun": ["00:00-12:00", "12:00-24:00"]}
    assert len(reading.read(with_rep(zone="UTC", hours=hours)).reps[BOB].hours or ()) == 14


# What is refused, and what is said


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ({"property": "a", "at_least": "x"}, "rules[0].when[0].at_least: must be a number, without quotes"),
        ({"property": "a", "at_least": True}, "rules[0].when[0].at_least: must be a number, without quotes"),
        ({"property": "a", "at_most": 1e300}, "rules[0].when[0].at_most: must be a plain number of at most"),
        ({"property": "a", "at_most": float("nan")}, "rules[0].when[0].at_most: must be a plain number"),
        (
            {"property": "a", "between": [2, 1]},
            "rules[0].when[0].between: the lower bound comes first: [1, 2]",
        ),
        ({"property": "a", "between": [2]}, "rules[0].when[0].between[1]: is missing"),
        (
            {"property": "a", "equals": None},
            "rules[0].when[0].equals: must not be empty; to ask for an empty",
        ),
        ({"property": "a", "equals": " "}, "rules[0].when[0].equals: must not be empty"),
        ({"property": "a", "equals": ["x"]}, "rules[0].when[0].equals: must be one text, number"),
        ({"property": "a", "in": []}, "rules[0].when[0].in: must have at least 1, has 0"),
        ({"property": "a", "in": ["x", {}]}, "rules[0].when[0].in[1]: must be one text, number"),
        (
            {"property": "a", "starts_with": 33},
            "rules[0].when[0].starts_with: must be text; put it in quotes",
        ),
        ({"property": "a", "known": "no"}, "rules[0].when[0].known: must be true; the opposite"),
        (
            {"property": "a", "equal": 1},
            "rules[0].when[0].equal: unknown operator 'equal', did you mean 'equals'?",
        ),
        ({"property": "a"}, "rules[0].when[0]: has no operator; allowed: equals, not_equals, in,"),
        ({"equals": 1}, "rules[0].when[0].property: is missing"),
        (
            {"property": "Lead Status", "equals": 1},
            "rules[0].when[0].property: 'Lead Status' is no property's",
        ),
        ({"property": "a", "equals": 1, "in": [1]}, "rules[0].when[0]: has several operators (equals, in)"),
        (
            {"property": "a", "equals": 1, "then": 2},
            "rules[0].when[0].then: unknown key 'then'; allowed: property",
        ),
        ({"source": {}}, "rules[0].when[0].source: must be text"),
        (
            {"not": {"any": [{"property": "a", "at_least": "x"}]}},
            "rules[0].when[0].not.any[0].at_least: must be",
        ),
        (
            "country is France",
            "rules[0].when[0]: must be a condition such as {property: country, equals: France}",
        ),
    ],
)
def test_a_wrong_condition_is_named_with_its_place(condition: Any, said: str) -> None:
    assert problem(with_rule(condition)).startswith(said)


@pytest.mark.parametrize(
    ("rep", "said"),
    [
        *(
            ({"weight": value}, "weight: must be a whole number from 1 to 1000, or a share of a full turn such as 50%")
            for value in (0, 1001, True, 1.5, "0%", "half", "100001%", "50")
        ),
        ({"capacity": 100_001}, "capacity: must be at most 100000"),
        ({"skills": ["fr+de"]}, "skills[0]: 'fr+de' is no skill (letters, digits and blanks, at most 40)"),
        ({"skils": ["fr"]}, "skils: unknown key 'skils', did you mean 'skills'? allowed: skills, weight"),
        (
            {"zone": "Europe/Pari"},
            "zone: unknown time zone 'Europe/Pari'; allowed: IANA names such as Europe/Paris",
        ),
        ({"zone": "CET"}, "zone: unknown time zone 'CET'; allowed: IANA names such as Europe/Paris"),
        ({"zone": "new york"}, "zone: unknown time zone 'new york'; allowed: IANA names such as America/New_York"),
        ({"zone": "Mars"}, "zone: unknown time zone 'Mars'; allowed: IANA names such as Europe/Paris"),
        ({"zone": "../etc/passwd"}, "zone: unknown time zone"),
        ({"zone": "Europe"}, "zone: unknown time zone"),
        ({"hours": {"mon-fri": "09:00-18:00"}}, "needs a `zone`"),
        ({"absences": [{"from": "2026-12-24", "to": "2026-12-31"}]}, "needs a `zone`"),
        ({"zone": "UTC", "hours": {}}, "hours: must be days with their times"),
        (
            {"zone": "UTC", "hours": {"monday": "9:00-18:00"}},
            "hours.monday: 'monday' is no day or range of days",
        ),
        (
            {"zone": "UTC", "hours": {"mon": "9-18"}},
            "hours.mon: '9-18' is no time of work such as 09:00-18:00",
        ),
        (
            {"zone": "UTC", "hours": {"mon": "09:00-24:01"}},
            "hours.mon: '09:00-24:01': times go from 00:00 to 24:00",
        ),
        ({"zone": "UTC", "hours": {"mon": "24:00-06:00"}}, "hours.mon: '24:00-06:00': times go from"),
        ({"zone": "UTC", "hours": {"mon": "09:60-18:00"}}, "hours.mon: '09:60-18:00': times go from"),
        ({"zone": "UTC", "hours": {"mon": "09:00-09:00"}}, "hours.mon: '09:00-09:00' is no time at all"),
        (
            {"zone": "UTC", "hours": {"mon": ["09:00-12:00", "11:59-14:00"]}},
            "hours.mon: '11:59-14:00' overlaps",
        ),
        (
            {"zone": "UTC", "hours": {"mon-fri": "09:00-18:00", "fri": "17:00-19:00"}},
            "hours.fri: '17:00-19:00' ove",
        ),
        (
            {"zone": "UTC", "hours": {"mon": "05:00-09:00", "sun": "22:00-06:00"}},
            "hours.sun: '22:00-06:00' overlaps",
        ),
        ({"zone": "UTC", "hours": {"sat": []}}, "hours.sat: has no times"),
        (
            {"zone": "UTC", "absences": [{"from": "tomorrow", "to": "2026-12-31"}]},
            "absences[0].from: must be a day",
        ),
        (
            {"zone": "UTC", "absences": [{"from": "2026-12-31", "to": "2026-12-30"}]},
            "absences[0]: ends before",
        ),
        (
            {"zone": "UTC", "absences": [{"from": "2026-12-24T12:00", "to": "2026-12-30"}]},
            "absences[0]: `from` and",
        ),
        (
            {"absences": [{"from": "2026-12-24T12:00Z", "to": "2026-12-24T14:00"}]},
            "absences[0]: `from` and `to` must both have an offset",
        ),
        (
            {"zone": "UTC", "absences": [{"from": "9999-12-31", "to": "9999-12-31"}]},
            "absences[0].from: must be a day",
        ),
        (5, "must be a mapping"),
    ],
)
def test_a_wrong_rep_is_named_with_its_place(rep: Any, said: str) -> None:
    data = raw(reps={ANNA: {"skills": ["fr", "de"]}, BOB: rep})
    found = problems(data)[0]
    assert found.removeprefix(f"reps.{BOB}").lstrip(".: ").startswith(said)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"mode": "liv"}, "mode: must be live, observe or pause"),
        ({"leads": {"when": "bought"}}, "leads.when: must be created"),
        ({"leads": {"when": {"property": "a", "reach": ["x"]}}}, "leads.when.reaches: is missing"),
        ({"leads": {"keep_owner": "no"}}, "leads.keep_owner: must be true or false"),
        *(
            ({"leads": {key: value}}, f"leads.{key}: must be minutes such as 10 minutes, or hours; at most 24 hours")
            for key in ("turn_back_within", "regret")
            for value in (-1, 1441, "10", True, 2.5, "25 hours", "90 seconds", None)
        ),
        ({"leads": {"cleared": "allot"}}, "leads.cleared: must be leave or allot again"),
        ({"leads": {"cleared": False}}, "leads.cleared: must be leave or allot again"),
        ({"leads": {"show": list("abcdef")}}, "leads.show: must have at most 5"),
        ({"leads": {"worth": 20}}, "leads.worth: must be a mapping"),
        ({"leads": {"worth": {"bands": [20]}}}, "leads.worth.property: is missing"),
        ({"leads": {"worth": {"property": "a"}}}, "leads.worth.bands: is missing"),
        ({"leads": with_worth()}, "leads.worth.bands: must have at least 1, has 0"),
        ({"leads": with_worth(1, 2, 3, 4, 5, 6)}, "leads.worth.bands: must have at most 5"),
        ({"leads": with_worth(0, 20)}, "leads.worth.bands[0]: must be more than 0"),
        ({"leads": with_worth("20")}, "leads.worth.bands[0]: must be a number, without quotes"),
        ({"leads": with_worth(10**15)}, "leads.worth.bands[0]: must be a plain number of at most 15 digits"),
        ({"leads": with_worth(60, 20)}, "leads.worth.bands: each bound must be more than the one before it"),
        ({"leads": with_worth(20, 20.0)}, "leads.worth.bands: each bound must be more than the one before it"),
        (
            {"leads": with_worth(20, priorities=["low"])},
            "leads.worth.priorities: must have 2, one for each band and the lowest first; has 1",
        ),
        ({"leads": with_worth(20, priorities=[])}, "leads.worth.priorities: must have 2"),
        ({"leads": with_worth(20, priorities=["low", "asap"])}, "leads.worth.priorities[1]: must be urgent, high"),
        ({"leads": {"settle": {"at_most": "5s"}}}, "leads.settle.known: is missing"),
        ({"leads": {"settle": {"known": ["a"]}}}, "leads.settle.at_most: is missing"),
        ({"leads": {"settle": settle([], "5s")}}, "leads.settle.known: must have at least 1, has 0"),
        ({"leads": {"settle": settle(list("abcdef"), "5s")}}, "leads.settle.known: must have at most 5"),
        ({"leads": {"settle": settle(["A B"], "5s")}}, "leads.settle.known[0]: 'A B' is no"),
        *(
            ({"leads": {"settle": settle(["a"], value)}}, "leads.settle.at_most: must be seconds such as 5s or")
            for value in (5, 0, None, True, "", "5", "0s", "0m", "-5s", "1.5s", "5 x", "901s", "16m", "1h", "٣s")
        ),
        ({"release": 15}, "release: must be 0, minutes such as 15m or hours such as 2h; at most 4h"),
        *(
            ({"release": value}, "release: must be 0, minutes")
            for value in (False, 0.5, -1, None, "", "15", "-1m", "1.5h", "15s", "15 x", "241m", "5h", "999h", "٣m")
        ),
        ({"rule": []}, "rule: unknown key 'rule', did you mean 'rules'?"),
        ({"otherwise": None}, "otherwise: must be a mapping"),
        ({"otherwise": {"team": "inbond"}}, "otherwise.team: unknown team 'inbond', did you mean 'inbound'?"),
        (
            {"otherwise": {"team": "inbound", "skills": ["it"]}},
            "otherwise.skills: nobody in team 'inbound' has it",
        ),
        (
            {"otherwise": {"team": "inbound", "priority": "asap"}},
            "otherwise.priority: must be urgent, high, normal",
        ),
        ({"teams": {"inbound": {"members": []}}}, "teams.inbound.members: must have at least 1"),
        (
            {"teams": {"inbound": {"members": [ANNA, "bobb@example.com"]}}},
            "teams.inbound.members[1]: unknown rep 'bobb@example.com', did you mean 'bob@example.com'?",
        ),
        (
            {"teams": {"inbound": {"members": [ANNA, "Anna@example.com"]}}},
            "teams.inbound.members[1]: 'anna@example",
        ),
        (
            {"teams": {"in/bound": {"members": [ANNA]}}},
            "teams.in/bound: 'in/bound' is no name of a team (letters, digits",
        ),
        ({"reps": {ANNA: {}, "ANNA@example.com": {}}}, f"reps.{ANNA}: is there more than once"),
        ({"reps": {"anna": {}}}, "reps.anna: 'anna' is no HubSpot e-mail address or owner id"),
        ({"flood": {"leads": 0}}, "flood.leads: must be at least 1"),
    ],
)
def test_a_wrong_part_is_named_with_its_place(changes: Any, said: str) -> None:
    assert problems(raw(**changes))[0].startswith(said)


def test_a_letter_that_looks_like_another_is_named() -> None:
    assert problem(with_rule({"property": "сountry", "equals": "France"})).endswith(
        r"such as hs_lead_status: '\u0441' in it is CYRILLIC SMALL LETTER ES"
    )


@pytest.mark.parametrize("name", sorted(zone for zone in available_timezones() if "/" not in zone))
def test_what_tzdata_has_and_is_no_place_is_told_a_right_name(name: str) -> None:
    if name == "UTC":
        reading.read(with_rep(zone=name))
    else:
        told = problem(with_rep(zone=name)).partition("IANA names such as ")[2]
        for right in told.split(", "):
            reading.read(with_rep(zone=right))


def test_rules_must_not_contradict_each_other() -> None:
    def rule(name: str, **more: Any) -> dict[str, Any]:
        return {"name": name, "team": "inbound", **more}

    when = [{"property": "a", "known": True}]
    assert problem(raw(rules=[rule("x", when=when), rule("x", when=when)])) == (
        "rules[1].name: rules[0] is called 'x' already"
    )
    assert problem(raw(rules=[rule("otherwise", when=when)])) == "rules[0].name: 'otherwise' is reserved"
    assert problem(raw(rules=[rule("x", skills=["de", "it"])])).startswith("rules[0].skills: nobody in team")


def test_a_rule_either_routes_or_ignores() -> None:
    assert problem(with_rule(ignore="not a buyer")) == (
        "rules[0].team: unknown key 'team'; allowed: ignore, name, when"
    )
    assert (
        problem(raw(rules=[{"name": "x"}])) == "rules[0].team: is missing; or name an `owner`, or say `ignore` and why"
    )
    assert problem(raw(rules=[{"name": "x", "ignore": None}])).startswith("rules[0].ignore: must be text")


def nested(depth: int) -> dict[str, Any]:
    condition: dict[str, Any] = {"property": "a", "known": True}
    for level in range(depth - 1):
        condition = {"not": condition} if level % 2 else {"all": [condition]}
    return condition


def test_conditions_nest_at_most_eight_deep() -> None:
    reading.read(with_rule(nested(8)))
    assert problem(with_rule(nested(9))) == "rules[0].when: conditions are nested more than 8 deep"
    assert problem(with_rule(nested(50_000))) == "rules[0].when: conditions are nested more than 8 deep"


def test_there_are_at_most_400_conditions_in_all() -> None:
    def rules(count: int) -> dict[str, Any]:
        leaf = {"property": "a", "known": True}
        return raw(
            rules=[
                {"name": "x", "when": [leaf], "team": "inbound"},
                {"name": "y", "when": [leaf] * count, "ignore": "no"},
            ]
        )

    reading.read(rules(399))
    assert problem(rules(400)) == "rules: there are 401 conditions in all; at most 400"


def test_a_rota_has_at_most_32_lanes() -> None:
    def policy(count: int) -> dict[str, Any]:
        skills = [f"s{number}" for number in range(count)]
        when = [{"property": "a", "known": True}]
        rules = [{"name": skill, "when": when, "team": "inbound", "skills": [skill]} for skill in skills]
        return raw(reps={ANNA: {"skills": skills}, BOB: {}}, rules=rules)

    reading.read(policy(MAX_LANES - 1))  # and the catch-all's own
    assert problem(policy(MAX_LANES)).startswith("teams.inbound: the rules ask for 33 different sets of skills")


def test_the_lanes_of_a_rota_are_counted_with_their_bands() -> None:
    def policy(count: int) -> dict[str, Any]:
        skills = [f"s{number}" for number in range(count)]
        when = [{"property": "a", "known": True}]
        rules = [{"name": skill, "when": when, "team": "inbound", "skills": [skill]} for skill in skills]
        return raw(reps={ANNA: {"skills": skills}, BOB: {}}, rules=rules, leads=with_worth(20, 60, 80))

    reading.read(policy(MAX_LANES // 4 - 1))  # and the catch-all's own
    assert problem(policy(MAX_LANES // 4)) == (
        "teams.inbound: the rules ask for 9 different sets of skills here, in 4 bands of worth each: "
        "36 kinds of leads; at most 32"
    )


def crowd(reps: int, skills: int) -> dict[str, Any]:
    """A policy of one rota that has a lane for each of so many skills, and one for those without."""
    keys = [str(number) for number in range(reps)]
    names = [f"s{number}" for number in range(skills)]
    when = [{"property": "a", "known": True}]
    return {
        "reps": {key: {"skills": names} for key in keys},
        "teams": {"inbound": {"members": keys}},
        "rules": [{"name": name, "when": when, "team": "inbound", "skills": [name]} for name in names],
        "otherwise": {"team": "inbound"},
    }


def test_a_rota_has_at_most_5000_balances() -> None:
    assert MAX_CELLS == 5_000
    assert reading.read(crowd(500, 9)).cells("inbound") == 5_000
    assert problem(crowd(455, 10)) == (
        "teams.inbound: 455 reps x 11 kinds of leads are 5,005 balances; at most 5,000: "
        "split the team, or ask for fewer skills or bands"
    )


def test_all_problems_are_told_at_once() -> None:
    data = with_rule({"property": "a", "at_least": "x"}, priority="asap", colour="red")
    data["mode"] = "liv"
    assert {found.split(":")[0] for found in problems(data)} == {
        "mode",
        "rules[0].priority",
        "rules[0].when[0].at_least",
        "rules[0].colour",
    }


anything: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "reps",
                    "rotas",
                    "rules",
                    "otherwise",
                    "leads",
                    "when",
                    "<equals>",
                    "[key]",
                    "not",
                    "x",
                    "hours",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(anything)
def test_data_of_any_shape_is_refused_with_reasons_and_never_crashes(data: Any) -> None:
    assert problems(data)


@given(st.sampled_from(["mode", "leads", "flood", "reps", "rotas", "rules"]), anything)
def test_a_part_of_any_shape_is_taken_or_refused_and_never_crashes(part: str, value: Any) -> None:
    with contextlib.suppress(PolicyInvalid):
        reading.read(raw(**{part: value}))


# Owners


def owner(number: int, email: str, *, archived: bool = False) -> Owner:
    return Owner(str(number), email, archived)


def by_id(*owners: Owner) -> dict[str, Owner]:
    return {owner.id: owner for owner in owners}


def test_resolving_names_every_rep_by_owner_id() -> None:
    data = raw(reps={ANNA: {"skills": ["fr", "de"], "weight": 2}, "7": {}})
    data["teams"] = {"inbound": {"members": [7, ANNA]}}
    policy = resolve(reading.read(data), by_id(owner(5, "Anna@example.com"), owner(7, BOB)))
    assert policy.rotas["inbound"].members == ("7", "5")
    assert policy.reps["5"].weight == 2
    assert list(policy.reps) == ["5", "7"]
    assert Policy.load(policy.dump()) == policy


def test_resolving_names_every_rep_whom_hubspot_does_not_know_or_has_deactivated() -> None:
    with pytest.raises(PolicyInvalid) as caught:
        resolve(reading.read(raw()), by_id(owner(5, ANNA, archived=True), owner(6, "eve@example.com")))
    assert [str(problem) for problem in caught.value.problems] == [
        f"reps.{ANNA}: is deactivated in HubSpot",
        f"reps.{BOB}: is not known to HubSpot as an owner",
    ]


@pytest.mark.parametrize("archived", [4, 9])
def test_of_two_owners_with_one_address_the_active_one_is_meant(archived: int) -> None:
    owners = by_id(owner(archived, ANNA, archived=True), owner(5, ANNA), owner(6, BOB))
    assert set(resolve(reading.read(raw()), owners).reps) == {"5", "6"}


def test_a_rep_named_by_address_and_by_id_is_one_too_many() -> None:
    data = raw(reps={ANNA: {}, "5": {}}, teams={"inbound": {"members": [ANNA]}})
    with pytest.raises(PolicyInvalid, match=r"reps\.5: is there twice"):
        resolve(reading.read(data), by_id(owner(5, ANNA)))


# What is stored

words = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "Zs")), min_size=1, max_size=8).filter(fold)
numbers = (
    st.integers(-(10**15) + 1, 10**15 - 1)
    | st.decimals(-(10**6), 10**6, places=3)
    | st.floats(-1e5, 1e5).map(lambda number: round(number, 4))
)
values = st.booleans() | numbers | words
names = st.sampled_from(["country", "numemployees", "jobtitle", "hs_lead_status"])
days = st.dates(date(2000, 1, 1), date(2199, 12, 31)).map(str)
around = st.integers(0, 3650) | st.lists(st.integers(-3650, 3650), min_size=2, max_size=2).map(sorted)
leaf_data = st.one_of(
    st.fixed_dictionaries({"property": names, "equals": values}),
    st.fixed_dictionaries({"property": names, "in": st.lists(values, min_size=1, max_size=3)}),
    st.fixed_dictionaries({"property": names, "at_least": numbers}),
    st.fixed_dictionaries({"property": names, "at_most": numbers}),
    st.fixed_dictionaries(
        {
            "property": names,
            "between": st.lists(numbers, min_size=2, max_size=2).map(lambda two: sorted(two, key=Decimal)),
        }
    ),
    st.fixed_dictionaries({"property": names, "not_equals": values}),
    st.fixed_dictionaries({"property": names, "not_in": st.lists(values, min_size=1, max_size=3)}),
    st.fixed_dictionaries({"property": names, "in_list": st.sampled_from(["named", "other"])}),
    st.fixed_dictionaries({"property": names, "contains": words}),
    st.fixed_dictionaries({"property": names, "contains_any": st.lists(words, min_size=1, max_size=3)}),
    st.fixed_dictionaries({"property": names, "starts_with": words}),
    st.fixed_dictionaries({"property": names, "ends_with": words}),
    st.fixed_dictionaries({"property": names, "before": days}),
    st.fixed_dictionaries({"property": names, "after": days}),
    st.fixed_dictionaries({"property": names, "within_days": around}),
    st.fixed_dictionaries({"property": names, "known": st.just(True)}),  # noqa: FBT003
    st.fixed_dictionaries({"property": names, "unknown": st.just(True)}),  # noqa: FBT003
    st.fixed_dictionaries({"source": st.lists(st.sampled_from(["FORM", "IMPORT"]), min_size=1, max_size=2)}),
)
condition_data: st.SearchStrategy[Any] = st.recursive(
    leaf_data,
    lambda inner: st.one_of(
        st.fixed_dictionaries({"all": st.lists(inner, min_size=1, max_size=3)}),
        st.fixed_dictionaries({"any": st.lists(inner, min_size=1, max_size=3)}),
        st.fixed_dictionaries({"not": inner}),
    ),
    max_leaves=5,
)
rep_data = st.fixed_dictionaries(
    {"zone": st.sampled_from(["Europe/Paris", "America/New_York", "UTC"])},
    optional={
        "skills": st.lists(st.sampled_from(["fr", "de", "it"]), max_size=3),
        "weight": st.integers(1, 1000) | st.integers(1, 100_000).map("{}%".format),
        "holidays": st.sampled_from(["DE-BY", "FR", None]),
        "capacity": st.none() | st.integers(0, 100_000),
        "hours": st.sampled_from(
            [{"mon-fri": "09:00-18:00"}, {"sun": "22:00-06:00", "mon": ["06:00-07:30", "23:00-00:00"]}]
        ),
        "absences": st.sampled_from(
            [
                [{"from": "2026-12-24", "to": "2026-12-31"}],
                [{"from": "2026-12-24T08:00", "to": "2026-12-24T12:30"}],
                [{"from": "2026-12-24T08:00+02:00", "to": "2026-12-24T12:30Z"}],
            ]
        ),
    },
)


priorities = st.sampled_from(["urgent", "high", "normal", "low"])
fallbacks = st.sampled_from(["other", {"team": "other", "after": "10 minutes"}, {"team": "other", "skills": "de"}])
goals = st.fixed_dictionaries(
    {"team": st.just("inbound")},
    optional={
        "skills": st.sampled_from(["fr", ["fr"], []]),
        "skills_from": st.sampled_from(
            [
                {"property": "country", "lists": {"fr": ["France", 5, True], "de": "Austria"}},
                [{"property": "seats", "at_least": {"fr": 0.5, "de": 20}}],
            ]
        ),
        "priority": priorities | st.dictionaries(priorities, leaf_data, min_size=1),
        "if_nobody": fallbacks | st.dictionaries(priorities, fallbacks, min_size=1),
    },
) | st.fixed_dictionaries({"owner": st.sampled_from([BOB, "dora@example.com", 41])}, optional={"priority": priorities})


@st.composite
def policies(draw: st.DrawFn) -> dict[str, Any]:
    rules: list[dict[str, Any]] = []
    for number in range(draw(st.integers(0, 3))):
        rule: dict[str, Any] = {"name": f"rule {number}"}
        rule["when"] = draw(st.lists(condition_data, min_size=1, max_size=3))
        if draw(st.booleans()):
            rule |= draw(goals)
        else:
            rule["ignore"] = "no buyer"
        rules.append(rule)
    started = st.just("created") | st.fixed_dictionaries({"property": names, "reaches": st.just(["lead", 5, True])})
    return raw(
        mode=draw(st.sampled_from(["live", "observe", "pause"])),
        leads={
            "when": draw(started),
            "regret": draw(st.integers(0, 1440)),
            "cleared": draw(st.sampled_from(["leave", "allot again"])),
            "closed": [{"property": "hs_lead_status", "reaches": ["BAD", 0.5]}],
            **draw(st.sampled_from([{}, {"settle": settle(["a", "b"], "2m")}])),
            **draw(st.sampled_from([{}, with_worth(0.5, 20), with_worth(60, priorities=["low", "high"])])),
        },
        release=draw(st.sampled_from([0, "15m", "2h"]) | st.integers(0, 240).map("{}m".format)),
        reps={ANNA: {"skills": ["fr", "de"]}, BOB: draw(rep_data)},
        groups=draw(st.sampled_from([{}, {"all": {"reps": [ANNA, BOB, "eve@example.com"], "weight": "33%"}}])),
        lists={"named": ["acme.example"], "other": ["Beta.example"], "freemail": "built in"},
        teams={"inbound": [ANNA, BOB], "other": ANNA},
        rules=rules,
        otherwise=draw(goals | st.just({"ignore": "no lead"})),
    )


@given(policies())
def test_a_stored_policy_is_read_back_the_same(data: dict[str, Any]) -> None:
    policy = reading.read(copy.deepcopy(data))
    assert Policy.load(policy.dump()) == policy


def test_a_priority_that_nobody_named_stays_unsaid() -> None:
    kept = Policy.load(reading.read(with_rule(priority="normal")).dump())
    assert [goal.priority for _, goal in kept.goals()] == [Priority.NORMAL, None]


def test_a_policy_that_was_stored_without_a_key_is_read_with_its_default() -> None:
    leads = {"regret": 3, "cleared": "allot again", "show": ["city"], **with_worth(20)}
    kept = stored(reading.read(raw(leads=leads, release="3m")))
    del kept["leads"]["regret"], kept["leads"]["cleared"], kept["leads"]["worth"], kept["release"]
    assert Policy.load(json.dumps(kept)) == reading.read(raw(leads={"show": ["city"]}))


@pytest.mark.parametrize("change", [{"rules": [{"does": "sing"}]}, {"groups": {}}, {"release": "soon"}])
def test_a_policy_that_a_later_version_has_stored_is_refused_and_never_read_by_half(change: dict[str, Any]) -> None:
    kept = stored(reading.read(raw())) | change
    with pytest.raises(PolicyInvalid, match="apply the policy anew"):
        Policy.load(json.dumps(kept))


@given(numbers)
def test_a_number_is_stored_exactly(number: Decimal) -> None:
    policy = Policy.load(reading.read(with_rule({"property": "a", "at_least": number})).dump())
    (condition,) = policy.rules[0].when
    assert isinstance(condition, AtLeast)
    assert exact(condition.value) == Decimal(str(number))


def test_a_number_is_exact_whether_written_as_float_or_decimal() -> None:
    def value(number: Any) -> Any:
        rule = reading.read(with_rule({"property": "a", "equals": number})).rules[0]
        assert isinstance(rule, RoutingRule)
        assert isinstance(rule.when[0], Equals)
        return rule.when[0].value

    assert exact(value(0.1)) == exact(value(Decimal("0.1"))) == Decimal("0.1")
    assert value("0.1") == "0.1"


# How texts compare


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("FRANCE", "france "),
        ("Réunion", "reunion"),
        ("Re\u0301union", "RÉUNION"),
        ("\u00a0Île-de-France\t", "ile-de-france"),
        ("Straße", "STRASSE"),
        ("İstanbul", "istanbul"),
        ("ＦＲ", "fr"),
    ],
)
def test_texts_compare_without_case_accents_and_outer_blanks(one: str, other: str) -> None:
    assert fold(one) == fold(other)


def test_inner_blanks_and_other_letters_count() -> None:
    assert len({fold(text) for text in ("new york", "newyork", "new  york", "new yorq")}) == 4


accented = st.text(
    st.characters(codec="utf-8", categories=("L", "M", "Zs"))
    | st.sampled_from("aE\u0301\u0323\u0344\u0f73\ufdfa\uac01 ")
)


@given(accented)
def test_folding_letter_by_letter_leaves_what_folding_the_whole_would(text: str) -> None:
    letters = (letter for letter in unicodedata.normalize("NFKD", text) if not unicodedata.combining(letter))
    assert fold(text) == "".join(letters).casefold().strip()


@pytest.mark.parametrize("letter", ["a", "é"])
def test_texts_compare_by_their_first_8192_characters(letter: str) -> None:
    text = letter * 8_191
    assert MAX_COMPARED == 8_192
    assert fold(f"{text}x-and-more") == fold(f" {text}x and something else ") == fold(text) + "x"
    assert fold(f"{text}x") != fold(f"{text}y")
    assert fold(f"{text} y") == fold(text)


@pytest.mark.parametrize("letter", ["\ufdfa", "ß", "\u0390"])
def test_letters_that_stand_for_several_make_no_longer_text(letter: str) -> None:
    assert len(fold(letter * 65_536)) == 8_192


@given(st.text())
def test_folding_twice_changes_nothing(text: str) -> None:
    assert fold(fold(text)) == fold(text)


@given(st.text())
def test_folding_forgets_case_and_outer_blanks(text: str) -> None:
    assert fold(f" {text}\t") == fold(text)
    assert fold(text.lower()) == fold(text)
