"""The catalogue of a packed store: names and sources of shards as 64-bit keys, the rest in the journal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clip_feature_codec.store.catalogue import Catalogue
from clip_feature_codec.store.manifest import Entry, from_text
from clip_feature_codec.store.packed.journal import Journal
from clip_feature_codec.store.packed.shards import Shard


class Names(Catalogue):
    """What a writer looks up; made from two columns of all shards when it first does, and 16 bytes a row.

    Args:
        folder: the store's folder.
        journal: of what is not sealed.
    """

    def __init__(self, folder: Path, journal: Journal) -> None:
        super().__init__(folder)
        self._journal = journal
        self._shards: Sequence[Shard] = ()
        self._keys: dict[str, list[_Keys]] = {}

    def follow(self, shards: Sequence[Shard]) -> None:
        """Go on with the shards as they are now."""
        kept = {id(shard) for shard in self._shards} & {id(shard) for shard in shards}
        for column, known in self._keys.items():
            by_shard = {id(keys.shard): keys for keys in known if id(keys.shard) in kept}
            self._keys[column] = [by_shard.get(id(shard)) or _Keys(shard, column) for shard in shards]
        self._shards = shards

    def named(self, name: str) -> Entry | None:
        """The entry of a name, whatever its case."""
        folded = name.casefold()
        waiting = self._journal.named(name)
        return waiting or self._find("name", folded, lambda entry: entry.name.casefold() == folded)

    def of_source(self, source: str) -> Entry | None:
        """The entry of a picture, by its path as seen from the store."""
        waiting = self._journal.of_source(source)
        return waiting or self._find("source", source, lambda entry: entry.source == source)

    def _find(self, column: str, text: str, fits: Callable[[Entry], bool]) -> Entry | None:
        if column not in self._keys:
            self._keys[column] = [_Keys(shard, column) for shard in self._shards]
        for keys in reversed(self._keys[column]):
            for row in keys.rows(text):
                if row not in keys.shard.dropped and fits(keys.shard.entry(row)):
                    return keys.shard.entry(row)
        return None


class _Keys:
    """One column of a shard, to find texts in; names are compared without case."""

    def __init__(self, shard: Shard, column: str) -> None:
        self.shard = shard
        texts: Iterable[str] = map(from_text, shard.column(column))
        if column == "name":
            texts = map(str.casefold, texts)
        keys: NDArray[np.int64] = np.fromiter(map(hash, texts), np.int64, shard.rows)
        order = np.argsort(keys, kind="stable").astype(np.int32)
        self._keys, self._order = keys[order], order

    def rows(self, text: str) -> Iterator[int]:
        """The rows that may have a text."""
        key = hash(text)
        at = int(np.searchsorted(self._keys, key))
        while at < len(self._keys) and self._keys[at] == key:
            yield int(self._order[at])
            at += 1
