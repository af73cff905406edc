"""`fairturn reps`: how they stand, who is away, and what they have counted anew."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from fairturn.rules.terms import Reason
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
    option,
    progress,
    reporting_failures,
    table,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fairturn_console.recount import Count

commands = typer.Typer(help="The reps: how they stand, who is away, and what they have, counted anew.")

RepName = Annotated[str, typer.Argument(help="The rep's e-mail address or owner id.", metavar="EMAIL")]


@commands.callback(invoke_without_command=True)
def reps(
    context: typer.Context,
    *,
    as_json: AsLines = False,
    stack: StackName = STACK,
) -> None:
    """List the reps of each team: there or why not, open leads, what they are owed, and their last lead."""
    if context.invoked_subcommand is not None:
        return
    from fairturn_console import standings

    rows = table("team", "rep", "now", "open leads", "owed", "of which", "last lead")
    with reporting_failures():
        store = deployed(stack).store()
        terms = store.terms()
        names = standings.names(terms)
        for each in standings.standings(terms, standings.read(store, terms), datetime.now(UTC)):
            if as_json:
                typer.echo(json.dumps({**asdict(each), "name": names[each.rep]}))
            of = ", ".join(f"{kind} {turns:+.2f}" for kind, turns in each.by_kind.items())
            load = f"{each.load}" if each.capacity is None else f"{each.load} of {each.capacity}"
            last = "never" if each.last is None else "the last one" if each.last == 0 else f"{each.last} leads ago"
            rows.add_row(
                *map(Text, (each.team, names[each.rep], each.presence, load, f"{each.owed:+.2f}", of, last)),
            )
    if not as_json:
        console().print(rows)
        typer.echo("Owed is in turns: one is one lead. A plus is owed to the rep, a minus is what they are ahead.")


@commands.command()
def away(
    email: RepName,
    until: Annotated[
        str,
        typer.Option("--until", help="The last day, such as 2026-12-24, or a time by their clock: 2026-12-24T14:00."),
    ],
    reason: Annotated[Reason, typer.Option("--reason", help="Which kind of absence.")] = Reason.OTHER,
    stack: StackName = STACK,
) -> None:
    """Give a rep no leads from now on until a day or a time. No policy that is applied changes that."""
    from fairturn_console import absences, standings

    with reporting_failures():
        store, now = deployed(stack).store(), datetime.now(UTC)
        terms, pointer = store.terms(), store.pointer()
        (rep,) = _named([email], standings.names(terms))
        noted = absences.away(terms.policy.reps[rep], until, reason, now)
        absences.forget_ended(store, pointer, now)  # before: it may be an older one of the same rep
        store.put_away(rep, noted)
    typer.echo(
        f"{email} gets no leads until {noted.until.replace('T', ' ')}, by their clock; it holds within 30 seconds."
    )
    typer.echo(f"Their open leads stay theirs. Sooner back: `fairturn reps back {email}{option(stack)}`.")


@commands.command()
def back(email: RepName, stack: StackName = STACK) -> None:
    """Give a rep leads again who was said to be away. What the policy says of their absences still holds."""
    from fairturn_console import standings

    with reporting_failures():
        store = deployed(stack).store()
        (rep,) = _named([email], standings.names(store.terms()))
        was_away = store.forget_away(rep)
    if not was_away:
        fail(f"{email} was not said to be away: if they get no leads, `fairturn reps{option(stack)}` says why")
    typer.echo(f"{email} gets leads again within 30 seconds, if they are on duty.")


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
    from fairturn_console import standings

    rows = Table(box=None, pad_edge=False)
    for name in ("rep", "load", "in HubSpot", "was off by", "contacts that differ"):
        rows.add_column(name, justify="left" if name == "rep" else "right")
    sent = 0
    with reporting_failures("What was found before that is done; the command may be repeated."), logging_to_stderr():
        counting = deployed(stack).recount(hubspot)
        terms = counting.store.terms()
        names = standings.names(terms)
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
    by_email = {email.lower(): rep for rep, email in names.items()} | {rep: rep for rep in names}
    unknown = [email for email in emails or () if email.lower() not in by_email]
    if unknown:
        fail(*(f"{email} is no rep of the policy; those are: {', '.join(sorted(names.values()))}" for email in unknown))
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
