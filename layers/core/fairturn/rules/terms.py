"""The terms in force: the policy, its versions, and the owners as HubSpot knows them. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from msgspec.structs import replace

from fairturn.rules.policy import Days, Moments

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fairturn.rules.policy import Absence, Mode, Policy
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


class Reason(StrEnum):
    """Why somebody is away. There is no other word about it."""

    SICK = "sick"
    LEAVE = "leave"
    TRAINING = "training"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Away:
    """An absence that somebody told the console: it stands beside the policy, whatever is applied."""

    since: str
    """A day, or a time without an offset, by the rep's own clock, as ISO 8601 has it."""
    until: str
    """The last day, or the time at which it ends; of the same kind as `since`."""
    reason: str = Reason.OTHER.value

    @property
    def absence(self) -> Absence:
        """As a policy has it."""
        if "T" in self.until:
            return Moments(datetime.fromisoformat(self.since), datetime.fromisoformat(self.until))
        return Days(date.fromisoformat(self.since), date.fromisoformat(self.until))


def with_absences(policy: Policy, away: Mapping[str, Away]) -> Policy:
    """The policy, with the absences that were told besides. Who is not in it makes no difference."""
    told = {rep: each for rep, each in away.items() if rep in policy.reps}
    reps = {
        rep: replace(policy.reps[rep], absences=(*policy.reps[rep].absences, each.absence))
        for rep, each in told.items()
    }
    return replace(policy, reps=policy.reps | reps) if reps else policy


@dataclass(frozen=True, slots=True)
class Terms:
    """What is in force: the policy with all absences, its number, and the owners as HubSpot knows them."""

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
    away: Mapping[str, Away] = field(default_factory=dict)
    """Who is away besides what the policy says, or was."""

    def terms(self, policy: Policy) -> Terms:
        """What is in force, given the version of the policy that this points to."""
        return Terms(self.number, with_absences(policy, self.away), self.owners)
