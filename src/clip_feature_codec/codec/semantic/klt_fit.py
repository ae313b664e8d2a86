"""Fitting the Karhunen-Loeve transform: robust scatter, cross-validated spreads, bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from clip_feature_codec.errors import ConfigError

MAX_DIM = 8192
_ROWS = 4096  # vectors that are summed up at once
_HELD_BYTES = 1 << 28  # float64 bytes of vectors that are held, to be weighed by one another
_FOLDS = 10
_FOLD_BYTES = 1 << 30  # fewer folds where their sums would take more
_RIDGE = 0.3  # of the mean variance, in the distance that weighs a vector
_LEAST_DISTANCE = 0.1  # squared, of the median; nearer vectors count no more
_REWEIGHTINGS = 3
_PRIOR_VECTORS = 4.0
_LEAST_VARIANCE = 1e-4  # of a unit vector's mean square per channel


def fit(
    vectors: NDArray[np.float32] | Iterable[NDArray[np.float32]],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Mean, directions and spreads of unit vectors.

    CLIP vectors differ in how far they stray from the mean, by a common factor, which the coder follows. So
    the scatter matrix weighs each vector by the inverse of its squared Mahalanobis distance (Tyler, "A
    distribution-free M-estimator of multivariate scatter", 1987), regularised and iterated a few times, which
    is less noisy than the covariance. Its eigenvalues promise too much of the wide directions and too little
    of the narrow ones; so the spreads are those of held-out vectors along the directions that the other folds
    give (Bartz, "Cross-validation based nonlinear shrinkage", 2016, arXiv:1611.00798), made monotone.

    Sums are taken in blocks of fixed size, so the result does not depend on how the vectors arrive.

    Args:
        vectors: float (N, D), N >= 1, D from 1 to 8192, unit length, finite; or blocks of such, read once.

    Returns:
        The mean (D,), the directions (D, D) in rows, widest first, and the spreads (D,), positive.

    Raises:
        ConfigError: a shape is not (N, D) with the same D, or there is no vector.
    """
    blocks = _regrouped([vectors] if isinstance(vectors, np.ndarray) else vectors)
    held = [next(blocks)]
    dim = held[0].shape[1]
    for block in blocks:
        held.append(block)
        if 8 * dim * _ROWS * len(held) >= _HELD_BYTES:
            break
    weigh = _weights_of(held)
    sums = _Sums(dim)
    for block in chain(held, blocks):
        sums.add(block, weigh(block))
    return sums.solve()


def _regrouped(blocks: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.float64]]:
    """The same vectors in float64 blocks of `_ROWS`, checked."""
    dim, waiting, ready, count = 0, list[NDArray[np.float64]](), 0, 0
    for block in blocks:
        if block.ndim != 2 or not 1 <= block.shape[1] <= MAX_DIM or (dim and block.shape[1] != dim):
            expected = f"(N, {dim})" if dim else f"(N, D), D from 1 to {MAX_DIM}"
            raise ConfigError(f"klt, vectors: found shape {block.shape}, expected {expected}")
        dim = block.shape[1]
        for first in range(0, len(block), _ROWS):
            waiting.append(block[first : first + _ROWS].astype(np.float64))
            ready += len(waiting[-1])
            if ready >= _ROWS:
                joined = np.concatenate(waiting)
                yield joined[:_ROWS]
                waiting, ready = [joined[_ROWS:]], ready - _ROWS
            count += min(_ROWS, len(block) - first)
    if ready:
        yield np.concatenate(waiting)
    if count == 0:
        raise ConfigError("klt, vectors: found none, expected 1 or more")


def _weights_of(held: list[NDArray[np.float64]]) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    """How much each vector counts: 1 / d^2, d being its regularised Mahalanobis distance, 1 at the median."""
    weigh = _equally
    for _ in range(_REWEIGHTINGS):
        sums = _Sums(held[0].shape[1], folds=1)
        for block in held:
            sums.add(block, weigh(block))
        mean, scatter = _moments(*sums.total())
        ridge = _RIDGE * np.trace(scatter) / len(scatter)
        if ridge <= 0:
            return _equally  # all vectors are one and the same
        variances, directions = np.linalg.eigh(scatter)
        whiten = directions / np.sqrt(np.maximum(variances, 0) + ridge)
        distances = partial(_squared_distances, mean=mean, whiten=whiten)
        median = float(np.median(np.concatenate([distances(block) for block in held])))
        weigh = partial(_inverse, distances=distances, median=max(median, np.finfo(float).tiny))
    return weigh


