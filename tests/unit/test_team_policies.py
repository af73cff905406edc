"""The policies of docs/policies: five real teams, checked, routed and shared out as their heads say."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from fairturn.rules.events import Kind, Message
from fairturn.rules.ledger import Ledger, Offer, align, allot
from fairturn.rules.policy import OTHERWISE, Days, Policy
from fairturn.rules.roster import Owner
from fairturn.rules.routing import Ignored, Lead, Route, is_closed, route
from fairturn.rules.terms import Terms
from fairturn.steps.claim import members_of
from fairturn_console.policy.file import Checked, check

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = Path(__file__).parents[2] / "docs" / "policies"
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml"))
TODAY = date(2026, 11, 2)
MONDAY = datetime(2026, 11, 2, 10, tzinfo=UTC)
"""Ten in the morning in London, eleven in Paris, five in New York."""
LEADS = 400


def checked(name: str) -> Checked:
    return check(FOLDER / f"{name}.yaml", TODAY)


def lead(at: datetime = MONDAY, /, **properties: str) -> Lead:
    at_ms = int(at.timestamp() * 1000)
    return Lead(Message(id="1", kinds=(Kind.CREATION,), occurred_at=at_ms, change_source="FORM"), properties)


def way(policy: Policy, **properties: str) -> str:
    """Where a lead goes, in a few words: `sdrs: any, normal`, `owner partner@example.com`, or why it goes nowhere."""
    found = route(lead(**properties), policy)
    if isinstance(found, Ignored):
        return found.reason
    members = policy.rotas[found.rota].members
    if policy.team(found.rota) == "one fixed owner":
        return f"owner {members[0]}"
    return f"{policy.team(found.rota)}: {found.lane}, {found.priority}"


@dataclass
class Office:
    """A policy at work: every lead is given to somebody who is on duty, by the ledger."""

    policy: Policy
    ledgers: dict[str, Ledger] = field(default_factory=dict)
    got: Counter[str] = field(default_factory=Counter)

    def give(self, at: datetime, **properties: str) -> str | None:
        """Who gets a lead that comes now; None if it waits."""
        found = route(lead(at, **properties), self.policy)
        assert isinstance(found, Route)
        winner = self._give(found, at)
        if winner is None and found.fallback is not None and found.after == 0:
            winner = self._give(found.fallback, at)
        if winner is not None:
            self.got[winner] += 1
        return winner

    def _give(self, found: Route, at: datetime) -> str | None:
        owners = {rep: Owner(rep, rep, archived=False) for rep in self.policy.reps}
        members = members_of(found.rota, Terms(1, self.policy, owners), self.got, at)
        lanes = self.policy.lanes(found.rota)
        ledger = align(self.ledgers.get(found.rota, Ledger()), members, lanes)
        allotment = allot(ledger, [Offer(found.lane)], members, lanes)
        self.ledgers[found.rota] = allotment.ledger
        (booking,) = allotment.bookings
        return booking.winner if booking is not None else None

    def gap(self) -> float:
        """How far anybody is from their fair share of a team's leads, in turns."""
        return max(ledger.gap() for ledger in self.ledgers.values())


def office(name: str, **changes: Any) -> Office:
    """The office of a policy, without limits of open leads: nobody works on any here."""
    policy = checked(name).policy
    rotas = {key: replace(rota, capacity=None) for key, rota in policy.rotas.items()}
    reps = {key: replace(rep, capacity=None) for key, rep in policy.reps.items()}
    return Office(replace(policy, rotas=rotas, reps=reps, **changes))


def of(office: Office, *names: str) -> list[int]:
    """How many leads these reps got."""
    return [office.got[f"{name}@example.com"] for name in names]


# All of them


@pytest.mark.parametrize("name", NAMES)
def test_a_policy_has_neither_problems_nor_warnings(name: str) -> None:
    assert checked(name).warnings(MONDAY) == []


