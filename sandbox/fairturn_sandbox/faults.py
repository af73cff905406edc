"""What may be wrong with an answer of HubSpot's API.

What happens on a bad day (429, a gateway's 502, a late answer) is a `Fault`. How far the answer to a read is from the
truth, on any day, is said by `Lies`; writes always meet the truth.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to one call: an answer that isn't the portal's, or (`status` None) the right one, late."""

    status: int | None
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0
    """Seconds, real ones."""


def _limit(policy: str) -> Fault:
    body = {
        "status": "error",
        "message": f"You have reached your {policy.lower()} limit.",
        "errorType": "RATE_LIMIT",
        "policyName": policy,
    }
    return Fault(429, json.dumps(body).encode(), {"content-type": "application/json"})


TEN_SECONDLY: Final = _limit("TEN_SECONDLY_ROLLING")
SECONDLY: Final = _limit("SECONDLY")
DAILY: Final = _limit("DAILY")
BAD_GATEWAY: Final = Fault(502, b"<html><title>502 Bad Gateway</title></html>", {"content-type": "text/html"})


def slow(seconds: float) -> Fault:
    """The right answer, late."""
    return Fault(None, delay=seconds)


@dataclass(frozen=True, slots=True)
class Lies:
    """How the answers to reads may be wrong, although they look right. By default they are never wrong."""

    stale: float = 0.0
    """How likely a contact of a read is shown as it was at a moment within the lag, 0 to 1."""
    lag: float = 15.0
    """How long ago that moment is at most, in seconds."""
    empty: float = 0.0
    """How likely the answer to a batch read, or a page of owners, is a 200 without results, 0 to 1."""
    partial: float = 0.0
    """How likely an answer lacks some of its results, without a word of them, 0 to 1."""


AS_HUBSPOT_DOES: Final = Lies(stale=0.2, empty=0.01, partial=0.02)
