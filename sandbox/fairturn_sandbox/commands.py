"""The sandbox's own commands of `fairturn`. Without the extra `sandbox` they say what to install."""

from __future__ import annotations

import json
import platform
import secrets
import shlex
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from fairturn_console.commands.policy import PolicyFile, read
from fairturn_console.terminal import POLICY, console, fail, reporting_failures
from fairturn_sandbox import events

if TYPE_CHECKING:
    from collections.abc import Iterator

LOG: Final = Path(".sandbox/demo.log")
VARIABLES: Final = Path(".sandbox/env.json")
FEWEST_LEADS: Final = 20
MOST_LEADS: Final = 2_000
LEADS: Final = 300
OURS: Final = "fairturn"
"""With what the names of our own packages begin."""

PolicyOption = Annotated[Path, typer.Option("--policy", help="The policy to run under.", exists=True, dir_okay=False)]

commands = typer.Typer()


@contextmanager
def _extra() -> Iterator[None]:
    """Let the command fail where a package is not installed that only the sandbox needs."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith(OURS):
            raise
        fail(f"{error.name} is not installed; it comes with the extra `sandbox`: pip install -e '.[sandbox]'")


@commands.command()
def demo(
    path: PolicyFile = POLICY,
    seed: Annotated[int | None, typer.Option(help="Repeats the run that printed this seed.")] = None,
    leads: Annotated[int, typer.Option(help="How many come in a day.", min=FEWEST_LEADS, max=MOST_LEADS)] = LEADS,
    *,
    checks: Annotated[bool, typer.Option("--checks", help="List what was checked, not only what is broken.")] = False,
) -> None:
    """Run a day of leads on this machine under a policy: the real handlers, a HubSpot simulator, no account."""
    with _extra():
        from fairturn_sandbox.demo import run

    chosen = secrets.randbelow(10_000) if seed is None else seed
    LOG.parent.mkdir(exist_ok=True)
    if not run(chosen, leads, read(path).policy, LOG, console(), again(chosen, leads, path), lists_checks=checks):
        raise typer.Exit(1)


def again(seed: int, leads: int, policy: Path) -> str:
    """What to type for the same day of the demo once more."""
    more = [] if leads == LEADS else [f"LEADS={leads}"]
    more += [] if policy == POLICY else [f"POLICY={shlex.quote(str(policy))}"]
    return " ".join(["make demo", f"SEED={seed}", *more])


@commands.command()
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
    with _extra():
        from fairturn_sandbox.serve import CONTACT, opened, watch

    VARIABLES.parent.mkdir(exist_ok=True)
    try:
        with reporting_failures(), opened(read(policy).policy, host, VARIABLES) as portal:
            typer.echo(f"Open, with contact {CONTACT}, which nobody owns. To try, after `make smoke`:")
            typer.echo(f"  .venv/bin/fairturn event contact-created | {_invoke('IntakeFunction')} -e -")
            typer.echo(f"  {_invoke('AssignFunction')} -e events/lead-queued.json")
            typer.echo(f"  {_invoke('TrackFunction')} -e events/change-queued.json")
            typer.echo(f"  {_invoke('SweepFunction')} -e events/sweep.json")
            typer.echo("Ctrl-C closes it.")
            watch(portal, typer.echo)
    except KeyboardInterrupt:
        typer.echo("Closed.")


@commands.command()
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
        fail(str(error))
    if "requestContext" in stored:
        stored = events.sign(stored, secret, url, int(time.time() * 1000))
    typer.echo(json.dumps(stored, indent=2))


def _invoke(function: str) -> str:
    processor = "arm64" if platform.machine() in {"arm64", "aarch64"} else "x86_64"
    return f".venv-sam/bin/sam local invoke {function} --parameter-overrides Architecture={processor}"
