"""Points, differences and deltas say what the rows say, computed here in another way."""

from __future__ import annotations

import json
import math
import statistics
import time

import numpy as np
import pytest
from small_evaluation import evaluation, row, rows, same

from clip_feature_codec.evaluate.analysis.curves import bjontegaard
from clip_feature_codec.evaluate.analysis.picture_values import PictureValues
from clip_feature_codec.evaluate.analysis.statistics import interval
from clip_feature_codec.evaluate.analysis.summary import Bjontegaard, Difference, Point, Summary, summarise
from clip_feature_codec.evaluate.results import Evaluation, SetValue

BUDGETS = (64, 140, 340, 1000)


def values(count: int, mean: float, seed: int) -> list[float]:
    return np.random.default_rng(seed).normal(mean, 1, count).tolist()


def point(summary: Summary, series: str, budget: int | None) -> Point:
    return next(one for one in summary.points if (one.series, one.budget) == (series, budget))


def difference(summary: Summary, baseline: str, budget: int | None, metric: str) -> Difference:
    key = baseline, budget, metric
    return next(one for one in summary.differences if (one.baseline, one.budget, one.metric) == key)


def delta(summary: Summary, baseline: str, metric: str) -> Bjontegaard:
    return next(one for one in summary.bjontegaard if (one.baseline, one.metric) == (baseline, metric))


# Points


def test_a_point_averages_seeds_then_pictures():
    psnr = {"p0": [10.0, 12.0], "p1": [20.0, None], "p2": [None, None]}
    found = evaluation(
        3,
        [
            row(image, "clp@8", 64, 60 + seed, seed, psnr=value)
            for image, both in psnr.items()
            for seed, value in enumerate(both)
        ],
    )
    one = point(summarise(found), "clp@8", 64)
    assert (one.fits, one.pictures) == (3, 3)
    assert one.metrics == {"psnr": interval(psnr)}
    assert (one.metrics["psnr"].mean, one.metrics["psnr"].count) == (15.5, 2)
    assert (one.bytes.mean, one.payload_bytes.mean, one.bpp.mean) == pytest.approx((60.5, 50.5, 0.605))
    assert one.bytes.std == 0


def test_every_series_and_budget_has_a_point_also_where_nothing_fits():
    found = evaluation(
        2,
        [
            *rows("clp@8", 64, 60, {"psnr": [1.0, 2.0]}),
            *rows("clp@8", 140, 139, {"psnr": [1.0, 2.0]}),
            row("p1", "jpeg", 140, 130, psnr=3.0),
        ],
    )
    summary = summarise(found)
    fits = [(one.series, one.budget, one.fits, one.pictures) for one in summary.points]
    assert fits == [("clp@8", 64, 2, 2), ("clp@8", 140, 2, 2), ("jpeg", 64, 0, 2), ("jpeg", 140, 1, 2)]
    nothing = point(summary, "jpeg", 64)
    assert (nothing.bytes.mean, nothing.metrics["psnr"].mean, nothing.encode_ms) == (None, None, None)


def test_intervals_of_a_point_are_those_of_its_pictures():
    psnr, lpips = values(20, 15, 0), values(20, 0.5, 1)
    one = summarise(evaluation(20, rows("clp@8", 64, 60, {"psnr": psnr, "lpips": lpips}))).points[0]
    assert same(one.metrics["psnr"], interval({str(i): [value] for i, value in enumerate(psnr)}))
    assert same(one.metrics["lpips"], interval({str(i): [value] for i, value in enumerate(lpips)}))


def test_times_and_memory_are_medians_over_rows():
    times = [(1.0, 10.0, None, 5.0), (2.0, 20.0, None, None), (9.0, 90.0, None, 7.0)]
    found = [row(f"p{i}", "clp@8", None, 50, times=four, psnr=1.0) for i, four in enumerate(times)]
    one = summarise(evaluation(3, found)).points[0]
    assert (one.encode_ms, one.decode_ms, one.encode_mb, one.decode_mb) == (2.0, 20.0, None, 6.0)


