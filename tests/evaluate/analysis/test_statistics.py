"""Intervals agree with scipy's bootstrap and cover what they say."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from small_evaluation import same

from clip_feature_codec.evaluate.analysis.statistics import (
    RESAMPLES,
    SEED,
    Interval,
    interval,
    intervals,
    tail_probability,
    unpaired,
)

NOTHING = Interval(None, None, None, None, None, 0)


def draws(count: int, columns: int = 1, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(5, 2, (count, columns))


@pytest.mark.parametrize("count", [6, 20, 94])
def test_bounds_are_those_of_scipy_at_the_expanded_level(count: int):
    values = draws(count)
    expected = scipy.stats.bootstrap(
        (values[:, 0],),
        np.mean,
        n_resamples=RESAMPLES,
        method="percentile",
        confidence_level=1 - 2 * tail_probability(count),
        rng=np.random.default_rng(SEED),
    ).confidence_interval
    found = intervals(values)[0]
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize("count", [6, 20, 94])
def test_expansion_makes_up_for_what_a_plain_bootstrap_leaves_out(count: int):
    """A plain tail of 2.5 % is a normal quantile, of a deviation with n for n-1: Student's mends both."""
    factor = scipy.stats.t.ppf(0.975, count - 1) * math.sqrt(count / (count - 1))
    assert scipy.stats.norm.ppf(1 - tail_probability(count)) == pytest.approx(factor)


def test_many_pictures_come_to_the_plain_percentiles():
    assert tail_probability(10**6) == pytest.approx(0.025, abs=1e-6)


def test_symmetric_pictures_give_nearly_students_interval():
    values = draws(94)[:, 0]
    expected = scipy.stats.t.interval(0.95, 93, values.mean(), scipy.stats.sem(values))
    found = intervals(values[:, None])[0]
    assert (found.low, found.high) == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize(("count", "least"), [(6, 0.92), (24, 0.93), (94, 0.93)])
def test_95_percent_of_the_intervals_cover_the_true_mean(count: int, least: float):
    found = intervals(draws(count, columns=1000, seed=count))
    covered = sum(one.low <= 5 <= one.high for one in found) / len(found)
    assert least <= covered <= 0.97


def test_figures_are_those_of_the_standard_library():
    values = draws(31)[:, 0]
    found = intervals(values[:, None])[0]
    assert found.mean == pytest.approx(statistics.fmean(values))
    assert found.std == pytest.approx(statistics.pstdev(values))
    assert found.median == pytest.approx(statistics.median(values))
    assert found.count == 31


@pytest.mark.parametrize("count", range(1, 6))
def test_few_pictures_have_a_mean_and_no_interval(count: int):
    found = intervals(draws(count))[0]
    assert found.mean is not None
    assert (found.low, found.high, found.side) == (None, None, 0)


def test_no_pictures_and_no_values_give_nothing():
    assert intervals(np.empty((0, 2))) == [NOTHING, NOTHING]
    assert intervals(np.full((9, 1), np.nan)) == [NOTHING]
    assert intervals(np.empty((9, 0))) == []


def test_a_missing_value_counts_as_if_its_picture_were_not_there():
    values = draws(40, columns=3)
    values[[4, 17], 1] = np.nan
    values[:36, 2] = np.nan
    found = intervals(values)
    assert same(found[0], intervals(values[:, :1])[0])
    assert same(found[1], intervals(np.delete(values[:, 1:2], [4, 17], axis=0))[0])
    assert same(found[2], intervals(values[36:, 2:])[0])


def test_more_pictures_than_one_block_holds_are_resampled_as_in_one(monkeypatch: pytest.MonkeyPatch):
    whole = intervals(draws(50))
    monkeypatch.setattr("clip_feature_codec.evaluate.analysis.statistics._BLOCK", 50 * 7)
    assert same(intervals(draws(50))[0], whole[0])


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(-1e3, 1e3), min_size=6, max_size=30))
def test_an_interval_lies_within_its_values_and_turns_with_their_sign(values: list[float]):
    column = np.array(values)[:, None]
    found, turned = intervals(np.hstack([column, -column]))
    assert found.low <= found.high
    assert min(values) - 1e-9 <= found.low
    assert found.high <= max(values) + 1e-9
    assert (turned.low, turned.high) == pytest.approx((-found.high, -found.low), abs=1e-9)


@pytest.mark.parametrize(
    ("low", "high", "side"),
    [(0.1, 0.2, 1), (-0.2, -0.1, -1), (-0.1, 0.1, 0), (0.0, 0.1, 0), (-0.1, 0.0, 0), (None, None, 0)],
)
def test_the_side_of_an_interval(low: float | None, high: float | None, side: int):
    assert Interval(0.05, low, high, 1.0, 0.0, 9).side == side


def test_seeds_of_a_picture_are_averaged_before_pictures():
    found = interval({"a": [1.0, 3.0], "b": [None, 6.0], "c": [None, None], "d": []})
    assert (found.mean, found.median, found.std, found.count) == (4.0, 4.0, 2.0, 2)


def test_more_seeds_do_not_make_more_pictures():
    values = draws(20)[:, 0].tolist()
    once = interval({str(i): [value] for i, value in enumerate(values)})
    thrice = interval({str(i): [value] * 3 for i, value in enumerate(values)})
    assert (thrice.low, thrice.high, thrice.count) == pytest.approx((once.low, once.high, 20))


def test_no_pictures_at_all_give_nothing():
    assert interval({}) == NOTHING


def test_unpaired_means_are_subtracted_with_both_spreads():
    a, b = draws(200, seed=1), draws(300, seed=2) + 1
    found = unpaired(a, b)[0]
    assert found.mean == pytest.approx(b.mean() - a.mean())
    margin = 1.96 * math.sqrt(a.var() / 200 + b.var() / 300)
    assert (found.low, found.high) == pytest.approx((found.mean - margin, found.mean + margin), abs=0.03)
    assert (found.count, found.std, found.median) == (200, None, None)


def test_unpaired_sets_are_drawn_independently():
    """Drawn alike, two equal sets would give an interval of no width."""
    values = draws(50)
    found = unpaired(values, values)[0]
    assert found.high - found.low > 2 * 1.9 * values.std() / math.sqrt(50)


def test_unpaired_needs_enough_pictures_on_either_side():
    few, many = draws(3), draws(30)
    found = unpaired(few, many)[0]
    assert found.mean == pytest.approx(many.mean() - few.mean())
    assert (found.low, found.high, found.count) == (None, None, 3)
    assert unpaired(np.full((4, 1), np.nan), many) == [NOTHING]
