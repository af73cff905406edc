"""What `sam build` made, run on the deployed version of Python with nothing else on its path: `make smoke`.

moto's server stands in for AWS, and boto3 of the tests for the one that Lambda's runtime brings along.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import importlib.util
import json
import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest
import urllib3
from moto.server import ThreadedMotoServer

from fairturn_console.template import PATH, Template

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mypy_boto3_sqs import SQSClient

BUILT = PATH.parent / ".aws-sam/smoke"
RUNTIME = ("boto3", "botocore", "s3transfer")
SECRET = "a-client-secret"
PORTAL = 123456
PARAMETERS: dict[str, str | int] = {"HubSpotPortalId": PORTAL, "WebhookKey": "k" * 32}
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "eu-central-1",
}
INVOKE = """
import json, sys, types
import app
assert app.__file__.startswith(sys.argv[1]), app.__file__
context = types.SimpleNamespace(
    function_name="smoke", memory_limit_in_mb=1024, invoked_function_arn="arn", aws_request_id="1",
    get_remaining_time_in_millis=lambda: 60_000,
)
answer = app.handler(json.load(sys.stdin), context)
print(json.dumps(answer))
"""


@dataclass(frozen=True, slots=True)
class Stack:
    """A deployment on this machine: the environment of each function, and the queues."""

    environments: Mapping[str, Mapping[str, str]]
    queues: Mapping[str, str]
    sqs: SQSClient
    runtime: Path

    def invoke(self, function: str, event: Mapping[str, Any]) -> Any:
        """What the built handler answers."""
        code, layer = BUILT / function, BUILT / "CoreLayer/python"
        environment = {
            **CREDENTIALS,
            **self.environments[function],
            "PYTHONPATH": f"{code}:{layer}:{self.runtime}",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        done = subprocess.run(  # noqa: S603
            [os.environ["PYTHON313"], "-S", "-c", INVOKE, str(code)],
            input=json.dumps(event),
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    def letters(self, queue: str) -> list[str]:
        """The bodies of the messages in a queue."""
        answer = self.sqs.receive_message(QueueUrl=self.queues[queue], MaxNumberOfMessages=10)
        return [message["Body"] for message in answer.get("Messages", [])]


@pytest.fixture
def stack(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Stack]:
    assert BUILT.exists(), "nothing is built: make smoke"
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    urllib3.request("POST", f"{endpoint}/moto-api/reset")
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    sqs = boto3.client("sqs", endpoint_url=endpoint)
    try:
        yield deploy(endpoint, sqs, runtime=bring_along(tmp_path))
    finally:
        sqs.close()
        server.stop()


def bring_along(folder: Path) -> Path:
    """A folder with only those packages of the test environment that Lambda's runtime has as well."""
    for name in RUNTIME:
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.origin is not None
        (folder / name).symlink_to(Path(spec.origin).parent)
    return folder


def deploy(endpoint: str, sqs: SQSClient, runtime: Path) -> Stack:
    """Make what the template describes, as far as the functions here need it."""
    template = Template()
    queues = {name: sqs.create_queue(QueueName=name)["QueueUrl"] for name in template.resources("AWS::SQS::Queue")}
    secrets = boto3.client("secretsmanager", endpoint_url=endpoint)
    values = {"WebhookSecret": {"current": SECRET}, "HubSpotToken": {"token": "a-token"}}
    arns = {
        name: secrets.create_secret(Name=name, SecretString=json.dumps(values[name]))["ARN"]
        for name in template.resources("AWS::SecretsManager::Secret")
    }
    secrets.close()
    table = template.resource("Table")["Properties"]
    keys = ("BillingMode", "AttributeDefinitions", "KeySchema", "GlobalSecondaryIndexes")
    dynamodb = boto3.client("dynamodb", endpoint_url=endpoint)
    dynamodb.create_table(TableName="Table", **{key: table[key] for key in keys})
    dynamodb.close()
    references = {
        **queues,
        **arns,
        **{name: name for name in ("Api", "CoreLayer", "Table")},
        "AWS::Region": CREDENTIALS["AWS_DEFAULT_REGION"],
        "AWS::URLSuffix": "amazonaws.com",
    }
    environments = {
        name: {
            **template.resolve(function["Environment"]["Variables"], PARAMETERS, references),
            "AWS_ENDPOINT_URL": endpoint,
        }
        for name, function in template.functions().items()
    }
    texts = {name: {key: str(value) for key, value in each.items()} for name, each in environments.items()}
    return Stack(texts, queues, sqs, runtime)


def webhook(stack: Stack, secret: str) -> dict[str, Any]:
    """The event that API Gateway makes of a signed request about one new contact."""
    now = str(int(time.time() * 1000))
    body = json.dumps(
        [
            {
                "eventId": 1,
                "portalId": PORTAL,
                "occurredAt": int(now),
                "subscriptionType": "contact.creation",
                "attemptNumber": 0,
                "objectId": 4711,
                "changeSource": "FORM",
            }
        ]
    )
    url = stack.environments["IntakeFunction"]["WEBHOOK_URL"]
    signature = hmac.digest(secret.encode(), f"POST{url}{body}{now}".encode(), hashlib.sha256)
    return {
        "version": "2.0",
        "headers": {
            "x-hubspot-request-timestamp": now,
            "x-hubspot-signature-v3": base64.b64encode(signature).decode(),
        },
        "requestContext": {"http": {"method": "POST"}},
        "body": body,
        "isBase64Encoded": False,
    }


def test_a_signed_webhook_becomes_a_lead(stack: Stack) -> None:
    assert stack.invoke("IntakeFunction", webhook(stack, SECRET))["statusCode"] == 200
    (letter,) = stack.letters("LeadsQueue")
    assert json.loads(letter)["id"] == "4711"


def test_a_webhook_that_hubspot_did_not_sign_is_refused(stack: Stack) -> None:
    assert stack.invoke("IntakeFunction", webhook(stack, "another-secret"))["statusCode"] == 401
    assert stack.letters("LeadsQueue") == []


def test_a_message_that_cannot_be_understood_is_dead_lettered(stack: Stack) -> None:
    record = {
        "messageId": "1",
        "receiptHandle": "1",
        "body": "not a message",
        "attributes": {"ApproximateReceiveCount": "1"},
        "messageAttributes": {},
        "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:eu-central-1:123456789012:LeadsQueue",
        "awsRegion": "eu-central-1",
    }
    assert stack.invoke("AssignFunction", {"Records": [record]}) == {"batchItemFailures": []}
    assert stack.letters("LeadsDeadLetters") == ["not a message"]
