"""The prices of AWS that docs/costs.md computes with: the only place where they are.

They are those of the region us-east-1, in US dollars, before taxes, without free tiers and volume discounts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

REGION: Final = "us-east-1"
LOOKED_UP: Final = "2026-11-28"
"""The day on which all of them were looked up."""

BY_AWS: Final = "AWS's own page"
BY_OTHERS: Final = "others who quote it"
BY_NOBODY: Final = "not confirmed"


@dataclass(frozen=True, slots=True)
class Price:
    """What AWS asks for one unit."""

    dollars: float
    """For so many units as `per` says."""
    per: float
    unit: str
    page: str
    """The page on which AWS tells it."""
    seen: str = BY_NOBODY
    """Where it was seen: AWS's page itself can't be read without a browser."""
    of: str = ""
    """When what was seen was written, if it says so."""

    def of_units(self, units: float) -> float:
        """Dollars for so many units."""
        return self.dollars * units / self.per


MILLION: Final = 1_000_000

HTTP_API: Final = Price(1.00, MILLION, "requests", "Amazon API Gateway Pricing", BY_AWS, "2026-09")
INVOCATIONS: Final = Price(0.20, MILLION, "requests", "AWS Lambda Pricing", BY_AWS, "2026-09")
GB_SECONDS: Final = Price(0.0000133334, 1, "GB-second (arm64)", "AWS Lambda Pricing", BY_OTHERS, "2024")
SNAPSHOT_KEPT: Final = Price(0.0000015046, 1, "GB-second", "AWS Lambda Pricing (SnapStart)", BY_OTHERS, "2026-05")
SNAPSHOT_RESTORED: Final = Price(0.0001397998, 1, "GB", "AWS Lambda Pricing (SnapStart)", BY_OTHERS, "2026-05")
SQS: Final = Price(0.40, MILLION, "requests", "Amazon SQS Pricing", BY_OTHERS, "2026-06")
WRITE_UNITS: Final = Price(0.625, MILLION, "write units", "Amazon DynamoDB On-Demand Pricing", BY_OTHERS, "2025-07")
READ_UNITS: Final = Price(0.125, MILLION, "read units", "Amazon DynamoDB On-Demand Pricing", BY_OTHERS, "2025-07")
TABLE: Final = Price(0.25, 1, "GB and month", "Amazon DynamoDB On-Demand Pricing", BY_AWS)
BACKUP: Final = Price(0.20, 1, "GB and month (point-in-time recovery)", "Amazon DynamoDB On-Demand Pricing")
SECRETS: Final = Price(0.40, 1, "secret and month", "AWS Secrets Manager Pricing", BY_AWS, "2026-09")
SECRET_CALLS: Final = Price(0.05, 10_000, "calls", "AWS Secrets Manager Pricing", BY_AWS, "2026-09")
LOGS: Final = Price(0.50, 1, "GB taken in", "Amazon CloudWatch Pricing", BY_OTHERS, "2026-06")
LOGS_KEPT: Final = Price(0.03, 1, "GB and month", "Amazon CloudWatch Pricing", BY_OTHERS, "2026-05")
METRICS: Final = Price(0.30, 1, "metric and month", "Amazon CloudWatch Pricing", BY_OTHERS, "2026-05")
ALARMS: Final = Price(0.10, 1, "alarm and month", "Amazon CloudWatch Pricing", BY_OTHERS, "2026-05")
DASHBOARDS: Final = Price(3.00, 1, "dashboard and month", "Amazon CloudWatch Pricing", BY_OTHERS, "2026-06")
TRACES: Final = Price(5.00, MILLION, "traces recorded", "AWS X-Ray Pricing", BY_AWS)
SCHEDULED: Final = Price(0.00, MILLION, "starts by a scheduled rule", "Amazon EventBridge Pricing")

ALL: Final = (
    HTTP_API,
    INVOCATIONS,
    GB_SECONDS,
    SNAPSHOT_KEPT,
    SNAPSHOT_RESTORED,
    SQS,
    WRITE_UNITS,
    READ_UNITS,
    TABLE,
    BACKUP,
    SECRETS,
    SECRET_CALLS,
    LOGS,
    LOGS_KEPT,
    METRICS,
    ALARMS,
    DASHBOARDS,
    TRACES,
    SCHEDULED,
)
