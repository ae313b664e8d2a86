"""The feature codec: CLIP vectors to ``.clp`` streams and back, with its tables in ``codec.json``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import zstandard
from numpy.typing import NDArray

from clip_feature_codec.codec import bitstream
from clip_feature_codec.codec.affine import ROWS_AT_ONCE, AffineQuantizer
from clip_feature_codec.codec.space import ClipSpace
from clip_feature_codec.errors import BitstreamError, ConfigError, StoreError
from clip_feature_codec.files import write_atomic

_FORMAT = "clip-feature-codec tables"
_VERSION = 1
_PROFILE = "int8"


@dataclass(frozen=True, eq=False)
class FeatureCodec:
    """Codes vectors of one CLIP space with one set of tables.

    Attributes:
        space: where the vectors come from.
        quantizer: the tables.

    Raises:
        ConfigError: the tables do not have the space's dimension, or that is over 8192.
    """

    space: ClipSpace
    quantizer: AffineQuantizer

    def __post_init__(self) -> None:
        if self.quantizer.dim != self.space.dim:
            raise ConfigError(f"codec tables: found {self.quantizer.dim} channels, expected {self.space.dim}")
        if self.dim > bitstream.MAX_DIM:
            raise ConfigError(f"codec, dim: found {self.dim}, expected at most {bitstream.MAX_DIM}")

    @classmethod
    def fit(cls, vectors: NDArray[np.float32], space: ClipSpace) -> FeatureCodec:
        """Make tables for a space from sample vectors (see `AffineQuantizer.fit`).

        Args:
            vectors: float32 (N, D), N >= 1, finite, of any positive length: normalised here.
            space: where they come from; its ``dim`` is D.

        Raises:
            ConfigError: the shape is not (N, D), or a vector is zero or not finite.
        """
        return cls(space, AffineQuantizer.fit(_unit_vectors(vectors, space.dim)))

    @property
    def dim(self) -> int:
        """Length D of a vector."""
        return self.space.dim

    @cached_property
    def _digest(self) -> bytes:
        """SHA-256 over the profile, the dimension, the space and the tables (docs/clp-format.md)."""
        named = f"{_PROFILE}\n{self.dim}\n{self.space.fingerprint}\n".encode("ascii")
        tables = (self.quantizer.minimum, self.quantizer.step)
        return hashlib.sha256(named + b"".join(table.astype("<f4").tobytes() for table in tables)).digest()

    @property
    def tables_sha256(self) -> str:
        """The tables' identity, in hex."""
        return self._digest.hex()

    @property
    def codec_id(self) -> bytes:
        """The two bytes of the tables' identity that every stream carries."""
        return self._digest[:2]

    def encode(
        self, vectors: NDArray[np.float32], aspects: Sequence[float | None] | None = None
    ) -> list[bytes]:
        """Code vectors, each to its own stream; a stream does not depend on the rest of the batch.

        Args:
            vectors: float32 (N, D), finite, of any positive length: normalised here.
            aspects: width / height of each picture, None for square; no list means all are square.

        Returns:
            N ``.clp`` streams of at most D + 7 bytes.

        Raises:
            ConfigError: the shape is not (N, D), a vector is zero or not finite, or an aspect is not a
                positive, finite number.
        """
        unit = _unit_vectors(vectors, self.dim)
        shapes = [None] * len(unit) if aspects is None else list(aspects)
        if len(shapes) != len(unit):
            raise ConfigError(f"aspects: found {len(shapes)}, expected {len(unit)}, one for each vector")
        payloads = bitstream.pack_codes(self.quantizer.quantize(unit))
        return [
            bitstream.pack(payload, self._digest, aspect)
            for payload, aspect in zip(payloads, shapes, strict=True)
        ]

    def decode(self, blobs: Sequence[bytes]) -> NDArray[np.float32]:
        """Bring vectors back from streams.

        Args:
            blobs: N streams; any bytes at all.

        Returns:
            float32 (N, D), unit length.

        Raises:
            BitstreamError: a stream is damaged or was written with other tables. Of several streams,
                the first bad one is named by its position.
        """
        zstd = zstandard.ZstdDecompressor()
        codes = np.empty((len(blobs), self.dim), dtype=np.uint8)
        for row, blob in enumerate(blobs):
            try:
                payload = bitstream.parse(blob, self._digest).payload
                codes[row] = np.frombuffer(bitstream.unpack_codes(payload, self.dim, zstd), dtype=np.uint8)
            except BitstreamError as error:
                raise _located(error, row, len(blobs)) from None
        vectors = np.empty(codes.shape, dtype=np.float32)
        for first in range(0, len(codes), ROWS_AT_ONCE):
            block = self.quantizer.dequantize(codes[first : first + ROWS_AT_ONCE])
            lengths = _lengths(block)
            if not lengths.all():
                zero = BitstreamError("vector: found length 0, expected a direction; the stream is damaged")
                raise _located(zero, first + int(lengths.argmin()), len(blobs))
            vectors[first : first + ROWS_AT_ONCE] = block / lengths[:, None]
        return vectors

    def aspect(self, blob: bytes) -> float:
        """Width / height of the picture behind a stream, 1.0 for square.

        Raises:
            BitstreamError: the stream is damaged or was written with other tables.
        """
        return bitstream.parse(blob, self._digest).aspect

    def to_json(self) -> dict[str, Any]:
        """The codec as a JSON-able dictionary, the contents of ``codec.json``."""
        return {
            "format": _FORMAT,
            "version": _VERSION,
            "profile": _PROFILE,
            "space": self.space.to_json(),
            # A float32 is exact as a float64, and that round-trips through JSON.
            "minimum": self.quantizer.minimum.tolist(),
            "step": self.quantizer.step.tolist(),
            "tables_sha256": self.tables_sha256,
        }

    @classmethod
    def from_json(cls, data: object) -> FeatureCodec:
        """Rebuild a codec from `to_json`'s result; further keys are ignored.

        Raises:
            StoreError: a field is missing, of the wrong type or value, or the tables are not those that
                ``tables_sha256`` names.
        """
        if not isinstance(data, dict):
            raise StoreError(f"codec: found {type(data).__name__}, expected an object")
        for name, expected in (("format", _FORMAT), ("version", _VERSION), ("profile", _PROFILE)):
            if data.get(name) != expected:
                raise StoreError(f"codec, {name}: found {data.get(name)!r}, expected {expected!r}")
        space = ClipSpace.from_json(data.get("space"))
        try:
            codec = cls(space, AffineQuantizer(_table(data, "minimum"), _table(data, "step")))
        except ConfigError as error:
            raise StoreError(str(error)) from None
        if data.get("tables_sha256") != codec.tables_sha256:
            found, expected = data.get("tables_sha256"), codec.tables_sha256
            raise StoreError(f"codec, tables_sha256: found {found!r}, expected {expected!r} for these tables")
        return codec

    def save(self, path: Path) -> None:
        """Write ``codec.json``, whole or not at all."""
        write_atomic(path, json.dumps(self.to_json(), indent=1).encode("ascii") + b"\n")

    @classmethod
    def load(cls, path: Path) -> FeatureCodec:
        """Read ``codec.json``.

        Raises:
            StoreError: the file is missing or malformed; its name is in the message.
        """
        try:
            return cls.from_json(json.loads(path.read_bytes()))
        except OSError as error:
            raise StoreError(f"{path}: cannot be read ({error.strerror}), expected a codec.json") from None
        except (ValueError, RecursionError) as error:
            raise StoreError(f"{path}: found no JSON ({error}), expected a store's codec.json") from None
        except StoreError as error:
            raise StoreError(f"{path}: {error}") from None


