"""The pictures show what their texts and the template say. How they are drawn is left to matplotlib."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from docs import dashboard, plots
from fairturn_sandbox.cloudwatch import CloudWatch


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


def test_an_expression_that_is_no_plain_search_is_not_drawn() -> None:
    widget = {"period": 300, "metrics": [[{"expression": "m1 / m2"}]]}
    with pytest.raises(ValueError, match="m1 / m2"):
        list(dashboard.lines(widget, CloudWatch(), datetime.now(UTC), datetime.now(UTC)))
