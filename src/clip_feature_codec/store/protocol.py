"""What readers ask of a store, whatever it keeps its streams in."""

from __future__ import annotations

import stat
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from clip_feature_codec.codec.bitstream import Stream
from clip_feature_codec.codec.feature_codec import FeatureCodec
from clip_feature_codec.errors import BitstreamError
from clip_feature_codec.places import is_url, split_archive
from clip_feature_codec.store.manifest import Entry, Totals, stream_hash
from clip_feature_codec.store.parts import Part

ReadBlock: TypeAlias = tuple[list[tuple[Entry, Stream]], list[tuple[str, str]]]
"""Streams that are whole, with their entries, and (path, reason) of those that are not."""


class Store(Protocol):
    """Streams of one codec with what is known of their pictures; opened by `opening.open_store`.

    A kind of store derives from this class and says how an entry's stream is fetched.

    Attributes:
        folder: where the codec's tables, the trained decoder and the search index lie.
        codec: the tables that all its streams are coded with.
    """

    folder: Path
    codec: FeatureCodec

    @property
    @abstractmethod
    def entries(self) -> Sequence[Entry]:
        """One per picture, in the order in which they were first added, as the store is now.

        They are read as they are asked for: whoever needs them more than once asks for this once.
        """

    @abstractmethod
    def named(self, name: str) -> Entry | None:
        """The entry of a name, if there is one."""

    @abstractmethod
    def totals(self) -> Totals:
        """Sums over all entries; no stream is read."""

    @abstractmethod
    def parts(self) -> Sequence[Part]:
        """What the entries lie in, in the store's order, as it is now."""

    @abstractmethod
    def fetch(self, entry: Entry) -> bytes:
        """An entry's stream as it lies there, unchecked.

        Raises:
            OSError: it cannot be read.
        """

    @abstractmethod
    def stream_place(self, entry: Entry) -> str:
        """Where an entry's stream lies: what it is called in messages and reports."""

    def stream_path(self, entry: Entry) -> Path:
        """The same as a path."""
        return Path(self.stream_place(entry))

    @abstractmethod
    def source_place(self, entry: Entry) -> str:
        """Where an entry's picture was when it was coded: a path, a URL, or in an archive (see `places`)."""

    def __len__(self) -> int:
        return self.totals().pictures

    def blob(self, entry: Entry) -> bytes:
        """An entry's stream, checked against its SHA-256.

        Raises:
            BitstreamError: it is missing or not the one that was written.
        """
        path = self.stream_path(entry)
        try:
            blob = self.fetch(entry)
        except OSError as error:
            raise BitstreamError(f"{path}: cannot be read: {error.strerror}") from error
        if stream_hash(blob) != entry.sha256:
            raise BitstreamError(
                f"{path}: SHA-256 differs from the manifest's: the file was changed or damaged"
            )
        return blob

    def read(self, entry: Entry) -> Stream:
        """An entry's stream, checked against its SHA-256 and taken apart.

        Raises:
            BitstreamError: it is missing, not the one that was written, or no stream of this store's codec.
        """
        blob = self.blob(entry)
        try:
            return self.codec.parse(blob)
        except BitstreamError as error:
            raise BitstreamError(f"{self.stream_path(entry)}: {error}") from None

    def whole_streams(
        self, failures: list[tuple[str, str]], entries: Sequence[Entry] | None = None
    ) -> Iterator[tuple[Entry, Stream]]:
        """Every stream that is as it was written, with its entry, one at a time.

        Args:
            failures: takes (path, reason) of the others.
            entries: of these; by default of all.
        """
        for entry in self.entries if entries is None else entries:
            try:
                stream = self.read(entry)
            except BitstreamError as error:
                failures.append((str(self.stream_path(entry)), str(error)))
            else:
                yield entry, stream

    def whole_blocks(self, entries: Sequence[Entry], count: int, first: int = 0) -> Iterator[ReadBlock]:
        """The streams of so many entries at a time, from the ``first`` on, with the failures of those."""
        for start in range(first, len(entries), count):
            failures: list[tuple[str, str]] = []
            yield list(self.whole_streams(failures, entries[start : start + count])), failures

    def vectors(self, entries: Sequence[Entry] | None = None) -> NDArray[np.float32]:
        """The decoded vectors of ``entries`` (by default of all): float32 (N, D), unit length.

        Raises:
            BitstreamError: a stream is damaged or has no semantic layer.
        """
        chosen = self.entries if entries is None else entries
        return self.codec.vectors([self.read(entry) for entry in chosen])

    def is_missing(self, entry: Entry) -> bool:
        """Whether an entry's picture was deleted or moved; one that only cannot be reached was not.

        Of one in an archive, whether the archive was. What is on object storage is not asked for.
        """
        place = self.source_place(entry)
        if is_url(place):
            return False
        archive, name = split_archive(place)
        try:
            if not name or stat.S_ISDIR(Path(archive).stat().st_mode):
                Path(place).stat()
        except (FileNotFoundError, NotADirectoryError):
            return True
        except OSError:
            return False
        return False
