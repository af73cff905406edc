"""CloudWatch in memory: the metrics of a sandbox, and what the template's alarms make of them."""

from __future__ import annotations

import json
from bisect import bisect_left, insort
from collections import defaultdict
from dataclasses import dataclass
from operator import ge, gt, itemgetter, le, lt
from statistics import fmean, quantiles
from typing import TYPE_CHECKING, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_pascal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime
    from typing import Self

MINUTE: Final = 60
LOOKS_BEYOND: Final = 2
"""Periods that an alarm looks at beyond those that it evaluates. AWS doesn't say how many; its examples have two."""


@dataclass(frozen=True, slots=True)
class Series:
    """One metric, by all that tells it from others."""

    namespace: str
    name: str
    dimensions: frozenset[tuple[str, str]]

    @classmethod
    def of(cls, namespace: str, name: str, **dimensions: str) -> Series:
        """The metric of these dimensions."""
        return cls(namespace, name, frozenset(dimensions.items()))


class CloudWatch:
    """What was measured, and when, in epoch seconds."""

    def __init__(self) -> None:
        self._points: defaultdict[Series, list[tuple[float, float]]] = defaultdict(list)

    def put(self, series: Series, value: float, at: float) -> None:
        """Keep one value."""
        insort(self._points[series], (at, value), key=itemgetter(0))

    def take(self, output: str) -> None:
        """Keep the metrics in what a function printed, in CloudWatch's embedded metric format (EMF)."""
        if '"_aws"' not in output:
            return
        for line in output.splitlines():
            entry = json.loads(line)
            for directive in entry["_aws"]["CloudWatchMetrics"]:
                for names in directive["Dimensions"]:
                    dimensions = {name: entry[name] for name in names}
                    for metric in directive["Metrics"]:
                        series = Series.of(directive["Namespace"], metric["Name"], **dimensions)
                        for value in entry[metric["Name"]]:
                            self.put(series, value, entry["_aws"]["Timestamp"] / 1000)

    def series(self) -> list[Series]:
        """Every metric of which there is a value."""
        return list(self._points)

    def statistic(self, series: Series, statistic: str, start: float, end: float) -> float | None:
        """A statistic of the values from `start` on and before `end`, as CloudWatch names it; `p90` and the like are
        percentiles. None if there is no value."""
        points = self._points.get(series, [])
        first, last = (bisect_left(points, at, key=itemgetter(0)) for at in (start, end))
        values = [value for _, value in points[first:last]]
        return STATISTICS[statistic](values) if values else None


def _percentile(percent: int) -> Callable[[Sequence[float]], float]:
    def percentile(values: Sequence[float]) -> float:
        enough = [*values] * 2 if len(values) == 1 else values
        return quantiles(enough, n=100, method="inclusive")[percent - 1]

    return percentile


STATISTICS: Final[Mapping[str, Callable[[Sequence[float]], float]]] = {
    "Average": fmean,
    "Maximum": max,
    "Minimum": min,
    "SampleCount": len,
    "Sum": sum,
    "p50": _percentile(50),
    "p90": _percentile(90),
}
COMPARISONS: Final[Mapping[str, Callable[[float, float], bool]]] = {
    "GreaterThanThreshold": gt,
    "GreaterThanOrEqualToThreshold": ge,
    "LessThanThreshold": lt,
    "LessThanOrEqualToThreshold": le,
}


class _Dimension(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_pascal)

    name: str
    value: str


class Alarm(BaseModel):
    """An alarm of the template on one metric; whatever it says beyond that is refused with a ValidationError."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_pascal)

    alarm_description: str
    alarm_actions: tuple[str, ...] = ()
    ok_actions: tuple[str, ...] = Field(alias="OKActions", default=())
    namespace: str
    metric_name: str
    dimensions: tuple[_Dimension, ...]
    statistic: Literal["Average", "Maximum", "Minimum", "SampleCount", "Sum"]
    period: int = Field(multiple_of=MINUTE, gt=0)
    evaluation_periods: int = Field(gt=0)
    datapoints_to_alarm: int = Field(gt=0, default_factory=lambda told: told["evaluation_periods"])
    threshold: float
    comparison_operator: Literal[tuple(COMPARISONS)]  # type: ignore[valid-type]
    treat_missing_data: Literal["breaching", "notBreaching"]

    @model_validator(mode="after")
    def _looks_back_no_further_than_cloudwatch(self) -> Self:
        span = self.period * self.evaluation_periods
        if span > (7 if self.period >= 60 * MINUTE else 1) * 24 * 60 * MINUTE:
            raise ValueError("an alarm looks back a day at most, or 7 days at periods of an hour or more")
        if self.datapoints_to_alarm > self.evaluation_periods:
            raise ValueError("more data points are to breach than are evaluated")
        return self

    @property
    def series(self) -> Series:
        """The metric that it watches."""
        return Series.of(self.namespace, self.metric_name, **{each.name: each.value for each in self.dimensions})

    def rings(self, metrics: CloudWatch, at: datetime, *, beyond: int = LOOKS_BEYOND) -> bool:
        """Whether it is in the state ALARM at the last full minute.

        Periods end with that minute, as CloudWatch evaluates every minute. It looks at `beyond` periods more than it
        evaluates: if enough of all these have a value, the latest of them are judged; else all that have one, and
        what is lacking counts as `TreatMissingData` says.
        """
        end = int(at.timestamp()) // MINUTE * MINUTE
        values = (
            metrics.statistic(self.series, self.statistic, end - (place + 1) * self.period, end - place * self.period)
            for place in range(self.evaluation_periods + beyond)
        )
        breaches = COMPARISONS[self.comparison_operator]
        known = [breaches(value, self.threshold) for value in values if value is not None]
        lacking = [self.treat_missing_data == "breaching"] * (self.evaluation_periods - len(known))
        return sum((known + lacking)[: self.evaluation_periods]) >= self.datapoints_to_alarm
