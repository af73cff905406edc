"""The Lambda function that takes new leads from two queues and gives each an owner."""

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
    """Take a batch of leads; what must come again is named, everything else is done."""
    received = [Incoming.from_record(record) for record in event["Records"]]
    consumer = services().bulk if _is_bulk(event["Records"][0]["eventSourceARN"]) else services().leads
    left = consumer.take(received, services().assign.process, Deadline.of(context))
    return {"batchItemFailures": [{"itemIdentifier": each.id} for each in left]}


def _is_bulk(arn: str) -> bool:
    """Whether this is the bulk queue: Lambda names the queue by its ARN, the environment by its URL."""
    return settings().bulk_queue.rpartition("/")[2] == arn.rpartition(":")[2]
