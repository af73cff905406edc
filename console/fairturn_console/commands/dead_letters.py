"""`fairturn dead-letters`: what was given up, and why; and sending it back."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.text import Text

from fairturn.errors import FairturnError
from fairturn_console.terminal import STACK, StackName, console, deployed, fail, reporting_failures, table

if TYPE_CHECKING:
    from rich.table import Table

    from fairturn_console.dead_letters import DeadLetter, Listing

SHOWN_ID: Final = 8
"""Characters of a dead letter's id in a table: enough to name it."""

WithBodies = Annotated[bool, typer.Option("--json", help="Print one JSON object per line, with the bodies.")]

commands = typer.Typer()


@commands.callback(invoke_without_command=True)
def list_by_default(context: typer.Context, *, as_json: WithBodies = False, stack: StackName = STACK) -> None:
    """What was given up, and why; and sending it back. Without a command, the dead letters are listed."""
    if context.invoked_subcommand is None:
        list_dead_letters(as_json=as_json, stack=stack)
    elif as_json or stack != STACK:
        raise typer.BadParameter(f"options stand after {context.invoked_subcommand}, not before it")


@commands.command("list")
def list_dead_letters(*, as_json: WithBodies = False, stack: StackName = STACK) -> None:
    """List the dead letters of both queues, oldest first, with their reasons. This is what is done by default.

    Letters that SQS itself moved, because they were received too often, keep the time at which they were queued:
    they were dead-lettered some time after it. While letters are looked at, another command does not see them.
    """
    with reporting_failures():
        listing = deployed(stack).dead_letters().list()
    if as_json:
        for letter in listing.letters:
            typer.echo(json.dumps(_as_json(letter)))
    elif listing.letters:
        console().print(_table(listing))
    queues = Counter(letter.queue for letter in listing.letters)
    counted = f"Dead letters: {len(listing.letters)}; leads {queues['leads']}, changes {queues['changes']}."
    typer.echo(counted if listing.complete else f"{counted} {_more()}", err=as_json)


@commands.command()
def redrive(
    ids: Annotated[list[str] | None, typer.Argument(help="Ids of letters, or the first 6 characters or more.")] = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="Redrive every letter of both queues.")] = False,
    stack: StackName = STACK,
) -> None:
    """Send dead letters back to the queues that they came from.

    A letter is deleted only after its queue has taken it. If that is interrupted, some may be in both, which is
    harmless: a lead that has an owner by then is left alone.
    """
    if every and ids:
        fail("give ids or --all, not both")
    if not every and not ids:
        fail("give the ids of the letters to redrive, as `fairturn dead-letters` lists them, or --all")
    with reporting_failures():
        dead_letters = deployed(stack).dead_letters()
        result = dead_letters.redrive(ids) if ids else dead_letters.redrive_all()
    for letter in result.redriven:
        typer.echo(f"{_named(letter)}: redriven")
    for left in result.left:
        typer.echo(f"{_named(left.letter)}: left: {left.why}")
    counted = f"Redriven: {len(result.redriven)}; left: {len(result.left)}."
    typer.echo(f"{counted} {_more()}" if every and not result.complete else counted)
    if result.problems:
        fail(*result.problems)


@commands.command("take-over")
def take_over(
    deleted: Annotated[str, typer.Argument(help="The stack that was deleted; its queues are still there.")],
    stack: StackName = STACK,
) -> None:
    """Move what is left in the queues of a stack that was deleted into those of this one.

    A message is deleted only after its new queue has taken it. A lead that has an owner by now is left alone.
    """
    if deleted == stack:
        fail("these are the queues of the stack itself: give it with --stack, and the deleted one as the argument")
    moved, left, is_complete = 0, 0, True
    problems: list[str] = []
    try:
        for letters in deployed(stack).left_over(deleted):
            result = letters.redrive_all()
            moved, left = moved + len(result.redriven), left + len(result.left)
            problems += result.problems
            is_complete &= result.complete
    except FairturnError as error:
        fail(f"Moved: {moved}.", str(error))
    counted = f"Moved: {moved}; left, because they are no messages of ours: {left}."
    typer.echo(counted if is_complete else f"{counted} There may be more: run it once more.")
    if problems:
        fail(*problems)


def _table(listing: Listing) -> Table:
    rows = table("id", "queue", "lead", "dead-lettered (UTC)", "stage", "reason")
    rows.columns[0].no_wrap = True
    for letter in listing.letters:
        when = f"{'' if letter.stage else 'after '}{_time(letter):%Y-%m-%d %H:%M}"
        cells = (letter.id[:SHOWN_ID], letter.queue, letter.lead or "?", when, letter.stage or "", letter.reason)
        rows.add_row(*map(Text, cells))
    return rows


def _as_json(letter: DeadLetter) -> dict[str, str | None]:
    return {
        "id": letter.id,
        "queue": letter.queue,
        "lead": letter.lead,
        "sentAt": _time(letter).isoformat(timespec="milliseconds"),
        "stage": letter.stage,
        "reason": letter.reason,
        "body": letter.body,
    }


def _time(letter: DeadLetter) -> datetime:
    return datetime.fromtimestamp(letter.sent_at / 1000, UTC)


def _named(letter: DeadLetter) -> str:
    return f"{letter.id[:SHOWN_ID]} ({letter.lead or '?'})"


def _more() -> str:
    from fairturn_console.dead_letters import MOST_LETTERS

    return f"There may be more: at most {MOST_LETTERS:,} of each queue are looked at."
