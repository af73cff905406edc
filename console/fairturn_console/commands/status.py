"""`fairturn status`: how things stand, on one screen."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import typer

from fairturn_console.terminal import STACK, AsObject, StackName, deployed, reporting_failures

if TYPE_CHECKING:
    from fairturn_console.deployment import Deployment

commands = typer.Typer()


@commands.command()
def status(*, as_json: AsObject = False, stack: StackName = STACK) -> None:
    """Say on one screen who is there, what waits, what was given up, and under which policy."""
    with reporting_failures():
        found = _status(deployed(stack))
    if as_json:
        typer.echo(json.dumps(found))
        return
    policy, letters = found["policy"], found["deadLetters"]
    typer.echo(f"Policy version {policy['version']}, mode {policy['mode']}.")
    for name, team in found["teams"].items():
        gap = f"nobody further than {team['largestGap']:.2f} turns from their fair share"
        typer.echo(f"{name}: {team['onDuty']} of {team['reps']} on duty, {gap}.")
    for kind, number in found["waiting"].items():
        typer.echo(f"{number} leads: {kind}.")
    if not found["waiting"]:
        typer.echo("Nothing waits.")
    typer.echo(f"Dead letters: {letters}{'; `fairturn dead-letters` says why' if letters else ''}.")
    typer.echo("`fairturn doctor` checks that everything works, `fairturn next` says who is next.")


def _status(deployment: Deployment) -> dict[str, Any]:
    from fairturn_console import standings, waiting
    from fairturn_console.doctor import DEAD_LETTERS

    store = deployment.store()
    terms = store.terms()
    snapshot = standings.read(store, terms)
    rows = list(standings.standings(terms, snapshot, datetime.now(UTC)))
    reps, on_duty, waits = Counter[str](), Counter[str](), Counter[str]()
    gaps: dict[str, float] = {}
    for row in rows:
        reps[row.team] += 1
        on_duty[row.team] += row.on_duty
        gaps[row.team] = max(gaps.get(row.team, 0.0), abs(row.owed))
    for kind in waiting.waiting(store, 1):
        waits[waiting.name(kind.lane, terms.policy)] += kind.leads
    return {
        "policy": {"version": terms.number, "mode": terms.policy.mode.value},
        "teams": {
            team: {
                "reps": number,
                "onDuty": on_duty[team],
                "largestGap": gaps[team],
            }
            for team, number in reps.items()
        },
        "waiting": dict(waits),
        "deadLetters": sum(deployment.length(output) for output in DEAD_LETTERS),
    }
