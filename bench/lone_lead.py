"""How long a lone lead takes from HubSpot's webhook until it has its owner, and what it costs.

    .venv/bin/python -m bench.lone_lead      # --leads 50

The functions run in this process, as the sandbox wires them, with moto in the place of AWS: what AWS itself takes to
hand a message on is left out. HubSpot answers at once, or after 150 ms each time; two calls can't be avoided, as the
lead has to be read and its owner written. Only the ratio to that counts, not the machine.
"""

from __future__ import annotations

import argparse
import io
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from statistics import median, quantiles
from typing import TYPE_CHECKING, Any, Final

import boto3

from bench.table import Table
from fairturn.edges.hubspot.client import HubSpot
from fairturn.edges.store import Store
from fairturn.rules.policy import OWNER
from fairturn.rules.record import milliseconds
from fairturn.settings import settings
from fairturn_console.policy import applying, file
from fairturn_console.template import PATH
from fairturn_console.terminal import POLICY
from fairturn_sandbox import events
from fairturn_sandbox.faults import slow
from fairturn_sandbox.portal import Portal
from fairturn_sandbox.portal_api import served
from fairturn_sandbox.sandbox import Sandbox
from fairturn_sandbox.story import furnish

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

START: Final = datetime(2027, 1, 11, 15, tzinfo=UTC)
"""A Monday on which somebody is on duty in every rota of the example."""
LATENCIES: Final = (0.0, 0.15)
"""Seconds until HubSpot answers a call."""
UNAVOIDABLE: Final = 2
"""Calls to HubSpot: to read the lead, and to write its owner."""
LEADS: Final = 30
"""At each latency."""
WARM_AFTER: Final = 5
"""Leads that are not counted."""
PAUSE: Final = timedelta(seconds=30)
"""Between two leads: so that all that follows the first is over before the next."""


@dataclass(frozen=True, slots=True)
class Way:
    """One lead's way."""

    seconds: float
    """Real ones, from the webhook until HubSpot has the owner."""
    calls: Counter[str]
    """Requests to HubSpot and AWS, with all that follows the assignment."""


@contextmanager
def opened() -> Iterator[Sandbox]:
    """A sandbox with the policy of the example in force."""
    policy = file.load(PATH.parent / POLICY)
    portal = Portal(Random(1), token="bench", secret=events.SECRET, webhook_url=events.URL)  # noqa: S106 - opens nothing
    given: dict[str, Any] = {"HubSpotPortalId": portal.id, "WebhookKey": events.KEY}
    with served(portal), Sandbox(portal, start=START, log=io.StringIO(), parameters=given) as sandbox:
        furnish(portal, policy)
        crm = HubSpot(lambda _: portal.token, portal.url)
        applying.apply(policy, Store(boto3.client("dynamodb"), settings().table), crm, milliseconds(START))
        yield sandbox


def ways(sandbox: Sandbox, leads: int, latency: float) -> list[Way]:
    """Let so many leads come, each for itself."""
    calls: Counter[str] = Counter()

    def noted(model: Any, **_: Any) -> None:
        calls[model.service_model.service_name] += 1

    session: Any = boto3.DEFAULT_SESSION
    session.events.register("before-call", noted)
    portal = sandbox.portal
    for function in sandbox.functions.values():
        function.deploy()  # its clients are made anew, in the session that counts
    portal.usual_faults, portal.fault_rate = (slow(latency),), float(latency > 0)
    found = []
    for number in range(leads + WARM_AFTER):
        before = sum(portal.calls.values())
        calls.clear()
        lead = portal.create_contact({"email": f"lead{number}@example.net", "country": "United States"})
        sandbox.travel(sandbox.now + timedelta(seconds=1))
        begin = time.perf_counter()
        portal.deliver(sandbox.post)
        sandbox.poll()
        seconds = time.perf_counter() - begin
        if not portal.contact(lead).properties.get(OWNER):
            raise RuntimeError(f"lead {number} got no owner at once")
        follow(sandbox)
        calls["hubspot"] = sum(portal.calls.values()) - before
        found.append(Way(seconds, calls.copy()))
    return found[WARM_AFTER:]


def follow(sandbox: Sandbox) -> None:
    """Let all that HubSpot tells of the assignment be worked on."""
    for _ in range(int(PAUSE.total_seconds()) // 2):
        sandbox.travel(sandbox.now + timedelta(seconds=2))
        sandbox.portal.deliver(sandbox.post)
        sandbox.poll()


def measure(leads: int) -> dict[float, list[Way]]:
    """The ways of so many leads at each latency."""
    measured = {}
    for latency in LATENCIES:
        with opened() as sandbox:
            measured[latency] = ways(sandbox, leads, latency)
    return measured


def table(measured: Mapping[float, Sequence[Way]]) -> Table:
    """As it is shown."""
    rows = []
    for latency, found in measured.items():
        seconds = [way.seconds for way in found]
        half, most = median(seconds), quantiles(seconds, n=10, method="inclusive")[8]
        least = UNAVOIDABLE * latency
        usual = {name: median(way.calls[name] for way in found) for name in ("hubspot", "dynamodb", "sqs")}
        rows.append(
            [
                *(f"{each * 1000:.0f} ms" for each in (latency, half, most, least, half - least)),
                *(f"{usual[name]:.0f}" for name in ("hubspot", "dynamodb", "sqs")),
            ]
        )
    times = ("HubSpot answers after", "p50", "p90", "unavoidable", "p50, without that")
    return Table((*times, "calls to HubSpot", "to DynamoDB", "to SQS"), rows)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--leads", type=int, default=LEADS, help="leads at each latency, 2 to 1,000")
    print(table(measure(min(max(parser.parse_args().leads, 2), 1_000))))


if __name__ == "__main__":
    main()
