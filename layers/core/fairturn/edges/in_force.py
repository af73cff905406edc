"""The policy and the owners that a warm function works under, read anew every 30 seconds."""

from __future__ import annotations

import time
from itertools import filterfalse
from typing import TYPE_CHECKING, Final

from fairturn.telemetry import Metric, count, logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from fairturn.edges.store import Store
    from fairturn.rules.policy import Policy
    from fairturn.rules.terms import Pointer, Terms

IN_FORCE_FOR: Final = 30.0
"""Seconds for which a warm function trusts the policy and the roster that it has read."""


class InForce:
    """The policy and the roster that a warm function works under, read again after 30 seconds.

    The clock is the wall's: while Lambda keeps a function frozen between two calls, others may stand still.
    """

    def __init__(self, store: Store, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._clock = clock
        self._read_at = float("-inf")
        self._terms: Terms | None = None
        self._policy: Policy | None = None

    def current(self) -> Terms:
        """The terms to decide by. Raises PolicyMissing or PolicyInvalid."""
        if self._terms is None or self._clock() - self._read_at >= IN_FORCE_FOR:
            return self.refresh()[1]
        return self._terms

    def refresh(self) -> tuple[Pointer, Terms]:
        """Read what is in force now, and decide by that from here on. Raises PolicyMissing or PolicyInvalid."""
        pointer = self._store.pointer()
        if self._policy is None or self._terms is None or pointer.number != self._terms.number:
            self._policy = self._store.policy(pointer.number)
        self._terms = pointer.terms(self._policy)
        self._read_at = self._clock()
        for rep in filterfalse(self._terms.is_owner, self._terms.policy.reps):
            count(Metric.REPS_UNAVAILABLE)
            logger.error("the policy names a rep whom HubSpot does not know or has archived", extra={"rep": rep})
        return pointer, self._terms

    def expire(self) -> None:
        """Read again at the next look: something has shown that there is a newer truth."""
        self._read_at = float("-inf")
