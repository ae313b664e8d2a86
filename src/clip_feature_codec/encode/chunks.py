"""Batches that are done and wait on disk for the tables that they will be coded with."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clip_feature_codec.codec.bitstream import LAYERS
from clip_feature_codec.codec.layers import Layers
from clip_feature_codec.files import atomic_writer
from clip_feature_codec.sources.protocol import SourcePicture
from clip_feature_codec.store.writing import NewPicture


@dataclass(frozen=True)
class Chunk:
    """A batch that is done.

    Attributes:
        pictures: the N that could be read.
        layers: what they are coded from; None where N is 0.
        failures: (place, reason) of those that could not be read.
        lengths: of the vectors before they were brought to unit length, (N,), where they are known.
    """

    pictures: list[NewPicture]
    layers: Layers | None
    failures: list[tuple[str, str]]
    lengths: NDArray[np.float32] | None = None

    @property
    def vectors(self) -> NDArray[np.float32] | None:
        """The pictures' CLIP vectors, (N, D), where they have been embedded."""
        return self.layers.semantic if self.layers else None

    def only(self, numbers: Sequence[int]) -> Chunk:
        """The same with some of its pictures."""
        if len(numbers) == len(self.pictures):
            return self
        chosen = list(numbers)
        pictures = [self.pictures[i] for i in chosen]
        layers = self.layers.some(chosen) if self.layers and pictures else None
        lengths = None if self.lengths is None else self.lengths[chosen]
        return Chunk(pictures, layers, self.failures, lengths)


class Chunks:
    """The chunks in a folder, each under the key of its batch.

    Args:
        folder: where they are kept.
        settings: what they are made with; those of other settings are not found.
    """

    def __init__(self, folder: Path, settings: str) -> None:
        self._folder, self._settings = folder, settings

    def save(self, key: str, chunk: Chunk) -> None:
        """Keep a finished chunk."""
        record = {"pictures": [astuple(picture) for picture in chunk.pictures], "failures": chunk.failures}
        arrays: dict[str, Any] = {"record": np.frombuffer(json.dumps(record).encode(), np.uint8)}
        layers = {name: chunk.layers.rows(name) for name in LAYERS} if chunk.layers else {}
        layers["lengths"] = chunk.lengths
        arrays |= {name: rows for name, rows in layers.items() if rows is not None}
        with atomic_writer(self._file(key)) as file:
            np.savez(file, **arrays)

    def current(self, key: str, pictures: Sequence[SourcePicture]) -> bool:
        """Whether there is a chunk, and no picture of it has changed since."""
        chunk = self.load(key)
        now = {(picture.name, picture.size, picture.mtime_ns) for picture in pictures}
        return chunk is not None and now.issuperset(
            (new.inside, new.source_bytes, new.source_mtime_ns) for new in chunk.pictures
        )

    def load(self, key: str) -> Chunk | None:
        """A finished chunk; None where there is none."""
        try:
            with np.load(self._file(key), allow_pickle=False) as data:
                record = json.loads(data["record"].tobytes())
                rows = {name: data[name] for name in LAYERS if name in data}
                lengths = data.get("lengths")
        except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile):
            return None
        pictures = [NewPicture(*values) for values in record["pictures"]]
        layers = Layers(**rows, aspects=[picture.aspect for picture in pictures]) if pictures else None
        return Chunk(pictures, layers, [(path, reason) for path, reason in record["failures"]], lengths)

    def remove(self) -> None:
        """Throw the folder away."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _file(self, key: str) -> Path:
        return self._folder / f"{key}-{self._settings[:8]}.npz"
