"""`fairturn lead`: who has a lead, why, and what happened since."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer

from fairturn_console.terminal import (
    HUBSPOT,
    STACK,
    AsLines,
    HubSpotUrl,
    StackName,
    deployed,
    logging_to_stderr,
    reporting_failures,
)

commands = typer.Typer()


@commands.command()
def lead(
    who: Annotated[
        str, typer.Argument(help="The contact's id, its e-mail address, or a domain.", metavar="ID|EMAIL|DOMAIN")
    ],
    *,
    verify: Annotated[bool, typer.Option("--verify", help="Recompute the decision from its journal.")] = False,
    would: Annotated[bool, typer.Option("--would", help="Say what would be decided now; nothing is written.")] = False,
    as_json: AsLines = False,
    stack: StackName = STACK,
    hubspot: HubSpotUrl = HUBSPOT,
) -> None:
    """Tell of a lead: how it came, rule by rule, how each rep stood, what happened since, and who has it in HubSpot."""
    from fairturn_console.leads import MOST, Leads

    with reporting_failures(), logging_to_stderr():
        deployment = deployed(stack)
        leads = Leads(deployment.store(), deployment.crm(hubspot), datetime.now(UTC))
        found = leads.find(who)
        for number, contact in enumerate(found):
            told = leads.tell(contact, verify=verify, would=would)
            if as_json:
                typer.echo(json.dumps(asdict(told)))
                continue
            typer.echo("\n" * bool(number) + f"Contact {told.id}: {told.state}")
            for line in told.lines:
                typer.echo(f"  {line}")
        if len(found) == MOST and not as_json:
            typer.echo(f"There may be more: these are the first {MOST}.")
