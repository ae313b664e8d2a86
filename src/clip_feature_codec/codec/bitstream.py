"""The ``.clp`` container, version 1: pack, parse, limits and checksum (docs/clp-format.md)."""

from __future__ import annotations

import binascii
import math
import struct
from dataclasses import dataclass

import numpy as np
import zstandard
from numpy.typing import NDArray

from clip_feature_codec.errors import BitstreamError, ConfigError

MAGIC = 0xC7
VERSION = 1
PROFILE_INT8 = 0
MAX_STREAM_BYTES = 65536
MAX_DIM = 8192

_HEADER = struct.Struct("<BB2sH")  # magic, flags, codec id, checksum
_CHECKSUM_AT = 4
_FLAG_ASPECT = 0x01
_FLAGS_RESERVED = 0x06  # bit 2 is kept for a layout layer, bit 1 for nothing yet
_PORTRAIT = 0x80
_ASPECT_UNITS = 128

_ZSTD_MAGIC = zstandard.FRAME_HEADER  # streams leave these four bytes out
_ZSTD_LEVEL = 19
_ZSTD_DESCRIPTOR = 0x00  # no content size, no checksum, no dictionary, a window byte follows
_ZSTD_WINDOW_MAX = 0x18  # 8 KiB, all that MAX_DIM codes can ask for


@dataclass(frozen=True)
class Stream:
    """What a ``.clp`` file carries behind its header.

    Attributes:
        payload: the coded vector.
        aspect: width / height of the picture, from 1/128 to 128; 1.0 for square.
    """

    payload: bytes
    aspect: float


def pack(payload: bytes, tables_sha256: bytes, aspect: float | None = None) -> bytes:
    """Wrap a payload as a ``.clp`` stream.

    Args:
        payload: the coded vector.
        tables_sha256: the 32 bytes that name the codec's tables.
        aspect: width / height of the picture; None means square.

    Raises:
        ConfigError: ``aspect`` is not positive and finite.
    """
    shape = _aspect_field(1.0 if aspect is None else aspect)
    flags = VERSION << 5 | PROFILE_INT8 << 3 | (_FLAG_ASPECT if shape else 0)
    body = shape + payload
    head = _HEADER.pack(MAGIC, flags, tables_sha256[:2], 0)[:_CHECKSUM_AT]
    return head + _checksum(head, body, tables_sha256).to_bytes(2, "little") + body


def parse(blob: bytes, tables_sha256: bytes) -> Stream:
    """Check a ``.clp`` stream and take it apart, cheapest checks first.

    Args:
        blob: any bytes.
        tables_sha256: the 32 bytes that name the tables of the codec at hand.

    Raises:
        BitstreamError: with the field, what was found and what was expected.
    """
    if not _HEADER.size <= len(blob) <= MAX_STREAM_BYTES:
        limits = f"{_HEADER.size} to {MAX_STREAM_BYTES}"
        raise BitstreamError(f"length: found {len(blob)} bytes, expected {limits}; this is no .clp stream")
    magic, flags, codec_id, checksum = _HEADER.unpack_from(blob)
    if magic != MAGIC:
        raise BitstreamError(f"magic: found {magic:#04x}, expected {MAGIC:#04x}; this is no .clp stream")
    _check_flags(flags)
    if codec_id != tables_sha256[:2]:
        raise BitstreamError(
            f"codec id: found {codec_id.hex()}, expected {tables_sha256[:2].hex()}; "
            "the stream was written with other tables, use the codec.json of its own store"
        )
    expected = _checksum(blob[:_CHECKSUM_AT], blob[_HEADER.size :], tables_sha256)
    if checksum != expected:
        raise BitstreamError(
            f"checksum: found {checksum:#06x}, expected {expected:#06x}; "
            "the stream is damaged or was written with other tables"
        )
    if not flags & _FLAG_ASPECT:
        return Stream(blob[_HEADER.size :], 1.0)
    if len(blob) == _HEADER.size:
        raise BitstreamError("aspect: found the end of the stream, expected one byte")
    return Stream(blob[_HEADER.size + 1 :], _aspect_value(blob[_HEADER.size]))


def pack_codes(codes: NDArray[np.uint8]) -> list[bytes]:
    """Payloads of the ``int8`` profile: a zstd frame where that is shorter, else the codes themselves.

    Args:
        codes: uint8 (N, D).

    Returns:
        N payloads of 1 to D bytes.
    """
    dim = codes.shape[1]
    # The source's size keeps the window, and the encoder's memory, as small as the vector.
    parameters = zstandard.ZstdCompressionParameters.from_level(
        _ZSTD_LEVEL, source_size=dim, write_content_size=False, write_checksum=False, write_dict_id=False
    )
    zstd = zstandard.ZstdCompressor(compression_params=parameters)
    rows = [row.tobytes() for row in codes]
    frames = (zstd.compress(row)[len(_ZSTD_MAGIC) :] for row in rows)
    return [frame if len(frame) < dim else row for row, frame in zip(rows, frames, strict=True)]


def unpack_codes(payload: bytes, dim: int, zstd: zstandard.ZstdDecompressor) -> bytes:
    """The D codes of one ``int8`` payload.

    Args:
        payload: any bytes.
        dim: D, the number of codes, at most `MAX_DIM`.
        zstd: a decompressor to use again and again; it belongs to one thread.

    Raises:
        BitstreamError: the payload is too long, or no frame of ours that holds exactly D bytes.
    """
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
    try:
        codes = zstd.decompress(_ZSTD_MAGIC + payload, max_output_size=dim, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise BitstreamError(
            f"zstd frame: found one that does not decode to {dim} bytes ({error}), expected one that does"
        ) from None
    if len(codes) != dim:
        raise BitstreamError(f"zstd frame: found {len(codes)} codes, expected {dim}")
    return codes


def _check_flags(flags: int) -> None:
    """Refuse versions, profiles and features that this release does not know."""
    version, profile = flags >> 5, flags >> 3 & 3
    if version != VERSION:
        raise BitstreamError(f"version: found {version}, expected {VERSION}; use the release that wrote it")
    if profile != PROFILE_INT8:
        raise BitstreamError(f"profile: found {profile}, expected {PROFILE_INT8} (int8); use a newer release")
    if flags & _FLAGS_RESERVED:
        reserved = f"{flags & _FLAGS_RESERVED:#04x}"
        raise BitstreamError(f"reserved bits: found {reserved}, expected 0x00; use a newer release")


def _checksum(head: bytes, body: bytes, tables_sha256: bytes) -> int:
    """CRC-16/CCITT over the stream without its checksum; it starts from the tables, to tell codecs apart."""
    start = int.from_bytes(tables_sha256[2:4], "little")
    return binascii.crc_hqx(body, binascii.crc_hqx(head, start))


def _aspect_field(aspect: float) -> bytes:
    """The aspect byte: bit 7 set for portrait, below it shorter/longer in 1/128; empty for square."""
    if not (math.isfinite(aspect) and aspect > 0):
        raise ConfigError(f"aspect: found {aspect}, expected a positive, finite width / height")
    units = max(1, round(_ASPECT_UNITS * min(aspect, 1 / aspect)))
    if units == _ASPECT_UNITS:
        return b""
    return bytes([units | (_PORTRAIT if aspect < 1 else 0)])


def _aspect_value(field: int) -> float:
    """Width / height from the aspect byte."""
    units = field & ~_PORTRAIT
    if units == 0:
        raise BitstreamError(f"aspect: found {field:#04x}, expected 1 to 127 in its low seven bits")
    return units / _ASPECT_UNITS if field & _PORTRAIT else _ASPECT_UNITS / units
