"""`fairturn doctor`: whether a deployment is whole and alive, and how to mend what is not."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime

import typer
from rich.text import Text

from fairturn_console.terminal import (
    APP,
    HUBSPOT,
    STACK,
    AsLines,
    HubSpotUrl,
    StackName,
    console,
    deployed,
    logging_to_stderr,
    reporting_failures,
    table,
)

commands = typer.Typer()


@commands.command()
def doctor(*, as_json: AsLines = False, stack: StackName = STACK, hubspot: HubSpotUrl = HUBSPOT) -> None:
    """Check a deployment, from the account to the last lead; each finding with its mend. Exit code 1: something is bad.

    Nothing is changed. The webhook is checked with one signed request that has no event in it.
    """
    from fairturn_console.doctor import Doctor, Health

    rows, worst = table("", "check", "found", "what to do"), Health.GOOD
    with reporting_failures(), logging_to_stderr():
        for each in Doctor(deployed(stack), hubspot, datetime.now(UTC), APP).examine():
            if as_json:
                typer.echo(json.dumps(asdict(each)))
            worst = Health.BAD if Health.BAD in (worst, each.health) else worst
            rows.add_row(*map(Text, (each.health.value, each.what, each.found, each.mend)))
    if not as_json:
        console().print(rows)
    if worst is Health.BAD:
        raise typer.Exit(1)
