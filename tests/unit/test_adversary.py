"""An adversary chooses who can take each lead, to push the ledger as far as they can.

They know the ledger, try some eligible sets for each lead, and go on from what leaves the reps furthest apart: a beam
search, seeded, so that every run finds the same. What it finds is a lower bound of the worst case; the proven bound is
an upper one. `make test` searches briefly; `make search` goes on for forty times as many leads, and shows both.
"""

from __future__ import annotations

import os
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pytest

from fairturn.rules import ledger as ledger_module
from fairturn.rules.ledger import GUARD, TURN, Ledger, Member, Offer, allot

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

LONGER: Final = int(os.environ.get("SEARCH", "1"))
"""How many times as many leads as in a short search."""

Books = list[tuple[float, ...]]
"""For each rep their book in each lane, in turns."""


@dataclass(frozen=True)
class Game:
    """How many reps and lanes there are, and for how many leads a short search goes on."""

    weights: Sequence[int]
    lanes: int
    leads: int
    tries: int = 30
    """Eligible sets that are tried for each lead."""

    @property
    def bound(self) -> float:
        """The proven bound of a book, in turns. Where two share a lead, their shares sum to 1."""
        return (1 + GUARD / TURN) * (len(self.weights) - 1) / 2


@dataclass
class Found:
    """The furthest that the adversary got, in turns."""

    book: float = 0
    total: float = 0


def for_a_book(books: Books) -> float:
    """The further apart the books in the first lane are, and to a lesser part all that is owed elsewhere."""
    return sum(book[0] ** 2 + 0.3 * sum(book[1:]) ** 2 for book in books)


def for_a_total(books: Books) -> float:
    """The further apart the totals and all books are."""
    return sum(sum(book) ** 2 + sum(part**2 for part in book) for book in books)


def search(game: Game, aim: Callable[[Books], float], *, width: int = 1, seed: int = 1) -> Found:
    """Offer the leads one by one, each to those eligible sets that serve the aim best."""
    dice = random.Random(seed)
    lanes = [f"lane{number}" for number in range(game.lanes)]
    rota = {str(number): Member(weight, skills=frozenset(lanes)) for number, weight in enumerate(game.weights, start=1)}
    beam, found = [Ledger()], Found()
    for _ in range(game.leads * LONGER):
        reached: dict[tuple[tuple[float, ...], ...], tuple[float, Ledger]] = {}
        for ledger in beam:
            for _ in range(game.tries):
                able = dice.sample(list(rota), min(dice.choice([2, 2, 2, 3, 4]), len(rota)))
                offer = Offer(dice.choice(lanes))
                after = allot(ledger, [offer], {rep: rota[rep] for rep in able}, lanes).ledger
                books = sorted(tuple(after.balances.get(lane, {}).get(rep, 0) / TURN for lane in lanes) for rep in rota)
                found.book = max(found.book, *(abs(part) for book in books for part in book))
                found.total = max(found.total, *(abs(sum(book)) for book in books))
                reached.setdefault(tuple(books), (aim(books), after))
        beam = [after for _, after in sorted(reached.values(), key=lambda one: -one[0])[:width]]
    return found


GAMES: Final = {
    "4 reps, 2 lanes": Game([1] * 4, 2, 100),
    "8 reps, 3 lanes": Game([1] * 8, 3, 200),
    "6 reps of weights 1 to 3, 3 lanes": Game([1, 1, 2, 2, 3, 3], 3, 100),
    "12 reps, 6 lanes": Game([1] * 12, 6, 100),
}


@pytest.mark.parametrize("name", GAMES)
def test_no_adversary_gets_a_book_or_a_total_past_the_proven_bound(name: str) -> None:
    game = GAMES[name]
    for_book, for_total = search(game, for_a_book), search(game, for_a_total)
    book, total = max(for_book.book, for_total.book), max(for_book.total, for_total.total)
    print(  # noqa: T201
        f"\n{name}, {game.leads * LONGER} leads: book {book:.2f}, proven {game.bound:.2f}; "
        f"total {total:.2f}, proven {game.bound * game.lanes:.2f}"
    )
    assert book <= game.bound
    assert total <= game.bound * game.lanes


def test_the_search_finds_bad_cases_and_gets_further_without_the_guard(monkeypatch: pytest.MonkeyPatch) -> None:
    game = GAMES["8 reps, 3 lanes"]
    guarded = search(game, for_a_total)
    monkeypatch.setattr(ledger_module, "GUARD", 1000 * TURN)
    unguarded = search(game, for_a_total)
    print(f"\na book: {guarded.book:.2f} with the guard, {unguarded.book:.2f} without")  # noqa: T201
    assert guarded.book > 2
    assert unguarded.book > guarded.book + 0.5


def test_the_search_breaks_the_bound_of_a_ledger_that_looks_at_totals_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def most_owed(totals: Mapping[str, int], _books: Mapping[str, int], _lanes: int) -> str:
        return max(totals, key=totals.__getitem__)

    monkeypatch.setattr(ledger_module, "_most_owed", most_owed)
    game = GAMES["8 reps, 3 lanes"]
    assert search(game, for_a_book).book > game.bound
