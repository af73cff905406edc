"""The flood brake: too many leads from bulk sources in too short a time pause the bulk sources. Pure.

Applying a policy releases it. RevOps has then decided: `flood` is higher, or the rules ignore these leads, or the leads
are welcome.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fairturn.rules.policy import Flood

MINUTE = 60_000  # milliseconds


@dataclass(frozen=True, slots=True)
class Brake:
    """The leads from bulk sources that came lately, and whether they were too many."""

    rev: int = 0
    """Counts the writes; each write names the `rev` that it was decided on."""
    minutes: Mapping[int, int] = field(default_factory=dict)
    """Epoch minute → leads that came in it: at most the last `flood.minutes` minutes, none from before a release."""
    pulled_under: int = 0
    """The version of the policy under which it was last pulled; versions count from 1, so 0 is never."""

    def is_pulled(self, policy: int) -> bool:
        """Whether it holds the bulk sources back under this version of the policy.

        A newer version than the one it was pulled under releases it. An older one does not: a warm function may still
        decide by it.
        """
        return policy <= self.pulled_under


def register(brake: Brake, leads: int, at: int, flood: Flood, policy: int) -> Brake:
    """The brake after `leads` more (1 or more) from bulk sources, at epoch milliseconds by our clock.

    Leads are counted by the minute of the clock. The brake is pulled when more than `flood.leads` have come in the
    minute of `at` and the `flood.minutes` - 1 minutes before it. So the span that counts is up to one minute shorter
    than `flood.minutes`:

    - If no span of `flood.minutes` has more than `flood.leads`, the brake is never pulled.
    - If a span that is one minute shorter has more, it is always pulled.

    A clock that is behind counts in the newest minute. While the brake is pulled, nothing is counted. Once released, it
    begins with no minutes.
    """
    if brake.is_pulled(policy):
        return brake
    minute = max([at // MINUTE, *brake.minutes])
    lately = {past: number for past, number in brake.minutes.items() if past > minute - flood.minutes}
    lately[minute] = lately.get(minute, 0) + leads
    if sum(lately.values()) > flood.leads:
        return replace(brake, rev=brake.rev + 1, minutes={}, pulled_under=policy)
    return replace(brake, rev=brake.rev + 1, minutes=lately)
