"""A packed store that grows by whole shards, which somebody else writes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from clip_feature_codec.codec.feature_codec import FeatureCodec
from clip_feature_codec.store.catalogue import Catalogue
from clip_feature_codec.store.manifest import DonePart, Entry
from clip_feature_codec.store.packed.packed_store import PackedStore
from clip_feature_codec.store.packed.shards import SHARD_ROWS
from clip_feature_codec.store.writing import NewStream

if TYPE_CHECKING:
    import pyarrow

_LONGEST_WAIT = 60.0  # seconds until what waits is sealed, though it is not enough for a whole shard

WriteShard = Callable[[Path, "pyarrow.Table", str], None]
"""Writes a shard, wherever it does: file, rows, id of the tables (see `shards.write_shard`)."""


class BulkStore(PackedStore):
    """A packed store whose new streams wait in memory, and not in the journal, until they are a shard.

    What comes from many machines is more than SQLite takes: here each picture costs what its name costs, and
    the shards are written elsewhere. Killed, it loses what waited, a minute's work at most; whoever writes
    to it does that work again (see `is_kept`), and finds the same names for it.

    Args:
        folder: the store's folder.
        codec: the tables of its streams.
        write: writes the shards.
    """

    def __init__(self, folder: Path, codec: FeatureCodec, write: WriteShard) -> None:
        super().__init__(folder, codec)
        self._writer = write
        self._catalogue = self._new_ones = _NewOnes(self._names)
        self._ended: list[tuple[str, DonePart]] = []
        self._sealed_at = time.monotonic()

    @property
    def is_kept(self) -> bool:
        """Whether everything that was put into it is in a shard."""
        return not self._new_ones.streams

    def finish(self) -> None:
        """Seal what waits, and write the shards again that rows were dropped from."""
        super().finish()
        self._let_wait()

    def finish_part(self, key: str, done: DonePart) -> None:
        """Keep that a part of a source was encoded to its end, as soon as its pictures are in a shard."""
        self._ended.append((key, done))
        if self.is_kept:
            self._let_wait()

    def _write(self, streams: Iterable[NewStream]) -> list[tuple[str, str]]:
        """Have streams wait; when there are enough, or they have waited for long, they become a shard."""
        for new in streams:
            if new.known != new.entry:
                self._new_ones.add(new)
        waited = time.monotonic() - self._sealed_at
        if len(self._new_ones.streams) >= SHARD_ROWS or waited > _LONGEST_WAIT:
            self._seal()
            self._let_wait()
        return []

    def _waiting(self) -> Iterator[tuple[Entry, bytes]]:
        """What waits in the journal since an earlier run, and what waits here, which takes its places."""
        for new in self._new_ones.streams.values():
            if new.known is not None:
                self._let_go(new.known)
        yield from super()._waiting()
        yield from ((new.entry, new.blob) for new in self._new_ones.streams.values())

    def _write_shard(self, path: Path, table: pyarrow.Table, codec_id: str) -> None:
        self._writer(path, table, codec_id)

    def _let_wait(self) -> None:
        """Begin with nothing that waits."""
        self._new_ones.clear()
        for key, done in self._ended:
            super().finish_part(key, done)
        self._ended = []
        self._sealed_at = time.monotonic()


class _NewOnes(Catalogue):
    """A store's catalogue with streams that wait in front of it.

    Attributes:
        streams: what waits, by name, in the order in which it came.
    """

    def __init__(self, behind: Catalogue) -> None:
        super().__init__(behind.folder)
        self._behind = behind
        self.clear()

    def clear(self) -> None:
        self.streams: dict[str, NewStream] = {}
        self._by_name: dict[str, Entry] = {}
        self._by_source: dict[str, Entry] = {}

    def add(self, new: NewStream) -> None:
        """Have a stream wait, perhaps instead of one of the same picture."""
        before = self.streams.pop(new.entry.name, None)
        known = before.known if before else new.known
        self.streams[new.entry.name] = new._replace(known=known)
        self._by_name[new.entry.name.casefold()] = self._by_source[new.entry.source] = new.entry

    def named(self, name: str) -> Entry | None:
        """The entry of a name, whatever its case."""
        return self._by_name.get(name.casefold()) or self._behind.named(name)

    def of_source(self, source: str) -> Entry | None:
        """The entry of a picture, by its path as seen from the store."""
        return self._by_source.get(source) or self._behind.of_source(source)

    def after(self, entry: Entry | None) -> Iterator[Entry]:
        """The entries behind one, or all of them, in order; not those that wait."""
        return self._behind.after(entry)
