"""The stack that is measured: the services as the functions wire them, on this machine.

The services work side by side, as many as template.yaml says. DynamoDB Local stands in for the table. HubSpot answers
as late as it is told to, and keeps to its limit. Queues are in memory and polled as Lambda polls them: what AWS itself
takes to hand a message on is left out.

All of it shares one machine, so that only ratios and counts say something.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict, deque
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from heapq import heappop, heappush
from itertools import count
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from threading import Condition, Event, Thread
from typing import TYPE_CHECKING, Any, Final
from unittest.mock import patch

from bench.silence import silence
from fairturn.deadline import Deadline
from fairturn.edges.hubspot.client import HubSpot
from fairturn.edges.queues import Incoming, Outgoing
from fairturn.edges.store import Store
from fairturn.intake import Intake, Request
from fairturn.rules.policy import OWNER
from fairturn.settings import Settings
from fairturn.wiring import Queues, Services, wired
from fairturn_console.policy import applying, reading
from fairturn_console.template import Template
from fairturn_sandbox.cloud import KEYS
from fairturn_sandbox.events import SECRET, URL
from fairturn_sandbox.faults import TEN_SECONDLY, Fault, slow
from fairturn_sandbox.portal import Portal
from fairturn_sandbox.portal_api import served
from fairturn_sandbox.story import furnish
from tests.integration.conftest import create_table
from tests.proof.conftest import connect, running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Self

    from mypy_boto3_dynamodb import DynamoDBClient

    from fairturn_sandbox.records import Contact
    from fairturn_sandbox.webhooks import WebhookRequest

ROOT: Final = Path(__file__).parents[1]
REPS: Final = tuple(f"rep{number}@example.com" for number in range(8))
ROTA: Final = "inbound"
LIMIT: Final = 150
"""Calls to HubSpot in any ten seconds that the smallest portal allows."""
TEN_SECONDS: Final = 10.0
HEARS_EVERY: Final = 0.005
"""Seconds between two looks at what HubSpot has to tell."""
RUN: Final = 30.0
"""Seconds that one run of a function may take."""

_tables = count(1)


class Queue:
    """A queue of SQS's: what was received is hidden for a while, and comes again unless it is deleted."""

    def __init__(self, hidden: float = 95.0, most: int = 100, twice: float = 0.0) -> None:
        """`hidden` for so many seconds; given up after being received `most` times; `twice`, 0 to 1, is how likely a
        message comes a second time at the same moment."""
        self.given_up: list[str] = []
        """The bodies of what was received too often."""
        self._hidden, self._most, self._twice = hidden, most, twice
        self._random, self._numbers = Random(1), count()
        self._at_hand: deque[Incoming] = deque()
        self._back: list[tuple[float, int, str]] = []
        self._away: dict[str, tuple[float, Incoming]] = {}
        """What was received and is not deleted: when it comes again, and what it is."""
        self._changed = Condition()

    def send(self, letters: Sequence[Outgoing], deadline: Deadline | None = None) -> None:  # noqa: ARG002
        """Put letters into the queue."""
        with self._changed:
            for letter in letters:
                for _ in range(1 + (self._random.random() < self._twice)):
                    name = f"m{next(self._numbers)}"
                    self._at_hand.append(Incoming(name, name, letter.body, 0))
            self._changed.notify_all()

    def receive(self, most: int, window: float, patience: float) -> list[Incoming]:
        """At most so many messages, waited for until there are so many or the window is over, which begins with the
        first. Nothing, if none comes within `patience` seconds."""
        with self._changed:
            if not self._changed.wait_for(self._is_at_hand, patience):
                return []
            self._changed.wait_for(lambda: len(self._at_hand) >= most, window)
            at = int(time.time() * 1000)
            batch: list[Incoming] = []
            while self._at_hand and len(batch) < most:
                message = self._at_hand.popleft()
                received = replace(message, receipts=message.receipts + 1, first_at=message.first_at or at)
                self._hide(received, self._hidden)
                batch.append(received)
            return batch

    def put_back(self, delays: Sequence[tuple[Incoming, int]], deadline: Deadline | None = None) -> None:  # noqa: ARG002
        """Let messages come again after so many seconds each."""
        with self._changed:
            for message, seconds in delays:
                self._hide(message, seconds)

    def delete(self, received: Sequence[Incoming], deadline: Deadline | None = None) -> None:  # noqa: ARG002
        """Take messages out for good."""
        with self._changed:
            for message in received:
                self._away.pop(message.id, None)

    @property
    def left(self) -> int:
        """Messages that are not done."""
        with self._changed:
            return len(self._at_hand) + len(self._away)

    def _hide(self, message: Incoming, seconds: float) -> None:
        until = time.monotonic() + seconds
        self._away[message.id] = (until, message)
        heappush(self._back, (until, next(self._numbers), message.id))

    def _is_at_hand(self) -> bool:
        now = time.monotonic()
        while self._back and self._back[0][0] <= now:
            until, _, name = heappop(self._back)
            if name not in self._away or self._away[name][0] != until:
                continue
            _, message = self._away.pop(name)
            if message.receipts >= self._most:
                self.given_up.append(message.body)
            else:
                self._at_hand.append(message)
        return bool(self._at_hand)


