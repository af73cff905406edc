"""The Lambda function that takes changes from a queue and follows them in the table."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from fairturn import IN_LAMBDA, ready
from fairturn.deadline import Deadline
from fairturn.edges.queues import Incoming
from fairturn.settings import settings
from fairturn.telemetry import logger
from fairturn.wiring import Services, wired

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext


@cache
def services() -> Services:
    """The clients, and the services once they are asked for; kept as long as the function is warm."""
    return wired(settings())


if IN_LAMBDA:
    services()
    ready()


@logger.inject_lambda_context(log_event=False)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Take a batch of changes; what must come again is named, everything else is done."""
    received = [Incoming.from_record(record) for record in event["Records"]]
    left = services().changes.take(received, services().track.process, Deadline.of(context))
    return {"batchItemFailures": [{"itemIdentifier": each.id} for each in left]}
