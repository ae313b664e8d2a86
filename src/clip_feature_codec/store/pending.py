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

from clip_feature_codec.errors import StoreError
from clip_feature_codec.files import atomic_writer, write_atomic


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

    def is_current(self, img_dir: Path) -> bool:
        """Whether the file is still the one that was read, as far as its size and time tell."""
        try:
            status = (img_dir / self.inside).stat()
        except OSError:
            return False
        return (status.st_size, status.st_mtime_ns) == (self.source_bytes, self.source_mtime_ns)


@dataclass(frozen=True)
class Chunk:
    """A batch that is done.

    Attributes:
        pictures: those that could be read.
        vectors: theirs, float32 (N, D); None when nothing was embedded.
        layouts: their layout coefficients (N, L); None when nothing was analysed.
        failures: (path, reason) of those that could not.
    """

    pictures: list[NewPicture]
    vectors: np.ndarray | None
    layouts: np.ndarray | None
    failures: list[tuple[str, str]]


class Plan:
    """Which pictures share a batch, fixed before the first is embedded; made by `make`.

    Attributes:
        img_dir: the folder being encoded.
        chunks: the batches, each a list of paths inside it.
    """

    def __init__(self, folder: Path, img_dir: Path, chunks: list[list[str]]) -> None:
        self._folder = folder
        self.img_dir = img_dir
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
        arrays |= {} if chunk.vectors is None else {"vectors": chunk.vectors}
        arrays |= {} if chunk.layouts is None else {"layouts": chunk.layouts}
        with atomic_writer(self._file(names)) as file:
            np.savez(file, **arrays)

    def is_done(self, names: Sequence[str]) -> bool:
        """Whether a chunk is finished, and no picture of it has changed since."""
        chunk = self._load(names)
        return chunk is not None and all(picture.is_current(self.img_dir) for picture in chunk.pictures)

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
                vectors, layouts = (data.get(name) for name in ("vectors", "layouts"))
        except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile):
            return None
        pictures = [NewPicture(*values) for values in record["pictures"]]
        return Chunk(pictures, vectors, layouts, [(path, reason) for path, reason in record["failures"]])


def _read_plan(path: Path, head: dict[str, object]) -> list[list[str]]:
    """The chunks of an interrupted run of the same kind; none if there was no such run."""
    try:
        record = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return []
    chunks: list[list[str]] = record.pop("chunks")
    return chunks if record == head else []
