"""Whether a decoded picture still leads to its original among all originals."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from clip_feature_codec.errors import MetricError
from clip_feature_codec.evaluate.metrics import unit_rows

_COSINES_AT_ONCE = 2**22

_ROUNDING = 1e-9
"""Cosines that differ by less are equal: two copies of one picture must not be told apart by rounding."""


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
