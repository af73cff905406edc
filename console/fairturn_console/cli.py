"""`fairturn`: the app that all commands are in."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Final

import typer

from fairturn_console.commands import (
    audit,
    dead_letters,
    doctor,
    hubspot,
    lead,
    next_up,
    person,
    policy,
    reconcile,
    report,
    reps,
    status,
    waiting,
)

MORE: Final = "fairturn.commands"
"""The entry points, each a Typer app, of commands that the console does not know."""

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def fairturn() -> None:
    """Gives every new HubSpot lead to the right sales rep, fairly, and can prove it."""


app.add_typer(hubspot.commands, name="hubspot")
app.add_typer(policy.commands, name="policy")
app.add_typer(reps.commands, name="reps")
app.add_typer(doctor.commands)
app.add_typer(status.commands)
app.add_typer(lead.commands)
app.add_typer(next_up.commands)
app.add_typer(report.commands)
app.add_typer(waiting.commands)
app.add_typer(dead_letters.commands, name="dead-letters")
app.add_typer(reconcile.commands)
app.add_typer(audit.commands, name="audit")
app.add_typer(person.commands, name="person")
for found in entry_points(group=MORE):
    app.add_typer(found.load())
