"""PSNR and SSIM of two pictures as they are."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clip_feature_codec.errors import MetricError
from clip_feature_codec.evaluate.metrics.definitions import PSNR_CAP, SSIM_SHORTEST_SIDE

Picture = Image.Image | NDArray[np.uint8]
"""An RGB picture: Pillow's, or uint8 (H, W, 3)."""


def psnr(a: Picture, b: Picture) -> float | None:
    """Peak signal-to-noise ratio: 10 log10(255² / MSE) in dB, MSE the mean over all pixels and channels.

    None for identical pictures: their ratio is infinite, which JSON cannot hold; in means they count as
    `PSNR_CAP`.
    Equals scikit-image's ``peak_signal_noise_ratio`` and, picture by picture (``dim=(1, 2, 3)``),
    torchmetrics' ``PeakSignalNoiseRatio``, both with a data range of 255.

    Raises:
        MetricError: these are not two RGB pictures of one size.
    """
    first, second = _pair(a, b)
    error = float(np.mean((first.astype(np.float64) - second) ** 2))
    return None if error == 0.0 else 10.0 * math.log10(255.0**2 / error)


def pooled_psnr(psnrs: Sequence[float | None]) -> float:
    """PSNR of the squared error averaged over pictures: 10 log10(255² / mean MSE) in dB.

    Unlike the mean of PSNRs it needs no bound for single pictures; the worst of them decide it.

    Args:
        psnrs: of each picture, None for an identical one; at least one.

    Returns:
        At most `PSNR_CAP`, which is also that of pictures that are all identical.
    """
    errors = [0.0 if value is None else 255.0**2 / 10.0 ** (value / 10.0) for value in psnrs]
    mean = math.fsum(errors) / len(errors)
    return PSNR_CAP if mean == 0.0 else min(PSNR_CAP, 10.0 * math.log10(255.0**2 / mean))


def ssim(a: Picture, b: Picture) -> float | None:
    """Structural similarity (Wang et al. 2004, eq. 13), averaged over positions and channels (eq. 17).

    Gaussian window of 11 × 11 pixels, sigma 1.5, population covariance, K1 = 0.01, K2 = 0.03, L = 255, and
    only the positions at which the window lies within the picture: with these settings scikit-image's
    ``structural_similarity`` is computed. torchmetrics agrees once the 5 pixels along each border are cut
    off its ``return_full_image`` map; its plain mean includes windows over mirrored pixels.

    None when the shorter side is below `SSIM_SHORTEST_SIDE`.

    Raises:
        MetricError: these are not two RGB pictures of one size.
    """
    first, second = _pair(a, b)
    if min(first.shape[:2]) < SSIM_SHORTEST_SIDE:
        return None
    from skimage.metrics import structural_similarity

    return float(
        structural_similarity(
            first,
            second,
            data_range=255,
            channel_axis=2,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
    )


def _pair(a: Picture, b: Picture) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Two pictures as uint8 (H, W, 3) of one size."""
    first, second = np.asarray(a), np.asarray(b)
    for array in (first, second):
        if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or array.size == 0:
            raise MetricError(f"expected an RGB picture, uint8 (H, W, 3), found {array.dtype} {array.shape}")
    if first.shape != second.shape:
        raise MetricError(f"expected pictures of one size, found {_size(first)} and {_size(second)}")
    return first, second


def _size(array: NDArray[np.uint8]) -> str:
    return f"{array.shape[1]}×{array.shape[0]}"
