"""`WritableStore`: what adds pictures to a store, whatever it keeps their streams in."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from clip_feature_codec.codec.feature_codec import FeatureCodec
from clip_feature_codec.codec.layers import Layers
from clip_feature_codec.codec.rate import DEFAULT_RATE, Rate
from clip_feature_codec.places import is_url, place_in, split_archive
from clip_feature_codec.store.catalogue import Catalogue, InTurn
from clip_feature_codec.store.manifest import DonePart, Entry, Manifest, stream_hash
from clip_feature_codec.store.protocol import Store


@dataclass(frozen=True)
class NewPicture:
    """What a store has to know of a picture to add it.

    Attributes:
        inside: its path inside the folder being encoded, POSIX; the stream is named after it.
        width, height: size of the upright picture, in pixels.
        source_bytes, source_mtime_ns: size and modification time of the file that was read.
        place: where it is, where that is another place than ``inside`` the folder (see `places`).
    """

    inside: str
    width: int
    height: int
    source_bytes: int
    source_mtime_ns: int
    place: str = ""

    @property
    def aspect(self) -> float:
        """Width / height."""
        return self.width / self.height


class NewStream(NamedTuple):
    """A stream on its way into a store.

    Attributes:
        where: what its picture is called in a failure.
        known: the entry that its picture has already.
        entry: the one that it is to have; of the same name, where there is one.
        blob: the stream.
    """

    where: str
    known: Entry | None
    entry: Entry
    blob: bytes


class WritableStore(Store):
    """A store that pictures are added to and taken out of.

    A kind of store says where its streams go: `_write`, `remove`, `move`, `has_stream`, and `finish`.

    Attributes:
        folder: the store's folder.
        codec: the tables all its streams are coded with.
    """

    _catalogue: Catalogue
    _manifest: Manifest

    def __init__(self, folder: Path, codec: FeatureCodec) -> None:
        self.folder = folder
        self.codec = codec

    @abstractmethod
    def has_stream(self, entry: Entry) -> bool:
        """Whether an entry's stream is there, as far as that can be told without reading it."""

    @abstractmethod
    def remove(self, entries: Sequence[Entry]) -> None:
        """Take pictures out, and their streams; killed in between, it leaves nothing that readers see."""

    @abstractmethod
    def move(self, entry: Entry, img_dir: Path, inside: str) -> None:
        """Follow a picture to another place and name; its stream is not coded again.

        Raises:
            BitstreamError: its stream is missing or damaged.
            OSError: it cannot be written under the new name.
        """

    @abstractmethod
    def entries_below(self, root: Path | str) -> list[Entry]:
        """The entries of pictures that lay in a folder, or in one below it; it may be a URL."""

    @property
    def is_kept(self) -> bool:
        """Whether everything that was put into it stays there, whoever is killed now."""
        return True

    def finish(self) -> None:
        """Put what was written into its final form, at the end of a piece of work."""

    @abstractmethod
    def _write(self, streams: Iterable[NewStream]) -> list[tuple[str, str]]:
        """Write streams, and all their entries at once; give (path, reason) of those that cannot be.

        The entries before it have been put into the catalogue when the next is asked for.
        """

    def named(self, name: str) -> Entry | None:
        """The entry of a name, if there is one."""
        return self._catalogue.named(name)

    def stream_place(self, entry: Entry) -> str:
        """Where an entry's stream lies, or would lie if the store were unpacked."""
        return place_in(str(self.folder), f"{entry.name}.clp")

    def source_place(self, entry: Entry) -> str:
        """Where an entry's picture was when it was coded: a path, a URL, or in an archive (see `places`)."""
        if is_url(entry.source) or os.path.isabs(entry.source):  # noqa: PTH117 (asked of each picture)
            return entry.source
        return place_in(str(self.folder), entry.source)

    def entry_of(self, place: Path | str) -> Entry | None:
        """The entry of the picture at a place, if it is known."""
        return self._catalogue.of_picture(place)

    def has(self, place: Path | str, size: int, mtime_ns: int) -> bool:
        """Whether the picture at a place is in the store, of this size and time, and its stream is there."""
        return self._has(self._catalogue, place, size, mtime_ns)

    def has_each(self, pictures: Iterable[tuple[str, int, int]]) -> Iterator[bool]:
        """The same of many, while none is added: quick where they come in the order of the entries."""
        in_turn = InTurn(self._catalogue)
        return (self._has(in_turn, *picture) for picture in pictures)

    def _has(self, catalogue: Catalogue, place: Path | str, size: int, mtime_ns: int) -> bool:
        entry = catalogue.of_picture(place)
        if entry is None or (entry.source_bytes, entry.source_mtime_ns) != (size, mtime_ns):
            return False
        return self.has_stream(entry)

    def done_part(self, key: str) -> DonePart | None:
        """What is kept of an archive or a part of one, by its place, if it was encoded to its end."""
        return self._manifest.part(self._catalogue.source(key))

    def finish_part(self, key: str, done: DonePart) -> None:
        """Keep that an archive, or a part of one, was encoded to its end."""
        self._keep_manifest()
        self._manifest.keep_part(self._catalogue.source(key), done)

    def forget_parts(self, entries: Iterable[Entry]) -> None:
        """Have the archives of some entries read again when they are encoded the next time."""
        for archive in {archive for archive, name in map(split_archive, (e.source for e in entries)) if name}:
            self._manifest.forget_parts(archive)

    def _keep_manifest(self) -> None:
        """Have the manifest on disk."""
        self._manifest.keep()

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
        """Add N pictures with their streams.

        A picture whose file is known already keeps its name, and its stream is replaced. Killed in between,
        none of them has been added; adding them again writes the same ones.

        Returns:
            (path, reason) of the pictures whose stream's name is too long for the file system.
        """
        streams = (
            self._new(picture.place or img_dir / picture.inside, picture, blob)
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
        streams = (self._new_from(other, entry, blob) for entry, blob in zip(entries, blobs, strict=True))
        return self._write(streams)

    def has_from(self, other: Store, entry: Entry, sha256: str | None = None) -> bool:
        """Whether a picture of another store is here already, as it is there.

        Args:
            other: the other store.
            entry: its entry there.
            sha256: that of its stream, where it has to be that very one.
        """
        known = self.entry_of(other.source_place(entry))
        if known is None or (sha256 is not None and known.sha256 != sha256):
            return False
        own, theirs = ((e.width, e.height, e.source_bytes, e.source_mtime_ns) for e in (known, entry))
        return own == theirs and self.has_stream(known)

    def _new(self, place: Path | str, picture: NewPicture, blob: bytes) -> NewStream:
        """A new picture's stream; a known one keeps its name."""
        source = self._catalogue.source(place)
        known = self._catalogue.of_source(source)
        entry = Entry(
            name=known.name if known else self._catalogue.free_name(picture.inside),
            source=source,
            sha256="",
            bytes=0,
            width=picture.width,
            height=picture.height,
            source_bytes=picture.source_bytes,
            source_mtime_ns=picture.source_mtime_ns,
        )
        return NewStream(str(place), known, self._with_stream(entry, blob), blob)

    def _new_from(self, other: Store, entry: Entry, blob: bytes) -> NewStream:
        """A stream of another store as one of this; a known picture keeps its name."""
        source = self._catalogue.source(other.source_place(entry))
        known = self._catalogue.of_source(source)
        inside = entry.name + PurePosixPath(source).suffix
        name = known.name if known else self._catalogue.free_name(inside, first_choice=entry.name)
        moved = self._with_stream(entry, blob, name=name, source=source, place=None)
        return NewStream(other.stream_place(entry), known, moved, blob)

    def _with_stream(self, entry: Entry, blob: bytes, **changes: Any) -> Entry:
        stream = self.codec.parse(blob)
        return replace(
            entry,
            **changes,
            sha256=stream_hash(blob),
            bytes=len(blob),
            semantic_bytes=len(stream.semantic or b""),
            layout_bytes=len(stream.layout or b""),
        )


def is_below(source: str, above: str) -> bool:
    """Whether a source lies in a folder, given as it and sources begin (``../photos/``), or below it."""
    return source.startswith(above) and not source[len(above) :].startswith(("../", "/"))
