"""`fairturn person`: give out or erase what is stored of a contact or a rep."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Annotated

import typer

from fairturn_console.terminal import STACK, StackName, deployed, fail, logging_to_stderr, reporting_failures

if TYPE_CHECKING:
    from fairturn_console.person import People

Person = Annotated[str, typer.Argument(help="A contact's id, or a rep's e-mail address.")]
IsRep = Annotated[bool, typer.Option("--rep", help="The id is a rep's owner id, not a contact's.")]

commands = typer.Typer(no_args_is_help=True, help="What is stored of a contact or a rep: given out, or erased.")


@commands.command()
def export(person: Person, *, is_rep: IsRep = False, stack: StackName = STACK) -> None:
    """Print all that is stored of a contact or a rep, as one JSON object for each record of HubSpot's that they are.

    The whole table is read. Exits with 1 if there is too much to look at all of it.
    """
    with reporting_failures(), logging_to_stderr():
        people = deployed(stack).people()
        found = [
            people.rep(id_, email) if email is not None or is_rep else people.contact(id_)
            for id_, email in _persons(people, person)
        ]
    for each in found:
        typer.echo(json.dumps(each, indent=2))
    if not all(each["complete"] for each in found):
        fail("this is not all: there is too much to look at, or something that this version cannot read")


@commands.command()
def erase(
    person: Person,
    *,
    is_rep: IsRep = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    stack: StackName = STACK,
) -> None:
    """Erase what is stored of a contact or a rep, as far as the ledgers allow, and say what stays and why.

    In HubSpot nothing is erased. For 120 days, webhooks about a contact that is erased here have no effect: erase it in
    HubSpot first. A rep must not be in the policy any more.
    """
    with reporting_failures(), logging_to_stderr():
        people = deployed(stack).people()
        chosen = _persons(people, person)
        for id_, email in chosen:
            a_rep = email is not None or is_rep
            who = f"the rep {person} (owner {id_})" if a_rep else f"contact {id_}"
            if not yes:
                typer.confirm(f"Erase {who} for good?", abort=True, err=True)
            erased = people.erase_rep(id_, email) if a_rep else people.erase_contact(id_)
            if not erased.gone:
                typer.echo(f"Nothing that can be erased is stored of {who}.")
            for line in erased.gone:
                typer.echo(f"erased: {line}")
            for line in erased.stays:
                typer.echo(f"stays: {line}")
    if chosen:
        typer.echo("Backups of the table keep what was erased for up to 35 days; logs keep ids for LogRetentionDays.")


def _persons(people: People, person: str) -> list[tuple[str, str | None]]:
    """Contact or owner ids, each with the e-mail address if that was given. Raises PersonUnknown."""
    if re.fullmatch(r"[0-9]{1,19}", person):
        return [(person, None)]
    if "@" not in person:
        raise typer.BadParameter("must be a contact's id, or a rep's e-mail address")
    return [(id_, person) for id_ in sorted(people.owner_ids(person))]
