"""The terms in force: the policy, its versions, and the owners as HubSpot knows them. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fairturn.rules.policy import Mode, Policy
    from fairturn.rules.roster import Owner


@dataclass(frozen=True, slots=True)
class Version:
    """A version of the policy, as it came into force."""

    number: int
    at: int
    """When it was applied, epoch milliseconds."""
    mode: Mode
    by: str | None = None
    """The ARN of whoever applied it; None if it was not to be had."""
    message: str | None = None
    """What they said about it."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What is in force: the policy, its number, and the owners as HubSpot knows them."""

    number: int
    policy: Policy
    owners: Mapping[str, Owner]

    def is_owner(self, rep: str | None) -> bool:
        """Whether HubSpot knows the rep as an owner, active and not refused."""
        owner = self.owners.get(rep or "")
        return owner is not None and not owner.archived and not owner.unavailable


@dataclass(frozen=True, slots=True)
class Pointer:
    """What points to the terms in force."""

    number: int = 0
    """The version of the policy; 0 if none was applied."""
    owners: Mapping[str, Owner] = field(default_factory=dict)
    owners_at: int = 0
    """When the owners were refreshed, epoch milliseconds."""
    lanes: frozenset[str] = frozenset()
    """Every due lane that any version of the policy ever named: in any of them leads may wait."""
