"""Putting a policy into force: its reps found in HubSpot, and a new version in the table."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from fairturn.deadline import Deadline
from fairturn.errors import PolicyInvalid, PolicyMissing, Problem
from fairturn_console.policy.calendars import days
from fairturn_console.policy.problems import place

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fairturn.edges.hubspot.client import HubSpot
    from fairturn.edges.store import Store
    from fairturn.rules.policy import Policy
    from fairturn.rules.roster import Owner

OWNERS_WITHIN: Final = 30.0
"""Seconds that HubSpot is given to list the owners, twice if need be."""


def apply(
    policy: Policy, store: Store, crm: HubSpot, at: int, *, by: str | None = None, message: str | None = None
) -> int:
    """Put a policy into force: name its reps by owner id, write down the owners, store the next version.

    `at` is epoch milliseconds; `by` and `message` tell who applies it and what for. Returns the version's number.
    Raises PolicyInvalid for reps whom HubSpot doesn't know or has deactivated, PolicyMoved if somebody else applies one
    at the same time, and Unavailable.
    """
    owners = _owners(policy, crm)
    pointer = store.pointer()
    number, known = pointer.number, pointer.owners
    # Who has left gets no more leads, whatever becomes of this policy.
    store.put_roster([owner for owner in owners.values() if owner.id in known], at)
    resolved = resolve(policy, owners)
    store.put_roster([owner for owner in owners.values() if owner.id in {*known, *resolved.reps}], at)
    store.put_policy(number + 1, resolved, at, by=by, message=message)
    return number + 1


def roll_back(store: Store, crm: HubSpot, number: int, at: int, *, by: str | None = None) -> int:
    """Put an earlier version into force once more, as a new one, with the holidays of today. Returns the new version's
    number.

    Raises PolicyMissing if it has expired, PolicyInvalid if a rep of it has left HubSpot, and what `apply` raises.
    """
    before = store.policy(number)
    today = datetime.fromtimestamp(at / 1000, UTC).date()
    again = replace(before, calendars={name: days(name, today) for name in before.calendars})
    return apply(again, store, crm, at, by=by, message=f"back to version {number}")


def wants_recount(store: Store, number: int) -> str | None:
    """Why loads are to be counted anew under this version of the policy, in words; None if they need not be.

    Raises TableUnavailable.
    """
    if number == 1:
        return "contacts from before are in no load yet"
    try:
        before, now = store.policy(number - 1), store.policy(number)
    except (PolicyInvalid, PolicyMissing):  # an earlier version of this program has written it, or it is gone
        return "what the version before counted is not known"
    if before.leads.closed != now.leads.closed:
        return "leads.closed has changed"
    if now.reps.keys() - before.reps.keys():
        return "there are new reps, who may have open leads already"
    return None


def _owners(policy: Policy, crm: HubSpot) -> dict[str, Owner]:
    """Owner id → owner, of the whole portal. Raises Unavailable."""
    deadline = Deadline.after(OWNERS_WITHIN)
    owners = {owner.id: owner for owner in crm.owners(deadline)}
    try:
        resolve(policy, owners)
    except PolicyInvalid:  # an answer of HubSpot's may lack somebody: before they are told unknown, it is asked again
        owners |= {owner.id: owner for owner in crm.owners(deadline)}
    return owners


def resolve(policy: Policy, owners: Mapping[str, Owner]) -> Policy:
    """Name every rep by their owner id.

    Raises PolicyInvalid, naming every rep whom HubSpot doesn't know or has deactivated.
    """
    # Where an address is there twice, the active owner comes last and so is the one found.
    known = sorted(owners.values(), key=lambda owner: (not owner.archived, owner.id))
    found = {owner.email.strip().lower(): owner for owner in known if owner.email}
    found |= {owner.id: owner for owner in known}
    problems: list[Problem] = []
    ids: dict[str, str] = {}
    for key in policy.reps:
        owner = found.get(key)
        if owner is None:
            problems.append(Problem(place(["reps", key]), "is not known to HubSpot as an owner"))
        elif owner.archived:
            problems.append(Problem(place(["reps", key]), "is deactivated in HubSpot"))
        elif owner.id in ids.values():
            problems.append(Problem(place(["reps", key]), "is there twice: by e-mail and by owner id"))
        else:
            ids[key] = owner.id
    if problems:
        raise PolicyInvalid(problems)
    rotas = {
        name: replace(rota, members=tuple(ids[member] for member in rota.members))
        for name, rota in policy.rotas.items()
    }
    return replace(policy, reps={ids[key]: rep for key, rep in policy.reps.items()}, rotas=rotas)
