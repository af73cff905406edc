"""The services that work on the table and HubSpot, with their collaborators, as the environment describes them."""

from __future__ import annotations

import random
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
    from fairturn.settings import Settings

BOUNDED: Final = Config(connect_timeout=1, read_timeout=3, retries={"mode": "standard", "total_max_attempts": 2})
"""Seconds, and tries: so that a neighbour who says nothing is given up while there is time to put a batch back."""


class Wiring:
    """What one function needs; whoever keeps it keeps the connections, and what was read of the policy.

    It makes the clients, which take time. The services it makes when they are first asked for: that must not be before
    the first event, because a worker has a name of its own, and functions that start from one snapshot share all else.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._sqs = boto3.client("sqs", config=BOUNDED)
        client = boto3.client("dynamodb", config=BOUNDED)
        self._store = Store(client, settings.table, journal_days=settings.journal_days)
        self._in_force = InForce(self._store)
        secrets = SecretsProvider(boto3_client=boto3.client("secretsmanager", config=BOUNDED))
        credentials = Credentials(secrets, settings.webhook_secret, settings.token_secret)
        self._crm = HubSpot(lambda refresh: credentials.hubspot_token(refresh=refresh), settings.hubspot_url)

    @cached_property
    def _claimer(self) -> Claimer:
        return Claimer(self._store, worker=uuid4().hex[:8], now=_now, jitter=random.random)

    @cached_property
    def assign(self) -> Assign:
        """What gives leads to reps."""
        return self._assign(gives_up=True)

    @cached_property
    def track(self) -> Track:
        """What follows the records."""
        leads, bulk = self._queue(self._settings.leads_queue), self._queue(self._settings.bulk_queue)
        return Track(self._store, self._in_force, self._crm, self._claimer, leads, bulk, _now)

    @cached_property
    def sweep(self) -> Sweep:
        """What is done every minute."""
        urls = (self._settings.leads_queue, self._settings.bulk_queue, self._settings.changes_queue)
        leads, bulk, changes = map(self._queue, urls)
        return Sweep(
            store=self._store,
            in_force=self._in_force,
            crm=self._crm,
            assign=self._assign(gives_up=False),
            leads=leads,
            bulk=bulk,
            changes=changes,
            reconciliation=Reconciliation(self._store, self._in_force.current, self._crm, changes, _now),
            audit=Audit(self._store, self._crm, changes, _now),
            now=_now,
        )

    @cached_property
    def leads(self) -> Consumer:
        """What reads the leads queue."""
        return self._consumer(self._settings.leads_queue, self._settings.leads_dead_letters, "assign")

    @cached_property
    def bulk(self) -> Consumer:
        """What reads the bulk queue."""
        return self._consumer(self._settings.bulk_queue, self._settings.leads_dead_letters, "assign")

    @cached_property
    def changes(self) -> Consumer:
        """What reads the changes queue."""
        return self._consumer(self._settings.changes_queue, self._settings.changes_dead_letters, "track")

    def _assign(self, *, gives_up: bool) -> Assign:
        return Assign(
            store=self._store,
            in_force=self._in_force,
            crm=self._crm,
            claimer=self._claimer,
            handover=Handover(self._store, self._crm, self._claimer, _now, gives_up=gives_up),
            leads=self._queue(self._settings.leads_queue),
            changes=self._queue(self._settings.changes_queue),
            now=_now,
        )

    def _queue(self, url: str) -> Queue:
        return Queue(self._sqs, url)

    def _consumer(self, queue: str, dead_letters: str, stage: str) -> Consumer:
        return Consumer(
            queue=self._queue(queue),
            dead_letters=self._queue(dead_letters),
            store=self._store,
            stage=stage,
            now=_now,
            jitter=random.random,
        )


def _now() -> datetime:
    return datetime.now(UTC)
