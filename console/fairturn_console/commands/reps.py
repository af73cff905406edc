"""`fairturn reps`: count each rep's open leads anew."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from fairturn_console.terminal import (
    HUBSPOT,
    STACK,
    AsLines,
    HubSpotUrl,
    StackName,
    console,
    deployed,
    fail,
    logging_to_stderr,
    progress,
    reporting_failures,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fairturn_console.recount import Count

commands = typer.Typer(no_args_is_help=True, help="The reps: what they have.")


@commands.command()
def recount(
    emails: Annotated[list[str] | None, typer.Argument(help="Reps' e-mails; without any, all of the policy's.")] = None,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Report what differs, and change nothing.")] = False,
    as_json: AsLines = False,
    stack: StackName = STACK,
    hubspot: HubSpotUrl = HUBSPOT,
) -> None:
    """Count anew how many open leads each rep has: after the installation, after a restore, or where a load is doubted.

    Loads that are not what the records say are set right; contacts of which record and HubSpot differ are sent to
    track, and so are those from before the installation. Leads may flow meanwhile.
    """
    rows = Table(box=None, pad_edge=False)
    for name in ("rep", "load", "in HubSpot", "was off by", "contacts that differ"):
        rows.add_column(name, justify="left" if name == "rep" else "right")
    sent = 0
    with reporting_failures("What was found before that is done; the command may be repeated."), logging_to_stderr():
        counting = deployed(stack).recount(hubspot)
        terms = counting.store.terms()
        names = {rep: terms.owners[rep].email if rep in terms.owners else rep for rep in terms.policy.reps}
        for count in counting.run(_named(emails, names), terms.policy, progress, dry_run=dry_run):
            sent += len(count.strays)
            if as_json:
                typer.echo(json.dumps(_as_json(count, names)))
            in_hubspot = "?" if count.open is None else str(count.open)
            drift, strays = f"{count.drift:+d}" if count.drift else "", str(len(count.strays) or "")
            rows.add_row(*map(Text, (names[count.rep], str(count.held), in_hubspot, drift, strays)))
    if as_json:
        return
    console().print(rows)
    if dry_run:
        typer.echo("Nothing was changed.")
    elif sent:
        typer.echo(f"{sent} contacts are sent to track; once more in a few minutes, the command should find none.")
    else:
        typer.echo("All is level.")


def _named(emails: list[str] | None, names: Mapping[str, str]) -> list[str]:
    """The owner ids of reps by e-mail; all of them if none is named."""
    by_email = {email.lower(): rep for rep, email in names.items()}
    unknown = [email for email in emails or () if email.lower() not in by_email]
    if unknown:
        fail(*(f"{email} is no rep of the policy; those are: {', '.join(sorted(by_email))}" for email in unknown))
    return [by_email[email.lower()] for email in emails] if emails else sorted(names, key=names.__getitem__)


def _as_json(count: Count, names: Mapping[str, str]) -> dict[str, Any]:
    return {
        "rep": names[count.rep],
        "owner": count.rep,
        "load": count.held,
        "inHubSpot": count.open,
        "wasOffBy": count.drift,
        "differ": sorted(count.strays),
    }
