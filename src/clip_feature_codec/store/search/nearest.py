"""`SearchIndex`: the exact nearest neighbours of a vector among the decoded streams of a store.

Three passes, each over what the one before could not rule out:

1. the coarse codes of all vectors give an upper limit for each cosine, stage by stage (see
   `codec.semantic.coarse`), a segment at a time on all cores;
2. the fine codes of those whose limits are high enough narrow them down, and with them what is high enough
   in the segments that follow;
3. the streams themselves are decoded, best first, and give the cosines.

By Cauchy and Schwarz, the cosine of a unit query with a vector differs from its product with an approximation
by at most their distance. So each pass has an upper limit for what it leaves out, and the search ends when
the last result is above all limits (optimal multi-step search, Seidl and Kriegel 1998). The result is that of
a search through all decoded vectors.

What is held in memory does not depend on how many there are: the codes are mapped from files, and entries are
looked up for results alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from clip_feature_codec.codec.semantic.coarse import products
from clip_feature_codec.devices import usable_cores
from clip_feature_codec.errors import ConfigError
from clip_feature_codec.parallel import in_order
from clip_feature_codec.progress import Progress, silent
from clip_feature_codec.store.manifest import Entry
from clip_feature_codec.store.parts import Part
from clip_feature_codec.store.protocol import Store
from clip_feature_codec.store.search.index_file import IndexFile
from clip_feature_codec.store.search.indexing import Streams, updated_index
from clip_feature_codec.store.search.segments import FINE

_BEST_FIRST = 16  # rows of a segment, beyond what is wanted, that are looked at before the next one
_ROWS_TOGETHER = 4
_FOLLOWED = 5  # times that a search begins again where the store has changed under it
_SLACK = 1e-9  # above all rounding of float64 sums over 8192 channels
_FLOAT32 = 2.0**-23


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
    """An index over the streams of a store as it was when it was opened, made by `open`.

    Rows are the vectors of all segments, one behind the other in the store's order.

    Args:
        store: the store.
        file: an index of it.
        parts: of the store, if they have been listed.
        streams: what its streams are decoded with.
    """

    def __init__(
        self,
        store: Store,
        file: IndexFile,
        parts: Sequence[Part] | None = None,
        streams: Streams | None = None,
    ) -> None:
        self.store = store
        self._streams = streams or Streams(store)
        self._hold(store.parts() if parts is None else parts, file)

    def _hold(self, parts: Sequence[Part], file: IndexFile) -> None:
        self.file, self._parts, self._moved = file, parts, False
        found = list(file.segments([part.name for part in parts]))
        self._part_of = [place for place, _, _ in found]
        self._segments = [segment for _, segment, _ in found]
        self._starts = np.cumsum([0, *map(len, self._segments)])
        self._gone = {i: set(gone.tolist()) for i, (_, _, gone) in enumerate(found) if len(gone)}

    def _follow(self) -> None:
        """Go on with the store as it is now."""
        parts = self.store.parts()
        self._hold(parts, updated_index(self.store, parts, self._streams))

    @classmethod
    def open(cls, store: Store, progress: Progress = silent) -> SearchIndex:
        """Open a store's index, brought up to date (see `indexing.updated_index`)."""
        parts, streams = store.parts(), Streams(store)
        return cls(store, updated_index(store, parts, streams, progress), parts, streams)

    def __len__(self) -> int:
        """Pictures that can be found, as far as it is known."""
        return self.rows - sum(map(len, self._gone.values()))

    @property
    def rows(self) -> int:
        """How many rows there are, those of pictures that are gone included."""
        return int(self._starts[-1])

    @property
    def failures(self) -> list[tuple[str, str]]:
        """(path, reason) of the streams met so far that cannot be decoded."""
        return list(self._streams.failures.values())

    @property
    def _distance(self) -> float:
        """Above the distance of a vector from its `fine` approximation."""
        return float(np.sqrt(self.file.frame.dim)) * 0.5001 / FINE

    @property
    def fine_error(self) -> float:
        """Above the distance of a vector from its `fine` approximation, and the rounding of products."""
        return self._distance + (self.file.frame.dim + 16) * _FLOAT32

    def fine(self, rows: NDArray[np.intp]) -> NDArray[np.float32]:
        """The vectors of rows (n,), nearly: float32 (n, D)."""
        found = np.empty((len(rows), self.file.frame.dim), np.float32)
        for number, mine, places in self._by_segment(rows):
            found[mine] = self._segments[number].fine[places]
        found *= np.float32(1 / FINE)
        return found

    def keys(self) -> NDArray[np.uint8]:
        """What tells the streams of all rows apart, (rows, 16)."""
        every = [segment.keys for segment in self._segments]
        return np.concatenate(every) if every else np.zeros((0, 16), np.uint8)

    def live(self) -> NDArray[np.bool_]:
        """Of all rows, which are of pictures that are not known to be gone, (rows,)."""
        found = np.ones(self.rows, bool)
        for number, places in self._gone.items():
            found[self._starts[number] + np.array(sorted(places))] = False
        return found

    def order(self, row: int) -> tuple[int, int]:
        """Where the picture of a row stands in the store: what sorts as the store does."""
        number = int(np.searchsorted(self._starts, row, side="right")) - 1
        place = row - int(self._starts[number])
        return self._part_of[number], int(self._segments[number].numbers[place])

    def decode(self, entries: Sequence[Entry]) -> tuple[list[Entry], NDArray[np.float64]]:
        """Those of some pictures that can be decoded, and their unit vectors: float64 (n, D)."""
        return self._streams.decode(entries)

    def decode_rows(self, rows: NDArray[np.intp]) -> tuple[dict[int, Entry], NDArray[np.float64]]:
        """The pictures of ascending rows (n,) that are still as they were, and their vectors, as `decode`."""
        entries = dict(self._entries(rows))
        row_of = {id(entry): row for row, entry in entries.items()}
        good, vectors = self.decode(list(entries.values()))
        found = {row_of[id(entry)]: entry for entry in good}
        for row in entries.keys() - found.keys():
            self._lose(row)
        return found, vectors

    def _entries(self, rows: NDArray[np.intp]) -> Iterator[tuple[int, Entry]]:
        for number, mine, places in self._by_segment(rows):
            segment, part = self._segments[number], self._parts[self._part_of[number]]
            order = np.argsort(segment.numbers[places], kind="stable")
            found = part.entries(segment.numbers[places[order]].tolist())
            for at, entry in zip(order, found, strict=True):
                if entry is not None and entry.sha256 == segment.keys[places[at]].tobytes().hex():
                    yield int(rows[mine][at]), entry
                else:  # taken out, changed or sealed into a shard since the index was opened
                    self._moved = True
                    self._lose(int(rows[mine][at]))

    def _lose(self, row: int) -> None:
        number = int(np.searchsorted(self._starts, row, side="right")) - 1
        self._gone.setdefault(number, set()).add(row - int(self._starts[number]))

    def _by_segment(self, rows: NDArray[np.intp]) -> Iterator[tuple[int, NDArray[np.intp], NDArray[np.intp]]]:
        """Segment, which of the rows (n,) are in it, and their places there."""
        numbers = np.searchsorted(self._starts, rows, side="right") - 1
        for number in np.unique(numbers).tolist():
            mine = np.flatnonzero(numbers == number)
            yield number, mine, rows[mine] - self._starts[number]

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
        for _ in range(_FOLLOWED):
            best = self._found(unit, count)
            if not self._moved:
                break
            self._follow()
        return [Hit(entry, -negative) for negative, _, entry in best]

    def _found(self, unit: NDArray[np.float64], count: int) -> list[tuple[float, tuple[int, int], Entry]]:
        """The ``count`` best, as `_best` gives them."""
        known: dict[int, tuple[float, Entry] | None] = {}
        while True:
            before = len(self)
            rows, limits = self._candidates(unit, min(count, self.rows))
            best = self._best(unit, rows, limits, count, known)
            if len(self) == before:  # else what is gone has kept others out
                return best

    def _candidates(
        self, unit: NDArray[np.float64], count: int
    ) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """Rows that may be among the ``count`` best, and what their cosines are not above, best first."""
        coarse, rough = self.file.frame.query(unit), np.rint(unit * FINE).astype(np.int16)
        # What int16 misses of a query, and of a vector times the rounded query; nothing else is rounded.
        missed = float(np.linalg.norm(unit - rough / FINE))
        error = missed + self._distance * (1 + missed)
        found = _Candidates(count, 2 * error)
        left: list[tuple[int, NDArray[np.int32], NDArray[np.float64]]] = []

        def refine(number: int, rows: NDArray[np.int32]) -> None:
            """Add what the fine codes say of some of a segment's rows."""
            if len(rows):
                cosines = products(self._segments[number].fine, rows, rough) / FINE**2
                found.add(self._starts[number] + rows, cosines + error)
            self._segments[number].let_go()

        def scan(number: int) -> None:
            """Look at the most likely rows of a segment, from which all learn what is high enough."""
            rows, limits = coarse.scan(self._segments[number].codes, found.floor)
            if number in self._gone:
                live = ~np.isin(rows, list(self._gone[number]))
                rows, limits = rows[live], limits[live]
            first = min(len(rows), count + _BEST_FIRST)
            order = np.argpartition(-limits, first - 1) if first < len(rows) else np.arange(first)
            refine(number, rows[order[:first]])
            left.append((number, rows[order[first:]], limits[order[first:]]))

        numbers = iter(range(len(self._segments)))

        def share(most: int) -> None:
            """Go through so many segments, or as many as there are left."""
            for number in islice(numbers, most):
                scan(number)

        share(1)  # by itself, for what is learnt from it
        deque(in_order(share, [len(self._segments)] * usable_cores()), maxlen=0)
        for number, rows, limits in left:
            refine(number, rows[limits >= found.floor])
        return found.best_first()

    def _best(
        self,
        unit: NDArray[np.float64],
        rows: NDArray[np.intp],
        limits: NDArray[np.float64],
        count: int,
        known: dict[int, tuple[float, Entry] | None],
    ) -> list[tuple[float, tuple[int, int], Entry]]:
        """The ``count`` best, as (-cosine, order, entry).

        Args:
            unit: the query, float64 (D,).
            rows: candidates, (n,), best first.
            limits: what their cosines are not above, (n,).
            count: how many are wanted.
            known: what is known of rows already; added to.
        """
        best: list[tuple[float, tuple[int, int], Entry]] = []
        done = 0
        while done < len(rows) and (len(best) < count or -best[-1][0] <= limits[done]):
            # As many as are wanting at least, since together they are decoded faster.
            some = rows[done : done + max(_ROWS_TOGETHER, count - len(best))].tolist()
            self._measure(unit, sorted(row for row in some if row not in known), known)
            found = ((row, known[row]) for row in some)
            best += [(-pair[0], self.order(row), pair[1]) for row, pair in found if pair is not None]
            best = sorted(best, key=lambda one: one[:2])[:count]
            done += len(some)
        return best

    def _measure(
        self, unit: NDArray[np.float64], rows: list[int], known: dict[int, tuple[float, Entry] | None]
    ) -> None:
        """Put the cosines and entries of ascending rows into ``known``; None for a stream that is bad."""
        known.update((row, None) for row in rows)
        entries, vectors = self.decode_rows(np.array(rows, np.intp))
        cosines = np.minimum((vectors * unit).sum(axis=1), 1.0)  # the same to the last bit in any company
        for (row, entry), cosine in zip(entries.items(), cosines.tolist(), strict=True):
            known[row] = cosine, entry


