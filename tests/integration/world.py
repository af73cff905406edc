"""Assign at work: real rules, real conditions in moto's table, and a HubSpot portal over loopback."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import TYPE_CHECKING, Any, Final

import boto3
import time_machine

from fairturn.deadline import Deadline
from fairturn.edges.hubspot.client import HubSpot
from fairturn.edges.queues import Incoming, Outgoing, Queue
from fairturn.edges.store import Store
from fairturn.rules.events import Kind, Message
from fairturn.rules.explain import PROPERTIES
from fairturn.rules.record import READS_LAG, milliseconds
from fairturn.rules.roster import Owner
from fairturn.wiring import Queues, Services
from fairturn_console.policy import reading
from fairturn_sandbox.portal import Portal
from fairturn_sandbox.portal_api import served

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Self

    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_sqs.type_defs import MessageTypeDef

    from fairturn.assign import Assign
    from fairturn.rules.record import Record
    from fairturn.steps.consumer import Consumer
    from fairturn.steps.reconcile import Reconciliation
    from fairturn.sweep import Sweep
    from fairturn.track import Track

START = datetime(2026, 11, 23, 9, tzinfo=UTC)
ROTA = "inbound"
WRITES: Final = frozenset({"TransactWriteItems", "PutItem", "UpdateItem", "DeleteItem", "BatchWriteItem"})
"""What DynamoDB calls the requests that change a table."""
CAUGHT_UP = READS_LAG / 1000 + 1
"""Seconds after which HubSpot's reads show all that has happened."""


@dataclass(frozen=True, slots=True)
class Worker:
    """A function that reads a queue: what Lambda calls with each batch."""

    consumer: Consumer
    service: Assign | Track

    def take(self, batch: Sequence[Incoming], seconds: float = 30) -> list[Incoming]:
        """Bring the messages as far as they go within so many seconds; what must stay in the queue comes back."""
        return self.consumer.take(batch, self.service.process, deadline(seconds))


@dataclass(frozen=True, slots=True)
class Sweeper:
    """The function that the clock calls."""

    service: Sweep

    def run(self, seconds: float = 50) -> None:
        self.service.run(deadline(seconds))


def deadline(seconds: float) -> Deadline:
    """So many seconds from now, by the clock of the tests."""
    end = time.time() + seconds
    return Deadline(lambda: end - time.time())


