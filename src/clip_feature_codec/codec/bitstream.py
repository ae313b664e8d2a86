"""The ``.clp`` container, version 1: pack, parse, limits and checksum (docs/clp-format.md)."""

from __future__ import annotations

import binascii
import math
import struct
from dataclasses import dataclass

from clip_feature_codec.errors import BitstreamError, ConfigError

MAGIC = 0xC7
VERSION = 1
LAYERS = ("semantic", "layout")
"""Every layer by its name, which `Stream`, `Layers`, `FeatureCodec` and `Rate` have for it: the one list."""
PROFILES = ("int8", "klt")
"""How the semantic layer is coded, by the number in the flags."""
MAX_STREAM_BYTES = 65536
MAX_DIM = 8192
MAX_LAYOUT_BYTES = 255

_HEADER = struct.Struct("<BB2sH")  # magic, flags, codec id, checksum
_CHECKSUM_AT = 4
_PROFILE_NONE = 3  # the stream has no semantic layer
_FLAG_LAYOUT = 0x04
_FLAG_RESERVED = 0x02
_FLAG_ASPECT = 0x01
_PORTRAIT = 0x80
_ASPECT_UNITS = 128


@dataclass(frozen=True)
class Stream:
    """What a ``.clp`` file carries; at least one of the layers is there.

    Attributes:
        semantic: payload of the semantic layer, the coded vector.
        layout: payload of the layout layer, 1 to 255 bytes.
        profile: how the semantic layer is coded, one of `PROFILES`; None without that layer.
        aspect: width / height of the picture, from 1/128 to 128; 1.0 for square.
        header: bytes of the file that belong to no layer.
        blob: the file.
    """

    semantic: bytes | None
    layout: bytes | None
    profile: str | None
    aspect: float
    header: int
    blob: bytes

    def payload(self, layer: str) -> bytes | None:
        """What the stream has of a layer, still coded, or None."""
        found: bytes | None = getattr(self, layer)
        return found


def overhead(aspect: float | None, layers: int) -> int:
    """Bytes of a stream that belong to no layer: 6 to 8.

    Args:
        aspect: width / height of the picture; None means square.
        layers: how many layers there are, 1 or 2.

    Raises:
        ConfigError: ``aspect`` is not positive and finite.
    """
    return _HEADER.size + len(_aspect_field(aspect)) + (layers == 2)


def pack(
    tables_sha256: bytes,
    profile: str,
    semantic: bytes | None,
    layout: bytes | None = None,
    aspect: float | None = None,
) -> bytes:
    """Wrap the payloads of one or both layers as a ``.clp`` stream.

    Args:
        tables_sha256: the 32 bytes that name the codec's tables.
        profile: how the semantic layer is coded, one of `PROFILES`.
        semantic: its payload; None leaves the layer out.
        layout: payload of the layout layer, 1 to 255 bytes; None leaves the layer out.
        aspect: width / height of the picture; None means square.

    Raises:
        ConfigError: ``aspect`` is not positive and finite.
    """
    shape = _aspect_field(aspect)
    number = _PROFILE_NONE if semantic is None else PROFILES.index(profile)
    flags = VERSION << 5 | number << 3
    flags |= (_FLAG_ASPECT if shape else 0) | (0 if layout is None else _FLAG_LAYOUT)
    both = semantic is not None and layout is not None
    split = bytes([len(layout)]) if layout is not None and both else b""
    body = shape + split + (layout or b"") + (semantic or b"")
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
    flags, codec_id, checksum = _read_header(blob)
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
    return _take_apart(flags, blob)


def read_codec_id(blob: bytes) -> bytes:
    """The two bytes that name the tables of a ``.clp`` stream; what lies behind its header is not checked.

    Raises:
        BitstreamError: it is no stream, or one of another version.
    """
    _, codec_id, _ = _read_header(blob)
    return codec_id


def _read_header(blob: bytes) -> tuple[int, bytes, int]:
    """Flags, codec id and checksum of a stream, once its length, magic and flags are in order."""
    if not _HEADER.size <= len(blob) <= MAX_STREAM_BYTES:
        limits = f"{_HEADER.size} to {MAX_STREAM_BYTES}"
        raise BitstreamError(f"length: found {len(blob)} bytes, expected {limits}; this is no .clp stream")
    magic, flags, codec_id, checksum = _HEADER.unpack_from(blob)
    if magic != MAGIC:
        raise BitstreamError(f"magic: found {magic:#04x}, expected {MAGIC:#04x}; this is no .clp stream")
    _check_flags(flags)
    return flags, codec_id, checksum


def _check_flags(flags: int) -> None:
    """Refuse versions, profiles and features that this release does not know."""
    version, profile = flags >> 5, flags >> 3 & 3
    if version != VERSION:
        raise BitstreamError(f"version: found {version}, expected {VERSION}; use the release that wrote it")
    if profile != _PROFILE_NONE and profile >= len(PROFILES):
        raise BitstreamError(f"profile: found {profile}, expected 0 (int8), 1 (klt) or 3 (none)")
    if flags & _FLAG_RESERVED:
        raise BitstreamError("reserved bit: found 1, expected 0; use a newer release")
    if profile == _PROFILE_NONE and not flags & _FLAG_LAYOUT:
        raise BitstreamError("layers: found none, expected at least one")


def _take_apart(flags: int, blob: bytes) -> Stream:
    """Split what lies behind the header into its fields."""
    body, aspect, at = blob[_HEADER.size :], 1.0, 0
    if flags & _FLAG_ASPECT:
        aspect, at = _aspect_value(_byte(body, at, "aspect")), 1
    profile = flags >> 3 & 3
    if profile == _PROFILE_NONE:
        size = len(body) - at
        if not 1 <= size <= MAX_LAYOUT_BYTES:
            raise BitstreamError(f"layout layer: found {size} bytes, expected 1 to {MAX_LAYOUT_BYTES}")
        return Stream(None, body[at:], None, aspect, _HEADER.size + at, blob)
    if not flags & _FLAG_LAYOUT:
        return Stream(body[at:], None, PROFILES[profile], aspect, _HEADER.size + at, blob)
    size = _byte(body, at, "split")
    at += 1
    if not 1 <= size <= len(body) - at:
        raise BitstreamError(f"split: found a layout layer of {size} bytes, expected 1 to {len(body) - at}")
    return Stream(body[at + size :], body[at : at + size], PROFILES[profile], aspect, _HEADER.size + at, blob)


def _byte(body: bytes, at: int, field: str) -> int:
    if len(body) <= at:
        raise BitstreamError(f"{field}: found the end of the stream, expected one byte")
    return body[at]


def _checksum(head: bytes, body: bytes, tables_sha256: bytes) -> int:
    """CRC-16/CCITT over the stream without its checksum; it starts from the tables, to tell codecs apart."""
    start = int.from_bytes(tables_sha256[2:4], "little")
    return binascii.crc_hqx(body, binascii.crc_hqx(head, start))


def _aspect_field(aspect: float | None) -> bytes:
    """The aspect byte: bit 7 set for portrait, below it shorter/longer in 1/128; empty for square."""
    if aspect is None:
        return b""
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
