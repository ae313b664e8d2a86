"""Rows of CLIP vectors: checked, and brought to unit length without loss of a bit's order."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from clip_feature_codec.errors import ConfigError

ROWS_AT_ONCE = 4096
"""Rows that are worked on together, so that float64 copies of many vectors stay small."""


def unit_vectors(vectors: NDArray[np.float32], dim: int) -> NDArray[np.float32]:
    """Vectors of any positive length (N, D) as float32 unit vectors.

    Raises:
        ConfigError: the shape is not (N, ``dim``), or a vector is zero or not finite.
    """
    if vectors.ndim != 2 or vectors.shape[1] != dim:
        raise ConfigError(f"vectors: found shape {vectors.shape}, expected (N, {dim})")
    # Rows must be contiguous: numpy's order of summation, hence the last bit, follows the layout.
    rows = np.ascontiguousarray(vectors, dtype=np.float32)
    unit = np.empty_like(rows)
    for first in range(0, len(rows), ROWS_AT_ONCE):
        block = rows[first : first + ROWS_AT_ONCE]
        norms = lengths(block)
        bad = ~(np.isfinite(norms) & (norms > 0))
        if bad.any():
            row = int(bad.argmax())
            found = f"length {norms[row]}"
            raise ConfigError(f"vector {first + row}: found {found}, expected a finite, positive one")
        unit[first : first + ROWS_AT_ONCE] = block / norms[:, None]
    return unit


def lengths(rows: NDArray[np.float32]) -> NDArray[np.float64]:
    """Euclidean lengths (N,) of float32 rows (N, D), in float64, where no square overflows or vanishes."""
    found: NDArray[np.float64] = np.sqrt(np.square(rows, dtype=np.float64).sum(axis=1))
    return found


def cosines(given: NDArray[np.float32], decoded: NDArray[np.float32]) -> NDArray[np.float64]:
    """Cosines (N,) of vectors (N, D) with what they decode to, (N, D), in float64."""
    products = (given.astype(np.float64) * decoded).sum(axis=1)
    found: NDArray[np.float64] = products / (lengths(given) * lengths(decoded))
    return found


def out_of_reach(target: float, reached: NDArray[np.float64]) -> ConfigError:
    """The refusal of a target cosine: it names one that all vectors reach, with cosines (N,), at best."""
    from decimal import ROUND_FLOOR, Decimal

    # Rounded down, exactly, so that what is advised here is not refused in its turn.
    advised = Decimal(float(reached.min())).quantize(Decimal("1e-9"), ROUND_FLOOR)
    expected = f"at most {advised}, which every vector reaches"
    return ConfigError(f"target cosine: found {target}, expected {expected}")
