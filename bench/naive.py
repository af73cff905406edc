"""The naive design: each lead by itself, read, chosen and written without a condition. Ours is measured beside it.

It is what a first version looks like, written with care: one function call for each message, consistent reads, loads
that are added to and not overwritten, capacities and owners that are looked at before anything is written, our own
client of HubSpot's API. A lead that fails comes again after 30 seconds, SQS's default, and is given up after five
times; after each failure the caller pauses, as Lambda does. What it lacks is that a decision holds only if what it was
made on still stands.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, Final

from bench.stack import RUN, Queue, Stack
from fairturn.deadline import Deadline
from fairturn.edges.hubspot.client import HubSpot, OwnerWrite
from fairturn.edges.queues import Outgoing
from fairturn.errors import Unavailable
from fairturn.rules.events import CONTACT
from fairturn.rules.policy import OWNER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from mypy_boto3_dynamodb import DynamoDBClient

    from bench.stack import Neighbour
    from fairturn_sandbox.webhooks import WebhookRequest

LOADS: Final = {"pk": {"S": "LOADS"}, "sk": {"S": "LOADS"}}
MOST_PUTS: Final = 25
"""Items that DynamoDB takes in one request without conditions."""
COMES_AGAIN_AFTER: Final = 30.0
"""Seconds."""
MOST_RECEIPTS: Final = 5
AT_ONCE: Final = 10
"""Calls at once. Lambda begins with five for a queue, and makes hundreds once many messages wait."""
PAUSE: Final = 1.0
"""Seconds."""


def loads(client: DynamoDBClient, table: str) -> dict[str, int]:
    """Every rep's open leads."""
    item: Any = client.get_item(TableName=table, Key=LOADS, ConsistentRead=True).get("Item", {})
    return {name: int(value["N"]) for name, value in item.items() if "N" in value}


def give(
    client: DynamoDBClient,
    table: str,
    leads: Sequence[str],
    reps: Sequence[str],
    capacity: int | None,
    tell: Callable[[Mapping[str, str]], None],
) -> Mapping[str, str]:
    """Give each lead to whoever has fewest and has room: read, choose, tell HubSpot, write. Gives lead → rep."""
    now = loads(client, table)
    load = {rep: now.get(rep, 0) for rep in reps}
    given: dict[str, str] = {}
    for lead in leads:
        able = [rep for rep in reps if capacity is None or load[rep] < capacity]
        if able:
            given[lead] = min(able, key=load.__getitem__)
            load[given[lead]] += 1
    if not given:
        return given
    tell(given)
    puts: list[Any] = [{"PutRequest": {"Item": _record(lead, rep)}} for lead, rep in given.items()]
    for start in range(0, len(puts), MOST_PUTS):
        client.batch_write_item(RequestItems={table: puts[start : start + MOST_PUTS]})
    changes = {rep: load[rep] - now.get(rep, 0) for rep in sorted(set(given.values()))}
    client.update_item(
        TableName=table,
        Key=LOADS,
        UpdateExpression="ADD " + ", ".join(f"#r{n} :c{n}" for n in range(len(changes))),
        ExpressionAttributeNames={f"#r{n}": rep for n, rep in enumerate(changes)},
        ExpressionAttributeValues={f":c{n}": {"N": str(change)} for n, change in enumerate(changes.values())},
    )
    return given


def _record(lead: str, rep: str) -> dict[str, Any]:
    record = {"pk": f"LEAD#{CONTACT}#{lead}", "sk": "RECORD", "state": "handed", "rep": rep}
    return {name: {"S": value} for name, value in record.items()}


class Naive(Stack):
    """The design at work: a queue, and a function that is called with one lead at a time."""

    def __init__(
        self,
        portal: Neighbour,
        client: DynamoDBClient,
        table: str,
        *,
        capacity: int | None = None,
        twice: float = 0.0,
    ) -> None:
        """`twice`, 0 to 1, is how likely a message comes a second time at the same moment."""
        super().__init__(portal, client, table)
        self.queue = Queue(COMES_AGAIN_AFTER, MOST_RECEIPTS, twice)
        self._capacity = capacity

    def post(self, request: WebhookRequest) -> int:
        events = json.loads(request.body)
        self.queue.send([Outgoing(str(e["objectId"])) for e in events if e["subscriptionType"].endswith("creation")])
        return 200

    def workers(self) -> Iterator[Callable[[], None]]:
        for _ in range(AT_ONCE):
            yield self._worker(HubSpot(lambda _: self.portal.token, self.portal.url))

    def _worker(self, crm: HubSpot) -> Callable[[], None]:
        def work() -> None:
            for message in self.queue.receive(1, 0, patience=0.2):
                try:
                    self._take(crm, message.body)
                except Unavailable:  # it comes again
                    time.sleep(PAUSE)
                    continue
                self.queue.delete([message])

        return work

    def _take(self, crm: HubSpot, lead: str) -> None:
        deadline = Deadline.after(RUN)
        found = crm.read(CONTACT, [lead], [OWNER], deadline)
        if lead not in found.records or found.records[lead].get(OWNER):
            return

        def tell(given: Mapping[str, str]) -> None:
            written = crm.write_owners(CONTACT, [OwnerWrite(lead, given[lead], {})], deadline)
            for failure in written.put_off.values():
                raise failure

        give(self.client, self.table, [lead], list(self.portal.owners), self._capacity, tell)
