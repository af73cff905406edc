"""Runs every benchmark and writes docs/benchmarks.md and its picture. `make bench`: some eight minutes on two cores."""

from __future__ import annotations

import argparse
import os
import platform
import sys
import textwrap
import time
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Final, TypeVar

import boto3

from bench import burst, cold_start, contention, growth, imported, lone_lead, webhook
from bench.stack import LIMIT, REPS, ROOT, dynamodb
from bench.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from matplotlib.axes import Axes

    from bench.burst import Audit, Burst
    from bench.cold_start import Starts
    from bench.contention import Contention
    from bench.growth import Step
    from bench.imported import Import
    from bench.lone_lead import Way
    from bench.webhook import Answers

PAGE: Final = ROOT / "docs/benchmarks.md"
PICTURE: Final = ROOT / "docs/benchmarks.svg"
STARTS: Final = 5
"""Cold starts of each function."""
WEBHOOKS: Final = 300
BURST: Final = 1_000
"""Leads."""
MINUTE: Final = 60.0
WIDTH: Final = 120
"""Characters of a line of the page."""
COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#AA4499")
"""That colour-blind readers can tell apart."""
MARKS: Final = ("o", "s", "^", "D")

# Goals
LONE: Final = 0.4
FORM: Final = 2.0
FALL: Final = 0.8
INTAKE: Final = 1.3
OTHERS: Final = 1.5
LAYER: Final = 6.0
P99: Final = 0.5

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Findings:
    """All that was measured."""

    lone: Mapping[float, Sequence[Way]]
    bursts: Sequence[Burst]
    audits: Sequence[Audit]
    imported: Import
    contention: Contention
    growth: Sequence[Step]
    starts: Mapping[str, Starts]
    """Empty if nothing is built."""
    layer: float | None
    """MB, zipped; None if nothing is built."""
    webhooks: Sequence[Answers]


@dataclass(frozen=True, slots=True)
class Machine:
    """Where it was measured, and when."""

    day: date
    processors: int
    kind: str
    load: float
    """Processes that wanted a processor in the minute before."""
    dynamodb: str
    """The version of the package that brings DynamoDB Local."""


def machine() -> Machine:
    """This one, now."""
    names = Path("/proc/cpuinfo")
    lines = names.read_text(encoding="utf-8").splitlines() if names.exists() else []
    kind = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    told = f"{kind}, {platform.machine()}" if kind else platform.machine()
    dynamodb = max(path.name for path in (ROOT / ".dynamodb-local").iterdir() if path.is_dir())
    return Machine(datetime.now(UTC).date(), os.cpu_count() or 1, told, os.getloadavg()[0], dynamodb)


def measure(contacts: int) -> Findings:
    """Run everything, one after the other."""
    lone = _timed("a lone lead", lambda: lone_lead.measure(lone_lead.LEADS))
    with dynamodb() as url:
        bursts = _timed("a burst", lambda: burst.measure(url, BURST, MINUTE))
        audits = _timed("what breaks", lambda: burst.count_faults(url))
        found = _timed("an import", lambda: imported.measure(url, contacts))
    workers = _timed("workers", lambda: contention.measure(contention.RUNS, contention.SECONDS))
    steps = _timed("growth", lambda: growth.measure(max(growth.HISTORY)))
    starts = _timed("cold starts", _starts)
    answers = _timed("webhooks", lambda: webhook.measure(WEBHOOKS))
    layer = cold_start.zipped(cold_start.BUILT / "CoreLayer") / 1e6 if starts else None
    return Findings(lone, bursts, audits, found, workers, steps, starts, layer, answers)


def _starts() -> Mapping[str, Starts]:
    try:
        return cold_start.measure(cold_start.BUILT, STARTS)
    except cold_start.NothingBuilt:
        return {}


