"""`fairturn`: the operator's commands."""

from __future__ import annotations

import json
import secrets
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, NoReturn

import typer
from rich.console import Console

from fairturn.errors import FairturnError, PolicyInvalid

if TYPE_CHECKING:
    from fairturn.policy import Policy

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
policy_commands = typer.Typer(no_args_is_help=True, help="The policy: who gets which leads.")
app.add_typer(policy_commands, name="policy")

POLICY: Final = Path("policy.yaml")
LOG: Final = Path(".sandbox/demo.log")
WIDTH: Final = 110
SECRET: Final = "sandbox"  # noqa: S105 - it opens nothing

PolicyFile = Annotated[Path, typer.Argument(help="The policy file.", exists=True, dir_okay=False)]
StackName = Annotated[str, typer.Option("--stack", help="The CloudFormation stack that Fairturn runs in.")]


@app.callback()
def fairturn() -> None:
    """Gives every new HubSpot lead to the right sales rep, fairly, and can prove it."""


@app.command()
def demo(
    seed: Annotated[int | None, typer.Option(help="Repeats the run that printed this seed.")] = None,
    policy: Annotated[Path, typer.Option(help="The policy to run under.", exists=True, dir_okay=False)] = POLICY,
) -> None:
    """Run a day of 300 leads on this machine: the real handlers, a HubSpot simulator, no account."""
    from fairturn_console.demo import run  # the sandbox is heavy; the other commands do without

    chosen = secrets.randbelow(10_000) if seed is None else seed
    LOG.parent.mkdir(exist_ok=True)
    console = Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False)
    if not run(chosen, _read(policy), LOG, console):
        raise typer.Exit(1)


@app.command()
def event(
    name: Annotated[str, typer.Argument(help="One of the stored events; without it, they are listed.")] = "",
    secret: Annotated[str, typer.Option(help="The client secret to sign with.", envvar="WEBHOOK_SECRET")] = SECRET,
    url: Annotated[
        str, typer.Option(help="The target URL to sign for.", envvar="WEBHOOK_URL")
    ] = "https://sandbox.execute-api.eu-west-1.amazonaws.com/hubspot/sandbox-sandbox-sandbox-key",
) -> None:
    """Print a stored event as Lambda gets it; a webhook's is signed freshly, for five minutes."""
    from fairturn_console import events

    if not name:
        typer.echo("\n".join(events.names()))
        return
    try:
        stored = events.load(name)
    except LookupError as error:
        _fail(str(error))
    if "requestContext" in stored:
        stored = events.sign(stored, secret, url, int(time.time() * 1000))
    typer.echo(json.dumps(stored, indent=2))


@policy_commands.command()
def check(path: PolicyFile = POLICY) -> None:
    """Check a policy file without touching anything."""
    policy = _read(path)
    rules = len(policy.rules)
    typer.echo(
        f"{path}: {len(policy.reps)} reps, {len(policy.rotas)} rotas, {rules} rules and a catch-all. No problems."
    )


@policy_commands.command()
def apply(path: PolicyFile = POLICY, stack: StackName = "fairturn") -> None:
    """Check a policy, look its reps up in HubSpot, and put it into force."""
    from fairturn_console import policies
    from fairturn_console.deployment import Deployment

    policy = _read(path)
    try:
        deployment = Deployment(stack)
        number = policies.apply(policy, deployment.store(), deployment.crm(), int(time.time() * 1000))
    except FairturnError as error:
        _fail(*_problems(error))
    typer.echo(f"Version {number} is in force; every function sees it within 30 seconds.")


def _read(path: Path) -> Policy:
    from fairturn_console import policies

    try:
        return policies.load(path)
    except PolicyInvalid as error:
        _fail(*(f"{path}: {problem}" for problem in error.problems))


def _problems(error: FairturnError) -> list[str]:
    return [str(problem) for problem in error.problems] if isinstance(error, PolicyInvalid) else [str(error)]


def _fail(*lines: str) -> NoReturn:
    for line in lines:
        typer.echo(line, err=True)
    raise typer.Exit(1)
