"""Groups of reps, short forms, weights as shares, and names in any script."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairturn.errors import PolicyInvalid
from fairturn.rules.ledger import Ledger, Member, Offer, allot
from fairturn.rules.policy import Absence, Days, Moments, Policy, Rep, Shift
from fairturn_console.policy import reading
from fairturn_console.policy.file import check
from fairturn_console.policy.reading import MAX_KEY, key_of

ANNA, BOB, CARLA = "anna@example.com", "bob@example.com", "carla@example.com"
NOW = datetime(2026, 11, 25, tzinfo=UTC)
OFFICE = {"zone": "Europe/Paris", "hours": {"mon-fri": "09:00-18:00"}, "holidays": "FR-IDF", "capacity": 30}


def raw(**changes: Any) -> dict[str, Any]:
    """Return a policy of two groups with changes at the top."""
    return {
        "groups": {"paris": {"reps": [ANNA, BOB], "skills": ["fr"], **OFFICE}, "seniors": {"reps": [ANNA, CARLA]}},
        "teams": {"inbound": {"members": ["paris", "seniors"]}},
        "otherwise": {"team": "inbound"},
        **changes,
    }


def with_groups(reps: dict[str, Any] | None = None, **groups: Any) -> Policy:
    return reading.read(raw(groups=groups, reps=reps or {}, teams={"inbound": [*groups]}))


def problems(data: object) -> list[str]:
    with pytest.raises(PolicyInvalid) as caught:
        reading.read(data)
    return [str(problem) for problem in caught.value.problems]


def problem(data: object) -> str:
    (only,) = problems(data)
    return only


def told(text: str) -> list[str]:
    """Problems of a file, or its warnings."""
    try:
        return [str(warning) for warning in check(text).warnings(NOW)]
    except PolicyInvalid as error:
        return [str(problem) for problem in error.problems]


# Groups


def test_reps_of_a_group_have_what_is_said_of_it() -> None:
    policy = reading.read(raw())
    hours = tuple(Shift(day, 9 * 60, 18 * 60) for day in range(5))
    office = Rep(skills=("fr",), zone="Europe/Paris", hours=hours, holidays="FR-IDF", capacity=30)
    assert policy.reps == {ANNA: office, BOB: office, CARLA: Rep()}


def test_members_by_group_are_each_of_its_reps_once() -> None:
    assert reading.read(raw()).rotas["inbound"].members == (ANNA, BOB, CARLA)
    mixed = raw(teams={"inbound": {"members": [CARLA, "paris"]}})
    assert reading.read(mixed).rotas["inbound"].members == (CARLA, ANNA, BOB)


def test_what_a_rep_says_of_themselves_goes_before_their_group() -> None:
    reps = {ANNA: {"capacity": 5, "skills": ["de"], "hours": {"mon": "09:00-10:00"}}, BOB: {"holidays": None}}
    policy = with_groups(reps, paris={"reps": [ANNA, BOB], "skills": ["fr"], **OFFICE})
    assert policy.reps[ANNA].capacity == 5
    assert policy.reps[ANNA].skills == ("de",)
    assert policy.reps[ANNA].hours == (Shift(0, 9 * 60, 10 * 60),)
    assert policy.reps[ANNA].zone == "Europe/Paris"
    assert (policy.reps[BOB].holidays, policy.reps[BOB].capacity) == (None, 30)


def test_who_is_in_several_groups_has_the_skills_of_all() -> None:
    policy = with_groups(a={"reps": [ANNA], "skills": ["fr", "de"]}, b={"reps": ANNA, "skills": "it"})
    assert policy.reps[ANNA].skills == ("de", "fr", "it")


def test_absences_of_groups_and_of_a_rep_add_up() -> None:
    reps = {ANNA: {"absences": "2026-11-30"}}
    policy = with_groups(reps, paris={"reps": [ANNA, BOB], "zone": "UTC", "absences": "2026-12-24..2026-12-31"})
    closed = Days(date(2026, 12, 24), date(2026, 12, 31))
    assert policy.reps[ANNA].absences == (Days(date(2026, 11, 30), date(2026, 11, 30)), closed)
    assert policy.reps[BOB].absences == (closed,)


def test_groups_that_contradict_each_other_are_told_unless_the_rep_says_it() -> None:
    groups = {"a": {"reps": [ANNA], "zone": "UTC", "weight": 2}, "b": {"reps": [ANNA], "zone": "Europe/Paris"}}
    what = "is in several groups that say different things of `zone`; say it here, too"
    assert problem(raw(groups=groups, teams={"inbound": "a"})) == f"reps.{ANNA}: {what}"
    assert with_groups({ANNA: {"zone": "Asia/Tokyo"}}, **groups).reps[ANNA].zone == "Asia/Tokyo"
    assert with_groups(a={"reps": [ANNA], "zone": "UTC"}, b={"reps": [ANNA], "zone": "UTC"}).reps[ANNA].zone == "UTC"


def test_a_group_that_is_not_there_is_told_with_what_may_be_meant() -> None:
    said = problem(raw(teams={"inbound": {"members": ["pari", "seniors"]}}))
    assert said == "teams.inbound.members[0]: unknown group 'pari', did you mean 'paris'? allowed: paris, seniors"


def test_a_group_is_a_member_once() -> None:
    said = problem(raw(teams={"inbound": {"members": ["paris", "paris"]}}))
    assert said == "teams.inbound.members[1]: 'paris' is a member already"


def test_without_a_list_of_reps_whoever_is_a_member_is_one() -> None:
    assert reading.read(raw(teams={"inbound": ["paris", "dora@example.com"]})).reps["dora@example.com"] == Rep()
    assert [*reading.read(raw(groups={}, teams={"inbound": [BOB, 41]})).reps] == [BOB, "41"]


def test_with_a_list_of_reps_a_member_who_is_not_on_it_is_told() -> None:
    said = problem(raw(reps={CARLA: {}}, teams={"inbound": ["paris", "carl@example.com"]}))
    assert said.startswith(
        "teams.inbound.members[1]: unknown rep 'carl@example.com', did you mean 'carla@example.com'?"
    )


def test_a_member_that_is_neither_an_address_nor_a_group_is_told() -> None:
    said = problem(raw(groups={}, teams={"inbound": "anna"}))
    assert said == (
        "teams.inbound.members[0]: 'anna' is no HubSpot e-mail address or owner id, and there are no groups"
    )


@pytest.mark.parametrize(
    ("group", "said"),
    [
        ({}, "groups.x.reps: is missing"),
        ({"reps": []}, "groups.x.reps: must have at least 1, has 0"),
        ({"reps": ["anna"]}, "groups.x.reps[0]: 'anna' is no HubSpot e-mail address or owner id"),
        ({"reps": "anna"}, "groups.x.reps: 'anna' is no HubSpot e-mail address or owner id"),
        ({"reps": [ANNA], "hour": {}}, "groups.x.hour: unknown key 'hour', did you mean 'hours'? allowed: skills,"),
    ],
)
def test_a_wrong_group_is_named_with_its_place(group: dict[str, Any], said: str) -> None:
    assert problems(raw(groups={"x": group}, teams={"inbound": BOB}))[0].startswith(said)


def test_what_is_told_of_a_rep_of_a_group_has_the_line_on_which_they_are_named() -> None:
    text = """\