@pytest.mark.parametrize("name", NAMES)
def test_a_policy_has_at_most_forty_lines_and_three_sentences_at_its_head(name: str) -> None:
    lines = checked(name).text.splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 120
    assert [line.startswith("# ") and line.endswith(".") for line in lines[:4]] == [True, True, True, False]


@pytest.mark.parametrize("name", NAMES)
def test_a_policy_survives_being_stored(name: str) -> None:
    policy = checked(name).policy
    assert Policy.load(policy.dump()) == policy


# Where leads go

ROUTED: dict[str, list[tuple[dict[str, str], str]]] = {
    "partner": [
        ({"country": "france "}, "sdrs: any, normal"),
        ({"country": "Suisse", "email": "eva@acme.example"}, "sdrs: any, normal"),
        ({"country": "Germany"}, "owner partner@example.com"),
        ({}, "owner partner@example.com"),
        ({"country": "France", "jobtitle": "Etudiante en droit"}, "a student"),
        ({"country": "France", "email": "eva@gmail.com"}, "no address of a company"),
        ({"country": "France", "email": "eva@mail.wanadoo.fr"}, "no address of a company"),
    ],
    "sizes-and-regions": [
        ({"email": "eva@account07.example", "country": "France"}, "key accounts: any, urgent"),
        ({"email": "eva@berlin.account40.example"}, "key accounts: any, urgent"),
        ({"email": "eva@account41.example", "country": "France", "seats": "500"}, "sales: enterprise+fr, normal"),
        ({"country": "Austria", "seats": "499"}, "sales: dach+mid, normal"),
        ({"country": "Norway", "seats": "3", "score": "79.9"}, "sales: north+small, normal"),
        ({"country": "Ireland", "seats": "50", "score": "80"}, "sales: mid+uk, urgent"),
        ({"country": "Peru", "seats": "1000"}, "sales: enterprise, normal"),
        ({"country": "Monaco"}, "sales: fr, normal"),
        ({}, "sales: any, normal"),
    ],
    "demos-and-mqls": [
        (
            {"lifecyclestage": "salesqualifiedlead", "recent_conversion_event_name": "Demo request: Home page"},
            "account executives: any, urgent",
        ),
        (
            {"lifecyclestage": "marketingqualifiedlead", "recent_conversion_event_name": "Webinar"},
            "sdrs: any, normal",
        ),
        ({"lifecyclestage": "marketingqualifiedlead"}, "sdrs: any, normal"),
        (
            {"lifecyclestage": "lead", "recent_conversion_event_name": "Demo request"},
            "not a lead until lifecyclestage is marketingqualifiedlead or salesqualifiedlead",
        ),
    ],
    "six-zones": [
        ({"country": "Spain"}, "world: emea, normal"),
        ({"country": "CANADA"}, "world: americas, normal"),
        ({"country": "Japan", "recent_conversion_event_name": "Pricing page"}, "world: apac, urgent"),
        ({"country": "Peru"}, "world: any, normal"),
        ({"jobtitle": "Student", "country": "Spain"}, "a student"),
    ],
    "two-reps": [({}, "inbound: any, normal"), ({"country": "Peru"}, "inbound: any, normal")],
}


@pytest.mark.parametrize("name", NAMES)
def test_leads_go_where_the_policy_says_and_every_rule_is_met(name: str) -> None:
    policy = checked(name).policy
    assert [way(policy, **properties) for properties, _ in ROUTED[name]] == [words for _, words in ROUTED[name]]
    taking = {route(lead(**properties), policy).rule for properties, _ in ROUTED[name]}
    assert taking >= {rule.name for rule in policy.rules} | {OTHERWISE}


def test_leads_are_closed_where_the_policy_says() -> None:
    partner, demos = checked("partner").policy, checked("demos-and-mqls").policy
    assert is_closed({"hs_lead_status": "BAD_TIMING"}, partner)
    assert is_closed({"lifecyclestage": "opportunity"}, demos)
    assert not is_closed({"lifecyclestage": "salesqualifiedlead"}, demos)


# Who gets how many


