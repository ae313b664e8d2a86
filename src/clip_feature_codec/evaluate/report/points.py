"""One way to ask a summary's point for a value, be it of pairs of pictures or of the whole set."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from clip_feature_codec.evaluate.analysis.summary import Point
from clip_feature_codec.evaluate.results import Series


@dataclass(frozen=True)
class Value:
    """A mean with its bounds.

    Attributes:
        mean: the value itself for a metric over a set.
        low, high: the 95 % interval, or a standard deviation to each side; None where there is none.
        count: pictures.
    """

    mean: float
    low: float | None
    high: float | None
    count: int


def value_of(point: Point, metric: str) -> Value | None:
    """A metric at a point; None where it has no value there."""
    if (whole := point.set_metrics.get(metric)) is not None:
        deviation = whole.deviation
        if deviation is None:
            return Value(whole.value, None, None, whole.count)
        return Value(whole.value, whole.value - deviation, whole.value + deviation, whole.count)
    mean = point.metrics.get(metric)
    if mean is None or mean.mean is None:
        return None
    return Value(mean.mean, mean.low, mean.high, mean.count)


def size_of(point: Point, series: Series) -> float | None:
    """Mean bytes of what a series counts: whole files, or their payload."""
    return point.payload_bytes.mean if series.counts == "payload" else point.bytes.mean


def names_with_values(points: Iterable[Point]) -> set[str]:
    """The metrics that have a value at any of the points."""
    return {
        name
        for point in points
        for name in {*point.metrics, *point.set_metrics}
        if value_of(point, name) is not None
    }
