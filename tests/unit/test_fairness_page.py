"""The examples of docs/fairness.md are what the ledger does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fairturn.rules.ledger import ANY, TURN, Ledger, Member, Offer, allot

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PAGE = (Path(__file__).parents[2] / "docs" / "fairness.md").read_text()
NAMES = {"1": "Emma", "2": "Farid", "3": "Grace"}


def turns(units: float) -> str:
    return f"{units / TURN:.2f}".replace("-", "−")


def rows(rota: Mapping[str, Member], *leads: str, lanes: Mapping[str, str]) -> Iterator[str]:
    """The rows of an example, as the page has them. `lanes` are all lanes, each with what the page calls its leads."""
    ledger = Ledger()
    for number, lane in enumerate(leads, start=1):
        allotment = allot(ledger, [Offer(lane)], rota, lanes)
        ledger = allotment.ledger
        (booking,) = allotment.bookings
        assert booking
        cells = [f"{number}{lanes[lane]}"]
        for rep in NAMES:
            owed = [turns(booking.totals[rep]), turns(booking.book(rep))] if rep in booking.totals else ["–"]
            cells.append(" / ".join(owed if len(lanes) > 1 else owed[:1]))
        yield f"| {' | '.join([*cells, NAMES[booking.winner]])} |"


def test_the_first_example_is_what_the_ledger_does() -> None:
    rota = {"1": Member(weight=2), "2": Member(), "3": Member()}
    assert "\n".join(rows(rota, *[ANY] * 4, lanes={ANY: ""})) in PAGE


def test_the_example_with_two_languages_is_what_the_ledger_does() -> None:
    speak = {"1": {"de", "fr"}, "2": {"fr"}, "3": {"de"}}
    rota = {rep: Member(skills=frozenset(skills)) for rep, skills in speak.items()}
    lanes = {"de": ", German", "fr": ", French"}
    assert "\n".join(rows(rota, "fr", "de", "fr", "fr", lanes=lanes)) in PAGE
