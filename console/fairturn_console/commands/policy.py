"""`fairturn policy`: check it, apply it, list what was applied."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.text import Text

from fairturn.errors import HubSpotDenied, HubSpotUnavailable, OutOfTime, PolicyInvalid
from fairturn_console.terminal import (
    HUBSPOT,
    POLICY,
    STACK,
    AsLines,
    HubSpotUrl,
    StackName,
    console,
    deployed,
    fail,
    reporting_failures,
    table,
)

if TYPE_CHECKING:
    from fairturn.edges.hubspot.client import HubSpot
    from fairturn.rules.policy import Policy
    from fairturn_console.policy.file import Checked

MAX_MESSAGE: Final = 200
UNLISTED: Final = "not applied; HubSpot lists no sensitive properties: if it is only for these, apply with --no-lookup"
SCOPE: Final = "The app needs the scope crm.schemas.contacts.read for that."

PolicyFile = Annotated[Path, typer.Argument(help="The policy file.", exists=True, dir_okay=False)]

commands = typer.Typer(no_args_is_help=True, help="The policy: who gets which leads.")


@commands.command()
def check(
    path: PolicyFile = POLICY,
    *,
    strict: Annotated[bool, typer.Option("--strict", help="Fail if there are warnings, too.")] = False,
) -> None:
    """Check a policy file without touching anything, and say what a claim costs in each team.

    A warning names something that is valid, but probably not meant. Problems and warnings come with their line.
    """
    from fairturn_console.policy import claim_cost, summary

    checked = read(path)
    policy = checked.policy
    warnings = _warn(path, checked)
    found = f"No problems, warnings: {warnings}." if warnings else "No problems."
    typer.echo(f"{path}: {summary.parts(policy)}. {found}")
    for name in summary.teams(policy):
        size = f"reps x kinds of leads = {len(policy.rotas[name].members)} x {len(policy.lanes(name))}"
        units = claim_cost.write_units(policy, name)
        typer.echo(f"  {policy.team(name)}: {size}, about {units} write units for a claim of one lead")
    typer.echo(f"  {summary.unsaid(policy)}.")
    if strict and warnings:
        raise typer.Exit(1)


def _one_line(message: str | None) -> str | None:
    if message is not None and not (message.strip() and message.isprintable() and len(message) <= MAX_MESSAGE):
        raise typer.BadParameter(f"must be one line of at most {MAX_MESSAGE} characters that can be printed")
    return message


@commands.command()
def apply(
    path: PolicyFile = POLICY,
    stack: StackName = STACK,
    hubspot: HubSpotUrl = HUBSPOT,
    message: Annotated[
        str | None, typer.Option(help="What changes and why, for the history.", callback=_one_line)
    ] = None,
    *,
    no_lookup: Annotated[
        bool,
        typer.Option("--no-lookup", help="Look up no properties: for sensitive ones, which HubSpot does not list."),
    ] = False,
) -> None:
    """Check a policy, look its reps, properties and options up in HubSpot, and put it into force."""
    from fairturn_console.policy import applying

    checked = read(path)
    _warn(path, checked)
    with reporting_failures():
        deployment = deployed(stack)
        crm = deployment.crm(hubspot)
        try:
            if not no_lookup:
                _look_up(path, checked.policy, crm)
            by, at = _caller(path), int(time.time() * 1000)
            number = applying.apply(checked.policy, deployment.store(), crm, at, by=by, message=message)
        except PolicyInvalid as error:
            fail(*(f"{path}: {checked.located(problem)}" for problem in error.problems))
        why = applying.wants_recount(deployment.store(), number)
    typer.echo(f"Version {number} is in force; every function sees it within 30 seconds.")
    if why is not None:
        option = "" if stack == STACK else f" --stack {stack}"
        typer.echo(f"Run `fairturn reps recount{option}`: {why}.")


@commands.command()
def history(
    last: Annotated[int, typer.Option("--last", help="How many versions.", min=1, max=100)] = 20,
    *,
    as_json: AsLines = False,
    stack: StackName = STACK,
) -> None:
    """List the versions of the policy, the newest first: when each was applied, by whom, and what they said."""
    with reporting_failures():
        versions = deployed(stack).store().versions(last)
    rows = table("version", "applied (UTC)", "mode", "by", "message")
    for version in versions:
        at = datetime.fromtimestamp(version.at / 1000, UTC)
        if as_json:
            row = {"version": version.number, "appliedAt": at.isoformat(timespec="milliseconds")}
            typer.echo(json.dumps(row | {"mode": version.mode, "by": version.by, "message": version.message}))
        cells = (str(version.number), f"{at:%Y-%m-%d %H:%M}", version.mode, version.by or "?", version.message or "")
        rows.add_row(*map(Text, cells))
    if versions and not as_json:
        console().print(rows)
    elif not versions:
        typer.echo("No policy was applied yet.", err=as_json)


def read(path: Path) -> Checked:
    """Read a policy file. Its problems end the command."""
    from fairturn_console.policy import file

    try:
        return file.check(path)
    except PolicyInvalid as error:
        fail(*(f"{path}: {problem}" for problem in error.problems))


def _warn(path: Path, checked: Checked) -> int:
    """Print what is probably not meant in a policy. Returns how many warnings there are."""
    warnings = checked.warnings(datetime.now(UTC))
    for warning in warnings:
        typer.echo(f"{path}: warning: {warning}", err=True)
    return len(warnings)


def _look_up(path: Path, policy: Policy, crm: HubSpot) -> None:
    """Raises PolicyInvalid for properties and options that HubSpot doesn't have. Warns if it can't say."""
    from fairturn_console.policy import definitions

    try:
        unknown = definitions.unknown(policy, crm)
    except (HubSpotUnavailable, OutOfTime) as error:
        what = f"properties and options are not looked up: {error}"
        mend = f". {SCOPE}" if isinstance(error, HubSpotDenied) else ""
        typer.echo(f"{path}: warning: {what}{mend}", err=True)
    else:
        if unknown:
            typer.echo(f"{path}: {UNLISTED}", err=True)
            raise PolicyInvalid(unknown)


def _caller(path: Path) -> str | None:
    """The ARN of whoever applies a policy. Warns if AWS can't say."""
    from fairturn_console.deployment import CallerUnknown, caller

    try:
        return caller()
    except CallerUnknown as error:
        typer.echo(f"{path}: warning: the history will not tell who applied this: {error}", err=True)
        return None
