"""The sandbox: the real functions on one machine, wired as template.yaml wires them; no account.

moto stands in for DynamoDB, SQS and Secrets Manager, a portal in memory for HubSpot; CloudWatch is told what the
functions, the queues and the API really did. The clock is simulated for the whole process, so a story that lasts a day
takes seconds and repeats for its seed; only `time.perf_counter()` and `time.monotonic()` stay real. Functions run one
after the other: moto does not keep transactions apart, so nothing here says anything about concurrency.
"""

from __future__ import annotations

import base64
import os
import time
from collections import Counter
from contextlib import ExitStack, suppress
from datetime import UTC, datetime, timedelta
from functools import cached_property, partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final
from unittest.mock import patch
from urllib.parse import urlsplit

import boto3
import time_machine
from moto.sqs.models import Queue, sqs_backends

from fairturn import wiring
from fairturn.edges import queues
from fairturn.edges.hubspot.client import HubSpot
from fairturn.settings import settings
from fairturn.telemetry import logger
from fairturn_console.dead_letters import DeadLetters
from fairturn_sandbox import events
from fairturn_sandbox.cloud import ACCOUNT, REGION, Stack, aws_in_process
from fairturn_sandbox.cloudwatch import MINUTE, Alarm, CloudWatch, Series
from fairturn_sandbox.function import Function, FunctionFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType
    from typing import Self, TextIO

    from fairturn_sandbox.portal import Portal
    from fairturn_sandbox.webhooks import WebhookRequest

AT_ONCE: Final = 10
"""Messages in one request to SQS."""
POISON_FROM: Final = 4
"""A message received so often does not count in the age of a queue's oldest."""


