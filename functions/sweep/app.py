"""The Lambda function that runs every minute and does what no message brings."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from fairturn import IN_LAMBDA, ready
from fairturn.deadline import Deadline
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
def handler(event: dict[str, Any], context: LambdaContext) -> None:  # noqa: ARG001 - Lambda passes it
    """Do what is due; the scheduler waits for no answer."""
    services().sweep.run(Deadline.of(context))
