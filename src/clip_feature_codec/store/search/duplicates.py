"""Groups of pictures whose decoded vectors lie close together, among all pairs of a store.

All pairs are N^2 / 2. Equal streams are one vector. The rest is cut into boxes in the space of the leading
principal axes, as by a k-d tree (Bentley 1975): pairs of boxes that lie too far apart are left out as a
whole, and of the others' pairs most are ruled out in these axes, since the distance of two vectors is at
least that of their projections, and |x - y|^2 = 2 - 2 cos. What is left is compared in all dimensions by the
index's fine codes, and by the decoded streams where those cannot decide.

Memory is about a hundred bytes a vector, whatever the number of pairs; the projections lie in a file.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO

import numpy as np
from numpy.typing import NDArray

from clip_feature_codec.errors import ConfigError
from clip_feature_codec.parallel import in_order
from clip_feature_codec.progress import Progress, silent
from clip_feature_codec.store.manifest import Entry
from clip_feature_codec.store.search.nearest import SearchIndex

DEFAULT_THRESHOLD = 0.95
"""Above what different photographs reach, mostly, and below what copies do that were compressed, resized,
brightened by 15 % or cropped by 5 %."""

_AXES = 64
_SPLIT_AXES = 8  # the widest, along which boxes are cut
_SAMPLE = 4096
_BLOCK = 1024
_PAIRS_TOGETHER = 1 << 20
_FLOAT32 = 2.0**-24
_TOLERANCE = 1e-12  # of float64 products: a vector is its own duplicate at a threshold of 1, too

_Pairs = tuple[NDArray[np.intp], NDArray[np.intp]]


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


def find_duplicates(
    index: SearchIndex, threshold: float = DEFAULT_THRESHOLD, progress: Progress = silent
) -> list[list[Twin]]:
    """All groups of pictures that are linked by cosines at or above a threshold.

    Args:
        index: of the store.
        threshold: a cosine from 0 to 1.
        progress: told of the vectors that have been compared with all others.

    Returns:
        Groups of two and more, in the store's order, as are the pictures in each. Two pictures of a group may
        lie further apart than the threshold where others lead from one to the other.

    Raises:
        ConfigError: the threshold is not from 0 to 1.
    """
    if not 0 <= threshold <= 1:
        raise ConfigError(f"threshold: found {threshold}, expected a cosine from 0 to 1")
    vectors = _Vectors(index)
    links = _Links(len(vectors))
    for left, right, cosines in _close_pairs(index, vectors.first, threshold, progress):
        links.add(left, right, cosines)
    groups = [g for g in links.groups() if sum(len(vectors.rows(v)) for v in g[:2].tolist()) > 1]
    found = (sorted(group, key=lambda one: one[0]) for group in _twins(index, vectors, groups, links))
    several = sorted((group for group in found if len(group) > 1), key=lambda group: group[0][0])
    return [[twin for _, twin in group] for group in several]


class _Vectors:
    """The vectors of an index that differ, each with all rows that have it.

    Attributes:
        first: one row of each, (N,).
    """

    def __init__(self, index: SearchIndex) -> None:
        halves = index.keys().view(np.uint64)
        order = np.lexsort((halves[:, 1], halves[:, 0]))
        self._rows = order[index.live()[order]]
        changes = (halves[self._rows[1:]] != halves[self._rows[:-1]]).any(axis=1)
        begins = (
            np.flatnonzero(np.concatenate([[True], changes])) if len(self._rows) else np.zeros(0, np.intp)
        )
        self.first = self._rows[begins]
        self._starts = np.append(begins, len(self._rows))

    def __len__(self) -> int:
        return len(self.first)

    def rows(self, vector: int) -> NDArray[np.intp]:
        """The rows of a vector, (n,), ascending."""
        return self._rows[self._starts[vector] : self._starts[vector + 1]]


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
    index: SearchIndex, rows: NDArray[np.intp], threshold: float, progress: Progress
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]]:
    """All pairs at or above the threshold, some at a time: places in rows, (n,) and (n,); cosines (n,)."""
    if not len(rows):
        return
    with tempfile.TemporaryFile() as file:
        boxes = _Boxes(index, rows, threshold, file)
        jobs = list(boxes.neighbours())
        for done, (left, right) in enumerate(in_order(boxes.close, jobs)):
            progress("comparing", done, len(jobs))
            for first in range(0, len(left), _PAIRS_TOGETHER):
                some = slice(first, first + _PAIRS_TOGETHER)
                yield from _confirmed(index, rows, left[some], right[some], threshold)
        progress("comparing", len(jobs), len(jobs))


class _Boxes:
    """Vectors along M leading axes, cut into boxes of at most `_BLOCK`.

    Args:
        index: what has the vectors.
        rows: which of them, (N,).
        threshold: the cosine that matters.
        file: takes the projections, float32 (N, M), box by box.
    """

    def __init__(self, index: SearchIndex, rows: NDArray[np.intp], threshold: float, file: IO[bytes]) -> None:
        mean, axes = _axes(index, rows)
        count, width = len(rows), axes.shape[1]
        places = np.empty((count, min(_SPLIT_AXES, width)), np.float32)
        for first in range(0, count, _BLOCK):
            some = slice(first, first + _BLOCK)
            places[some] = (index.fine(rows[some]) - mean) @ axes[:, : places.shape[1]]
        self._members = list(_leaves(places, np.arange(count)))
        del places
        self._heads = np.memmap(file, np.float32, "w+", shape=(count, width))
        self._starts = np.cumsum([0, *map(len, self._members)])
        ends = np.empty((2, len(self._members), width), np.float32)
        for number, members in enumerate(self._members):
            heads = self._of(number)
            heads[:] = (index.fine(rows[members]) - mean) @ axes
            ends[:, number] = heads.min(axis=0), heads.max(axis=0)
        self._low, self._high = ends
        squares = float(np.square(np.abs(ends).max(axis=(0, 1))).sum())
        self._reach = float(np.sqrt(2 - 2 * threshold)) + 2 * index.fine_error + 1e-6  # the last for float32
        rounding = (width + 8) * _FLOAT32 * 2 * squares
        self._lowest = np.float32(-(self._reach**2) / 2 - rounding)

    def _of(self, number: int) -> NDArray[np.float32]:
        return self._heads[self._starts[number] : self._starts[number + 1]].view(np.ndarray)

    def neighbours(self) -> Iterator[tuple[int, NDArray[np.intp]]]:
        """Each box, with those from it on that have a vector within reach, as far as boxes tell."""
        for number in range(len(self._members)):
            gaps = np.maximum(
                self._low[number:] - self._high[number], self._low[number] - self._high[number:]
            )
            near = np.square(np.maximum(gaps, 0)).sum(axis=1) <= self._reach**2 * (1 + 1e-5)
            yield number, number + np.flatnonzero(near)

    def close(self, job: tuple[int, NDArray[np.intp]]) -> _Pairs:
        """Pairs (n,) and (n,) of a box and its neighbours that these axes do not rule out."""
        number, others = job
        mine = _with_squares(self._of(number), first=True)
        found: list[tuple[NDArray[np.intp], NDArray[np.intp]]] = []
        for other in others.tolist():
            # One product gives -|h - g|^2 / 2 for all pairs of two boxes.
            close = mine @ _with_squares(self._of(other), first=False).T >= self._lowest
            if close.any():
                a, b = np.nonzero(np.triu(close, 1) if other == number else close)
                found.append((self._members[number][a], self._members[other][b]))
        lefts, rights = zip(*found, strict=True) if found else ((np.zeros(0, np.intp),),) * 2
        return np.concatenate(lefts), np.concatenate(rights)


def _axes(index: SearchIndex, rows: NDArray[np.intp]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The mean (D,) and M leading axes (D, M), widest first, of vectors from all over the index."""
    sample = index.fine(rows[:: 1 + len(rows) // _SAMPLE]).astype(np.float64)
    mean = sample.mean(axis=0)
    sample -= mean
    dim = sample.shape[1]
    # Any orthonormal axes will do, and the better the nearer they are to the principal ones.
    axes = np.random.default_rng(0).normal(size=(dim, min(_AXES, dim)))
    for _ in range(4):
        axes = np.linalg.qr(sample.T @ (sample @ axes))[0]
    order = np.argsort(-np.square(sample @ axes).sum(axis=0))
    return mean.astype(np.float32), axes[:, order].astype(np.float32)


def _leaves(places: NDArray[np.float32], rows: NDArray[np.intp]) -> Iterator[NDArray[np.intp]]:
    """Rows (n,) of places (N, M) in boxes, halved along the axis in which they are widest."""
    if len(rows) <= _BLOCK:
        yield rows
        return
    mine = places[rows]
    axis = int(np.ptp(mine, axis=0).argmax())
    order = np.argpartition(mine[:, axis], len(rows) // 2)
    del mine
    yield from _leaves(places, rows[order[: len(rows) // 2]])
    yield from _leaves(places, rows[order[len(rows) // 2 :]])


def _with_squares(heads: NDArray[np.float32], *, first: bool) -> NDArray[np.float32]:
    """Heads (n, M) with -|h|^2 / 2 and 1 behind them, or 1 and -|h|^2 / 2."""
    half = np.square(heads).sum(axis=1, keepdims=True) / -2
    ones = np.ones_like(half)
    return np.hstack([heads, half, ones] if first else [heads, ones, half])


def _confirmed(
    index: SearchIndex,
    rows: NDArray[np.intp],
    left: NDArray[np.intp],
    right: NDArray[np.intp],
    threshold: float,
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]]:
    """Those of the pairs (n,) and (n,) that are at or above the threshold, as `_close_pairs` gives them."""
    cosines = np.empty(len(left))
    for first in range(0, len(left), _BLOCK):
        some = slice(first, first + _BLOCK)
        products = index.fine(rows[left[some]]) * index.fine(rows[right[some]])
        cosines[some] = products.sum(axis=1, dtype=np.float64)
    errors = 2 * index.fine_error
    sure = cosines - errors >= threshold
    yield left[sure], right[sure], cosines[sure]
    doubtful = np.flatnonzero(~sure & (cosines + errors >= threshold))
    for first in range(0, len(doubtful), _BLOCK):
        a, b = (side[doubtful[first : first + _BLOCK]] for side in (left, right))
        known, exact = _cosines(index, rows[a], rows[b])
        close = known & (exact >= threshold - _TOLERANCE)
        yield a[close], b[close], exact[close]


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


def _twins(
    index: SearchIndex, vectors: _Vectors, groups: Sequence[NDArray[np.intp]], links: _Links
) -> list[list[tuple[tuple[int, int], Twin]]]:
    """The pictures of groups of vectors (n,), with their order; only those whose streams are still there."""
    found: list[list[tuple[tuple[int, int], Twin]]] = [[] for _ in groups]
    group_of = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
    every = np.concatenate([*groups, np.zeros(0, np.intp)]).astype(np.intp)
    # In the store's order, so that what lies together is read together.
    for some in _batches(vectors, every, np.argsort(vectors.first[every], kind="stable")):
        partners = links.partner[every[some]]
        firsts = vectors.first[partners[partners >= 0]]
        mine = [vectors.rows(int(vector)) for vector in every[some]]
        rows = np.unique(np.concatenate([*mine, firsts]))
        entries, decoded = index.decode_rows(rows)
        place = {row: i for i, row in enumerate(entries)}
        for number, partner, own in zip(group_of[some].tolist(), partners.tolist(), mine, strict=True):
            here = [row for row in own.tolist() if row in entries]
            nearest = int(vectors.first[partner]) if partner >= 0 else -1
            for row in here:
                if len(here) > 1:  # the same stream
                    twin = Twin(entries[row], entries[here[1] if row == here[0] else here[0]], 1.0)
                elif nearest in entries:
                    cosine = float((decoded[place[row]] * decoded[place[nearest]]).sum())
                    twin = Twin(entries[row], entries[nearest], min(cosine, 1.0))
                else:
                    continue
                found[number].append((index.order(row), twin))
    return found


def _batches(
    vectors: _Vectors, every: NDArray[np.intp], order: NDArray[np.intp]
) -> Iterator[NDArray[np.intp]]:
    """Places of vectors in an order, so many at a time that they have about `_BLOCK` rows."""
    if not len(order):
        return
    sizes = np.cumsum([len(vectors.rows(int(vector))) for vector in every[order]])
    yield from np.split(order, np.flatnonzero(np.diff(sizes // _BLOCK)) + 1)
