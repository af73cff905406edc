"""How long HubSpot waits for the answer to a webhook of a hundred events. One or ten are in flight.

    .venv/bin/python -m bench.webhook      # --webhooks 100

Each in flight has a process of its own, as it has a function of its own on Lambda; here all of them share the
processors of this machine. A call to SQS is made by boto3 and takes 15 ms, but goes no further. HubSpot waits for five
seconds.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from http import HTTPStatus
from statistics import median, quantiles
from typing import TYPE_CHECKING, Any, Final
from unittest.mock import patch

import boto3
from botocore.awsrequest import AWSResponse
from botocore.config import Config

from bench.silence import silence
from bench.table import Table
from fairturn.deadline import Deadline
from fairturn.edges.queues import Queue
from fairturn.intake import Intake, Request
from fairturn_sandbox.cloud import KEYS
from fairturn_sandbox.events import SECRET, URL
from fairturn_sandbox.webhooks import EVENTS_PER_REQUEST, sign

if TYPE_CHECKING:
    from collections.abc import Sequence

SQS: Final = 0.015
"""Seconds that a call takes."""
IN_FLIGHT: Final = (1, 10)
PORTAL: Final = 62515
WARMING: Final = 3
"""Webhooks that a process takes before those that count."""
HEADROOM: Final = 5.0
"""Seconds in which HubSpot wants its answer."""


@dataclass(frozen=True, slots=True)
class Answers:
    """How webhooks were answered."""

    in_flight: int
    seconds: Sequence[float]
    calls: float
    """Calls to SQS for each."""

    @property
    def p99(self) -> float:
        """Seconds within which 99 of 100 were answered."""
        return quantiles(self.seconds, n=100, method="inclusive")[98]


class _Body:
    """The body of an answer, as botocore reads it."""

    def __init__(self, text: str) -> None:
        self._text = text.encode()

    def stream(self, **_: object) -> list[bytes]:
        return [self._text]


class Sqs:
    """Answers in SQS's place, late, and counts."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, request: Any, **_: Any) -> AWSResponse:
        self.calls += 1
        time.sleep(SQS)
        entries = json.loads(request.body)["Entries"]
        taken = [{"Id": each["Id"], "MessageId": "1", "MD5OfMessageBody": ""} for each in entries]
        body: Any = _Body(json.dumps({"Successful": taken, "Failed": []}))
        headers: Any = {"content-type": "application/x-amz-json-1.0"}
        return AWSResponse(request.url, 200, headers, body)


class _Known:
    """The secret that HubSpot signs with."""

    def webhook_secrets(self, refresh: bool = False) -> tuple[str, ...]:  # noqa: ARG002, FBT001, FBT002
        return (SECRET,)


@cache
def intake() -> tuple[Intake, Sqs]:
    """What one process has; and who answers it."""
    sqs, known = Sqs(), _Known()
    with patch.dict(os.environ, KEYS):
        client = boto3.client("sqs", config=Config(retries={"total_max_attempts": 2, "mode": "standard"}))
    client.meta.events.register("before-send.sqs", sqs)  # type: ignore[arg-type] # a handler may answer
    queue: Any = Queue(client, "https://sqs.eu-west-1.amazonaws.com/123456789012/queue")
    credentials: Any = known
    return Intake(queue, queue, queue, queue, credentials, URL, PORTAL), sqs


def webhook(first: int) -> Request:
    """New contacts, as HubSpot tells of them in one request."""
    now = int(time.time() * 1000)
    event = {"portalId": PORTAL, "occurredAt": now, "subscriptionType": "contact.creation", "changeSource": "FORM"}
    events = [event | {"eventId": n, "objectId": first + n} for n in range(EVENTS_PER_REQUEST)]
    body = json.dumps(events).encode()
    signed = sign(SECRET, "POST", URL, body, str(now))
    headers = {"x-hubspot-request-timestamp": str(now), "x-hubspot-signature-v3": signed}
    return Request("POST", headers, body)


def answer(start: float, webhooks: int) -> tuple[list[float], int]:
    """Take webhooks one after the other, from a moment of the machine's monotonic clock on. Gives the seconds that
    each took, and the calls to SQS."""
    service, sqs = intake()
    times = []
    with silence():
        for number in range(webhooks + WARMING):
            if number == WARMING:
                time.sleep(max(start - time.monotonic(), 0))
                sqs.calls = 0
            request = webhook(1 + number * EVENTS_PER_REQUEST)
            begun = time.perf_counter()
            status = service.receive(request, now_ms=int(time.time() * 1000), deadline=Deadline.after(HEADROOM))
            times.append(time.perf_counter() - begun)
            if status is not HTTPStatus.OK:
                raise RuntimeError(f"a webhook was answered with {status}")
    return times[WARMING:], sqs.calls


def measure(webhooks: int) -> list[Answers]:
    """So many webhooks in all, at each number in flight."""
    found = []
    with ProcessPoolExecutor(max(IN_FLIGHT), multiprocessing.get_context("spawn")) as pool:
        list(pool.map(answer, [time.monotonic() + 3] * max(IN_FLIGHT), [1] * max(IN_FLIGHT)))  # all start, once
        for in_flight in IN_FLIGHT:
            each, start = webhooks // in_flight, time.monotonic() + 2
            told = list(pool.map(answer, [start] * in_flight, [each] * in_flight))
            seconds = [took for times, _ in told for took in times]
            found.append(Answers(in_flight, seconds, sum(calls for _, calls in told) / len(seconds)))
    return found


def table(found: Sequence[Answers]) -> Table:
    """As it is shown."""
    return Table(
        ("in flight", "webhooks", "p50", "p99", "× one in flight", "calls to SQS for each"),
        [
            (
                str(each.in_flight),
                str(len(each.seconds)),
                f"{median(each.seconds) * 1000:.0f} ms",
                f"{each.p99 * 1000:.0f} ms",
                f"{median(each.seconds) / median(found[0].seconds):.1f}",
                f"{each.calls:.0f}",
            )
            for each in found
        ],
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--webhooks", type=int, default=300, help="at each number in flight")
    print(table(measure(parser.parse_args().webhooks)))


if __name__ == "__main__":
    main()
