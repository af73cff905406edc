"""Restoring: gives an owner back whom somebody chose right before our handover. A person's choice stands.

Only the history of a lead's owner shows such a choice. Few leads need theirs to be read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fairturn.edges.hubspot.client import HISTORY_LIMIT, OwnerWrite
from fairturn.rules.events import BY_APP, CONTACT
from fairturn.rules.explain import CHOSEN_BEFORE
from fairturn.rules.record import READS_LAG, State, milliseconds
from fairturn.steps.case import Resolution, put_off
from fairturn.steps.claim import Undoing
from fairturn.steps.consumer import Outcome
from fairturn.telemetry import Metric, count, logger

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from fairturn.deadline import Deadline
    from fairturn.edges.hubspot.answers import OwnerChange
    from fairturn.edges.hubspot.client import HubSpot
    from fairturn.edges.store import Store
    from fairturn.rules.record import Record
    from fairturn.steps.case import Case

BY_HAND: Final = frozenset({"CRM_UI", "CRM_UI_BULK_ACTION", "MOBILE_ANDROID", "MOBILE_IOS"})
"""Change sources behind which there is a person."""
EXPOSED_FOR: Final = READS_LAG + 10_000
"""Milliseconds before a claim within which somebody may have chosen an owner whom our reading did not show yet."""
SKEW: Final = 5_000
"""Milliseconds by which HubSpot's clock may be ahead of ours."""
KEEPS_OVERWRITING: Final = 2
"""So often in a day, and it is no accident."""


def may_have_overwritten(case: Case) -> bool:
    """Whether somebody else did something to the record while we were handing it over."""
    record = case.record
    return record.state is State.HANDED and any(
        each.source != BY_APP and each.at > record.occurred_at and _is_at_handover(record, each.at)
        for each in case.change.occurrences
    )


def read_histories(
    resolutions: Sequence[Resolution], crm: HubSpot, deadline: Deadline
) -> tuple[Mapping[str, Sequence[OwnerChange]], Sequence[Resolution]]:
    """Read who chose the owners of the few leads where that matters: record id → changes, latest first. Gives also the
    resolutions that have to wait for another such reading: HubSpot's answer may lack some, without a word of them.
    Raises Unavailable."""
    suspected = [each for each in resolutions if each.is_suspected]
    overwritten = [each for each in resolutions if each.is_overwritten]
    ids = [each.case.change.id for each in [*suspected, *overwritten][:HISTORY_LIMIT]]
    histories = crm.owner_histories(CONTACT, ids, deadline) if ids else {}
    return histories, [each for each in suspected if each.case.change.id not in histories]


def restore_choices(
    resolutions: Sequence[Resolution],
    histories: Mapping[str, Sequence[OwnerChange]],
    crm: HubSpot,
    now: Callable[[], datetime],
    deadline: Deadline,
) -> tuple[list[Resolution], Outcome]:
    """Give owners back who were chosen between our reading and our writing of the owner. Gives the resolutions that are
    to be carried out now, and what became of the others.

    Only once: from then on the record says that the owner is somebody else's choice. HubSpot is told first, so that
    whoever takes over after a crash finds the choice restored, and follows it. Raises Unavailable.
    """
    chosen = {
        each.case.change.id: owner
        for each in resolutions
        if each.is_suspected
        and (owner := _overwritten_choice(each.case.record, histories.get(each.case.change.id, ()))) is not None
    }
    if not chosen:
        return list(resolutions), Outcome()
    writes = [OwnerWrite(id_, owner, CHOSEN_BEFORE) for id_, owner in chosen.items()]
    result = crm.write_owners(CONTACT, writes, deadline)
    at = milliseconds(now())
    to_do: list[Resolution] = []
    outcome = Outcome()
    for each in resolutions:
        id_, record = each.case.change.id, each.case.record
        if id_ in result.put_off:
            outcome |= put_off([each.case.change], result.put_off[id_])
        elif id_ in result.refused:
            logger.error("a choice is not restored", extra={"lead": record.key, "reason": result.refused[id_][1]})
            to_do.append(each)
        elif id_ in chosen:
            count(Metric.CHOICES_RESTORED)
            ids = {"lead": record.key, "rep": record.rep, "owner": chosen[id_]}
            logger.info("a choice is restored", extra=ids)
            after = record.external(chosen[id_], "somebody had chosen before us", at)
            to_do.append(Resolution(each.case, undone=[Undoing(record, after)]))
        else:
            to_do.append(each)
    return to_do, outcome


def name_overwriters(
    resolutions: Sequence[Resolution], histories: Mapping[str, Sequence[OwnerChange]], store: Store, at: int
) -> None:
    """Raise the alarm about workflows and apps that keep taking leads from the reps that we chose. `at` is epoch
    milliseconds. Raises Unavailable."""
    for each in resolutions:
        latest = next(iter(histories.get(each.case.change.id, ())), None)
        if not each.is_overwritten or latest is None or latest.source in BY_HAND:
            continue
        source = f"{latest.source} {latest.by or ''}".strip()
        times = store.note_overwrite(source, at)
        if times >= KEEPS_OVERWRITING:
            count(Metric.OWNERS_OVERWRITTEN)
            logger.error(
                "owners are overwritten again and again: look for the workflow or app",
                extra={"lead": each.case.change.key, "source": source, "times_today": times},
            )


def _is_at_handover(record: Record, at: int) -> bool:
    """Whether a moment of HubSpot's lies between what our reading of the owner showed and our noting of the handover,
    which may have taken more than one try."""
    if record.claimed_at is None or record.handed_at is None:
        return False
    return record.claimed_at - EXPOSED_FOR <= at <= record.handed_at + SKEW


def _overwritten_choice(record: Record, history: Sequence[OwnerChange]) -> str | None:
    """The owner whom somebody chose right before our own writing, if there is one and ours is the last word.

    When we read the owner it was nobody or the one that was found; so whoever else stands before us came meanwhile.
    """
    if len(history) < 2:
        return None
    ours, before = history[:2]
    if ours.source != BY_APP or ours.owner != record.rep or not _is_at_handover(record, ours.at):
        return None
    if before.owner in {None, record.found_owner, record.rep} or not _is_at_handover(record, before.at):
        return None
    return before.owner
