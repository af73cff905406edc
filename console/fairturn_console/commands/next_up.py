"""`fairturn next`: who gets the next lead, and why."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer

from fairturn_console.terminal import STACK, AsLines, StackName, deployed, fail, reporting_failures

commands = typer.Typer()


@commands.command(name="next")
def next_up(
    team: Annotated[str, typer.Argument(help="A team; without it, all of them.")] = "",
    *,
    as_json: AsLines = False,
    stack: StackName = STACK,
) -> None:
    """Say who gets the next lead of each kind in each team, and why, if it comes now."""
    from fairturn_console import standings

    with reporting_failures():
        store = deployed(stack).store()
        terms = store.terms()
        names, rotas = standings.names(terms), {terms.policy.team(rota): rota for rota in terms.policy.teams()}
        if team and team not in rotas:
            fail(f"{team} is no team of the policy; those are: {', '.join(sorted(rotas))}")
        snapshot, now = standings.read(store, terms), datetime.now(UTC)
        for rota in [rotas[team]] if team else rotas.values():
            for each in standings.next_ones(terms, snapshot, now, rota):
                following = ["nobody" if rep is None else names[rep] for rep in each.following]
                if as_json:
                    typer.echo(json.dumps({**asdict(each), "following": following}))
                    continue
                typer.echo(f"{each.team}, a lead that asks for {each.asked}: {following[0]}")
                typer.echo(f"  {each.why}")
                if each.following[0] is not None:
                    typer.echo(f"  Then: {', '.join(following[1:])}.")
