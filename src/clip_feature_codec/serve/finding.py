"""Searching a store that grows: the nearest pictures, and those that are there more than once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from clip_feature_codec.serve.refusals import busy
from clip_feature_codec.serve.shelf import revision_of
from clip_feature_codec.store.opening import open_store
from clip_feature_codec.store.search.duplicates import Twin, find_duplicates
from clip_feature_codec.store.search.nearest import Hit, SearchIndex


class Finder:
    """The search index of a store, brought up to date as the store changes; for any number of threads.

    It reads the store by itself, so that the wall does not wait for a search.

    Args:
        folder: the store's.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock, self._duplicates_lock = Lock(), Lock()
        self._index: SearchIndex | None = None
        self._revision = ""
        self._groups: tuple[tuple[str, float], list[list[Twin]]] | None = None

    def nearest(self, query: NDArray[np.float32], count: int) -> list[Hit]:
        """The pictures of highest cosine with a vector (D,), best first."""
        with self._lock:
            return self._current().nearest(query, count)

    def duplicates(self, threshold: float) -> Sequence[Sequence[Twin]]:
        """Groups of pictures with cosines at or above a threshold; kept until the store changes.

        Raises:
            Refusal: somebody else's are being looked for.
        """
        if not self._duplicates_lock.acquire(blocking=False):
            raise busy()
        try:
            wanted = revision_of(self._folder), threshold
            if self._groups is None or self._groups[0] != wanted:
                # With a store of its own: others search meanwhile.
                index = SearchIndex.open(open_store(self._folder))
                self._groups = wanted, find_duplicates(index, threshold)
            return self._groups[1]
        finally:
            self._duplicates_lock.release()

    def _current(self) -> SearchIndex:
        """The index; only under the lock."""
        now = revision_of(self._folder)
        if self._index is None or now != self._revision:
            self._index, self._revision = SearchIndex.open(open_store(self._folder)), now
        return self._index
