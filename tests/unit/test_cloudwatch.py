"""The sandbox's CloudWatch: what functions print, statistics, and alarms that lack data."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from fairturn.telemetry import Metric, count
from fairturn_sandbox.cloudwatch import Alarm, CloudWatch, Series

SERIES = Series.of("Fairturn", "Swept", stack="production")
ALARM: dict[str, Any] = {
    "AlarmDescription": "Something is wrong.",
    "Namespace": "Fairturn",
    "MetricName": "Swept",
    "Dimensions": [{"Name": "stack", "Value": "production"}],
    "Statistic": "Maximum",
    "Period": 60,
    "EvaluationPeriods": 3,
    "Threshold": 0,
    "ComparisonOperator": "GreaterThanThreshold",
    "TreatMissingData": "notBreaching",
}


def measured(*values: float | None) -> CloudWatch:
    """A value in each minute, the latest in the fifth; None where there is none."""
    metrics = CloudWatch()
    for place, value in enumerate(values):
        if value is not None:
            metrics.put(SERIES, value, (5 - len(values) + place) * 60 + 30)
    return metrics


def rings(metrics: CloudWatch, seconds: float = 300, *, beyond: int = 2, **changed: Any) -> bool:
    return Alarm.model_validate(ALARM | changed).rings(metrics, datetime.fromtimestamp(seconds, UTC), beyond=beyond)


def test_what_a_function_prints_is_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STACK_NAME", "production")
    count(Metric.SWEPT)
    count(Metric.LARGEST_GAP, 0.75, rota="inbound")
    metrics = CloudWatch()
    metrics.take(capsys.readouterr().out)
    metrics.take('{"message": "owners refreshed"}\n')
    gap = Series.of("Fairturn", "LargestGap", stack="production", rota="inbound")
    assert {series: metrics.statistic(series, "Sum", 0, 1e11) for series in metrics.series()} == {SERIES: 1, gap: 0.75}


def test_the_function_is_no_dimension_so_each_metric_has_one_alarm(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STACK_NAME", "production")
    monkeypatch.setenv("POWERTOOLS_SERVICE_NAME", "sweep")
    count(Metric.SWEPT)
    metrics = CloudWatch()
    metrics.take(capsys.readouterr().out)
    assert metrics.series() == [SERIES]


@pytest.mark.parametrize(
    ("statistic", "value"),
    [("Sum", 10), ("Maximum", 7), ("Minimum", 1), ("Average", 10 / 3), ("SampleCount", 3), ("p50", 2), ("p90", 6)],
)
def test_a_statistic_is_that_of_the_values_from_its_begin_on_and_before_its_end(statistic: str, value: float) -> None:
    metrics = CloudWatch()
    for at, one in ((59, 100), (60, 2), (119, 7), (90, 1), (120, 100)):
        metrics.put(SERIES, one, at)
    assert metrics.statistic(SERIES, statistic, 60, 120) == pytest.approx(value)
    assert metrics.statistic(SERIES, statistic, 0, 59) is None


@pytest.mark.parametrize(
    ("minutes", "breaching", "not_breaching"),
    [
        # The examples of AWS for 3 of 3 where five periods are looked at: 0 is well, 1 is not
        ((0, None, 1, None, 1), False, False),
        ((None, None, None, None, 0), False, False),
        ((None, None, None, None, None), True, False),
        ((0, 1, 1, None, 1), True, True),
        ((None, None, 1, None, None), True, False),
    ],
)
def test_what_is_lacking_counts_only_where_too_little_is_there(
    minutes: tuple[float | None, ...], *, breaching: bool, not_breaching: bool
) -> None:
    metrics = measured(*minutes)
    assert rings(metrics, TreatMissingData="breaching") is breaching
    assert rings(metrics, TreatMissingData="notBreaching") is not_breaching


def test_an_alarm_may_ring_for_some_of_several_periods() -> None:
    metrics = measured(0, 0, 1, 0, 0)
    assert rings(metrics, DatapointsToAlarm=1)
    assert not rings(metrics, DatapointsToAlarm=2)
    assert not rings(metrics, 6 * 60, DatapointsToAlarm=1, EvaluationPeriods=2, beyond=0)


def test_periods_end_with_the_last_full_minute() -> None:
    metrics = measured(None, None, None, None, 1)
    assert rings(metrics, 300, EvaluationPeriods=1)
    assert rings(metrics, 359, EvaluationPeriods=1, beyond=0)
    assert not rings(metrics, 299, EvaluationPeriods=1, beyond=0)
    assert not rings(metrics, 360, EvaluationPeriods=1, beyond=0)
    assert rings(metrics, 420, Period=180, EvaluationPeriods=1, beyond=0)


@pytest.mark.parametrize(
    ("operator", "value", "is_breach"),
    [
        ("GreaterThanThreshold", 5, False),
        ("GreaterThanOrEqualToThreshold", 5, True),
        ("LessThanThreshold", 5, False),
        ("LessThanOrEqualToThreshold", 5, True),
    ],
)
def test_each_comparison_knows_its_bound(operator: str, value: float, *, is_breach: bool) -> None:
    metrics = measured(value, value, value, value, value)
    assert rings(metrics, ComparisonOperator=operator, Threshold=5) is is_breach


@pytest.mark.parametrize(
    "changed",
    [
        {"Metrics": [{"Expression": "a / b"}]},
        {"ExtendedStatistic": "p90"},
        {"EvaluateLowSampleCountPercentile": "ignore"},
        {"Statistic": "p90"},
        {"TreatMissingData": "ignore"},
        {"TreatMissingData": "missing"},
        {"ComparisonOperator": "LessThanLowerThreshold"},
        {"Period": 10},
        {"Period": 90},
        {"EvaluationPeriods": 0},
        {"DatapointsToAlarm": 4},
        {"Period": 300, "EvaluationPeriods": 289},
        {"Period": 3600, "EvaluationPeriods": 169},
    ],
)
def test_what_cloudwatch_or_this_reader_does_not_know_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Alarm.model_validate(ALARM | changed)


def test_an_alarm_says_how_it_treats_what_is_lacking() -> None:
    with pytest.raises(ValidationError):
        Alarm.model_validate({name: value for name, value in ALARM.items() if name != "TreatMissingData"})
