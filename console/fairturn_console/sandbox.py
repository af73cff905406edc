"""The sandbox: the real handlers, wired as template.yaml wires them, on one machine with no account.

moto's server stands in for DynamoDB, SQS and Secrets Manager, a portal in memory for HubSpot. The clock is
simulated for the whole process, so a story that lasts a day takes seconds and repeats for its seed; only
`time.perf_counter()` and `time.monotonic()` stay real. Functions run one after the other: moto does not keep
transactions apart, so nothing here says anything about concurrency.
"""

from __future__ import annotations

import base64
import copy
import importlib.util
import os
import time
from contextlib import ExitStack, contextmanager, redirect_stdout
from datetime import UTC, datetime, timedelta
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final
from unittest.mock import patch

import boto3
import time_machine
from aws_lambda_powertools.utilities.typing import LambdaContext
from moto.dynamodb import models as dynamodb_models
from moto.dynamodb.models import DynamoDBBackend
from moto.dynamodb.models.table import Table as MotoTable

from fairturn import wiring
from fairturn.crm import HubSpot
from fairturn.settings import settings
from fairturn.telemetry import logger
from fairturn_console import events
from fairturn_console.cloud import ACCOUNT, REGION, Stack, aws
from fairturn_console.dead_letters import DeadLetters
from fairturn_console.template import PATH

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import TracebackType
    from typing import Self, TextIO

    from fairturn_console.portal import Portal
    from fairturn_console.webhooks import WebhookRequest

COLD_AFTER: Final = 900
"""Seconds without a call after which Lambda is taken to have thrown a function's instance away."""
AT_ONCE: Final = 10
"""Messages in one request to SQS."""


class Sandbox:
    """AWS and the functions, as the template describes them. A context manager, within a portal's."""

    def __init__(self, portal: Portal, *, start: datetime, log: TextIO, parameters: Mapping[str, str | int]) -> None:
        """`log` takes what the functions log; `parameters` are the template's."""
        self.portal = portal
        self.redelivered = 0
        """Messages that a queue gave out more than once."""
        self.unheard = 0
        """Answers to webhooks that never reached HubSpot."""
        self.lose_answers: Callable[[], bool] = lambda: False
        """Whether the answer to the next webhook is lost on its way."""
        self._log = log
        self._parameters = parameters
        self._stack = ExitStack()
        self._clock = time_machine.travel(start, tick=False)
        self._functions: dict[str, Function] = {}

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._traveller = stack.enter_context(self._clock)
            stack.enter_context(one_copy_a_transaction())
            stack.enter_context(aws())
            stack.enter_context(patch.dict(os.environ, {"HUBSPOT_API_URL": self.portal.url}))
            self._sqs = boto3.client("sqs")
            self._deployed = Stack(
                self._parameters, webhook_secret=self.portal.webhooks.secret, token=self.portal.token
            )
            # The pauses between attempts pass on the simulated clock, like all that a function waits for.
            stack.enter_context(patch.object(wiring, "HubSpot", partial(HubSpot, sleep=self._pass)))
            handler = logger.registered_handler
            stack.callback(handler.setStream, handler.setStream(self._log))  # type: ignore[attr-defined]
            for name, properties in self._deployed.functions().items():
                self._functions[name] = Function(name, properties, self._log)
            stack.enter_context(patch.dict(os.environ, self._deployed.environment("AssignFunction")))
            settings.cache_clear()
            stack.callback(settings.cache_clear)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    # Time

    @property
    def now(self) -> datetime:
        """The simulated time."""
        return datetime.now(UTC)

    def travel(self, to: datetime) -> None:
        """Let time pass, at once."""
        if to > self.now:
            self._traveller.move_to(to)

    def _pass(self, seconds: float) -> None:
        self._traveller.shift(timedelta(seconds=seconds))

    # What AWS does

    def post(self, request: WebhookRequest) -> int:
        """Do as API Gateway does with a request: make an event of it, call intake, answer with its status."""
        answer = self._functions["IntakeFunction"].invoke(_http_event(request))
        if self.lose_answers():
            self.unheard += 1
            return 504
        status: int = answer["statusCode"]
        return status

    @property
    def settling(self) -> timedelta:
        """How long after a webhook its messages are at hand as one batch."""
        seconds = [
            self._deployed.delay(source["Queue"]) + source.get("MaximumBatchingWindowInSeconds", 0)
            for function in self._functions.values()
            for source in function.queues()
        ]
        return timedelta(seconds=max(seconds))

    def poll(self) -> int:
        """Do once as Lambda's pollers do: hand each function a batch of what is at hand in its queue.

        Returns the number of messages that are left, those included that are delayed or being worked on.
        """
        return sum(
            self._poll(function, source) for function in self._functions.values() for source in function.queues()
        )

    def tick(self) -> None:
        """Do once as EventBridge does when a schedule's time has come: call each function that has one."""
        for function in self._functions.values():
            if function.is_scheduled:
                function.invoke(events.load("sweep") | {"time": self.now.strftime("%Y-%m-%dT%H:%M:%SZ")})

    def _poll(self, function: Function, source: Mapping[str, Any]) -> int:
        url = self._deployed.url(source["Queue"])
        attributes = self._sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        at_hand = int(attributes["ApproximateNumberOfMessages"])
        delayed = int(attributes["ApproximateNumberOfMessagesDelayed"])
        left = at_hand + delayed + int(attributes["ApproximateNumberOfMessagesNotVisible"])
        records = self._receive(source["Queue"], min(at_hand, int(source["BatchSize"])))
        if not records:
            return left
        answer = function.invoke({"Records": records})
        failed = {failure["itemIdentifier"] for failure in answer["batchItemFailures"]}
        done = [record["receiptHandle"] for record in records if record["messageId"] not in failed]
        for start in range(0, len(done), AT_ONCE):
            handles = done[start : start + AT_ONCE]
            entries: Any = [{"Id": str(n), "ReceiptHandle": handle} for n, handle in enumerate(handles)]
            self._sqs.delete_message_batch(QueueUrl=url, Entries=entries)
        return left - len(done)

    def dead_letters(self, queue: str = "leads") -> list[tuple[str, str]]:
        """Body and reason of every dead letter of a queue, `leads` or `changes`. They stay where they are."""
        letters = self.letters().list().letters
        return [(letter.body, letter.reason) for letter in letters if letter.queue == queue]

    def letters(self) -> DeadLetters:
        """Both dead-letter queues, as `fairturn dead-letters` works on them, for one look or one redrive."""
        here = settings()
        self.travel(self.now + timedelta(milliseconds=1))  # moto gives out again what was handed back before, not now
        return DeadLetters(
            self._sqs,
            leads=(here.leads_dead_letters, here.leads_queue),
            changes=(here.changes_dead_letters, here.changes_queue),
            wait=0,
        )

    def _receive(self, arn: str, most: int) -> list[dict[str, Any]]:
        records: list[dict[str, Any]] = []
        while len(records) < most:
            messages = self._sqs.receive_message(
                QueueUrl=self._deployed.url(arn),
                MaxNumberOfMessages=min(AT_ONCE, most - len(records)),
                MessageSystemAttributeNames=["All"],
                MessageAttributeNames=["All"],
            ).get("Messages", [])
            if not messages:
                break
            for message in messages:
                self.redelivered += message["Attributes"]["ApproximateReceiveCount"] != "1"
                records.append(
                    {
                        "messageId": message["MessageId"],
                        "receiptHandle": message["ReceiptHandle"],
                        "body": message["Body"],
                        "attributes": message["Attributes"],
                        "messageAttributes": {},
                        "md5OfBody": message["MD5OfBody"],
                        "eventSource": "aws:sqs",
                        "eventSourceARN": arn,
                        "awsRegion": REGION,
                    }
                )
        return records