class World:
    """A portal with reps, a policy in force, and the services that assign, track and sweep."""

    def __init__(self, dynamodb: DynamoDBClient, table: str, *, reps: int = 3, **policy: Any) -> None:
        self._clock = time_machine.travel(START, tick=False)
        self.requests: Counter[str] = Counter()
        dynamodb.meta.events.register("before-call.dynamodb", self._counted)
        self.dynamodb = dynamodb
        self.portal = Portal(
            Random(1),
            token="pat",
            secret="secret",
            webhook_url="https://example.com/hubspot/key",
            subscriptions=(),
        )
        for name in PROPERTIES:
            self.portal.define_property(name)
        self.reps = [self.portal.add_owner(f"rep{number}@example.com") for number in range(1, reps + 1)]
        self.sqs = boto3.client("sqs")
        self._urls = {name: self.sqs.create_queue(QueueName=name)["QueueUrl"] for name in ("leads", "changes")}
        self.leads, self.changes = (Queue(self.sqs, url) for url in self._urls.values())
        self.dead_url = self.sqs.create_queue(QueueName="dead")["QueueUrl"]
        self.graveyard: Any = Queue(self.sqs, self.dead_url)
        self.store = Store(dynamodb, table, sleep=lambda _: None)
        self.version = 0
        self.apply(**policy)

    def __enter__(self) -> Self:
        self._traveller = self._clock.start()
        self._serving = served(self.portal)
        self._serving.__enter__()
        self.crm = HubSpot(lambda _: "pat", self.portal.url, sleep=lambda _: None)
        self.assign = self.worker()
        self.track = self.tracker()
        self.sweep = self.sweeper()
        return self

    def __exit__(self, *_: object) -> None:
        self._serving.__exit__(None, None, None)
        self._clock.stop()

    @property
    def at(self) -> datetime:
        """The time, which stands still but for `later`."""
        return datetime.now(UTC)

    def services(self, store: Store | None = None, crm: HubSpot | None = None, **queues: Any) -> Services:
        """A function newly started: nothing is warm. `queues`: leads, bulk, changes, dead_letters, if not this
        world's; without a bulk queue its messages go to leads, and assign takes both alike."""
        leads, graveyard = queues.get("leads", self.leads), queues.get("dead_letters", self.graveyard)
        return Services(
            store=store or self.store,
            crm=crm or self.crm,
            queues=Queues(
                leads=leads,
                bulk=queues.get("bulk", leads),
                changes=queues.get("changes", self.changes),
                leads_dead_letters=graveyard,
                changes_dead_letters=graveyard,
            ),
            now=lambda: self.at,
            jitter=lambda: 0.5,
            sleep=lambda _: None,
        )

    def worker(self, *how: Any, **queues: Any) -> Worker:
        """Assign in a function newly started."""
        services = self.services(*how, **queues)
        return Worker(services.leads, services.assign)

    def tracker(self, *how: Any, **queues: Any) -> Worker:
        """The same of track."""
        services = self.services(*how, **queues)
        return Worker(services.changes, services.track)

    def sweeper(self, *how: Any, **queues: Any) -> Sweeper:
        """The same of sweep."""
        return Sweeper(self.services(*how, **queues).sweep)

    def reconciliation(self) -> Reconciliation:
        return self.services().reconciliation

    def clock(self) -> float:
        return time.time()

    def apply(self, **policy: Any) -> None:
        """Put a policy into force: all reps in one rota, unless it says otherwise."""
        data: dict[str, Any] = {
            "reps": dict.fromkeys(self.reps),
            "rotas": {ROTA: {"members": self.reps}},
            "rules": [],
            "otherwise": {"rota": ROTA},
            **policy,
        }
        self.version += 1
        self.store.put_policy(self.version, reading.read(data), 1)
        owners = self.portal.owners.values()
        self.store.put_roster([Owner(owner.id, owner.email, owner.archived) for owner in owners], 1)

    def arrive(self, number: int = 1, **properties: str) -> list[str]:
        """New contacts in the portal, one second apart."""
        return [self.portal.create_contact({"email": f"lead{n}@example.com", **properties}) for n in range(number)]

    def received(
        self, ids: Iterable[str], *, receipts: int = 1, source: str = "FORM", ago: float = 1
    ) -> list[Incoming]:
        """The messages that intake would have queued about these contacts."""
        at = int((self.at - timedelta(seconds=ago)).timestamp() * 1000)
        kinds = (Kind.CREATION,)
        return self.queued(
            *(Message(id=id_, kinds=kinds, occurred_at=at, change_source=source).body() for id_ in ids),
            receipts=receipts,
        )

    def queued(self, *bodies: str, receipts: int = 1, queue: str = "leads") -> list[Incoming]:
        """Messages, as they come out of the queue."""
        url = self._urls[queue]
        Queue(self.sqs, url).send([Outgoing(body) for body in bodies])
        messages: list[MessageTypeDef] = []
        while most := min(10, len(bodies) - len(messages)):
            messages += self.sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=most)["Messages"]
        return [
            Incoming(message["MessageId"], message["ReceiptHandle"], body, receipts, milliseconds(self.at))
            for message, body in zip(messages, bodies, strict=True)
        ]

    def told(
        self,
        *ids: str,
        kind: Kind = Kind.PROPERTY_CHANGE,
        source: str = "CRM_UI",
        ago: float = 0,
        merged: Iterable[str] = (),
        echo: str | None = None,
        receipts: int = 1,
    ) -> list[Incoming]:
        """The messages that intake would have queued about changes of these contacts."""
        at = int((self.at - timedelta(seconds=ago)).timestamp() * 1000)
        told = Message(
            id="", kinds=(kind,), occurred_at=at, change_source=source, merged=tuple(sorted(merged)), echo=echo
        )
        return self.queued(*(replace(told, id=id_).body() for id_ in ids), receipts=receipts, queue="changes")

    def follow(self, *ids: str, **how: Any) -> list[Incoming]:
        """Let track take messages about these contacts until HubSpot's answers can be believed; what must stay in the
        queue comes back."""
        return self.believe(self.told(*ids, **how))

    def believe(self, told: list[Incoming]) -> list[Incoming]:
        """Let track take messages, and those that are put off once more, when HubSpot's reads have caught up."""
        left = self.track.take(told)
        if left:
            self.later(CAUGHT_UP)
            left = self.track.take(left)
        return left

    def passed_on(self, queue: str = "leads") -> list[Incoming]:
        """What was sent to a queue meanwhile, as assign or track gets it."""
        url = self._urls[queue]
        received = []
        while messages := self.sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", []):
            at = milliseconds(self.at)
            received += [Incoming(each["MessageId"], each["ReceiptHandle"], each["Body"], 1, at) for each in messages]
        Queue(self.sqs, url).delete(received)
        return received

    def take(self, ids: Iterable[str], **how: Any) -> list[Incoming]:
        """Let assign take messages about these contacts; what must stay in the queue comes back."""
        received = self.received(ids, **how)
        left = self.assign.take(received)
        self.leads.delete([each for each in received if each not in left])
        return left

    def later(self, seconds: float) -> None:
        self._traveller.shift(timedelta(seconds=seconds))

    def owner(self, contact: str) -> str | None:
        return self.portal.contact(contact).properties.get("hubspot_owner_id") or None

    def record(self, contact: str) -> Record | None:
        return self.store.records([("contact", contact)]).known.get(f"contact#{contact}")

    def states(self, ids: Iterable[str]) -> Counter[str]:
        records = [self.record(contact) for contact in ids]
        return Counter("absent" if record is None else record.state.value for record in records)

    def loads(self) -> Mapping[str, int]:
        return {rep: load for rep, load in self.store.loads().items() if load}

    def balances(self) -> Mapping[str, Mapping[str, int]]:
        return self.store.read([ROTA], []).ledgers[ROTA].balances

    def dead_letters(self) -> list[dict[str, Any]]:
        """Body and attributes of every dead letter so far."""
        answer = self.sqs.receive_message(
            QueueUrl=self.dead_url, MaxNumberOfMessages=10, MessageAttributeNames=["All"], VisibilityTimeout=0
        )
        return [
            {"body": message["Body"]}
            | {name: value["StringValue"] for name, value in message.get("MessageAttributes", {}).items()}
            for message in answer.get("Messages", [])
        ]

    def check(self, ids: Iterable[str]) -> None:
        """What must hold whenever nothing is in flight."""
        held: Counter[str] = Counter()
        for contact in ids:
            record = self.record(contact)
            if record is not None and record.holder is not None:
                held[record.holder] += 1
                assert self.owner(contact) == record.holder
        assert self.loads() == dict(held)
        assert all(sum(row.values()) == 0 for row in self.balances().values())

    def _counted(self, model: Any, **_: Any) -> None:
        self.requests[model.name] += 1
