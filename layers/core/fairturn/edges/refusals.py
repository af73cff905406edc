"""Writes that the table refused because a condition did not hold. There is one exception for each, and it says who won.

Refused
├── ClaimRefused         the ledger, the loads or some records have moved
├── RecordsMoved         some records have moved
├── PolicyMoved          somebody else has applied a policy meanwhile
├── RosterMoved          somebody else has refreshed the owners meanwhile
├── BrakeMoved           somebody else has counted leads from bulk sources meanwhile
└── LoadsCorrected       somebody else has corrected loads meanwhile
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fairturn.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fairturn.rules.ledger import Ledger
    from fairturn.rules.record import Record


class ClaimRefused(Refused):
    """A claim or its undoing did not happen. What won is carried along; what is None or absent did hold.

    `ledger` and `loads` are as they stand now, and so is each record that moved.
    """

    def __init__(
        self,
        *,
        ledger: Ledger | None = None,
        loads: Mapping[str, int] | None = None,
        records: Mapping[str, Record] | None = None,
    ) -> None:
        moved = [name for name, item in (("ledger", ledger), ("loads", loads)) if item is not None]
        super().__init__(f"moved: {', '.join([*moved, *(records or {})])}")
        self.ledger = ledger
        self.loads = loads
        self.records = dict(records or {})


class RecordsMoved(Refused):
    """Some records were not as read; `records` holds them as they are now."""

    def __init__(self, records: Mapping[str, Record]) -> None:
        super().__init__(f"moved: {', '.join(records)}")
        self.records = dict(records)


class PolicyMoved(Refused):
    """Another version of the policy came into force first."""


class RosterMoved(Refused):
    """The owners were refreshed by somebody else first."""


class BrakeMoved(Refused):
    """Leads from bulk sources were counted by somebody else first."""


class LoadsCorrected(Refused):
    """Loads were corrected by somebody else first."""
