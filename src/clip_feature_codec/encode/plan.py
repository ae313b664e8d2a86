"""The work of an encoding that is under way: which pictures share a batch, and the batches that are done.

It lies in a folder of its own until the store is written, so that a killed run can be taken up again.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from collections.abc import Collection, Iterator, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clip_feature_codec.codec.bitstream import LAYERS
from clip_feature_codec.codec.layers import Layers
from clip_feature_codec.errors import StoreError
from clip_feature_codec.files import atomic_writer, write_atomic
from clip_feature_codec.store.writing import NewPicture


@dataclass(frozen=True)
class Chunk:
    """A batch that is done.

    Attributes:
        pictures: the N that could be read.
        layers: what they are coded from; None where N is 0.
        failures: (path, reason) of those that could not be read.
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


class Plan:
    """Which pictures share a batch, fixed before the first is embedded; made by `make`.

    Attributes:
        chunks: the batches, each a list of paths inside the folder being encoded.
    """

    def __init__(self, folder: Path, img_dir: Path, chunks: list[list[str]]) -> None:
        self._folder = folder
        self._img_dir = img_dir
        self.chunks = chunks

    @classmethod
    def make(
        cls,
        folder: Path,
        img_dir: Path,
        present: Collection[str],
        todo: Sequence[str],
        fingerprint: str,
        layers: str,
        batch_size: int,
    ) -> Plan:
        """Go on with the plan of an interrupted run, and add what is new as chunks of its own.

        Args:
            folder: where the plan and its finished chunks are kept.
            img_dir: the folder being encoded.
            present: all pictures in it, as paths inside it.
            todo: those to encode, in order.
            fingerprint: of the CLIP space.
            layers: which layers the chunks are made for.
            batch_size: pictures in a chunk.
        """
        head = {
            "space": fingerprint,
            "img_dir": str(img_dir.resolve()),
            "layers": layers,
            "batch_size": batch_size,
        }
        here, open_names = set(present), set(todo)
        # A chunk that lost a picture, or of which nothing is left to do, is of no more use.
        chunks = [
            chunk
            for chunk in _read_plan(folder / "plan.json", head)
            if here.issuperset(chunk) and not open_names.isdisjoint(chunk)
        ]
        if not chunks:
            shutil.rmtree(folder, ignore_errors=True)
        open_names.difference_update(*chunks)
        new = [name for name in todo if name in open_names]
        chunks += [new[i : i + batch_size] for i in range(0, len(new), batch_size)]
        write_atomic(folder / "plan.json", json.dumps(head | {"chunks": chunks}).encode())
        return cls(folder, img_dir, chunks)

    def save(self, names: Sequence[str], chunk: Chunk) -> None:
        """Keep a finished chunk."""
        record = {"pictures": [astuple(picture) for picture in chunk.pictures], "failures": chunk.failures}
        arrays: dict[str, Any] = {"record": np.frombuffer(json.dumps(record).encode(), np.uint8)}
        layers = {name: chunk.layers.rows(name) for name in LAYERS} if chunk.layers else {}
        layers["lengths"] = chunk.lengths
        arrays |= {name: rows for name, rows in layers.items() if rows is not None}
        with atomic_writer(self._file(names)) as file:
            np.savez(file, **arrays)

    def current(self, names: Sequence[str]) -> Chunk | None:
        """A finished chunk of which no picture has changed since; None where there is none."""
        chunk = self._load(names)
        return chunk if chunk and all(new.is_current(self._img_dir) for new in chunk.pictures) else None

    def finished(self) -> Iterator[Chunk]:
        """All chunks, in order.

        Raises:
            StoreError: one is not finished.
        """
        for names in self.chunks:
            chunk = self._load(names)
            if chunk is None:
                raise StoreError(f"{self._folder}: vectors have vanished or cannot be read: encode again")
            yield chunk

    def remove(self) -> None:
        """Throw the plan and its chunks away."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _file(self, names: Sequence[str]) -> Path:
        # Named after its pictures: its place in the plan changes when the plan grows or shrinks.
        return self._folder / f"{hashlib.sha256(json.dumps(names).encode()).hexdigest()[:32]}.npz"

    def _load(self, names: Sequence[str]) -> Chunk | None:
        try:
            with np.load(self._file(names), allow_pickle=False) as data:
                record = json.loads(data["record"].tobytes())
                rows = {name: data[name] for name in LAYERS if name in data}
                lengths = data.get("lengths")
        except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile):
            return None
        pictures = [NewPicture(*values) for values in record["pictures"]]
        layers = Layers(**rows, aspects=[picture.aspect for picture in pictures]) if pictures else None
        return Chunk(pictures, layers, [(path, reason) for path, reason in record["failures"]], lengths)


def _read_plan(path: Path, head: dict[str, object]) -> list[list[str]]:
    """The chunks of an interrupted run of the same kind; none if there was no such run."""
    try:
        record = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return []
    chunks: list[list[str]] = record.pop("chunks")
    return chunks if record == head else []
