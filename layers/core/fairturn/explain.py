"""Why a lead went to whom: one sentence for HubSpot, and the whole story in plain words. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from fairturn.ledger import ANY, TURN
from fairturn.policy import OTHERWISE
from fairturn.routing import describe

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fairturn.ledger import Booking, Claim, Member
    from fairturn.policy import Policy
    from fairturn.record import Record

PROPERTIES = (
    "fairturn_rota",
    "fairturn_rule",
    "fairturn_reason",
    "fairturn_priority",
    "fairturn_assigned_at",
)
"""The properties of a HubSpot record that tell its owner why it is his."""

CHOSEN_BEFORE = dict.fromkeys(PROPERTIES, "") | {
    "fairturn_reason": "Somebody had chosen this owner just before Fairturn wrote another one; the choice was restored."
}
"""What the properties say where a choice that we had overwritten was restored."""

LEVEL = TURN // 1000
"""Units: who differs by less is level, in words; exactly equal shares differ by a unit when a turn is split."""


def explanation(record: Record, booking: Booking) -> dict[str, str]:
    """The values of our properties for a lead that is being handed over."""
    at = datetime.fromtimestamp((record.claimed_at or record.changed_at) / 1000, UTC)
    return {
        "fairturn_rota": record.rota or "",
        "fairturn_rule": record.rule or "",
        "fairturn_reason": reason(record.rota or "", booking),
        "fairturn_priority": record.priority or "",
        "fairturn_assigned_at": at.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def reason(rota: str, booking: Booking) -> str:
    """One sentence that a salesperson understands, without anybody's name."""
    fit = "on duty with room for it" + ("" if booking.lane == ANY else f" and the skill {_listed(booking.lane)}")
    if len(booking.owed) == 1:
        return f"The owner was the only rep of {rota} {fit}."
    able = f"the {len(booking.owed)} reps of {rota} {fit}"
    most = booking.owed[booking.winner]
    rivals = sum(abs(sum(owed) - sum(most)) < LEVEL for owed in booking.owed.values()) - 1
    if rivals:
        level = f"level with {rivals} more" if rivals > 1 else "level with one more"
        return f"Of {able}, the owner was owed the most ({_turns(most[0])}), {level}, and had waited longest."
    return f"Of {able}, the owner was owed the most ({_turns(most[0])})."


def story(record: Record, claim: Claim, policy: Policy, names: Mapping[str, str]) -> list[str]:
    """The whole decision, line by line, recomputed from the claim's journal.

    `policy` is the version that the record names; `names` says how to call each rep.
    """
    booked_as, _ = record.booking
    booking = claim.bookings()[booked_as]
    taken: Counter[str] = Counter()
    for lead, _, winner in claim.leads:
        if lead == booked_as:
            break
        taken[winner] += 1
    came = datetime.fromtimestamp(record.occurred_at / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    wanted = "" if booking.lane == ANY else f", needs {_listed(booking.lane)}"
    lines = [
        f"{record.key} came {came} ({record.source or 'source unknown'}), decided under policy version {claim.policy}.",
        *(f"  Its {name} was {value}." for name, value in sorted(record.shown.items())),
        *_rules_tried(record, policy),
        f"So it goes to the rota {record.rota}{wanted}, priority {record.priority}.",
    ]
    for rep, member in claim.members.items():
        then = replace(member, load=member.load + taken[rep])
        lines.append(f"  {names.get(rep, rep)}: {verdict(then, booking, rep)}.")
    lines.append(f"It went to {names.get(booking.winner, booking.winner)}. {reason(record.rota or '', booking)}")
    return lines


def _rules_tried(record: Record, policy: Policy) -> list[str]:
    tried = len(record.trace.split()) if record.trace else 0
    lines = []
    for rule in policy.rules[:tried]:
        outcome = "yes" if rule.name == record.rule else "no"
        lines.append(f'  Rule "{rule.name}" ({describe(rule.when)}): {outcome}.')
    if record.rule == OTHERWISE:
        lines.append("  No rule took it, so the catch-all did.")
    return lines


def verdict(member: Member, booking: Booking, rep: str) -> str:
    """How a rep stood when the lead was allotted, in words."""
    limit = "" if member.capacity is None else f" of {member.capacity}"
    if rep in booking.owed:
        total, lane = booking.owed[rep]
        owed = f"owed {_turns(total)} in all, {_turns(lane)} in this lane"
        return f"could take it: {member.load}{limit} open leads, {owed}"
    if not member.on_duty:
        return member.why
    if not member.fits(booking.lane):
        return f"lacks {_listed('+'.join(sorted(set(booking.lane.split('+')) - member.skills)))}"
    return f"full: {member.load}{limit} open leads"


def _turns(units: int) -> str:
    turns = units / TURN
    return f"{turns:.2f} of a turn" if abs(turns) < 1 else f"{turns:.2f} turns"


def _listed(lane: str) -> str:
    return " and ".join(lane.split("+"))
