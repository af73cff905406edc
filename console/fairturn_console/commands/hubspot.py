"""`fairturn hubspot`: the app's files, and the contact properties."""

from __future__ import annotations

import os
import re
from typing import Annotated, Final

import typer

from fairturn.deadline import Deadline
from fairturn.errors import HubSpotDenied
from fairturn_console.commands.policy import PolicyFile, read
from fairturn_console.hubspot.properties import Language
from fairturn_console.terminal import (
    APP,
    HUBSPOT,
    POLICY,
    STACK,
    HubSpotUrl,
    StackName,
    deployed,
    fail,
    logging_to_stderr,
    reporting_failures,
)

TOKEN: Final = "HUBSPOT_ACCESS_TOKEN"  # noqa: S105 - the name of a variable
PRINTABLE: Final = re.compile(r"[!-~]+")
"""What a token is made of. Anything else would make the client raise an error that shows it."""
WITHIN: Final = 60.0
"""Seconds that HubSpot is given for all properties."""
SCOPES: Final = "The token needs the scopes crm.schemas.contacts.read and crm.schemas.contacts.write."

commands = typer.Typer(no_args_is_help=True, help="HubSpot's side: the app, and the contact properties.")


@commands.command()
def app(
    path: PolicyFile = POLICY,
    stack: StackName = STACK,
) -> None:
    """Write the app's subscriptions and scopes as a policy file needs them, and a profile for the stack.

    Uploads nothing. Run it anew after the policy has changed what makes or closes a lead.
    """
    from fairturn_console.hubspot import app as files

    policy = read(path).policy
    with reporting_failures():
        deployment = deployed(stack)
        found = files.write(
            APP, policy, profile=stack, portal=deployment.portal(), webhook_url=deployment.webhook_url()
        )
    for line in found:
        typer.echo(f"The app {line}.")
    upload = f"`hs project upload --profile {stack}` in {APP}/"
    typer.echo(f"Now type {upload}." if found else f"Nothing has changed. If it is not uploaded yet, type {upload}.")


@commands.command()
def setup(
    language: Annotated[Language, typer.Option("--language", help="Of the labels and descriptions.")] = Language.EN,
    hubspot: HubSpotUrl = HUBSPOT,
) -> None:
    """Make the contact properties that say why a lead is whose, in a group of their own. What is there stays as it is.

    Takes an access token of yours from HUBSPOT_ACCESS_TOKEN, or asks for it. It is kept nowhere.
    """
    from fairturn.edges.hubspot.client import HubSpot
    from fairturn_console.hubspot import properties

    token = (os.environ.get(TOKEN) or typer.prompt("HubSpot access token", hide_input=True, err=True)).strip()
    if not PRINTABLE.fullmatch(token):
        fail("That is no access token: it has blanks, or characters that no token has.")
    with reporting_failures("What was made before that stays; the command may be repeated."), logging_to_stderr():
        crm = HubSpot(lambda _: token, hubspot)
        try:
            for made in properties.make(crm, language, Deadline.after(WITHIN)):
                typer.echo(str(made), err=made.differs)
        except HubSpotDenied as error:
            fail(f"{error}. {SCOPES}")
