"""`fairturn`: the operator's commands."""

from __future__ import annotations

import json
import platform
import secrets
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, NoReturn

import typer
from rich.console import Console

from fairturn.errors import FairturnError, PolicyInvalid
from fairturn_console import events

if TYPE_CHECKING:
    from fairturn.policy import Policy

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
policy_commands = typer.Typer(no_args_is_help=True, help="The policy: who gets which leads.")
app.add_typer(policy_commands, name="policy")

POLICY: Final = Path("policy.yaml")
LOG: Final = Path(".sandbox/demo.log")
VARIABLES: Final = Path(".sandbox/env.json")
WIDTH: Final = 110
FEWEST_LEADS: Final = 20
MOST_LEADS: Final = 2_000

PolicyFile = Annotated[Path, typer.Argument(help="The policy file.", exists=True, dir_okay=False)]
PolicyOption = Annotated[Path, typer.Option("--policy", help="The policy to run under.", exists=True, dir_okay=False)]
StackName = Annotated[str, typer.Option("--stack", help="The CloudFormation stack that Fairturn runs in.")]
HubSpotUrl = Annotated[str, typer.Option("--hubspot", help="Where HubSpot answers.", envvar="HUBSPOT_API_URL")]


@app.callback()
def fairturn() -> None:
    """Gives every new HubSpot lead to the right sales rep, fairly, and can prove it."""


@app.command()
def demo(
    seed: Annotated[int | None, typer.Option(help="Repeats the run that printed this seed.")] = None,
    leads: Annotated[int, typer.Option(help="How many come in a day.", min=FEWEST_LEADS, max=MOST_LEADS)] = 300,
    policy: PolicyOption = POLICY,
) -> None:
    """Run a day of leads on this machine: the real handlers, a HubSpot simulator, no account."""
    from fairturn_console.demo import run  # the sandbox is heavy; the other commands do without

    chosen = secrets.randbelow(10_000) if seed is None else seed
    LOG.parent.mkdir(exist_ok=True)
    console = Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False)
    if not run(chosen, leads, _read(policy), LOG, console):
        raise typer.Exit(1)


@app.command()
def sandbox(
    host: Annotated[
        str,
        typer.Option(
            help="Where to listen. Containers do not reach 127.0.0.1: for them, give the address of the Docker bridge "
            "(on Linux mostly 172.17.0.1), or 0.0.0.0 for every network."
        ),
    ] = "127.0.0.1",
    policy: PolicyOption = POLICY,
) -> None:
    """Keep AWS and a HubSpot portal open on this machine, for functions that `sam local invoke` runs."""
    from fairturn_console.serve import CONTACT, opened, watch

    VARIABLES.parent.mkdir(exist_ok=True)
    try:
        with opened(_read(policy), host, VARIABLES) as portal:
            typer.echo(f"Open, with contact {CONTACT}, which nobody owns. To try, after `make smoke`:")
            typer.echo(f"  .venv/bin/fairturn event contact-created | {_invoke('IntakeFunction')} -e -")
            typer.echo(f"  {_invoke('AssignFunction')} -e events/lead-queued.json")
            typer.echo("Ctrl-C closes it.")
            watch(portal, typer.echo)
    except FairturnError as error:
        _fail(*_problems(error))
    except KeyboardInterrupt:
        typer.echo("Closed.")


@app.command()
def event(
    name: Annotated[str, typer.Argument(help="One of the stored events; without it, they are listed.")] = "",
    secret: Annotated[
        str, typer.Option(help="The client secret to sign with.", envvar="WEBHOOK_SECRET")
    ] = events.SECRET,
    url: Annotated[str, typer.Option(help="The target URL to sign for.", envvar="WEBHOOK_URL")] = events.URL,
) -> None:
    """Print a stored event as Lambda gets it; a webhook's is signed freshly, for five minutes."""
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
def apply(
    path: PolicyFile = POLICY, stack: StackName = "fairturn", hubspot: HubSpotUrl = "https://api.hubapi.com"
) -> None:
    """Check a policy, look its reps up in HubSpot, and put it into force."""
    from fairturn_console import policies
    from fairturn_console.deployment import Deployment

    policy = _read(path)
    try:
        deployment = Deployment(stack, hubspot)
        number = policies.apply(policy, deployment.store(), deployment.crm(), int(time.time() * 1000))
    except FairturnError as error:
        _fail(*_problems(error))
    typer.echo(f"Version {number} is in force; every function sees it within 30 seconds.")


def _invoke(function: str) -> str:
    processor = "arm64" if platform.machine() in {"arm64", "aarch64"} else "x86_64"
    return f".venv-sam/bin/sam local invoke {function} --parameter-overrides Architecture={processor}"


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
