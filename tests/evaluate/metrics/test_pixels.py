"""Metrics of single pictures agree with their formulas, with scikit-image and with torchmetrics."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import asdict

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pictures import disturbed, nchw, picture
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torchmetrics.image import PeakSignalNoiseRatio, StructuralSimilarityIndexMeasure

from clip_feature_codec.errors import MetricError
from clip_feature_codec.evaluate.metrics.definitions import METRICS, SET_METRICS
from clip_feature_codec.evaluate.metrics.pixels import psnr, ssim
from clip_feature_codec.evaluate.metrics.vectors import cosine, unit_rows

PAIRS = [
    (picture(height, width, seed), disturbed(picture(height, width, seed), strength))
    for seed, (height, width) in enumerate([(64, 64), (48, 80), (11, 11), (33, 12)])
    for strength in (2, 20, 80)
]


# PSNR


@pytest.mark.parametrize("pair", PAIRS)
def test_psnr_agrees_with_scikit_image_and_torchmetrics(pair: tuple[np.ndarray, np.ndarray]):
    a, b = pair
    assert psnr(a, b) == pytest.approx(peak_signal_noise_ratio(a, b, data_range=255), abs=1e-4)
    oracle = PeakSignalNoiseRatio(data_range=255.0, dim=(1, 2, 3))
    assert psnr(a, b) == pytest.approx(oracle(nchw(b), nchw(a)).item(), abs=1e-4)


def test_psnr_of_known_differences():
    black, white = np.zeros((3, 5, 3), np.uint8), np.full((3, 5, 3), 255, np.uint8)
    assert psnr(black, white) == 0.0
    one_off = black.copy()
    one_off[1, 2, 0] = 1  # mean squared error 1 / 45
    assert psnr(black, one_off) == pytest.approx(20 * math.log10(255) + 10 * math.log10(45), abs=1e-9)


def test_psnr_takes_pillow_images():
    a, b = PAIRS[0]
    assert psnr(Image.fromarray(a), Image.fromarray(b)) == psnr(a, b)


def test_identical_pictures_have_no_psnr_and_a_perfect_ssim():
    a, _ = PAIRS[0]
    assert psnr(a, a.copy()) is None
    assert ssim(a, a.copy()) == pytest.approx(1.0, abs=1e-12)


# SSIM


def wang_ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Wang et al. 2004, eqs. 13 to 17, window by window in float64."""
    offsets = np.arange(-5, 6)
    line = np.exp(-(offsets**2) / (2 * 1.5**2))
    w = np.outer(line, line) / line.sum() ** 2
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    values = []
    for channel in range(3):
        x, y = (
            np.lib.stride_tricks.sliding_window_view(p[..., channel].astype(np.float64), (11, 11))
            for p in (a, b)
        )
        mean_x, mean_y = (x * w).sum((2, 3)), (y * w).sum((2, 3))
        var_x = (w * (x - mean_x[..., None, None]) ** 2).sum((2, 3))
        var_y = (w * (y - mean_y[..., None, None]) ** 2).sum((2, 3))
        cov = (w * (x - mean_x[..., None, None]) * (y - mean_y[..., None, None])).sum((2, 3))
        values.append(
            (2 * mean_x * mean_y + c1)
            * (2 * cov + c2)
            / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))
        )
    return float(np.mean(values))


@pytest.mark.parametrize("pair", PAIRS)
def test_ssim_agrees_with_the_paper_scikit_image_and_torchmetrics(pair: tuple[np.ndarray, np.ndarray]):
    a, b = pair
    value = ssim(a, b)
    assert value == pytest.approx(wang_ssim(a, b), abs=1e-6)
    settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    assert value == pytest.approx(
        structural_similarity(a, b, data_range=255, channel_axis=2, **settings), abs=1e-9
    )
    oracle = StructuralSimilarityIndexMeasure(
        gaussian_kernel=True, sigma=1.5, kernel_size=11, data_range=255.0, return_full_image=True
    )
    _, full = oracle(nchw(b), nchw(a))
    # torchmetrics' own mean takes in windows over mirrored pixels, 5 along each border
    assert value == pytest.approx(full[..., 5:-5, 5:-5].mean().item(), abs=1e-4)


@pytest.mark.parametrize("shape", [(10, 64), (64, 10), (1, 1)])
def test_pictures_smaller_than_the_window_have_no_ssim(shape: tuple[int, int]):
    assert ssim(picture(*shape), picture(*shape, seed=1)) is None


