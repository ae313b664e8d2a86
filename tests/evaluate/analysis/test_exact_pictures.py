"""Fault 25: a codec that gives pictures back exactly is measured over the same pictures as any other."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
from small_evaluation import evaluation, rows

from clip_feature_codec.evaluate.analysis.compare import compare
from clip_feature_codec.evaluate.analysis.summary import Difference, Point, Summary, summarise
from clip_feature_codec.evaluate.metrics.definitions import METRICS, PSNR_CAP
from clip_feature_codec.evaluate.metrics.pixels import pooled_psnr
from clip_feature_codec.evaluate.report import html_page, text_table
from clip_feature_codec.evaluate.results import Evaluation

OURS = [20.0, 22.0, 24.0, 26.0, 28.0, 30.0]
EXACT = [30.0, None, None, None, None, 32.0]  # four of six without a single error


def compared(theirs: list[float | None], ours: list[float | None] = OURS) -> Evaluation:
    """Ours beside WebP, with PSNR as it is defined for users."""
    found = evaluation(6, [*rows("clp@8", 64, 60, {"psnr": ours}), *rows("webp", 64, 60, {"psnr": theirs})])
    found.metrics = found.metrics | {"psnr": METRICS["psnr"]}
    return found


def psnr_of(summary: Summary, series: str) -> Point:
    return next(point for point in summary.points if point.series == series)


def gap(summary: Summary) -> Difference:
    return next(one for one in summary.differences if one.metric == "psnr")


def test_means_are_over_all_pictures_for_every_codec():
    summary = summarise(compared(EXACT))
    exact, ours = (psnr_of(summary, series).metrics["psnr"] for series in ("webp", "clp@8"))
    assert (exact.count, ours.count) == (6, 6)
    assert exact.mean == pytest.approx((30 + 4 * PSNR_CAP + 32) / 6)
    assert ours.mean == pytest.approx(np.mean(OURS))


def test_differences_are_over_all_pictures():
    difference = gap(summarise(compared(EXACT))).interval
    assert difference.count == 6
    capped = [PSNR_CAP if value is None else value for value in EXACT]
    assert difference.mean == pytest.approx(np.mean(OURS) - np.mean(capped))


def test_what_is_nearly_exact_is_no_better_than_what_is():
    nearly = [30.0, 71.0, 64.0, 60.5, 90.0, 32.0]
    assert gap(summarise(compared(nearly))) == gap(summarise(compared(EXACT)))


def test_figures_without_exact_pictures_are_as_they_were():
    theirs: list[float | None] = [18.0, 21.5, 23.0, 29.0, 20.0, 59.9]
    with_cap, without = compared(theirs), compared(theirs)
    without.metrics = with_cap.metrics | {"psnr": dataclasses.replace(METRICS["psnr"], cap=None)}
    assert summarise(with_cap) == summarise(without)


def test_results_from_before_are_read_by_the_same_rule():
    written = json.loads(json.dumps(compared(EXACT).to_json()))
    for field in ("cap", "note"):
        for metric in written["metrics"].values():
            del metric[field]
    found = Evaluation.from_json(written)
    assert summarise(found).points == summarise(compared(EXACT)).points


def test_two_results_are_compared_over_the_same_pictures():
    change = next(one for one in compare(compared(EXACT), compared(OURS)) if one.series == "webp")
    assert change.difference is not None
    assert change.difference.count == 6
    assert change.note == ""


def test_every_report_counts_the_pictures_and_states_the_rule():
    found = compared(EXACT)
    text, page = text_table(found), html_page(found, {}, "title")
    for line in text.splitlines():
        if line.startswith(("clp@8", "webp")):
            assert line.split()[1] == "6"
    assert "identical pictures count as 60 dB" in text
    assert "identical pictures count as 60 dB" in page
    assert "over 6 pictures." in page


def test_the_pooled_psnr_is_that_of_the_mean_error():
    errors = [0.0, 12.5, 400.0]
    psnrs = [None if error == 0 else 10 * math.log10(255**2 / error) for error in errors]
    assert pooled_psnr(psnrs) == pytest.approx(10 * math.log10(255**2 / np.mean(errors)))
    assert pooled_psnr([None, None]) == PSNR_CAP
    assert pooled_psnr([None, 80.0]) == PSNR_CAP
    assert pooled_psnr([33.0]) == pytest.approx(33.0)
