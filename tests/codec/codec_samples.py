"""Vectors as CLIP's are, and how near decoded ones come."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from clip_feature_codec.codec.feature_codec import FeatureCodec
from clip_feature_codec.codec.layers import Layers
from clip_feature_codec.codec.rate import DEFAULT_RATE, Rate

COUNT = 12
ASPECTS = [None, 1.5, 0.7, 1.0] * (COUNT // 4)


def correlated(count: int, dim: int, seed: int) -> np.ndarray:
    """Vectors as CLIP's are: a mean, and channels that go together."""
    mixing = np.random.default_rng(0).normal(0, 1, (dim, dim)) * 0.97 ** np.arange(dim)[:, None]
    rows = np.random.default_rng(seed).normal(0, 1, (count, dim)) @ mixing
    return (rows + 3 * np.sin(np.arange(dim))).astype(np.float32)


def coded(
    codec: FeatureCodec,
    vectors: np.ndarray | None,
    aspects: Sequence[float | None] | None = None,
    layouts: np.ndarray[Any, Any] | None = None,
    rate: Rate = DEFAULT_RATE,
) -> list[bytes]:
    return codec.encode(Layers(vectors, layouts, aspects), rate)


def cosines(codec: FeatureCodec, vectors: np.ndarray, blobs: list[bytes]) -> np.ndarray:
    unit = vectors / np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    return np.einsum("nd,nd->n", unit, codec.vectors(codec.parse_all(blobs)), dtype=np.float64)
