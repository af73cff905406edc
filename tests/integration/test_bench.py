"""The benchmarks' counts, which hold on any machine."""

from __future__ import annotations

from bench.lone_lead import opened, ways


def test_a_lone_lead_costs_two_calls_to_hubspot_seven_to_the_table_and_two_to_sqs() -> None:
    with opened() as sandbox:
        found = ways(sandbox, 3, 0.0)
    # Of those to the table, four are the assignment's and one tells the echo; two look whether the policy is another.
    assert [dict(way.calls) for way in found] == [{"hubspot": 2, "dynamodb": 7, "sqs": 2}] * 3
