"""`SearchIndex`: the exact nearest neighbours of a vector among the decoded streams of a store.

Three passes, each over what the one before could not rule out:

1. a product with all vectors by their 8-bit levels (see `index_file`) names candidates;
2. the remainders narrow down what it found;
3. the streams themselves are decoded, best first, and give the cosines.

By Cauchy and Schwarz, the cosine of a unit query with a vector differs from its product with an approximation
by at most their distance, which the index knows of every vector. So each pass has an upper limit for what it
leaves out, and the search ends when the last result is above all limits (optimal multi-step search, Seidl and
Kriegel 1998); until then it takes more candidates. The result is that of a search through all decoded
vectors.

Streams of the klt profile each have a step of their own: their integers have no common scale, so the levels
are made anew from the decoded vectors. They are multiplied in float32, a block at a time that stays in the
processor's cache: nearly as fast as faiss's ``8bit_uniform``, core for core, without 66 MB to install and a
second copy of the levels. To round the query to 8 bits as well would make the limits ten times as wide on
CLIP vectors, with their few large channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from clip_feature_codec.codec.semantic.affine import LEVELS
from clip_feature_codec.devices import usable_cores
from clip_feature_codec.errors import ConfigError
from clip_feature_codec.progress import Progress, silent
from clip_feature_codec.store.manifest import Entry
from clip_feature_codec.store.protocol import Store
from clip_feature_codec.store.search.index_file import IndexFile
from clip_feature_codec.store.search.indexing import Streams, key_of, rows_of, updated_index

_ROWS_AT_ONCE = 4096
_CACHED_VALUES = 1 << 18  # float32 values of a block: a megabyte
_ROWS_A_THREAD = 1 << 15
_FIRST_CANDIDATES = 256
_OUTLIERS = 256
_MORE_CANDIDATES = 8
_ROWS_TOGETHER = 4
_SLACK = 1e-9  # above all rounding of float64 sums over 8192 channels


@dataclass(frozen=True)
class Hit:
    """A picture that was found.

    Attributes:
        entry: the picture.
        cosine: of the query and the picture's decoded vector, in float64.
    """

    entry: Entry
    cosine: float


class SearchIndex:
    """An index over the streams of a store, made by `open`.

    Attributes:
        store: the store.
        file: the approximate vectors, one for each distinct stream.
    """

    def __init__(self, store: Store, file: IndexFile, streams: Streams | None = None) -> None:
        self.store = store
        self.file = file
        self._streams = streams or Streams(store)
        self._entries = store.entries
        rows = rows_of(file.rows.keys)
        self._row = np.array([rows.get(key_of(entry), -1) for entry in self._entries], dtype=np.intp)
        order = np.argsort(self._row, kind="stable")
        self._by_row = order[
            np.searchsorted(self._row[order], 0) :
        ]  # entries sorted by row, then by position
        self._starts = np.searchsorted(self._row[self._by_row], np.arange(len(file.rows) + 1))

    @classmethod
    def open(cls, store: Store, progress: Progress = silent) -> SearchIndex:
        """Open a store's index, brought up to date (see `indexing.updated_index`)."""
        file, streams = updated_index(store, progress)
        return cls(store, file, streams)

    @cached_property
    def _outliers(self) -> NDArray[np.intp]:
        """Rows (n,) whose levels are the poorest: always candidates, so that the others' limit is narrow."""
        errors = self.file.rows.coarse_error
        return np.argsort(errors, kind="stable")[max(0, len(errors) - _OUTLIERS) :]

    @cached_property
    def _most_error(self) -> float:
        """No other row is farther from its levels than this."""
        return float(np.delete(self.file.rows.coarse_error, self._outliers).max(initial=0))

    def __len__(self) -> int:
        """Pictures that can be found."""
        return len(self._by_row)

    @property
    def failures(self) -> list[tuple[str, str]]:
        """(path, reason) of the streams met so far that cannot be decoded, in the store's order."""
        failed = self._streams.failures
        return [(str(self.store.stream_path(e)), failed[e.name]) for e in self._entries if e.name in failed]

    def members(self, row: int) -> list[Entry]:
        """The pictures whose stream is that of a row, in the store's order."""
        return [self._entries[i] for i in self._positions(row)]

    def _positions(self, row: int) -> NDArray[np.intp]:
        """Where the pictures of a row stand in the store, (n,)."""
        return self._by_row[self._starts[row] : self._starts[row + 1]]

    def decode(self, entries: Sequence[Entry]) -> tuple[list[Entry], NDArray[np.float64]]:
        """Those of some pictures that can be decoded, and their unit vectors: float64 (n, D)."""
        return self._streams.decode(entries)

    def nearest(self, query: NDArray[np.float32], count: int) -> list[Hit]:
        """The pictures of highest cosine, best first; of equal ones, in the store's order.

        Args:
            query: float (D,), finite, of any positive length.
            count: how many, at least 1; fewer are returned where there are fewer.

        Raises:
            ConfigError: the query has another shape or no direction, or ``count`` is below 1.
        """
        if count < 1:
            raise ConfigError(f"count: found {count}, expected at least 1")
        unit = _unit_query(query, self.store.codec.dim)
        total = len(self.file.rows)
        candidates = max(_FIRST_CANDIDATES, 4 * count, total // 1024)
        found: dict[int, list[tuple[float, int]]] = {}
        while True:
            rows, ceiling = self._candidates(unit, min(candidates, total))
            best = self._best(unit, rows, ceiling, count, found)
            if best is not None:
                return [Hit(self._entries[-negative], cosine) for cosine, negative in best]
            candidates *= _MORE_CANDIDATES

    def _candidates(self, unit: NDArray[np.float64], count: int) -> tuple[NDArray[np.intp], float]:
        """The best rows (n,) by their levels, and what no other row's cosine with ``unit`` (D,) is above."""
        rows = self.file.rows
        if not count:
            return np.zeros(0, np.intp), -np.inf
        quantizer = self.file.quantizer
        weights = (unit * quantizer.step).astype(np.float32)
        if count == len(rows):
            return np.arange(count), -np.inf
        scores = _products(rows.levels, weights)
        found = np.argpartition(scores, len(rows) - count)[-count:]
        offset = unit @ quantizer.minimum.astype(np.float64)
        # float32 sums over D channels of |weight| * (at most 255), each term rounded a few times.
        rounding = (len(unit) + 16) * 2.0**-24 * (LEVELS - 1) * float(np.abs(weights).sum(dtype=np.float64))
        ceiling = float(scores[found].min()) + float(offset) + self._most_error + rounding + _SLACK
        return np.union1d(found, self._outliers), ceiling

    def _best(
        self,
        unit: NDArray[np.float64],
        rows: NDArray[np.intp],
        ceiling: float,
        count: int,
        found: dict[int, list[tuple[float, int]]],
    ) -> list[tuple[float, int]] | None:
        """The ``count`` best (cosine, -position in the store), or None where others may be better.

        Args:
            unit: the query, float64 (D,).
            rows: the candidates, (n,).
            ceiling: no other row's cosine is above it.
            count: how many are wanted.
            found: what is known of rows already; added to.
        """
        limits = self._limits(unit, rows)
        order = np.argsort(-limits, kind="stable")
        rows, limits = rows[order], np.append(np.maximum(limits[order], ceiling), ceiling)
        best: list[tuple[float, int]] = []
        done = 0
        while len(best) < count or best[-1][0] <= limits[done]:
            if done == len(rows):
                return best if ceiling == -np.inf else None
            # As many as are wanting at least, since together they are decoded faster.
            some = rows[done : done + max(_ROWS_TOGETHER, count - len(best))].tolist()
            self._decode_rows(unit, [row for row in some if row not in found], found)
            best = sorted([*best, *(pair for row in some for pair in found[row])], reverse=True)[:count]
            done += len(some)
        return best

    def _limits(self, unit: NDArray[np.float64], rows: NDArray[np.intp]) -> NDArray[np.float64]:
        """What the cosine of each row cannot be above, from levels and remainders: float64 (n,)."""
        file, limits = self.file, np.empty(len(rows))
        weights = unit * file.quantizer.step
        offset = unit @ file.quantizer.minimum.astype(np.float64)
        for first in range(0, len(rows), _ROWS_AT_ONCE):
            some = rows[first : first + _ROWS_AT_ONCE]
            values = file.rows.remainders[some] / 256.0
            values += file.rows.levels[some]
            limits[first : first + len(some)] = (
                values @ weights + offset + file.rows.fine_error[some] + _SLACK
            )
        return limits

    def _decode_rows(
        self, unit: NDArray[np.float64], rows: list[int], found: dict[int, list[tuple[float, int]]]
    ) -> None:
        """Put (cosine, -position) of the rows' members whose streams are still there into ``found``."""
        found.update((row, []) for row in rows)
        row_at = {int(position): row for row in rows for position in self._positions(row)}
        position_of = {self._entries[position].name: position for position in row_at}
        entries, vectors = self.decode([self._entries[position] for position in row_at])
        cosines = np.minimum((vectors * unit).sum(axis=1), 1.0)  # the same to the last bit in any company
        for entry, cosine in zip(entries, cosines.tolist(), strict=True):
            position = position_of[entry.name]
            found[row_at[position]].append((cosine, -position))


def _products(levels: NDArray[np.uint8], weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """The product of ``weights`` (D,) with every row of levels (N, D): (N,)."""
    scores = np.empty(len(levels), np.float32)
    rows = max(1, _CACHED_VALUES // len(weights))

    def multiply(first: int) -> None:
        last = min(first + _ROWS_A_THREAD, len(levels))
        block = np.empty((rows, len(weights)), np.float32)
        for start in range(first, last, rows):
            some = slice(start, min(start + rows, last))
            values = block[: some.stop - start]
            np.copyto(values, levels[some])
            np.dot(values, weights, out=scores[some])

    with ThreadPoolExecutor(usable_cores()) as threads:
        list(threads.map(multiply, range(0, len(levels), _ROWS_A_THREAD)))
    return scores


def _unit_query(query: NDArray[np.float32], dim: int) -> NDArray[np.float64]:
    if query.shape != (dim,):
        raise ConfigError(f"query: found shape {query.shape}, expected ({dim},)")
    vector = query.astype(np.float64)
    length = float(np.sqrt(np.square(vector).sum()))
    if not (np.isfinite(length) and length > 0):
        raise ConfigError(f"query: found length {length}, expected a finite, positive one")
    return vector / length
