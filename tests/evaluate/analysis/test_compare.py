"""Verdicts on a second evaluation: paired where they can be, and none where there are no grounds."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from small_evaluation import evaluation, row, rows, same

from clip_feature_codec.evaluate.analysis.compare import ONLY_FIRST, ONLY_SECOND, Change, compare, table
from clip_feature_codec.evaluate.analysis.statistics import interval
from clip_feature_codec.evaluate.results import Evaluation, SetValue

PICTURES = 20
BEFORE = np.random.default_rng(0).normal(15, 3, PICTURES)
WOBBLE = np.array([0.2, -0.2] * (PICTURES // 2))


def measured(values: np.ndarray, metric: str = "psnr", originals: str = "") -> Evaluation:
    return evaluation(len(values), rows("clp@8", 64, 60, {metric: values.tolist()}), originals=originals)


def with_kid(value: float, deviation: float | None, count: int = 20, originals: str = "") -> Evaluation:
    kid = SetValue("clp@8", 64, "kid", value, deviation, count)
    return evaluation(20, rows("clp@8", 64, 60, {"psnr": BEFORE.tolist()}), [kid], originals=originals)


HEAD = ["series", "budget", "metric", "first", "second", "difference", "95", "%", "interval", "verdict"]


def only(changes: list[Change], metric: str = "psnr") -> Change:
    (found,) = [change for change in changes if change.metric == metric]
    return found


# Pair by pair


@pytest.mark.parametrize(
    ("metric", "shift", "verdict"),
    [
        ("psnr", 0.5, "better"),
        ("psnr", -0.5, "worse"),
        ("psnr", 0.0, "same"),
        ("lpips", 0.5, "worse"),
        ("lpips", -0.5, "better"),
    ],
)
def test_verdicts_follow_the_metric_and_the_pairs(metric: str, shift: float, verdict: str):
    after = BEFORE + WOBBLE + shift
    change = only(compare(measured(BEFORE, metric), measured(after, metric)), metric)
    assert change.verdict == verdict
    assert same(change.difference, interval({str(i): [d] for i, d in enumerate(after - BEFORE)}))
    assert (change.a, change.b) == pytest.approx((BEFORE.mean(), after.mean()))
    assert change.note == ""


def test_an_evaluation_is_the_same_as_itself():
    changes = compare(with_kid(0.1, 0.01), with_kid(0.1, 0.01))
    assert [(change.metric, change.verdict) for change in changes] == [("psnr", "same"), ("kid", "same")]


def test_swapping_the_two_swaps_the_verdict():
    a, b = measured(BEFORE), measured(BEFORE + WOBBLE + 0.5)
    forth, back = only(compare(a, b)), only(compare(b, a))
    assert (forth.verdict, back.verdict) == ("better", "worse")
    assert back.difference.mean == pytest.approx(-forth.difference.mean)


def test_noise_of_arithmetic_below_the_digits_is_no_change():
    """1e-7 dB less in every picture: another order of sums, certain and of no account."""
    assert only(compare(measured(BEFORE), measured(BEFORE - 1e-7))).verdict == "same"


def test_seeds_are_averaged():
    seeds = [row("p0", "clp@8", 64, 60, seed, psnr=value) for seed, value in enumerate((1.0, 3.0))]
    change = only(compare(evaluation(1, seeds), evaluation(1, [row("p0", "clp@8", 64, 60, 0, psnr=5.0)])))
    assert (change.a, change.b, change.difference.mean) == (2.0, 5.0, 3.0)


def test_pictures_are_paired_by_name_and_not_by_order():
    a, b = measured(BEFORE), measured(BEFORE + 0.5)
    b.images.reverse()
    assert only(compare(a, b)).difference.std == pytest.approx(0, abs=1e-9)


def test_only_the_pictures_that_both_have_count():
    before = [*BEFORE.tolist(), 1000.0]
    after = [None, *(BEFORE[1:] + 1).tolist(), None]
    a, b = (evaluation(21, rows("clp@8", 64, 60, {"psnr": column})) for column in (before, after))
    change = only(compare(a, b))
    assert (change.a, change.b) == pytest.approx((BEFORE[1:].mean(), BEFORE[1:].mean() + 1))
    assert (change.difference.count, change.verdict) == (19, "better")
    assert change.note == "19 of 21 pictures are in both"


def test_a_picture_with_other_pixels_is_another_picture():
    a, b = measured(BEFORE), measured(BEFORE + 1)
    b.images[0] = dataclasses.replace(b.images[0], sha256="other")
    change = only(compare(a, b))
    assert (change.difference.count, change.note) == (19, "19 of 20 pictures are in both")


def test_few_pictures_give_a_difference_and_no_verdict():
    change = only(compare(measured(BEFORE[:5]), measured(BEFORE[:5] - 3)))
    assert change.difference.mean == pytest.approx(-3)
    assert (change.verdict, change.note) == (None, "fewer than 6 pictures give no interval")


# Other pictures


def test_other_pictures_are_compared_as_sets_and_it_is_said():
    after = BEFORE + 0.5  # plain in pairs, far within the spread of the pictures
    a, b = measured(BEFORE), measured(after, originals="other")
    change = only(compare(a, b))
    assert (change.verdict, change.note) == ("same", "not paired: no picture is in both")
    assert (change.a, change.b) == pytest.approx((BEFORE.mean(), after.mean()))
    margin = 1.96 * math.sqrt(2 * BEFORE.var() / PICTURES)
    assert change.difference.high == pytest.approx(0.5 + margin, rel=0.15)
    far = measured(BEFORE - 10, originals="other")
    assert only(compare(a, far)).verdict == "worse"


# What only one has


def test_what_only_one_has_is_listed():
    column = {"psnr": [1.0] * 7}
    a = evaluation(7, [*rows("clp@8", 64, 60, column), *rows("webp", 64, 60, column)])
    b = evaluation(7, [*rows("clp@8", 64, 60, column), *rows("clp@8", 140, 60, column)])
    found = [(change.series, change.budget, change.a, change.b, change.note) for change in compare(a, b)]
    assert found == [
        ("clp@8", 64, 1.0, 1.0, ""),
        ("webp", 64, 1.0, None, ONLY_FIRST),
        ("clp@8", 140, None, 1.0, ONLY_SECOND),
    ]
    assert [change.verdict for change in compare(a, b)] == ["same", None, None]


def test_a_metric_that_only_one_has_is_listed():
    changes = compare(with_kid(0.1, 0.01), measured(BEFORE))
    assert (only(changes, "kid").a, only(changes, "kid").note) == (0.1, ONLY_FIRST)


@pytest.mark.parametrize("field", ["network", "weights"])
def test_nothing_is_compared_across_networks_or_weights(field: str):
    a, b = measured(BEFORE, "lpips"), measured(BEFORE - 5, "lpips")
    b.metrics = b.metrics | {"lpips": dataclasses.replace(b.metrics["lpips"], **{field: "other"})}
    change = only(compare(a, b), "lpips")
    assert (change.difference, change.verdict) == (None, None)
    assert change.note == "measured by another network or other weights"


# Sets


@pytest.mark.parametrize(
    ("value", "verdict"), [(0.1 + 0.0276, "same"), (0.1 + 0.0279, "worse"), (0.1 - 0.0279, "better")]
)
def test_a_metric_of_a_set_is_judged_by_both_deviations(value: float, verdict: str):
    """1.96 · √(0.01² + 0.01²) = 0.02772."""
    change = only(compare(with_kid(0.1, 0.01), with_kid(value, 0.01)), "kid")
    assert change.verdict == verdict
    assert (change.difference.mean, change.difference.count) == (pytest.approx(value - 0.1), 20)


@pytest.mark.parametrize("deviation", [None, 0.0])
def test_without_a_deviation_there_is_no_verdict(deviation: float | None):
    change = only(compare(with_kid(0.1, 0.01), with_kid(0.9, deviation)), "kid")
    assert (change.verdict, change.note) == (None, "no deviation is known")
    assert change.difference.mean == pytest.approx(0.8)


@pytest.mark.parametrize("other", [with_kid(0.9, 0.01, originals="other"), with_kid(0.9, 0.01, count=19)])
def test_sets_of_other_pictures_are_not_compared(other: Evaluation):
    change = only(compare(with_kid(0.1, 0.01), other), "kid")
    assert (change.difference, change.verdict, change.note) == (None, None, "of other pictures")


# The table


def test_the_table_shows_every_comparison_then_counts():
    column = {"psnr": BEFORE.tolist(), "lpips": BEFORE.tolist()}
    lower = {"psnr": (BEFORE - 1).tolist(), "lpips": (BEFORE - 1).tolist()}
    a = evaluation(20, [*rows("clp@8", 64, 60, column), *rows("webp", None, 60, column)])
    b = evaluation(20, [*rows("clp@8", 64, 60, lower), *rows("jpeg", 64, 60, column)])
    lines = table(compare(a, b)).splitlines()
    assert lines[0].split() == [
        "series",
        "budget",
        "metric",
        "first",
        "second",
        "difference",
        "95",
        "%",
        "interval",
        "pictures",
        "verdict",
    ]
    mean = f"{BEFORE.mean():.4f} {BEFORE.mean() - 1:.4f}"
    gap = "-1.0000 [-1.0000, -1.0000]"
    assert " ".join(lines[1].split()) == f"clp@8 64 bytes psnr {mean} {gap} 20 worse"
    assert " ".join(lines[2].split()) == f"clp@8 64 bytes lpips {mean} {gap} 20 better"
    assert lines[3:] == [
        "only in the first: webp, as stored: psnr, lpips",
        "only in the second: jpeg, 64 bytes: psnr, lpips",
        "1 worse, 1 better, 0 the same as far as it shows, 0 without a verdict",
    ]


def test_the_table_says_why_there_is_no_verdict():
    lines = table(compare(measured(BEFORE[:2]), measured(BEFORE[:2]))).splitlines()
    assert lines[1].endswith("none     fewer than 6 pictures give no interval")
    assert lines[-1].endswith("1 without a verdict")


def test_the_table_of_nothing_is_its_head():
    nothing = Evaluation({}, {}, [], [], [])
    assert compare(nothing, nothing) == []
    assert table([]).splitlines()[-1].startswith("0 worse, 0 better")