def test_metrics_of_the_set_are_handed_on():
    kid = SetValue("clp@8", 64, "kid", 0.1, 0.01, 2)
    found = evaluation(2, rows("clp@8", 64, 60, {"psnr": [1.0, 2.0]}), [kid])
    one = summarise(found).points[0]
    assert one.set_metrics == {"kid": kid}
    assert list(one.metrics) == ["psnr"]


# Differences


def test_differences_are_paired_by_picture_and_signed_ours_minus_baseline():
    ours, theirs = values(30, 15, 0), values(30, 15, 1)
    baseline = [a - 0.2 + 0.01 * (b - 15) for a, b in zip(ours, theirs, strict=True)]
    found = [*rows("clp@8", 64, 60, {"psnr": ours}), *rows("webp", 64, 60, {"psnr": baseline})]
    one = difference(summarise(evaluation(30, found)), "webp", 64, "psnr")
    pairs = {str(i): [a - b] for i, (a, b) in enumerate(zip(ours, baseline, strict=True))}
    assert same(one.interval, interval(pairs))
    assert one.better == "ours"  # unpaired, two sets that spread by 1 would not tell 0.2


@pytest.mark.parametrize(
    ("metric", "shift", "better"),
    [
        ("psnr", 3, "ours"),
        ("psnr", -3, "baseline"),
        ("psnr", 0, None),
        ("lpips", 3, "baseline"),
        ("lpips", -3, "ours"),
        ("lpips", 0, None),
    ],
)
def test_who_is_better_follows_the_metric(metric: str, shift: float, better: str | None):
    theirs = values(20, 0, 1)
    ours = [a + b + shift for a, b in zip(theirs, [0.5, -0.5] * 10, strict=True)]
    found = [*rows("clp@8", 64, 60, {metric: ours}), *rows("webp", 64, 60, {metric: theirs})]
    assert difference(summarise(evaluation(20, found)), "webp", 64, metric).better == better


def test_a_difference_is_over_the_pictures_that_both_have():
    ours = rows("clp@8", 64, 60, {"psnr": [10.0, 20.0, None, 40.0]})
    baseline = [row("p0", "webp", 64, 60, psnr=7.0), row("p2", "webp", 64, 60, psnr=7.0)]
    baseline += [row("p3", "webp", 64, 60, psnr=35.0)]
    one = difference(summarise(evaluation(4, [*ours, *baseline])), "webp", 64, "psnr")
    assert (one.interval.mean, one.interval.count, one.better) == (4.0, 2, None)


def test_only_ours_against_baselines_and_only_where_both_have_a_picture():
    column = {"psnr": [1.0] * 8}
    found = [
        *rows("clp@8", 64, 60, column),
        *rows("clp@50", 64, 60, column),
        *rows("layout", 64, 60, column),
        *rows("jpeg", 140, 130, column),
    ]
    summary = summarise(evaluation(8, found))
    met = [(one.series, one.baseline, one.budget) for one in summary.differences]
    assert met == [("clp@8", "layout", 64), ("clp@50", "layout", 64)]
    assert len(summary.bjontegaard) == 4


def test_an_evaluation_without_baselines_has_points_alone():
    summary = summarise(evaluation(7, rows("clp@8", None, 60, {"psnr": [1.0] * 7})))
    assert len(summary.points) == 1
    assert (summary.differences, summary.bjontegaard) == ([], [])


# Bjøntegaard


def curve(name: str, offset: float = 0.0, pictures: int = 8) -> list:
    found = []
    for budget in BUDGETS:
        column = [4 * math.log10(budget) + offset + i for i in range(pictures)]
        found += rows(name, budget, budget - 2, {"psnr": column})
    return found


