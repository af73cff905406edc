"""`fairturn waiting`: the leads that wait, lane by lane."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.text import Text

from fairturn_console.terminal import STACK, StackName, console, deployed, reporting_failures, table

commands = typer.Typer()


@commands.command()
def waiting(
    most: Annotated[int, typer.Option("--most", help="How many leads of each lane are named.", min=1, max=100)] = 5,
    stack: StackName = STACK,
) -> None:
    """List the leads that wait, lane by lane, and those that somebody left without an owner."""
    from fairturn_console import waiting as lanes

    rows = table("lane", "leads", "the first of them", "since (UTC)", "why")
    with reporting_failures():
        for lane in lanes.waiting(deployed(stack).store(), most):
            for number, record in enumerate(lane.first):
                since = datetime.fromtimestamp(record.changed_at / 1000, UTC)
                row = (f"{record.type} {record.id}", f"{since:%Y-%m-%d %H:%M}", record.reason or "")
                head = ("", "") if number else (lane.name, str(lane.leads))
                rows.add_row(*map(Text, (*head, *row)))
    if rows.row_count:
        console().print(rows)
    else:
        typer.echo("Nothing waits.")
