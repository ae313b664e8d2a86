"""`FeatureStore`: a folder of streams, read and added to so that a kill at any moment loses nothing."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from clip_feature_codec.codec.feature_codec import FeatureCodec
from clip_feature_codec.errors import StoreError
from clip_feature_codec.files import write_atomic
from clip_feature_codec.names import CODEC_FILE, MANIFEST_FILE, OLD_MANIFEST_FILE
from clip_feature_codec.places import place_in
from clip_feature_codec.store.manifest import Entries, Entry, Manifest, Totals, stream_hash
from clip_feature_codec.store.old_manifest import read_old_manifest
from clip_feature_codec.store.parts import TablePart
from clip_feature_codec.store.writing import NewStream, WritableStore, is_below


class FeatureStore(WritableStore):
    """A folder of loose ``.clp`` files named after their pictures, a manifest, and the codec they need.

    A stream is written before its entry, and removed after it: what a kill leaves in between, nobody sees.
    """

    def __init__(self, folder: Path, codec: FeatureCodec, old_entries: Sequence[Entry] = ()) -> None:
        super().__init__(folder, codec)
        self._catalogue = self._manifest = Manifest(folder, folder / MANIFEST_FILE, old_entries)

    @classmethod
    def open(cls, folder: Path) -> FeatureStore:
        """Open an existing store.

        Raises:
            StoreError: the folder, its ``codec.json`` or its manifest is missing or unusable.
        """
        if not (folder / CODEC_FILE).is_file():
            raise StoreError(
                f"{folder} is not a store: it has no {CODEC_FILE} (encode a folder of pictures into it)"
            )
        there = (folder / MANIFEST_FILE).exists()
        old = [] if there else read_old_manifest(folder / OLD_MANIFEST_FILE)
        return cls(folder, FeatureCodec.load(folder / CODEC_FILE), old)

    @classmethod
    def create(cls, folder: Path, codec: FeatureCodec) -> FeatureStore:
        """Make an empty store with ``codec``'s tables."""
        codec.save(folder / CODEC_FILE)
        return cls(folder, codec)

    @property
    def entries(self) -> Entries:
        """One per picture, in the order in which they were first added, as the store is now."""
        return self._manifest.entries()

    def totals(self) -> Totals:
        """Sums over all entries; no stream is read."""
        return self._manifest.totals()

    def parts(self) -> list[TablePart]:
        """The manifest: one part."""
        return [TablePart(MANIFEST_FILE, self._manifest)]

    def fetch(self, entry: Entry) -> bytes:
        """An entry's stream as it lies there, unchecked. Raises OSError."""
        return self.stream_path(entry).read_bytes()

    def has_stream(self, entry: Entry) -> bool:
        """Whether an entry's file is there, of the right size."""
        try:
            # As text: to take a path apart takes longer than to look.
            return os.stat(self.stream_place(entry)).st_size == entry.bytes  # noqa: PTH116
        except OSError:
            return False

    def entries_below(self, root: Path | str) -> list[Entry]:
        """The entries of pictures that lay in a folder, or in one below it."""
        above = self._manifest.source(place_in(str(root), "x")).removesuffix("x")
        return [entry for entry in self._manifest.below(above) if is_below(entry.source, above)]

    def remove(self, entries: Sequence[Entry]) -> None:
        """Take pictures out: from the manifest first, then their streams.

        Killed in between, it leaves streams that nobody sees; the next call removes those as well.
        """
        left = [entry for entry in self._manifest.removed() if self._is_left_over(entry)]
        for entry in left:  # perhaps not to the end, the last time
            self._remove_stream(entry)
        if not entries:
            return
        self._keep_manifest()
        with self._manifest.transaction():
            self._manifest.forget()
            self._manifest.remove(entries)
        for entry in entries:
            self._remove_stream(entry)

    def move(self, entry: Entry, img_dir: Path, inside: str) -> None:
        """Follow a picture to another place and name; its stream is not coded again.

        Raises:
            BitstreamError: its stream is missing or damaged.
            OSError: it cannot be written under the new name.
        """
        blob = self.blob(entry)
        self._keep_manifest()
        with self._manifest.transaction():
            name = self._manifest.free_name(inside, given_up=entry.name)
            moved = replace(entry, name=name, source=self._manifest.source(img_dir / inside))
            write_atomic(self.stream_path(moved), blob)
            self._manifest.replace(entry, moved)
        self._remove_stream(entry)

    def _write(self, streams: Iterable[NewStream]) -> list[tuple[str, str]]:
        """Write streams, then the manifest's rows of those that are new or another now."""
        failures = []
        self._keep_manifest()
        with self._manifest.transaction():
            for where, known, entry, blob in streams:
                try:
                    write_atomic(self.stream_path(entry), blob)
                except OSError as error:
                    if error.errno != errno.ENAMETOOLONG:
                        raise
                    failures.append((where, f"{where}: {entry.name}.clp is too long a name: shorten it"))
                    continue
                if known is None:
                    self._manifest.append(entry)
                elif known != entry:
                    self._manifest.replace(known, entry)
        return failures

    def _keep_manifest(self) -> None:
        """Have the manifest on disk; one of before is upgraded."""
        if self._manifest.is_new:
            self._manifest.keep()
            (self.folder / OLD_MANIFEST_FILE).unlink(missing_ok=True)

    def _is_left_over(self, entry: Entry) -> bool:
        """Whether the stream of an entry that was removed is still there, and still that one."""
        try:
            return stream_hash(self.fetch(entry)) == entry.sha256
        except OSError:
            return False

    def _remove_stream(self, entry: Entry) -> None:
        """Remove the stream of an entry that is no more, and the folders that it leaves empty."""
        if entry.name in self._manifest:  # by now another picture's
            return
        path = self.stream_path(entry)
        path.unlink(missing_ok=True)
        for folder in path.relative_to(self.folder).parents:
            try:
                (self.folder / folder).rmdir()
            except OSError:  # not empty; the store's own folder never is
                return