groups:
  paris:
    reps:
      - anna@example.com
      - Bob@example.com
    hours: {mon: 09:00-10:00}
teams: {inbound: [paris]}
otherwise: {team: inbound}
"""
    what = "needs a `zone`, such as Europe/Paris, for the hours, holidays or absences"
    assert told(text) == [f"line 4, reps.{ANNA}: {what}", f"line 5, reps.{BOB}: {what}"]


# Short forms


def test_a_list_of_one_entry_may_be_written_as_the_entry() -> None:
    rule = {"name": "x", "when": {"property": "a", "in": "b"}, "team": "inbound", "skills": "fr"}
    long = {"name": "x", "when": [{"property": "a", "in": ["b"]}], "team": "inbound", "skills": ["fr"]}
    leads = {
        "closed": {"property": "s", "reaches": "x"},
        "keep_values": "city",
        "settle": {"known": "a", "at_most": "5s"},
    }
    longer = {
        "closed": [{"property": "s", "reaches": ["x"]}],
        "keep_values": ["city"],
        "settle": {"known": ["a"], "at_most": "5s"},
    }
    short = reading.read(raw(rules=[rule], leads=leads, teams={"inbound": "paris"}))
    assert short == reading.read(raw(rules=[long], leads=longer, teams={"inbound": {"members": ["paris"]}}))


def test_a_team_may_be_written_as_its_members() -> None:
    assert reading.read(raw(teams={"inbound": ["paris", CARLA]})) == reading.read(
        raw(teams={"inbound": {"members": ["paris", CARLA]}})
    )


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("2027-01-01", Days(date(2027, 1, 1), date(2027, 1, 1))),
        ("2026-11-01..2027-02-28", Days(date(2026, 11, 1), date(2027, 2, 28))),
        ("2026-11-01 .. 2027-02-28", Days(date(2026, 11, 1), date(2027, 2, 28))),
        (date(2027, 1, 1), Days(date(2027, 1, 1), date(2027, 1, 1))),
        ({"from": "2026-11-01", "to": "2027-02-28"}, Days(date(2026, 11, 1), date(2027, 2, 28))),
        (
            "2026-12-24T12:00..2026-12-24T18:30",
            Moments(datetime(2026, 12, 24, 12), datetime(2026, 12, 24, 18, 30)),  # noqa: DTZ001 - their own clock's
        ),
    ],
)
def test_an_absence_may_be_written_as_text(written: object, meant: Absence) -> None:
    for absences in (written, [written]):
        assert with_groups({ANNA: {"absences": absences, "zone": "UTC"}}, a={"reps": ANNA}).reps[ANNA].absences == (
            meant,
        )


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("2027-13-01", "absences.from: must be a day such as 2026-12-24 or a time such as 2026-12-24T14:00"),
        ("next week", "absences.from: must be a day"),
        ("2027-01-02..", "absences.to: must be a day"),
        ("2027-01-02..2027-01-01", "absences: ends before it begins"),
        ("2027-01-02..2027-01-03T12:00", "absences: `from` and `to` must both be whole days or both have a time"),
        (["2027-01-01", "2027-02-30"], "absences[1].from: must be a day"),
        (5, "absences: must be a mapping of keys to values"),
    ],
)
def test_a_wrong_absence_is_named_with_its_place(written: object, said: str) -> None:
    data = raw(reps={ANNA: {"absences": written}})
    assert problems(data)[0].startswith(f"reps.{ANNA}.{said}")


# Weights as shares of a turn


def weights(**written: Any) -> list[int]:
    reps = {f"{name}@example.com": {"weight": weight} for name, weight in written.items()}
    return [rep.weight for rep in reading.read(raw(groups={}, reps=reps, teams={"inbound": [*reps]})).reps.values()]


def test_a_weight_in_percent_is_a_share_of_a_full_turn() -> None:
    assert weights(a=1, b="50%") == [2, 1]
    assert weights(a="100%", b="33 %", c=2) == [100, 33, 200]
    assert weights(a="120%", b=1) == [6, 5]
    assert weights(a=3, b=2) == [3, 2]
    assert weights(a="250%", b="1%") == [250, 1]
    assert weights(a="40%", b=1000) == [1, 2500]
    assert weights(a=4, b=2) == [4, 2]


def test_who_says_nothing_has_a_full_turn_beside_shares() -> None:
    reps = with_groups(a={"reps": [ANNA], "weight": "50%"}, b={"reps": [BOB]}).reps
    assert [reps[rep].weight for rep in (ANNA, BOB)] == [1, 2]


@given(st.lists(st.integers(1, 100_000), min_size=1, max_size=6))
def test_weights_keep_their_proportions_and_the_ledger_takes_them(percent: list[int]) -> None:
    whole = weights(**{f"r{number}": f"{each}%" for number, each in enumerate(percent)})
    assert [each * whole[0] for each in percent] == [each * percent[0] for each in whole]
    assert max(whole) <= 100_000
    members = {str(number): Member(weight=weight) for number, weight in enumerate(whole)}
    allotment = allot(Ledger(), [Offer("any")] * 3, members, ["any"])
    assert all(allotment.ledger.total(rep) < 2**60 for rep in members)


# Names in any script

SPOKEN = "équipe française"


def spoken(**changes: Any) -> dict[str, Any]:
    return {
        "groups": {"groupe à côté": {"reps": [ANNA], "skills": ["日本", "Français"]}},
        "teams": {SPOKEN: ["groupe à côté"], "日本": ANNA, "Продажи": ANNA},
        "rules": [
            {"name": "日本から", "when": {"property": "a", "known": True}, "team": "日本", "skills": "日本"},
            {"name": "х", "when": {"property": "b", "known": True}, "team": "Продажи", "if_nobody": SPOKEN},
        ],
        "otherwise": {"team": SPOKEN, "skills": ["français"]},
        **changes,
    }


def test_names_in_any_script_have_a_form_for_keys_and_are_shown_as_written() -> None:
    policy = reading.read(spoken())
    keys = [*policy.rotas]
    assert keys[0] == "equipe-francaise"
    assert all(key.isascii() and key == key.lower() and len(key) <= MAX_KEY for key in keys)
    assert [policy.team(key) for key in keys] == [SPOKEN, "日本", "Продажи"]
    assert sorted(map(policy.skill, policy.reps[ANNA].skills)) == ["Français", "日本"]
    assert Policy.load(policy.dump()) == policy
    assert policy.lanes("equipe-francaise") == {"francais", "any"}


def test_a_name_that_is_written_in_another_case_is_the_same_skill() -> None:
    groups = {"a": {"reps": [ANNA], "skills": ["Deutsch"]}}
    otherwise = {"team": "inbound", "skills": ["deutsch"]}
    assert reading.read(raw(groups=groups, teams={"inbound": "a"}, otherwise=otherwise)).reps[ANNA].skills == (
        "deutsch",
    )


def test_teams_whose_names_have_one_form_are_told_apart_by_nobody() -> None:
    said = problem(raw(teams={"inbound": BOB, "Key accounts": "paris", "key-accounts": "seniors"}))
    assert said == "teams.key-accounts: is too much like 'Key accounts'; call it otherwise"


@pytest.mark.parametrize("name", ["any", "Any", "past"])
def test_a_skill_that_ledgers_keep_for_themselves_is_refused(name: str) -> None:
    (said,) = problems(raw(groups={"a": {"reps": [ANNA], "skills": [name]}}, teams={"inbound": "a"}))
    assert said.endswith(f"the skill {name!r} is reserved; call it otherwise")


def test_a_team_that_would_be_taken_for_a_fixed_owner_is_refused() -> None:
    said = problem(raw(teams={"inbound": "paris", "Owner 5": "seniors"}))
    assert said == "teams.Owner 5: begins with 'owner-', which is reserved"


@pytest.mark.parametrize("name", ["a/b", "a#b", "a+b", "a@b", "", " a", "a ", "-a", "x" * 41, "a\nb", "😀"])
def test_a_name_of_other_signs_is_refused(name: str) -> None:
    assert any(said.startswith(f"teams.{name}: ") for said in problems(raw(teams={name: ANNA, "inbound": BOB})))


def test_letters_of_a_language_are_not_suspected() -> None:
    assert (
        told(
            "teams: {équipe française: [anna@example.com], 日本: [anna@example.com], Продажи: [anna@example.com]}\n"
            "rules:\n"
            "  - {name: japonais, when: {property: country, in: [日本, Japon]}, team: 日本}\n"
            "  - {name: russe, when: {property: country, equals: Россия}, team: Продажи}\n"
            "otherwise: {team: équipe française}\n"
        )
        == []
    )


@given(st.text(st.characters(categories=("L", "Nd")), min_size=1, max_size=40))
def test_the_form_for_keys_is_short_and_plain_and_the_same_each_time(name: str) -> None:
    key = key_of(name)
    assert 1 <= len(key) <= MAX_KEY
    assert key.isascii()
    assert set(key) <= set("abcdefghijklmnopqrstuvwxyz0123456789_-")
    assert key_of(name) == key


@pytest.mark.parametrize(("one", "other"), [("日本", "日木"), ("команда", "команды"), ("ß", "s"), ("Malmø", "Malm")])
def test_names_that_differ_by_letters_without_a_plain_form_have_forms_that_differ(one: str, other: str) -> None:
    assert key_of(one) != key_of(other)


# Old names

OLD = """\
leads: {regret: 5, cleared: allot again, show: [city]}
reps: {anna@example.com: }
rotas: {inbound: {members: [anna@example.com]}}
rules:
  - {name: x, when: [{property: a, known: true}], rota: inbound}