def test_half_time_gets_half_and_who_is_on_leave_nothing() -> None:
    paris = office("partner")
    for _ in range(LEADS):
        paris.give(MONDAY, country="France")
    assert of(paris, "lea", "malik", "nina", "paul") == [0, 160, 160, 80]
    assert paris.gap() < 1


def test_who_is_back_from_leave_gets_their_share_and_no_more() -> None:
    paris = office("partner")
    for _ in range(LEADS):
        paris.give(MONDAY, country="France")
    before = paris.got.copy()
    for _ in range(LEADS):
        paris.give(datetime(2027, 3, 1, 10, tzinfo=UTC), country="France")
    paris.got -= before
    assert all(abs(got - 114) <= 1 for got in of(paris, "lea", "malik", "nina"))
    assert abs(of(paris, "paul")[0] - 57) <= 1


@pytest.mark.parametrize(
    "at",
    [
        datetime(2026, 11, 2, 12, tzinfo=UTC),  # lunch: 13:00 in Paris
        datetime(2026, 11, 2, 18, tzinfo=UTC),  # evening
        datetime(2026, 11, 11, 10, tzinfo=UTC),  # Armistice Day, a Wednesday
        datetime(2026, 11, 14, 10, tzinfo=UTC),  # a Saturday
    ],
)
def test_nobody_gets_a_lead_over_lunch_at_night_or_on_a_public_holiday(at: datetime) -> None:
    assert office("partner").give(at, country="France") is None


def test_the_partner_gets_all_from_elsewhere_at_any_hour() -> None:
    paris = office("partner")
    assert {paris.give(datetime(2026, 11, 14, hour, tzinfo=UTC), country="Peru") for hour in range(24)} == {
        "partner@example.com"
    }


def test_nobody_has_more_than_thirty_open_leads() -> None:
    paris = Office(checked("partner").policy)
    winners = [paris.give(MONDAY, country="France") for _ in range(LEADS)]
    assert of(paris, "malik", "nina", "paul") == [30, 30, 30]
    assert winners[90:] == [None] * (LEADS - 90)


def test_juniors_get_half_of_what_seniors_get_and_the_largest_go_to_seniors() -> None:
    sales = office("sizes-and-regions")
    countries = cycle(["Germany", "France", "Norway", "Ireland"])
    for country in islice(countries, LEADS):
        sales.give(MONDAY, country=country, seats="10")
    assert all(abs(got - 67) <= 1 for got in of(sales, "ada", "bela", "cleo", "dora"))
    assert all(abs(got - 33) <= 1 for got in of(sales, "elif", "finn", "gael", "hana"))
    large = {sales.give(MONDAY, country=country, seats="900") for country in ("Germany", "France", "Norway", "UK")}
    assert large <= {f"{name}@example.com" for name in ("ada", "bela", "cleo", "dora")}
    assert sales.gap() < 2


def test_named_accounts_are_shared_by_two() -> None:
    sales = office("sizes-and-regions")
    for number in range(1, 41):
        sales.give(MONDAY, email=f"eva@account{number:02}.example")
    assert of(sales, "iris", "jonas") == [20, 20]


def test_demo_requests_are_shared_by_account_executives_and_the_others_by_sdrs() -> None:
    at = datetime(2026, 11, 2, 15, tzinfo=UTC)  # ten in New York
    sales = office("demos-and-mqls")
    for number in range(LEADS):
        form = "Demo request" if number % 4 == 0 else "Webinar"
        sales.give(at, lifecyclestage="marketingqualifiedlead", recent_conversion_event_name=form)
    assert sorted(of(sales, "kim", "liam", "mona")) == [33, 33, 34]
    assert of(sales, "noor", "owen", "pia", "quinn") == [75] * 4