@dataclass
class _Candidates:
    """Rows that may be among the best.

    Attributes:
        count: how many are wanted.
        spread: how far below its limit a cosine may be.
        floor: so many as are wanted are at least this.
    """

    count: int
    spread: float
    floor: float = -np.inf
    _lock: Lock = field(default_factory=Lock)
    _rows: NDArray[np.intp] = field(default_factory=lambda: np.zeros(0, np.intp))
    _limits: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))

    def add(self, rows: NDArray[np.intp], limits: NDArray[np.float64]) -> None:
        """Add rows (n,) whose cosines are not above limits (n,); from any thread."""
        with self._lock:
            rows, limits = np.concatenate([self._rows, rows]), np.concatenate([self._limits, limits])
            if len(limits) >= self.count > 0:
                self.floor = float(np.partition(limits, -self.count)[-self.count]) - self.spread
            kept = limits >= self.floor
            self._rows, self._limits = rows[kept], limits[kept]

    def best_first(self) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """All rows, and their limits."""
        order = np.argsort(-self._limits, kind="stable")
        return self._rows[order], self._limits[order] + _SLACK


def _unit_query(query: NDArray[np.float32], dim: int) -> NDArray[np.float64]:
    if query.shape != (dim,):
        raise ConfigError(f"query: found shape {query.shape}, expected ({dim},)")
    vector = query.astype(np.float64)
    length = float(np.sqrt(np.square(vector).sum()))
    if not (np.isfinite(length) and length > 0):
        raise ConfigError(f"query: found length {length}, expected a finite, positive one")
    return vector / length
