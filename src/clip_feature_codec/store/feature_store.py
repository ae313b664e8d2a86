"""`FeatureStore`: a folder of streams, read and added to so that a kill at any moment loses nothing."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from clip_feature_codec.codec.bitstream import Stream
from clip_feature_codec.codec.feature_codec import FeatureCodec
from clip_feature_codec.codec.layers import Layers
from clip_feature_codec.codec.rate import DEFAULT_RATE, Rate
from clip_feature_codec.errors import BitstreamError, StoreError
from clip_feature_codec.files import write_atomic
from clip_feature_codec.names import CODEC_FILE, MANIFEST_FILE
from clip_feature_codec.store.catalogue import Catalogue
from clip_feature_codec.store.manifest import Entry, append_to_manifest, read_manifest
from clip_feature_codec.store.protocol import Store


@dataclass(frozen=True)
class NewPicture:
    """What a store has to know of a picture to add it.

    Attributes:
        inside: its path inside the folder being encoded, POSIX; the stream is named after it.
        width, height: size of the upright picture, in pixels.
        source_bytes, source_mtime_ns: size and modification time of the file that was read.
    """

    inside: str
    width: int
    height: int
    source_bytes: int
    source_mtime_ns: int

    @property
    def aspect(self) -> float:
        """Width / height."""
        return self.width / self.height

    def is_current(self, img_dir: Path) -> bool:
        """Whether the file is still the one that was read, as far as its size and time tell."""
        try:
            status = (img_dir / self.inside).stat()
        except OSError:
            return False
        return (status.st_size, status.st_mtime_ns) == (self.source_bytes, self.source_mtime_ns)


class FeatureStore(Store):
    """A folder of loose ``.clp`` files named after their pictures, a manifest, and the codec they need.

    Attributes:
        folder: the store's folder.
        codec: the tables all its streams are coded with.
    """

    def __init__(
        self, folder: Path, codec: FeatureCodec, entries: Sequence[Entry], removed: Sequence[Entry] = ()
    ) -> None:
        self.folder = folder
        self.codec = codec
        self._catalogue = Catalogue(folder, entries)
        self._removed = list(removed)

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
        manifest = read_manifest(folder / MANIFEST_FILE)
        return cls(folder, FeatureCodec.load(folder / CODEC_FILE), manifest.entries, manifest.removed)

    @classmethod
    def create(cls, folder: Path, codec: FeatureCodec) -> FeatureStore:
        """Make an empty store with ``codec``'s tables."""
        codec.save(folder / CODEC_FILE)
        return cls(folder, codec, [])

    @property
    def entries(self) -> list[Entry]:
        """One per picture, in the order in which they were first added."""
        return self._catalogue.entries

    def __len__(self) -> int:
        return len(self._catalogue)

    def stream_path(self, entry: Entry) -> Path:
        """Where an entry's stream lies."""
        return self.folder / f"{entry.name}.clp"

    def source_path(self, entry: Entry) -> Path:
        """Where an entry's picture lay when it was coded."""
        return self.folder / entry.source

    def entry_of(self, path: Path) -> Entry | None:
        """The entry of the picture at a path, if it is known."""
        return self._catalogue.of_picture(path)

    def entries_below(self, img_dir: Path) -> list[Entry]:
        """The entries of pictures that lay in a folder, or in one below it."""
        above = self._catalogue.source(img_dir / "x").removesuffix("x")
        return [
            entry
            for entry in self.entries
            if entry.source.startswith(above) and not entry.source[len(above) :].startswith(("../", "/"))
        ]

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

    def is_current(self, path: Path) -> bool:
        """Whether a picture is in the store as it is now: same size and time, and its stream is there."""
        entry = self.entry_of(path)
        if entry is None:
            return False
        try:
            source, stream = path.stat(), self.stream_path(entry).stat()
        except OSError:
            return False
        found = source.st_size, source.st_mtime_ns, stream.st_size
        return found == (entry.source_bytes, entry.source_mtime_ns, entry.bytes)

    def add(
        self, img_dir: Path, pictures: Sequence[NewPicture], layers: Layers, rate: Rate = DEFAULT_RATE
    ) -> list[tuple[str, str]]:
        """Code pictures and add them (see `put`).

        Args:
            img_dir: the folder being encoded.
            pictures: N pictures in it.
            layers: what they are coded from.
            rate: how large or how good the streams should be, and their layers.

        Returns:
            (path, reason) of the pictures whose stream's name is too long for the file system.

        Raises:
            ConfigError: the rate cannot be met.
        """
        return self.put(img_dir, pictures, self.codec.encode(layers, rate))

    def put(
        self, img_dir: Path, pictures: Sequence[NewPicture], blobs: Sequence[bytes]
    ) -> list[tuple[str, str]]:
        """Add N pictures with their streams: the streams first, then their manifest lines in one append.

        A picture whose file is known already keeps its name, and its stream is replaced. Killed in between,
        the store has streams that the manifest does not know; adding them again writes the same ones.

        Returns:
            (path, reason) of the pictures whose stream's name is too long for the file system.
        """
        streams = (
            (img_dir / picture.inside, self._entry(img_dir, picture), blob)
            for picture, blob in zip(pictures, blobs, strict=True)
        )
        return self._write(streams)

    def add_from(
        self, other: Store, entries: Sequence[Entry], blobs: Sequence[bytes]
    ) -> list[tuple[str, str]]:
        """Add N pictures of another store, with streams of this store's codec.

        They have their names there where those are free, and keep them when they are added again.

        Returns:
            (path, reason) of the streams whose names are too long for the file system.
        """
        streams = (
            (other.stream_path(entry), self._entry_from(other, entry), blob)
            for entry, blob in zip(entries, blobs, strict=True)
        )
        return self._write(streams)

    def remove(self, entries: Sequence[Entry]) -> None:
        """Take pictures out: from the manifest first, then their streams.

        Killed in between, it leaves streams that nobody sees; the next call removes those as well.
        """
        for entry in self._removed:  # perhaps not to the end, the last time
            if self._is_left_over(entry):
                self._remove_stream(entry)
        if not entries:
            return
        append_to_manifest(self.folder / MANIFEST_FILE, removed=[entry.name for entry in entries])
        for entry in entries:
            self._catalogue.drop(entry)
        for entry in entries:
            self._remove_stream(entry)
        self._removed = list(entries)

    def move(self, entry: Entry, img_dir: Path, inside: str) -> None:
        """Follow a picture to another place and name; its stream is not coded again.

        Raises:
            BitstreamError: its stream is missing or damaged.
            OSError: it cannot be written under the new name.
        """
        stream = self.read(entry)
        self._catalogue.drop(entry)
        name = self._catalogue.free_name(PurePosixPath(inside))
        moved = replace(entry, name=name, source=self._catalogue.source(img_dir / inside))
        try:
            write_atomic(self.stream_path(moved), stream.blob)
            gone = [] if name == entry.name else [entry.name]
            append_to_manifest(self.folder / MANIFEST_FILE, [moved], gone)
        except OSError:
            self._catalogue.put(entry)
            raise
        self._catalogue.put(moved)
        self._remove_stream(entry)

    def _write(self, streams: Iterable[tuple[Path, Entry, bytes]]) -> list[tuple[str, str]]:
        """Write streams, then the manifest lines of those that are new or another now.

        Args:
            streams: what each is called in a failure, its entry, and itself.
        """
        added, failures = [], []
        for path, planned, blob in streams:
            entry = replace(planned, sha256=hashlib.sha256(blob).hexdigest(), bytes=len(blob))
            try:
                write_atomic(self.stream_path(entry), blob)
            except OSError as error:
                if error.errno != errno.ENAMETOOLONG:
                    raise
                failures.append((str(path), f"{path}: {entry.name}.clp is too long a name: shorten it"))
                continue
            if entry != self._catalogue.named(entry.name):
                self._catalogue.put(entry)
                added.append(entry)
        if added:
            append_to_manifest(self.folder / MANIFEST_FILE, added)
        return failures

    def _entry(self, img_dir: Path, picture: NewPicture) -> Entry:
        """A picture's entry, but for its stream; a known one keeps its name."""
        path = img_dir / picture.inside
        known = self.entry_of(path)
        return Entry(
            name=known.name if known else self._catalogue.free_name(PurePosixPath(picture.inside)),
            source=self._catalogue.source(path),
            sha256="",
            bytes=0,
            width=picture.width,
            height=picture.height,
            source_bytes=picture.source_bytes,
            source_mtime_ns=picture.source_mtime_ns,
        )

    def _entry_from(self, other: Store, entry: Entry) -> Entry:
        """An entry of another store as one of this, but for its stream; a known picture keeps its name."""
        path = other.source_path(entry)
        known = self.entry_of(path)
        inside = PurePosixPath(entry.name + path.suffix)
        name = known.name if known else self._catalogue.free_name(inside, first_choice=entry.name)
        return replace(entry, name=name, source=self._catalogue.source(path))

    def _is_left_over(self, entry: Entry) -> bool:
        """Whether the stream of an entry that was removed is still there, and still that one."""
        try:
            return hashlib.sha256(self.stream_path(entry).read_bytes()).hexdigest() == entry.sha256
        except OSError:
            return False

    def _remove_stream(self, entry: Entry) -> None:
        """Remove the stream of an entry that is no more, and the folders that it leaves empty."""
        if entry.name in self._catalogue:  # by now another picture's
            return
        path = self.stream_path(entry)
        path.unlink(missing_ok=True)
        for folder in path.relative_to(self.folder).parents:
            try:
                (self.folder / folder).rmdir()
            except OSError:  # not empty; the store's own folder never is
                return
