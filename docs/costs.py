"""Writes docs/costs.md: what Fairturn costs, from counted requests and computed units.

The sandbox runs the real functions as the template wires them. What it counts is the same on every machine. How long
a function runs is not, so durations are assumed: they are constants here, and the page tells them.
`make costs` runs this; it is never deployed.
"""

from __future__ import annotations

import io
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from textwrap import dedent
from typing import TYPE_CHECKING, Any, Final
from unittest.mock import patch

import boto3

from docs import prices
from fairturn import wiring
from fairturn.edges.credentials import MAX_AGE
from fairturn.edges.hubspot.client import HubSpot
from fairturn.edges.store import MAX_RECORDS, Store
from fairturn.rules.record import milliseconds
from fairturn.settings import settings
from fairturn_console.policy import applying, reading
from fairturn_console.request_units import Meter, indexes, size
from fairturn_console.template import Template
from fairturn_sandbox.events import KEY, SECRET, URL
from fairturn_sandbox.portal import Portal
from fairturn_sandbox.portal_api import served
from fairturn_sandbox.sandbox import Sandbox
from fairturn_sandbox.story import furnish

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Self

    from docs.prices import Price

PAGE: Final = Path(__file__).with_name("costs.md")

MILLION: Final = 1_000_000
MONTH: Final = 730 * 3600
"""Seconds."""
START: Final = datetime(2027, 1, 11, 9, 0, tzinfo=UTC)
SECOND: Final = timedelta(seconds=1)
MINUTE: Final = timedelta(minutes=1)
SPACING: Final = timedelta(seconds=MONTH / MILLION)
"""Between two leads, when a million are spread over a month."""
LONE: Final = 30
BATCHES: Final = 2
QUIET_AFTER: Final = 60
"""Seconds, at most, until nothing is left to do about what has come."""

REPS: Final = 20
POLICY: Final = reading.read(
    {
        "reps": {f"rep{number}@example.com": None for number in range(REPS)},
        "rotas": {"inbound": {"members": [f"rep{number}@example.com" for number in range(REPS)]}},
        "otherwise": {"rota": "inbound"},
    }
)

# What is assumed

HUBSPOT: Final = 0.150
"""Seconds that a call to HubSpot takes; a function waits for it."""
REQUEST: Final = 0.010
"""Seconds that a request to DynamoDB, SQS or Secrets Manager takes."""
CALL: Final = 0.010
"""Seconds of work for each call of a function."""
EACH: Final = 0.002
"""Seconds of work for each event or lead."""
SLOWER: Final = 0.050
"""Seconds more for a call to HubSpot, to see what difference that makes."""
POLLERS: Final = 5
"""Lambda's pollers for each queue while nothing comes."""
POLL: Final = 20
"""Seconds that a poller waits for a message."""
TABLE_OVERHEAD: Final = 100
"""Bytes that DynamoDB adds to what it keeps, for each item and each entry of an index."""
LOG_OVERHEAD: Final = 26
"""Bytes that CloudWatch adds to each line."""
LONGER: Final = 73
"""Bytes by which names and ids in a line are longer in AWS than in the sandbox."""
ID: Final = "00000000-0000-0000-0000-000000000000"
LAMBDAS_OWN: Final = f"""\
START RequestId: {ID} Version: 12
END RequestId: {ID}
REPORT RequestId: {ID} Duration: 345.67 ms Billed Duration: 346 ms Memory Size: 1024 MB Max Memory Used: 120 MB
"""
"""What Lambda itself logs about each call."""

GOALS: Final = {"lone": 25.0, "batches": 6.0}
"""Dollars for a million leads."""


