"""A store read by many: blocks of its entries by their numbers, which are small to send."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from clip_feature_codec.encode.attempts import Attempts
from clip_feature_codec.errors import StoreError
from clip_feature_codec.store.manifest import Entry
from clip_feature_codec.store.opening import open_store

T = TypeVar("T")

NOTES = ".attempts"
"""The folder of `Attempts` in the folder that is written to."""


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

    def attempt(
        self, attempts: Attempts, block: range, done: str, work: Callable[[Sequence[Entry]], T]
    ) -> tuple[T, list[tuple[str, str]]]:
        """Work on the entries of a block.

        Args:
            attempts: notes of what was begun.
            block: the numbers of the entries.
            done: what is done with them, as a participle.
            work: does it with some of them.

        Returns:
            What ``work`` gave, and (path, reason) of the streams that processes die of, which it left out.
        """
        entries = self._entries[block.start : block.stop]
        # Another block may have the same streams: two that are under way at once are no deaths.
        key = [block.start, *(entry.sha256 for entry in entries)]
        paths = [str(self.store.stream_path(entry)) for entry in entries]
        return attempts.run(key, done, paths, lambda numbers: work([entries[i] for i in numbers]))
