"""What is a fact of the trade, and what is a mistake of ours."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from fairturn import errors
from fairturn.edges import refusals
from fairturn.errors import (
    ContactUnseen,
    Contended,
    FairturnError,
    HubSpotUnavailable,
    MessageRejected,
    Mistake,
    Refused,
    Unavailable,
    attempt,
)
from fairturn.rules.policy import Rep
from fairturn.rules.record import new
from fairturn.rules.roster import Owner, duty

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

SECRET = "ada@example.com"


def fails(error: BaseException) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


def test_what_goes_well_comes_back_as_it_is() -> None:
    assert attempt(lambda: 7) == 7
    assert attempt(lambda: None) is None


@pytest.mark.parametrize("error", [Unavailable("down"), ContactUnseen("not shown"), Contended("moving", retry_after=3)])
def test_what_may_work_later_passes(error: Unavailable) -> None:
    with pytest.raises(Unavailable) as passed:
        attempt(fails(error))
    assert passed.value is error


@pytest.mark.parametrize(
    "error", [ValueError(SECRET), KeyError(SECRET), MessageRejected(SECRET), RecursionError(SECRET)]
)
def test_any_other_exception_becomes_a_mistake_that_names_its_type_and_never_its_text(error: Exception) -> None:
    mistake = attempt(fails(error))
    assert isinstance(mistake, Mistake)
    assert mistake.what.startswith(f"{type(error).__name__} in ")
    assert SECRET not in mistake.what


@pytest.mark.parametrize("end", [KeyboardInterrupt(), SystemExit(1)])
def test_who_wants_to_end_the_process_is_not_held_up(end: BaseException) -> None:
    with pytest.raises(type(end)):
        attempt(fails(end))


def test_a_mistake_names_the_place_in_our_code_where_it_happened() -> None:
    mistake = attempt(lambda: new("1").booking)
    assert isinstance(mistake, Mistake)
    assert re.fullmatch(r"ValueError in record\.py, line \d+", mistake.what)


def test_a_mistake_that_shows_in_a_library_is_named_by_who_called_it() -> None:
    nowhere = Rep(zone="Mars/Ada")
    mistake = attempt(lambda: duty(nowhere, Owner("5", SECRET, archived=False), datetime.now(UTC)))
    assert isinstance(mistake, Mistake)
    assert re.fullmatch(r"ZoneInfoNotFoundError in roster\.py, line \d+", mistake.what)


def test_an_exception_that_was_never_raised_has_no_place() -> None:
    assert Mistake.of(ValueError(SECRET)) == Mistake("ValueError")


@pytest.mark.parametrize(("module", "root"), [(errors, FairturnError), (refusals, Refused)])
def test_every_exception_of_ours_is_in_the_list_of_them(module: ModuleType, root: type[FairturnError]) -> None:
    listed = set(re.findall(r"──\s(\w+)", module.__doc__ or ""))
    ours = {name for name, each in vars(module).items() if isinstance(each, type) and issubclass(each, root)}
    assert listed == ours - {root.__name__}


def test_who_says_how_long_to_wait_is_heard() -> None:
    assert HubSpotUnavailable("busy", retry_after=7).retry_after == 7
    assert HubSpotUnavailable("down").retry_after == 0
