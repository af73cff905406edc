"""Public holidays: by country and part of one, and who is on duty on them."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from fairturn.errors import PolicyInvalid
from fairturn.rules.explain import why
from fairturn.rules.policy import Policy
from fairturn.rules.roster import Owner, comes_on_duty, duty
from fairturn.rules.verdict import Code
from fairturn_console.policy import calendars, reading, summary

ANNA = "anna@example.com"
OWNER = Owner("1", ANNA, archived=False)
TODAY = date(2026, 11, 28)


def policy(**rep: Any) -> Policy:
    data = {
        "reps": {ANNA: {"zone": "Europe/Berlin", **rep}},
        "teams": {"inbound": ANNA},
        "otherwise": {"team": "inbound"},
    }
    return reading.read(data, today=TODAY)


def problem(**rep: Any) -> str:
    with pytest.raises(PolicyInvalid) as caught:
        policy(**rep)
    (only,) = map(str, caught.value.problems)
    return only


def code(policy: Policy, at: str) -> str:
    """How she stands at a moment, by her own clock."""
    return duty(policy.reps[ANNA], OWNER, datetime.fromisoformat(at), policy.holidays(ANNA)).code


# Calendars


@pytest.mark.parametrize(
    ("calendar", "day", "is_one"),
    [
        ("DE", date(2027, 10, 3), True),
        ("DE", date(2027, 11, 1), False),
        ("DE-BY", date(2027, 11, 1), True),
        ("DE-BE", date(2027, 11, 1), False),
        ("FR", date(2027, 7, 14), True),
        ("FR-IDF", date(2027, 7, 14), True),
        ("GB-ENG", date(2026, 12, 28), True),
        ("US-NY", date(2026, 11, 26), True),
        ("fr", date(2027, 7, 14), True),
        ("de-by", date(2027, 1, 6), True),
    ],
)
def test_holidays_are_those_of_the_country_or_its_part(calendar: str, day: date, *, is_one: bool) -> None:
    (days,) = policy(holidays=calendar).calendars.values()
    assert (day in days) is (is_one and day >= TODAY - timedelta(days=2))


def test_holidays_reach_to_the_end_of_the_fourth_year_after_this_one() -> None:
    days = calendars.days("DE-BY", TODAY)
    assert {day.year for day in days} == {2026, 2027, 2028, 2029, 2030}
    assert max(days) == date(2030, 12, 26)


def test_the_holiday_of_yesterday_is_kept_because_elsewhere_it_may_be_today() -> None:
    assert min(calendars.days("DE", date(2027, 1, 2))) == date(2027, 1, 1)
    assert min(calendars.days("DE", date(2027, 1, 3))) == date(2027, 1, 1)
    assert min(calendars.days("DE", date(2027, 1, 4))) > date(2027, 1, 1)


@pytest.mark.parametrize("calendar", ["XX", "ZZ-AB", "xx"])
def test_a_country_of_which_no_holidays_are_known_is_told(calendar: str) -> None:
    told = f"reps.{ANNA}.holidays: no holidays of {calendar[:2].upper()!r} are known; countries have two letters"
    assert problem(holidays=calendar).startswith(told)


@pytest.mark.parametrize("calendar", ["France", "FRA", "FR_IDF", "DE-", "", "DE-BAYERN"])
def test_what_is_no_code_of_a_country_is_told(calendar: str) -> None:
    assert problem(holidays=calendar) == (
        f"reps.{ANNA}.holidays: {calendar!r} is no country such as FR, and no part of one such as DE-BY"
    )


def test_holidays_need_a_zone() -> None:
    assert problem(zone=None, holidays="FR") == (
        f"reps.{ANNA}: needs a `zone`, such as Europe/Paris, for the hours, holidays or absences"
    )


def test_the_last_line_of_a_check_says_whose_holidays_count_and_until_when() -> None:
    assert summary.unsaid(policy(holidays="DE-BY")).endswith("holidays of DE-BY until the end of 2030")
    assert summary.unsaid(policy(holidays="FR-IDF")).endswith(
        "holidays of FR-IDF as in all of FR until the end of 2030"
    )


def test_holidays_are_stored_with_the_policy() -> None:
    one = policy(holidays="DE-BY")
    assert Policy.load(one.dump()) == one


# On duty

OFFICE = {"mon-fri": "09:00-18:00"}
NIGHTS = {"sun-sat": "22:00-06:00"}


def test_a_rep_on_a_public_holiday_is_not_on_duty_and_comes_back_the_day_after() -> None:
    berlin = policy(holidays="DE", hours=OFFICE)
    assert code(berlin, "2026-12-24T10:00+01:00") == Code.ON_DUTY
    assert code(berlin, "2026-12-25T10:00+01:00") == Code.HOLIDAY  # a Friday
    assert code(berlin, "2026-12-25T20:00+01:00") == Code.OFF
    assert code(berlin, "2026-12-28T10:00+01:00") == Code.ON_DUTY


def test_who_works_around_the_clock_is_away_for_the_whole_day_by_their_own_clock() -> None:
    always = policy(holidays="DE")
    assert code(always, "2026-12-24T22:59:59+00:00") == Code.ON_DUTY
    assert code(always, "2026-12-24T23:00+00:00") == Code.HOLIDAY
    assert code(always, "2026-12-26T22:59+00:00") == Code.HOLIDAY
    assert code(always, "2026-12-26T23:00+00:00") == Code.ON_DUTY


def test_a_night_shift_that_runs_into_a_holiday_goes_on_and_one_that_begins_on_it_is_free() -> None:
    nights = policy(holidays="DE", hours=NIGHTS)
    assert code(nights, "2026-12-24T23:00+01:00") == Code.ON_DUTY
    assert code(nights, "2026-12-25T05:59+01:00") == Code.ON_DUTY
    assert code(nights, "2026-12-25T23:00+01:00") == Code.HOLIDAY
    assert code(nights, "2026-12-27T05:59+01:00") == Code.HOLIDAY  # the shift began on the 26th, a holiday, too
    assert code(nights, "2026-12-27T06:00+01:00") == Code.OFF
    assert code(nights, "2026-12-27T22:00+01:00") == Code.ON_DUTY


def test_an_absence_is_told_before_a_holiday() -> None:
    both = policy(holidays="DE", hours=OFFICE, absences="2026-12-21..2027-01-01")
    assert code(both, "2026-12-25T10:00+01:00") == Code.AWAY


def test_who_comes_back_from_a_holiday_is_expected() -> None:
    berlin = policy(holidays="DE", hours={"mon-sun": "09:00-18:00"})
    rep, free = berlin.reps[ANNA], berlin.holidays(ANNA)

    def expected(at: str, hours: int) -> bool:
        return comes_on_duty(rep, OWNER, datetime.fromisoformat(at), timedelta(hours=hours), free)

    assert not expected("2026-12-25T08:00+01:00", 4)  # the 25th is a holiday, and so is the day after
    assert not expected("2026-12-26T20:00+01:00", 12)
    assert expected("2026-12-26T20:00+01:00", 13)
    assert not comes_on_duty(rep, OWNER, datetime(2026, 12, 25, 7, tzinfo=UTC), timedelta(0), free)


def test_a_holiday_is_said_in_words() -> None:
    verdict = duty(
        policy(holidays="DE").reps[ANNA], OWNER, datetime(2026, 12, 25, 12, tzinfo=UTC), [date(2026, 12, 25)]
    )
    assert why(verdict) == "on a public holiday"
