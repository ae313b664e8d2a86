"""What readers ask of a store, whatever it keeps its streams in."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from clip_feature_codec.codec.bitstream import Stream
from clip_feature_codec.codec.feature_codec import FeatureCodec
from clip_feature_codec.errors import BitstreamError
from clip_feature_codec.store.manifest import Entry


class Store(Protocol):
    """Streams of one codec with what is known of their pictures; opened by `opening.open_store`.

    A kind of store derives from this class and says how an entry's stream is read.

    Attributes:
        folder: where the codec's tables, the trained decoder and the search index lie.
        codec: the tables that all its streams are coded with.
    """

    folder: Path
    codec: FeatureCodec

    @property
    @abstractmethod
    def entries(self) -> Sequence[Entry]:
        """One per picture, in the order in which they were first added."""

    @abstractmethod
    def read(self, entry: Entry) -> Stream:
        """An entry's stream, checked against its SHA-256 and taken apart.

        Raises:
            BitstreamError: it is missing, not the one that was written, or no stream of this store's codec.
        """

    @abstractmethod
    def stream_path(self, entry: Entry) -> Path:
        """Where an entry's stream lies: what it is called in messages and reports."""

    @abstractmethod
    def source_path(self, entry: Entry) -> Path:
        """Where an entry's picture lay when it was coded."""

    def __len__(self) -> int:
        return len(self.entries)

    def whole_streams(self) -> tuple[list[tuple[Entry, Stream]], list[tuple[str, str]]]:
        """Every stream that is as it was written, with its entry, and (path, reason) of the others."""
        whole, failures = [], []
        for entry in self.entries:
            try:
                whole.append((entry, self.read(entry)))
            except BitstreamError as error:
                failures.append((str(self.stream_path(entry)), str(error)))
        return whole, failures

    def vectors(self, entries: Sequence[Entry] | None = None) -> NDArray[np.float32]:
        """The decoded vectors of ``entries`` (by default of all): float32 (N, D), unit length.

        Raises:
            BitstreamError: a stream is damaged or has no semantic layer.
        """
        chosen = self.entries if entries is None else entries
        return self.codec.vectors([self.read(entry) for entry in chosen])

    def is_missing(self, entry: Entry) -> bool:
        """Whether an entry's picture was deleted or moved; one that only cannot be reached was not."""
        try:
            self.source_path(entry).stat()
        except (FileNotFoundError, NotADirectoryError):
            return True
        except OSError:
            return False
        return False
