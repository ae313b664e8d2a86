"""Distances between two sets of pictures, from their features: FID, KID and CMMD."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from numpy.typing import NDArray

from clip_feature_codec.errors import MetricError
from clip_feature_codec.evaluate.metrics.definitions import SET_METRICS
from clip_feature_codec.evaluate.metrics.vectors import unit_rows

Features = NDArray[np.floating]

KID_SUBSETS = 100
KID_LARGEST_SUBSET = 1000

_FEWEST_PICTURES = 100
_FEWEST_FOR_FID = 500
_FID_PICTURES_PER_FEATURE = 5

_CMMD_SIGMA = 10.0
_CMMD_SCALE = 1000.0
_PRODUCTS_AT_ONCE = 2**22


def set_distance(metric: str, real: Features, other: Features) -> tuple[float, float | None]:
    """Compute the metric of `definitions.SET_METRICS` that ``metric`` names, with or without ``@NETWORK``.

    Args:
        metric: its name.
        real: features of the originals (N, D).
        other: features of the decoded pictures (M, D).

    Returns:
        The distance, and its standard deviation over subsets where the metric has one.

    Raises:
        MetricError: there is no such metric, or the features cannot be compared.
    """
    kind = metric.partition("@")[0]
    if kind == "kid":
        return kid(real, other)
    if kind == "fid":
        return fid(real, other), None
    if kind == "cmmd":
        return cmmd(real, other), None
    raise MetricError(f"unknown metric over a set {metric!r}; there are {', '.join(SET_METRICS)}")


def too_few(metric: str, count: int, dim: int) -> str | None:
    """Say why a set of ``count`` pictures is too small for ``metric`` to mean anything; None if it is not.

    FID fits two Gaussians: with fewer pictures than a few for each of the ``dim`` features their covariances
    are singular, and the bias exceeds what is measured.
    """
    kind = metric.partition("@")[0]
    fewest = max(_FEWEST_FOR_FID, _FID_PICTURES_PER_FEATURE * dim) if kind == "fid" else _FEWEST_PICTURES
    if count >= fewest:
        return None
    return f"{SET_METRICS[kind].title} needs at least {fewest} pictures to mean anything, found {count}"


def fid(real: Features, other: Features) -> float:
    """Fréchet distance of two Gaussians (Heusel et al. 2017, eq. 6), with covariances divided by N - 1.

    |m - m'|² + tr(C + C' - 2 (C C')^½), by torchmetrics in float64. It is FID in form only: its values depend
    on the network that the features come from, and compare with none of Inception's.

    Args:
        real: features of the originals (N, D), N at least 2.
        other: features of the decoded pictures (M, D), M at least 2.

    Raises:
        MetricError: the features cannot be compared.
    """
    from torchmetrics.image.fid import FrechetInceptionDistance

    first, second = _tensors(real, other)
    metric = FrechetInceptionDistance(feature=_AsTheyAre(first.shape[1]))
    metric.update(first, real=True)
    metric.update(second, real=False)
    return max(0.0, float(metric.compute()))  # rounding may lead just below


def kid(real: Features, other: Features) -> tuple[float, float]:
    """Unbiased squared MMD with the kernel (x·y / D + 1)³ (Bińkowski et al. 2018).

    By torchmetrics in float64: the mean and standard deviation over `KID_SUBSETS` pairs of random subsets,
    the same ones each time. A subset is half of the smaller set, `KID_LARGEST_SUBSET` pictures at most; with
    all of a set in each subset there would be no deviation. The mean can fall below 0: it is unbiased.

    Args:
        real: features of the originals (N, D), N at least 4.
        other: features of the decoded pictures (M, D), M at least 4.

    Raises:
        MetricError: the features cannot be compared.
    """
    from torchmetrics.image.kid import KernelInceptionDistance

    first, second = _tensors(real, other)
    size = min(KID_LARGEST_SUBSET, len(first) // 2, len(second) // 2)
    if size < 2:
        raise MetricError(f"KID needs at least 4 pictures on each side, found {len(first)}, {len(second)}")
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")  # that features are kept: they are here already
        metric = KernelInceptionDistance(
            feature=_AsTheyAre(first.shape[1]), subsets=KID_SUBSETS, subset_size=size
        )
        metric.update(first, real=True)
        metric.update(second, real=False)
        torch.default_generator.manual_seed(0)
        mean, deviation = metric.compute()
    return float(mean), float(deviation)


def cmmd(real: Features, other: Features) -> float:
    """Squared MMD of unit vectors, times 1000 (Jayasumana et al. 2024).

    Kernel exp(-|x - y|² / (2 · 10²)). As in the authors' program it is the biased estimate, the mean over all
    pairs with each vector beside itself (Gretton et al. 2012, eq. 5), which is never below 0 and somewhat too
    large for small sets. Computed in float64, block by block.

    Args:
        real: CLIP vectors of the originals (N, D), of any length but 0.
        other: CLIP vectors of the decoded pictures (M, D).

    Raises:
        MetricError: the features cannot be compared.
    """
    _check(real, other)
    x, y = unit_rows(real), unit_rows(other)
    return _CMMD_SCALE * max(0.0, _mean_kernel(x, x) + _mean_kernel(y, y) - 2 * _mean_kernel(x, y))


def _mean_kernel(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Mean of exp(-|x - y|² / (2 sigma²)) over all pairs of rows, of (N, D) and (M, D)."""
    norms_x, norms_y = (x**2).sum(1), (y**2).sum(1)
    step = max(1, _PRODUCTS_AT_ONCE // len(y))
    total = 0.0
    for start in range(0, len(x), step):
        rows = slice(start, start + step)
        distances = norms_x[rows, None] + norms_y - 2 * x[rows] @ y.T
        total += float(np.exp(distances / (-2 * _CMMD_SIGMA**2)).sum())
    return total / (len(x) * len(y))


class _AsTheyAre(torch.nn.Module):
    """In place of the network of torchmetrics' metrics: they are given features, not pictures."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features


def _tensors(real: Features, other: Features) -> tuple[torch.Tensor, torch.Tensor]:
    _check(real, other)
    return torch.from_numpy(real.astype(np.float64)), torch.from_numpy(other.astype(np.float64))


def _check(real: Features, other: Features) -> None:
    for features in (real, other):
        if features.ndim != 2 or len(features) < 2 or not np.isfinite(features).all():
            raise MetricError(
                f"a set's features must be finite, (N, D) with N of 2 or more, found {features.shape}"
            )
    if real.shape[1] != other.shape[1]:
        raise MetricError(f"two sets' features differ: {real.shape[1]} and {other.shape[1]} of each picture")