def test_curves_are_of_mean_bytes_and_mean_values():
    ours, baseline = curve("clp@8", 1.0), curve("webp")
    one = delta(summarise(evaluation(8, [*ours, *baseline])), "webp", "psnr")
    points = [(budget - 2, 4 * math.log10(budget) + 3.5) for budget in BUDGETS]
    expected = bjontegaard([(size, value + 1) for size, value in points], points, "higher")
    assert (one.series, one.delta, one.rate_percent) == (
        "clp@8",
        pytest.approx(1.0),
        pytest.approx(expected.rate_percent),
    )
    assert (one.from_bytes, one.to_bytes) == (62, 998)


def test_a_codec_whose_payload_counts_is_placed_at_its_payload():
    found = evaluation(8, [*curve("clp@8"), *curve("webp:payload")], payload=["webp:payload"])
    one = delta(summarise(found), "webp:payload", "psnr")
    assert (one.from_bytes, one.to_bytes) == (62, 988)


def test_a_point_that_not_every_picture_fits_is_no_point_of_the_curve():
    baseline = [row for row in curve("webp") if (row.budget, row.image) != (64, "p3")]
    one = delta(summarise(evaluation(8, [*curve("clp@8"), *baseline])), "webp", "psnr")
    assert one.delta is None
    assert "4 of ours and 3 of the baseline" in one.reason


def test_a_picture_that_no_codec_fits_leaves_no_curve():
    found = evaluation(9, [*curve("clp@8"), *curve("webp")])
    assert "0 of ours and 0 of the baseline" in delta(summarise(found), "webp", "psnr").reason


def test_a_point_whose_metric_some_pictures_lack_is_no_point_of_the_curve():
    ours = curve("clp@8")
    next(row for row in ours if row.budget == 1000).metrics["psnr"] = None
    one = delta(summarise(evaluation(8, [*ours, *curve("webp")])), "webp", "psnr")
    assert "3 of ours and 4 of the baseline" in one.reason


def test_one_budget_has_no_curve_but_a_reason():
    found = [*rows("clp@8", None, 60, {"psnr": [1.0]}), *rows("webp", None, 60, {"psnr": [1.0]})]
    one = delta(summarise(evaluation(1, found)), "webp", "psnr")
    assert one.delta is None
    assert "1 of ours and 1 of the baseline" in one.reason


# The whole


def big_evaluation(pictures: int) -> Evaluation:
    rng = np.random.default_rng(0)
    found = []
    for name in ("clp@8", "clp@50", *(f"baseline{i}" for i in range(10))):
        for budget in (*BUDGETS, 222):
            column = rng.normal(4 * math.log10(budget), 1, pictures)
            found += rows(name, budget, budget - 3, {"psnr": column.tolist(), "lpips": (-column).tolist()})
    return evaluation(pictures, found)


def test_the_json_form_holds_everything():
    summary = summarise(big_evaluation(6))
    data = json.loads(json.dumps(summary.to_json(), allow_nan=False))
    assert [len(data[key]) for key in ("points", "differences", "bjontegaard")] == [60, 200, 40]
    first = summary.points[0]
    assert data["points"][0]["metrics"]["psnr"] == {
        "mean": first.metrics["psnr"].mean,
        "low": first.metrics["psnr"].low,
        "high": first.metrics["psnr"].high,
        "std": first.metrics["psnr"].std,
        "median": statistics.median(row.metrics["psnr"] for row in big_evaluation(6).rows[:6]),
        "count": 6,
    }


def test_the_same_evaluation_gives_the_same_summary():
    assert summarise(big_evaluation(8)) == summarise(big_evaluation(8))


def test_a_large_evaluation_is_summed_up_in_seconds():
    found = big_evaluation(94)
    start = time.process_time()
    summarise(found)
    assert time.process_time() - start < 5


def test_columns_are_nan_where_there_is_nothing():
    found = evaluation(2, rows("clp@8", 64, 60, {"psnr": [1.0, 2.0]}))
    places = [
        ("clp@8", 64, "psnr"),
        ("webp", 64, "psnr"),
        ("clp@8", 65, "psnr"),
        ("clp@8", 64, "kid"),
    ]
    columns = PictureValues.of(found).columns(places)
    np.testing.assert_array_equal(columns, [[1, *[math.nan] * 3], [2, *[math.nan] * 3]])
