"""What the sandbox spares moto changes nothing of what moto answers."""

from __future__ import annotations

import os
from contextlib import nullcontext
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import boto3
import pytest
import time_machine
from moto import mock_aws

from fairturn_sandbox.cloud import KEYS, moto_without_detours
from tests.integration.conftest import TABLE, create_table

if TYPE_CHECKING:
    from collections.abc import Iterator


START = datetime(2027, 1, 11, 9, tzinfo=UTC)


@pytest.fixture(params=[nullcontext, moto_without_detours], ids=["moto", "without detours"])
def client(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A table of nine items, four in a lane of the index; moto as it is, and as it is in the sandbox."""
    with patch.dict(os.environ, KEYS), mock_aws(), request.param():
        dynamodb = boto3.client("dynamodb")
        create_table(dynamodb)
        for number in (9, 2, 7, 1, 10, 3, 8, 5, 20):
            due = {"due_lane": {"S": "lane"}, "due": {"S": f"{99 - number}"}} if number > 7 else {}
            item: Any = {**key(number), "packed": {"B": b"\x00\xff"}, **due}
            dynamodb.put_item(TableName=TABLE, Item=item)
        yield dynamodb


def key(number: int) -> dict[str, Any]:
    return {"pk": {"S": f"LEAD#{number}"}, "sk": {"S": "RECORD"}}


def test_items_come_in_the_order_of_their_keys_and_of_the_index(client: Any) -> None:
    everything = client.scan(TableName=TABLE)["Items"]
    assert [item["pk"]["S"][5:] for item in everything] == ["1", "10", "2", "20", "3", "5", "7", "8", "9"]
    due = client.query(
        TableName=TABLE,
        IndexName="by_due",
        KeyConditionExpression="due_lane = :lane",
        ExpressionAttributeValues={":lane": {"S": "lane"}},
    )["Items"]
    assert [item["pk"]["S"][5:] for item in due] == ["20", "10", "9", "8"]


def test_values_of_every_kind_come_back_as_they_were_put(client: Any) -> None:
    item = {
        **key(0),
        "text": {"S": ""},
        "number": {"N": "-1.5"},
        "yes": {"BOOL": True},
        "nothing": {"NULL": True},
        "bytes": {"B": b"\x00\xff"},
        "texts": {"SS": ["a", "b"]},
        "list": {"L": [{"N": "1"}, {"M": {"B": {"B": b"x"}, "S": {"L": []}}}]},
    }
    client.put_item(TableName=TABLE, Item=item)
    answer = client.batch_get_item(RequestItems={TABLE: {"Keys": [key(0)]}})
    assert answer["Responses"][TABLE] == [item]
    assert client.get_item(TableName=TABLE, Key=key(0))["Item"] == item


def test_a_refused_transaction_changes_nothing(client: Any) -> None:
    change = {"UpdateExpression": "SET #n.#m = :v, packed = :p"}
    client.put_item(TableName=TABLE, Item={**key(4), "nested": {"M": {"deep": {"N": "1"}}}})
    before = client.scan(TableName=TABLE)["Items"]
    writes = [
        {
            "Update": {
                "TableName": TABLE,
                "Key": key(4),
                **change,
                "ExpressionAttributeNames": {"#n": "nested", "#m": "deep"},
                "ExpressionAttributeValues": {":v": {"N": "2"}, ":p": {"B": b"new"}},
            }
        },
        {"Put": {"TableName": TABLE, "Item": {**key(1), "packed": {"B": b"new"}}}},
        {"Put": {"TableName": TABLE, "Item": key(30)}},
        {"Delete": {"TableName": TABLE, "Key": key(2)}},
        {"Put": {"TableName": TABLE, "Item": key(3), "ConditionExpression": "attribute_not_exists(pk)"}},
    ]
    with pytest.raises(client.exceptions.TransactionCanceledException):
        client.transact_write_items(TransactItems=writes)
    assert client.scan(TableName=TABLE)["Items"] == before
    client.transact_write_items(TransactItems=writes[:-1])
    after = {item["pk"]["S"]: item for item in client.scan(TableName=TABLE)["Items"]}
    assert after["LEAD#4"]["nested"] == {"M": {"deep": {"N": "2"}}}
    assert after["LEAD#1"]["packed"] == {"B": b"new"}
    assert "LEAD#30" in after
    assert "LEAD#2" not in after


@pytest.mark.usefixtures("client")
def test_a_message_is_there_for_as_long_as_its_queue_keeps_it() -> None:
    sqs = boto3.client("sqs")
    with time_machine.travel(START, tick=False) as clock:
        url = sqs.create_queue(QueueName="short", Attributes={"MessageRetentionPeriod": "60"})["QueueUrl"]
        sqs.send_message(QueueUrl=url, MessageBody="a lead")
        clock.shift(59)
        assert len(sqs.receive_message(QueueUrl=url, VisibilityTimeout=0)["Messages"]) == 1
        clock.shift(1)
        assert "Messages" not in sqs.receive_message(QueueUrl=url, VisibilityTimeout=0)
