from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clip_feature_codec.codec import bitstream
from clip_feature_codec.errors import BitstreamError, ConfigError

DIGEST = bytes(range(100, 132))
PAYLOAD = bytes(range(64))


def crc16(data: bytes, start: int) -> int:
    """CRC-16/CCITT bit by bit, as docs/clp-format.md words it."""
    register = start
    for byte in data:
        register ^= byte << 8
        for _ in range(8):
            register = (register << 1 ^ (0x1021 if register & 0x8000 else 0)) & 0xFFFF
    return register


def build(flags: int = 0x20, body: bytes = PAYLOAD, magic: int = 0xC7, codec_id: bytes = DIGEST[:2]) -> bytes:
    """A stream with a right checksum, whatever else is wrong with it; written from the document."""
    head = bytes([magic, flags]) + codec_id
    return head + struct.pack("<H", crc16(head + body, DIGEST[2] | DIGEST[3] << 8)) + body


def refused(blob: bytes) -> str:
    with pytest.raises(BitstreamError) as caught:
        bitstream.parse(blob, DIGEST)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_fields_are_where_the_document_has_them() -> None:
    assert bitstream.pack(DIGEST, "int8", PAYLOAD) == build()
    assert bitstream.pack(DIGEST, "klt", PAYLOAD) == build(0x28)
    assert bitstream.pack(DIGEST, "int8", PAYLOAD, aspect=1.5) == build(0x21, bytes([85]) + PAYLOAD)
    assert bitstream.pack(DIGEST, "klt", PAYLOAD, aspect=0.5) == build(0x29, bytes([0x80 | 64]) + PAYLOAD)
    assert bitstream.pack(DIGEST, "klt", PAYLOAD, b"abc") == build(0x2C, b"\x03abc" + PAYLOAD)
    assert bitstream.pack(DIGEST, "int8", PAYLOAD, b"abc", 1.5) == build(0x25, b"\x55\x03abc" + PAYLOAD)
    assert bitstream.pack(DIGEST, "int8", None, b"abc") == build(0x3C, b"abc")
    assert bitstream.pack(DIGEST, "klt", None, b"abc", 1.5) == build(0x3D, b"\x55abc")


def test_checksum_of_the_standard_test_string() -> None:
    assert crc16(b"123456789", 0xFFFF) == 0x29B1  # the published check value of CRC-16/CCITT-FALSE


@given(
    st.sampled_from(bitstream.PROFILES),
    st.one_of(st.none(), st.binary(max_size=600)),
    st.one_of(st.none(), st.binary(min_size=1, max_size=255)),
    st.one_of(st.none(), st.floats(0.003, 300)),
    st.binary(min_size=32, max_size=32),
)
def test_round_trip(
    profile: str, semantic: bytes | None, layout: bytes | None, aspect: float | None, digest: bytes
) -> None:
    if semantic is None and layout is None:
        layout = b"x"
    blob = bitstream.pack(digest, profile, semantic, layout, aspect)
    stream = bitstream.parse(blob, digest)
    assert (stream.semantic, stream.layout) == (semantic, layout)
    assert stream.profile == (None if semantic is None else profile)
    layers = [payload for payload in (semantic, layout) if payload is not None]
    assert stream.header == bitstream.overhead(aspect, len(layers)) == len(blob) - sum(map(len, layers))
    asked = 1.0 if aspect is None else aspect
    narrow, found = min(asked, 1 / asked), min(stream.aspect, 1 / stream.aspect)
    assert abs(found - max(narrow, 1 / 128)) <= 0.5 / 128 + 1e-9
    assert (stream.aspect - 1) * (asked - 1) >= 0  # never on the other side of square


@pytest.mark.parametrize(
    ("aspect", "expected"),
    [(1.0, 1.0), (1.003, 1.0), (2.0, 2.0), (0.5, 0.5), (1e9, 128.0), (1e-9, 1 / 128), (16 / 9, 128 / 72)],
)
def test_aspects(aspect: float, expected: float) -> None:
    assert bitstream.parse(bitstream.pack(DIGEST, "klt", b"x", None, aspect), DIGEST).aspect == expected


