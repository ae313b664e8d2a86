"""Bjøntegaard deltas: two curves of a metric against bytes, compared where they overlap."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

LEAST_POINTS = 4
"""Sizes that a curve needs, as in Bjøntegaard's proposal (VCEG-M33)."""

Curve = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Bytes and values of a metric, both (N,), in the order of rising bytes."""

WELL_SHARED = 0.75
"""Share of the two curves' range from which the bjontegaard package gives a delta without a warning."""


@dataclass(frozen=True)
class Delta:
    """A Bjøntegaard delta between two curves.

    Attributes:
        delta: of the metric at equal bytes, ours minus the baseline's, averaged over log bytes.
        rate_percent: of the bytes at an equal value of the metric: -20 says that ours needs a fifth less.
        from_bytes, to_bytes: what ``delta`` is averaged over: the sizes that both curves span.
        reason: why a value is None, or why it stands on little; empty when there is nothing to say.
    """

    delta: float | None
    rate_percent: float | None
    from_bytes: float | None
    to_bytes: float | None
    reason: str


def bjontegaard(
    ours: Iterable[tuple[float, float]],
    baseline: Iterable[tuple[float, float]],
    better: Literal["higher", "lower"],
) -> Delta:
    """Compare two curves where they overlap (Bjøntegaard 2001, VCEG-M33) with the ``bjontegaard`` package.

    Interpolation is PCHIP (monotone piecewise cubic) over log10 bytes; ``rate_percent`` integrates log10
    bytes over the metric. Nothing is extrapolated. Both are of curves of means: no interval goes with
    them, and they say nothing of sizes or qualities that only one curve reaches.

    Args:
        ours: (bytes, metric) points, in any order; of points with equal bytes the first one counts.
        baseline: the curve that ours is compared with.
        better: whether higher or lower values of the metric are better.

    Returns:
        The deltas. Both are None for curves of fewer than `LEAST_POINTS` sizes, or without a common size;
        ``rate_percent`` alone where quality does not rise with bytes, or no quality is common to both.
    """
    from bjontegaard import bd_psnr  # takes its time: it brings matplotlib

    (our_bytes, our_metric), (baseline_bytes, baseline_metric) = _curve(ours), _curve(baseline)
    if min(len(our_bytes), len(baseline_bytes)) < LEAST_POINTS:
        return _nothing(
            f"too few sizes that every picture fits: {len(our_bytes)} of ours and {len(baseline_bytes)} of "
            f"the baseline, {LEAST_POINTS} are needed"
        )
    low, high = max(our_bytes[0], baseline_bytes[0]), min(our_bytes[-1], baseline_bytes[-1])
    if low >= high:
        return _nothing("no size lies on both curves")
    settings = {"method": "pchip", "require_matching_points": False, "min_overlap": 0}
    sign = 1 if better == "higher" else -1  # the package wants quality that rises with bytes
    delta = float(bd_psnr(baseline_bytes, baseline_metric, our_bytes, our_metric, **settings))
    remarks = _remark(_shared(np.log(our_bytes), np.log(baseline_bytes)), "sizes")

    rate, reasons = _rate((our_bytes, sign * our_metric), (baseline_bytes, sign * baseline_metric), settings)
    return Delta(delta, rate, float(low), float(high), "; ".join(remarks + reasons))


def _rate(ours: Curve, baseline: Curve, settings: Mapping[str, Any]) -> tuple[float | None, list[str]]:
    """Percent of the bytes at equal quality, which must rise with them, and what is to be said of it."""
    from bjontegaard import bd_rate

    falling = [
        name
        for name, (_, quality) in (("ours", ours), ("the baseline's", baseline))
        if np.any(np.diff(quality) <= 0)
    ]
    if falling:
        return None, [f"no rate: quality does not rise with bytes on every step of {' and '.join(falling)}"]
    shared = _shared(ours[1], baseline[1])
    if shared <= 0:
        return None, ["no rate: no quality is reached by both"]
    return float(bd_rate(*baseline, *ours, **settings)), _remark(shared, "qualities")


def _curve(points: Iterable[tuple[float, float]]) -> Curve:
    """Points in the order of their bytes, as (bytes, metric); a codec that can use no more bytes repeats."""
    table = np.array(list(points), dtype=np.float64).reshape(-1, 2)
    _, first = np.unique(table[:, 0], return_index=True)
    return table[first, 0], table[first, 1]


def _shared(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Share of the range of both, (N,) and (M,), that lies in that of each; 0 or less if they are apart."""
    common = min(a.max(), b.max()) - max(a.min(), b.min())
    return float(common / (max(a.max(), b.max()) - min(a.min(), b.min())))


def _remark(shared: float, what: str) -> list[str]:
    return [f"the curves share only {shared:.0%} of their range of {what}"] if shared < WELL_SHARED else []


def _nothing(reason: str) -> Delta:
    return Delta(None, None, None, None, reason)
