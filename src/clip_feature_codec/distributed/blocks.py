"""A store read by many: blocks of its entries by their numbers, which are small to send."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from clip_feature_codec.errors import StoreError
from clip_feature_codec.store.manifest import Entry
from clip_feature_codec.store.opening import open_store


def blocks(count: int, size: int, start: int = 0) -> list[range]:
    """The numbers of so many entries, from one on, in blocks."""
    return [range(first, min(first + size, count)) for first in range(start, count, size)]


class StoreReader:
    """A store and its entries, in a process that reads some of them.

    Args:
        folder: the store's folder.
        count: how many entries it had when the work was divided.

    Raises:
        StoreError: it has others by now; or see `open_store`.
    """

    def __init__(self, folder: Path, count: int) -> None:
        self.store = open_store(folder)
        self._entries = self.store.entries
        if len(self._entries) != count:
            raise StoreError(f"{folder}: was changed while it was read: start again")

    def entries(self, block: range) -> Sequence[Entry]:
        """The entries of a block."""
        return self._entries[block.start : block.stop]
