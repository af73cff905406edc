"""SQS → leads with an owner."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from fairturn.queues import Received
from fairturn.settings import settings
from fairturn.telemetry import logger
from fairturn.wiring import Wiring

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

    from fairturn.assign import Assign


@cache
def assign() -> Assign:
    """The service, kept as long as the function is warm."""
    return Wiring(settings()).assign()


@logger.inject_lambda_context(log_event=False)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:  # noqa: ARG001 - Lambda passes it
    """Take a batch of leads; what must come again is named, everything else is done."""
    left = assign().take([Received.from_record(record) for record in event["Records"]])
    return {"batchItemFailures": [{"itemIdentifier": received.id} for received in left]}