class Sandbox:
    """AWS and the functions, as the template describes them. A context manager, within the portal's."""

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
        self.functions: dict[str, Function] = {}
        """By their names in the template."""
        self.metrics = CloudWatch()
        self.refused: dict[str, str] = {}
        """What AWS refuses, `dynamodb` or `sqs.SendMessageBatch` → the code of its error."""
        self.requests: Counter[str] = Counter()
        """What the functions and the pollers asked of AWS, as `sqs.SendMessageBatch`."""
        self._windows: dict[str, datetime] = {}
        """Queue → when the first message of the batch to come was at hand."""
        self._sampled = int(start.timestamp()) // MINUTE

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._traveller = stack.enter_context(self._clock)
            stack.enter_context(aws_in_process()).register("before-call", self._take)  # type: ignore[arg-type] # a handler may answer
            stack.enter_context(patch.dict(os.environ, {"HUBSPOT_API_URL": self.portal.url}))
            self._sqs = boto3.client("sqs")
            self._deployed = Stack(
                self._parameters, webhook_secret=self.portal.webhooks.secret, token=self.portal.token
            )
            # The pauses between attempts pass on the simulated clock, like all that a function waits for.
            stack.enter_context(patch.object(wiring, "HubSpot", partial(HubSpot, sleep=self._pass)))
            # One request after the other: else what a queue holds is in another order each time.
            stack.enter_context(patch.object(queues, "MAX_AT_ONCE", 1))
            handler = logger.registered_handler
            stack.callback(handler.setStream, handler.setStream(self._log))  # type: ignore[attr-defined]
            for name, properties in self._deployed.functions().items():
                self.functions[name] = Function(name, properties, self._log, self.metrics)
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
        """Let time pass, at once; CloudWatch is told of the queues every minute."""
        last = int(max(to, self.now).timestamp()) // MINUTE
        for minute in range(self._sampled + 1, last + 1):
            self._move(datetime.fromtimestamp(minute * MINUTE, UTC))
            self._sample_queues(minute * MINUTE)
        self._sampled = last
        self._move(to)

    def _move(self, to: datetime) -> None:
        if to > self.now:
            self._traveller.move_to(to)

    @property
    def ringing(self) -> set[str]:
        """The names of the alarms that ring now."""
        return {name for name, alarm in self.alarms.items() if alarm.rings(self.metrics, self.now)}

    @cached_property
    def alarms(self) -> dict[str, Alarm]:
        """The template's alarms."""
        return {name: Alarm.model_validate(properties) for name, properties in self._deployed.alarms().items()}

    @property
    def dashboard(self) -> dict[str, Any]:
        """The template's dashboard."""
        return self._deployed.dashboard()

    def _pass(self, seconds: float) -> None:
        self._traveller.shift(timedelta(seconds=seconds))

    # What AWS does

    def post(self, request: WebhookRequest) -> int:
        """Do as API Gateway does with a request: make an event of it, call intake, answer with its status."""
        status = self._answer(request)
        at = time.time()
        for name, value in {"Count": 1, "4xx": 400 <= status < 500, "5xx": status >= 500}.items():
            self.metrics.put(Series.of("AWS/ApiGateway", name, ApiId=self._deployed.references["Api"]), value, at)
        if self.lose_answers():
            self.unheard += 1
            return 504
        return status

    def _answer(self, request: WebhookRequest) -> int:
        (route,) = self._deployed.template.resources("AWS::ApiGatewayV2::Route").values()
        if f"{request.method} {urlsplit(request.url).path}" != self._deployed.resolve(route["RouteKey"]):
            return 404
        try:
            status: int = self.functions["IntakeFunction"].invoke(_http_event(request))["statusCode"]
        except FunctionFailed:
            return 500
        return status

    @property
    def gathers(self) -> bool:
        """Whether messages are at hand, and a batching window waits for more."""
        return bool(self._windows)

    def poll(self) -> int:
        """Do once as Lambda's pollers do: hand each function a batch of what is at hand in its queue, as soon as the
        batch is full or its window is over.

        Returns the number of messages that are left, those included that are waited for or being worked on.
        """
        return sum(self._poll(function, source) for function in self.functions.values() for source in function.queues())

    def tick(self) -> None:
        """Do once as EventBridge does when a schedule's time has come: call each function that has one."""
        for function in self.functions.values():
            if function.is_scheduled:
                with suppress(FunctionFailed):  # the template has no second try
                    function.invoke(events.load("sweep") | {"time": self.now.strftime("%Y-%m-%dT%H:%M:%SZ")})

    def _poll(self, function: Function, source: Mapping[str, Any]) -> int:
        url = self._deployed.url(source["Queue"])
        queue = _queues()[source["Queue"].rpartition(":")[2]]
        at_hand = queue.approximate_number_of_messages
        left = at_hand + queue.approximate_number_of_messages_delayed + queue.approximate_number_of_messages_not_visible
        if not self._is_over(source, at_hand):
            return left
        records = self._receive(source["Queue"], min(at_hand, int(source["BatchSize"])))
        if not records:
            return left
        try:
            answer = function.invoke({"Records": records})
        except FunctionFailed:
            return left  # all of them come back when their time is up
        failed = {failure["itemIdentifier"] for failure in answer["batchItemFailures"]}
        done = [record["receiptHandle"] for record in records if record["messageId"] not in failed]
        for start in range(0, len(done), AT_ONCE):
            handles = done[start : start + AT_ONCE]
            entries: Any = [{"Id": str(n), "ReceiptHandle": handle} for n, handle in enumerate(handles)]
            self._sqs.delete_message_batch(QueueUrl=url, Entries=entries)
        return left - len(done)

    def _is_over(self, source: Mapping[str, Any], at_hand: int) -> bool:
        """Whether a source's window, which begins with the first message at hand, is over."""
        if not at_hand:
            self._windows.pop(source["Queue"], None)
            return False
        since = self._windows.setdefault(source["Queue"], self.now)
        window = timedelta(seconds=source.get("MaximumBatchingWindowInSeconds", 0))
        is_over = at_hand >= int(source["BatchSize"]) or self.now >= since + window
        if is_over:
            del self._windows[source["Queue"]]
        return is_over

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
            leads=(here.leads_dead_letters, here.bulk_queue),
            changes=(here.changes_dead_letters, here.changes_queue),
            wait=0,
        )

    def _sample_queues(self, at: int) -> None:
        """Tell CloudWatch what SQS tells it every minute."""
        for name, queue in _queues().items():
            messages: list[Any] = queue._messages  # noqa: SLF001 - SQS tells the age of the oldest to nobody else
            sent = [each.sent_timestamp for each in messages if each.approximate_receive_count < POISON_FROM]
            age = at - min(sent) // 1000 if sent else 0
            for metric, value in {
                "ApproximateNumberOfMessagesVisible": queue.approximate_number_of_messages,
                "ApproximateAgeOfOldestMessage": age,
            }.items():
                self.metrics.put(Series.of("AWS/SQS", metric, QueueName=name), value, at)

    def _take(self, model: Any, **_: Any) -> tuple[Any, Any] | None:
        """Count a request; answer in the place of AWS where it refuses."""
        service = model.service_model.service_name
        self.requests[f"{service}.{model.name}"] += 1
        code = self.refused.get(service) or self.refused.get(f"{service}.{model.name}")
        if code is None:
            return None
        return SimpleNamespace(status_code=400), {"Error": {"Code": code, "Message": ""}, "ResponseMetadata": {}}

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


def _queues() -> Mapping[str, Queue]:
    """moto's queues, by their names: to look at them is no request."""
    queues: Mapping[str, Queue] = sqs_backends[ACCOUNT][REGION].queues
    return queues


def _http_event(request: WebhookRequest) -> dict[str, Any]:
    """The event that an HTTP API makes of a request; the rest is as AWS sends it."""
    event = events.addressed(events.load("contact-created"), request.url, int(time.time() * 1000))
    event["headers"] = {name.lower(): value for name, value in request.headers.items()}
    try:
        event["body"], event["isBase64Encoded"] = request.body.decode(), False
    except UnicodeDecodeError:
        event["body"], event["isBase64Encoded"] = base64.b64encode(request.body).decode(), True
    return event
