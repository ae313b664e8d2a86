"""Segments of a search index: some vectors of a store in a file, coarse and fine, and whose they are.

A vector is kept twice: in the few bits of `coarse`, which a search goes through, and as int16 channels of
1 / 32767, which decide among the few that it finds. The file is in the safetensors format and memory-mapped;
it is written once, whole or not at all.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from clip_feature_codec.codec.semantic.coarse import GROUPS, CoarseFrame, Codes
from clip_feature_codec.files import write_atomic
from clip_feature_codec.store.manifest import HASH_BYTES

SEGMENT_ROWS = 16_384
"""At most so many vectors are in a segment: what is worked on at a time."""

ENDING = ".safetensors"
FINE = 32767
_ARRAYS = ("levels", "radii", "fine", "keys", "numbers")
_TYPES: dict[str, np.dtype[Any]] = {
    "F32": np.dtype("<f4"),
    "U8": np.dtype("u1"),
    "I16": np.dtype("<i2"),
    "I64": np.dtype("<i8"),
}


@dataclass(frozen=True, eq=False)
class Segment:
    """N vectors, one for each of N entries of a part of a store.

    Attributes:
        levels, radii: their `Codes`.
        fine: int16 (N, D), channels times 32767, rounded.
        keys: uint8 (N, 16), `Entry.sha256` of the streams that they were decoded from.
        numbers: int64 (N,), of the entries in their part, ascending.
        name: of the file; empty where there is none yet.
    """

    levels: NDArray[np.uint8]
    radii: NDArray[np.uint8]
    fine: NDArray[np.int16]
    keys: NDArray[np.uint8]
    numbers: NDArray[np.int64]
    name: str = ""

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
        levels, radii = frame.encode(vectors)
        return cls(levels, radii, np.rint(vectors * FINE).astype(np.int16), keys, numbers)

    @property
    def codes(self) -> Codes:
        """What a search goes through."""
        return Codes(self.levels, self.radii)

    def take(self, rows: NDArray[np.intp], numbers: NDArray[np.int64] | None = None) -> Segment:
        """The vectors at some places (n,), under other numbers (n,) if these are given."""
        levels, radii, fine, keys, own = (array[rows] for array in self.arrays().values())
        return Segment(levels, radii, fine, keys, own if numbers is None else numbers)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All arrays, by the names of the attributes."""
        return {name: getattr(self, name) for name in _ARRAYS}

    def sliced(self, size: int) -> list[Segment]:
        """The same vectors in segments of at most so many."""
        starts = range(0, len(self), size)
        return [_segment({key: array[i : i + size] for key, array in self.arrays().items()}) for i in starts]

    def saved(self, folder: Path) -> Segment:
        """Write it to a file of its own, and go on from there. Raises OSError."""
        name = f"{secrets.token_hex(8)}{ENDING}"
        write_atomic(folder / name, save(_contiguous(self.arrays())), durable=True)
        return _segment(mapped(folder / name), name)

    @classmethod
    def load(cls, folder: Path, name: str, rows: int, frame: CoarseFrame) -> Segment:
        """Map a file, of so many vectors.

        Raises:
            OSError: it cannot be read.
            ValueError: it is none of ours, or another one.
        """
        found = mapped(folder / name)
        expected: dict[str, Any] = {
            "levels": (np.uint8, (rows, frame.row_bytes)),
            "radii": (np.uint8, (rows, GROUPS)),
            "fine": (np.int16, (rows, frame.dim)),
            "keys": (np.uint8, (rows, HASH_BYTES)),
            "numbers": (np.int64, (rows,)),
        }
        if {key: (array.dtype, array.shape) for key, array in found.items()} != expected:
            raise ValueError(f"{name}: found other arrays than a segment's")
        return _segment(found, name)


def _segment(arrays: dict[str, NDArray[Any]], name: str = "") -> Segment:
    levels, radii, fine, keys, numbers = (arrays[key] for key in _ARRAYS)
    return Segment(levels, radii, fine, keys, numbers, name)


def joined(segments: list[Segment]) -> Segment:
    """The vectors of one segment or more in the order of their numbers."""
    every = [segment.arrays() for segment in segments]
    whole = _segment({key: np.concatenate([arrays[key] for arrays in every]) for key in _ARRAYS})
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
    found = mapped(folder / name)
    if {key: array.dtype for key, array in found.items()} != dict.fromkeys(("mean", "axes", "steps"), "<f4"):
        raise ValueError(f"{name}: found other arrays than a frame's")
    return CoarseFrame(**found)


def _contiguous(arrays: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return {name: np.ascontiguousarray(array) for name, array in arrays.items()}


def mapped(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of a safetensors file, memory-mapped; its own loader would copy them.

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
        data: NDArray[np.uint8] = np.memmap(file, np.uint8, mode="r", offset=file.tell()).view(np.ndarray)
    arrays = {}
    for name, facts in header.items():
        first, last = facts["data_offsets"]
        if facts["dtype"] not in _TYPES:
            raise ValueError(f"{path.name}: found {facts['dtype']} in {name}")
        arrays[name] = data[first:last].view(_TYPES[facts["dtype"]]).reshape(facts["shape"])
    return arrays
