"""Missed changes: what HubSpot shows of a contact, although no event has told of it. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from fairturn.rules.conditions import Reached
from fairturn.rules.events import MAX_MERGED_PER_MESSAGE, OWNER, UNKNOWN_SOURCE, Kind, Message
from fairturn.rules.policy import Mode
from fairturn.rules.record import READS_LAG, Record, Seen, State, follow
from fairturn.rules.routing import Lead, Route, is_closed, route

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from fairturn.rules.policy import Policy

LOOK_EVERY: Final = 15 * 60_000
"""Milliseconds from the beginning of one look to that of the next."""
OVERLAP: Final = 30 * 60_000
"""Milliseconds by which a look goes back behind the beginning of the last one: so each change is looked at three times,
and one that a search did not find yet, or lacked by mistake, is found by the next."""
NOTICED_WITHIN: Final = 5 * 60_000
"""Milliseconds that a webhook has, and the functions behind it, before anything is missed."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """What a search shows of a record. The index behind it lags and lacks, so it says where to look, not what is."""

    id: str
    created_at: int
    """Epoch milliseconds; 0 if HubSpot doesn't say."""
    changed_at: int
    """When it last changed, likewise."""
    source: str
    """What has created it, in the words of a change source."""
    merged: frozenset[str]
    """The ids that were merged into it, at any time."""


class Cause(StrEnum):
    """Which change was missed."""

    CREATED = "created"
    """A lead was there, without an owner, and we did not know it."""
    OWNER = "owner"
    """The owner was set, changed or taken away."""
    CLOSED = "closed"
    REOPENED = "reopened"
    MERGED = "merged"


@dataclass(frozen=True, slots=True)
class Watermark:
    """How far a look at HubSpot has come. Times are epoch milliseconds."""

    began_at: int
    since: int
    """What has not changed from then on is not looked at."""
    beyond: str = "0"
    """Contacts up to this id are done."""
    done: bool = False

    def is_over(self, at: int) -> bool:
        """Whether it is done, and time for the next one."""
        return self.done and at >= self.began_at + LOOK_EVERY

    def next(self, at: int) -> Watermark:
        """The look that is begun after this one."""
        return Watermark(began_at=at, since=self.began_at - OVERLAP)


def missed(
    sighting: Sighting,
    properties: Mapping[str, str | None],
    record_of: Callable[[str], Record],
    policy: Policy,
    since: int,
    at: int,
) -> tuple[Message, Cause] | None:
    """What no event has told of a contact, as a message for track; None if nothing is missing.

    `at` is when HubSpot showed these properties, `since` from when on a contact that is new to us counts as a new one;
    both are epoch milliseconds. Raises what `record_of` raises.
    """
    record = record_of(sighting.id)
    lost = sorted(_lost(sighting, record_of), key=int)[:MAX_MERGED_PER_MESSAGE]
    if lost:
        return _message(sighting, Kind.MERGE, merged=tuple(lost)), Cause.MERGED
    if record.state in {State.CLAIMED, State.ERASED} or at < record.changed_at + READS_LAG:
        return None
    seen = Seen(properties.get(OWNER) or None, is_closed(properties, policy))
    if record.state is State.NEW:
        return _new(sighting, Lead(_message(sighting, Kind.CREATION), properties), seen, policy, since)
    if policy.mode is Mode.OBSERVE and not record.is_counted:
        return None
    after = follow(record, seen, at)
    if after is not None:
        return _message(sighting), Cause.CLOSED if seen.closed else Cause.OWNER
    is_ended = record.state in {State.CLOSED, State.GONE} and record.unseen_at is None  # for the unseen, sweep looks
    is_back = is_ended and seen.owner is None and not seen.closed
    told = _message(sighting)
    as_it_came = replace(told, change_source=record.source) if record.came and record.source else told
    if is_back and isinstance(route(Lead(as_it_came, properties), policy), Route):
        return told, Cause.REOPENED
    return None


def _new(sighting: Sighting, lead: Lead, seen: Seen, policy: Policy, since: int) -> tuple[Message, Cause] | None:
    """A contact that we know nothing of: a lead whose creation was not told, or somebody's whom nobody has counted."""
    leads = policy.leads
    if seen.closed:
        return None
    is_new = sighting.created_at >= since
    is_lead = (is_new or isinstance(leads.when, Reached)) and isinstance(route(lead, policy), Route)
    if is_lead and seen.owner is None:  # an owner may be ours, of before the table was restored
        return (lead.message if is_new else _message(sighting, Kind.PROPERTY_CHANGE)), Cause.CREATED
    if seen.owner is None or policy.mode is Mode.OBSERVE:
        return None
    return _message(sighting), Cause.OWNER


def _lost(sighting: Sighting, record_of: Callable[[str], Record]) -> Iterable[str]:
    """The leads that a merge has taken along, and that nobody has told us of."""
    for id_ in sighting.merged - {sighting.id}:
        record = record_of(id_)
        if record.rev and record.merged_into is None and record.state not in {State.ERASED, State.CLOSED}:
            yield id_


def _message(sighting: Sighting, *kinds: Kind, merged: tuple[str, ...] = ()) -> Message:
    created = Kind.CREATION in kinds
    return Message(
        id=sighting.id,
        kinds=tuple(sorted({*kinds, Kind.FOUND})),
        occurred_at=(sighting.created_at if created else sighting.changed_at) or 1,
        change_source=sighting.source if created else UNKNOWN_SOURCE,
        merged=merged,
    )
