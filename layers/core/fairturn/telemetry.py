"""Structured logs and EMF metrics. They carry ids and decisions, never a name, an address or a secret."""

from __future__ import annotations

from enum import StrEnum

from aws_lambda_powertools import Logger
from aws_lambda_powertools.metrics import MetricUnit, single_metric

NAMESPACE = "Fairturn"

logger = Logger()
"""The service's name and the level come from Powertools' own variables, which the template sets."""


class Metric(StrEnum):
    """What is counted. Dimensions are the function and, where it says so, the rota: each costs money."""

    SIGNATURE_REJECTED = "SignatureRejected"
    EVENTS_RECEIVED = "EventsReceived"
    EVENTS_DROPPED = "EventsDropped"
    EVENTS_DEAD_LETTERED = "EventsDeadLettered"
    OTHER_PORTAL = "EventsOfAnotherPortal"
    TEST_EVENTS = "TestEvents"
    LEADS_ASSIGNED = "LeadsAssigned"  # by rota
    LEADS_WAITING = "LeadsWaiting"  # by rota
    LEADS_OBSERVED = "LeadsObserved"  # by rota
    LEADS_DROPPED = "LeadsDropped"
    LEADS_UNSEEN = "LeadsUnseen"
    LEADS_DEAD_LETTERED = "LeadsDeadLettered"
    LEADS_PUT_BACK = "LeadsPutBack"
    LEADS_TAKEN_BY_OTHERS = "LeadsTakenByOthers"
    LEADS_PASSED_ON = "LeadsPassedOn"
    LEADS_UNOWNED = "LeadsUnowned"
    LEADS_DUE = "LeadsDue"  # by rota, too
    CHANGES_UNSEEN = "ChangesUnseen"
    RECORDS_FOLLOWED = "RecordsFollowed"
    CHOICES_RESTORED = "ChoicesRestored"
    OWNERS_OVERWRITTEN = "OwnersOverwritten"
    BULK_PAUSED = "BulkPaused"
    POLICY_PAUSED = "PolicyPaused"
    POLICY_OBSERVING = "PolicyObserving"
    CLAIMS_REFUSED = "ClaimsRefused"  # by rota
    CLAIMS_UNDONE = "ClaimsUndone"  # by rota
    EXPLANATION_REFUSED = "ExplanationRefused"
    REPS_UNAVAILABLE = "RepsUnavailable"
    POLICY_MISSING = "PolicyMissing"
    SWEPT = "Swept"
    SECONDS_TO_OWNER = "SecondsToOwner"  # by rota


def count(metric: Metric, value: float = 1, *, rota: str | None = None, seconds: bool = False) -> None:
    """Emit one metric at once, so that nothing is lost when a function dies later in the batch."""
    unit = MetricUnit.Seconds if seconds else MetricUnit.Count
    with single_metric(name=metric.value, unit=unit, value=value, namespace=NAMESPACE) as single:
        single.add_dimension(name="service", value=logger.service)
        if rota is not None:
            single.add_dimension(name="rota", value=rota)
