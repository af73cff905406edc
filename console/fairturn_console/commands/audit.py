"""`fairturn audit`: whether all that is stored agrees with itself."""

from __future__ import annotations

import json
import time
from typing import Final

import typer

from fairturn_console.terminal import STACK, AsLines, StackName, deployed, reporting_failures

AUDIT_WITHIN: Final = 4 * 3600.0
"""Seconds after which an audit of a table is given up."""

commands = typer.Typer(no_args_is_help=True, help="Whether all that is stored agrees with itself.")


@commands.command()
def table(*, as_json: AsLines = False, stack: StackName = STACK) -> None:
    """Hold ledgers, journals, loads and records against each other, from the oldest journals on, while leads flow.

    It reads the whole table, several times. Fails if something is not as it must be.
    """
    from fairturn.deadline import Deadline
    from fairturn.steps.audit import audit_table

    with reporting_failures():
        report = audit_table(deployed(stack).store(), int(time.time() * 1000), Deadline.after(AUDIT_WITHIN))
    for finding in report.findings:
        if as_json:
            row = {"what": finding.what, "where": finding.where, "says": finding.says, "do": finding.do}
            typer.echo(json.dumps(row))
        else:
            typer.echo(f"{finding}.\n  {finding.do}")
    for note in report.notes:
        typer.echo(note, err=as_json)
    if report.undecided:
        reps = ", ".join(report.undecided)
        typer.echo(
            f"Whether these reps' loads are right is not known, as their leads kept moving: {reps}.", err=as_json
        )
    looked = f"{report.rotas} rotas, {report.versions} versions of their ledgers, {report.records} records"
    typer.echo(f"Looked at {looked}. Found: {len(report.findings)}.", err=as_json)
    if report.findings:
        raise typer.Exit(1)
