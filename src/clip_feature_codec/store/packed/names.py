"""The catalogue of a packed store: names and sources of shards as 64-bit keys, the rest in the journal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from clip_feature_codec.store.catalogue import Catalogue, growing
from clip_feature_codec.store.manifest import Entry, to_text
from clip_feature_codec.store.packed.journal import Journal
from clip_feature_codec.store.packed.shards import GROUP_ROWS, Shard

if TYPE_CHECKING:
    import pyarrow

_FACTOR = 0x9E3779B97F4A7C15  # odd, and of no pattern: that of the golden ratio
_TEXTS_AT_ONCE = 1 << 13


class Names(Catalogue):
    """What a writer looks up; made from two columns of all shards when it first does: 16 bytes a row each.

    Args:
        folder: the store's folder.
        journal: of what is not sealed.
    """

    def __init__(self, folder: Path, journal: Journal) -> None:
        super().__init__(folder)
        self._journal = journal
        self._shards: Sequence[Shard] = ()
        self._keys: dict[str, list[_Keys]] = {}  # by column, each list some times longer than the next

    def follow(self, shards: Sequence[Shard]) -> None:
        """Go on with the shards as they are now."""
        self._shards = shards
        for column, known in self._keys.items():
            self._keys[column] = _followed(known, shards, column)

    def named(self, name: str) -> Entry | None:
        """The entry of a name, whatever its case."""
        folded = name.casefold()
        waiting = self._journal.named(name)
        return waiting or self._find("name", folded, lambda entry: entry.name.casefold() == folded)

    def of_source(self, source: str) -> Entry | None:
        """The entry of a picture, by its path as seen from the store."""
        waiting = self._journal.of_source(source)
        return waiting or self._find("source", source, lambda entry: entry.source == source)

    def after(self, entry: Entry | None) -> Iterator[Entry]:
        """The entries behind one, or all of them, in order; they are read some at a time."""
        number, row = entry.place if entry and entry.place else (None, -1)
        if number == -1:
            yield from self._journal.after(entry)
            return
        shards, sizes = list(self._shards), growing(GROUP_ROWS)
        while number is not None and shards and shards[0].number != number:
            del shards[0]
        for shard in shards:
            start, row = row + 1, -1
            while start < shard.rows:
                end = min(start + next(sizes), shard.rows)
                yield from shard.entries(row for row in range(start, end) if row not in shard.dropped)
                start = end
        yield from self._journal.after(None)

    def _find(self, column: str, text: str, fits: Callable[[Entry], bool]) -> Entry | None:
        if column not in self._keys:
            self._keys[column] = _followed([], self._shards, column)
        for keys in self._keys[column]:
            for shard, row in keys.places(text):
                if row not in shard.dropped and fits(entry := shard.entry(row)):
                    return entry
        return None


class _Keys:
    """One column of some shards, to find texts in; names are compared without case.

    Attributes:
        shards: whose rows they are; also such of which there is none any more.
    """

    def __init__(
        self, shards: list[Shard], keys: NDArray[np.uint64], which: NDArray[np.int32], rows: NDArray[np.int32]
    ) -> None:
        self.shards, self._keys, self._which, self._rows = shards, keys, which, rows

    @classmethod
    def of(cls, shard: Shard, column: str) -> _Keys:
        """Those of one shard."""
        keys = _hashes(_folded(shard.texts(column)) if column == "name" else shard.texts(column))
        rows = np.argsort(keys, kind="stable").astype(np.int32)
        return cls([shard], keys[rows], np.zeros(len(rows), np.int32), rows)

    def __len__(self) -> int:
        return len(self._keys)

    def only(self, shards: set[int]) -> _Keys:
        """Those of shards that are still there, by `id`."""
        there = np.array([id(shard) in shards for shard in self.shards])
        if there.all():
            return self
        kept = there[self._which]
        return _Keys(self.shards, self._keys[kept], self._which[kept], self._rows[kept])

    def joined(self, other: _Keys) -> _Keys:
        """Those of both."""
        keys = np.concatenate([self._keys, other._keys])
        order = np.argsort(keys, kind="stable")  # two runs that are sorted: they are merged
        which = np.concatenate([self._which, other._which + np.int32(len(self.shards))])
        rows = np.concatenate([self._rows, other._rows])
        return _Keys(self.shards + other.shards, keys[order], which[order], rows[order])

    def places(self, text: str) -> Iterator[tuple[Shard, int]]:
        """The shards and rows that may have a text."""
        key = _hash(text)
        at = int(np.searchsorted(self._keys, key))
        while at < len(self._keys) and self._keys[at] == key:
            yield self.shards[self._which[at]], int(self._rows[at])
            at += 1


def _followed(known: list[_Keys], shards: Sequence[Shard], column: str) -> list[_Keys]:
    """What is known of some shards made that of others.

    The keys of many shards lie in a few arrays, so that finding a text takes as long in a thousand as in one.
    """
    here = {id(shard) for shard in shards}
    found = [keys.only(here) for keys in known]
    covered = {id(shard) for keys in found for shard in keys.shards}
    for shard in shards:
        if id(shard) not in covered:
            found.append(_Keys.of(shard, column))
        while len(found) > 1 and len(found[-2]) < 2 * len(found[-1]):
            last = found.pop()
            found.append(found.pop().joined(last))
    return found


def _folded(texts: pyarrow.Array) -> pyarrow.Array:
    """Texts as they are compared without case."""
    from pyarrow import array, compute

    if compute.all(compute.string_is_ascii(texts)).as_py():
        return compute.ascii_lower(texts)
    return array([text.casefold() for text in texts.to_pylist()], texts.type)


def _hashes(texts: pyarrow.Array) -> NDArray[np.uint64]:
    """What texts are found by, (n,): polynomials of their UTF-8 bytes, modulo 2**64.

    Args:
        texts: as `to_text` gives them, of Arrow's type ``large_string``.
    """
    found = [np.zeros(0, np.uint64)]
    for start in range(0, len(texts), _TEXTS_AT_ONCE):
        some = texts.slice(start, _TEXTS_AT_ONCE)
        _, offsets, content = some.buffers()
        ends = np.frombuffer(offsets, np.int64)[some.offset : some.offset + len(some) + 1]
        letters = np.frombuffer(content or b"", np.uint8)[ends[0] : ends[-1]].astype(np.uint64)
        starts, lengths = ends[:-1] - ends[0], np.diff(ends)
        letters *= _powers(int(lengths.max()))[np.arange(len(letters)) - np.repeat(starts, lengths)]
        sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(letters)])
        found.append(sums[ends[1:] - ends[0]] - sums[starts])
    return np.concatenate(found)


def _hash(text: str) -> np.uint64:
    """The same of one text."""
    letters = np.frombuffer(to_text(text).encode(), np.uint8)
    return np.uint64((letters * _powers(len(letters))).sum(dtype=np.uint64))


@lru_cache(8)
def _grown_powers(count: int) -> NDArray[np.uint64]:
    return np.multiply.accumulate(np.full(count, _FACTOR, np.uint64))


def _powers(count: int) -> NDArray[np.uint64]:
    """The first powers of `_FACTOR`, modulo 2**64, (count,)."""
    return _grown_powers(1 << max(8, (count - 1).bit_length()))[:count]