@dataclass
class Counted:
    """What was counted in a run, and how many leads came in it."""

    leads: int = 0
    requests: Counter[str] = field(default_factory=Counter)
    """What was asked of SQS and Secrets Manager."""
    posted: int = 0
    """Requests to the API."""
    invoked: int = 0
    events: int = 0
    hubspot: int = 0
    table: int = 0
    """Requests to DynamoDB."""
    writes: float = 0.0
    reads: float = 0.0
    """Units."""
    logged: int = 0
    """Bytes, with those that Lambda and API Gateway log."""
    kept: int = 0
    """Bytes in the table."""
    secrets: int = 0
    """Readings of a secret that a start costs, in all functions together."""
    metrics: frozenset[str] = frozenset()

    @property
    def sqs(self) -> int:
        return sum(number for name, number in self.requests.items() if name.startswith("sqs."))

    @property
    def seconds(self) -> float:
        """How long the functions run. What pollers do takes none of their time."""
        polled = self.requests["sqs.ReceiveMessage"] + self.requests["sqs.DeleteMessageBatch"]
        waited = self.hubspot * HUBSPOT + (self.table + self.sqs - polled) * REQUEST
        return waited + self.invoked * CALL + (self.events + self.leads) * EACH

    def since(self, before: Counted) -> Counted:
        """What came to it meanwhile; start and metrics are those of the whole run."""
        return Counted(
            leads=self.leads - before.leads,
            requests=self.requests - before.requests,
            posted=self.posted - before.posted,
            invoked=self.invoked - before.invoked,
            events=self.events - before.events,
            hubspot=self.hubspot - before.hubspot,
            table=self.table - before.table,
            writes=self.writes - before.writes,
            reads=self.reads - before.reads,
            logged=self.logged - before.logged,
            kept=self.kept - before.kept,
            secrets=before.secrets,
            metrics=self.metrics,
        )


