"""SQS → leads with an owner."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any

import boto3
from aws_lambda_powertools.utilities.parameters import SecretsProvider
from botocore.config import Config

from fairturn.assign import Assign
from fairturn.claim import Claims
from fairturn.credentials import Credentials
from fairturn.crm import HubSpot
from fairturn.handover import Handover
from fairturn.queues import Queue, Received
from fairturn.settings import settings
from fairturn.store import InForce, Store
from fairturn.telemetry import logger

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

BOUNDED = Config(connect_timeout=2, read_timeout=5, retries={"mode": "standard", "total_max_attempts": 3})


@cache
def assign() -> Assign:
    """The service with its collaborators, kept as long as the function is warm."""
    env = settings()
    store = Store(boto3.client("dynamodb", config=BOUNDED), env.table)
    sqs = boto3.client("sqs", config=BOUNDED)
    secrets = SecretsProvider(boto3_client=boto3.client("secretsmanager", config=BOUNDED))
    credentials = Credentials(secrets, env.webhook_secret, env.token_secret)
    crm = HubSpot(lambda refresh: credentials.hubspot_token(refresh=refresh), env.hubspot_url)
    claims = Claims(store, now=_now, jitter=random.random)
    return Assign(
        store=store,
        in_force=InForce(store),
        crm=crm,
        claims=claims,
        handover=Handover(store, crm, claims, now=_now),
        leads=Queue(sqs, env.leads_queue),
        dead_letters=Queue(sqs, env.leads_dead_letters),
        now=_now,
        jitter=random.random,
    )


@logger.inject_lambda_context(log_event=False)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:  # noqa: ARG001 - Lambda passes it
    """Take a batch of leads; what must come again is named, everything else is done."""
    left = assign().take([Received.from_record(record) for record in event["Records"]])
    return {"batchItemFailures": [{"itemIdentifier": received.id} for received in left]}


def _now() -> datetime:
    return datetime.now(UTC)
