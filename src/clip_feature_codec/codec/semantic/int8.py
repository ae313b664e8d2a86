"""The ``int8`` profile: one byte a channel, as a zstd frame where that is shorter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from clip_feature_codec.codec.semantic.affine import AffineQuantizer
from clip_feature_codec.codec.semantic.vectors import ROWS_AT_ONCE, cosines, lengths, out_of_reach
from clip_feature_codec.errors import BitstreamError, ConfigError, StoreError

_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"  # streams leave these four bytes out
_ZSTD_DESCRIPTOR = 0x00  # no content size, no checksum, no dictionary, a window byte follows
_ZSTD_WINDOW_MAX = 0x18  # 8 KiB, all that the largest vector can ask for


@dataclass(frozen=True, eq=False)
class Int8Coder:
    """Unit vectors to payloads and back with an 8-bit affine quantiser; it knows one rate only.

    Attributes:
        quantizer: the tables.
    """

    quantizer: AffineQuantizer
    profile: ClassVar[str] = "int8"

    @property
    def dim(self) -> int:
        """Length D of a vector."""
        return self.quantizer.dim

    @property
    def smallest(self) -> int:
        """Payload bytes that any vector fits into; some need fewer."""
        return self.dim

    def step_at(self, quality: float) -> int:
        """The step of a quality: there is one for all."""
        return 0

    def encode(self, unit: NDArray[np.float32], steps: NDArray[np.int64]) -> list[bytes]:
        """Code unit vectors.

        Args:
            unit: float32 (N, D).
            steps: not read: the profile has one step for each channel, that of the tables.

        Returns:
            N payloads of 2 to D bytes.
        """
        return self._encode(unit)

    def encode_to_bytes(self, unit: NDArray[np.float32], limits: NDArray[np.int64]) -> list[bytes]:
        """Code unit vectors (N, D); every limit (N,) is at least `smallest`: there is nothing to choose."""
        return self._encode(unit)

    def _encode(self, unit: NDArray[np.float32]) -> list[bytes]:
        rows = [row.tobytes() for row in self.quantizer.quantize(unit)]
        frames = map(_frame, rows)
        return [frame if len(frame) < self.dim else row for row, frame in zip(rows, frames, strict=True)]

    def encode_to_cosine(self, unit: NDArray[np.float32], target: float) -> list[bytes]:
        """Code unit vectors (N, D) whose decoded ones must have a cosine of at least ``target`` with them.

        Raises:
            ConfigError: one does not reach it; the message says what all of them do reach.
        """
        payloads = self._encode(unit)
        reached = cosines(unit, self.decode(payloads))
        if len(reached) and reached.min() < target:
            raise out_of_reach(target, reached)
        return payloads

    def decode(self, payloads: Sequence[bytes]) -> NDArray[np.float32]:
        """Bring unit vectors back: float32 (N, D).

        Raises:
            BitstreamError: a payload is too long, no frame of ours that holds exactly D bytes, or names a
                vector without direction.
        """
        codes = np.empty((len(payloads), self.dim), dtype=np.uint8)
        for row, payload in enumerate(payloads):
            codes[row] = np.frombuffer(_codes(payload, self.dim), dtype=np.uint8)
        vectors = np.empty(codes.shape, dtype=np.float32)
        for first in range(0, len(codes), ROWS_AT_ONCE):
            block = self.quantizer.dequantize(codes[first : first + ROWS_AT_ONCE])
            norms = lengths(block)
            if not norms.all():
                raise BitstreamError("vector: found length 0, expected a direction; the stream is damaged")
            vectors[first : first + ROWS_AT_ONCE] = block / norms[:, None]
        return vectors

    def to_bytes(self) -> bytes:
        """The tables as bytes, to be hashed: minimum and step, little-endian float32."""
        return b"".join(
            table.astype("<f4").tobytes() for table in (self.quantizer.minimum, self.quantizer.step)
        )

    def to_json(self) -> dict[str, Any]:
        """The tables as a JSON-able dictionary; a float32 is exact as a float64, and that round-trips."""
        return {"minimum": self.quantizer.minimum.tolist(), "step": self.quantizer.step.tolist()}

    @classmethod
    def from_json(cls, data: Any) -> Int8Coder:
        """Rebuild the tables from `to_json`'s result; further keys are ignored.

        Raises:
            StoreError: a table is missing or its numbers are out of their range.
        """
        try:
            return cls(AffineQuantizer(_table(data, "minimum"), _table(data, "step")))
        except ConfigError as error:
            raise StoreError(str(error)) from None


def _frame(codes: bytes) -> bytes:
    """The codes of one vector as a zstd frame, without the bytes that all frames begin with."""
    from backports import zstd  # from Python 3.14 on, it is the standard library's compression.zstd

    options: dict[int, int] = {
        zstd.CompressionParameter.compression_level: 19,
        zstd.CompressionParameter.content_size_flag: 0,
        zstd.CompressionParameter.checksum_flag: 0,
        zstd.CompressionParameter.dict_id_flag: 0,
    }
    return zstd.compress(codes, options=options)[len(_ZSTD_MAGIC) :]


def _codes(payload: bytes, dim: int) -> bytes:
    """The D codes of one payload, or a BitstreamError."""
    from backports import zstd

    if len(payload) == dim:
        return payload
    if not 2 <= len(payload) < dim:
        raise BitstreamError(f"payload: found {len(payload)} bytes, expected {dim}, or 2 or more as zstd")
    if payload[0] != _ZSTD_DESCRIPTOR:
        found, expected = f"{payload[0]:#04x}", f"{_ZSTD_DESCRIPTOR:#04x}"
        raise BitstreamError(f"zstd frame descriptor: found {found}, expected {expected}")
    if payload[1] > _ZSTD_WINDOW_MAX:
        # Refused here, since the decompressor would allocate the window first.
        found, expected = f"{payload[1]:#04x}", f"at most {_ZSTD_WINDOW_MAX:#04x} (8 KiB)"
        raise BitstreamError(f"zstd window: found {found}, expected {expected}")
    frame = zstd.ZstdDecompressor()
    try:
        codes = frame.decompress(_ZSTD_MAGIC + payload, max_length=dim)
    except zstd.ZstdError as error:
        why = str(error)
    else:
        why = "" if frame.eof and not frame.unused_data else "it does not end where the payload does"
    if why:
        raise BitstreamError(
            f"zstd frame: found one that does not decode to {dim} bytes ({why}), expected one that does"
        )
    if len(codes) != dim:
        raise BitstreamError(f"zstd frame: found {len(codes)} codes, expected {dim}")
    return codes


def _table(data: Any, name: str) -> NDArray[np.float32]:
    """One of the tables in ``codec.json``, a list of numbers."""
    values = data.get(name) if isinstance(data, dict) else None
    if not isinstance(values, list) or not all(type(value) in (int, float) for value in values):
        raise StoreError(f"codec, {name}: found {type(values).__name__}, expected a list of numbers")
    try:
        with np.errstate(over="ignore"):  # what overflows becomes infinite, and is refused as such
            return np.array(values, dtype=np.float64).astype(np.float32)
    except OverflowError:
        raise StoreError(f"codec, {name}: found a number beyond float64, expected float32 values") from None
