"""A table as template.yaml describes it, in moto; and no way to any host but this one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import boto3
import pytest
from pytest_socket import socket_allow_hosts

from fairturn.edges.store import Store
from fairturn_console.template import Template
from fairturn_sandbox.cloud import aws_in_process

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_dynamodb import DynamoDBClient

TABLE = "fairturn"


def pytest_runtest_setup() -> None:
    socket_allow_hosts(["127.0.0.1", "localhost", "::1"])


@pytest.fixture
def aws() -> Iterator[None]:
    """AWS, empty, in this process."""
    with aws_in_process():
        yield


@pytest.fixture
def dynamodb(aws: None) -> DynamoDBClient:  # noqa: ARG001 - it must be there first
    client = boto3.client("dynamodb")
    create_table(client)
    return client


@pytest.fixture
def store(dynamodb: DynamoDBClient) -> Store:
    return Store(dynamodb, TABLE, sleep=lambda _: None)


def create_table(client: DynamoDBClient, name: str = TABLE) -> None:
    """Make the table from what the template deploys, so that keys and indexes cannot drift apart."""
    properties = Template().resources("AWS::DynamoDB::Table")["Table"]
    wanted = ("AttributeDefinitions", "KeySchema", "BillingMode", "GlobalSecondaryIndexes")
    client.create_table(TableName=name, **{each: properties[each] for each in wanted})
