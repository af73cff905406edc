"""Structured logs and metrics. They carry ids and decisions, never a name, an address or a secret."""

from __future__ import annotations

import os
from enum import StrEnum
from typing import TYPE_CHECKING

from aws_lambda_powertools import Logger
from aws_lambda_powertools.metrics import MetricUnit, single_metric

from fairturn.errors import HubSpotDenied, TableUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fairturn.errors import Unavailable

NAMESPACE = "Fairturn"

logger = Logger()
"""The service's name and the level come from Powertools' own variables, which the template sets."""


class Metric(StrEnum):
    """What is counted. Dimensions are the stack and, where it says so, the rota: each value costs money."""

    EVENTS_RECEIVED = "EventsReceived"
    OTHER_PORTAL = "EventsOfAnotherPortal"
    LEADS_ASSIGNED = "LeadsAssigned"  # by rota
    LEADS_WAITING = "LeadsWaiting"
    LEADS_OBSERVED = "LeadsObserved"
    LEADS_DROPPED = "LeadsDropped"
    LEADS_UNSEEN = "LeadsUnseen"
    LEADS_TAKEN_BY_OTHERS = "LeadsTakenByOthers"
    LEADS_UNOWNED = "LeadsUnowned"
    LEADS_DUE = "LeadsDue"  # by rota, too
    HOURS_DUE = "HoursDue"
    LEADS_FOUND = "LeadsFound"
    CHANGES_FOUND = "ChangesFound"
    CHANGES_UNSEEN = "ChangesUnseen"
    CHOICES_RESTORED = "ChoicesRestored"
    OWNERS_OVERWRITTEN = "OwnersOverwritten"
    DEAD_LETTERED = "DeadLettered"
    BULK_PAUSED = "BulkPaused"
    POLICY_PAUSED = "PolicyPaused"
    POLICY_OBSERVING = "PolicyObserving"
    POLICY_MISSING = "PolicyMissing"
    EXPLANATION_REFUSED = "ExplanationRefused"
    REPS_UNAVAILABLE = "RepsUnavailable"
    HUBSPOT_DENIED = "HubSpotDenied"
    TABLE_UNAVAILABLE = "TableUnavailable"
    SWEPT = "Swept"
    AUDIT_FINDINGS = "AuditFindings"
    LARGEST_GAP = "LargestGap"  # by rota
    SECONDS_TO_OWNER = "SecondsToOwner"  # by rota
    SECONDS_WAITED = "SecondsWaited"  # by rota
    SECONDS_PUT_BACK = "SecondsPutBack"


def count(metric: Metric, value: float = 1, *, rota: str | None = None, seconds: bool = False) -> None:
    """Emit one metric at once, so that nothing is lost when a function dies later in the batch."""
    unit = MetricUnit.Seconds if seconds else MetricUnit.Count
    with single_metric(name=metric.value, unit=unit, value=value, namespace=NAMESPACE) as single:
        single.service = ""  # else Powertools adds the function: as many metrics more, and alarms
        single.add_dimension(name="stack", value=os.environ.get("STACK_NAME", "none"))
        if rota is not None:
            single.add_dimension(name="rota", value=rota)


def count_held_up(reasons: Iterable[Unavailable]) -> None:
    """Count why work is left for later: once for each reason that may not pass by itself."""
    kinds = {type(why) for why in reasons}
    if HubSpotDenied in kinds:
        count(Metric.HUBSPOT_DENIED)
    if TableUnavailable in kinds:
        count(Metric.TABLE_UNAVAILABLE)