class Neighbour(Portal):
    """HubSpot: each call takes its time, and more than the limit are refused. It notes what it is asked."""

    def __init__(self, latency: float, limit: int | None = LIMIT) -> None:
        """`latency` in seconds; `limit` in calls in any ten seconds, or None."""
        super().__init__(Random(1), token="bench", secret=SECRET, webhook_url=URL)  # noqa: S106 - opens nothing
        self._late, self._limit = slow(latency), limit
        self.asked: list[float] = []
        """When each call came, refused ones included, by the monotonic clock."""
        self.refusals = 0
        self._taken: deque[float] = deque()
        self.owned: defaultdict[str, list[tuple[float, str]]] = defaultdict(list)
        """Contact → when an owner was written, by the monotonic clock, and who."""

    def fault(self) -> Fault:
        now = time.monotonic()
        self.asked.append(now)
        while self._taken and self._taken[0] <= now - TEN_SECONDS:
            self._taken.popleft()
        if self._limit is not None and len(self._taken) >= self._limit:
            self.refusals += 1
            return TEN_SECONDLY
        self._taken.append(now)
        return self._late

    def write(self, contact: Contact, properties: Mapping[str, str], source: str, *more: Any, **others: Any) -> None:
        if properties.get(OWNER):
            self.owned[contact.id].append((time.monotonic(), properties[OWNER]))
        super().write(contact, properties, source, *more, **others)

    def most_in_ten_seconds(self) -> int:
        """The most calls that came within any ten seconds."""
        return most_within(self.asked, TEN_SECONDS)


def most_within(times: Sequence[float], seconds: float) -> int:
    """How many of these times, which ascend, lie within so many seconds at most."""
    most = first = 0
    for last, at in enumerate(times):
        while times[first] <= at - seconds:
            first += 1
        most = max(most, last - first + 1)
    return most


@dataclass(frozen=True, slots=True)
class Source:
    """A queue that a function reads, as template.yaml says."""

    function: str
    queue: str
    batch: int
    window: float
    at_once: int


def sources() -> list[Source]:
    """All of them."""
    template = Template()
    names = {f"{queue}.Arn": queue for queue in template.resources("AWS::SQS::Queue")}
    found = []
    for function, properties in template.functions().items():
        for event in properties.get("Events", {}).values():
            if event["Type"] != "SQS":
                continue
            source = template.resolve(event["Properties"], {"HubSpotPortalId": 1, "WebhookKey": "none"}, names)
            window = float(source.get("MaximumBatchingWindowInSeconds", 0))
            at_once = int(source["ScalingConfig"]["MaximumConcurrency"])
            found.append(Source(function, source["Queue"], int(source["BatchSize"]), window, at_once))
    return found


class Stack:
    """What serves one portal. As a context manager, it hears and works until it is left."""

    def __init__(self, portal: Neighbour, client: DynamoDBClient, table: str) -> None:
        self.portal, self.client, self.table = portal, client, table
        self._done = Event()
        self._threads: list[Thread] = []
        self.failures: list[BaseException] = []

    def post(self, request: WebhookRequest) -> int:
        """Take a webhook; gives the status of the answer."""
        raise NotImplementedError

    def workers(self) -> Iterator[Callable[[], None]]:
        """What runs side by side, on and on."""
        raise NotImplementedError

    def is_done(self, contact: str) -> bool:
        """Whether a contact has an owner."""
        return contact in self.portal.owned

    def wait(self, contacts: Sequence[str], seconds: float) -> None:
        """Wait until all of these have an owner, so long at most."""
        until = time.monotonic() + seconds
        left = list(contacts)
        while left and time.monotonic() < until and not self._done.is_set():
            time.sleep(0.02)
            left = [contact for contact in left if not self.is_done(contact)]
        if self.failures:
            raise self.failures[0]

    def __enter__(self) -> Self:
        for work in (self._hear, *self.workers()):
            self._threads.append(Thread(target=self._on_and_on, args=(work,), daemon=True))
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join(RUN)

    def _hear(self) -> None:
        self.portal.deliver(self.post)
        time.sleep(HEARS_EVERY)

    def _on_and_on(self, work: Callable[[], None]) -> None:
        try:
            while not self._done.is_set():
                work()
        except BaseException as error:  # noqa: BLE001 - whoever waits raises it
            self.failures.append(error)
            self._done.set()


