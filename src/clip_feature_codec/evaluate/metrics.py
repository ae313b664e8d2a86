"""What each metric means, and those that take two pictures or two sets of vectors as they are."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clip_feature_codec.errors import MetricError

Picture = Image.Image | NDArray[np.uint8]
"""An RGB picture: Pillow's, or uint8 (H, W, 3)."""

SSIM_SHORTEST_SIDE = 11
"""Pixels of SSIM's window: 3.5 standard deviations of 1.5 pixels to each side, and the middle one."""

MS_SSIM_SHORTEST_SIDE = 161
"""The fewest pixels that, halved four times, still hold SSIM's window."""

LPIPS_SHORTEST_SIDE = 31
"""The fewest pixels from which AlexNet's second pooling still makes one."""


@dataclass(frozen=True)
class Metric:
    """What a metric's numbers mean.

    Attributes:
        title: as written in reports, with the unit.
        low: the least value there can be; an unbiased estimate (KID's) may fall a little below.
        high: the greatest; None when there is no bound.
        better: whether higher or lower values are better.
        digits: after the decimal point, in tables.
        undefined: when there is no value (None) although the metric works; empty when there always is one.
        network: the network that computes it; empty when none does.
        weights: file and SHA-256 (its beginning) of that network's weights.
        over: what one value speaks of: a ``pair`` of pictures, or a ``set`` of pictures beside another.
    """

    title: str
    low: float
    high: float | None
    better: Literal["higher", "lower"]
    digits: int
    undefined: str = ""
    network: str = ""
    weights: str = ""
    over: Literal["pair", "set"] = "pair"


def _below(pixels: int) -> str:
    return f"a side is below {pixels} pixels"


METRICS: dict[str, Metric] = {
    "psnr": Metric("PSNR (dB)", 0.0, None, "higher", 2, "the pictures are identical"),
    "ssim": Metric("SSIM", -1.0, 1.0, "higher", 4, _below(SSIM_SHORTEST_SIDE)),
    "ms_ssim": Metric("MS-SSIM", 0.0, 1.0, "higher", 4, _below(MS_SSIM_SHORTEST_SIDE)),
    "lpips": Metric("LPIPS", 0.0, None, "lower", 4, _below(LPIPS_SHORTEST_SIDE)),
    "dists": Metric("DISTS", 0.0, 2.0, "lower", 4),
    "clip_similarity": Metric("CLIP similarity", -1.0, 1.0, "higher", 4),
    "clip_rank": Metric("CLIP rank", 1.0, None, "lower", 2),
    "judge_similarity": Metric("Judge similarity", -1.0, 1.0, "higher", 4),
    "judge_rank": Metric("Judge rank", 1.0, None, "lower", 2),
}
"""Every metric of a pair, by its name in results. A rank is the place of a picture's own original among all
originals, the nearest first: see `retrieval.retrieval_ranks`."""

SET_METRICS: dict[str, Metric] = {
    "fid": Metric("FID", 0.0, None, "lower", 2, over="set"),
    "kid": Metric("KID", 0.0, None, "lower", 4, over="set"),
    "cmmd": Metric("CMMD", 0.0, 39.603, "lower", 3, over="set"),  # 2000 (1 - exp(-2² / 200)), rounded up
}
"""Every metric over a set, by its name in results: see `distributions`."""


def psnr(a: Picture, b: Picture) -> float | None:
    """Peak signal-to-noise ratio: 10 log10(255² / MSE) in dB, MSE the mean over all pixels and channels.

    None for identical pictures: their ratio is infinite, which JSON cannot hold and no mean survives.
    Equals scikit-image's ``peak_signal_noise_ratio`` and, picture by picture (``dim=(1, 2, 3)``),
    torchmetrics' ``PeakSignalNoiseRatio``, both with a data range of 255.

    Raises:
        MetricError: these are not two RGB pictures of one size.
    """
    first, second = _pair(a, b)
    error = float(np.mean((first.astype(np.float64) - second) ** 2))
    return None if error == 0.0 else 10.0 * math.log10(255.0**2 / error)


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


def unit_rows(features: NDArray[np.floating]) -> NDArray[np.float64]:
    """Scale each row of ``features`` (N, D) to length 1; rows of zeros stay as they are.

    Raises:
        MetricError: the shape is not (N, D), or a value is not finite.
    """
    if features.ndim != 2 or not np.isfinite(features).all():
        raise MetricError(f"features must be finite numbers of shape (N, D), found {features.shape}")
    wide = features.astype(np.float64)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    scaled: NDArray[np.float64] = wide / np.where(lengths > 0.0, lengths, 1.0)
    return scaled


def cosine(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.float64]:
    """Cosine of each row of ``a`` with the same row of ``b``: the similarity of CLIP or of the judge.

    Args:
        a: features (N, D) of any length; the cosine with a row of zeros is 0.
        b: as many.

    Returns:
        float64 (N,) in [-1, 1].

    Raises:
        MetricError: the shapes differ, or are not (N, D), or a value is not finite.
    """
    if a.ndim != 2 or a.shape != b.shape:
        raise MetricError(f"cosine needs two arrays of one shape (N, D), found {a.shape} and {b.shape}")
    products = np.einsum("nd,nd->n", unit_rows(a), unit_rows(b))
    clipped: NDArray[np.float64] = np.clip(products, -1.0, 1.0)  # rounding may lead just outside
    return clipped


def _pair(a: Picture, b: Picture) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    first, second = np.asarray(a), np.asarray(b)
    for array in (first, second):
        if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or array.size == 0:
            raise MetricError(f"expected an RGB picture, uint8 (H, W, 3), found {array.dtype} {array.shape}")
    if first.shape != second.shape:
        raise MetricError(f"expected pictures of one size, found {_size(first)} and {_size(second)}")
    return first, second


def _size(array: NDArray[np.uint8]) -> str:
    return f"{array.shape[1]}×{array.shape[0]}"
