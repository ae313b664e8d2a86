"""The parts of a store, so that what is made of its streams can follow it at the cost of what has changed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from clip_feature_codec.store.manifest import Entry, Manifest
    from clip_feature_codec.store.packed.shards import Shard


class Part(Protocol):
    """Some of a store's entries, each with a number that stays its own. In order, they are the store's order.

    Attributes:
        name: what the part is called in its store.
        state: changes with any of its entries; empty where that cannot be told.
    """

    name: str
    state: str

    def hashes(self) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        """The numbers of its entries as they are now, ascending, (n,), and `Entry.sha256` of each, (n, 16).

        Zeros stand for what is no hash.
        """

    def entries(self, numbers: Sequence[int]) -> Iterator[Entry | None]:
        """The entries of ascending numbers as they are now; None for one that is no longer there."""


class TablePart:
    """The rows of a manifest, by their ids."""

    def __init__(self, name: str, manifest: Manifest) -> None:
        self.name, self._manifest = name, manifest
        self.state = manifest.state()

    def hashes(self) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        """See `Part.hashes`."""
        return self._manifest.hashes()

    def entries(self, numbers: Sequence[int]) -> Iterator[Entry | None]:
        """See `Part.entries`."""
        return self._manifest.of_ids(numbers)


class ShardPart:
    """The rows of a shard that are in the store."""

    def __init__(self, shard: Shard) -> None:
        self.name, self._shard = shard.path.name, shard
        gone = hashlib.sha256(np.array(sorted(shard.dropped), np.int64).tobytes()).hexdigest()
        self.state = f"{shard.fingerprint} {gone[:16]}"

    def hashes(self) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        """See `Part.hashes`."""
        numbers = np.setdiff1d(np.arange(self._shard.rows), list(self._shard.dropped), assume_unique=True)
        return numbers, self._shard.hashes()[numbers]

    def entries(self, numbers: Sequence[int]) -> Iterator[Entry | None]:
        """See `Part.entries`."""
        there = [n for n in numbers if 0 <= n < self._shard.rows and n not in self._shard.dropped]
        found = dict(zip(there, self._shard.entries(there), strict=True))
        return (found.get(number) for number in numbers)
