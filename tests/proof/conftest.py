"""DynamoDB Local, in memory, with a table for each test. `make prove` fetches it and says where it is."""

from __future__ import annotations

import itertools
import os
import socket
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from pytest_socket import socket_allow_hosts

from fairturn.edges.store import Store
from fairturn_sandbox.cloud import REGION
from tests.integration.conftest import create_table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_dynamodb import DynamoDBClient

STARTS_WITHIN: Final = 30.0
"""Seconds until DynamoDB Local must answer."""
STOPS_WITHIN: Final = 10.0

_tables = itertools.count(1)


def pytest_runtest_setup() -> None:
    socket_allow_hosts(["127.0.0.1", "localhost", "::1"])


def connect(url: str) -> DynamoDBClient:
    """A client of DynamoDB Local, which takes any credentials."""
    return boto3.client(
        "dynamodb",
        endpoint_url=url,
        region_name=REGION,
        aws_access_key_id="none",
        aws_secret_access_key="none",
        config=Config(connect_timeout=2, read_timeout=20, retries={"total_max_attempts": 1}),
    )


@contextmanager
def running(folder: Path, log: Path) -> Iterator[str]:
    """DynamoDB Local, unpacked in a folder; gives where it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    java = ["java", "-Xmx768m", "-Djava.library.path=DynamoDBLocal_lib", "-jar", "DynamoDBLocal.jar"]
    options = ["-inMemory", "-sharedDb", "-disableTelemetry", "-port", str(port)]
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - nothing in it comes from outside
            [*java, *options], cwd=folder.resolve(), stdout=output, stderr=output
        )
    try:
        address = f"http://127.0.0.1:{port}"
        _wait_for(address, process, log)
        yield address
    finally:
        process.terminate()
        try:
            process.wait(STOPS_WITHIN)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOPS_WITHIN)


@pytest.fixture(scope="session")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where DynamoDB Local answers."""
    folder = os.environ.get("DYNAMODB_LOCAL")
    if folder is None:
        pytest.exit("these tests need DynamoDB Local: run `make prove`", returncode=2)
    with running(Path(folder), tmp_path_factory.mktemp("dynamodb") / "log") as address:
        yield address


def _wait_for(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    client = connect(address)
    until = time.monotonic() + STARTS_WITHIN
    while time.monotonic() < until and process.poll() is None:
        try:
            client.list_tables()
        except (BotoCoreError, ClientError):
            time.sleep(0.1)
        else:
            return
    pytest.exit(f"DynamoDB Local does not answer: {log.read_text(errors='replace')[-500:]}", returncode=2)


@pytest.fixture(scope="session")
def dynamodb(url: str) -> DynamoDBClient:
    return connect(url)


@pytest.fixture
def table(dynamodb: DynamoDBClient) -> Iterator[str]:
    """An empty table, as the template describes it."""
    name = f"fairturn-{next(_tables)}"
    create_table(dynamodb, name)
    yield name
    dynamodb.delete_table(TableName=name)


def empty(client: DynamoDBClient, table: str) -> None:
    """Take everything out of a table."""
    pages = client.get_paginator("scan").paginate(TableName=table, ProjectionExpression="pk, sk")
    for key in (key for page in pages for key in page["Items"]):
        client.delete_item(TableName=table, Key=key)


@pytest.fixture
def store(dynamodb: DynamoDBClient, table: str) -> Store:
    return Store(dynamodb, table)