def test_on_thanksgiving_a_demo_request_waits_and_may_go_to_sdrs_from_the_next_quarter_of_an_hour() -> None:
    sales = office("demos-and-mqls")
    at = datetime(2026, 11, 26, 15, tzinfo=UTC)
    assert sales.give(at, lifecyclestage="salesqualifiedlead", recent_conversion_event_name="Demo request") is None
    found = route(lead(lifecyclestage="salesqualifiedlead", recent_conversion_event_name="a demo"), sales.policy)
    assert isinstance(found, Route)
    assert found.fallback is not None
    assert (found.fallback.rota, found.after) == ("sdrs", 15)


EMEA = ["amy", "bob", "cal", "dee", "eli", "fay", "guy", "hal", "ida", "jan", "kai", "lea", "max"]
APAC = ["wei", "xin", "yan", "zoe"]


def test_a_region_shares_its_own_leads_alike() -> None:
    world = office("six-zones")
    for _ in range(LEADS):
        world.give(MONDAY, country="Spain")
    assert all(abs(got - LEADS / len(EMEA)) < 1 for got in of(world, *EMEA))
    assert world.got.total() == LEADS


def test_if_nobody_of_the_region_is_up_an_urgent_lead_goes_to_whoever_is_and_another_waits() -> None:
    world = office("six-zones")
    for _ in range(LEADS):
        assert world.give(MONDAY, country="Japan") is None
        world.give(MONDAY, country="Japan", recent_conversion_event_name="Demo")
    assert all(abs(got - LEADS / len(EMEA)) < 1 for got in of(world, *EMEA))
    found = route(lead(country="Japan"), world.policy)
    assert isinstance(found, Route)
    assert found.fallback is not None
    assert (found.fallback.lane, found.after) == ("any", 12 * 60)


@pytest.mark.parametrize(
    ("holiday", "absent"),
    [
        (date(2026, 12, 28), EMEA[:5]),  # Boxing Day, kept on the Monday, in London
        (date(2027, 1, 6), EMEA[9:]),  # Epiphany in Munich
        (date(2027, 7, 14), EMEA[5:9]),  # in Paris
    ],
)
def test_nobody_on_a_public_holiday_gets_a_lead_and_their_neighbours_do(holiday: date, absent: list[str]) -> None:
    world = office("six-zones")
    at = datetime(holiday.year, holiday.month, holiday.day, 10, tzinfo=UTC)
    for _ in range(LEADS):
        world.give(at, country="Spain")
    present = [name for name in EMEA if name not in absent]
    assert of(world, *absent) == [0] * len(absent)
    assert all(abs(got - LEADS / len(present)) < 1 for got in of(world, *present))


def test_a_day_round_the_globe_gives_each_lead_to_somebody_at_work() -> None:
    world = office("six-zones")
    for number in range(LEADS):
        world.give(datetime(2026, 11, 3, number % 24, tzinfo=UTC), country="Peru")
    hours = [number % 24 for number in range(LEADS)]
    by_apac = [hour for hour in hours if 1 <= hour < 8]  # nobody else is up from one to eight, UTC
    assert sum(of(world, *APAC)) >= len(by_apac)
    assert world.got.total() > LEADS * 0.9
    assert world.gap() < 2


def turns(office: Office, number: int, at: datetime = MONDAY) -> Iterator[str]:
    for _ in range(number):
        winner = office.give(at)
        assert winner is not None
        yield winner.partition("@")[0]


def test_two_reps_take_turns_strictly() -> None:
    assert list(turns(office("two-reps"), LEADS)) == ["ana", "ben"] * (LEADS // 2)


def test_after_a_day_off_they_go_on_taking_turns_and_nobody_catches_up() -> None:
    both = office("two-reps")
    first = list(turns(both, 3))
    reps = both.policy.reps
    away = replace(reps["ben@example.com"], absences=(Days(TODAY, TODAY),), zone="UTC")
    both.policy = replace(both.policy, reps=reps | {"ben@example.com": away})
    assert set(turns(both, 50)) == {"ana"}
    both.policy = replace(both.policy, reps=reps)
    assert (first, list(turns(both, 4))) == (["ana", "ben", "ana"], ["ben", "ana", "ben", "ana"])
