"""How a claim that is refused goes on: at once, or after others have had their turn. Whatever happens is bounded."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from fairturn.edges.refusals import ClaimRefused
from fairturn.edges.store import Snapshot
from fairturn.errors import Contended
from fairturn.rules.events import Kind, Message
from fairturn.rules.ledger import ANY, Ledger
from fairturn.rules.policy import Priority
from fairturn.rules.record import Records, new
from fairturn.rules.roster import Owner
from fairturn.rules.routing import Lead, Route
from fairturn.rules.terms import Terms
from fairturn.steps.claim import ATTEMPTS, LONGEST_PAUSE, Candidate, Claimer, Pace
from fairturn.steps.consumer import RESERVE
from fairturn_console.policy import reading

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fairturn.steps.claim import ClaimResult

ROTA = "inbound"
POLICY = reading.read(
    {"reps": {"101": None}, "rotas": {ROTA: {"members": ["101"]}}, "rules": [], "otherwise": {"rota": ROTA}}
)
TERMS = Terms(1, POLICY, {"101": Owner("101", "ann@example.com", archived=False)})
STALE, FRESH = Ledger(version=1), Ledger(version=7)


@dataclass
class Busy:
    """A store that refuses so many claims, each of which takes so many seconds."""

    refusals: Sequence[ClaimRefused]
    takes: float = 0.01
    seconds: float = 0.0
    tried: list[tuple[int, dict[str, int]]] = field(default_factory=list)
    """The version of the ledger and the loads that each attempt was decided on."""
    reads: int = 0
    pauses: list[float] = field(default_factory=list)

    def claim(self, _: str, journal: Any, after: Ledger, moves: Any, loads: dict[str, int]) -> None:  # noqa: ARG002
        self.tried.append((journal.before.version, loads))
        self.seconds += self.takes
        if len(self.tried) <= len(self.refusals):
            raise self.refusals[len(self.tried) - 1]

    def read(self, rotas: Iterable[str], leads: Iterable[tuple[str, str]]) -> Snapshot:  # noqa: ARG002
        self.reads += 1
        return Snapshot(dict.fromkeys(rotas, FRESH), {"101": 5}, Records({}, {}))

    def claimer(self, jitter: float = 1.0) -> Claimer:
        store: Any = self
        return Claimer(
            store,
            "me",
            now=lambda: datetime(2026, 3, 2, 10, tzinfo=UTC),
            jitter=lambda: jitter,
            sleep=self.pauses.append,
            clock=lambda: self.seconds,
        )


def claim(claimer: Claimer, *ids: str) -> ClaimResult:
    route = Route(ROTA, ANY, Priority.NORMAL, "otherwise", "")
    leads = [Lead(Message(id=id_, kinds=(Kind.CREATION,), occurred_at=1, change_source="FORM"), {}) for id_ in ids]
    candidates = [Candidate(new(lead.message.id), lead, route, 1, {}) for lead in leads]
    return claimer.claim(ROTA, candidates, TERMS, STALE, {"101": 1})


def test_whoever_finds_others_at_the_ledger_pauses_and_decides_on_what_is_there_then() -> None:
    busy = Busy([ClaimRefused(ledger=Ledger(version=2))])
    assert len(claim(busy.claimer(), "1").bookings) == 1
    assert busy.tried == [(1, {"101": 1}), (7, {"101": 5})]
    assert (len(busy.pauses), busy.reads) == (1, 1)


def test_whoever_finds_nobody_at_the_ledger_goes_on_at_once_with_what_was_brought_along() -> None:
    moved = new("1")
    busy = Busy([ClaimRefused(loads={"101": 3}), ClaimRefused(records={moved.key: moved})])
    assert [record.id for record, _ in claim(busy.claimer(), "1", "2").bookings] == ["2"]
    assert busy.tried == [(1, {"101": 1}), (1, {"101": 3}), (1, {"101": 3})]
    assert (busy.pauses, busy.reads) == ([], 0)


def test_whoever_has_no_lead_left_to_claim_waits_for_nobody() -> None:
    moved = new("1")
    busy = Busy([ClaimRefused(ledger=Ledger(version=2), records={moved.key: moved})])
    assert claim(busy.claimer(), "1").moved == [moved]
    assert (busy.pauses, busy.reads) == ([], 0)


@pytest.mark.parametrize("takes", [0.002, 0.02])
def test_pauses_grow_with_the_attempts_in_proportion_to_what_a_transaction_takes(takes: float) -> None:
    busy = Busy([ClaimRefused(ledger=Ledger(version=2))] * 3, takes)
    claimer = busy.claimer(jitter=0.5)
    claimer.pace.usual = takes
    claim(claimer, "1")
    longest = [min(takes * times, LONGEST_PAUSE) for times in (4, 16, 64)]
    assert busy.pauses == pytest.approx([0.5 * seconds for seconds in longest])


def test_a_claim_that_is_refused_for_ever_is_given_up_in_bounded_time_and_does_not_pause_for_nothing() -> None:
    busy = Busy([ClaimRefused(ledger=Ledger(version=2))] * 99, takes=60.0)
    with pytest.raises(Contended):
        claim(busy.claimer(), "1")
    assert len(busy.tried) == ATTEMPTS
    assert busy.pauses == [LONGEST_PAUSE] * (ATTEMPTS - 1)
    assert sum(busy.pauses) < RESERVE


def test_the_usual_time_follows_the_transactions_and_no_single_one_of_them() -> None:
    pace = Pace()
    for _ in range(60):
        pace.note(0.008)
    assert pace.usual == pytest.approx(0.008, rel=0.01)
    pace.note(0.5)
    assert pace.usual < 0.08
