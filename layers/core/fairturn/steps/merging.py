"""Merging: HubSpot has made one contact of several, and one of their records lives on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fairturn.rules.record import State, follow
from fairturn.steps.case import Resolution

if TYPE_CHECKING:
    from fairturn.rules.policy import Policy
    from fairturn.rules.record import Record
    from fairturn.steps.case import Case

HEIRS: Final = (
    State.HANDED,
    State.EXTERNAL,
    State.WAITING,
    State.OBSERVED,
    State.REFUSED,
    State.UNOWNED,
    State.CLOSED,
)
"""Which of the leads that a merge has made one lives on: the first that there is."""


def merge(case: Case, policy: Policy, at: int) -> Resolution:
    """Let one of the leads live on under the id that HubSpot answers to, and end the others. Ids that we don't know
    leave a record, too: the message of a lead may still be on its way. `at` is epoch milliseconds."""
    record, seen, id_ = case.record, case.seen, case.change.id
    heir = _heir(case) if record.state is State.NEW else None
    moves = [(each, each.merged(id_, at)) for each in case.absorbed if each is not heir]
    base = record if heir is None else heir.carried_to(id_)
    after = None if seen is None or not case.is_ours_to_follow(base, policy) else follow(base, seen, at)
    if heir is None:
        return Resolution(case, moves if after is None else [*moves, (record, case.brought(after))])
    own = base.touched(at) if after is None else after
    return Resolution(case, moves, inheritance=[(record, own), (heir, heir.merged(id_, at).given_back())])


def _heir(case: Case) -> Record | None:
    """The record of the lead that lives on: the owner's own first."""
    owner = None if case.seen is None else case.seen.owner
    alive = [record for record in case.absorbed if record.state in HEIRS]
    return min(
        alive,
        key=lambda record: (record.rep != owner, HEIRS.index(record.state), record.occurred_at, record.key),
        default=None,
    )
