"""What DynamoDB counts for a write or a read: units, from the sizes of what is written or read.

A unit writes 1 KB, and an item counts as large as it was or as it becomes, whichever is more. In a transaction each
item is written twice. An index follows by itself, after the transaction: each entry that is put, changed or removed is
one more write, of the size of what the index shows. DynamoDB Local's own figures for transactions don't grow with the
items, so they are no help.

A unit reads 4 KB, or twice that where the answer may be a moment old, as an index's always may.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from fairturn_console.template import Template

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mypy_boto3_dynamodb import DynamoDBClient

Item = dict[str, dict[str, Any]]
"""An item as DynamoDB takes it: each value with its type."""

UNIT: Final = 1024
"""Bytes that one unit writes."""
READ_UNIT: Final = 4096
"""Bytes that one unit reads for certain as they are now."""
TRANSACTIONAL: Final = 2
"""Units that DynamoDB counts for one, in a transaction."""
KEY: Final = ("pk", "sk")


@dataclass(frozen=True, slots=True)
class Index:
    """An index of the table."""

    keys: tuple[str, ...]
    """What finds an entry; an item that lacks one of them has none."""
    shown: frozenset[str]
    """What else an entry has, besides its own key and the table's."""

    def entry(self, item: Item) -> Item:
        """What the index has of an item; empty if nothing."""
        if not item.keys() >= {*self.keys}:
            return {}
        return {name: value for name, value in item.items() if name in {*KEY, *self.keys, *self.shown}}

    def units(self, before: Item, after: Item) -> int:
        """What it costs to follow a write."""
        old, new = self.entry(before), self.entry(after)
        if old == new:
            return 0
        if old and new and all(old[name] == new[name] for name in self.keys):
            return units(max(size(old), size(new)))
        return sum(units(size(entry)) for entry in (old, new) if entry)


def size(item: Item) -> int:
    """The bytes that DynamoDB counts for an item."""
    return sum(len(name.encode()) + _size(value) for name, value in item.items())


def units(size: int) -> int:
    """The units that write so many bytes."""
    return -(-size // UNIT)


def units_of_write(before: Item, after: Item, indexes: Sequence[Index], *, in_transaction: bool) -> int:
    """What DynamoDB counts for writing one item: `before` is what was there, empty if nothing; `after` what is."""
    times = TRANSACTIONAL if in_transaction else 1
    return times * units(max(size(before), size(after))) + sum(index.units(before, after) for index in indexes)


def units_of_read(size: int, *, consistent: bool) -> float:
    """What DynamoDB counts for reading so many bytes, 0 for what is not there."""
    return max(-(-size // READ_UNIT), 1) * (1 if consistent else 0.5)


def indexes(template: Template | None = None) -> list[Index]:
    """The indexes of the table that the template describes."""
    table = (template or Template()).resources("AWS::DynamoDB::Table")["Table"]
    return [
        Index(
            keys=tuple(key["AttributeName"] for key in index["KeySchema"]),
            shown=frozenset(index["Projection"].get("NonKeyAttributes", ())),
        )
        for index in table["GlobalSecondaryIndexes"]
    ]


class Meter:
    """A client of DynamoDB that counts what goes through it, and in units, while nobody else writes."""

    def __init__(self, client: DynamoDBClient) -> None:
        self._client = client
        self._indexes = indexes()
        self.units = 0
        """For what was written."""
        self.read_units = 0.0
        self.requests = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def put_item(self, **request: Any) -> Any:
        return self._metered("put_item", request, [request], in_transaction=False)

    def update_item(self, **request: Any) -> Any:
        return self._metered("update_item", request, [request], in_transaction=False)

    def transact_write_items(self, **request: Any) -> Any:
        writes = [write for item in request["TransactItems"] for write in item.values()]
        return self._metered("transact_write_items", request, writes, in_transaction=True)

    def batch_get_item(self, **request: Any) -> Any:
        """An item that is not there counts, too."""
        self.requests += 1
        answer: Any = self._client.batch_get_item(**request)
        for table, wanted in request["RequestItems"].items():
            consistent = wanted.get("ConsistentRead", False)
            sizes = [size(item) for item in answer["Responses"].get(table, ())]
            sizes += [0] * (len(wanted["Keys"]) - len(sizes))
            self.read_units += sum(units_of_read(each, consistent=consistent) for each in sizes)
        return answer

    def query(self, **request: Any) -> Any:
        """All that is looked at counts, also what is not shown."""
        self.requests += 1
        looked: Any = {name: value for name, value in request.items() if name != "ProjectionExpression"}
        items: Any = self._client.query(**looked)["Items"]
        looked_at = sum(map(size, items))
        self.read_units += units_of_read(looked_at, consistent=request.get("ConsistentRead", False))
        return self._client.query(**request)

    def _metered(
        self, name: str, request: Mapping[str, Any], writes: Sequence[Mapping[str, Any]], *, in_transaction: bool
    ) -> Any:
        self.requests += 1
        before = self._items(writes)
        answer = getattr(self._client, name)(**request)
        for old, new in zip(before, self._items(writes), strict=True):
            self.units += units_of_write(old, new, self._indexes, in_transaction=in_transaction)
        return answer

    def _items(self, writes: Sequence[Mapping[str, Any]]) -> list[Item]:
        """What is there now, at most 100 items of one table; empty if nothing."""
        keys: Any = [{name: (write.get("Key") or write["Item"])[name] for name in KEY} for write in writes]
        table = writes[0]["TableName"]
        asked: Any = {table: {"Keys": keys, "ConsistentRead": True}}
        found: Any = self._client.batch_get_item(RequestItems=asked)["Responses"][table]
        items = {tuple(item[name]["S"] for name in KEY): item for item in found}
        return [items.get(tuple(key[name]["S"] for name in KEY), {}) for key in keys]


def _size(value: Mapping[str, Any]) -> int:
    ((kind, inside),) = value.items()
    match kind:
        case "S":
            return len(str(inside).encode())
        case "N":  # at most two digits in a byte, and one byte for sign and power
            number = str(inside)
            return (len(number.lstrip("-").strip("0")) + 1) // 2 + 1 + number.startswith("-")
        case "B":
            return len(bytes(inside))
        case "SS":
            return sum(len(each.encode()) for each in inside)
        case "L":
            return 3 + sum(1 + _size(each) for each in inside)
        case "M":
            return 3 + sum(1 + len(name.encode()) + _size(each) for name, each in inside.items())
    return 1