@contextmanager
def one_copy_a_transaction() -> Iterator[None]:
    """Let moto keep one copy of the table for undoing a transaction, not one for each of its items.

    A transaction of 100 items takes a fiftieth of the time; what it does stays the same.
    """
    write = DynamoDBBackend.transact_write_items

    def transact_write_items(backend: DynamoDBBackend, items: list[dict[str, Any]]) -> None:
        copies: dict[str, Any] = {}

        def deepcopy(original: Any) -> Any:
            if not isinstance(original, MotoTable):
                return copy.deepcopy(original)
            if original.name not in copies:
                copies[original.name] = copy.deepcopy(original)
            return copies[original.name]

        with patch.object(dynamodb_models, "copy", SimpleNamespace(deepcopy=deepcopy)):
            write(backend, items)

    with patch.object(DynamoDBBackend, "transact_write_items", transact_write_items):
        yield


class Function:
    """One Lambda function of the template, run in this process."""

    def __init__(self, name: str, properties: Mapping[str, Any], log: TextIO) -> None:
        self.name = name
        self._properties = properties
        self._log = log
        self._handler: Callable[..., Any] | None = None
        self._used_at = 0.0

    def queues(self) -> list[dict[str, Any]]:
        """The queues that it is called with, as the template says."""
        events = self._properties.get("Events", {}).values()
        return [event["Properties"] for event in events if event["Type"] == "SQS"]

    @property
    def is_scheduled(self) -> bool:
        """Whether the clock calls it, as the template says."""
        return any(event["Type"] == "Schedule" for event in self._properties.get("Events", {}).values())

    def invoke(self, event: Mapping[str, Any]) -> Any:
        """Call the handler; after a long pause the function starts anew, knowing nothing."""
        now = time.time()
        with redirect_stdout(self._log):
            if self._handler is None or now - self._used_at > COLD_AFTER:
                self._handler = self._start()
            self._used_at = now
            return self._handler(copy.deepcopy(event), _Context(self.name, self._properties))

    def _start(self) -> Callable[..., Any]:
        module_name, _, function = self._properties["Handler"].partition(".")
        path = PATH.parent / self._properties["CodeUri"] / f"{module_name}.py"
        spec = importlib.util.spec_from_file_location(f"sandbox_{self.name}", path)
        if spec is None or spec.loader is None:
            raise FileNotFoundError(path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        handler: Callable[..., Any] = getattr(module, function)
        return handler


def _http_event(request: WebhookRequest) -> dict[str, Any]:
    """The event that an HTTP API makes of a request; the rest is as AWS sends it."""
    event = events.addressed(events.load("contact-created"), request.url, int(time.time() * 1000))
    event["headers"] = {name.lower(): value for name, value in request.headers.items()}
    try:
        event["body"], event["isBase64Encoded"] = request.body.decode(), False
    except UnicodeDecodeError:
        event["body"], event["isBase64Encoded"] = base64.b64encode(request.body).decode(), True
    return event


class _Context(LambdaContext):
    """What Lambda tells a function about itself; its time runs out on the simulated clock."""

    def __init__(self, name: str, properties: Mapping[str, Any]) -> None:
        # Powertools' class has no other way in.
        self._function_name = name
        self._memory_limit_in_mb = int(properties["MemorySize"])
        self._invoked_function_arn = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}"
        self._aws_request_id = "sandbox"
        self._end = time.time() + int(properties["Timeout"])

    def get_remaining_time_in_millis(self) -> int:  # type: ignore[override]  # Powertools' is static, and always 0
        return max(0, int((self._end - time.time()) * 1000))
