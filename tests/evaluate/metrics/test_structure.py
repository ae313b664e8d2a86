"""SSIM and MS-SSIM of batches agree with their formulas, with scikit-image and with pytorch-msssim."""

from __future__ import annotations

import numpy as np
import pytest
import pytorch_msssim
import torch
from pictures import disturbed, nchw, picture

from clip_feature_codec.evaluate.metrics.pixels import ssim
from clip_feature_codec.evaluate.metrics.structure import structural_similarities


def wang_ms_ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Wang et al. 2003, eq. 7, window by window in float64."""
    offsets = np.arange(-5, 6)
    line = np.exp(-(offsets**2) / (2 * 1.5**2))
    line /= line.sum()
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2

    def windowed(p: np.ndarray) -> np.ndarray:
        rows = np.lib.stride_tricks.sliding_window_view(p, 11, axis=0) @ line
        return np.lib.stride_tricks.sliding_window_view(rows, 11, axis=1) @ line

    values = []
    for channel in range(3):
        x, y = (p[..., channel].astype(np.float64) for p in (a, b))
        value = 1.0
        for scale, weight in enumerate([0.0448, 0.2856, 0.3001, 0.2363, 0.1333]):
            mean_x, mean_y = windowed(x), windowed(y)
            cov = windowed(x * y) - mean_x * mean_y
            spread = windowed(x * x) - mean_x**2 + windowed(y * y) - mean_y**2
            quality = (2 * cov + c2) / (spread + c2)
            if scale == 4:
                quality = quality * (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
            value *= max(0.0, quality.mean()) ** weight
            x, y = (
                (p[::2, ::2] + p[1::2, ::2] + p[::2, 1::2] + p[1::2, 1::2]) / 4
                for p in (np.pad(p, [(side % 2, side % 2) for side in p.shape]) for p in (x, y))
                for p in (p[: p.shape[0] // 2 * 2, : p.shape[1] // 2 * 2],)
            )
        values.append(value)
    return float(np.mean(values))


@pytest.mark.parametrize("shape", [(176, 192), (161, 203), (163, 290)])
@pytest.mark.parametrize("strength", [3, 30, 100])
def test_ms_ssim_agrees_with_the_paper_and_pytorch_msssim(shape: tuple[int, int], strength: int):
    a = picture(*shape)
    b = disturbed(a, strength)
    _, (value,) = structural_similarities(nchw(a, torch.uint8), nchw(b, torch.uint8))
    assert value == pytest.approx(wang_ms_ssim(a, b), abs=1e-9)
    expected = pytorch_msssim.ms_ssim(nchw(a), nchw(b), data_range=255, size_average=False)
    assert value == pytest.approx(expected.item(), abs=1e-6)
    assert 0.1 < value < 0.9999


def test_structure_that_is_turned_round_counts_as_none():
    a = np.random.default_rng(0).integers(0, 256, (176, 176, 3), dtype=np.uint8)
    (single,), (multiple,) = structural_similarities(nchw(a, torch.uint8), nchw(255 - a, torch.uint8))
    assert single is not None
    assert single < -0.5
    assert multiple == 0.0


@pytest.mark.parametrize(("shape", "defined"), [((161, 161), True), ((160, 400), False)])
def test_ms_ssim_needs_161_pixels(shape: tuple[int, int], defined: bool):
    a = nchw(picture(*shape), torch.uint8)
    (single,), (multiple,) = structural_similarities(a, a)
    assert single == pytest.approx(1.0, abs=1e-12)
    assert (multiple is not None) == defined


@pytest.mark.parametrize("levels", [(254, 255), (250, 251), (0, 1), (0, 255)])
def test_plain_pictures_keep_their_digits(levels: tuple[int, int]):
    a, b = (np.full((32, 32, 3), level, np.uint8) for level in levels)
    (value,), _ = structural_similarities(nchw(a, torch.uint8), nchw(b, torch.uint8))
    assert value == pytest.approx(ssim(a, b), abs=1e-9)
