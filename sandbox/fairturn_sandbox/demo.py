"""The demo: a day in the sandbox, told, measured and checked."""

from __future__ import annotations

import random
from contextlib import contextmanager
from typing import TYPE_CHECKING

import boto3

from fairturn.edges.in_force import InForce
from fairturn.edges.store import Store
from fairturn.settings import settings
from fairturn_sandbox.events import KEY, SECRET, URL
from fairturn_sandbox.faults import AS_HUBSPOT_DOES
from fairturn_sandbox.portal import Portal
from fairturn_sandbox.portal_api import served
from fairturn_sandbox.report import Report
from fairturn_sandbox.sandbox import Sandbox
from fairturn_sandbox.story import START, Story

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from rich.console import Console

    from fairturn.rules.policy import Policy


def run(seed: int, leads: int, policy: Policy, log: Path, console: Console) -> bool:
    """Run the day of this seed with so many leads and show it. Returns whether everything held.

    The functions' logs go to `log`.
    """
    console.print(f"Seed {seed}. The functions log to {log}.")
    with day(seed, leads, policy, log, console.print) as (report, _):
        report.print(console)
        checks = report.checks()
    console.print()
    for check in checks:
        console.print(f"{'held' if check.held else 'BROKEN':>6}  {check.what}")
    console.print()
    console.print("What to try next: change policy.yaml and run it again (fairturn policy check tells what is wrong);")
    console.print(f"make demo SEED={seed} LEADS={leads} repeats this day; {log} has every decision.")
    console.print(report.last_line())
    return all(check.held for check in checks)


@contextmanager
def day(
    seed: int, leads: int, policy: Policy, log: Path, say: Callable[[str], None]
) -> Iterator[tuple[Report, Sandbox]]:
    """Let the day of this seed happen. Gives its books, and the sandbox at its end."""
    # Both jitter and the portal's chance follow the seed.
    random.seed(seed)
    chance = random.Random(seed)
    portal = Portal(chance, token="pat-sandbox", secret=SECRET, webhook_url=URL)  # noqa: S106 - of the sandbox
    portal.lies = AS_HUBSPOT_DOES
    parameters: dict[str, str | int] = {"HubSpotPortalId": portal.id, "WebhookKey": KEY}
    with (
        log.open("w", encoding="utf-8") as logs,
        served(portal),
        Sandbox(portal, start=START, log=logs, parameters=parameters) as sandbox,
    ):
        story = Story(portal, sandbox, policy, chance, say, leads).tell()
        store = Store(boto3.client("dynamodb"), settings().table)
        yield Report(story, store, InForce(store).current(), portal, sandbox), sandbox
