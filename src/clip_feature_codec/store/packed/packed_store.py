"""`PackedStore`: streams in Parquet shards, added to so that a kill at any moment loses nothing.

New streams wait in the journal, where each batch is one transaction. When there are enough for a shard, or at
the end of a piece of work, they are sealed: written as a shard, which then takes their place in one
transaction. Pictures that are taken out or coded again are dropped from their shard, which is written again
when the next is sealed.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from clip_feature_codec.codec.feature_codec import FeatureCodec
from clip_feature_codec.errors import StoreError
from clip_feature_codec.names import CODEC_FILE, PACKED_FILE, SHARDS_FOLDER
from clip_feature_codec.places import place_in
from clip_feature_codec.store.manifest import Entry, Totals
from clip_feature_codec.store.packed.journal import Journal, place_of, shard_name
from clip_feature_codec.store.packed.names import Names
from clip_feature_codec.store.packed.rows import Rows
from clip_feature_codec.store.packed.shards import SHARD_ROWS, Shard, joined, to_table, write_shard
from clip_feature_codec.store.parts import Part, ShardPart, TablePart
from clip_feature_codec.store.writing import NewStream, WritableStore, is_below

if TYPE_CHECKING:
    import pyarrow


class PackedStore(WritableStore):
    """Streams in Parquet shards, a journal, and the codec that they need."""

    def __init__(self, folder: Path, codec: FeatureCodec) -> None:
        super().__init__(folder, codec)
        self._manifest = self._journal = Journal(folder)
        # By number, those that have been replaced since included: who has their entries can still read them.
        self._opened: list[Shard] = []
        self._shards: list[Shard] = []
        self._catalogue = self._names = Names(folder, self._journal)
        self._refresh()

    @classmethod
    def open(cls, folder: Path) -> PackedStore:
        """Open an existing store.

        Raises:
            StoreError: ``codec.json``, a shard or the journal is missing or unusable.
        """
        if not (folder / CODEC_FILE).is_file():
            raise StoreError(f"{folder} is not a store: it has no {CODEC_FILE} for its shards")
        return cls(folder, FeatureCodec.load(folder / CODEC_FILE))

    @classmethod
    def create(cls, folder: Path, codec: FeatureCodec) -> PackedStore:
        """Make an empty store with ``codec``'s tables."""
        codec.save(folder / CODEC_FILE)
        Journal(folder).begin()
        return cls(folder, codec)

    @property
    def entries(self) -> Rows:
        """One per picture, in the order in which they were added, as the store is now."""
        with self._journal.transaction(reading=True):  # shards and journal of one moment
            self._refresh()
            return Rows(self._shards, self._journal.entries())

    def __len__(self) -> int:
        return len(self.entries)

    def totals(self) -> Totals:
        """Sums over all entries; of the shards, three columns are read."""
        with self._journal.transaction(reading=True):
            self._refresh()
            sums = self._journal.totals()
        for shard in self._shards:
            sums += shard.totals()
            for entry in map(shard.entry, shard.dropped):
                sums -= Totals(1, entry.bytes, entry.semantic_bytes or 0, entry.layout_bytes or 0)
        return sums

    def named(self, name: str) -> Entry | None:
        """The entry of a name, as it is written; of the shards, only the groups that may have it are read."""
        waiting = self._journal.named(name)
        if waiting is not None and waiting.name == name:
            return waiting
        self._refresh()
        for shard in reversed(self._shards):
            for row in shard.rows_named(name):
                if row not in shard.dropped:
                    return shard.entry(row)
        return None

    def parts(self) -> list[Part]:
        """The shards, and what waits for one."""
        with self._journal.transaction(reading=True):
            self._refresh()
            return [*map(ShardPart, self._shards), TablePart(PACKED_FILE, self._journal)]

    def fetch(self, entry: Entry) -> bytes:
        """An entry's stream as it lies there, unchecked. Raises OSError."""
        number, row = entry.place or (-1, -1)
        if number >= 0:
            return self._opened[number].stream(row)
        stream = self._journal.stream(row)
        if stream is not None:
            return stream
        sealed = self.named(entry.name)  # since it was listed
        if sealed is None or sealed.place is None:
            raise FileNotFoundError(errno.ENOENT, "it is no longer in the store")
        return self._opened[sealed.place[0]].stream(sealed.place[1])

    def has_stream(self, entry: Entry) -> bool:
        """Whether an entry has a stream: always, since they lie in one place."""
        return True

    def entries_below(self, root: Path | str) -> list[Entry]:
        """The entries of pictures that lay in a folder, or in one below it."""
        above = self._names.source(place_in(str(root), "x")).removesuffix("x")
        return [entry for entry in self.entries if is_below(entry.source, above)]

    def remove(self, entries: Sequence[Entry]) -> None:
        """Take pictures out: at once for our readers, for others when the shards are written again."""
        with self._changing():
            for entry in entries:
                self._let_go(entry)

    def move(self, entry: Entry, img_dir: Path, inside: str) -> None:
        """Follow a picture to another place and name; its stream is not coded again.

        Raises:
            BitstreamError: its stream is damaged.
        """
        blob = self.blob(entry)
        with self._changing():
            name = self._names.free_name(inside, given_up=entry.name)
            source = self._names.source(img_dir / inside)
            self._let_go(entry)
            self._journal.append(replace(entry, name=name, source=source), blob)

    def finish(self) -> None:
        """Seal what waits, and write the shards again that rows were dropped from."""
        self._seal(all_changes=True)
        with self._changing():  # so that nobody is writing a shard that is not the store's yet
            for stray in list(self._journal.strays()):
                stray.unlink(missing_ok=True)
        self._journal.shrink()

    def _write(self, streams: Iterable[NewStream]) -> list[tuple[str, str]]:
        """Put streams into the journal; when there are enough of them, they become a shard."""
        with self._changing():
            for _, known, entry, blob in streams:
                if known == entry:
                    continue
                if known is not None:
                    self._let_go(known)
                self._journal.append(entry, blob)
        if self._journal.span() >= SHARD_ROWS:
            self._seal()
        return []

    def _let_go(self, entry: Entry) -> None:
        """Take an entry out of its shard, or of the journal."""
        number, row = entry.place or (-1, -1)
        if number < 0:
            self._journal.remove([entry])
        else:
            shard = self._opened[number]
            self._journal.drop(shard.path.name, row)
            shard.dropped.add(row)

    def _seal(self, *, all_changes: bool = False) -> None:
        """Write what waits as shards, together with the small ones at the end.

        A shard at the end is taken along while it is not much larger than what comes behind it: so there are
        few of them however often a little is added, and each row is written again only a few times.

        Args:
            all_changes: also write those shards again that rows were dropped from.
        """
        with self._changing():
            table, kept, written = to_table(self._waiting()), list(self._shards), []
            while kept and table.num_rows and len(kept[-1]) < min(SHARD_ROWS, 2 * table.num_rows):
                table = joined(kept.pop().table(), table)
            for shard in [shard for shard in kept if all_changes and shard.dropped]:
                kept.remove(shard)
                written += self._written(place_of(shard.path.name)[0], shard.table())
            last = place_of(kept[-1].path.name)[0] if kept else -1
            written += self._written(max(last, *(place_of(name)[0] for name in written), -1) + 1, table)
            gone = [shard.path.name for shard in self._shards if shard not in kept]
            self._journal.seal(gone, written)
        self._refresh()
        for name in gone:
            (self.folder / SHARDS_FOLDER / name).unlink(missing_ok=True)

    def _written(self, place: int, table: pyarrow.Table) -> list[str]:
        """Write rows as shards from a place on, under names that no shard has; give these."""
        version = max((place_of(shard.path.name)[1] for shard in self._shards), default=-1) + 1
        names = []
        for number, start in enumerate(range(0, table.num_rows, SHARD_ROWS), place):
            names.append(shard_name(number, version))
            path = self.folder / SHARDS_FOLDER / names[-1]
            self._write_shard(path, table.slice(start, SHARD_ROWS), self.codec.codec_id.hex())
        return names

    def _waiting(self) -> Iterator[tuple[Entry, bytes]]:
        """What is to be sealed, in order; asked for in the transaction that seals it."""
        return self._journal.waiting()

    def _write_shard(self, path: Path, table: pyarrow.Table, codec_id: str) -> None:
        write_shard(path, table, codec_id)

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Change the store in one transaction, as it is now, whoever has changed it since it was opened."""
        self._journal.keep()
        try:
            with self._journal.transaction():
                self._refresh()
                yield
        except BaseException:
            self._shards = []  # what was dropped from them is in them again
            raise

    def _refresh(self) -> None:
        """Follow what others, or we, have written since the shards were last listed.

        They are opened in the transaction that lists them: whoever replaces one waits for its end.
        """
        with self._journal.transaction(reading=True):
            names, dropped = self._journal.shards(), self._journal.dropped()
            there = {shard.path.name: shard for shard in self._shards}
            if names == list(there) and all(
                dropped.get(name, set()) == there[name].dropped for name in names
            ):
                return
            self._shards = [self._opened_shard(name, dropped.get(name, set()), there) for name in names]
        self._names.follow(self._shards)

    def _opened_shard(self, name: str, dropped: set[int], there: dict[str, Shard]) -> Shard:
        shard = there.get(name)
        if shard is None or shard.dropped != dropped:
            shard = Shard(self.folder / SHARDS_FOLDER / name, len(self._opened), dropped)
            self._opened.append(shard)
        return shard
