"""How much of a picture file is the picture: bytes without container, headers and tables."""

from __future__ import annotations

from collections.abc import Iterator

from clip_feature_codec.errors import ImageError

_SOI, _SOS, _EOI = 0xD8, 0xDA, 0xD9
_RESTARTS = range(0xD0, 0xD8)


def jpeg_payload(data: bytes) -> int:
    """Count the entropy-coded bytes of a JPEG file's scans (ITU-T T.81, B.1): no markers, no tables.

    Raises:
        ImageError: it is no whole JPEG file.
    """
    if data[:2] != bytes([0xFF, _SOI]):
        raise ImageError("not a JPEG file: it does not begin with SOI")
    count, at = 0, 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        at += 2 + int.from_bytes(data[at + 2 : at + 4])
        if marker == _SOS:
            end = _scan_end(data, at)
            count, at = count + end - at, end
    if data[at : at + 2] != bytes([0xFF, _EOI]):
        raise ImageError("not a whole JPEG file: its last marker is not EOI")
    return count


def webp_payload(data: bytes) -> int:
    """Count the bytes of a WebP file's VP8 or VP8L chunk (RFC 9649, 2.5 and 2.6), without its header.

    Raises:
        ImageError: it is no WebP file with one picture.
    """
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP":
        raise ImageError("not a WebP file: it does not begin with RIFF and WEBP")
    at = 12
    while at + 8 <= len(data):
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        if data[at : at + 4] in (b"VP8 ", b"VP8L"):
            return size
        at += 8 + size + size % 2
    raise ImageError("not a still WebP file: it has no VP8 or VP8L chunk")


def avif_payload(data: bytes) -> int:
    """Count the bytes of an AVIF file's items, as its item location box says (ISO/IEC 14496-12, 8.11.3).

    Raises:
        ImageError: it has no such box.
    """
    meta = next((body for kind, body in _boxes(data) if kind == b"meta"), b"")
    iloc = next((body for kind, body in _boxes(meta[4:]) if kind == b"iloc"), None)
    if iloc is None:
        raise ImageError("not an AVIF file: it has no item location box")
    return sum(_extents(iloc))


def _scan_end(data: bytes, at: int) -> int:
    """Where the entropy-coded bytes end: at a marker that is neither a stuffed zero nor a restart."""
    while (at := data.find(b"\xff", at)) >= 0 and at + 1 < len(data):
        if data[at + 1] != 0 and data[at + 1] not in _RESTARTS:
            return at
        at += 2
    return len(data)


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Boxes one after another, as (type, content); size 0 means to the end, 1 a size of 64 bits."""
    at = 0
    while at + 8 <= len(data):
        size, head = int.from_bytes(data[at : at + 4]), 8
        if size == 1:
            size, head = int.from_bytes(data[at + 8 : at + 16]), 16
        end = at + size if size else len(data)
        if end < at + head:
            return
        yield data[at + 4 : at + 8], data[at + head : end]
        at = end


def _extents(iloc: bytes) -> Iterator[int]:
    """Lengths of all extents of an item location box."""
    version, widths = iloc[0], iloc[4:6]
    offset, length, base = widths[0] >> 4, widths[0] & 15, widths[1] >> 4
    index = widths[1] & 15 if version else 0
    wide = 4 if version == 2 else 2
    at = 6 + wide
    for _ in range(int.from_bytes(iloc[6:at])):
        at += wide + (2 if version else 0) + 2 + base  # item, construction method, data reference
        extents, at = int.from_bytes(iloc[at : at + 2]), at + 2
        for _ in range(extents):
            at += index + offset
            yield int.from_bytes(iloc[at : at + length])
            at += length