class Fairturn(Stack):
    """The product's own functions, but sweep."""

    def __init__(
        self,
        portal: Neighbour,
        client: DynamoDBClient,
        table: str,
        *,
        capacity: int | None = None,  # noqa: ARG002 - the policy has it
        twice: float = 0.0,
    ) -> None:
        """`twice`, 0 to 1, is how likely a message comes a second time at the same moment."""
        super().__init__(portal, client, table)
        self.queues = {queue: Queue(twice=twice) for queue in Template().resources("AWS::SQS::Queue")}
        self._settings = Settings(
            table=table,
            leads_queue="LeadsQueue",
            bulk_queue="BulkQueue",
            changes_queue="ChangesQueue",
            leads_dead_letters="LeadsDeadLetters",
            changes_dead_letters="ChangesDeadLetters",
            webhook_url=URL,
            webhook_secret="none",  # noqa: S106
            token_secret="none",  # noqa: S106
            portal=portal.id,
        )
        here: Any = self.queues
        known: Any = _Known()
        self._intake = Intake(
            leads=here["LeadsQueue"],
            bulk=here["BulkQueue"],
            changes=here["ChangesQueue"],
            dead_letters=here["LeadsDeadLetters"],
            credentials=known,
            webhook_url=URL,
            portal=portal.id,
        )

    def post(self, request: WebhookRequest) -> int:
        headers = {name.lower(): value for name, value in request.headers.items()}
        asked = Request(request.method, headers, request.body)
        return self._intake.receive(asked, now_ms=int(time.time() * 1000), deadline=Deadline.after(5)).value

    def workers(self) -> Iterator[Callable[[], None]]:
        for source in sources():
            for _ in range(source.at_once):
                services = self._services()
                consumer = {"LeadsQueue": services.leads, "BulkQueue": services.bulk, "ChangesQueue": services.changes}
                service = services.track if source.function == "TrackFunction" else services.assign
                yield self._worker(source, consumer[source.queue], service)

    def _services(self) -> Services:
        """What one running function has: as deployed, but for the queues and the token."""
        here: Any = self.queues
        queues = Queues(
            leads=here["LeadsQueue"],
            bulk=here["BulkQueue"],
            changes=here["ChangesQueue"],
            leads_dead_letters=here["LeadsDeadLetters"],
            changes_dead_letters=here["ChangesDeadLetters"],
        )
        return replace(wired(self._settings), crm=HubSpot(lambda _: self.portal.token, self.portal.url), queues=queues)

    def _worker(self, source: Source, consumer: Any, service: Any) -> Callable[[], None]:
        queue = self.queues[source.queue]

        def work() -> None:
            batch = queue.receive(source.batch, source.window, patience=0.2)
            left = consumer.take(batch, service.process, Deadline.after(RUN)) if batch else []
            queue.delete([message for message in batch if message not in left])

        return work


class _Known:
    """The secret that HubSpot signs with."""

    def webhook_secrets(self, refresh: bool = False) -> tuple[str, ...]:  # noqa: ARG002, FBT001, FBT002
        return (SECRET,)


@contextmanager
def dynamodb() -> Iterator[str]:
    """DynamoDB Local, as `make prove` fetches it; gives where it answers."""
    unpacked = max(ROOT.glob(".dynamodb-local/*/"), default=None)
    if unpacked is None:
        raise SystemExit("DynamoDB Local is not here: make prove")
    with TemporaryDirectory() as folder, running(unpacked, Path(folder) / "log") as url:
        yield url


@contextmanager
def account(url: str, portal: Neighbour, *, capacity: int | None = None) -> Iterator[tuple[DynamoDBClient, str]]:
    """A table in DynamoDB Local with a policy in force: eight reps in one rota, who all take every lead.

    Gives a client and the table's name. What the functions would log goes nowhere.
    """
    rules = {
        "reps": dict.fromkeys(REPS),
        "rotas": {ROTA: {"members": list(REPS), "capacity": capacity}},
        "rules": [{"name": "imported", "when": [{"source": ["IMPORT"]}], "rota": ROTA}],
        "otherwise": {"rota": ROTA},
        "flood": {"leads": 1_000_000, "minutes": 1},
    }
    policy, table = reading.read(rules), f"fairturn-{next(_tables)}"
    with ExitStack() as stack:
        stack.enter_context(silence())
        stack.enter_context(patch.dict(os.environ, {**KEYS, "AWS_ENDPOINT_URL_DYNAMODB": url}))
        client = connect(url)
        create_table(client, table)
        stack.callback(client.delete_table, TableName=table)
        stack.enter_context(served(portal))
        furnish(portal, policy)
        crm = HubSpot(lambda _: portal.token, portal.url)
        applying.apply(policy, Store(client, table), crm, int(time.time() * 1000))
        portal.asked.clear()
        yield client, table
