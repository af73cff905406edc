"""A table and a stack as template.yaml describes them, in moto; and no way to any host but this one."""

from __future__ import annotations

import threading
from random import Random
from typing import TYPE_CHECKING

import boto3
import pytest
from pytest_socket import socket_allow_hosts
from werkzeug.serving import make_server

from fairturn.edges.store import Store
from fairturn_console import deployment
from fairturn_console.template import Template
from fairturn_sandbox import events
from fairturn_sandbox.cloud import Stack, aws_in_process
from fairturn_sandbox.portal import Portal
from fairturn_sandbox.portal_api import served
from tests.integration.shell import cloudformation

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


@pytest.fixture
def portal() -> Iterator[Portal]:
    portal = Portal(Random(1), token="pat", secret="s", webhook_url="https://example.com/", subscriptions=())
    with served(portal):
        yield portal


@pytest.fixture
def other_outputs() -> dict[str, str]:
    """Outputs of the stack that a test has otherwise."""
    return {}


@pytest.fixture
def deployed(
    aws: None,  # noqa: ARG001
    portal: Portal,
    other_outputs: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Stack]:
    """A stack as CloudFormation shows it to the shell, beside one that is something else."""
    stack = Stack(
        {"HubSpotPortalId": portal.id, "WebhookKey": events.KEY}, webhook_secret=events.SECRET, token=portal.token
    )
    outputs = {name: stack.resolve(each["Value"]) for name, each in stack.template.data["Outputs"].items()}
    server = make_server(
        "127.0.0.1", 0, cloudformation({"fairturn": outputs | other_outputs, "website": {}}), threaded=True
    )
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    monkeypatch.setenv("AWS_ENDPOINT_URL_CLOUDFORMATION", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("HUBSPOT_API_URL", portal.url)
    monkeypatch.setattr(deployment, "WAIT", 0)  # SQS, as moto plays it, has nothing to wait for
    yield stack
    server.shutdown()
    thread.join()
    server.server_close()
