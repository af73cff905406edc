"""The picture of docs/fairness.md shows what its text says. How it is drawn is left to matplotlib."""

from __future__ import annotations

import pytest

from docs import plots


def worst(owed: plots.Owed) -> float:
    return max(abs(turns) for line in owed.values() for turns in line)


def test_the_ledger_stays_within_six_tenths_of_a_turn_in_the_picture() -> None:
    owed = plots.by_ledger()
    assert worst(owed) == pytest.approx(0.60)
    assert len({owed[plots.FARID][lead] for lead in plots.AWAY}) == 1


@pytest.mark.parametrize(
    ("name", "turns"), [("by_rotation", 11.71), ("by_rotation_with_resets", 7.67), ("by_lot", 16.29)]
)
def test_the_other_ways_lead_as_far_as_the_text_says(name: str, turns: float) -> None:
    assert worst(getattr(plots, name)()) == pytest.approx(turns, abs=0.005)


def test_every_series_sums_to_nothing_at_every_moment() -> None:
    for method in (plots.by_ledger, plots.by_rotation, plots.by_rotation_with_resets, plots.by_lot):
        assert all(abs(sum(turns)) < 1e-9 for turns in zip(*method().values(), strict=True))