@pytest.mark.parametrize("metric", [psnr, ssim])
@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (picture(16, 20), picture(20, 16), "20×16 and 16×20"),
        (picture(16, 16).astype(np.float32), picture(16, 16), "float32"),
        (picture(16, 16)[..., 0], picture(16, 16)[..., 0], r"\(16, 16\)"),
        (np.zeros((0, 4, 3), np.uint8), np.zeros((0, 4, 3), np.uint8), r"\(0, 4, 3\)"),
        (Image.new("RGBA", (16, 16)), Image.new("RGBA", (16, 16)), r"\(16, 16, 4\)"),
    ],
)
def test_what_is_no_pair_of_rgb_pictures_is_refused(metric, a, b, message: str):
    with pytest.raises(MetricError, match=message):
        metric(a, b)


# Cosine


def test_cosine_row_by_row():
    rng = np.random.default_rng(3)
    a, b = (rng.normal(size=(7, 512)) for _ in range(2))
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
    values = cosine(a.astype(np.float32), b.astype(np.float32))
    expected = torch.nn.functional.cosine_similarity(torch.from_numpy(a), torch.from_numpy(b)).numpy()
    np.testing.assert_allclose(values, expected, atol=1e-6)


def test_cosine_stays_within_its_range():
    rng = np.random.default_rng(4)
    a = rng.normal(size=(200, 64)).astype(np.float32)
    a /= np.linalg.norm(a, axis=1, keepdims=True)
    assert cosine(a, a).max() <= 1.0
    assert cosine(a, -a).min() >= -1.0
    np.testing.assert_allclose(cosine(a, a), 1.0, atol=1e-6)


def test_cosine_does_not_ask_for_unit_vectors():
    a, b = np.array([[3.0, 0.0], [0.0, 5.0], [0.0, 0.0]]), np.array([[2.0, 2.0], [0.0, -7.0], [1.0, 0.0]])
    assert cosine(a, b) == pytest.approx([math.sqrt(0.5), -1.0, 0.0], abs=1e-12)


@pytest.mark.parametrize(("a", "b"), [((3, 4), (3, 5)), ((3, 4), (2, 4)), ((4,), (4,))])
def test_cosine_refuses_other_shapes(a: tuple[int, ...], b: tuple[int, ...]):
    with pytest.raises(MetricError, match="one shape"):
        cosine(np.zeros(a, np.float32), np.zeros(b, np.float32))


@given(arrays(np.float32, (3, 5), elements=st.floats(-(2.0**100), 2.0**100, width=32)))
def test_rows_of_unit_length(features: np.ndarray):
    lengths = np.linalg.norm(unit_rows(features), axis=1)
    zero = ~features.any(axis=1)
    np.testing.assert_allclose(lengths, np.where(zero, 0.0, 1.0), atol=1e-12)


@pytest.mark.parametrize("features", [np.zeros(4), np.full((2, 2), np.nan), np.array([[np.inf, 1.0]])])
def test_what_has_no_length_is_refused(features: np.ndarray):
    with pytest.raises(MetricError, match="finite"):
        unit_rows(features)


# What is said of the metrics


@pytest.mark.parametrize(
    "pair", [*PAIRS[:6], (np.zeros((40, 40, 3), np.uint8), np.full((40, 40, 3), 255, np.uint8))]
)
def test_values_lie_in_the_ranges_stated(pair: tuple[np.ndarray, np.ndarray]):
    for name, compute in {"psnr": psnr, "ssim": ssim}.items():
        value = compute(*pair)
        assert value is not None
        assert METRICS[name].low <= value <= (METRICS[name].high or math.inf)


def test_directions_are_those_stated():
    a = picture(64, 64)
    near, far = disturbed(a, 5), disturbed(a, 60)
    for name, compute in {"psnr": psnr, "ssim": ssim}.items():
        better, worse = compute(a, near), compute(a, far)
        assert (better > worse) == (METRICS[name].better == "higher")


def test_every_metric_says_what_it_is_of():
    assert {metric.over for metric in METRICS.values()} == {"pair"}
    assert {metric.over for metric in SET_METRICS.values()} == {"set"}
    assert not METRICS.keys() & SET_METRICS.keys()
    titles = [metric.title for metric in (METRICS | SET_METRICS).values()]
    assert len(set(titles)) == len(titles)
    json.dumps([asdict(metric) for metric in METRICS.values()], allow_nan=False)


def test_importing_metrics_imports_no_heavy_package():
    code = (
        "import sys; import clip_feature_codec.evaluate.metrics; "
        "assert not {'torch', 'lpips', 'skimage', 'torchvision', 'torchmetrics'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
