"""Groups of pictures whose decoded vectors lie close together, among all pairs of a store.

All pairs are N^2 / 2. Most are ruled out in a few dimensions: the distance of two vectors is at least that
of their projections on the leading principal axes, and |x - y|^2 = 2 - 2 cos. What is left is compared in all
dimensions by the index's approximations, and by the decoded streams where those cannot decide. Memory is
about a kilobyte a vector beside the index, whatever the number of pairs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clip_feature_codec.errors import ConfigError
from clip_feature_codec.store.manifest import Entry
from clip_feature_codec.store.search.index_file import IndexFile
from clip_feature_codec.store.search.nearest import SearchIndex

DEFAULT_THRESHOLD = 0.95
"""Above what different photographs reach, mostly, and below what copies do that were compressed, resized,
brightened by 15 % or cropped by 5 %."""

_AXES = 64
_SAMPLE = 4096
_BLOCK = 1024
_PAIRS_TOGETHER = 1 << 20
_FLOAT32 = 2.0**-24
_TOLERANCE = 1e-12  # of float64 products: a vector is its own duplicate at a threshold of 1, too


@dataclass(frozen=True)
class Twin:
    """A picture of a group.

    Attributes:
        entry: the picture.
        nearest: the picture of the group whose vector is nearest to its own.
        cosine: of the two vectors, in float64.
    """

    entry: Entry
    nearest: Entry
    cosine: float


def find_duplicates(index: SearchIndex, threshold: float = DEFAULT_THRESHOLD) -> list[list[Twin]]:
    """All groups of pictures that are linked by cosines at or above a threshold.

    Args:
        index: of the store.
        threshold: a cosine from 0 to 1.

    Returns:
        Groups of two and more, in the store's order, as are the pictures in each. Two pictures of a group may
        lie further apart than the threshold where others lead from one to the other.

    Raises:
        ConfigError: the threshold is not from 0 to 1.
    """
    if not 0 <= threshold <= 1:
        raise ConfigError(f"threshold: found {threshold}, expected a cosine from 0 to 1")
    links = _Links(len(index.file.rows))
    for left, right, cosines in _close_pairs(index, threshold):
        links.add(left, right, cosines)
    position = {entry.name: i for i, entry in enumerate(index.store.entries)}
    groups = [_twins(index, rows, links) for rows in links.groups()]
    for group in groups:
        group.sort(key=lambda twin: position[twin.entry.name])
    several = [group for group in groups if len(group) > 1]
    return sorted(several, key=lambda group: position[group[0].entry.name])


class _Links:
    """Which rows hang together, and the nearest partner of each.

    Attributes:
        partner: of each row, (N,); -1 where it has none.
    """

    def __init__(self, count: int) -> None:
        self.partner = np.full(count, -1)
        self._best = np.full(count, -np.inf)
        self._group = np.arange(count)  # the number of each row's group
        self._waiting: list[NDArray[np.intp]] = []  # pairs (2, n) that have joined no groups yet

    def add(self, left: NDArray[np.intp], right: NDArray[np.intp], cosines: NDArray[np.float64]) -> None:
        """Link pairs of rows: (n,) and (n,), and their cosines (n,)."""
        order = np.argsort(cosines)  # the last of several values for one row stays: the highest
        for rows, others in ((left[order], right[order]), (right[order], left[order])):
            better = cosines[order] > self._best[rows]
            self._best[rows[better]] = cosines[order][better]
            self.partner[rows[better]] = others[better]
        self._waiting.append(np.stack([left, right]))
        if sum(pairs.shape[1] for pairs in self._waiting) > max(_PAIRS_TOGETHER, len(self._group)):
            self._join()

    def _join(self) -> None:
        """Make one group of those that waiting pairs link."""
        if not self._waiting:
            return
        left, right = self._group[np.concatenate(self._waiting, axis=1)]
        self._group = _connected(len(self._group), left, right)[self._group]
        self._waiting = []

    def groups(self) -> Iterator[NDArray[np.intp]]:
        """Every group as its rows, (n,); most are of one."""
        self._join()
        order = np.argsort(self._group, kind="stable")
        yield from np.split(order, np.flatnonzero(np.diff(self._group[order])) + 1)


def _connected(count: int, left: NDArray[np.intp], right: NDArray[np.intp]) -> NDArray[np.intp]:
    """The connected component (count,) of each of ``count`` nodes, called by its smallest node.

    All edges (n,) and (n,) at once: each root takes the smallest root that an edge leads to, and each node
    the root of its root, until both ends of all edges have one (Shiloach and Vishkin 1982).
    """
    root = np.arange(count)
    while True:
        smaller, larger = np.minimum(root[left], root[right]), np.maximum(root[left], root[right])
        apart = smaller != larger
        if not apart.any():
            return root
        np.minimum.at(root, larger[apart], smaller[apart])
        while not np.array_equal(jumped := root[root], root):
            root = jumped


def _close_pairs(
    index: SearchIndex, threshold: float
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]]:
    """All pairs of rows at or above the threshold, some at a time: rows (n,) and (n,), about cosines (n,)."""
    file = index.file
    if not len(file.rows):
        return
    heads, reach = _heads(file, threshold)
    order = np.argsort(heads[:, 0], kind="stable")
    heads = heads[order]
    half = np.square(heads, dtype=np.float32).sum(axis=1, keepdims=True) / -2
    ones = np.ones_like(half)
    # One product gives -|h - g|^2 / 2 for all pairs of two blocks.
    left, right = np.hstack([heads, half, ones]), np.hstack([heads, ones, half])
    rounding = (heads.shape[1] + 8) * _FLOAT32 * 4 * float(np.abs(half).max())
    lowest = -(reach**2) / 2 - rounding
    for i in range(0, len(order), _BLOCK):
        farthest = heads[min(i + _BLOCK, len(order)) - 1, 0] + reach
        for j in range(i, len(order), _BLOCK):
            if heads[j, 0] > farthest:
                break  # and so are all after it, since they are sorted along the first axis
            close = left[i : i + _BLOCK] @ right[j : j + _BLOCK].T >= lowest
            if i == j:
                close = np.triu(close, 1)
            if close.any():
                a, b = np.nonzero(close)
                yield from _confirmed(index, order[i + a], order[j + b], threshold)


def _heads(file: IndexFile, threshold: float) -> tuple[NDArray[np.float32], float]:
    """All rows along M leading axes, float32 (N, M), and how far apart two can be at the threshold."""
    count, dim = file.rows.levels.shape
    sample = file.approximate(slice(None, None, 1 + count // _SAMPLE)).astype(np.float64)
    mean = sample.mean(axis=0)
    sample -= mean
    # Any orthonormal axes will do, and the better the nearer they are to the principal ones.
    axes = np.random.default_rng(0).normal(size=(dim, min(_AXES, dim)))
    for _ in range(4):
        axes = np.linalg.qr(sample.T @ (sample @ axes))[0]
    heads = np.empty((count, axes.shape[1]), np.float32)
    for first in range(0, count, _BLOCK):
        some = slice(first, first + _BLOCK)
        heads[some] = (file.approximate(some) - mean) @ axes
    errors = 2 * float(file.rows.fine_error.max()) + 2 * _rounding(file) + 1e-6  # the last for float32 heads
    return heads, float(np.sqrt(2 - 2 * threshold)) + errors


def _confirmed(
    index: SearchIndex, left: NDArray[np.intp], right: NDArray[np.intp], threshold: float
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]]:
    """Those of the pairs (n,) and (n,) that are at or above the threshold, as `_close_pairs` gives them."""
    file = index.file
    (a, at_a), (b, at_b) = (np.unique(rows, return_inverse=True) for rows in (left, right))
    cosines = (file.approximate(a) @ file.approximate(b).T)[at_a, at_b].astype(np.float64)
    errors = 1.01 * (file.rows.fine_error[left] + file.rows.fine_error[right]).astype(np.float64)
    errors += 3 * _rounding(file) + (file.rows.levels.shape[1] + 2) * _FLOAT32 * 1.1
    sure = cosines - errors >= threshold
    yield left[sure], right[sure], cosines[sure]
    doubtful = np.flatnonzero(~sure & (cosines + errors >= threshold))
    for first in range(0, len(doubtful), _BLOCK):
        some = doubtful[first : first + _BLOCK]
        known, exact = _cosines(index, left[some], right[some])
        close = known & (exact >= threshold - _TOLERANCE)
        yield left[some][close], right[some][close], exact[close]


def _rounding(file: IndexFile) -> float:
    """At most the length of what float32 takes from a vector of `IndexFile.approximate`."""
    lengths = 256 * np.linalg.norm(file.quantizer.step) + np.linalg.norm(file.quantizer.minimum)
    return 4 * _FLOAT32 * float(lengths)


def _cosines(
    index: SearchIndex, left: NDArray[np.intp], right: NDArray[np.intp]
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Of pairs (n,) and (n,): which have their streams still, and the decoded vectors' cosines, (n,)."""
    rows = np.unique(np.concatenate([left, right]))
    vectors = np.full((len(rows), index.store.codec.dim), np.nan)
    for i, row in enumerate(rows.tolist()):
        _, found = index.decode(index.members(row)[:1])
        vectors[i : i + len(found)] = found
    products = (vectors[np.searchsorted(rows, left)] * vectors[np.searchsorted(rows, right)]).sum(axis=1)
    return ~np.isnan(products), np.minimum(products, 1.0)


def _twins(index: SearchIndex, rows: NDArray[np.intp], links: _Links) -> list[Twin]:
    """The pictures of a group of rows (n,) whose streams are still there; none where it is no group."""
    if len(rows) == 1 and len(index.members(int(rows[0]))) == 1:
        return []
    twins = []
    for first in range(0, len(rows), _BLOCK):
        some = rows[first : first + _BLOCK]
        partners = np.where(links.partner[some] < 0, some, links.partner[some])
        known, cosines = _cosines(index, some, partners)
        for row, partner, whole, cosine in zip(some, partners, known, cosines, strict=True):
            here, _ = index.decode(index.members(int(row)))
            for i, entry in enumerate(here):
                if len(here) > 1:  # the same stream
                    twins.append(Twin(entry, here[0 if i else 1], 1.0))
                elif whole and partner != row:
                    twins.append(Twin(entry, index.members(int(partner))[0], float(cosine)))
    return twins