def _table(data: dict[str, Any], name: str) -> NDArray[np.float32]:
    """One of the tables in ``codec.json``, a list of numbers."""
    values = data.get(name)
    if not isinstance(values, list) or not all(type(value) in (int, float) for value in values):
        raise StoreError(f"codec, {name}: found {type(values).__name__}, expected a list of numbers")
    try:
        with np.errstate(over="ignore"):  # what overflows becomes infinite, and is refused as such
            return np.array(values, dtype=np.float64).astype(np.float32)
    except OverflowError:
        raise StoreError(f"codec, {name}: found a number beyond float64, expected float32 values") from None


def _unit_vectors(vectors: NDArray[np.float32], dim: int) -> NDArray[np.float32]:
    """Vectors of any length (N, D) as float32 unit vectors; refuses what has no direction."""
    if vectors.ndim != 2 or vectors.shape[1] != dim:
        raise ConfigError(f"vectors: found shape {vectors.shape}, expected (N, {dim})")
    # Rows must be contiguous: numpy's order of summation, hence the last bit, follows the layout.
    rows = np.ascontiguousarray(vectors, dtype=np.float32)
    unit = np.empty_like(rows)
    for first in range(0, len(rows), ROWS_AT_ONCE):
        block = rows[first : first + ROWS_AT_ONCE]
        lengths = _lengths(block)
        bad = ~(np.isfinite(lengths) & (lengths > 0))
        if bad.any():
            row = int(bad.argmax())
            found = f"length {lengths[row]}"
            raise ConfigError(f"vector {first + row}: found {found}, expected a finite, positive one")
        unit[first : first + ROWS_AT_ONCE] = block / lengths[:, None]
    return unit


def _lengths(rows: NDArray[np.float32]) -> NDArray[np.float64]:
    """Euclidean lengths of float32 rows, in float64, where no square overflows or vanishes."""
    lengths: NDArray[np.float64] = np.sqrt(np.square(rows, dtype=np.float64).sum(axis=1))
    return lengths


def _located(error: BitstreamError, row: int, count: int) -> BitstreamError:
    """The error with the stream's position in front, where there is more than one."""
    return error if count == 1 else BitstreamError(f"stream {row + 1} of {count}: {error}")
