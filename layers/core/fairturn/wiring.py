"""Wiring: builds the services with all that they need, from the environment. Intake needs less and builds itself."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Final
from uuid import uuid4

import boto3
from aws_lambda_powertools.utilities.parameters import SecretsProvider
from botocore.config import Config

from fairturn.assign import Assign
from fairturn.edges.credentials import Credentials
from fairturn.edges.hubspot.client import HubSpot
from fairturn.edges.in_force import InForce
from fairturn.edges.queues import Queue
from fairturn.edges.store import Store
from fairturn.steps.audit import Audit
from fairturn.steps.claim import Claimer
from fairturn.steps.consumer import Consumer
from fairturn.steps.handover import Handover
from fairturn.steps.reconcile import Reconciliation
from fairturn.sweep import Sweep
from fairturn.track import Track

if TYPE_CHECKING:
    from collections.abc import Callable

    from fairturn.settings import Settings

BOUNDED: Final = Config(connect_timeout=1, read_timeout=3, retries={"mode": "standard", "total_max_attempts": 2})
"""Seconds, and tries: so that a neighbour who says nothing is given up while there is time to put a batch back."""


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Queues:
    """Those that the services read, write and give up to."""

    leads: Queue
    bulk: Queue
    changes: Queue
    leads_dead_letters: Queue
    changes_dead_letters: Queue


@dataclass
class Services:
    """What one function needs; whoever keeps it keeps the connections, and what was read of the policy.

    Each service is made when it is first asked for: that must not be before the first event, because a worker has a
    name of its own, and functions that start from one snapshot share all else.
    """

    store: Store
    crm: HubSpot
    queues: Queues
    now: Callable[[], datetime] = _now
    """An aware datetime."""
    jitter: Callable[[], float] = random.random
    """A random number from 0 to 1."""
    sleep: Callable[[float], None] = time.sleep

    @cached_property
    def in_force(self) -> InForce:
        """What is in force, as it was read last."""
        return InForce(self.store)

    @cached_property
    def claimer(self) -> Claimer:
        """What claims leads, under a name that no other worker has."""
        return Claimer(self.store, worker=uuid4().hex[:8], now=self.now, jitter=self.jitter, sleep=self.sleep)

    @cached_property
    def assign(self) -> Assign:
        """What gives leads to reps."""
        return self._assign(gives_up=True)

    @cached_property
    def track(self) -> Track:
        """What follows the records."""
        return Track(self.store, self.in_force, self.crm, self.claimer, self.queues.leads, self.queues.bulk, self.now)

    @cached_property
    def sweep(self) -> Sweep:
        """What is done every minute."""
        return Sweep(
            store=self.store,
            in_force=self.in_force,
            crm=self.crm,
            assign=self._assign(gives_up=False),
            leads=self.queues.leads,
            bulk=self.queues.bulk,
            changes=self.queues.changes,
            reconciliation=self.reconciliation,
            audit=Audit(self.store, self.crm, self.queues.changes, self.now),
            now=self.now,
        )

    @cached_property
    def reconciliation(self) -> Reconciliation:
        """What finds the changes of which nobody told."""
        return Reconciliation(self.store, self.in_force.current, self.crm, self.queues.changes, self.now)

    @cached_property
    def leads(self) -> Consumer:
        """What reads the leads queue."""
        return self._consumer(self.queues.leads, self.queues.leads_dead_letters, "assign")

    @cached_property
    def bulk(self) -> Consumer:
        """What reads the bulk queue."""
        return self._consumer(self.queues.bulk, self.queues.leads_dead_letters, "assign")

    @cached_property
    def changes(self) -> Consumer:
        """What reads the changes queue."""
        return self._consumer(self.queues.changes, self.queues.changes_dead_letters, "track")

    def _assign(self, *, gives_up: bool) -> Assign:
        return Assign(
            store=self.store,
            in_force=self.in_force,
            crm=self.crm,
            claimer=self.claimer,
            handover=Handover(self.store, self.crm, self.claimer, self.now, gives_up=gives_up),
            leads=self.queues.leads,
            changes=self.queues.changes,
            now=self.now,
        )

    def _consumer(self, queue: Queue, dead_letters: Queue, stage: str) -> Consumer:
        return Consumer(
            queue=queue, dead_letters=dead_letters, store=self.store, stage=stage, now=self.now, jitter=self.jitter
        )


def wired(settings: Settings) -> Services:
    """The services, with the clients of what the settings name. The clients are made now, which takes time."""
    sqs = boto3.client("sqs", config=BOUNDED)
    secrets = SecretsProvider(boto3_client=boto3.client("secretsmanager", config=BOUNDED))
    credentials = Credentials(secrets, settings.webhook_secret, settings.token_secret)
    return Services(
        store=Store(boto3.client("dynamodb", config=BOUNDED), settings.table, journal_days=settings.journal_days),
        crm=HubSpot(lambda refresh: credentials.hubspot_token(refresh=refresh), settings.hubspot_url),
        queues=Queues(
            leads=Queue(sqs, settings.leads_queue),
            bulk=Queue(sqs, settings.bulk_queue),
            changes=Queue(sqs, settings.changes_queue),
            leads_dead_letters=Queue(sqs, settings.leads_dead_letters),
            changes_dead_letters=Queue(sqs, settings.changes_dead_letters),
        ),
    )
