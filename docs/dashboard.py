"""Draws docs/dashboard.svg: the dashboard of template.yaml, with the metrics of the demo's day.

What it shows is read from the template, as CloudWatch would: where each widget stands, and which metrics it asks for.
`make plots` runs this; it is never deployed.
"""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fairturn_sandbox.cloudwatch import Series

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from matplotlib.axes import Axes

    from fairturn_sandbox.cloudwatch import Alarm, CloudWatch

PICTURE: Final = Path(__file__).with_name("dashboard.svg")
SEED: Final = 7
LEADS: Final = 300
COLUMNS: Final = 24
"""The width of a dashboard, in CloudWatch's own units."""
SEARCH: Final = re.compile(r"SEARCH\('\{(?P<schema>[^}]+)\} (?P<terms>.+)', '(?P<stat>\w+)', (?P<period>\d+)\)")
TERM: Final = re.compile(r'(\w+)="([^"]*)"')
COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#AA4499", "#E69F00", "#56B4E9", "#666666", "#882255")
"""Those that colour-blind readers can tell apart."""
MARKDOWN: Final = str.maketrans("", "", "*`")
FEW: Final = 4
"""Points that would be lost without a mark."""
TILES: Final = 7
"""Alarms in a row."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a widget: a value for each period in which there is one, at its begin."""

    label: str
    points: Sequence[tuple[datetime, float]]


def lines(properties: Mapping[str, Any], metrics: CloudWatch, start: datetime, end: datetime) -> Iterator[Line]:
    """The lines of a metric widget between two moments, those without any value too.

    Raises ValueError for an expression that is no plain SEARCH.
    """
    for entry in properties["metrics"]:
        *names, options = entry if isinstance(entry[-1], dict) else (*entry, {})
        stat, period = options.get("stat", properties.get("stat", "Average")), properties["period"]
        if names:
            namespace, name, *dimensions = names
            asked = Series.of(namespace, name, **dict(zip(dimensions[::2], dimensions[1::2], strict=True)))
            found = [(options.get("label", name), asked)]
        else:
            search = SEARCH.fullmatch(options["expression"])
            if search is None:
                raise ValueError(f"no plain SEARCH: {options['expression']}")
            stat, period = search["stat"], int(search["period"])
            found = list(_found(search["schema"], dict(TERM.findall(search["terms"])), stat, metrics))
        for label, series in found:
            yield Line(label, list(_points(metrics, series, stat, start, end, timedelta(seconds=period))))


def _found(schema: str, terms: dict[str, str], stat: str, metrics: CloudWatch) -> Iterator[tuple[str, Series]]:
    """The metrics with exactly these dimensions that have the values which are asked for."""
    namespace, *names = schema.split(",")
    name = terms.pop("MetricName")
    for series in sorted(metrics.series(), key=lambda each: sorted(each.dimensions)):
        has = dict(series.dimensions)
        if (series.namespace, series.name) != (namespace, name) or has.keys() != set(names):
            continue
        if terms.items() <= has.items():
            own = [value for dimension, value in has.items() if dimension not in terms]
            yield f"{' '.join(own)} {stat if stat.startswith('p') else ''}".strip(), series


