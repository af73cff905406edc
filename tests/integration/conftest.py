"""A table as template.yaml describes it, in moto; and no way to any host but this one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import boto3
import pytest
from moto import mock_aws
from pytest_socket import socket_allow_hosts

from fairturn.edges.store import Store
from fairturn_console.template import Template
from fairturn_sandbox.cloud import moto_without_detours

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_dynamodb import DynamoDBClient

TABLE = "fairturn"
REGION = "eu-west-1"


def pytest_runtest_setup() -> None:
    socket_allow_hosts(["127.0.0.1", "localhost", "::1"])


@pytest.fixture
def plain_aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """AWS, empty, in this process."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "none")
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    with mock_aws():
        yield


@pytest.fixture
def aws(plain_aws: None) -> Iterator[None]:  # noqa: ARG001 - it must be there first
    """The same, and as quick as in the sandbox."""
    with moto_without_detours():
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
