"""AWS on this machine, with what template.yaml describes in it. DynamoDB, SQS and Secrets Manager are moto's."""

from __future__ import annotations

import copy
import json
import logging
import os
from collections import defaultdict
from contextlib import contextmanager
from functools import cache
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final
from unittest.mock import patch

import boto3
import urllib3
from botocore.loaders import create_loader
from botocore.session import get_session
from moto import mock_aws
from moto.core import responses as moto_responses
from moto.core.serialize import BaseJSONSerializer
from moto.core.utils import camelcase_to_underscores, method_names_from_class, unix_time_millis
from moto.dynamodb import models as dynamodb_models
from moto.dynamodb.models import DynamoDBBackend
from moto.dynamodb.models.dynamo_type import DynamoType
from moto.dynamodb.models.table import Table as MotoTable
from moto.server import ThreadedMotoServer
from moto.sqs import models as sqs_models
from moto.sqs.models import SQSBackend

from fairturn_console.template import Template

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from botocore.loaders import Loader
    from botocore.session import Session

REGION: Final = "eu-west-1"
ACCOUNT: Final = "123456789012"
STACK: Final = "fairturn"
EVERYWHERE: Final = "0.0.0.0"  # noqa: S104 - asked for by name only


KEYS: Final = {
    "AWS_ACCESS_KEY_ID": "sandbox",
    "AWS_SECRET_ACCESS_KEY": "sandbox",
    "AWS_DEFAULT_REGION": REGION,
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
}
"""What keeps boto3 from the shell's own account."""


@cache
def _loader() -> Loader:
    """What reads the descriptions of AWS's services, of which it keeps what it has read."""
    return create_loader()


@contextmanager
def aws_in_process() -> Iterator[Session]:
    """AWS, empty, for this process only: it listens nowhere, and costs a fraction of the time.

    Gives botocore's session, in which boto3's clients are made.
    """
    with patch.dict(os.environ, KEYS), mock_aws(), moto_without_detours():
        for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL"):
            os.environ.pop(name, None)
        session = get_session()
        session.register_component("data_loader", _loader())
        boto3.setup_default_session(botocore_session=session)
        try:
            yield session
        finally:
            boto3.DEFAULT_SESSION = None


@contextmanager
def moto_without_detours() -> Iterator[None]:
    """Let moto come to the same results with less work, for tables whose keys are strings.

    It keeps, for undoing a transaction, the items that this writes, and no copy of the whole table for each of them. It
    sorts items by their keys' text, and no Decimal or set is made of each key first. And it looks only for the member
    that a value has, not for all ten that it might have. Of a queue it reads how long that keeps its messages, not
    everything about it for each message. And it names an action's method once, not for each request.
    """
    write, serialize = DynamoDBBackend.transact_write_items, BaseJSONSerializer._serialize_type_structure  # noqa: SLF001 - moto offers no other way

    def transact_write_items(backend: DynamoDBBackend, writes: list[dict[str, Any]]) -> None:
        kept: dict[str, Any] = {}

        def deepcopy(original: Any) -> Any:
            if not isinstance(original, MotoTable):
                return copy.deepcopy(original)
            if original.name not in kept:
                kept[original.name] = _kept(original, writes)
            return kept[original.name]

        with patch.object(dynamodb_models, "copy", SimpleNamespace(deepcopy=deepcopy)):
            write(backend, writes)

    def all_items(table: MotoTable) -> list[Any]:
        items = [item for rows in table.items.values() for item in rows.values()]
        return sorted(items, key=lambda item: (item.hash_key.value, item.range_key.value))

    def serialize_structure(serializer: Any, serialized: Any, value: Any, shape: Any, key: str) -> None:
        if shape.name != "AttributeValue" or not isinstance(value, dict):
            serialize(serializer, serialized, value, shape, key)
            return
        told: dict[str, Any] = {}
        for name in value:
            serializer._serialize_structure_member(told, value, shape.members[name], name)  # noqa: SLF001
        serialized[key] = told

    def is_kept(backend: SQSBackend, name: str, message: Any) -> bool:
        queue: Any = backend.get_queue(name)
        return bool(unix_time_millis() < message.sent_timestamp + queue.message_retention_period * 1000)

    with (
        patch.object(moto_responses, "camelcase_to_underscores", cache(camelcase_to_underscores)),
        patch.object(moto_responses, "method_names_from_class", cache(method_names_from_class)),
        patch.object(sqs_models, "camelcase_to_underscores", cache(camelcase_to_underscores)),
        patch.object(SQSBackend, "is_message_valid_based_on_retention_period", is_kept),
        patch.object(DynamoDBBackend, "transact_write_items", transact_write_items),
        patch.object(MotoTable, "all_items", all_items),
        patch.object(BaseJSONSerializer, "_serialize_type_structure", serialize_structure),
    ):
        yield


def _kept(table: MotoTable, writes: Sequence[Mapping[str, Any]]) -> MotoTable:
    """A table as it stays although these writes change their items in place."""
    kept = copy.copy(table)
    kept.items = defaultdict(dict, {key: dict(rows) for key, rows in table.items.items()})
    for write in (each for item in writes for each in item.values()):
        named = write.get("Key") or write["Item"]
        rows = kept.items.get(DynamoType(named[table.hash_key_attr]), {})
        sort_key = DynamoType(named[table.range_key_attr])
        if sort_key in rows:
            rows[sort_key] = copy.deepcopy(rows[sort_key])
    return kept