def _points(
    metrics: CloudWatch, series: Series, stat: str, start: datetime, end: datetime, period: timedelta
) -> Iterator[tuple[datetime, float]]:
    for number in range((end - start) // period):
        at = start + number * period
        value = metrics.statistic(series, stat, at.timestamp(), (at + period).timestamp())
        if value is not None:
            yield at, value


def draw(
    path: Path,
    dashboard: Mapping[str, Any],
    metrics: CloudWatch,
    alarms: Mapping[str, Alarm],
    start: datetime,
    end: datetime,
) -> None:
    """Write the picture as SVG: the same bytes at each run with the same version of matplotlib."""
    import matplotlib as mpl  # Only drawing needs it: the lines can be tested without.
    from matplotlib.figure import Figure

    widgets = dashboard["widgets"]
    rows = max(widget["y"] + widget["height"] for widget in widgets)
    looks: Any = {
        "svg.hashsalt": "dashboard",
        "svg.fonttype": "none",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "font.size": 8,
    }
    with mpl.rc_context(looks):
        figure = Figure(figsize=(15, rows * 0.42))
        for widget in widgets:
            width, height = widget["width"] / COLUMNS, widget["height"] / rows
            left, top = widget["x"] / COLUMNS, 1 - widget["y"] / rows
            inner = (left + 0.025, top - height + 0.024, width - 0.035, height - 0.044)
            outer = (left + 0.005, top - height + 0.003, width - 0.01, height - 0.006)
            axes = figure.add_axes(inner if widget["type"] == "metric" else outer)
            match widget["type"]:
                case "metric":
                    _draw_metric(axes, widget["properties"], list(lines(widget["properties"], metrics, start, end)))
                    axes.set_xlim(start, end)  # type: ignore[arg-type] # matplotlib takes times, too
                case "text":
                    _draw_text(axes, widget["properties"]["markdown"])
                case "alarm":
                    shown = [arn.rpartition(":")[2] for arn in widget["properties"]["alarms"]]
                    ringing = {name: alarms[name].rings(metrics, end) for name in shown}
                    _draw_alarms(axes, widget["properties"]["title"], ringing)
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})


def _draw_metric(axes: Axes, properties: Mapping[str, Any], shown: Sequence[Line]) -> None:
    from matplotlib.dates import DateFormatter

    axes.set_title(properties["title"], loc="left", fontsize=9, fontweight="bold")
    base: dict[datetime, float] = {}
    for place, line in enumerate(each for each in shown if each.points):
        colour = COLOURS[place % len(COLOURS)]
        if properties.get("stacked"):
            at, values = zip(*line.points, strict=True)
            below = [base.get(moment, 0) for moment in at]
            axes.bar(at, values, width=5 / 1440, bottom=below, color=colour, label=line.label, align="edge")
            base |= {moment: value + under for moment, value, under in zip(at, values, below, strict=True)}
        else:
            marker = "o" if len(line.points) < FEW else None  # a single point has no line
            axes.plot(*zip(*line.points, strict=True), color=colour, label=line.label, linewidth=1.2, marker=marker)
    axes.set_ylim(0, max(1.0, axes.get_ylim()[1]))
    axes.xaxis.set_major_formatter(DateFormatter("%H:%M"))  # type: ignore[no-untyped-call] # matplotlib types it not
    axes.legend(loc="upper left", fontsize=7, frameon=False, ncols=2)


def _draw_text(axes: Axes, markdown: str) -> None:
    axes.set_axis_off()
    text = "\n".join(textwrap.wrap(markdown.translate(MARKDOWN), 205))
    axes.text(0, 0.5, text, va="center", fontsize=9, color="#222222")


def _draw_alarms(axes: Axes, title: str, ringing: Mapping[str, bool]) -> None:
    axes.set_axis_off()
    rows = -(-len(ringing) // TILES)
    axes.set(xlim=(0, TILES), ylim=(rows, -0.7))
    axes.text(0, -0.3, title, fontsize=9, fontweight="bold", va="center")
    for place, (name, rings) in enumerate(ringing.items()):
        row, column = divmod(place, TILES)
        colour, state = ("#D55E00", "in alarm") if rings else ("#DDEEDD", "OK")
        axes.barh(row + 0.5, 0.96, left=column, height=0.8, color=colour)
        text = f"{name.removesuffix('Alarm')}: {state}"
        axes.text(column + 0.03, row + 0.5, text, va="center", color="white" if rings else "#225522", fontsize=8)


def main() -> None:
    """Let the demo's day happen and draw what its dashboard shows."""
    from fairturn_console.policy.file import check
    from fairturn_console.terminal import POLICY
    from fairturn_sandbox.demo import day

    root = Path(__file__).parents[1]
    log = root / ".sandbox" / "dashboard.log"
    log.parent.mkdir(exist_ok=True)
    with day(SEED, LEADS, check(root / POLICY).policy, log, lambda _: None) as (books, sandbox):
        end = sandbox.now.replace(second=0, microsecond=0)
        draw(PICTURE, sandbox.dashboard, sandbox.metrics, sandbox.alarms, books.day.begins, end)


if __name__ == "__main__":
    main()
