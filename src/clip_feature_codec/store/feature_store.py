"""`FeatureStore`: reading a store, and adding streams to it so that a kill at any moment loses nothing."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import chain, count
from pathlib import Path, PurePosixPath

import numpy as np
from filelock import FileLock, Timeout

from clip_feature_codec.codec.bitstream import Stream
from clip_feature_codec.codec.feature_codec import FeatureCodec
from clip_feature_codec.codec.layers import Layers
from clip_feature_codec.codec.rate import DEFAULT_RATE, Rate
from clip_feature_codec.errors import BitstreamError, StoreError
from clip_feature_codec.files import write_atomic
from clip_feature_codec.names import CODEC_FILE, INDEX_FILE, MANIFEST_FILE
from clip_feature_codec.store.manifest import Entry, append_to_manifest, read_manifest
from clip_feature_codec.store.pending import NewPicture


class FeatureStore:
    """A folder of loose ``.clp`` files named after their pictures, a manifest, and the codec they need.

    Attributes:
        folder: the store's folder.
        codec: the tables all its streams are coded with.
    """

    def __init__(self, folder: Path, codec: FeatureCodec, entries: list[Entry]) -> None:
        self.folder = folder
        self.codec = codec
        self._real_folder = folder.resolve()
        self._source_folders: dict[Path, str] = {}
        self._by_name: dict[str, Entry] = {}
        self._by_source: dict[str, Entry] = {}
        for entry in entries:
            self._index(entry)

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
        return cls(folder, FeatureCodec.load(folder / CODEC_FILE), read_manifest(folder / MANIFEST_FILE))

    @classmethod
    def create(cls, folder: Path, codec: FeatureCodec) -> FeatureStore:
        """Make an empty store with ``codec``'s tables."""
        codec.save(folder / CODEC_FILE)
        return cls(folder, codec, [])

    @property
    def entries(self) -> list[Entry]:
        """One per picture, in the order in which they were first added."""
        return list(self._by_name.values())

    def __len__(self) -> int:
        return len(self._by_name)

    def stream_path(self, entry: Entry) -> Path:
        """Where an entry's stream lies."""
        return self.folder / f"{entry.name}.clp"

    def source_path(self, entry: Entry) -> Path:
        """Where an entry's picture lay when it was coded."""
        return self.folder / entry.source

    def read(self, entry: Entry) -> Stream:
        """An entry's stream, checked against the manifest's SHA-256 and taken apart.

        Raises:
            BitstreamError: the file is missing, not the one that was written, or no stream of this store's.
        """
        path = self.stream_path(entry)
        try:
            blob = path.read_bytes()
        except OSError as error:
            raise BitstreamError(f"{path}: cannot be read: {error.strerror}") from error
        if hashlib.sha256(blob).hexdigest() != entry.sha256:
            raise BitstreamError(
                f"{path}: SHA-256 differs from the manifest's: the file was changed or damaged"
            )
        try:
            return self.codec.parse(blob)
        except BitstreamError as error:
            raise BitstreamError(f"{path}: {error}") from None

    def whole_streams(self) -> tuple[list[tuple[Entry, Stream]], list[tuple[str, str]]]:
        """Every stream that is as it was written, with its entry, and (path, reason) of the others."""
        whole, failures = [], []
        for entry in self.entries:
            try:
                whole.append((entry, self.read(entry)))
            except BitstreamError as error:
                failures.append((str(self.stream_path(entry)), str(error)))
        return whole, failures

    def vectors(self, entries: Sequence[Entry] | None = None) -> np.ndarray:
        """The decoded vectors of ``entries`` (by default of all): float32 (N, D), unit length."""
        chosen = self.entries if entries is None else entries
        return self.codec.vectors([self.read(entry) for entry in chosen])

    def is_current(self, path: Path) -> bool:
        """Whether a picture is in the store as it is now: same size and time, and its stream is there."""
        entry = self._by_source.get(self._source(path))
        if entry is None:
            return False
        try:
            source, stream = path.stat(), self.stream_path(entry).stat()
        except OSError:
            return False
        found = source.st_size, source.st_mtime_ns, stream.st_size
        return found == (entry.source_bytes, entry.source_mtime_ns, entry.bytes)

    def add(
        self,
        img_dir: Path,
        pictures: Sequence[NewPicture],
        layers: Layers,
        rate: Rate = DEFAULT_RATE,
    ) -> None:
        """Code pictures and add them: the streams first, then their manifest lines in one append.

        A picture whose file is known already keeps its name, and its stream is replaced. Killed in between,
        the store has streams that the manifest does not know; adding them again writes the same ones.

        Args:
            img_dir: the folder being encoded.
            pictures: N pictures in it.
            layers: what they are coded from.
            rate: how large or how good the streams should be, and their layers.

        Raises:
            ConfigError: the rate cannot be met.
        """
        blobs = self.codec.encode(layers, rate)
        self._put(
            (self._entry(img_dir, picture), blob) for picture, blob in zip(pictures, blobs, strict=True)
        )

    def add_from(self, other: FeatureStore, entries: Sequence[Entry], blobs: Sequence[bytes]) -> None:
        """Add pictures of another store, under their names there, with streams of this store's codec."""
        moved = (replace(entry, source=self._source(other.source_path(entry))) for entry in entries)
        self._put(zip(moved, blobs, strict=True))

    def _put(self, streams: Iterable[tuple[Entry, bytes]]) -> None:
        """Write streams, then the manifest lines of those that are new or another now."""
        added = []
        for entry, blob in streams:
            entry = replace(entry, sha256=hashlib.sha256(blob).hexdigest(), bytes=len(blob))
            write_atomic(self.stream_path(entry), blob)
            if entry != self._by_name.get(entry.name.casefold()):
                self._index(entry)
                added.append(entry)
        if added:
            append_to_manifest(self.folder / MANIFEST_FILE, added)

    def _entry(self, img_dir: Path, picture: NewPicture) -> Entry:
        """A picture's entry, but for its stream; a known one keeps its name."""
        source = self._source(img_dir / picture.inside)
        known = self._by_source.get(source)
        return Entry(
            name=known.name if known else self._free_name(PurePosixPath(picture.inside)),
            source=source,
            sha256="",
            bytes=0,
            width=picture.width,
            height=picture.height,
            source_bytes=picture.source_bytes,
            source_mtime_ns=picture.source_mtime_ns,
        )

    def _index(self, entry: Entry) -> None:
        self._by_name[entry.name.casefold()] = entry
        self._by_source[entry.source] = entry

    def _source(self, path: Path) -> str:
        """A picture's path as seen from the store, so that both can move together; absolute on another drive.

        Of links, those to folders are followed, but not the last one: two names in a folder are two pictures.
        """
        folder = path.parent
        if folder not in self._source_folders:  # once for each: following links takes its time
            real = folder.resolve()
            # No way leads to another drive.
            with suppress(ValueError):
                real = Path(os.path.relpath(real, self._real_folder))
            self._source_folders[folder] = real.as_posix()
        return str(PurePosixPath(self._source_folders[folder], path.name))

    def _free_name(self, inside: PurePosixPath) -> str:
        """``a/x`` for ``a/x.jpg``; ``a/x.jpg`` when that is taken, then ``a/x.jpg~2`` and so on.

        Compared without case, since some file systems know no other way. A folder called ``y.clp`` becomes
        ``y.clp~``, to leave that name to the stream of ``y.jpg``.
        """
        folders = (f"{part}~" if part.casefold().endswith(".clp") else part for part in inside.parent.parts)
        inside = PurePosixPath(*folders, inside.name)
        candidates = chain([inside.with_suffix(""), inside], (f"{inside}~{i}" for i in count(2)))
        return next(name for name in map(str, candidates) if name.casefold() not in self._by_name)


def remove_strays(folder: Path) -> None:
    """Remove the unfinished files that a killed writer left in a store; only inside `exclusive`."""
    for pattern in (f".{CODEC_FILE}.*.tmp", f".{INDEX_FILE}.*.tmp", ".*.clp.*.tmp"):
        for stray in folder.rglob(pattern):
            stray.unlink(missing_ok=True)


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Keep other processes from writing to the store in ``folder`` during the block.

    Raises:
        StoreError: another process is writing to it, or the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock", timeout=0)
        lock.acquire()
    except Timeout:
        raise StoreError(f"{folder}: another process is writing to this store: wait for it to end") from None
    except OSError as error:
        raise StoreError(f"{folder}: cannot be written: {error.strerror}") from error
    try:
        yield
    finally:
        lock.release()
