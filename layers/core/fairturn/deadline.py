"""Deadline: the moment by which an invocation has ended all that it began.

Lambda ends a function at its timeout, wherever it is. So whatever takes long asks first whether there is time for it,
and nothing begins that can't end before the deadline.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fairturn.errors import OutOfTime

if TYPE_CHECKING:
    from collections.abc import Callable

    from aws_lambda_powertools.utilities.typing import LambdaContext


@dataclass(frozen=True, slots=True)
class Deadline:
    """How much time is left. It is passed down to all that an invocation calls."""

    left: Callable[[], float]
    """Seconds until the deadline; 0 or less once it has passed."""

    @classmethod
    def of(cls, context: LambdaContext) -> Deadline:
        """When Lambda ends this invocation."""
        return cls(lambda: context.get_remaining_time_in_millis() / 1000)

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """So many seconds from now: for what no Lambda function does."""
        end = time.monotonic() + seconds
        return cls(lambda: end - time.monotonic())

    def less(self, reserve: float) -> Deadline:
        """The same, so many seconds earlier: they are kept for what has to be done at the end."""
        return Deadline(lambda: self.left() - reserve)

    def check(self, needed: float) -> None:
        """Let something begin that takes so many seconds at most. Raises OutOfTime if there are fewer."""
        if self.left() < needed:
            raise OutOfTime("no time is left in this run")