def _timed(what: str, act: Callable[[], T]) -> T:
    begun = time.monotonic()
    found = act()
    print(f"{what}: {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
    return found


def goals(found: Findings) -> Table:
    """What was aimed at, and what it is."""
    half = median(way.seconds for way in found.lone[max(found.lone)])
    workers = max(contention.WORKERS)
    fall = {batch: found.contention.ratio(batch, workers) for batch in contention.BATCHES}
    ahead = {batch: found.contention.ahead(batch) for batch in contention.BATCHES}
    rows = [
        _goal("a lone lead's p50, HubSpot at 150 ms", f"≤ {LONE} s", f"{half:.2f} s", is_met=half <= LONE),
        _goal(
            f"a form lead during an import of {found.imported.contacts:,}, × quiet",
            f"≤ {FORM:.0f}",
            f"{found.imported.ratio:.2f}",
            is_met=found.imported.ratio <= FORM,
        ),
        _goal(
            "calls to HubSpot in any 10 s",
            f"≤ {LIMIT}",
            str(found.imported.most_calls),
            is_met=found.imported.most_calls <= LIMIT,
        ),
        _goal(f"{workers} workers, × 2 workers", f"≥ {FALL}", _each(fall), is_met=min(fall.values()) >= FALL),
        _goal("the same beside the naive design in our batches", "≥ 1", _each(ahead), is_met=min(ahead.values()) >= 1),
    ]
    for name, limit in (("intake", INTAKE), ("assign", OTHERS)):
        if name in found.starts:
            ratio = found.starts[name].ratio("init", found.starts["floor"])
            rows.append(_goal(f"cold start of {name}, × floor", f"≤ {limit}", f"{ratio:.2f}", is_met=ratio <= limit))
    if found.layer is not None:
        is_met = found.layer < LAYER
        rows.append(_goal("the layer, zipped", f"< {LAYER:.0f} MB", f"{found.layer:.2f} MB", is_met=is_met))
    slow = found.webhooks[-1].p99
    rows.append(
        _goal("p99 of a webhook of 100 events, 10 in flight", f"≤ {P99} s", f"{slow:.2f} s", is_met=slow <= P99)
    )
    return Table(("", "goal", "measured", ""), rows)


def _goal(what: str, goal: str, measured: str, *, is_met: bool) -> tuple[str, str, str, str]:
    return what, goal, measured, "" if is_met else "missed"


def _each(ratios: Mapping[int, float]) -> str:
    return ", ".join(f"{ratio:.2f} by {batch}" for batch, ratio in ratios.items())


def write(found: Findings, where: Machine, seconds: float) -> str:
    """The page."""
    speed, faults = burst.tables(found.bursts, found.audits)
    alone, beside = contention.tables(found.contention)
    noisy = " Others were at work on this machine, so seconds are longer than they need be." if where.load > 1 else ""
    parts = [
        "# Benchmarks",
        f"""\
`make bench` writes this page. It was written on {where.day.isoformat()}, on {where.processors} processors
({where.kind}), with Python {platform.python_version()}, boto3 {boto3.__version__} and DynamoDB Local as
amplify-dynamodb-simulator {where.dynamodb} brings it. That took {seconds / MINUTE:.0f} minutes; in the minute before,
{where.load:.1f} processes were busy.{noisy}

No AWS account is used: DynamoDB Local or moto stands in for the table, the sandbox's portal for HubSpot. All of it
shares one machine. So seconds are this machine's, and whatever is noisy is told as a ratio within one run, of medians
that took turns, or as a count. `make test` and `make smoke` fail if a count grows, and never because of a time.""",
        "## Goals",
        str(goals(found)),
        "![How fast a burst gets its owners, workers on one rota, and growth](benchmarks.svg)",
        "## A lone lead",
        f"""\
From HubSpot's webhook until HubSpot has the owner; {lone_lead.LEADS} leads, each by itself. Two calls can't be avoided:
to read the lead, and to write its owner. What AWS takes to hand a message on is left out. The counts include all that
follows the assignment.""",
        str(lone_lead.table(found.lone)),
        "## A burst",
        f"""\
{BURST:,} leads at once, in webhooks of a hundred events. HubSpot answers after {burst.LATENCY * 1000:.0f} ms and takes
{LIMIT} calls in any ten seconds; more are refused. The naive design ([bench/naive.py](../bench/naive.py)) is what a
first version looks like: one function call for each lead, which reads, chooses and writes without a condition. It is
ended after {MINUTE:.0f} s. With two calls for each lead, that limit alone lets it do {LIMIT / 20:.1f} leads in a
second.""",
        str(speed),
        "## What the naive design breaks",
        f"""\
{burst.FEW} leads at once, HubSpot refuses nothing. Once the reps have room for {burst.ROOM * len(REPS)} of them
only, and once {burst.TWICE:.0%} of the messages come twice at the same moment, as SQS says that they may.""",
        str(faults),
        "## An import, and a form lead meanwhile",
        f"""\
{found.imported.contacts:,} contacts are imported, {imported.AT_ONCE / imported.EVERY:.0f} in a second, and a rule makes
each of them a lead (`make bench CONTACTS=50000` takes more of them). HubSpot answers after
{imported.LATENCY * 1000:.0f} ms and refuses nothing. The functions share {where.processors} processors here, on Lambda
each has its own.""",
        str(imported.table(found.imported)),
        imported.say(found.imported)
        + """ \
What holds that down is how many functions run at once: two with leads, two with bulk leads and two with changes, as
template.yaml says. The policy of this import has lifted the flood brake, which else holds back all but 500 in ten
minutes.""",
        "## Workers on one rota",
        f"""\
Each worker is a process that claims one batch after the other, as fast as it can. Medians of {contention.RUNS} turns
of {found.contention.seconds:g} s, the ratios within each turn; refusals and conflicts for each 100 leads; *contended*
are leads whose claim was given up, which the queue would bring again.""",
        str(alone),
        f"""\
{max(contention.WORKERS)} workers while HubSpot takes {contention.HUBSPOT * 1000:.0f} ms for each of the two calls of a
batch, beside the naive design: in our batches, and with one lead at a time, as it is by itself. The first tells what
transactions cost on this machine, whose processors all workers and DynamoDB Local share.""",
        str(beside),
        "## Growth",
        f"""\
What a claim takes as there is more of everything. *× time* is a whole claim of one lead on DynamoDB Local for the
history (the leads in the table), the deciding of 97 leads for reps (with
{growth.USUAL_LANES} lanes) and lanes (with {growth.USUAL_REPS} reps), and the routing of one lead that no rule takes
for rules. Every ledger is full: everybody is owed something in every lane. Write units are those of the claim of one
lead, and of 97 for each of them.""",
        str(growth.table(found.growth)),
        "## Cold starts",
        f"""\
Each start is a new process behind Lambda's runtime API. The floor is a function that makes one client of boto3 and one
call. *init* ends when the function asks for its first event, *answer* when it has answered it; *processor* is the
processor time of both. Medians of {STARTS} turns, the ratios within each turn.""",
        str(cold_start.table(found.starts)) if found.starts else "Not measured: nothing was built (`make smoke`).",
        "## Webhooks",
        f"""\
A hundred events each; a call to SQS takes {webhook.SQS * 1000:.0f} ms. HubSpot waits for five seconds. Each in flight
has a process of its own, and all of them {where.processors} processors.""",
        str(webhook.table(found.webhooks)),
    ]
    return "\n\n".join(part if part.startswith(("|", "#", "!")) else _filled(part) for part in parts) + "\n"


def _filled(paragraphs: str) -> str:
    """Text in lines that are not too long."""
    lines = [textwrap.fill(each, WIDTH, break_on_hyphens=False) for each in paragraphs.split("\n\n")]
    return "\n\n".join(lines)


def draw(found: Findings, path: Path) -> None:
    """Write the picture as SVG."""
    import matplotlib as mpl  # only drawing needs it
    from matplotlib.figure import Figure

    bare: Any = {"axes.spines.top": False, "axes.spines.right": False}
    with mpl.rc_context({"svg.hashsalt": "benchmarks", "svg.fonttype": "none", **bare}):
        figure = Figure(figsize=(12, 3.6), layout="constrained")
        for axes, part in zip(figure.subplots(1, 3), (_draw_burst, _draw_workers, _draw_growth), strict=True):
            part(axes, found)
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})


