"""AWS on this machine, and in it what template.yaml describes: moto stands in for DynamoDB, SQS and Secrets Manager."""

from __future__ import annotations

import json
import logging
import os
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, Final
from unittest.mock import patch

import boto3
import urllib3
from botocore.loaders import create_loader
from botocore.session import get_session
from moto import mock_aws
from moto.server import ThreadedMotoServer

from fairturn_console.template import Template

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

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
    """AWS, empty, for this process only: it listens nowhere, and costs a third of the time.

    Gives botocore's session, in which boto3's clients are made.
    """
    with patch.dict(os.environ, KEYS), mock_aws():
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
