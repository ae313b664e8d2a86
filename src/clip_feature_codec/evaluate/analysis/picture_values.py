"""An evaluation's figures as one table over pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clip_feature_codec.evaluate.results import Evaluation, Row

SIZES = ("bytes", "payload_bytes", "bpp")
"""The columns that are no metrics; they come first."""

Place = tuple[str, int | None, str]
"""Series, budget and metric."""


@dataclass(frozen=True)
class PictureValues:
    """An evaluation's figures by picture, each the mean over the picture's seeds.

    Attributes:
        series: ids, in the evaluation's order.
        budgets: from the smallest.
        metrics: names of the metrics of a pair.
        table: float64 (pictures, series, budgets, sizes and metrics); NaN where there is no value. A metric
            with a `Metric.cap` takes that instead of greater values, and of none.
    """

    series: list[str]
    budgets: list[int | None]
    metrics: list[str]
    table: NDArray[np.float64]

    @classmethod
    def of(cls, evaluation: Evaluation) -> PictureValues:
        """Collect the rows of an evaluation."""
        named = {name for row in evaluation.rows for name in row.metrics}
        metrics = [name for name in evaluation.metrics if name in named]
        series = [series.id for series in evaluation.series]
        pictures, budgets = [image.name for image in evaluation.images], evaluation.budgets
        axes = [{key: place for place, key in enumerate(keys)} for keys in (pictures, series, budgets)]
        shape = *map(len, axes), len(SIZES) + len(metrics)
        total, count = np.zeros(shape), np.zeros(shape)
        caps = [evaluation.metrics[name].cap for name in metrics]
        for row in evaluation.rows:
            place = tuple(
                axis[key] for axis, key in zip(axes, (row.image, row.series, row.budget), strict=True)
            )
            values = [_counted(row, name, cap) for name, cap in zip(metrics, caps, strict=True)]
            found = np.array([row.bytes, row.payload_bytes, row.bpp, *values], dtype=np.float64)
            total[place] += np.nan_to_num(found)
            count[place] += ~np.isnan(found)
        table = np.divide(total, count, out=np.full(shape, np.nan), where=count > 0)
        return cls(series, budgets, metrics, table)

    def columns(self, places: Sequence[Place]) -> NDArray[np.float64]:
        """The metric at each place, over pictures: (pictures, places), NaN where there is no value."""
        found = np.full((len(self.table), len(places)), np.nan)
        for column, (series, budget, metric) in enumerate(places):
            if series in self.series and budget in self.budgets and metric in self.metrics:
                of_series = self.table[:, self.series.index(series), self.budgets.index(budget)]
                found[:, column] = of_series[:, len(SIZES) + self.metrics.index(metric)]
        return found


def _counted(row: Row, metric: str, cap: float | None) -> float | None:
    """What a row's value counts as: see `Metric.cap`."""
    value = row.metrics.get(metric)
    if cap is None or metric not in row.metrics:
        return value
    return cap if value is None else min(value, cap)
