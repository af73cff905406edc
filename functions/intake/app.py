"""The Lambda function that answers HubSpot's webhooks."""

from __future__ import annotations

import time
from base64 import b64decode
from functools import cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

import boto3
from aws_lambda_powertools.utilities.parameters import SecretsProvider
from botocore.config import Config

from fairturn import IN_LAMBDA, ready
from fairturn.deadline import Deadline
from fairturn.edges.credentials import Credentials
from fairturn.edges.queues import Queue
from fairturn.intake import Intake, Request
from fairturn.settings import settings
from fairturn.telemetry import logger

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

# HubSpot waits five seconds: a neighbour that says nothing is given up after two tries of one second each,
# with a pause of at most one second between them.
CONFIG = Config(connect_timeout=1, read_timeout=1, retries={"total_max_attempts": 2, "mode": "standard"})

RESERVE: Final = 0.5
"""Seconds of the function's time that are kept for the answer, the log and the metrics."""


@cache
def intake() -> Intake:
    """Make the service, once."""
    here = settings()
    sqs = boto3.client("sqs", config=CONFIG)
    secrets = SecretsProvider(boto3_client=boto3.client("secretsmanager", config=CONFIG))
    return Intake(
        leads=Queue(sqs, here.leads_queue),
        bulk=Queue(sqs, here.bulk_queue),
        changes=Queue(sqs, here.changes_queue),
        dead_letters=Queue(sqs, here.leads_dead_letters),
        credentials=Credentials(secrets, here.webhook_secret, here.token_secret),
        webhook_url=here.webhook_url,
        portal=here.portal,
    )


if IN_LAMBDA:
    intake()
    ready()


@logger.inject_lambda_context(log_event=False)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Answer one request of an HTTP API (payload format 2.0)."""
    text = event.get("body") or ""
    try:
        body = b64decode(text, validate=True) if event.get("isBase64Encoded") else text.encode()
    except ValueError:
        return {"statusCode": HTTPStatus.BAD_REQUEST, "body": ""}
    request = Request(event["requestContext"]["http"]["method"], event["headers"], body)
    deadline = Deadline.of(context).less(RESERVE)
    status = intake().receive(request, now_ms=int(time.time() * 1000), deadline=deadline)
    return {"statusCode": status.value, "body": ""}
