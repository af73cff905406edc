"""A deployed stack: its table, its dead letters, and HubSpot as it calls it."""

from __future__ import annotations

import random
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import boto3
from aws_lambda_powertools.utilities.parameters import SecretsProvider
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from fairturn.edges.credentials import Credentials
from fairturn.edges.hubspot.client import HubSpot
from fairturn.edges.queues import Queue
from fairturn.edges.store import Store
from fairturn.errors import FairturnError
from fairturn.steps.claim import Claimer
from fairturn.steps.reconcile import Reconciliation
from fairturn_console.dead_letters import DeadLetters
from fairturn_console.person import People
from fairturn_console.recount import Recount

if TYPE_CHECKING:
    from collections.abc import Mapping

QUEUES: Final = ("leads", "bulk", "changes", "leads-dead-letters", "changes-dead-letters")
"""The ends of the names of a stack's queues."""
WAIT: Final = 1
"""Seconds that SQS waits for letters: from 1 on it asks all its servers."""


QUICK: Final = Config(connect_timeout=3, read_timeout=5, retries={"total_max_attempts": 2})
"""For what is good to know, and not worth waiting for."""


class StackUnknown(FairturnError):
    """There is no such deployment to be seen from here; the message says what to check."""


class CallerUnknown(FairturnError):
    """AWS can't be asked who uses this shell."""


def caller() -> str:
    """The ARN of whoever uses this shell. Raises CallerUnknown."""
    try:
        return str(boto3.client("sts", config=QUICK).get_caller_identity()["Arn"])
    except (ClientError, BotoCoreError) as error:
        raise CallerUnknown(f"AWS STS does not say who calls ({type(error).__name__})") from error


class Deployment:
    """The stack of this name, in the account and region that the shell is set to. Raises StackUnknown."""

    def __init__(self, stack: str) -> None:
        try:
            (found,) = boto3.client("cloudformation").describe_stacks(StackName=stack)["Stacks"]
        except (ClientError, BotoCoreError) as error:
            raise StackUnknown(
                f"no stack {stack!r} to be seen ({type(error).__name__}): "
                "check --stack, the region and the credentials of this shell"
            ) from error
        self.stack = stack
        outputs = found.get("Outputs", [])
        self.outputs: dict[str, str] = {output["OutputKey"]: output["OutputValue"] for output in outputs}

    def portal(self) -> int:
        """The HubSpot account whose events it takes."""
        return int(self._output("HubSpotPortalId"))

    def webhook_url(self) -> str:
        """Where HubSpot sends its webhooks. Its last part is hard to guess, and so belongs in no log."""
        return self._output("WebhookUrl")

    def store(self) -> Store:
        """Its table."""
        days = int(self._output("JournalDays"))
        return Store(boto3.client("dynamodb"), self._output("TableName"), journal_days=days)

    @property
    def region(self) -> str:
        """The region that the shell is set to."""
        return str(boto3.client("sqs").meta.region_name)

    def crm(self, hubspot_url: str) -> HubSpot:
        """HubSpot, with the stack's own token."""
        return HubSpot(self._credentials().hubspot_token, hubspot_url)

    def webhook_secret(self) -> str:
        """The secret that HubSpot signs with, as far as the stack knows. Raises SecretsUnavailable."""
        return self._credentials().webhook_secrets()[0]

    def length(self, output: str) -> int:
        """About how many messages the queue of this output has. Raises QueueUnavailable."""
        return Queue(boto3.client("sqs"), self._output(output)).length()

    def alarms(self) -> dict[str, Mapping[str, Any]]:
        """The stack's alarms by name. Raises what boto3 raises."""
        pages = boto3.client("cloudwatch").get_paginator("describe_alarms").paginate(AlarmNamePrefix=f"{self.stack}-")
        return {alarm["AlarmName"]: alarm for page in pages for alarm in page["MetricAlarms"]}

    def reconciliation(self, hubspot_url: str) -> Reconciliation:
        """What looks in HubSpot for changes that no webhook reported, as sweep does."""
        store = self.store()
        changes = Queue(boto3.client("sqs"), self._output("ChangesQueueUrl"))
        return Reconciliation(store, store.terms, self.crm(hubspot_url), changes, _now)

    def recount(self, hubspot_url: str) -> Recount:
        """What makes every load what HubSpot has."""
        reconciliation = self.reconciliation(hubspot_url)
        changes, now = reconciliation.changes, reconciliation.now
        return Recount(self.store(), reconciliation.crm, reconciliation, changes, now, time.sleep)

    def people(self) -> People:
        """What gives out and erases people's data."""
        store = self.store()
        claimer = Claimer(store, worker=f"person-{uuid4().hex[:8]}", now=_now, jitter=random.random)
        return People(store, self.dead_letters(), claimer, _now)

    def dead_letters(self) -> DeadLetters:
        """Both its dead-letter queues."""
        return DeadLetters(
            boto3.client("sqs"),
            leads=(self._output("LeadsDeadLettersUrl"), self._output("BulkQueueUrl")),
            changes=(self._output("ChangesDeadLettersUrl"), self._output("ChangesQueueUrl")),
            wait=WAIT,
        )

    def left_over(self, stack: str) -> list[DeadLetters]:
        """What is left in the queues of a stack that was deleted, as letters to be redriven into this one's. Raises
        StackUnknown if it has left no queues here."""
        client = boto3.client("sqs")
        try:
            urls = [client.get_queue_url(QueueName=f"{stack}-{queue}")["QueueUrl"] for queue in QUEUES]
        except (ClientError, BotoCoreError) as error:
            raise StackUnknown(
                f"no queues of a stack {stack!r} to be seen ({type(error).__name__}): check its name, the region and "
                f"the credentials of this shell; they would be {', '.join(f'{stack}-{queue}' for queue in QUEUES)}"
            ) from error
        leads, bulk, changes, dead_leads, dead_changes = urls
        return [
            DeadLetters(
                client,
                leads=(of_leads, self._output("BulkQueueUrl")),
                changes=(of_changes, self._output("ChangesQueueUrl")),
                wait=WAIT,
            )
            for of_leads, of_changes in ((leads, changes), (bulk, dead_changes), (dead_leads, changes))
        ]

    def _credentials(self) -> Credentials:
        secrets = SecretsProvider(boto3_client=boto3.client("secretsmanager"))
        return Credentials(secrets, self._output("WebhookSecretArn"), self._output("HubSpotTokenArn"))

    def _output(self, name: str) -> str:
        try:
            return self.outputs[name]
        except KeyError as error:
            raise StackUnknown(
                f"stack {self.stack!r} has no output {name}: check --stack, and that it is deployed from this version"
            ) from error


def _now() -> datetime:
    return datetime.now(UTC)
