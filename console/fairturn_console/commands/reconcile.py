"""`fairturn reconcile`: catch up on what no webhook reported."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

import typer

from fairturn_console.terminal import (
    HUBSPOT,
    STACK,
    AsObject,
    HubSpotUrl,
    StackName,
    deployed,
    logging_to_stderr,
    progress,
    reporting_failures,
)

SENT: Final = "What was found before that has been sent; the command may be repeated."
SHOWN_IDS: Final = 5
SPAN: Final = re.compile(r"([0-9]{1,6})([mhd])")
SPANS: Final = {"m": 60, "h": 3_600, "d": 86_400}
MOST_SPAN: Final = 400 * 86_400
"""Seconds."""

commands = typer.Typer()


def _span(text: str) -> timedelta:
    found = SPAN.fullmatch(text)
    if found is None or not 0 < (span := int(found[1]) * SPANS[found[2]]) <= MOST_SPAN:
        raise typer.BadParameter("must be minutes, hours or days, such as 90m, 24h or 7d; at most 400d")
    return timedelta(seconds=span)


@commands.command()
def reconcile(
    since: Annotated[
        timedelta, typer.Option(help="How far back, such as 90m, 24h or 7d.", parser=_span, metavar="SPAN")
    ],
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Report what is missing, and change nothing.")] = False,
    as_json: AsObject = False,
    stack: StackName = STACK,
    hubspot: HubSpotUrl = HUBSPOT,
) -> None:
    """Look at all contacts that have changed in HubSpot, and catch up on what no webhook reported.

    Sweep does the same every 15 minutes with what has changed lately. Contacts that were created within that time, have
    no owner and are leads by the policy are assigned. At most 200 contacts a second are looked at.
    """
    from fairturn_console.reconcile import look_all

    begun = datetime.now(UTC)
    with (
        reporting_failures("What was found before that has been sent; the command may be repeated."),
        logging_to_stderr(),
    ):
        found = look_all(deployed(stack).reconciliation(hubspot), begun, since, dry_run=dry_run, say=progress)
    if as_json:
        strays = [{"id": message.id, "cause": cause} for message, cause in found.messages.items()]
        typer.echo(json.dumps({"contacts": found.contacts, "strays": strays, "sent": not dry_run}))
        return
    for cause in found.causes:
        ids = [message.id for message, why in found.messages.items() if why is cause]
        typer.echo(f"  {cause}: {len(ids)} ({', '.join(ids[:SHOWN_IDS])}{', ...' if len(ids) > SHOWN_IDS else ''})")
    counted = f"{len(found.messages)} strays among {found.contacts} contacts that changed since"
    sent = " They are sent to track, and done within minutes." if found.messages and not dry_run else ""
    typer.echo(f"{counted} {begun - since:%Y-%m-%d %H:%M} UTC.{sent}")