def _equally(block: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.ones(len(block))


def _squared_distances(
    block: NDArray[np.float64], mean: NDArray[np.float64], whiten: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Squared Mahalanobis distances (N,) of vectors (N, D) from the mean."""
    squared: NDArray[np.float64] = np.square((block - mean) @ whiten).sum(axis=1)
    return squared


def _inverse(
    block: NDArray[np.float64],
    distances: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    median: float,
) -> NDArray[np.float64]:
    return 1 / np.maximum(distances(block) / median, _LEAST_DISTANCE)


def _moments(
    weight: float, total: NDArray[np.float64], squares: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean (D,) and covariance (D, D) from sums of w, w x and w x x'."""
    mean = total / weight
    return mean, squares / weight - np.outer(mean, mean)


class _Sums:
    """Sums of w, w x and w x x' over vectors, in folds: vector i is in fold i mod K."""

    def __init__(self, dim: int, folds: int = 0) -> None:
        folds = folds or max(2, min(_FOLDS, _FOLD_BYTES // (8 * dim * dim)))
        self.seen = 0
        self.weights = np.zeros(folds)
        self.totals = np.zeros((folds, dim))
        self.squares = np.zeros((folds, dim, dim))

    def add(self, block: NDArray[np.float64], weights: NDArray[np.float64]) -> None:
        """Count vectors (N, D) with weights (N,)."""
        folds = len(self.weights)
        for fold in range(folds):
            first = (fold - self.seen) % folds
            rows, counts = block[first::folds], weights[first::folds]
            weighted = rows * counts[:, None]
            self.weights[fold] += counts.sum()
            self.totals[fold] += weighted.sum(axis=0)
            self.squares[fold] += weighted.T @ rows
        self.seen += len(block)

    def total(self) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
        """The sums over all folds."""
        return float(self.weights.sum()), self.totals.sum(axis=0), self.squares.sum(axis=0)

    def solve(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Mean, directions and spreads, as `fit` gives them."""
        mean, covariance = _moments(*self.total())
        dim = len(mean)
        directions = np.linalg.eigh(covariance)[1].T[::-1]
        # A prior, for codecs begun with a few vectors; its weight fades with the square of their number.
        trust = self.seen**2 / (self.seen**2 + _PRIOR_VECTORS**2) if self.seen > 1 else 0.0
        prior = 1 / (2 * dim)
        variances = np.full(dim, prior)
        if trust > 0:
            variances = trust * decreasing(self._held_out_variances()) + (1 - trust) * prior
        return mean, directions, np.sqrt(np.maximum(variances, _LEAST_VARIANCE / dim))

    def _held_out_variances(self) -> NDArray[np.float64]:
        """The mean square of each coefficient (D,) of vectors that its directions were not fitted on."""
        weight, total, squares = self.total()
        out = np.zeros(len(total))
        for held, held_total, held_squares in zip(self.weights, self.totals, self.squares, strict=True):
            if held == 0:
                continue
            mean, covariance = _moments(weight - held, total - held_total, squares - held_squares)
            directions = np.linalg.eigh(covariance)[1][:, ::-1]
            crossed = np.outer(held_total, mean)
            about = held_squares - crossed - crossed.T + held * np.outer(mean, mean)
            out += ((about @ directions) * directions).sum(axis=0)
        variances: NDArray[np.float64] = np.maximum(out, 0) / weight
        return variances


def decreasing(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The closest non-increasing sequence in least squares: pools adjacent violators (Ayer et al., 1955)."""
    means: list[float] = []
    sizes: list[int] = []
    for value in values.tolist():
        mean, size = value, 1
        while means and means[-1] < mean:
            before = sizes.pop()
            mean = (means.pop() * before + mean * size) / (before + size)
            size += before
        means.append(mean)
        sizes.append(size)
    return np.repeat(means, sizes)