class Run:
    """A stack in the sandbox, with a rota of 20 reps. A context manager."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._portal = Portal(Random(1), token="pat-sandbox", secret=SECRET, webhook_url=URL)  # noqa: S106 - of the sandbox
        self._log = io.StringIO()
        self._meters: list[Meter] = []
        self._leads = 0

    def __enter__(self) -> Self:
        parameters: dict[str, str | int] = {"HubSpotPortalId": self._portal.id, "WebhookKey": KEY}
        with ExitStack() as stack:
            stack.enter_context(served(self._portal))
            stack.enter_context(patch.object(wiring, "Store", self._metered))
            sandbox = Sandbox(self._portal, start=START, log=self._log, parameters=parameters)
            self._sandbox = stack.enter_context(sandbox)
            self._stack = stack.pop_all()
        furnish(self._portal, POLICY)
        crm = HubSpot(lambda _: self._portal.token, self._portal.url)
        store = Store(boto3.client("dynamodb"), settings().table)
        applying.apply(POLICY, store, crm, milliseconds(START))
        self._portal.calls.clear()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def arrive(self, leads: int) -> None:
        """New contacts come, all in one moment."""
        for _ in range(leads):
            self._leads += 1
            self._portal.create_contact({"email": f"lead{self._leads}@example.net"})

    def go_on(self, until: datetime) -> int:
        """Let HubSpot, the API and the pollers do their work; returns how many messages are left."""
        while True:
            self._portal.deliver(self._sandbox.post)
            left = self._sandbox.poll()
            if self._sandbox.now >= until:
                return left
            self._sandbox.travel(min(self._sandbox.now + SECOND, until))

    def settle(self) -> None:
        """Go on until nothing is left to do. Raises TimeoutError."""
        for _ in range(QUIET_AFTER):
            if self.go_on(self._sandbox.now + SECOND) == 0 and self._portal.next_delivery() is None:
                return
        raise TimeoutError(f"something is left to do after {QUIET_AFTER} seconds")

    def sweep(self) -> None:
        """A minute passes, and sweep runs."""
        self.go_on(self._sandbox.now + MINUTE)
        self._sandbox.tick()

    @property
    def now(self) -> datetime:
        return self._sandbox.now

    def counted(self) -> Counted:
        """What was counted so far."""
        secrets = self._sandbox.requests["secretsmanager.GetSecretValue"]
        requests = Counter({name: number for name, number in self._sandbox.requests.items() if name.startswith("sqs.")})
        metrics = self._sandbox.metrics
        end = self._sandbox.now.timestamp() + 1
        sums: Counter[str] = Counter()
        for series in metrics.series():
            sums[series.name] += int(metrics.statistic(series, "Sum", 0, end) or 0)
        return Counted(
            leads=self._leads,
            requests=requests,
            posted=sums["Count"],
            invoked=sums["Invocations"],
            events=sums["EventsReceived"],
            hubspot=self._portal.calls.total(),
            table=sum(meter.requests for meter in self._meters),
            writes=sum(meter.units for meter in self._meters),
            reads=sum(meter.read_units for meter in self._meters),
            logged=self._logged(sums["Invocations"], sums["Count"]),
            kept=self._kept(),
            secrets=secrets,
            metrics=frozenset(
                f"{series.name} {sorted(series.dimensions)}"
                for series in metrics.series()
                if series.namespace == "Fairturn"
            ),
        )

    def _logged(self, invoked: int, posted: int) -> int:
        lines = self._log.getvalue().splitlines(keepends=True)
        bytes_ = sum(len(line.encode()) + LOG_OVERHEAD + LONGER * ("function_request_id" in line) for line in lines)
        bytes_ += invoked * sum(len(line) + LOG_OVERHEAD for line in LAMBDAS_OWN.splitlines(keepends=True))
        (stage,) = Template().resources("AWS::ApiGatewayV2::Stage").values()
        # Its names are about as long as what stands there in a line.
        return bytes_ + posted * (len(stage["AccessLogSettings"]["Format"]) + LOG_OVERHEAD)

    def _kept(self) -> int:
        pages = boto3.client("dynamodb").get_paginator("scan").paginate(TableName=settings().table)
        items: list[Any] = [item for page in pages for item in page["Items"]]
        entries = [entry for item in items for index in indexes() if (entry := index.entry(item))]
        return sum(size(item) + TABLE_OVERHEAD for item in (*items, *entries))

    def _metered(self, client: Any, table: str, **options: Any) -> Store:
        meter = Meter(client)
        self._meters.append(meter)
        counting: Any = meter
        return Store(counting, table, **options)


def lone() -> Counted:
    """Leads that come one by one, each when the last one has its owner."""
    with Run() as run:
        run.arrive(1)
        run.settle()
        before = run.counted()
        for _ in range(LONE):
            next_one = run.now + SPACING
            run.arrive(1)
            run.go_on(next_one)
        run.settle()
        return run.counted().since(before)


def batches() -> Counted:
    """Leads that come 97 at a time."""
    with Run() as run:
        run.arrive(MAX_RECORDS)
        run.settle()
        before = run.counted()
        for _ in range(BATCHES):
            next_one = run.now + SPACING * MAX_RECORDS
            run.arrive(MAX_RECORDS)
            run.go_on(next_one)
        run.settle()
        return run.counted().since(before)


def idle() -> Counted:
    """An hour in which nothing comes."""
    with Run() as run:
        run.sweep()
        before = run.counted()
        for _ in range(60):
            run.sweep()
        return run.counted().since(before)


# What that costs


@dataclass(frozen=True, slots=True)
class Line:
    """One part of a bill."""

    part: str
    units: float
    price: Price

    @property
    def dollars(self) -> float:
        return self.price.of_units(self.units)


GB: Final = 10**9
"""Bytes. Where AWS counts 1024³ for one, it costs a little less."""


def memory() -> float:
    """GB of memory of each function. Raises ValueError if they differ."""
    (megabytes,) = {properties["MemorySize"] for properties in Template().functions().values()}
    return float(megabytes) / 1024


def for_a_million(counted: Counted, at_rest: Counted) -> list[Line]:
    """The bill for a million leads within a month, without what an idle stack costs."""
    times = MILLION / counted.leads
    readings = counted.secrets * MONTH / MAX_AGE
    return [
        Line("API Gateway: requests", counted.posted * times, prices.HTTP_API),
        Line("Lambda: calls", counted.invoked * times, prices.INVOCATIONS),
        Line("Lambda: GB-seconds", counted.seconds * memory() * times, prices.GB_SECONDS),
        Line("SQS: requests", counted.sqs * times, prices.SQS),
        Line("DynamoDB: write units", counted.writes * times, prices.WRITE_UNITS),
        Line("DynamoDB: read units", counted.reads * times, prices.READ_UNITS),
        Line("Secrets Manager: calls", readings, prices.SECRET_CALLS),
        Line("CloudWatch: GB of logs", counted.logged * times / GB, prices.LOGS),
        Line("CloudWatch: metrics that only leads make", len(counted.metrics - at_rest.metrics), prices.METRICS),
    ]


def for_a_month(at_rest: Counted) -> list[Line]:
    """The bill of a month in which nothing comes."""
    template, hours = Template(), MONTH / 3600
    parameters: dict[str, str | int] = {"HubSpotPortalId": "1", "WebhookKey": KEY}
    alarms = [name for name in template.resources("AWS::CloudWatch::Alarm") if template.is_made(name, parameters, {})]
    polled = [event for each in template.functions().values() for event in _events(each, "SQS")]
    return [
        Line("EventBridge: starts of sweep", at_rest.invoked * hours, prices.SCHEDULED),
        Line("Lambda: calls", at_rest.invoked * hours, prices.INVOCATIONS),
        Line("Lambda: GB-seconds", at_rest.seconds * memory() * hours, prices.GB_SECONDS),
        Line("SQS: requests of idle pollers", len(polled) * POLLERS * MONTH / POLL, prices.SQS),
        Line("SQS: other requests", at_rest.sqs * hours, prices.SQS),
        Line("DynamoDB: write units", at_rest.writes * hours, prices.WRITE_UNITS),
        Line("DynamoDB: read units", at_rest.reads * hours, prices.READ_UNITS),
        Line("Secrets Manager: secrets", len(template.resources("AWS::SecretsManager::Secret")), prices.SECRETS),
        Line("Secrets Manager: calls", at_rest.secrets * MONTH / MAX_AGE, prices.SECRET_CALLS),
        Line("CloudWatch: GB of logs", at_rest.logged * hours / GB, prices.LOGS),
        Line("CloudWatch: metrics", len(at_rest.metrics), prices.METRICS),
        Line("CloudWatch: alarms", len(alarms), prices.ALARMS),
        Line("CloudWatch: dashboards", len(template.resources("AWS::CloudWatch::Dashboard")), prices.DASHBOARDS),
    ]


def if_asked_for(one_by_one: Counted, at_rest: Counted) -> Iterator[tuple[str, float]]:
    """What parameters add that are off as the template is delivered; each with its dollars."""
    traces = one_by_one.invoked / one_by_one.leads * MILLION
    yield "`Tracing`, for a million lone leads, if each call is traced", prices.TRACES.of_units(traces)
    yield "`Tracing`, for a month of sweep", prices.TRACES.of_units(at_rest.invoked * MONTH / 3600)
    snapshots = sum("SnapStart" in properties for properties in Template().functions().values())
    kept = prices.SNAPSHOT_KEPT.of_units(snapshots * memory() * MONTH)
    yield f"`SnapStart`, for a month of {snapshots} snapshots", kept
    yield "`SnapStart`, for 1,000 starts", prices.SNAPSHOT_RESTORED.of_units(memory() * 1000)


def _events(properties: Any, kind: str) -> list[Any]:
    return [event for event in properties.get("Events", {}).values() if event["Type"] == kind]


# The page


def page() -> str:
    """The page, from a new count."""
    at_rest, one_by_one, at_once = idle(), lone(), batches()
    lone_bill, batch_bill = for_a_million(one_by_one, at_rest), for_a_million(at_once, at_rest)
    month = for_a_month(at_rest)
    rows = [
        [one.part, _for_a_lead(one), _dollars(one), _for_a_lead(many), _dollars(many)]
        for one, many in zip(lone_bill, batch_bill, strict=True)
    ]
    slower = prices.GB_SECONDS.of_units(SLOWER * one_by_one.hubspot / one_by_one.leads * memory() * MILLION)
    parts = (
        f"""
        # What it costs

        <!-- Written by docs/costs.py: change that, then run `make costs`. -->

        A million leads in a month cost **{_total(lone_bill):.2f} $** if they come one by one, and
        **{_total(batch_bill):.2f} $** in full batches, on top of **{_total(month):.2f} $** for a month in which nothing
        comes.

        These are US dollars, at the [prices](#prices) of {prices.REGION}, without free tiers. The requests were counted
        in the sandbox, which runs the functions as template.yaml wires them. Units of DynamoDB are computed from the
        items, and bytes of logs from the lines that were logged. How long a function runs is
        [assumed](#what-is-assumed). HubSpot's own price is not in here, nor is the traffic to HubSpot.

        ## A million leads in a month

        *One by one*: one every {SPACING.total_seconds():.1f} seconds, each a batch of its own. *In full batches*:
        {MAX_RECORDS} at once, as an import or a campaign brings them. All go to one rota of {REPS} reps.
        """,
        _table(
            ["", "for a lead", "$ a million, one by one", "for a lead", "$ a million, in batches"],
            [*rows, ["**all**", "", f"**{_total(lone_bill):.2f}**", "", f"**{_total(batch_bill):.2f}**"]],
        ),
        f"""
        {judged("one by one", lone_bill, GOALS["lone"])}
        {judged("in full batches", batch_bill, GOALS["batches"])}
        If HubSpot takes {SLOWER * 1000:.0f} ms longer for a call, a million leads that come one by one cost
        {slower:.2f} $ more.

        {_kept_for_longer(one_by_one)}

        A rota of many reps and lanes writes more: `fairturn policy check` tells the write units of a claim for each.

        ## A month in which nothing comes

        Sweep runs every minute all the same, and Lambda's pollers ask the queues. Its audit, once a day, is not in
        here: what that reads grows with what the table keeps.
        """,
        _table(
            ["", "in a month", "$"],
            [
                *([line.part, _in_a_month(line), _dollars(line)] for line in month),
                ["**all**", "", f"**{_total(month):.2f}**"],
            ],
        ),
        """
        Of that, an account with nothing else in CloudWatch gets free of charge the dashboard, 10 alarms, the metrics
        and the logs.

        ## What is off unless a parameter asks for it
        """,
        _table(["", "$"], [[what, f"{cost:.2f}"] for what, cost in if_asked_for(one_by_one, at_rest)]),
        """
        ## What is assumed
        """,
        _table(["", ""], _assumed()),
        f"""
        ## Prices

        Those of {prices.REGION}, looked up on {prices.LOOKED_UP}. AWS's pages show most prices in a browser only.
        So they were looked up in stored copies of these pages, or of others that quote them, written at the time that
        is given. What none of these showed is marked.
        """,
        _table(
            ["$", "for", "page of AWS", "seen in"],
            [[_exactly(price.dollars), _per(price), price.page, _seen(price)] for price in prices.ALL],
        ),
    )
    return "\n\n".join(dedent(part).strip() for part in parts) + "\n"


def _total(lines: Iterable[Line]) -> float:
    return sum(line.dollars for line in lines)


def judged(how: str, bill: Sequence[Line], goal: float) -> str:
    """Whether a goal is reached; if not, by how much it is missed, and what costs most."""
    total = _total(bill)
    if total <= goal:
        return f"The goal of at most {goal:.0f} $ {how} is reached, with {goal - total:.2f} $ to spare."
    dearest = max(bill, key=lambda line: line.dollars)
    why = f"most goes for {dearest.part} ({dearest.dollars:.2f} $)"
    return f"The goal of at most {goal:.0f} $ {how} is missed by {total - goal:.2f} $: {why}."


def _kept_for_longer(counted: Counted) -> str:
    gigabytes = counted.kept / counted.leads * MILLION / GB
    logs = counted.logged / counted.leads * MILLION / GB
    table = prices.TABLE.of_units(gigabytes) + prices.BACKUP.of_units(gigabytes)
    return (
        f"What a million leads leave in the table ({gigabytes:.1f} GB) costs {table:.1f} $ for each month that it "
        f"stays, with its backup,\n        and their logs at most {prices.LOGS_KEPT.of_units(logs):.1f} $."
    )


def _assumed() -> list[list[str]]:
    return [
        ["A call to HubSpot, which the function waits for", f"{HUBSPOT * 1000:.0f} ms"],
        ["A request to DynamoDB, SQS or Secrets Manager, one after the other", f"{REQUEST * 1000:.0f} ms"],
        ["Work for each call of a function", f"{CALL * 1000:.0f} ms"],
        ["Work for each event and each lead", f"{EACH * 1000:.0f} ms"],
        ["Memory of each function, by template.yaml", f"{memory():g} GB"],
        ["Cold starts", "too few to count"],
        ["Pollers of a queue to which nothing comes", f"{POLLERS}, which wait {POLL} seconds each"],
        ["A secret is read again, by each function that needs it and is warm all month", f"every {MAX_AGE} seconds"],
        ["What Lambda and API Gateway log themselves", "three lines a call, one line a request"],
        ["A GB", f"{GB:,} bytes"],
        ["A month", f"{MONTH // 3600} hours"],
    ]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))


def _for_a_lead(line: Line) -> str:
    """How much of it a lead takes; of what goes by time, how much a month takes."""
    if line.price in {prices.METRICS, prices.SECRET_CALLS}:
        return f"{line.units:,.0f} a month"
    if line.price is prices.LOGS:
        return f"{line.units * GB / MILLION / 1000:.2f} KB"
    each = line.units / MILLION
    return f"{each:.3f}" if each < 0.1 else f"{each:.2f}".removesuffix(".00")


def _in_a_month(line: Line) -> str:
    return f"{line.units:,.0f}" if line.units >= 1 else f"{line.units:.2f}"


def _dollars(line: Line) -> str:
    return f"{line.dollars:.2f}" if line.dollars >= 0.005 or line.dollars == 0 else f"{line.dollars:.3f}"


def _exactly(dollars: float) -> str:
    return f"{dollars:.10f}".rstrip("0").ljust(4, "0")


def _per(price: Price) -> str:
    return f"{price.per:,.0f} {price.unit}" if price.per != 1 else f"1 {price.unit}"


def _seen(price: Price) -> str:
    seen = f"**{price.seen}**" if price.seen == prices.BY_NOBODY else price.seen
    return f"{seen}, {price.of}" if price.of else seen


if __name__ == "__main__":
    PAGE.write_text(page())
