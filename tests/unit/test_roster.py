"""Who is on duty when, by every clock; and whom HubSpot has."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fairturn.rules.policy import Moments, Rep
from fairturn.rules.roster import Owner, comes_on_duty, duty, refreshed
from fairturn.rules.verdict import Code, Source, Verdict
from fairturn_console.policy import reading

OWNER = Owner("5", "anna@example.com", archived=False)
PARIS, NEW_YORK = "Europe/Paris", "America/New_York"
MONDAY_NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


def rep(zone: str = PARIS, **more: Any) -> Rep:
    data = {"reps": {"5": {"zone": zone, **more}}, "rotas": {"all": {"members": ["5"]}}, "otherwise": {"rota": "all"}}
    return reading.read(data).reps["5"]


def at(text: str, zone: str = PARIS, *, second: bool = False) -> datetime:
    """Return what the clock in the zone shows; `second` for an hour that is there twice."""
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=int(second))


def on(someone: Rep, moment: datetime) -> bool:
    return duty(someone, OWNER, moment).on_duty


def minutes_on(someone: Rep, start: datetime, end: datetime) -> list[datetime]:
    """Return the first minute of each stretch of duty and the first one after it, in UTC."""
    changes: list[datetime] = []
    now, before = start.astimezone(UTC), False
    while now <= end.astimezone(UTC):
        if (here := on(someone, now)) != before:
            changes.append(now)
            before = here
        now += timedelta(minutes=5)
    return changes


def test_a_rep_without_hours_is_on_duty_around_the_clock() -> None:
    assert duty(Rep(), OWNER, MONDAY_NOON) == Verdict()


@pytest.mark.parametrize(
    ("owner", "code"),
    [
        (None, Code.UNKNOWN),
        (Owner("5", "", archived=True, unavailable=True), Code.DEACTIVATED),
        (Owner("5", "", archived=False, unavailable=True), Code.REFUSED),
    ],
)
def test_nobody_works_whom_hubspot_does_not_take(owner: Owner | None, code: Code) -> None:
    away = rep(absences=[{"from": "2026-06-01", "to": "2026-06-01"}], hours={"sun": "01:00-02:00"})
    assert duty(away, owner, MONDAY_NOON) == Verdict(code, Source.HUBSPOT)


def test_who_is_away_or_outside_working_hours_has_not_left() -> None:
    away = rep(absences=[{"from": "2026-06-01", "to": "2026-06-01"}], hours={"sun": "01:00-02:00"})
    assert not duty(Rep(), OWNER, MONDAY_NOON).has_left
    assert not duty(away, OWNER, MONDAY_NOON).has_left
    assert not duty(away, OWNER, MONDAY_NOON + timedelta(days=1)).has_left
    assert not duty(Rep(), replace(OWNER, missed=True), MONDAY_NOON).has_left


def test_a_moment_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="time zone"):
        duty(Rep(), OWNER, datetime(2026, 6, 1))  # noqa: DTZ001


def test_hours_begin_with_the_first_minute_and_end_before_the_last() -> None:
    office = rep(hours={"mon-fri": "09:00-18:00"})
    assert not on(office, at("2026-06-01T08:59:59"))
    assert on(office, at("2026-06-01T09:00"))
    assert on(office, at("2026-06-01T17:59:59"))
    assert duty(office, OWNER, at("2026-06-01T18:00")) == Verdict(Code.OFF)
    assert not on(office, at("2026-06-06T12:00"))  # Saturday


def test_hours_are_by_the_reps_own_clock() -> None:
    office = rep(NEW_YORK, hours={"mon": "09:00-17:00"})
    assert not on(office, at("2026-06-01T09:00", PARIS))
    assert on(office, at("2026-06-01T22:59", PARIS))
    assert not on(office, at("2026-06-01T23:00", PARIS))


def test_nobody_works_over_lunch() -> None:
    office = rep(hours={"sat": ["09:00-12:00", "13:00-15:00"]})
    assert [on(office, at(f"2026-06-06T{time}")) for time in ("11:59", "12:00", "12:59", "13:00")] == [
        True,
        False,
        False,
        True,
    ]


def test_a_night_shift_belongs_to_the_day_on_which_it_begins() -> None:
    nights = rep(hours={"fri": "22:00-06:00"})
    assert not on(nights, at("2026-06-05T05:00"))  # Friday morning
    assert on(nights, at("2026-06-05T22:00"))
    assert on(nights, at("2026-06-06T05:59"))
    assert not on(nights, at("2026-06-06T06:00"))
    assert not on(nights, at("2026-06-06T22:00"))


def test_sunday_night_runs_into_monday() -> None:
    nights = rep(hours={"sun": "22:00-06:00"})
    assert on(nights, at("2026-06-08T05:59"))
    assert not on(nights, at("2026-06-08T06:00"))
    assert not on(nights, at("2026-06-07T05:59"))


def test_a_day_of_24_hours_leaves_no_gap() -> None:
    always = rep(hours={"mon-sun": "00:00-24:00"})
    assert minutes_on(always, at("2026-03-28T00:00"), at("2026-03-30T12:00")) == [
        at("2026-03-28T00:00").astimezone(UTC)
    ]
    assert minutes_on(always, at("2026-10-24T00:00"), at("2026-10-26T12:00")) == [
        at("2026-10-24T00:00").astimezone(UTC)
    ]


# When the clocks change: Paris on 2026-03-29 (02:00 to 03:00) and 2026-10-25 (03:00 to 02:00), New York on
# 2026-03-08 and 2026-11-01 (02:00 to 01:00).


def test_the_office_opens_at_nine_by_the_clock_on_both_sides_of_a_change() -> None:
    office = rep(hours={"mon-sun": "09:00-18:00"})
    opened = minutes_on(office, at("2026-03-28T00:00"), at("2026-03-30T00:00"))
    assert [moment.hour for moment in opened] == [8, 17, 7, 16]


@pytest.mark.parametrize(
    ("zone", "night", "hours"),
    [
        (PARIS, "2026-03-28", 7),
        (PARIS, "2026-10-24", 9),
        (NEW_YORK, "2026-03-07", 7),
        (NEW_YORK, "2026-10-31", 9),
    ],
)
def test_a_night_shift_is_an_hour_shorter_in_spring_and_longer_in_autumn(zone: str, night: str, hours: int) -> None:
    nights = rep(zone, hours={"sat": "22:00-06:00"})
    begun, ended = minutes_on(nights, at(f"{night}T12:00", zone), at(f"{night}T12:00", zone) + timedelta(days=1))
    assert ended - begun == timedelta(hours=hours)


def test_a_shift_that_begins_in_the_skipped_hour_begins_when_the_clock_jumps() -> None:
    early = rep(hours={"sun": "02:30-03:15"})
    assert minutes_on(early, at("2026-03-29T00:00"), at("2026-03-29T12:00")) == [
        datetime(2026, 3, 29, 1, 0, tzinfo=UTC),
        datetime(2026, 3, 29, 1, 15, tzinfo=UTC),
    ]


def test_a_shift_that_ends_in_the_skipped_hour_ends_when_the_clock_jumps() -> None:
    late = rep(hours={"sat": "22:00-02:30"})
    assert minutes_on(late, at("2026-03-28T12:00"), at("2026-03-29T12:00"))[-1] == datetime(
        2026, 3, 29, 1, 0, tzinfo=UTC
    )


def test_a_shift_that_ends_in_the_doubled_hour_ends_once_the_first_time() -> None:
    late = rep(hours={"sat": "22:00-02:30"})
    assert on(late, at("2026-10-25T02:15"))
    assert not on(late, at("2026-10-25T02:45"))
    assert not on(late, at("2026-10-25T02:15", second=True))


def test_a_shift_that_begins_in_the_doubled_hour_begins_once_the_first_time() -> None:
    early = rep(NEW_YORK, hours={"sun": "01:30-10:00"})
    assert not on(early, at("2026-11-01T01:15", NEW_YORK))
    assert on(early, at("2026-11-01T01:45", NEW_YORK))
    assert on(early, at("2026-11-01T01:15", NEW_YORK, second=True))


def test_a_day_begins_once_where_the_clock_goes_back_over_midnight() -> None:
    # Santiago, 2026-04-05: at 24:00 on Saturday it is 23:00 on Saturday again.
    saturday = rep("America/Santiago", hours={"sat": "00:00-24:00"})
    assert on(saturday, at("2026-04-04T23:30", "America/Santiago", second=True))
    begun, ended = minutes_on(saturday, datetime(2026, 4, 3, tzinfo=UTC), datetime(2026, 4, 7, tzinfo=UTC))
    assert ended - begun == timedelta(hours=25)


@given(
    st.sampled_from([PARIS, NEW_YORK, "Australia/Lord_Howe", "Asia/Kolkata", "Africa/Cairo", "America/Havana"]),
    st.datetimes(datetime(2024, 1, 1), datetime(2028, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    st.integers(0, 23),
)
def test_of_two_shifts_that_make_a_whole_day_exactly_one_is_on(zone: str, moment: datetime, hour: int) -> None:
    first = rep(zone, hours={"mon-sun": f"{hour:02}:30-{(hour + 9) % 24:02}:15"})
    second = rep(zone, hours={"mon-sun": f"{(hour + 9) % 24:02}:15-{hour:02}:30"})
    assert on(first, moment) != on(second, moment)


# Absences


def test_an_absence_is_whole_days_both_included_by_the_reps_own_clock() -> None:
    away = rep(NEW_YORK, absences=[{"from": "2026-12-24", "to": "2026-12-31"}])
    assert on(away, at("2026-12-23T23:59", NEW_YORK))
    assert duty(away, OWNER, at("2026-12-24T00:00", NEW_YORK)) == Verdict(Code.AWAY, until="2026-12-31")
    assert not on(away, at("2026-12-31T23:59", NEW_YORK))
    assert on(away, at("2027-01-01T00:00", NEW_YORK))


def test_an_absence_may_be_some_hours() -> None:
    away = rep(absences=[{"from": "2026-06-01T14:00", "to": "2026-06-01T15:30"}])
    assert on(away, at("2026-06-01T13:59"))
    assert duty(away, OWNER, at("2026-06-01T14:00")) == Verdict(Code.AWAY, until="2026-06-01T15:30")
    assert on(away, at("2026-06-01T15:30"))


def test_an_absence_with_an_offset_needs_no_zone() -> None:
    away = Rep(
        absences=(
            Moments(datetime.fromisoformat("2026-06-01T14:00+02:00"), datetime.fromisoformat("2026-06-01T15:00+02:00")),
        )
    )
    assert not on(away, datetime(2026, 6, 1, 12, 59, tzinfo=UTC))
    assert on(away, datetime(2026, 6, 1, 13, 0, tzinfo=UTC))


def test_being_away_says_more_than_being_outside_working_hours() -> None:
    away = rep(hours={"mon": "09:00-10:00"}, absences=[{"from": "2026-06-01", "to": "2026-06-02"}])
    assert duty(away, OWNER, MONDAY_NOON) == Verdict(Code.AWAY, until="2026-06-02")


# Who comes on duty soon


def comes(someone: Rep, moment: datetime, minutes: int, owner: Owner | None = OWNER) -> bool:
    return comes_on_duty(someone, owner, moment.astimezone(UTC), timedelta(minutes=minutes))


def test_a_shift_that_begins_within_brings_a_rep_and_one_that_begins_later_does_not() -> None:
    office = rep(hours={"mon-fri": "09:00-18:00"})
    assert comes(office, at("2026-06-01T08:30"), 30)
    assert not comes(office, at("2026-06-01T08:30"), 29)
    assert comes(office, at("2026-06-01T05:00"), 240)
    assert not comes(office, at("2026-06-01T18:00"), 240)
    assert not comes(office, at("2026-06-05T18:00"), 240)  # Friday


def test_a_shift_counts_even_if_it_ends_within_as_well() -> None:
    short = rep(hours={"mon": "09:00-09:15"})
    assert comes(short, at("2026-06-01T08:00"), 240)
    assert not comes(short, at("2026-06-01T09:15"), 240)


def test_after_lunch_a_rep_comes_again() -> None:
    office = rep(hours={"mon": ["09:00-12:00", "13:00-15:00"]})
    assert comes(office, at("2026-06-01T12:00"), 60)
    assert not comes(office, at("2026-06-01T12:00"), 59)


def test_an_absence_that_ends_within_brings_a_rep_if_they_are_at_work_then() -> None:
    dentist = {"from": "2026-06-01T14:00", "to": "2026-06-01T15:30"}
    assert comes(rep(absences=[dentist]), at("2026-06-01T15:00"), 30)
    assert not comes(rep(absences=[dentist]), at("2026-06-01T15:00"), 29)
    office = rep(absences=[dentist], hours={"mon": "09:00-15:30"})
    assert not comes(office, at("2026-06-01T15:00"), 240)


def test_an_absence_of_whole_days_ends_at_midnight_by_the_reps_own_clock() -> None:
    away = rep(NEW_YORK, absences=[{"from": "2026-12-24", "to": "2026-12-31"}])
    assert comes(away, at("2026-12-31T23:30", NEW_YORK), 30)
    assert not comes(away, at("2026-12-31T23:30", NEW_YORK), 29)
    assert not comes(away, at("2026-12-30T23:30", NEW_YORK), 240)


def test_an_absence_with_an_offset_ends_when_it_says() -> None:
    away = Rep(
        absences=(
            Moments(datetime.fromisoformat("2026-06-01T14:00+02:00"), datetime.fromisoformat("2026-06-01T15:00+02:00")),
        )
    )
    assert comes(away, datetime(2026, 6, 1, 12, 30, tzinfo=UTC), 30)
    assert not comes(away, datetime(2026, 6, 1, 12, 30, tzinfo=UTC), 29)


def test_a_shift_that_begins_in_an_absence_brings_nobody() -> None:
    away = rep(hours={"mon-fri": "09:00-18:00"}, absences=[{"from": "2026-06-01", "to": "2026-06-01"}])
    assert not comes(away, at("2026-06-01T08:30"), 240)
    assert comes(away, at("2026-06-02T08:30"), 30)


def test_a_night_shift_may_begin_before_midnight_or_after_it() -> None:
    nights = rep(hours={"fri": "22:00-06:00"})
    assert comes(nights, at("2026-06-05T21:00"), 60)
    assert not comes(nights, at("2026-06-05T21:00"), 59)
    assert not comes(nights, at("2026-06-06T21:00"), 240)  # Saturday
    early = rep(hours={"sat": "00:30-06:00"})
    assert comes(early, at("2026-06-05T23:00"), 90)
    assert not comes(early, at("2026-06-05T23:00"), 89)


def test_who_comes_back_from_an_absence_into_a_night_shift_that_began_yesterday_comes() -> None:
    nights = rep(hours={"fri": "22:00-06:00"}, absences=[{"from": "2026-06-05", "to": "2026-06-05"}])
    assert comes(nights, at("2026-06-05T23:00"), 60)
    assert not comes(nights, at("2026-06-05T23:00"), 59)


def test_a_shift_after_a_change_of_the_clocks_begins_by_the_clock_of_its_own_day() -> None:
    early = rep(hours={"sun": "04:00-10:00"})
    assert comes(early, at("2026-03-29T01:30"), 90)  # the hour from 02:00 is skipped
    assert not comes(early, at("2026-03-29T01:30"), 89)
    assert comes(early, at("2026-10-25T01:30"), 210)  # the hour from 02:00 is there twice
    assert not comes(early, at("2026-10-25T01:30"), 209)


def test_a_shift_that_begins_in_the_skipped_hour_is_awaited_until_the_clock_jumps() -> None:
    early = rep(hours={"sun": "02:30-10:00"})
    assert comes(early, at("2026-03-29T01:30"), 30)
    assert not comes(early, at("2026-03-29T01:30"), 29)


def test_a_shift_that_begins_in_the_doubled_hour_is_awaited_until_it_comes_first() -> None:
    early = rep(hours={"sun": "02:30-10:00"})
    assert comes(early, at("2026-10-25T01:30"), 60)
    assert not comes(early, at("2026-10-25T01:30"), 59)


@pytest.mark.parametrize("minutes", [1, 240])
def test_who_is_on_duty_and_stays_so_is_on_duty_at_some_moment_within(minutes: int) -> None:
    assert comes(Rep(), MONDAY_NOON, minutes)
    assert comes(rep(hours={"mon": "09:00-18:00"}), at("2026-06-01T10:00"), minutes)


def test_who_goes_off_duty_within_does_not_come_on_duty() -> None:
    assert not comes(rep(hours={"mon": "09:00-18:00"}), at("2026-06-01T17:30"), 60)


def test_nobody_comes_within_no_time() -> None:
    assert not comes(rep(hours={"mon": "09:00-18:00"}), at("2026-06-01T09:00"), 0)
    assert not comes(Rep(), MONDAY_NOON, 0)


@pytest.mark.parametrize("owner", [None, replace(OWNER, archived=True), replace(OWNER, unavailable=True)])
def test_nobody_is_awaited_whom_hubspot_does_not_take(owner: Owner | None) -> None:
    assert not comes(rep(hours={"mon-fri": "09:00-18:00"}), at("2026-06-01T08:30"), 240, owner)
    assert not comes(Rep(), MONDAY_NOON, 240, owner)


def clock(minutes: int) -> str:
    return f"{minutes // 60:02}:{minutes % 60:02}"


@given(
    zone=st.sampled_from([PARIS, NEW_YORK, "Australia/Lord_Howe", "America/Santiago", "Asia/Kolkata"]),
    day=st.sampled_from([f"2026-{day}" for day in ("03-08", "03-29", "04-05", "06-01", "09-06", "10-04", "10-25")]),
    begins=st.integers(0, 71),
    lasts=st.integers(3, 36),
    back_at=st.none() | st.integers(0, 71),
    looked_at=st.integers(-6, 71),
    within=st.integers(1, 12),
)
# Most of the shift is in the hour that the clock skips.
@example(zone="America/Santiago", day="2026-09-06", begins=1, lasts=3, back_at=None, looked_at=-1, within=2)
@example(zone=PARIS, day="2026-03-29", begins=7, lasts=3, back_at=None, looked_at=5, within=3)
def test_whoever_is_off_duty_comes_if_and_only_if_some_moment_within_finds_them_on_duty(
    zone: str, day: str, begins: int, lasts: int, back_at: int | None, looked_at: int, within: int
) -> None:
    start, end = begins * 20, (begins + lasts) * 20 % 1440
    back = None if back_at is None else {"from": f"{day}T00:00", "to": f"{day}T{clock(back_at * 20 + 10)}"}
    someone = rep(zone, hours={"mon-sun": f"{clock(start)}-{clock(end)}"}, absences=[] if back is None else [back])
    now = at(f"{day}T00:00", zone).astimezone(UTC) + timedelta(minutes=20 * looked_at)
    if not on(someone, now):
        moments = (now + timedelta(minutes=5 * step) for step in range(1, 4 * within + 1))
        assert comes(someone, now, 20 * within) is any(on(someone, moment) for moment in moments)


# Whom HubSpot has

BRUNO = Owner("6", "bruno@example.com", archived=False)


def known(*owners: Owner) -> dict[str, Owner]:
    return {owner.id: owner for owner in owners}


def test_an_owner_who_is_missing_once_stays_and_one_who_is_missing_twice_has_left() -> None:
    once = refreshed(known(OWNER, BRUNO), [BRUNO], {"5", "6"})
    assert once == [BRUNO, replace(OWNER, missed=True)]
    assert duty(Rep(), once[1], MONDAY_NOON).on_duty
    assert refreshed(known(*once), [BRUNO], {"5", "6"}) == [BRUNO]


def test_an_owner_who_is_back_is_as_before() -> None:
    missed = replace(OWNER, missed=True)
    assert refreshed(known(missed), [OWNER], {"5"}) == [OWNER]
    assert refreshed(known(OWNER), [], {"5"}) == [missed]  # and is missing once again, not twice


def test_an_owner_is_as_the_new_list_has_him() -> None:
    archived = replace(OWNER, archived=True)
    assert refreshed(known(OWNER), [archived], {"5"}) == [archived]
    assert refreshed(known(replace(OWNER, unavailable=True)), [OWNER], {"5"}) == [OWNER]


def test_an_owner_who_was_refused_and_is_missing_stays_refused() -> None:
    refused = replace(OWNER, unavailable=True)
    assert refreshed(known(refused), [], {"5"}) == [replace(refused, missed=True)]


def test_only_owners_who_are_named_are_kept() -> None:
    stranger = Owner("9", "eve@example.com", archived=False)
    assert refreshed(known(OWNER), [OWNER, BRUNO, stranger], {"5", "6"}) == [OWNER, BRUNO]
    assert refreshed(known(OWNER), [OWNER], ()) == []
    assert refreshed(known(OWNER), [], ()) == []
    assert refreshed({}, [], {"5"}) == []


def test_an_empty_list_takes_nobody_away_at_once() -> None:
    assert {owner.id for owner in refreshed(known(OWNER, BRUNO), [], {"5", "6"})} == {"5", "6"}
