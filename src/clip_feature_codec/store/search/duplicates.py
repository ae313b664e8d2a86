"""Groups of pictures whose decoded vectors lie close together, among all pairs of a store.

Equal streams are one vector. `pairs` finds the pairs of vectors at or above a threshold; here they are linked
to groups.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clip_feature_codec.errors import ConfigError
from clip_feature_codec.progress import Progress, silent
from clip_feature_codec.store.manifest import Entry
from clip_feature_codec.store.search.nearest import SearchIndex
from clip_feature_codec.store.search.pairs import close_pairs

DEFAULT_THRESHOLD = 0.95
"""Above what different photographs reach, mostly, and below what copies do that were compressed, resized,
brightened by 15 % or cropped by 5 %."""

_BLOCK = 1024  # pictures whose streams are decoded together
_PAIRS_TOGETHER = 1 << 20


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
    for left, right, cosines in close_pairs(index, vectors.first, threshold, progress):
        links.add(left, right, cosines)
    groups = list(links.groups(vectors.pictures))
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

    @property
    def pictures(self) -> NDArray[np.intp]:
        """How many rows each has, (N,)."""
        return np.diff(self._starts)

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

    def groups(self, pictures: NDArray[np.intp]) -> Iterator[NDArray[np.intp]]:
        """Every group as its rows, (n,), that has two pictures or more, of so many for each row (N,)."""
        self._join()
        order = np.argsort(self._group, kind="stable")
        starts = np.flatnonzero(np.diff(self._group[order], prepend=-1))
        ends = np.append(starts[1:], len(order))
        for group in np.flatnonzero(np.add.reduceat(pictures[order], starts) > 1).tolist():
            yield order[starts[group] : ends[group]]


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