@contextmanager
def aws(host: str = "127.0.0.1") -> Iterator[str]:
    """AWS, empty, at a free port of `host`. Gives its address; boto3 finds it in this process's environment."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address=host, port=0, verbose=False)
    server.start()
    try:
        url = f"http://{reachable(host)}:{server.get_host_and_port()[1]}"
        urllib3.request("POST", f"{url}/moto-api/reset", timeout=10, retries=False)
        environment = {**KEYS, "AWS_ENDPOINT_URL": url, "NO_PROXY": f"{reachable(host)},localhost"}
        with patch.dict(os.environ, environment):
            os.environ.pop("AWS_PROFILE", None)
            boto3.setup_default_session()
            yield url
    finally:
        server.stop()
        boto3.DEFAULT_SESSION = None


def reachable(host: str) -> str:
    """Where this machine itself finds a server that listens on `host`."""
    return "127.0.0.1" if host == EVERYWHERE else host


class Stack:
    """The template's queues, table and secrets, made in the AWS that boto3 finds; and what refers to them."""

    def __init__(self, parameters: Mapping[str, str | int], *, webhook_secret: str, token: str) -> None:
        """`parameters` are the template's; the others are HubSpot's client secret and access token."""
        self.template = Template()
        self.queues = self.template.resources("AWS::SQS::Queue")
        self.references = {
            "AWS::Region": REGION,
            "AWS::AccountId": ACCOUNT,
            "AWS::Partition": "aws",
            "AWS::URLSuffix": "amazonaws.com",
            "AWS::StackName": STACK,
            "Api": "sandbox",
            "CoreLayer": "layer",
        }
        self._parameters = parameters
        for kind in ("AWS::Serverless::Function", "AWS::IAM::Role", "AWS::Logs::LogGroup"):
            for name in self.template.resources(kind):
                self.references |= {name: name, f"{name}.Arn": f"arn:aws:sandbox:{name}"}
        for name in self.template.resources("AWS::CloudWatch::Alarm"):
            self.references[f"{name}.Arn"] = f"arn:aws:cloudwatch:{REGION}:{ACCOUNT}:alarm:{name}"
        self._put_secrets({"WebhookSecret": {"current": webhook_secret}, "HubSpotToken": {"token": token}})
        self._make_queues()
        self._make_table()

    def resolve(self, value: Any) -> Any:
        """What a value of the template is here."""
        return self.template.resolve(value, self._parameters, self.references)

    def functions(self) -> dict[str, dict[str, Any]]:
        """The properties of every function, as they are here."""
        return {name: self.resolve(properties) for name, properties in self.template.functions().items()}

    def alarms(self) -> dict[str, Any]:
        """The properties of every alarm that these parameters make, as they are here."""
        return {
            name: self.resolve(properties)
            for name, properties in self.template.resources("AWS::CloudWatch::Alarm").items()
            if self.template.is_made(name, self._parameters, self.references)
        }

    def dashboard(self) -> dict[str, Any]:
        """What the dashboard shows, as it is here."""
        (properties,) = self.template.resources("AWS::CloudWatch::Dashboard").values()
        body: dict[str, Any] = json.loads(self.resolve(properties["DashboardBody"]))
        return body

    def environment(self, function: str) -> dict[str, str]:
        """What the template tells a function."""
        variables = self.functions()[function]["Environment"]["Variables"]
        return {name: str(value) for name, value in variables.items()}

    def url(self, arn: str) -> str:
        """Where the queue of this ARN is."""
        return next(self.references[name] for name in self.queues if self.references[f"{name}.Arn"] == arn)

    def _put_secrets(self, secrets: Mapping[str, Mapping[str, str]]) -> None:
        client = boto3.client("secretsmanager")
        for name, value in secrets.items():
            self.references[name] = client.create_secret(Name=name, SecretString=json.dumps(value))["ARN"]

    def _make_queues(self) -> None:
        client = boto3.client("sqs")
        # Dead-letter queues first: the others name them.
        for name, properties in sorted(self.queues.items(), key=lambda queue: "RedrivePolicy" in queue[1]):
            attributes = self.resolve(properties)
            queue = attributes.pop("QueueName")
            text: Any = {
                each: value if isinstance(value, str) else json.dumps(value) for each, value in attributes.items()
            }
            self.references[name] = client.create_queue(QueueName=queue, Attributes=text)["QueueUrl"]
            self.references[f"{name}.Arn"] = f"arn:aws:sqs:{REGION}:{ACCOUNT}:{queue}"
            self.references[f"{name}.QueueName"] = queue

    def _make_table(self) -> None:
        table = self.resolve(self.template.resources("AWS::DynamoDB::Table")["Table"])
        wanted = ("AttributeDefinitions", "KeySchema", "BillingMode", "GlobalSecondaryIndexes")
        boto3.client("dynamodb").create_table(TableName=STACK, **{each: table[each] for each in wanted})
        self.references |= {"Table": STACK, "Table.Arn": f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/{STACK}"}
