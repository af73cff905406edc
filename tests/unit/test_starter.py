"""The policy that `fairturn policy init` writes."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairturn.rules.policy import Mode, Shift
from fairturn_console.policy import starter
from fairturn_console.policy.file import check
from fairturn_console.policy.starter import AnswerUnusable

NOW = datetime(2026, 11, 25, tzinfo=UTC)


def written(reps: str = "anna@example.com", zone: str = "Europe/Paris", hours: str = "mon-fri 09:00-18:00") -> str:
    return starter.text(starter.reps(reps), starter.zone(zone), starter.hours(hours))


def test_it_has_about_eight_lines_with_comments_and_nothing_in_it_is_doubted() -> None:
    text = written()
    assert 8 <= len(text.splitlines()) <= 10
    assert max(map(len, text.splitlines())) <= 120
    checked = check(text, date(2026, 11, 25))
    assert checked.warnings(NOW) == []
    assert checked.policy.mode is Mode.OBSERVE


def test_who_is_named_takes_turns_in_their_hours() -> None:
    policy = check(written("Anna@Example.com, bo@example.com;41 bo@example.com", "Asia/Tokyo")).policy
    assert policy.rotas["inbound"].members == ("anna@example.com", "bo@example.com", "41")
    assert {rep.zone for rep in policy.reps.values()} == {"Asia/Tokyo"}
    assert {rep.hours for rep in policy.reps.values()} == {tuple(Shift(day, 540, 1080) for day in range(5))}


@pytest.mark.parametrize(
    ("answer", "hours"),
    [
        ("mon-fri 09:00-18:00", {"mon-fri": ["09:00-18:00"]}),
        ("09:00-18:00", {"mon-fri": ["09:00-18:00"]}),
        ("09:00-12:30, 13:30-18:00", {"mon-fri": ["09:00-12:30", "13:30-18:00"]}),
        ("Mon-Thu 8:30-17:00, fri 08:30-12:00,", {"mon-thu": ["8:30-17:00"], "fri": ["08:30-12:00"]}),
        ("sun-thu 22:00-06:00", {"sun-thu": ["22:00-06:00"]}),
        (" 24/7 ", {}),
    ],
)
def test_hours_are_read_as_people_write_them(answer: str, hours: dict[str, list[str]]) -> None:
    assert starter.hours(answer) == hours
    check(written(hours=answer))


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ({"reps": " , "}, "name at least one"),
        ({"reps": "anna"}, "'anna' is no HubSpot e-mail address or owner id"),
        ({"zone": "CET"}, "unknown time zone 'CET'; allowed: IANA names such as Europe/Paris"),
        ({"zone": ""}, "unknown time zone ''"),
        ({"hours": "9 to 5"}, "'9 to' is no day or range of days"),
        ({"hours": ""}, "must be days with their times, such as {mon-fri: 09:00-18:00}"),
        ({"hours": "mon 09:00-18:00, mon 17:00-19:00"}, "'17:00-19:00' overlaps with other hours of mon"),
    ],
)
def test_an_answer_that_no_policy_could_have_is_refused(answers: dict[str, str], said: str) -> None:
    with pytest.raises(AnswerUnusable) as refused:
        written(**answers)
    assert str(refused.value).startswith(said)


visible = st.text(st.characters(categories=("L", "N", "P", "S")), min_size=1, max_size=12)


@given(st.builds("{}@{}".format, visible, visible))
def test_any_address_is_refused_or_written_so_that_it_is_read_back(answer: str) -> None:
    try:
        text = written(reps=answer)
    except AnswerUnusable:
        return
    assert [*check(text).policy.reps] == starter.reps(answer)
