"""Segments of a search index: some vectors of a store in a file, coarse and fine, and whose they are.

A vector is kept twice: in the stages of `coarse`, which a search goes through, and as int16 channels of
1 / 32767, which decide among the few that it finds. The file is in the safetensors format and memory-mapped;
it is written once, whole or not at all.
"""

from __future__ import annotations

import json
import mmap
import secrets
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from clip_feature_codec.codec.semantic.coarse import STAGES, CoarseFrame, Codes
from clip_feature_codec.files import write_atomic
from clip_feature_codec.store.manifest import HASH_BYTES

SEGMENT_ROWS = 16_384
"""At most so many vectors are in a segment: what is worked on at a time."""

ENDING = ".safetensors"
FINE = 32767
_CODES = tuple(f"codes{number}" for number in range(STAGES))
_TYPES: dict[str, np.dtype[Any]] = {
    "F32": np.dtype("<f4"),
    "U8": np.dtype("u1"),
    "U16": np.dtype("<u2"),
    "I16": np.dtype("<i2"),
    "I64": np.dtype("<i8"),
}


@dataclass(frozen=True, eq=False)
class Segment:
    """N vectors, one for each of N entries of a part of a store.

    Attributes:
        codes: their `Codes`.
        fine: int16 (N, D), channels times 32767, rounded.
        keys: uint8 (N, 16), `Entry.sha256` of the streams that they were decoded from.
        numbers: int64 (N,), of the entries in their part, ascending.
        name: of the file; empty where there is none yet.
        mapping: of the file, likewise.
    """

    codes: Codes
    fine: NDArray[np.int16]
    keys: NDArray[np.uint8]
    numbers: NDArray[np.int64]
    name: str = ""
    mapping: mmap.mmap | None = None

    def __len__(self) -> int:
        return len(self.numbers)

    @classmethod
    def of(
        cls,
        frame: CoarseFrame,
        vectors: NDArray[np.float64],
        keys: NDArray[np.uint8],
        numbers: NDArray[np.int64],
    ) -> Segment:
        """A segment of unit vectors (N, D)."""
        return cls(frame.encode(vectors), np.rint(vectors * FINE).astype(np.int16), keys, numbers)

    def take(self, rows: NDArray[np.intp], numbers: NDArray[np.int64] | None = None) -> Segment:
        """The vectors at some places (n,), under other numbers (n,) if these are given."""
        taken = _segment({name: array[rows] for name, array in self.arrays().items()})
        return taken if numbers is None else replace(taken, numbers=numbers)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All arrays, by their names in a file."""
        named = dict(zip(_CODES, self.codes, strict=True))
        return named | {"fine": self.fine, "keys": self.keys, "numbers": self.numbers}

    def let_go(self) -> None:
        """Take what has been read out of the process's memory; the kernel has it still, for the next time."""
        if self.mapping is not None and hasattr(self.mapping, "madvise"):
            self.mapping.madvise(mmap.MADV_DONTNEED)

    def sliced(self, size: int) -> list[Segment]:
        """The same vectors in segments of at most so many."""
        starts = range(0, len(self), size)
        return [_segment({key: array[i : i + size] for key, array in self.arrays().items()}) for i in starts]

    def saved(self, folder: Path) -> Segment:
        """Write it to a file of its own, and go on from there. Raises OSError."""
        name = f"{secrets.token_hex(8)}{ENDING}"
        write_atomic(folder / name, save(_contiguous(self.arrays())), durable=True)
        return _segment(*mapped(folder / name), name)

    @classmethod
    def load(cls, folder: Path, name: str, rows: int, frame: CoarseFrame) -> Segment:
        """Map a file, of so many vectors.

        Raises:
            OSError: it cannot be read.
            ValueError: it is none of ours, or another one.
        """
        found, mapping = mapped(folder / name)
        expected: dict[str, Any] = {
            **{key: (np.uint16, (rows, words)) for key, words in zip(_CODES, frame.row_words, strict=True)},
            "fine": (np.int16, (rows, frame.dim)),
            "keys": (np.uint8, (rows, HASH_BYTES)),
            "numbers": (np.int64, (rows,)),
        }
        if {key: (array.dtype, array.shape) for key, array in found.items()} != expected:
            raise ValueError(f"{name}: found other arrays than a segment's")
        return _segment(found, mapping, name)


def _segment(arrays: dict[str, NDArray[Any]], mapping: mmap.mmap | None = None, name: str = "") -> Segment:
    codes = tuple(arrays[key] for key in _CODES)
    return Segment(codes, arrays["fine"], arrays["keys"], arrays["numbers"], name, mapping)


def joined(segments: list[Segment]) -> Segment:
    """The vectors of one segment or more in the order of their numbers."""
    every = [segment.arrays() for segment in segments]
    whole = _segment({key: np.concatenate([arrays[key] for arrays in every]) for key in every[0]})
    order = np.argsort(whole.numbers, kind="stable")
    return whole if (order[:-1] < order[1:]).all() else whole.take(order)


def save_frame(frame: CoarseFrame, folder: Path) -> str:
    """Write a frame to a file of its own; give its name. Raises OSError."""
    name = f"frame-{secrets.token_hex(8)}{ENDING}"
    arrays = {"mean": frame.mean, "axes": frame.axes, "steps": frame.steps}
    write_atomic(folder / name, save(_contiguous(arrays)), durable=True)
    return name


def load_frame(folder: Path, name: str) -> CoarseFrame:
    """Read a frame. Raises OSError, and ValueError where it is none, ConfigError where it is a bad one."""
    found, _ = mapped(folder / name)
    if {key: array.dtype for key, array in found.items()} != dict.fromkeys(("mean", "axes", "steps"), "<f4"):
        raise ValueError(f"{name}: found other arrays than a frame's")
    return CoarseFrame(**found)


def _contiguous(arrays: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return {name: np.ascontiguousarray(array) for name, array in arrays.items()}


def mapped(path: Path) -> tuple[dict[str, NDArray[Any]], mmap.mmap]:
    """The arrays of a safetensors file, memory-mapped, and the mapping; its own loader would copy them.

    Raises:
        OSError: it cannot be read.
        ValueError: it is damaged, as far as its header and its size tell.
    """
    with path.open("rb") as file:
        try:
            with safe_open(
                path, framework="np"
            ):  # refuses whatever is wrong with the header, and another size
                pass
        except SafetensorError as error:
            raise ValueError(f"{path.name}: not in the safetensors format ({error})") from None
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        data: NDArray[np.uint8] = np.frombuffer(mapping, np.uint8, offset=file.tell())
    arrays = {}
    for name, facts in header.items():
        first, last = facts["data_offsets"]
        if facts["dtype"] not in _TYPES:
            raise ValueError(f"{path.name}: found {facts['dtype']} in {name}")
        arrays[name] = data[first:last].view(_TYPES[facts["dtype"]]).reshape(facts["shape"])
    return arrays, mapping
