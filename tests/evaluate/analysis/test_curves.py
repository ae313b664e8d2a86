"""Bjøntegaard deltas agree with their formula, and are left out with a reason where they mean nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import PchipInterpolator

from clip_feature_codec.evaluate.analysis.curves import bjontegaard

Curve = list[tuple[float, float]]

OURS = [(64, 12.0), (140, 14.5), (222, 15.8), (340, 16.4), (1000, 17.9)]
BASELINE = [(90, 12.4), (150, 13.9), (230, 15.0), (350, 16.1), (990, 18.4)]


def mean_gap(ours: Curve, baseline: Curve) -> float:
    """Of two (x, y) curves where their x overlap, ours minus the baseline's, by fine steps through PCHIP."""
    low = max(min(x for x, _ in ours), min(x for x, _ in baseline))
    high = min(max(x for x, _ in ours), max(x for x, _ in baseline))
    x = np.linspace(low, high, 200_001)
    gap = PchipInterpolator(*zip(*sorted(ours), strict=True))(x)
    gap -= PchipInterpolator(*zip(*sorted(baseline), strict=True))(x)
    return float(np.trapezoid(gap, x) / (high - low))


def logarithmic(curve: Curve) -> Curve:
    return [(math.log10(size), value) for size, value in curve]


def turned(curve: Curve) -> Curve:
    return [(value, size) for size, value in curve]


def negative(curve: Curve) -> Curve:
    return [(size, -value) for size, value in curve]


def test_deltas_are_the_formulas():
    found = bjontegaard(OURS, BASELINE, "higher")
    ours, baseline = logarithmic(OURS), logarithmic(BASELINE)
    assert found.delta == pytest.approx(mean_gap(ours, baseline), abs=1e-6)
    expected = (10 ** mean_gap(turned(ours), turned(baseline)) - 1) * 100
    assert found.rate_percent == pytest.approx(expected, abs=1e-4)
    assert (found.from_bytes, found.to_bytes, found.reason) == (90, 990, "")


def test_a_metric_of_which_less_is_better_is_the_mirror_image():
    higher = bjontegaard(OURS, BASELINE, "higher")
    lower = bjontegaard(negative(OURS), negative(BASELINE), "lower")
    assert lower.delta == pytest.approx(-higher.delta)
    assert lower.rate_percent == pytest.approx(higher.rate_percent)


@settings(max_examples=25, deadline=None)
@given(st.floats(-1, 1), st.floats(0.7, 1.4))
def test_shifted_lines_have_the_shift_for_delta(rise: float, factor: float):
    """On lines over log bytes: ``rise`` in the metric, and ``factor`` times the bytes for the same value."""
    sizes = [64, 140, 222, 340, 1000]
    baseline = [(size, 4 * math.log10(size)) for size in sizes]
    up = bjontegaard([(size, value + rise) for size, value in baseline], baseline, "higher")
    assert up.delta == pytest.approx(rise, abs=1e-9)
    right = bjontegaard([(size * factor, value) for size, value in baseline], baseline, "higher")
    assert right.rate_percent == pytest.approx((factor - 1) * 100, abs=1e-6)


def test_a_curve_against_itself_is_nothing():
    found = bjontegaard(OURS, OURS, "higher")
    assert (found.delta, found.rate_percent) == pytest.approx((0, 0))


def test_order_and_repeated_sizes_do_not_matter():
    again = [*reversed(OURS), OURS[2]]
    assert bjontegaard(again, BASELINE, "higher") == bjontegaard(OURS, BASELINE, "higher")


@pytest.mark.parametrize(("ours", "baseline"), [(OURS[:3], BASELINE), (OURS, []), (OURS[:1] * 5, BASELINE)])
def test_too_few_sizes_are_counted(ours: Curve, baseline: Curve):
    found = bjontegaard(ours, baseline, "higher")
    assert (found.delta, found.rate_percent, found.from_bytes, found.to_bytes) == (None,) * 4
    counts = f"{len(set(ours))} of ours and {len(set(baseline))} of the baseline"
    assert counts in found.reason
    assert "4 are needed" in found.reason


def test_curves_of_other_sizes_have_no_delta():
    found = bjontegaard(OURS, [(size + 2000, value) for size, value in BASELINE], "higher")
    assert (found.delta, found.rate_percent) == (None, None)
    assert found.reason == "no size lies on both curves"


@pytest.mark.parametrize(
    ("ours", "baseline", "whose"),
    [
        ([*OURS[:-1], (1000, 16.0)], BASELINE, "of ours"),
        (OURS, [*BASELINE[:-1], (990, 16.1)], "of the baseline's"),
        ([*OURS[:-1], (1000, 16.0)], [*BASELINE[:-1], (990, 16.1)], "of ours and the baseline's"),
    ],
)
def test_quality_that_does_not_rise_leaves_only_the_delta(ours: Curve, baseline: Curve, whose: str):
    found = bjontegaard(ours, baseline, "higher")
    assert found.delta == pytest.approx(mean_gap(logarithmic(ours), logarithmic(baseline)), abs=1e-6)
    assert found.rate_percent is None
    assert found.reason.endswith(f"does not rise with bytes on every step {whose}")


def test_quality_that_only_one_reaches_leaves_only_the_delta():
    found = bjontegaard([(size, value + 20) for size, value in OURS], BASELINE, "higher")
    assert found.delta is not None
    assert found.rate_percent is None
    assert "no quality is reached by both" in found.reason


def test_a_small_common_range_is_told_beside_the_figures():
    baseline = [(size * 5, value) for size, value in BASELINE]
    found = bjontegaard(OURS, baseline, "higher")
    assert (found.from_bytes, found.to_bytes) == (450, 1000)
    share = math.log(1000 / 450) / math.log(4950 / 64)
    assert found.reason == f"the curves share only {share:.0%} of their range of sizes"
    near = bjontegaard([(size, value + 4) for size, value in OURS], BASELINE, "higher")
    share = (18.4 - 16) / (21.9 - 12.4)
    assert near.rate_percent is not None
    assert near.reason == f"the curves share only {share:.0%} of their range of qualities"