@pytest.mark.parametrize("aspect", [0.0, -1.0, float("nan"), float("inf")])
def test_impossible_aspects_are_refused(aspect: float) -> None:
    with pytest.raises(ConfigError, match=f"aspect: found {aspect}, expected a positive, finite"):
        bitstream.pack(DIGEST, "int8", PAYLOAD, None, aspect)


@pytest.mark.parametrize("size", [0, 1, 5])
def test_short_streams(size: int) -> None:
    assert refused(build()[:size]).startswith(f"length: found {size} bytes, expected 6 to 65536")


def test_long_streams() -> None:
    assert refused(build(body=bytes(65531))).startswith("length: found 65537 bytes, expected 6 to 65536")
    assert len(bitstream.parse(build(body=bytes(65530)), DIGEST).semantic or b"") == 65530


def test_magic() -> None:
    assert refused(build(magic=0x89)).startswith("magic: found 0x89, expected 0xc7")


@pytest.mark.parametrize("version", [0, 2, 7])
def test_versions(version: int) -> None:
    assert refused(build(flags=version << 5)).startswith(f"version: found {version}, expected 1")


def test_profiles() -> None:
    assert refused(build(flags=0x30)).startswith("profile: found 2, expected 0 (int8), 1 (klt) or 3 (none)")


def test_reserved_bit() -> None:
    assert refused(build(flags=0x22)).startswith("reserved bit: found 1, expected 0")


def test_no_layer_at_all() -> None:
    assert refused(build(flags=0x38)) == "layers: found none, expected at least one"


@pytest.mark.parametrize("size", [0, 256])
def test_a_lone_layout_has_1_to_255_bytes(size: int) -> None:
    assert refused(build(0x3C, bytes(size))) == f"layout layer: found {size} bytes, expected 1 to 255"


@pytest.mark.parametrize(("body", "found"), [(b"\x00abc", 0), (b"\x04abc", 4), (b"\xff", 255)])
def test_splits_that_lead_nowhere(body: bytes, found: int) -> None:
    message = f"split: found a layout layer of {found} bytes, expected 1 to {len(body) - 1}"
    assert refused(build(0x2C, body)) == message


def test_split_byte_missing() -> None:
    assert refused(build(0x2C, b"")) == "split: found the end of the stream, expected one byte"


def test_codec_id() -> None:
    message = refused(build(codec_id=b"\x12\x34"))
    assert message.startswith("codec id: found 1234, expected 6465; ")
    assert "codec.json" in message


def test_checksum() -> None:
    blob = bytearray(build())
    right = struct.unpack_from("<H", blob, 4)[0]
    blob[4] ^= 1
    assert refused(bytes(blob)).startswith(f"checksum: found {right ^ 1:#06x}, expected {right:#06x}; ")


def test_checksum_tells_codecs_of_one_id_apart() -> None:
    other = DIGEST[:2] + b"\xff" + DIGEST[3:]
    with pytest.raises(BitstreamError, match="checksum: found"):
        bitstream.parse(bitstream.pack(other, "int8", PAYLOAD), DIGEST)


def test_aspect_byte_missing() -> None:
    assert refused(build(0x21, b"")) == "aspect: found the end of the stream, expected one byte"


@pytest.mark.parametrize("field", [0x00, 0x80])
def test_aspect_byte_without_a_value(field: int) -> None:
    message = refused(build(0x21, bytes([field]) + PAYLOAD))
    assert message == f"aspect: found {field:#04x}, expected 1 to 127 in its low seven bits"


def test_refusals_come_in_the_documented_order() -> None:
    """Repairing the first complaint of a stream that is wrong in every way uncovers the next one."""
    steps = [
        (b"", "length"),
        (b"\x00\xff\x00\x00\x00\x00", "magic"),
        (b"\xc7\xff\x00\x00\x00\x00", "version"),
        (b"\xc7\x37\x00\x00\x00\x00", "profile"),
        (b"\xc7\x3b\x00\x00\x00\x00", "reserved bit"),
        (b"\xc7\x39\x00\x00\x00\x00", "layers"),
        (b"\xc7\x2d\x00\x00\x00\x00", "codec id"),
        (b"\xc7\x2d" + DIGEST[:2] + b"\x00\x00", "checksum"),
        (build(0x2D, b""), "aspect"),
        (build(0x2D, b"\x55"), "split"),
    ]
    for blob, field in steps:
        assert refused(blob).startswith(f"{field}: ")
