"""Vectors of pictures beside each other: cosines, and an original's rank among all originals."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from clip_feature_codec.errors import MetricError

_COSINES_AT_ONCE = 2**22

_ROUNDING = 1e-9
"""Cosines that differ by less are equal: two copies of one picture must not be told apart by rounding."""


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


def retrieval_ranks(queries: NDArray[np.floating], gallery: NDArray[np.floating]) -> NDArray[np.int64]:
    """Give each query's place: 1 when its own original has a greater cosine than all other originals.

    Originals that are as near as its own come before it: a network that finds all pictures equal finds none.

    Args:
        queries: features of decoded pictures (N, D), of any length.
        gallery: features of all originals (M, D): first those of the queries in their order, then any others.

    Returns:
        int64 (N,) in 1..M.

    Raises:
        MetricError: there are fewer originals than queries, shapes differ, or a value is not finite.
    """
    sought, originals = unit_rows(queries), unit_rows(gallery)
    if sought.shape[1] != originals.shape[1] or len(originals) < len(sought):
        raise MetricError(f"ranks need an original for each query, found {originals.shape}, {sought.shape}")
    ranks = np.empty(len(sought), np.int64)
    step = max(1, _COSINES_AT_ONCE // max(1, len(originals)))
    for start in range(0, len(sought), step):
        block = sought[start : start + step]
        cosines = block @ originals.T
        rows = np.arange(len(block))
        own = cosines[rows, start + rows]
        ranks[start : start + step] = (cosines >= own[:, None] - _ROUNDING).sum(axis=1)
    return ranks
