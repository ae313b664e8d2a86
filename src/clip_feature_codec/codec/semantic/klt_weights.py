"""Weighing the errors of coded vectors by what they are searched with.

A query finds vectors by its product with them, so an error counts by its product with the query. Over many
queries, the mean square of that is a quadratic form of the error, with the matrix of their second moments.
Coding vectors times that matrix's square root makes the coder's plain squared error this one; decoding goes
back through its inverse, which is part of the tables' mean and basis.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clip_feature_codec.errors import ConfigError

_SHARE = 3.0  # weight of what queries differ by, beside 1 for all directions alike


@dataclass(frozen=True, eq=False)
class Weighting:
    """A symmetric matrix that vectors are multiplied by, and its inverse, both float64 (D, D).

    No number of the inverse is above 1, as tables need.
    """

    root: NDArray[np.float64]
    inverse: NDArray[np.float64]

    @classmethod
    def of(cls, queries: NDArray[np.float32]) -> Weighting:
        """The square root of I + 3 D C, C being the covariance of queries (M, D) of unit length.

        Raises:
            ConfigError: there are none.
        """
        if queries.ndim != 2 or not len(queries):
            raise ConfigError(f"queries: found shape {queries.shape}, expected (M, D), M >= 1")
        dim = queries.shape[1]
        centred = queries.astype(np.float64) - queries.mean(axis=0, dtype=np.float64)
        covariance = centred.T @ centred / len(queries)
        weights, directions = np.linalg.eigh(np.eye(dim) + _SHARE * dim * covariance)
        roots = np.sqrt(weights)
        return cls((directions * roots) @ directions.T, (directions / roots) @ directions.T)

    def weighted(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Vectors (N, D), multiplied, and of unit length again."""
        found = vectors.astype(np.float64) @ self.root
        unit: NDArray[np.float32] = (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)
        return unit

    def undone(self, vectors: NDArray[np.float64]) -> NDArray[np.float64]:
        """A weighted vector (D,), or some (N, D), as it was, but for its length."""
        found: NDArray[np.float64] = vectors @ self.inverse
        return found
