"""What an evaluation comes to: means with intervals, paired differences and Bjøntegaard deltas."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from clip_feature_codec.evaluate.analysis.curves import bjontegaard
from clip_feature_codec.evaluate.analysis.picture_values import SIZES, PictureValues
from clip_feature_codec.evaluate.analysis.statistics import Interval, intervals
from clip_feature_codec.evaluate.metrics.definitions import Metric
from clip_feature_codec.evaluate.results import Evaluation, Row, Series, SetValue


@dataclass(frozen=True)
class Point:
    """One series under one budget.

    Attributes:
        series, budget: as in `Row`.
        fits: pictures for which a file fits the budget; everything else is over these alone.
        pictures: all pictures of the evaluation.
        bytes, payload_bytes, bpp: sizes.
        metrics: each metric of a pair.
        set_metrics: each metric of the whole set, where there is one.
        encode_ms, decode_ms, encode_mb, decode_mb: medians; None where nothing was measured.
    """

    series: str
    budget: int | None
    fits: int
    pictures: int
    bytes: Interval
    payload_bytes: Interval
    bpp: Interval
    metrics: dict[str, Interval]
    set_metrics: dict[str, SetValue]
    encode_ms: float | None
    decode_ms: float | None
    encode_mb: float | None
    decode_mb: float | None


@dataclass(frozen=True)
class Difference:
    """Ours against a baseline in one metric under one budget.

    Attributes:
        series: one of ours.
        baseline: one of the others.
        budget, metric: what is compared.
        interval: of ours minus the baseline's, picture by picture, over the pictures that both have.
        better: who is better by the 95 % interval; None where it includes 0, or pictures are too few for one.
    """

    series: str
    baseline: str
    budget: int | None
    metric: str
    interval: Interval
    better: Literal["ours", "baseline"] | None


@dataclass(frozen=True)
class Bjontegaard:
    """Ours against a baseline in one metric over all budgets: see `curves.Delta`."""

    series: str
    baseline: str
    metric: str
    delta: float | None
    rate_percent: float | None
    from_bytes: float | None
    to_bytes: float | None
    reason: str


@dataclass(frozen=True)
class Summary:
    """Everything that reports are made of.

    Attributes:
        points: one for every series and budget, also where nothing fits.
        differences: one for each of ours, baseline, budget and metric that has a picture in both.
        bjontegaard: one for each of ours, baseline and metric.
    """

    points: list[Point]
    differences: list[Difference]
    bjontegaard: list[Bjontegaard]

    def to_json(self) -> dict[str, Any]:
        """Everything, JSON-able."""
        return asdict(self)


def summarise(evaluation: Evaluation) -> Summary:
    """Sum up an evaluation; series whose id begins with ``clp@`` are ours, all others are baselines.

    Intervals are over pictures, after the seeds of each are averaged: see `statistics.intervals` for what
    they say and what not. Where not every picture fits, the means of two points are over different
    pictures; differences are always over the same.
    """
    values = PictureValues.of(evaluation)
    points = _points(evaluation, values)
    ours = [series for series in evaluation.series if series.id.startswith("clp@")]
    baselines = [series for series in evaluation.series if series not in ours]
    pairs = [(one, baseline) for one in ours for baseline in baselines]
    return Summary(
        points,
        list(_differences(pairs, values, evaluation.metrics)),
        list(_bjontegaard(pairs, points, values.metrics, evaluation.metrics)),
    )


def _points(evaluation: Evaluation, values: PictureValues) -> list[Point]:
    columns = values.table.reshape(len(values.table), int(np.prod(values.table.shape[1:])))
    found = iter(intervals(columns))
    set_metrics: dict[tuple[str, int | None], dict[str, SetValue]] = defaultdict(dict)
    for value in evaluation.set_values:
        set_metrics[value.series, value.budget][value.metric] = value
    rows: dict[tuple[str, int | None], list[Row]] = defaultdict(list)
    for row in evaluation.rows:
        rows[row.series, row.budget].append(row)
    points = []
    for series in values.series:
        for budget in values.budgets:
            key = series, budget
            size, payload, bpp = (next(found) for _ in SIZES)
            points.append(
                Point(
                    series=series,
                    budget=budget,
                    fits=size.count,
                    pictures=len(evaluation.images),
                    bytes=size,
                    payload_bytes=payload,
                    bpp=bpp,
                    metrics={name: next(found) for name in values.metrics},
                    set_metrics=set_metrics[key],
                    encode_ms=_median(row.encode_ms for row in rows[key]),
                    decode_ms=_median(row.decode_ms for row in rows[key]),
                    encode_mb=_median(row.encode_mb for row in rows[key]),
                    decode_mb=_median(row.decode_mb for row in rows[key]),
                )
            )
    return points


def _median(values: Iterable[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return float(np.median(defined)) if defined else None


def _differences(
    pairs: list[tuple[Series, Series]], values: PictureValues, metrics: dict[str, Metric]
) -> Iterable[Difference]:
    at = values.series.index
    table = values.table[..., len(SIZES) :]
    # One column for each pair, budget and metric, so that all are resampled in one go.
    subtracted = [table[:, at(one.id)] - table[:, at(baseline.id)] for one, baseline in pairs]
    columns = [difference.reshape(len(table), -1) for difference in subtracted]
    found = iter(intervals(np.concatenate(columns, axis=1)) if columns else [])
    for one, baseline in pairs:
        for budget in values.budgets:
            for name in values.metrics:
                interval = next(found)
                if interval.count:
                    better = _winner(interval, metrics[name])
                    yield Difference(one.id, baseline.id, budget, name, interval, better)


def _winner(interval: Interval, metric: Metric) -> Literal["ours", "baseline"] | None:
    """Who is better where ``interval`` is of ours minus the baseline's; None where it does not tell."""
    if interval.side == 0:
        return None
    return "ours" if (interval.side > 0) == (metric.better == "higher") else "baseline"


def _bjontegaard(
    pairs: list[tuple[Series, Series]], points: list[Point], names: list[str], metrics: dict[str, Metric]
) -> Iterable[Bjontegaard]:
    for one, baseline in pairs:
        for name in names:
            # Means over fewer pictures than at other points would bend the curve.
            most = max(point.metrics[name].count for point in points)
            ours, theirs = (list(_curve(series, points, name, most)) for series in (one, baseline))
            delta = bjontegaard(ours, theirs, metrics[name].better)
            yield Bjontegaard(one.id, baseline.id, name, **vars(delta))


def _curve(series: Series, points: list[Point], metric: str, count: int) -> Iterable[tuple[float, float]]:
    """Mean bytes, of what must fit the budget, and mean metric of each point that every picture fits."""
    for point in points:
        value = point.metrics[metric]
        if point.series == series.id and point.fits == point.pictures and value.count == count:
            size = point.payload_bytes if series.counts == "payload" else point.bytes
            if size.mean is not None and value.mean is not None:
                yield size.mean, value.mean