otherwise: {rota: inbound}
"""
NEW = (
    OLD.replace("regret", "turn_back_within")
    .replace("cleared", "when_owner_removed")
    .replace("show", "keep_values")
    .replace("rota", "team")
)


def test_old_names_are_read_as_before_and_told_of_with_their_lines() -> None:
    assert check(OLD).policy == check(NEW).policy
    called = [("line 3, rotas", "teams"), ("line 1, leads.regret", "turn_back_within")]
    called += [("line 1, leads.cleared", "when_owner_removed"), ("line 1, leads.show", "keep_values")]
    called += [("line 5, rules[0].rota", "team"), ("line 6, otherwise.rota", "team")]
    assert told(OLD) == [f"{where}: is called `{now}` now; it is read as before" for where, now in called]
    assert told(NEW) == []


@pytest.mark.parametrize(
    ("both", "what"),
    [
        ("otherwise: {rota: inbound, team: inbound}", "otherwise.rota: is what `team` was called once"),
        ("leads: {regret: 5, turn_back_within: 5}", "leads.regret: is what `turn_back_within` was called once"),
    ],
)
def test_an_old_name_beside_its_new_one_is_refused(both: str, what: str) -> None:
    rest = {line.partition(":")[0]: line for line in NEW.splitlines() if not line.startswith(" ")}
    rest[both.partition(":")[0]] = both
    rest["rules"] = "rules: []"
    (said,) = told("\n".join(rest.values()))
    assert f"{what}, and that is there already" in said


def test_the_limits_of_teams_and_reps_hold_for_groups_too() -> None:
    groups = {f"g{n}": {"reps": [f"rep{n}-{m}@example.com" for m in range(500)]} for n in range(3)}
    with pytest.raises(PolicyInvalid) as caught:
        reading.read({"groups": groups, "teams": {"all": list(groups)}, "otherwise": {"team": "all"}})
    assert [str(problem) for problem in caught.value.problems][:2] == [
        "reps: with those of groups there are 1500; at most 1000",
        "teams.all: has 1500 members; at most 500",
    ]
