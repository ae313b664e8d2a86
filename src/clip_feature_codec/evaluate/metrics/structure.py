"""SSIM and MS-SSIM of whole batches, from one pass over the pixels."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from clip_feature_codec.evaluate.metrics.definitions import MS_SSIM_SHORTEST_SIDE, SSIM_SHORTEST_SIDE

SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponent of each scale, from the finest (Wang, Simoncelli and Bovik 2003, section 3.2)."""

_WINDOW, _SIGMA = SSIM_SHORTEST_SIDE, 1.5
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
_MIDDLE = 127.5


def structural_similarities(
    a: torch.Tensor, b: torch.Tensor
) -> tuple[list[float | None], list[float | None]]:
    """Compute SSIM and MS-SSIM of each picture of ``a`` with the same one of ``b``.

    SSIM is that of `pixels.ssim`. MS-SSIM is eq. 7 of Wang, Simoncelli and Bovik 2003 as the package
    pytorch-msssim has it: contrast and structure (cs) at five scales, luminance at the coarsest, the mean of
    each over the positions at which the window lies within the picture; cs below 0 counts as 0, and the
    product is averaged over channels. Scales are halved by 2 × 2 means; odd sides are first padded by a line
    of zeros at both ends.

    Args:
        a: uint8 (N, 3, H, W), on any device. Computed there in float64, or float32 on one without (MPS).
        b: the same shape and device.

    Returns:
        N values of SSIM in [-1, 1], None when the shorter side is below `SSIM_SHORTEST_SIDE`; N values of
        MS-SSIM in [0, 1], None when it is below `MS_SSIM_SHORTEST_SIDE`.
    """
    shortest, undefined = min(a.shape[2:]), [None] * len(a)
    if shortest < SSIM_SHORTEST_SIDE:
        return [*undefined], [*undefined]
    dtype = torch.float32 if a.device.type == "mps" else torch.float64
    x, y = a.to(dtype), b.to(dtype)
    scales = [_compare(x, y)]
    ssim = scales[0][0].mean(1).tolist()
    if shortest < MS_SSIM_SHORTEST_SIDE:
        return ssim, [*undefined]
    for _ in SCALE_WEIGHTS[1:]:
        x, y = _halve(x), _halve(y)
        scales.append(_compare(x, y))
    factors = [cs for _, cs in scales[:-1]] + [scales[-1][0]]
    powers = [factor.relu() ** weight for factor, weight in zip(factors, SCALE_WEIGHTS, strict=True)]
    return ssim, torch.stack(powers).prod(0).mean(1).tolist()


def _compare(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """SSIM (Wang et al. 2004, eq. 13) and its factor cs, averaged over positions: each (N, C).

    Variances do not change when grey levels are counted from the middle, and lose fewer digits.
    """
    x, y = x - _MIDDLE, y - _MIDDLE
    rows, columns = (_gaussian(side, x) for side in x.shape[2:])
    mean_x, mean_y, xx, yy, xy = rows @ torch.stack([x, y, x * x, y * y, x * y]) @ columns.T
    variances = xx - mean_x**2 + yy - mean_y**2
    covariance = xy - mean_x * mean_y
    cs = (2 * covariance + _C2) / (variances + _C2)
    mean_x, mean_y = mean_x + _MIDDLE, mean_y + _MIDDLE
    luminance = (2 * mean_x * mean_y + _C1) / (mean_x**2 + mean_y**2 + _C1)
    return (luminance * cs).mean((2, 3)), cs.mean((2, 3))


def _gaussian(side: int, like: torch.Tensor) -> torch.Tensor:
    """A matrix (side - 10, side) that weighs a line by the window at each place: quicker than convolution."""
    offsets = torch.arange(_WINDOW, dtype=like.dtype, device=like.device) - _WINDOW // 2
    window = torch.exp(-(offsets**2) / (2 * _SIGMA**2))
    window = window / window.sum()
    places = side - _WINDOW + 1
    start = torch.arange(places, device=like.device)[:, None]
    taps = start + torch.arange(_WINDOW, device=like.device)
    matrix = torch.zeros(places, side, dtype=like.dtype, device=like.device)
    return matrix.scatter_(1, taps, window.expand(places, -1))


def _halve(x: torch.Tensor) -> torch.Tensor:
    """(N, C, H, W) at half the size, odd sides rounded up."""
    return F.avg_pool2d(x, 2, padding=[side % 2 for side in x.shape[2:]])
