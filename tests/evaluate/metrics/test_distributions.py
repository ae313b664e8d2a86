"""FID, KID and CMMD agree with their formulas, and say when a set is too small for them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from clip_feature_codec.errors import MetricError
from clip_feature_codec.evaluate.metrics.definitions import SET_METRICS
from clip_feature_codec.evaluate.metrics.distributions import (
    KID_SUBSETS,
    cmmd,
    fid,
    kid,
    set_distance,
    too_few,
)


def features(count: int, seed: int, dim: int = 12, shift: float = 0.0) -> np.ndarray:
    """Correlated features, as a network gives them."""
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).normal(size=(dim, dim)) / math.sqrt(dim)
    return (rng.normal(size=(count, dim)) @ mixing + shift).astype(np.float32)


REAL, OTHER = features(150, 1), features(130, 2, shift=0.3) * 1.2


# FID


def frechet(x: np.ndarray, y: np.ndarray) -> float:
    """Heusel et al. 2017, eq. 6, with scipy's matrix square root."""
    x, y = x.astype(np.float64), y.astype(np.float64)
    a, b = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    return float(((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(a + b - 2 * sqrtm(a @ b).real))


def test_fid_agrees_with_the_formula():
    assert fid(REAL, OTHER) == pytest.approx(frechet(REAL, OTHER), abs=1e-6)
    assert fid(OTHER, REAL) == pytest.approx(fid(REAL, OTHER), abs=1e-9)
    assert fid(REAL, OTHER) > 0.1


def test_fid_of_a_mere_shift_is_its_square():
    shift = np.linspace(-1, 1, REAL.shape[1])
    assert fid(REAL, REAL.astype(np.float64) + shift) == pytest.approx((shift**2).sum(), abs=1e-6)
    assert fid(REAL, REAL) == pytest.approx(0.0, abs=1e-6)
    assert fid(REAL, REAL) >= 0.0


# KID


def unbiased_mmd(x: np.ndarray, y: np.ndarray) -> float:
    """Gretton et al. 2012, eq. 3, with the kernel of Bińkowski et al. 2018."""

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return (a.astype(np.float64) @ b.T.astype(np.float64) / a.shape[1] + 1) ** 3

    n, m = len(x), len(y)
    within_x = (kernel(x, x).sum() - np.trace(kernel(x, x))) / (n * (n - 1))
    within_y = (kernel(y, y).sum() - np.trace(kernel(y, y))) / (m * (m - 1))
    return float(within_x + within_y - 2 * kernel(x, y).mean())


def test_kid_agrees_with_the_formula_over_the_same_subsets():
    mean, deviation = kid(REAL, OTHER)
    draw = torch.Generator().manual_seed(0)
    values = []
    for _ in range(KID_SUBSETS):
        chosen = [torch.randperm(len(x), generator=draw)[:65].numpy() for x in (REAL, OTHER)]
        values.append(unbiased_mmd(REAL[chosen[0]], OTHER[chosen[1]]))
    assert mean == pytest.approx(np.mean(values), abs=1e-9)
    assert deviation == pytest.approx(np.std(values), abs=1e-9)
    assert abs(mean - unbiased_mmd(REAL, OTHER)) < 4 * deviation / math.sqrt(KID_SUBSETS)


def test_kid_is_the_same_each_time_and_leaves_random_numbers_alone():
    torch.manual_seed(7)
    before = torch.get_rng_state()
    first = kid(REAL, OTHER)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(8)
    assert kid(REAL, OTHER) == first
    assert first[1] > 0


def test_kid_is_unbiased_and_so_may_be_negative():
    values = [kid(features(100, 2 * seed), features(100, 2 * seed + 1))[0] for seed in range(8)]
    assert min(values) < 0 < max(values)


# CMMD


def slow_cmmd(x: np.ndarray, y: np.ndarray) -> float:
    """Jayasumana et al. 2024: all pairs, each vector with itself, too."""

    def mean_kernel(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.mean([[math.exp(-((p - q) ** 2).sum() / 200) for q in b] for p in a]))

    x, y = (z.astype(np.float64) / np.linalg.norm(z.astype(np.float64), axis=1)[:, None] for z in (x, y))
    return 1000 * (mean_kernel(x, x) + mean_kernel(y, y) - 2 * mean_kernel(x, y))


def test_cmmd_agrees_with_the_formula():
    assert cmmd(REAL, OTHER) == pytest.approx(slow_cmmd(REAL, OTHER), abs=1e-9)
    assert cmmd(REAL, OTHER) > 0.01


def test_cmmd_takes_vectors_of_any_length():
    assert cmmd(REAL * 7, OTHER * 0.1) == pytest.approx(cmmd(REAL, OTHER), abs=1e-5)


def test_cmmd_of_known_sets():
    x = np.tile([[1.0, 0.0]], (3, 1))
    assert cmmd(x, x) == 0.0
    assert cmmd(x, -x) == pytest.approx(1000 * (2 - 2 * math.exp(-4 / 200)), abs=1e-9)


def test_cmmd_of_more_pictures_than_one_block_holds():
    x, y = features(2300, 3, dim=4), features(2100, 4, dim=4, shift=0.2)
    x, y = (z.astype(np.float64) / np.linalg.norm(z.astype(np.float64), axis=1)[:, None] for z in (x, y))
    (xx, xy, yy) = (np.exp((a @ b.T - 1) / 100).mean() for a, b in ((x, x), (x, y), (y, y)))
    assert cmmd(x, y) == pytest.approx(1000 * (xx + yy - 2 * xy), abs=1e-8)


# All of them


@pytest.mark.parametrize("metric", SET_METRICS)
def test_farther_sets_have_greater_distances_within_the_range(metric: str):
    (near, _), (far, _) = (
        set_distance(metric, features(120, 1), features(120, 2, shift=shift)) for shift in (0.3, 2.0)
    )
    assert SET_METRICS[metric].low <= near < far <= (SET_METRICS[metric].high or math.inf)
    assert SET_METRICS[metric].better == "lower"


def test_a_metric_is_found_by_its_name():
    assert set_distance("fid", REAL, OTHER) == (fid(REAL, OTHER), None)
    assert set_distance("kid", REAL, OTHER) == kid(REAL, OTHER)
    assert set_distance("cmmd@ViT-B-32", REAL, OTHER) == (cmmd(REAL, OTHER), None)
    with pytest.raises(MetricError, match="fid, kid, cmmd"):
        set_distance("psnr", REAL, OTHER)


@pytest.mark.parametrize(
    ("metric", "dim", "fewest"),
    [
        ("fid", 32, 500),
        ("fid", 100, 500),
        ("fid", 128, 640),
        ("kid", 128, 100),
        ("cmmd", 512, 100),
        ("cmmd@other", 512, 100),
    ],
)
def test_small_sets_are_declined_with_the_reason(metric: str, dim: int, fewest: int):
    assert too_few(metric, fewest, dim) is None
    reason = too_few(metric, fewest - 1, dim)
    assert reason is not None
    assert str(fewest) in reason
    assert f"found {fewest - 1}" in reason


@pytest.mark.parametrize("metric", SET_METRICS)
@pytest.mark.parametrize(
    ("real", "other"),
    [
        (np.ones((9, 3)), np.ones((9, 4))),
        (np.ones((9, 3)), np.ones((1, 3))),
        (np.ones(9), np.ones(9)),
        (np.ones((9, 3)), np.full((9, 3), np.nan)),
    ],
    ids=["dimensions", "one", "shape", "nan"],
)
def test_what_cannot_be_compared_is_refused(metric: str, real: np.ndarray, other: np.ndarray):
    with pytest.raises(MetricError):
        set_distance(metric, real, other)


def test_kid_needs_two_pictures_in_each_subset():
    with pytest.raises(MetricError, match="at least 4"):
        kid(features(3, 0), features(9, 1))
