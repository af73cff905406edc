"""`fairturn policy`: begin one, check it, apply it, go back; and what is and was in force."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, TypeVar

import typer
from rich.text import Text

from fairturn.errors import HubSpotDenied, HubSpotUnavailable, OutOfTime, PolicyInvalid, PolicyMissing
from fairturn_console.terminal import (
    APP,
    HUBSPOT,
    POLICY,
    STACK,
    AsLines,
    HubSpotUrl,
    StackName,
    console,
    deployed,
    fail,
    option,
    reporting_failures,
    table,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fairturn.edges.hubspot.client import HubSpot
    from fairturn.edges.store import Store
    from fairturn.rules.policy import Policy
    from fairturn.rules.roster import Owner
    from fairturn_console.policy.file import Checked

T = TypeVar("T")

MAX_MESSAGE: Final = 200
UNLISTED: Final = "not applied; HubSpot lists no sensitive properties: if it is only for these, apply with --no-lookup"
SCOPE: Final = "The app needs the scope crm.schemas.contacts.read for that."

PolicyFile = Annotated[Path, typer.Argument(help="The policy file.", exists=True, dir_okay=False)]

Yes = Annotated[bool, typer.Option("--yes", help="Ask nothing: for scripts.")]

commands = typer.Typer(no_args_is_help=True, help="The policy: who gets which leads.")


@commands.command()
def init(
    path: Annotated[Path, typer.Argument(help="The file to write.", dir_okay=False)] = POLICY,
    reps: Annotated[
        str | None, typer.Option(help="Who gets leads: e-mail addresses, with commas between them.")
    ] = None,
    zone: Annotated[str | None, typer.Option(help="Their time zone, such as Europe/Paris.")] = None,
    hours: Annotated[
        str | None, typer.Option(help="Their working hours, such as 'mon-fri 09:00-18:00'; 24/7 is around the clock.")
    ] = None,
) -> None:
    """Write a policy to begin with. Asks for what no option says, and never overwrites a file."""
    from fairturn_console.policy import starter

    if path.exists():
        fail(f"{path} is there already; name another file, or take it away first.")
    text = starter.text(
        _answer("Who gets leads? E-mail addresses of HubSpot users, with commas between them", reps, starter.reps),
        _answer("In which time zone do they work?", zone, starter.zone, "Europe/Paris"),
        _answer("When do they work?", hours, starter.hours, "mon-fri 09:00-18:00"),
    )
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        fail(f"{path} can't be written: {error.strerror}")
    typer.echo(f"Wrote {path}. Look at it, then run `fairturn policy check {path}`.")


def _answer(question: str, given: str | None, read: Callable[[str], T], default: str | None = None) -> T:
    """What an option says, or else the answer to a question, which is asked until it can be read."""
    from fairturn_console.policy.starter import AnswerUnusable

    def checked(answer: str) -> T:
        try:
            return read(answer)
        except AnswerUnusable as error:
            raise typer.BadParameter(str(error)) from error

    if given is not None:
        return checked(given)
    answer: T = typer.prompt(question, default=default, value_proc=checked)
    return answer


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
    for name in policy.teams():
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
    yes: Yes = False,
) -> None:
    """Check a policy, look its reps, properties and options up in HubSpot, say what changes, and put it into force."""
    from fairturn_console.policy import applying

    checked = read(path)
    _warn(path, checked)
    _warn_of_events(checked.policy, stack)
    with reporting_failures():
        deployment = deployed(stack)
        store, crm = deployment.store(), deployment.crm(hubspot)
        try:
            if not no_lookup:
                _look_up(path, checked.policy, crm)
            _agreed(_changes(store, checked.policy), yes=yes)
            by, at = _caller(path), int(time.time() * 1000)
            number = applying.apply(checked.policy, store, crm, at, by=by, message=message)
        except PolicyInvalid as error:
            fail(*(f"{path}: {checked.located(problem)}" for problem in error.problems))
        why = applying.wants_recount(store, number)
    _in_force(number, why, stack)


@commands.command()
def diff(
    path: PolicyFile = POLICY,
    stack: StackName = STACK,
) -> None:
    """Say what would change if a policy file were applied. Exit code 1: something would."""
    with reporting_failures():
        found = _changes(deployed(stack).store(), read(path).policy)
    typer.echo("\n".join(found) or "Nothing would change.")
    if found:
        raise typer.Exit(1)


@commands.command()
def show(
    number: Annotated[int | None, typer.Argument(help="The version; without it, the one in force.", min=1)] = None,
    stack: StackName = STACK,
) -> None:
    """Print a version of the policy as a policy file: without comments, short forms and groups."""
    from fairturn_console.policy import writing

    with reporting_failures():
        store = deployed(stack).store()
        pointer = store.pointer()
        policy = store.policy(number or pointer.number)
    typer.echo(writing.as_yaml(policy, _names(pointer.owners)), nl=False)


@commands.command()
def rollback(
    number: Annotated[
        int | None, typer.Argument(help="The version to go back to; without it, the one before.", min=1)
    ] = None,
    stack: StackName = STACK,
    hubspot: HubSpotUrl = HUBSPOT,
    *,
    yes: Yes = False,
) -> None:
    """Put an earlier version of the policy into force once more, after saying what changes."""
    from fairturn_console.policy import applying

    with reporting_failures():
        deployment = deployed(stack)
        store = deployment.store()
        pointer = store.pointer()
        if number is None and pointer.number < 2:
            fail("There is no version before the one in force: `fairturn policy history` lists them.")
        back = number or pointer.number - 1
        policy = store.policy(back)
        _warn_of_events(policy, stack)
        _agreed(_changes(store, policy), yes=yes)
        by, at = _caller(Path("rollback")), int(time.time() * 1000)
        now = applying.roll_back(store, deployment.crm(hubspot), back, at, by=by)
        why = applying.wants_recount(store, now)
    _in_force(now, why, stack)


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


def _warn_of_events(policy: Policy, stack: str) -> None:
    """Warn if the app does not subscribe to all events that a policy needs, as far as its files here tell."""
    from fairturn_console.hubspot import app

    mend = f"run `fairturn hubspot app{option(stack)}`, then `hs project upload --profile {stack}` in {APP}/"
    try:
        lacking = app.lacking(APP, policy)
    except app.AppUnreadable as error:
        typer.echo(f"warning: whether the app subscribes to what the policy needs is not known: {error}", err=True)
        return
    if lacking:
        what = ", ".join(map(str, lacking))
        typer.echo(f"warning: the app does not subscribe to {what}: {mend}", err=True)


def _in_force(number: int, recount: str | None, stack: str) -> None:
    typer.echo(f"Version {number} is in force; every function sees it within 30 seconds.")
    if recount is not None:
        typer.echo(f"Run `fairturn reps recount{option(stack)}`: {recount}.")


def _changes(store: Store, policy: Policy) -> list[str]:
    """What changes from the policy in force to this one. Says so if the one in force can't be read."""
    from fairturn_console.policy import changes

    pointer = store.pointer()
    try:
        before = store.policy(pointer.number)
    except PolicyMissing:
        return ["No policy is in force yet."]
    except PolicyInvalid:
        return ["The policy in force is of another version of Fairturn, so what changes is not known."]
    return changes.changes(before, policy, _names(pointer.owners))


def _names(owners: Mapping[str, Owner]) -> dict[str, str]:
    """Owner id → the e-mail address by which policy files call them."""
    return {rep: owner.email.strip().lower() for rep, owner in owners.items() if owner.email}


def _agreed(found: list[str], *, yes: bool) -> None:
    """Say what changes, and ask; a no ends the command."""
    typer.echo("\n".join(found) or "Nothing changes; leads held back from bulk sources go on.")
    if not yes and not typer.confirm("Apply it?"):
        fail("Nothing was applied.")


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
