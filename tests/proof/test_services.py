"""Several workers of each service at once, on the same leads, while owners change in HubSpot."""

from __future__ import annotations

import json
import time
from collections import deque
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import count
from random import Random
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING, Any, Final

import pytest
from moto import mock_aws

from fairturn.edges.hubspot.client import HubSpot
from fairturn.edges.queues import Incoming, Outgoing
from fairturn.edges.store import Store
from fairturn.rules.events import Kind, Message, lead_key, read_event, sort_events
from fairturn.rules.record import State
from fairturn_sandbox.cloud import REGION
from fairturn_sandbox.portal import OWNER
from fairturn_sandbox.webhooks import DEFAULT_SUBSCRIPTIONS, Webhooks
from tests.integration.audit import audit, read
from tests.integration.inbox import Graveyard
from tests.integration.world import World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from mypy_boto3_dynamodb import DynamoDBClient

    from fairturn.deadline import Deadline
    from fairturn.wiring import Services


LEADS: Final = 60
STEPS: Final = 100
ASSIGNING: Final = 3
TRACKING: Final = 2
SWEEPING: Final = 2
WITHIN: Final = 60.0
"""Seconds until every queue must be empty."""
STATUS: Final = "hs_lead_status"
CLOSED: Final = "UNQUALIFIED"


