"""docs/costs.md is what the code counts and computes, at the prices that are written down."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from docs import costs, prices
from docs.costs import Counted, Line, judged

README = (Path(__file__).parents[2] / "README.md").read_text()


@pytest.mark.exhaustive
@pytest.mark.timeout(600)  # it counts what a stack does in three stories
def test_the_page_is_what_is_counted_now() -> None:
    assert costs.page() == costs.PAGE.read_text(), "run `make costs`, and see what has changed"


def test_the_readme_tells_the_same_sums() -> None:
    sums = re.findall(r"\*\*([\d.]+) \$\*\*", costs.PAGE.read_text())
    assert " ".join(f"{float(each):.0f} $" for each in sums[:3]) == "22 $ 5 $ 10 $"
    assert "22 $ for a million leads that come one by one, 5 $ if they come in full batches" in README
    assert "10 $ a month" in README


def test_a_function_runs_while_it_waits_and_works_but_not_while_its_queue_is_polled() -> None:
    assert Counted(hubspot=2).seconds == 2 * costs.HUBSPOT
    assert Counted(table=3, invoked=1).seconds == 3 * costs.REQUEST + costs.CALL
    polled = Counted()
    polled.requests.update({"sqs.ReceiveMessage": 5, "sqs.DeleteMessageBatch": 5, "sqs.SendMessageBatch": 1})
    assert polled.seconds == costs.REQUEST
    assert polled.sqs == 11


def test_a_goal_that_is_missed_is_told_with_what_costs_most() -> None:
    bill = [Line("calls", 1_000_000, prices.INVOCATIONS), Line("units", 8_000_000, prices.WRITE_UNITS)]
    assert (
        judged("lone", bill, 4.0) == "The goal of at most 4 $ lone is missed by 1.20 $: most goes for units (5.00 $)."
    )
    assert judged("lone", bill, 5.2) == "The goal of at most 5 $ lone is reached, with 0.00 $ to spare."
