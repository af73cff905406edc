"""`fairturn waiting`: the leads that wait, and what for."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.text import Text

from fairturn.errors import PolicyInvalid, PolicyMissing
from fairturn_console.terminal import STACK, StackName, console, deployed, reporting_failures, table

commands = typer.Typer()


@commands.command()
def waiting(
    most: Annotated[int, typer.Option("--most", help="How many leads of each kind are named.", min=1, max=100)] = 5,
    stack: StackName = STACK,
) -> None:
    """List the leads that wait, by team and what they ask for, and those that somebody left without an owner."""
    from fairturn_console import waiting as kinds

    rows = table("leads that wait", "number", "the first of them", "since (UTC)", "why")
    with reporting_failures():
        store = deployed(stack).store()
        try:
            policy = store.terms().policy
        except (PolicyMissing, PolicyInvalid):  # then the names are those of the table
            policy = None
        for kind in kinds.waiting(store, most):
            for number, record in enumerate(kind.first):
                since = datetime.fromtimestamp(record.changed_at / 1000, UTC)
                row = (f"{record.type} {record.id}", f"{since:%Y-%m-%d %H:%M}", record.reason or "")
                head = ("", "") if number else (kinds.name(kind.lane, policy), str(kind.leads))
                rows.add_row(*map(Text, (*head, *row)))
    if rows.row_count:
        console().print(rows)
    else:
        typer.echo("Nothing waits.")
