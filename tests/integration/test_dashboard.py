"""The dashboard of the template, with a day in the sandbox behind it."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from docs.dashboard import draw, lines
from fairturn.telemetry import NAMESPACE
from fairturn_console.policy.file import check
from fairturn_console.template import PATH
from fairturn_console.terminal import POLICY
from fairturn_sandbox.demo import day
from fairturn_sandbox.story import START
from tests.unit.test_monitoring import BY_ROTA, IN_ALL

if TYPE_CHECKING:
    from pathlib import Path


def test_no_widget_is_without_data_in_the_demo_and_the_picture_can_be_drawn(tmp_path: Path) -> None:
    policy = check(PATH.parent / POLICY).policy
    with day(7, 20, policy, tmp_path / "log", lambda _: None) as (report, sandbox):
        assert all(each.held for each in report.checks())
        asked = {
            widget["properties"]["title"]: lines(widget["properties"], sandbox.metrics, START, sandbox.now)
            for widget in sandbox.dashboard["widgets"]
            if widget["type"] == "metric"
        }
        assert [title for title, shown in asked.items() if not any(line.points for line in shown)] == []
        emitted = {series for series in sandbox.metrics.series() if series.namespace == NAMESPACE}
        for series in emitted:
            names = {name for name, _ in series.dimensions}
            assert series.name in (IN_ALL if names == {"stack"} else BY_ROTA)
            assert dict(series.dimensions)["stack"] == "fairturn"
        draw(tmp_path / "picture.svg", sandbox.dashboard, sandbox.metrics, sandbox.alarms, START, sandbox.now)
        picture = (tmp_path / "picture.svg").read_text()
        assert all(title in picture for title in asked)
        assert all(name.removesuffix("Alarm") in picture for name in sandbox.alarms)


def test_the_books_and_the_metrics_tell_the_same(tmp_path: Path) -> None:
    policy = check(PATH.parent / POLICY).policy
    with day(3, 20, policy, tmp_path / "log", lambda _: None) as (report, sandbox):
        sandbox.travel(sandbox.now + timedelta(minutes=1))
        sandbox.tick()
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
        assert (assigned, gap) == (report.assigned, report.gap)