def _draw_burst(axes: Axes, found: Findings) -> None:
    for each, colour in zip(found.bursts, COLOURS, strict=False):
        tenths = [len(each.owned) * n // 10 for n in range(1, 11)]
        seconds = [each.owned[number - 1] for number in tenths]
        axes.plot([0, *seconds], [0, *tenths], color=colour, label=each.design.lower())
    axes.set(xlabel="seconds", ylabel="leads with an owner")
    axes.set_title(f"A burst of {BURST:,} leads", loc="left")
    axes.legend(frameon=False)


def _draw_workers(axes: Axes, found: Findings) -> None:
    axes.axhline(FALL, color="#888888", linewidth=0.8, linestyle=(0, (2, 2)))
    for batch, colour, mark in zip(contention.BATCHES, COLOURS, MARKS, strict=False):
        ratios = [found.contention.ratio(batch, workers) for workers in contention.WORKERS]
        axes.plot(contention.WORKERS, ratios, color=colour, marker=mark, label=f"batches of {batch}")
    axes.set(xlabel="workers", ylabel="leads/s, × 2 workers", xticks=contention.WORKERS, ylim=(0, None))
    axes.set_title("Workers on one rota", loc="left")
    axes.legend(frameon=False, loc="lower right")


def _draw_growth(axes: Axes, found: Findings) -> None:
    for (what, row), colour, mark in zip(growth.ratios(found.growth).items(), COLOURS, MARKS, strict=True):
        axes.plot(*zip(*((size / row[0][0], ratio) for size, ratio in row), strict=True), color=colour, marker=mark)
        axes.annotate(what, (row[-1][0] / row[0][0], row[-1][1]), xytext=(5, 4), textcoords="offset points")
    axes.set(xlabel="× the smallest", ylabel="× time", xscale="log", yscale="log", xlim=(0.8, 4_000))
    axes.set_title("Growth", loc="left")


def main() -> None:
    """Measure, write and draw."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--contacts", type=int, default=imported.CONTACTS, help="of the import")
    options = parser.parse_args()
    where, begun = machine(), time.monotonic()
    found = measure(options.contacts)
    PAGE.write_text(write(found, where, time.monotonic() - begun), encoding="utf-8")
    draw(found, PICTURE)


if __name__ == "__main__":
    main()
