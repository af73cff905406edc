"""The demo: a day in the sandbox, told, measured and checked."""

from __future__ import annotations

import random
from contextlib import contextmanager
from typing import TYPE_CHECKING

import boto3

from fairturn.edges.in_force import InForce
from fairturn.edges.store import Store
from fairturn.settings import settings
from fairturn_sandbox.books import Books
from fairturn_sandbox.cast import begins
from fairturn_sandbox.checks import checks
from fairturn_sandbox.events import KEY, SECRET, URL
from fairturn_sandbox.faults import AS_HUBSPOT_DOES
from fairturn_sandbox.portal import Portal
from fairturn_sandbox.portal_api import served
from fairturn_sandbox.report import Report
from fairturn_sandbox.sandbox import Sandbox
from fairturn_sandbox.story import Story

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from rich.console import Console

    from fairturn.rules.policy import Policy
    from fairturn_sandbox.checks import Check


def run(seed: int, leads: int, policy: Policy, log: Path, console: Console, again: str, *, lists_checks: bool) -> bool:
    """Run the day of this seed with so many leads and show it. Returns whether everything held.

    The functions' logs go to `log`; `again` is what to type for the same day once more.
    """
    console.print(f"Seed {seed}. The functions log to {log}.")
    with day(seed, leads, policy, log, lambda line: console.print(line, soft_wrap=True, markup=False)) as (books, _):
        report, checked = Report(books), checks(books)
        console.print()
        report.print(console)
    _print_checks(checked, console, lists_all=lists_checks)
    console.print(f"The same day once more: {again} (every decision is in {log})", soft_wrap=True)
    console.print(
        "Your own reps and rules: fairturn policy check my.yaml, then make demo POLICY=my.yaml", soft_wrap=True
    )
    console.print(report.last_line(), soft_wrap=True)
    return not any(check.held is False for check in checked)


def _print_checks(checked: Sequence[Check], console: Console, *, lists_all: bool) -> None:
    for check in checked:
        if lists_all or check.held is False:
            console.print(f"{check.verdict:>16}  {check.what}", soft_wrap=True, highlight=False)
    held = sum(check.held is True for check in checked)
    broken = sum(check.held is False for check in checked)
    empty = len(checked) - held - broken
    said = [f"{held} checks held"]
    said += [f"{broken} BROKEN"] if broken else []
    said += [f"{empty} had nothing to check"] if empty else []
    console.print(f"{', '.join(said)}{'' if lists_all else ' (--checks lists them)'}.", highlight=False)


@contextmanager
def day(
    seed: int, leads: int, policy: Policy, log: Path, say: Callable[[str], None]
) -> Iterator[tuple[Books, Sandbox]]:
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
        Sandbox(portal, start=begins(policy), log=logs, parameters=parameters) as sandbox,
    ):
        told = Story(portal, sandbox, policy, chance, say, leads).tell()
        logs.flush()
        store = Store(boto3.client("dynamodb"), settings().table)
        yield Books(told, store, InForce(store).current(), portal, sandbox, log), sandbox
