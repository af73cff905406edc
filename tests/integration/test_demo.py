"""The demo's day in the sandbox: its books, and what the dashboard of the template shows of it."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from docs.dashboard import draw, lines
from fairturn.telemetry import NAMESPACE
from fairturn_console.policy.file import check
from fairturn_console.template import PATH
from fairturn_console.terminal import POLICY
from fairturn_sandbox.checks import checks
from fairturn_sandbox.commands import again
from fairturn_sandbox.demo import day
from fairturn_sandbox.report import Report
from tests.unit.test_monitoring import BY_ROTA, IN_ALL

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fairturn_sandbox.books import Books
    from fairturn_sandbox.sandbox import Sandbox

LAST_LINE: Final = re.compile(
    r"(\d+) leads: (\d+) assigned, (\d+) waiting, (\d+) dead-lettered, (\d+) dropped; largest gap \d+\.\d\d turns"
)


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Books, Sandbox]]:
    """A day's books, and the sandbox a minute after its end, when the last metrics have come."""
    policy = check(PATH.parent / POLICY).policy
    with day(7, 20, policy, tmp_path_factory.mktemp("day") / "log", lambda _: None) as (books, sandbox):
        assert [check.what for check in checks(books) if not check.held] == []
        sandbox.travel(sandbox.now + timedelta(minutes=1))
        sandbox.tick()
        yield books, sandbox


def test_the_day_ends_in_one_line_that_adds_up(ended: tuple[Books, Sandbox]) -> None:
    books, _ = ended
    said = LAST_LINE.fullmatch(Report(books).last_line())
    assert said is not None
    leads, *fates = map(int, said.groups())
    assert leads == sum(fates) == 25
    assert fates[2] == 1


@pytest.mark.parametrize(
    ("leads", "policy", "typed"),
    [
        (300, "policy.yaml", "make demo SEED=7"),
        (20, "policy.yaml", "make demo SEED=7 LEADS=20"),
        (300, "our teams/b.yaml", "make demo SEED=7 POLICY='our teams/b.yaml'"),
    ],
)
def test_what_repeats_a_day_names_whatever_is_not_the_default(leads: int, policy: str, typed: str) -> None:
    assert again(7, leads, Path(policy)) == typed


def test_no_widget_is_without_data_in_the_demo_and_the_picture_can_be_drawn(
    ended: tuple[Books, Sandbox], tmp_path: Path
) -> None:
    books, sandbox = ended
    asked = {
        widget["properties"]["title"]: lines(widget["properties"], sandbox.metrics, books.day.begins, sandbox.now)
        for widget in sandbox.dashboard["widgets"]
        if widget["type"] == "metric"
    }
    assert [title for title, shown in asked.items() if not any(line.points for line in shown)] == []
    emitted = {series for series in sandbox.metrics.series() if series.namespace == NAMESPACE}
    for series in emitted:
        names = {name for name, _ in series.dimensions}
        assert series.name in (IN_ALL if names == {"stack"} else BY_ROTA)
        assert dict(series.dimensions)["stack"] == "fairturn"
    draw(tmp_path / "picture.svg", sandbox.dashboard, sandbox.metrics, sandbox.alarms, books.day.begins, sandbox.now)
    picture = (tmp_path / "picture.svg").read_text()
    assert all(title in picture for title in asked)
    assert all(name.removesuffix("Alarm") in picture for name in sandbox.alarms)


def test_the_books_and_the_metrics_tell_the_same(ended: tuple[Books, Sandbox]) -> None:
    books, sandbox = ended
    end = sandbox.now.timestamp()
    assigned = sum(
        sandbox.metrics.statistic(series, "Sum", 0, end + 60) or 0
        for series in sandbox.metrics.series()
        if series.name == "LeadsAssigned"
    )
    gap = max(
        sandbox.metrics.statistic(series, "Maximum", end, end + 60) or 0
        for series in sandbox.metrics.series()
        if series.name == "LargestGap"
    )
    assert (assigned, gap) == (books.assigned, books.gap)
