"""The file behind a search index: every vector of a store in two bytes a channel, bounds of error included.

A vector x is kept as an 8-bit level of each channel and the level's remainder in 256ths of a step:
x ~ minimum + step * (level + remainder / 256). The levels alone are what a search goes through; the
remainders decide among the few that it finds. How far each vector lies from both approximations is kept
beside them, so that a search can prove its answer.

The file is in the safetensors format: the arrays of `IndexRows` and of the quantiser, and in its metadata
a CRC-32 of all the rest, the CLIP space and the identity of the tables. It is a cache: whatever is wrong with
it, it is made again from the streams.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from clip_feature_codec.codec.semantic.affine import AffineQuantizer
from clip_feature_codec.codec.space import ClipSpace
from clip_feature_codec.errors import CodecError
from clip_feature_codec.files import atomic_writer

KEY_BYTES = 16

_KEY = "clip-feature-codec search index, version 2"  # of the metadata
_FINE = 256
_ROWS_AT_ONCE = 4096

_TYPES: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "U8": np.dtype("u1"), "I8": np.dtype("i1")}
# Of each array: type, and shape for N rows of D channels and K bytes of key.
_ARRAYS = {
    "coarse_error": ("F32", "N"),
    "fine_error": ("F32", "N"),
    "keys": ("U8", "NK"),
    "levels": ("U8", "ND"),
    "remainders": ("I8", "ND"),
    "minimum": ("F32", "D"),
    "step": ("F32", "D"),
}


@dataclass(frozen=True, eq=False)
class IndexRows:
    """N vectors, one for each distinct stream.

    Attributes:
        coarse_error: float32 (N,), distance of each vector from its levels, rounded up.
        fine_error: float32 (N,), distance from its levels and remainders together, rounded up.
        keys: uint8 (N, 16), the first bytes of the SHA-256 of each stream.
        levels: uint8 (N, D).
        remainders: int8 (N, D), in 256ths of a step.
    """

    coarse_error: NDArray[np.float32]
    fine_error: NDArray[np.float32]
    keys: NDArray[np.uint8]
    levels: NDArray[np.uint8]
    remainders: NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.keys)

    def take(self, rows: NDArray[np.intp]) -> IndexRows:
        """The rows at the places (n,), in that order."""
        return IndexRows(*(array[rows] for array in self.arrays()))

    def arrays(self) -> list[NDArray[Any]]:
        """All arrays, in the order of the attributes."""
        return [getattr(self, field.name) for field in fields(self)]

    @classmethod
    def none(cls, dim: int) -> IndexRows:
        """No rows, of ``dim`` channels."""
        empty = np.zeros((0, dim))
        return cls._of_block(empty, np.zeros((0, KEY_BYTES), np.uint8), AffineQuantizer(*np.ones((2, dim))))

    @classmethod
    def joined(cls, parts: list[IndexRows]) -> IndexRows:
        """The rows of all parts, one after the other."""
        columns = zip(*(part.arrays() for part in parts), strict=True)
        return cls(*(np.concatenate(column) for column in columns))

    @classmethod
    def of(
        cls, vectors: NDArray[np.float64], keys: NDArray[np.uint8], quantizer: AffineQuantizer
    ) -> IndexRows:
        """Quantise unit vectors, at least one: float64 (N, D), with their keys, uint8 (N, 16)."""
        parts = [
            cls._of_block(vectors[i : i + _ROWS_AT_ONCE], keys[i : i + _ROWS_AT_ONCE], quantizer)
            for i in range(0, len(vectors), _ROWS_AT_ONCE)
        ]
        return cls.joined(parts)

    @classmethod
    def _of_block(
        cls, vectors: NDArray[np.float64], keys: NDArray[np.uint8], quantizer: AffineQuantizer
    ) -> IndexRows:
        step = quantizer.step.astype(np.float64)
        levels = quantizer.quantize(vectors.astype(np.float32))
        missing = vectors - (quantizer.minimum + levels * step)
        remainders = np.clip(np.rint(missing / step * _FINE), -_FINE // 2, _FINE // 2 - 1).astype(np.int8)
        still_missing = missing - remainders * (step / _FINE)
        return cls(_lengths_up(missing), _lengths_up(still_missing), keys, levels, remainders)


@dataclass(frozen=True, eq=False)
class IndexFile:
    """What is in an index file.

    Attributes:
        space: CLIP space of the vectors.
        tables_sha256: identity of the tables that their streams are coded with.
        quantizer: what the levels mean.
        fitted: how many vectors there were when the quantiser was fitted.
        rows: the vectors.
    """

    space: ClipSpace
    tables_sha256: str
    quantizer: AffineQuantizer
    fitted: int
    rows: IndexRows

    def approximate(self, rows: NDArray[np.intp] | slice) -> NDArray[np.float32]:
        """The vectors of some rows from levels and remainders: float32 (n, D)."""
        levels = self.rows.levels[rows].astype(np.float32)
        levels += self.rows.remainders[rows] * np.float32(1 / _FINE)
        levels *= self.quantizer.step
        levels += self.quantizer.minimum
        return levels

    def save(self, path: Path) -> None:
        """Write the file, whole or not at all. Raises OSError."""
        named = vars(self.rows) | vars(self.quantizer)
        arrays = {
            name: np.ascontiguousarray(named[name], _TYPES[kind]) for name, (kind, _) in _ARRAYS.items()
        }
        facts = {"tables_sha256": self.tables_sha256, "fitted": self.fitted, "space": self.space.to_json()}
        text = json.dumps(facts)
        with atomic_writer(path) as file:  # one piece of metadata, since the order of several would vary
            save_file(arrays, file.name, {_KEY: f"{_checksum(text, arrays)} {text}"})

    @classmethod
    def load(cls, path: Path) -> IndexFile:
        """Read a file; its arrays stay on the disk until they are used.

        Raises:
            OSError: it cannot be read.
            ValueError: it is damaged, or of another version.
        """
        try:
            metadata, arrays = _mapped(path)
            checksum, _, text = metadata[_KEY].partition(" ")
            if checksum != _checksum(text, arrays):
                raise ValueError(f"CRC-32: found {_checksum(text, arrays)}, expected {checksum}")
            return cls._parse(json.loads(text), arrays)
        except (LookupError, TypeError, ArithmeticError, AttributeError, RecursionError, CodecError) as error:
            raise ValueError(f"{type(error).__name__}: {error}") from None
        except SafetensorError as error:
            raise ValueError(f"not in the safetensors format ({error})") from None

    @classmethod
    def _parse(cls, facts: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> IndexFile:
        space, fitted = ClipSpace.from_json(facts["space"]), facts["fitted"]
        sizes = {"N": len(arrays["keys"]), "D": space.dim, "K": KEY_BYTES}
        for name, (kind, letters) in _ARRAYS.items():
            expected = _TYPES[kind], tuple(sizes[letter] for letter in letters)
            if (arrays[name].dtype, arrays[name].shape) != expected:
                raise ValueError(f"{name}: found {arrays[name].dtype} {arrays[name].shape}")
        if type(fitted) is not int:
            raise ValueError(f"fitted: found {fitted!r}, expected a number of vectors")
        rows = IndexRows(*(arrays[field.name] for field in fields(IndexRows)))
        for errors in (rows.coarse_error, rows.fine_error):
            if not (np.isfinite(errors).all() and (errors >= 0).all()):
                raise ValueError("errors: found one that is no distance")
        quantizer = AffineQuantizer(arrays["minimum"], arrays["step"])
        return cls(space, str(facts["tables_sha256"]), quantizer, fitted, rows)


def _mapped(path: Path) -> tuple[dict[str, str], dict[str, NDArray[Any]]]:
    """Metadata and memory-mapped arrays of a safetensors file, whose own loader would copy the arrays."""
    with path.open("rb") as file:
        with safe_open(path, framework="np") as checked:  # refuses whatever is wrong with the header
            metadata = checked.metadata() or {}
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        data: NDArray[np.uint8] = np.memmap(file, np.uint8, mode="r", offset=file.tell()).view(np.ndarray)
    arrays = {}
    for name in _ARRAYS:
        first, last = header[name]["data_offsets"]
        arrays[name] = data[first:last].view(_TYPES[header[name]["dtype"]]).reshape(header[name]["shape"])
    return metadata, arrays


def _checksum(text: str, arrays: dict[str, NDArray[Any]]) -> str:
    """CRC-32 of the metadata and of all arrays, in the order of `_ARRAYS`."""
    checksum = zlib.crc32(text.encode())
    for name in _ARRAYS:
        checksum = zlib.crc32(arrays[name].reshape(-1).view(np.uint8).data, checksum)
    return f"{checksum:08x}"


def _lengths_up(rows: NDArray[np.float64]) -> NDArray[np.float32]:
    """Lengths of rows (N, D) as float32, rounded up; the float64 sum's own rounding included."""
    lengths = np.sqrt(np.square(rows).sum(axis=1)) * (1 + 1e-9)
    up: NDArray[np.float32] = np.nextafter(lengths.astype(np.float32), np.float32(np.inf))
    return up
