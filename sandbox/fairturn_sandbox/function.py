"""One Lambda function of the template, run in this process as Lambda runs it."""

from __future__ import annotations

import copy
import importlib.util
import io
import time
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Any, Final

from aws_lambda_powertools.utilities.typing import LambdaContext

from fairturn.telemetry import logger
from fairturn_console.template import PATH
from fairturn_sandbox.cloud import ACCOUNT, REGION
from fairturn_sandbox.cloudwatch import CloudWatch, Series

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TextIO

COLD_AFTER: Final = 900
"""Seconds without a call after which Lambda is taken to have thrown a function's instance away."""


class FunctionFailed(Exception):
    """Lambda has no answer of the function: it failed, ran out of time, or was not started."""


class Function:
    """One Lambda function of the template, run in this process."""

    def __init__(self, name: str, properties: Mapping[str, Any], log: TextIO, metrics: CloudWatch) -> None:
        self.name = name
        self.failed = 0
        """How often it failed or ran out of time."""
        self._properties = properties
        self._metrics = metrics
        self._output = _Output(log, metrics)
        self._handler: Callable[..., Any] | None = None
        self._used_at = 0.0

    def queues(self) -> list[dict[str, Any]]:
        """The queues that it is called with, as the template says."""
        return self._events("SQS")

    @property
    def is_scheduled(self) -> bool:
        """Whether the clock calls it, as the template says."""
        return bool(self._events("Schedule"))

    def _events(self, kind: str) -> list[dict[str, Any]]:
        events = [event["Properties"] for event in self._properties.get("Events", {}).values() if event["Type"] == kind]
        return [event for event in events if event.get("Enabled", True)]

    def deploy(self, **properties: Any) -> None:
        """Change some of its properties; it starts anew."""
        self._properties = {**self._properties, **properties}
        self._handler = None

    def switch(self, *, on: bool) -> None:
        """Switch all on or off that calls it but the API: pollers and schedules."""
        events = copy.deepcopy(self._properties["Events"])
        for event in events.values():
            event["Properties"]["Enabled"] = on
        self._properties = {**self._properties, "Events": events}

    def invoke(self, event: Mapping[str, Any]) -> Any:
        """Call the handler; after a long pause the function starts anew, knowing nothing. Raises FunctionFailed."""
        now = time.time()
        if self._properties.get("ReservedConcurrentExecutions") == 0:
            self._tell("Throttles", 1, now)
            raise FunctionFailed(f"{self.name} is throttled")
        self._tell("Throttles", 0, now)
        self._tell("Invocations", 1, now)
        context = _Context(self.name, self._properties)
        try:
            logger.append_keys(service=self._properties["Environment"]["Variables"]["POWERTOOLS_SERVICE_NAME"])
            with redirect_stdout(self._output):
                if self._handler is None or now - self._used_at > COLD_AFTER:
                    self._handler = self._start()
                self._used_at = now
                answer = self._handler(copy.deepcopy(event), context)
            if context.get_remaining_time_in_millis() == 0:
                raise TimeoutError(f"{self.name} ran out of time")
        except Exception as error:  # whatever it is, Lambda counts it and goes on
            self.failed += 1
            self._handler = None
            self._tell("Errors", 1, now)
            logger.exception("the function failed", extra={"function": self.name})
            raise FunctionFailed(self.name) from error
        self._tell("Errors", 0, now)
        return answer

    def _tell(self, metric: str, value: float, at: float) -> None:
        self._metrics.put(Series.of("AWS/Lambda", metric, FunctionName=self.name), value, at)

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


class _Output(io.TextIOBase):
    """What a function prints: kept in a log, and read by CloudWatch."""

    def __init__(self, log: TextIO, metrics: CloudWatch) -> None:
        self._log = log
        self._metrics = metrics

    def write(self, text: str) -> int:
        self._metrics.take(text)
        return self._log.write(text)


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
