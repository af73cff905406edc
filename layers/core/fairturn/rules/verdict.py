"""Whether a rep may get leads, and why: how the roster says it, and how journals keep it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Code(StrEnum):
    """How a rep stands, as journals keep it. The words for it are explain.py's."""

    ON_DUTY = "on duty"
    OFF = "off"
    """It is outside their working hours."""
    AWAY = "away"
    HOLIDAY = "holiday"
    """Their shift of today is on a public holiday."""
    UNKNOWN = "unknown"
    DEACTIVATED = "deactivated"
    REFUSED = "refused"


class Source(StrEnum):
    """Who says so."""

    POLICY = "policy"
    HUBSPOT = "hubspot"


LEFT: Final = frozenset({Code.UNKNOWN, Code.DEACTIVATED, Code.REFUSED})


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a rep may get leads at a moment, and why. It holds no text that anybody typed in."""

    code: Code = Code.ON_DUTY
    source: Source = Source.POLICY
    until: str | None = None
    """The last day of an absence or a holiday, or its end by the rep's clock to the minute, as ISO 8601 has it; None
    where nothing ends it that is known."""

    @property
    def on_duty(self) -> bool:
        """Whether they may get leads."""
        return self.code is Code.ON_DUTY

    @property
    def has_left(self) -> bool:
        """HubSpot does not know them, has deactivated them or refuses them."""
        return self.code in LEFT


ON_DUTY: Final = Verdict()
