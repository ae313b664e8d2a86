"""Means over pictures, with intervals that say how sure they are."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

LEAST_PICTURES = 6
"""Fewer give no interval: resampled means never leave the range of the values, and the range of n values
misses their distribution's median with probability 2^(1-n), which is under 5 % only from 6 on."""

RESAMPLES = 9999
SEED = 0

_BLOCK = 1 << 23  # resampled pictures held at a time: 64 MB of counts, however many pictures there are


@dataclass(frozen=True)
class Interval:
    """A mean over pictures and how sure it is.

    Attributes:
        mean: arithmetic mean; None where there is no value, as are ``std`` and ``median``.
        low, high: bounds of the 95 % interval of the mean (see `intervals`); None below `LEAST_PICTURES`.
        std: standard deviation of the pictures, of the population (divided by ``count``).
        median: half of the pictures lie on either side.
        count: pictures that have a value.
    """

    mean: float | None
    low: float | None
    high: float | None
    std: float | None
    median: float | None
    count: int

    @property
    def side(self) -> Literal[-1, 0, 1]:
        """Where the interval lies: all above 0 (1), all below (-1), or neither, or there is none (0)."""
        if self.low is not None and self.low > 0:
            return 1
        return -1 if self.high is not None and self.high < 0 else 0


def interval(values_by_picture: Mapping[str, Sequence[float | None]]) -> Interval:
    """Sum up one figure over pictures; a picture's values (its seeds) are averaged first, None left out."""
    means = [_mean(values) for values in values_by_picture.values()]
    return intervals(np.array(means, dtype=np.float64)[:, None])[0]


def intervals(values: NDArray[np.float64]) -> list[Interval]:
    """Mean, spread and 95 % interval of each column over pictures.

    The interval is a bootstrap over pictures with expanded percentiles (Hesterberg 2015, "What teachers
    should know about the bootstrap", The American Statistician 69): of the means of `RESAMPLES` resamples
    it takes the quantiles at Φ(-√(n/(n-1)) t) and its complement, t the 97.5 % quantile of Student's
    distribution with n-1 degrees of freedom, so that few pictures give wide intervals, too. It equals
    ``scipy.stats.bootstrap`` with ``method="percentile"`` at that confidence level and the same generator,
    whose seed is fixed, so that equal values give equal intervals.

    It says how far the mean would move with other pictures of the same kind. It takes them for independent
    and knows nothing of other kinds of pictures or other weights. In simulations 94 to 95 % of intervals
    covered the mean of a normal distribution, from 6 pictures on; of an exponential one 89 % at 6 pictures
    and 94 % at 94. Values that are all equal give no width at all. Nothing is corrected for the number of
    columns: of 100 true zeros some 5 look otherwise.

    Args:
        values: (pictures, columns); NaN where a picture has no value.

    Returns:
        One per column, in order.
    """
    defined = ~np.isnan(values)
    lows, highs = _bounds(_resampled_means(values, SEED), defined.sum(axis=0))
    return [
        _describe(column[there], low, high)
        for column, there, low, high in zip(values.T, defined.T, lows, highs, strict=True)
    ]


def unpaired(a: NDArray[np.float64], b: NDArray[np.float64]) -> list[Interval]:
    """Mean of each column of ``b`` minus the mean of the same column of ``a``, over different pictures.

    As `intervals`, the pictures of either drawn on their own and Student's degrees of freedom those of the
    smaller set. There is no deviation or median; ``count`` is of the smaller set.

    Args:
        a: (pictures, columns); NaN where a picture has no value.
        b: (other pictures, the same columns).
    """
    counts = np.minimum((~np.isnan(a)).sum(axis=0), (~np.isnan(b)).sum(axis=0))
    lows, highs = _bounds(_resampled_means(b, SEED + 1) - _resampled_means(a, SEED), counts)
    found = []
    for before, after, low, high, count in zip(a.T, b.T, lows, highs, counts.tolist(), strict=True):
        mean = float(np.nanmean(after) - np.nanmean(before)) if count else None
        found.append(Interval(mean, low, high, None, None, count))
    return found


def tail_probability(count: int) -> float:
    """Share of resampled means below the 95 % interval over ``count`` pictures: see `intervals`."""
    from scipy.special import ndtr, stdtrit

    return float(ndtr(-math.sqrt(count / (count - 1)) * stdtrit(count - 1, 0.975)))


def _resampled_means(values: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """Means of each column over pictures drawn with replacement: (columns, RESAMPLES).

    NaN for columns of fewer than `LEAST_PICTURES`.
    """
    means = np.full((values.shape[1], RESAMPLES), np.nan)
    # Columns that lack the same pictures are drawn together.
    groups: dict[bytes, list[int]] = defaultdict(list)
    for column, there in enumerate(~np.isnan(values.T)):
        groups[there.tobytes()].append(column)
    for columns in groups.values():
        there = ~np.isnan(values[:, columns[0]])
        if there.sum() >= LEAST_PICTURES:
            means[columns] = _means_of_draws(values[there][:, columns], seed)
    return means


def _means_of_draws(values: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """Means (columns, RESAMPLES) of values (N, columns) over rows drawn with replacement."""
    count, rng = len(values), np.random.default_rng(seed)
    means, block = np.empty((values.shape[1], RESAMPLES)), max(1, _BLOCK // count)
    for start in range(0, RESAMPLES, block):
        rows = min(block, RESAMPLES - start)
        drawn = rng.integers(0, count, (rows, count)) + count * np.arange(rows)[:, None]
        # How often each picture was drawn: a product with that is many times faster than gathering.
        times = np.bincount(drawn.ravel(), minlength=rows * count).reshape(rows, count)
        means[:, start : start + rows] = values.T @ times.T.astype(np.float64) / count
    return means


def _bounds(
    means: NDArray[np.float64], counts: NDArray[np.int64]
) -> tuple[list[float | None], list[float | None]]:
    """Low and high of each column's 95 % interval from its means (columns, RESAMPLES), of so many pictures.

    None below `LEAST_PICTURES`.
    """
    lows: list[float | None] = [None] * len(counts)
    highs: list[float | None] = [None] * len(counts)
    for count in np.unique(counts[counts >= LEAST_PICTURES]).tolist():
        columns, tail = np.flatnonzero(counts == count), tail_probability(count)
        found = np.quantile(means[columns], [tail, 1 - tail], axis=1, overwrite_input=True)
        for column, low, high in zip(columns.tolist(), *found.tolist(), strict=True):
            lows[column], highs[column] = low, high
    return lows, highs


def _describe(values: NDArray[np.float64], low: float | None, high: float | None) -> Interval:
    """Put together the interval of ``values`` (N,), none of which is NaN."""
    if values.size == 0:
        return Interval(None, None, None, None, None, 0)
    mean, std, median = float(values.mean()), float(values.std()), float(np.median(values))
    return Interval(mean, low, high, std, median, values.size)


def _mean(values: Sequence[float | None]) -> float:
    defined = [value for value in values if value is not None]
    return math.fsum(defined) / len(defined) if defined else math.nan
