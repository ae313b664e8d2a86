"""The file behind a search index: every vector of a store in two bytes a channel, bounds of error included.

A vector x is kept as an 8-bit level of each channel and the level's remainder in 256ths of a step:
x ~ minimum + step * (level + remainder / 256). The levels alone are what a search goes through; the
remainders decide among the few that it finds. How far each vector lies from both approximations is kept
beside them, so that a search can prove its answer.

The file: a line with the version and a CRC-32 of all that follows; a line of JSON (CLIP space, tables,
counts), padded with spaces to a multiple of 64; then the arrays of `IndexRows`, in the order of `_LAYOUT`,
little-endian. It is a cache: whatever is wrong with it, it is made again from the streams.
"""

from __future__ import annotations

import json
import math
import zlib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clip_feature_codec.codec.semantic.affine import AffineQuantizer
from clip_feature_codec.codec.space import ClipSpace
from clip_feature_codec.errors import CodecError
from clip_feature_codec.files import atomic_writer

KEY_BYTES = 32

_FIRST_LINE = b"clip-feature-codec search index, version 1, CRC-32 "
_ALIGNMENT = 64
_FINE = 256
_HEADER_BYTES = 1 << 20
_BLOCK_BYTES = 1 << 22
_ROWS_AT_ONCE = 4096

# Of the arrays, in the file's order: type, and shape for N rows of D channels.
_LAYOUT = {
    "radius": ("<f4", "N"),
    "rest": ("<f4", "N"),
    "keys": ("u1", "NK"),
    "levels": ("u1", "ND"),
    "remainders": ("i1", "ND"),
}


@dataclass(frozen=True, eq=False)
class IndexRows:
    """N vectors, one for each distinct stream.

    Attributes:
        radius: float32 (N,), distance of each vector from its levels, rounded up.
        rest: float32 (N,), distance from its levels and remainders together, rounded up.
        keys: uint8 (N, 32), SHA-256 of each stream.
        levels: uint8 (N, D).
        remainders: int8 (N, D), in 256ths of a step.
    """

    radius: NDArray[np.float32]
    rest: NDArray[np.float32]
    keys: NDArray[np.uint8]
    levels: NDArray[np.uint8]
    remainders: NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.keys)

    def take(self, rows: NDArray[np.intp]) -> IndexRows:
        """Some of the rows, in the order given."""
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
        """Quantise unit vectors, at least one: float64 (N, D), with their keys, uint8 (N, 32)."""
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
        header = {
            "space": self.space.to_json(),
            "tables_sha256": self.tables_sha256,
            "fitted": self.fitted,
            "rows": len(self.rows),
            # A float32 is exact as a float64, and that round-trips through JSON.
            "minimum": self.quantizer.minimum.tolist(),
            "step": self.quantizer.step.tolist(),
        }
        line = json.dumps(header).encode("ascii")
        line += b" " * (-(len(_FIRST_LINE) + 9 + len(line) + 1) % _ALIGNMENT) + b"\n"
        arrays = [getattr(self.rows, name).astype(kind, copy=False) for name, (kind, _) in _LAYOUT.items()]
        flat = [np.ascontiguousarray(array).reshape(-1).view(np.uint8).data for array in arrays]
        checksum = zlib.crc32(line)
        for part in flat:
            checksum = zlib.crc32(part, checksum)
        with atomic_writer(path) as file:
            file.write(_FIRST_LINE + b"%08x\n" % checksum + line)
            for part in flat:
                file.write(part)

    @classmethod
    def load(cls, path: Path) -> IndexFile:
        """Read a file; its arrays stay on the disk until they are used.

        Raises:
            OSError: it cannot be read.
            ValueError: it is damaged, or of another version.
        """
        with path.open("rb") as file:
            first, line = file.readline(_ALIGNMENT), file.readline(_HEADER_BYTES)
            if not first.startswith(_FIRST_LINE) or not first.endswith(b"\n"):
                raise ValueError("first line: not an index of this version")
            begin = file.tell()
            checksum = zlib.crc32(line)
            while block := file.read(_BLOCK_BYTES):
                checksum = zlib.crc32(block, checksum)
            if first[len(_FIRST_LINE) : -1] != b"%08x" % checksum:
                raise ValueError(f"checksum: found {checksum:08x}, expected that of the first line")
            data: NDArray[np.uint8] = np.memmap(file, np.uint8, mode="r").view(np.ndarray)
        try:
            return cls._parse(json.loads(line), data[begin:])
        except (LookupError, TypeError, ArithmeticError, AttributeError, RecursionError, CodecError) as error:
            raise ValueError(f"header: {error}") from None

    @classmethod
    def _parse(cls, header: dict[str, Any], data: NDArray[np.uint8]) -> IndexFile:
        space = ClipSpace.from_json(header["space"])
        quantizer = AffineQuantizer(*(np.array(header[key], np.float32) for key in ("minimum", "step")))
        count, fitted = header["rows"], header["fitted"]
        if quantizer.dim != space.dim or not (type(count) is type(fitted) is int) or count < 0:
            raise ValueError("header: its counts make no sense")
        sizes = {"N": count, "D": space.dim, "K": KEY_BYTES}
        arrays, offset = {}, 0
        for name, (kind, letters) in _LAYOUT.items():
            shape = tuple(sizes[letter] for letter in letters)
            length = math.prod(shape) * np.dtype(kind).itemsize
            if offset + length > len(data):
                break
            arrays[name] = data[offset : offset + length].view(kind).reshape(shape)
            offset += length
        if len(arrays) != len(_LAYOUT) or offset != len(data):
            raise ValueError(f"length: found {len(data)} bytes of arrays, expected those of {count} rows")
        rows = IndexRows(**arrays)
        if not all(np.isfinite(bound).all() and (bound >= 0).all() for bound in (rows.radius, rows.rest)):
            raise ValueError("radius: found a bound that is no distance")
        return cls(space, str(header["tables_sha256"]), quantizer, fitted, rows)


def _lengths_up(rows: NDArray[np.float64]) -> NDArray[np.float32]:
    """Lengths of rows (N, D) as float32, rounded up; the float64 sum's own rounding included."""
    lengths = np.sqrt(np.square(rows).sum(axis=1)) * (1 + 1e-9)
    up: NDArray[np.float32] = np.nextafter(lengths.astype(np.float32), np.float32(np.inf))
    return up
