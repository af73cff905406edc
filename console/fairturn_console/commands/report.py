"""`fairturn report`: what everybody got in some days, beside their fair share."""

from __future__ import annotations

import csv
import json
import sys
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.text import Text

from fairturn_console.terminal import (
    STACK,
    AsLines,
    StackName,
    console,
    deployed,
    fail,
    progress,
    reporting_failures,
    table,
)

if TYPE_CHECKING:
    from fairturn_console.report import Row

COLUMNS: Final = (
    "team",
    "worth from",
    "rep",
    "got",
    "came back",
    "fair share",
    "difference",
    "stayed spent",
    "taken over",
    "closed",
    "median seconds",
)

commands = typer.Typer()


@commands.command()
def report(
    days: Annotated[int, typer.Option("--days", help="How many days back.", min=1, max=400)] = 30,
    *,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print comma-separated values.")] = False,
    as_json: AsLines = False,
    stack: StackName = STACK,
) -> None:
    """List what each rep got of each team's leads beside their fair share, and how soon the leads had an owner."""
    from fairturn_console import standings
    from fairturn_console.report import report as look

    if as_csv and as_json:
        fail("Give either --csv or --json.")
    since = datetime.now(UTC) - timedelta(days=days)
    with reporting_failures():
        store = deployed(stack).store()
        terms = store.terms()
        found = look(store, terms, int(since.timestamp() * 1000), progress)
    names = standings.names(terms)
    if as_json:
        for row in found.rows:
            typer.echo(json.dumps(_as_json(row, names.get(row.rep, row.rep))))
    elif as_csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(_cells(row, names.get(row.rep, row.rep)) for row in found.rows)
    else:
        rows = table(*COLUMNS)
        for row in found.rows:
            rows.add_row(*map(Text, map(str, _cells(row, names.get(row.rep, row.rep)))))
        console().print(rows)
        typer.echo(f"{found.turns} turns since {since.astimezone():%Y-%m-%d %H:%M %Z}.")
    if not found.is_whole:
        typer.echo("Some journals of this time have expired, so it is not all: the parameter JournalDays.", err=True)


def _cells(row: Row, name: str) -> tuple[object, ...]:
    owner = "" if row.median_seconds is None else f"{row.median_seconds:.1f}"
    kept = row.got - row.came_back
    share = f"{row.fair_share:.2f}"
    more = f"{kept - row.fair_share:+.2f}"
    return (row.team, row.band, name, row.got, row.came_back, share, more, row.spent, row.taken_over, row.closed, owner)


def _as_json(row: Row, name: str) -> dict[str, Any]:
    cells = asdict(row)
    del cells["seconds"], cells["ended"]
    return {**cells, "name": name, "median_seconds": row.median_seconds}
