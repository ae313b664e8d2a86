"""All pairs of an index's vectors whose cosine is at or above a threshold.

Since |x - y|^2 = 2 - 2 cos, they are those within a distance. Vectors become points of whole numbers along
their leading principal axes, with the length of what the other axes have as one axis more: by the triangle
inequality, no two points are further apart than their vectors. `codec.semantic.near_pairs` finds the points
within reach. Their vectors are compared in all dimensions by the index's fine codes, and by the decoded
streams where those cannot decide.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TypeAlias

import numpy as np
from numpy.typing import NDArray

from clip_feature_codec.codec.semantic.near_pairs import (
    AXES,
    LEADING,
    LONGEST,
    TILE,
    NearPairs,
    Stretch,
    boxed,
)
from clip_feature_codec.files import named
from clip_feature_codec.parallel import in_order
from clip_feature_codec.progress import Progress
from clip_feature_codec.store.search.nearest import SearchIndex

_SAMPLE = 4096
_CHANNELS_TOGETHER = 1 << 22  # of vectors that are compared in all dimensions
_FLOAT32 = 2.0**-22  # times D: above what float32 takes of the places of two points
_TOLERANCE = 1e-12  # of float64 products: a vector is its own duplicate at a threshold of 1, too

Pairs: TypeAlias = tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]


def close_pairs(
    index: SearchIndex, rows: NDArray[np.intp], threshold: float, progress: Progress
) -> Iterator[Pairs]:
    """All pairs at or above a threshold, each once, some at a time.

    Memory is about a hundred bytes a vector, whatever the number of pairs. Points lie in a temporary file of
    384 bytes a vector, of twice as many while they are put in order.

    Args:
        index: what has the vectors.
        rows: which of them, (N,).
        threshold: a cosine from 0 to 1.
        progress: told of the vectors that have been read, and then of those that have been compared.

    Yields:
        Places in ``rows``, (n,) and (n,), and the cosines, (n,): in float64, of the decoded vectors where
        they are near the threshold, and less than `SearchIndex.fine_error` twice from that elsewhere.

    Raises:
        OSError: there is no room for the file; ``filename`` is the folder that it would lie in.
    """
    if not len(rows):
        return
    axes = _Axes(index, rows)
    with tempfile.TemporaryFile() as file:
        with named(Path(tempfile.gettempdir())):
            order = _write_points(index, rows, axes, file, progress)
        points = np.memmap(file, np.int16, "r", shape=(len(rows), AXES)).view(np.ndarray)
        near = NearPairs(points, axes.reach(index, threshold) ** 2)
        for tile, found in enumerate(in_order(near.some, map(Stretch, range(near.tiles)))):
            progress("comparing", min(tile * TILE, len(rows)), len(rows))
            pairs, rest = found
            yield from _confirmed(index, rows, order[pairs], threshold)
            while rest:
                pairs, rest = near.some(rest)
                yield from _confirmed(index, rows, order[pairs], threshold)
        progress("comparing", len(rows), len(rows))


class _Axes:
    """What makes points of vectors: a mean and leading axes, widest first, of vectors from all over an index.

    Any orthonormal axes will do; the nearer they are to the principal ones, the fewer points are near.
    """

    def __init__(self, index: SearchIndex, rows: NDArray[np.intp]) -> None:
        sample = index.fine(rows[:: 1 + len(rows) // _SAMPLE]).astype(np.float64)
        mean = sample.mean(axis=0)
        sample -= mean
        dim = sample.shape[1]
        axes = np.random.default_rng(0).normal(size=(dim, min(AXES - 1, dim)))
        for step in range(1, 5):
            axes = sample.T @ (sample @ axes)
            if step % 2 == 0:
                axes = np.linalg.qr(axes)[0]
        order = np.argsort(-np.square(sample @ axes).sum(axis=0))
        self._mean, self._axes = mean.astype(np.float32), axes[:, order].astype(np.float32)
        # Whoever is further out is drawn in: that takes no two further apart.
        self._radius = max(1.25 * float(np.sqrt(np.square(sample).sum(axis=1).max())), 1e-3)
        self._scale = (LONGEST - np.sqrt(AXES)) / self._radius

    def points(self, vectors: NDArray[np.float32]) -> NDArray[np.int16]:
        """The points of vectors (n, D), int16 (n, AXES)."""
        places = np.zeros((len(vectors), AXES), np.float32)
        centred = vectors - self._mean
        heads = centred @ self._axes
        places[:, : heads.shape[1]] = heads
        places[:, -1] = np.linalg.norm(centred - heads @ self._axes.T, axis=1)
        lengths = np.linalg.norm(places, axis=1, keepdims=True)
        places *= np.float32(self._scale * self._radius) / np.maximum(lengths, np.float32(self._radius))
        return np.rint(places).astype(np.int16)

    def reach(self, index: SearchIndex, threshold: float) -> float:
        """How far apart points may be whose vectors have a cosine at or above a threshold."""
        distance = np.sqrt(2 - 2 * (threshold - _TOLERANCE))
        errors = 2 * index.fine_error + _FLOAT32 * len(self._mean)
        return float((distance + errors) * self._scale + np.sqrt(AXES))  # half a unit along each axis, twice


def _write_points(
    index: SearchIndex, rows: NDArray[np.intp], axes: _Axes, file: IO[bytes], progress: Progress
) -> NDArray[np.intp]:
    """Write the points of rows (N,) in the order of their boxes; give that order, (N,)."""
    leading = np.empty((len(rows), LEADING), np.int16)
    with tempfile.TemporaryFile() as unordered:
        for first in range(0, len(rows), TILE):
            progress("reading", first, len(rows))
            points = axes.points(index.fine(rows[first : first + TILE]))
            leading[first : first + TILE] = points[:, :LEADING]
            unordered.write(points.tobytes())
        progress("reading", len(rows), len(rows))
        unordered.flush()
        order = boxed(leading)
        every = np.memmap(unordered, np.int16, "r", shape=(len(rows), AXES))
        for first in range(0, len(rows), TILE):
            file.write(every[order[first : first + TILE]].tobytes())
        file.flush()
    return order


def _confirmed(
    index: SearchIndex, rows: NDArray[np.intp], pairs: NDArray[np.intp], threshold: float
) -> Iterator[Pairs]:
    """Those of pairs (n, 2) that are at or above the threshold, as `close_pairs` gives them."""
    together = max(1, _CHANNELS_TOGETHER // index.store.codec.dim)
    for first in range(0, len(pairs), together):
        some = pairs[first : first + together]
        left, right = some.T
        which, places = np.unique(some, return_inverse=True)
        vectors, (a, b) = index.fine(rows[which]), places.reshape(some.shape).T
        cosines = np.einsum("ij,ij->i", vectors[a], vectors[b]).astype(np.float64)
        errors = 2 * index.fine_error
        sure = cosines - errors >= threshold
        yield left[sure], right[sure], cosines[sure]
        doubtful = ~sure & (cosines + errors >= threshold)
        if doubtful.any():
            left, right = left[doubtful], right[doubtful]
            known, exact = _cosines(index, rows[left], rows[right])
            close = known & (exact >= threshold - _TOLERANCE)
            yield left[close], right[close], exact[close]


def _cosines(
    index: SearchIndex, left: NDArray[np.intp], right: NDArray[np.intp]
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Of pairs of rows (n,) and (n,): which have their streams still, and the vectors' cosines, (n,)."""
    rows = np.unique(np.concatenate([left, right]))
    vectors = np.full((len(rows), index.store.codec.dim), np.nan)
    entries, found = index.decode_rows(rows)
    vectors[np.searchsorted(rows, list(entries))] = found
    products = (vectors[np.searchsorted(rows, left)] * vectors[np.searchsorted(rows, right)]).sum(axis=1)
    return ~np.isnan(products), np.minimum(products, 1.0)
