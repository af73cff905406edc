"""What all commands share: options, tables, and how a failure is reported."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, NoReturn

import typer
from rich.console import Console
from rich.table import Table

from fairturn.errors import FairturnError, PolicyInvalid
from fairturn.telemetry import logger

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fairturn_console.deployment import Deployment

POLICY: Final = Path("policy.yaml")
APP: Final = Path("hubspot")
"""The folder of the HubSpot app's files."""
STACK: Final = "fairturn"
HUBSPOT: Final = "https://api.hubapi.com"
WIDTH: Final = 110
"""Columns of what is printed into a file or a pipe."""

StackName = Annotated[str, typer.Option("--stack", help="The CloudFormation stack that Fairturn runs in.")]
HubSpotUrl = Annotated[str, typer.Option("--hubspot", help="Where HubSpot answers.", envvar="HUBSPOT_API_URL")]
AsObject = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
AsLines = Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")]


def option(stack: str) -> str:
    """What a command needs for the same stack."""
    return "" if stack == STACK else f" --stack {stack}"


def deployed(stack: str) -> Deployment:
    """The stack of this name. Raises StackUnknown."""
    from fairturn_console.deployment import Deployment  # boto3 is slow to import; not every command needs it

    return Deployment(stack)


def fail(*lines: str) -> NoReturn:
    """Print why on stderr, and end with exit code 1."""
    for line in lines:
        typer.echo(line, err=True)
    raise typer.Exit(1)


@contextmanager
def reporting_failures(*more: str) -> Iterator[None]:
    """Let the command fail with the message of a FairturnError, and with these lines after it."""
    try:
        yield
    except PolicyInvalid as error:
        fail(*map(str, error.problems), *more)
    except FairturnError as error:
        fail(str(error), *more)


@contextmanager
def logging_to_stderr() -> Iterator[None]:
    """Keep what is logged meanwhile out of stdout, which a program may read."""
    handler: Any = logger.registered_handler
    before = handler.setStream(sys.stderr)
    try:
        yield
    finally:
        handler.setStream(before)


def progress(line: str) -> None:
    """Print how far the command has come, if somebody watches stderr on a screen."""
    if sys.stderr.isatty():
        typer.echo(line, err=True)


def console() -> Console:
    """Where tables are printed."""
    return Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False)


def table(*columns: str) -> Table:
    """A table without lines, of which long cells are folded."""
    made = Table(box=None, pad_edge=False)
    for column in columns:
        made.add_column(column, overflow="fold")
    return made