class Shared:
    """A queue that several workers take from, which brings some messages twice."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._lock = Lock()
        self._waiting: deque[Incoming] = deque()
        self._numbers = count()
        self._under_way = 0

    @property
    def is_empty(self) -> bool:
        with self._lock:
            return not self._waiting and not self._under_way

    def receive(self, most: int) -> list[Incoming]:
        with self._lock:
            batch = [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]
            self._under_way += len(batch)
            at = int(time.time() * 1000)
            return [replace(each, receipts=each.receipts + 1, first_at=each.first_at or at) for each in batch]

    def answered(self, batch: Sequence[Incoming], left: Sequence[Incoming]) -> None:
        """Let those that are left come again, and some of the others as well."""
        with self._lock:
            self._under_way -= len(batch)
            self._waiting.extend(each for each in batch if each in left or self._random.random() < 0.1)

    def send(self, messages: Sequence[Outgoing], deadline: Deadline | None = None) -> None:  # noqa: ARG002
        with self._lock:
            for letter in messages:
                id_ = f"m{next(self._numbers)}"
                self._waiting.append(Incoming(id_, id_, letter.body, 0))

    def length(self) -> int:
        with self._lock:
            return len(self._waiting) + self._under_way

    def put_back(self, delays: Sequence[tuple[Incoming, int]], deadline: Deadline | None = None) -> None:
        """Time is not told here."""

    def delete(self, received: Sequence[Incoming], deadline: Deadline | None = None) -> None:
        """`answered` knows."""


class City(World):
    """A world in which everything happens at once."""

    def __init__(self, dynamodb: DynamoDBClient, table: str, **policy: Any) -> None:
        self.random = Random(5)
        super().__init__(dynamodb, table, **policy)
        self.graveyard = Graveyard()
        leads: Any = Shared(Random(6))
        changes: Any = Shared(Random(7))
        self.leads, self.changes = leads, changes
        self.store = Store(dynamodb, table)
        self.failures: list[BaseException] = []
        self.done = Event()
        self.portal.webhooks = Webhooks(
            Random(2),
            url="https://example.com/hubspot/key",
            secret="secret",
            portal_id=self.portal.id,
            app_id=self.portal.app_id,
            subscriptions=DEFAULT_SUBSCRIPTIONS,
        )

    def services(self, *how: Any, **queues: Any) -> Services:
        """They run at the same time, so that their pauses are real ones, and no two alike."""
        return replace(super().services(*how, **queues), jitter=Random().random, sleep=time.sleep)

    def hubspot(self) -> HubSpot:
        return HubSpot(lambda _: "pat", self.portal.url, sleep=lambda _: None)

    def threads(self) -> Iterator[Thread]:
        for number in range(ASSIGNING):
            take, random = self.worker(crm=self.hubspot()).take, Random(number)
            yield self._thread(partial(self.serve, take, self.leads, random))
        for number in range(TRACKING):
            take, random = self.tracker(crm=self.hubspot()).take, Random(10 + number)
            yield self._thread(partial(self.serve, take, self.changes, random))
        for _ in range(SWEEPING):
            yield self._thread(self.sweeper(crm=self.hubspot()).run)

    def serve(self, take: Callable[[Sequence[Incoming]], list[Incoming]], queue: Any, random: Random) -> None:
        batch = queue.receive(random.randint(1, 12))
        left: Sequence[Incoming] = batch
        try:
            left = take(batch) if batch else []
        finally:
            queue.answered(batch, left)

    def _thread(self, run: Callable[[], None]) -> Thread:
        def on_and_on() -> None:
            try:
                while not self.done.is_set():
                    run()
                    time.sleep(0.002)
            except BaseException as error:  # noqa: BLE001 - the test tells it
                self.failures.append(error)
                self.done.set()

        return Thread(target=on_and_on, daemon=True)

    def hear(self) -> None:
        """Take what the portal tells; some of it twice."""

        def post(request: Any) -> int:
            events = [event for raw in json.loads(request.body) if (event := read_event(raw)) is not None]
            self.random.shuffle(events)
            again = [event for event in events if self.random.random() < 0.2]
            for part in (events, again):
                leads, changes = sort_events(part)
                self.leads.send([Outgoing(message.body()) for message in leads])
                self.changes.send([Outgoing(message.body()) for message in changes])
            return 200

        self.portal.deliver(post)

    def something_happens(self, contact: str) -> None:
        with suppress(KeyError):
            found = self.portal.contact(contact)
            if found.archived:
                self.portal.restore(found.id)
                return
            match self.random.randrange(8):
                case 0 | 1 | 2:
                    source, by = self.random.choice([("CRM_UI", None), ("AUTOMATION_PLATFORM", "workflowId:7")])
                    self.portal.change(found.id, {OWNER: self.random.choice(self.reps)}, source=source, by=by)
                case 3:
                    self.portal.change(found.id, {OWNER: ""})
                case 4:
                    self.portal.change(found.id, {STATUS: CLOSED})
                case 5:
                    self.portal.change(found.id, {STATUS: "OPEN"})
                case 6:
                    self.portal.delete(found.id)
                case _:
                    other = self.portal.contact(self.random.choice(sorted(self.portal.contacts)))
                    if other.id != found.id and not other.archived:
                        self.portal.merge(found.id, other.id)

    def come_to_rest(self, until: float) -> None:
        while time.monotonic() < until and not self.done.is_set():
            self.hear()
            if self.leads.is_empty and self.changes.is_empty and self.portal.next_delivery() is None:  # type: ignore[attr-defined]
                return
            self.later(5)
            time.sleep(0.05)
        if self.failures:
            raise self.failures[0]
        left = [each.body for queue in (self.leads, self.changes) for each in queue._waiting]  # type: ignore[attr-defined]
        raise AssertionError(f"the messages come again and again: {left}")


@pytest.fixture
def city(dynamodb: DynamoDBClient, table: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[City]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "none")
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    leads = {"closed": [{"property": STATUS, "reaches": [CLOSED]}], "cleared": "allot again"}
    with mock_aws(), City(dynamodb, table, leads=leads) as city:
        yield city


def test_all_services_at_once_lead_each_record_to_where_hubspot_ends(
    city: City, dynamodb: DynamoDBClient, table: str
) -> None:
    until = time.monotonic() + WITHIN
    threads = list(city.threads())
    for thread in threads:
        thread.start()
    contacts: list[str] = []
    try:
        for _ in range(STEPS):
            contacts += city.arrive(min(city.random.randint(0, 3), LEADS - len(contacts)))
            for contact in city.random.sample(contacts, min(3, len(contacts))):
                city.something_happens(contact)
            city.hear()
            city.later(1)
            time.sleep(0.05)
        city.come_to_rest(until)
        # What was told while something moved is told once more, as HubSpot does now and then.
        at = int(city.at.timestamp() * 1000)
        kinds = (Kind.PROPERTY_CHANGE,)
        ids = {*contacts, *city.portal.contacts}
        told = [Message(id=id_, kinds=kinds, occurred_at=at, change_source="CRM_UI") for id_ in sorted(ids)]
        city.changes.send([Outgoing(message.body()) for message in told])
        city.come_to_rest(until)
    finally:
        city.done.set()
        for thread in threads:
            thread.join(WITHIN)
    assert not city.failures
    for _ in range(2):  # what the first brings to its end, the second finds finished
        city.later(1000)
        city.sweeper().run()
    after = read(dynamodb, table, city.store)
    audit(after)
    assert after.unfinished == set()
    assert city.graveyard.letters == []
    rounds = [record.round for record in after.records.values()]
    assert max(rounds) > 1, "nothing came back: that was no race"
    for found in city.portal.contacts.values():
        record = after.records.get(lead_key("contact", found.id))
        open_ = not found.archived and found.properties.get(STATUS) != CLOSED
        owner = found.properties.get(OWNER) if open_ else None
        assert (record.holder if record is not None else None) == (owner or None)
        assert not open_ or (record is not None and record.state in {State.HANDED, State.EXTERNAL})
