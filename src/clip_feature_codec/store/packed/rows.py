"""The entries of a packed store, as they were at some moment, read as they are asked for."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate, groupby
from typing import overload

import numpy as np
from numpy.typing import NDArray

from clip_feature_codec.store.manifest import Entry
from clip_feature_codec.store.packed.shards import Shard


class Rows(Sequence[Entry]):
    """The rows of shards that are in the store, and behind them what is not sealed yet.

    Args:
        shards: in order.
        waiting: the entries that are not sealed.
    """

    def __init__(self, shards: Sequence[Shard], waiting: Sequence[Entry]) -> None:
        self._shards, self._waiting = list(shards), waiting
        self._rows = [_live(shard) for shard in shards]
        self._ends = list(accumulate(map(len, self._rows)))

    def __len__(self) -> int:
        return (self._ends[-1] if self._ends else 0) + len(self._waiting)

    @overload
    def __getitem__(self, index: int) -> Entry: ...
    @overload
    def __getitem__(self, index: slice) -> list[Entry]: ...
    def __getitem__(self, index: int | slice) -> Entry | list[Entry]:
        """An entry, or a list of some of them."""
        if isinstance(index, slice):
            return list(self._some(range(*index.indices(len(self)))))
        place = range(len(self))[index]
        number = bisect_right(self._ends, place)
        before = self._ends[number - 1] if number else 0
        if number == len(self._shards):
            return self._waiting[place - before]
        return self._shards[number].entry(int(self._rows[number][place - before]))

    def __iter__(self) -> Iterator[Entry]:
        for shard, rows in zip(self._shards, self._rows, strict=True):
            yield from shard.entries(map(int, rows))
        yield from self._waiting

    def _some(self, places: range) -> Iterator[Entry]:
        for number, some in groupby(places, lambda place: bisect_right(self._ends, place)):
            before = self._ends[number - 1] if number else 0
            if number == len(self._shards):
                yield from (self._waiting[place - before] for place in some)
            else:
                rows = self._rows[number]
                yield from self._shards[number].entries(int(rows[place - before]) for place in some)


def _live(shard: Shard) -> range | NDArray[np.int64]:
    """The rows of a shard that were not dropped."""
    if not shard.dropped:
        return range(shard.rows)
    return np.setdiff1d(np.arange(shard.rows), list(shard.dropped), assume_unique=True)
