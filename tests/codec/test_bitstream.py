from __future__ import annotations

import struct

import numpy as np
import pytest
import zstandard
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


def test_layout_is_the_documented_one() -> None:
    assert bitstream.pack(PAYLOAD, DIGEST) == build()
    assert bitstream.pack(PAYLOAD, DIGEST, 1.5) == build(0x21, bytes([85]) + PAYLOAD)
    assert bitstream.pack(PAYLOAD, DIGEST, 0.5) == build(0x21, bytes([0x80 | 64]) + PAYLOAD)


def test_checksum_of_the_standard_test_string() -> None:
    assert crc16(b"123456789", 0xFFFF) == 0x29B1  # the published check value of CRC-16/CCITT-FALSE


@given(
    st.binary(max_size=600), st.one_of(st.none(), st.floats(0.003, 300)), st.binary(min_size=32, max_size=32)
)
def test_round_trip(payload: bytes, aspect: float | None, digest: bytes) -> None:
    stream = bitstream.parse(bitstream.pack(payload, digest, aspect), digest)
    assert stream.payload == payload
    asked = 1.0 if aspect is None else aspect
    narrow, found = min(asked, 1 / asked), min(stream.aspect, 1 / stream.aspect)
    assert abs(found - max(narrow, 1 / 128)) <= 0.5 / 128 + 1e-9
    assert (stream.aspect - 1) * (asked - 1) >= 0  # never on the other side of square


@pytest.mark.parametrize(
    ("aspect", "expected"),
    [(1.0, 1.0), (1.003, 1.0), (2.0, 2.0), (0.5, 0.5), (1e9, 128.0), (1e-9, 1 / 128), (16 / 9, 128 / 72)],
)
def test_aspects(aspect: float, expected: float) -> None:
    assert bitstream.parse(bitstream.pack(b"x", DIGEST, aspect), DIGEST).aspect == expected


@pytest.mark.parametrize("aspect", [0.0, -1.0, float("nan"), float("inf")])
def test_impossible_aspects_are_refused(aspect: float) -> None:
    with pytest.raises(ConfigError, match=f"aspect: found {aspect}, expected a positive, finite"):
        bitstream.pack(PAYLOAD, DIGEST, aspect)


@pytest.mark.parametrize("size", [0, 1, 5])
def test_short_streams(size: int) -> None:
    assert refused(build()[:size]).startswith(f"length: found {size} bytes, expected 6 to 65536")


def test_long_streams() -> None:
    assert refused(build(body=bytes(65531))).startswith("length: found 65537 bytes, expected 6 to 65536")
    assert len(bitstream.parse(build(body=bytes(65530)), DIGEST).payload) == 65530


def test_magic() -> None:
    assert refused(build(magic=0x89)).startswith("magic: found 0x89, expected 0xc7")


@pytest.mark.parametrize("version", [0, 2, 7])
def test_versions(version: int) -> None:
    assert refused(build(flags=version << 5)).startswith(f"version: found {version}, expected 1")


@pytest.mark.parametrize("profile", [1, 2, 3])
def test_profiles(profile: int) -> None:
    assert refused(build(flags=0x20 | profile << 3)).startswith(
        f"profile: found {profile}, expected 0 (int8)"
    )


@pytest.mark.parametrize("bits", [0x02, 0x04, 0x06])
def test_reserved_bits(bits: int) -> None:
    assert refused(build(flags=0x20 | bits)).startswith(f"reserved bits: found {bits:#04x}, expected 0x00")


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
        bitstream.parse(bitstream.pack(PAYLOAD, other), DIGEST)


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
        (b"\xc7\x3f\x00\x00\x00\x00", "profile"),
        (b"\xc7\x27\x00\x00\x00\x00", "reserved bits"),
        (b"\xc7\x21\x00\x00\x00\x00", "codec id"),
        (b"\xc7\x21" + DIGEST[:2] + b"\x00\x00", "checksum"),
        (build(0x21, b""), "aspect"),
    ]
    for blob, field in steps:
        assert refused(blob).startswith(f"{field}: ")


def expand(payload: bytes, dim: int = 512) -> bytes:
    return bitstream.unpack_codes(payload, dim, zstandard.ZstdDecompressor())


def payload_refused(payload: bytes, dim: int = 512) -> str:
    with pytest.raises(BitstreamError) as caught:
        expand(payload, dim)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_equal_codes_become_a_frame_that_any_zstd_reads() -> None:
    codes = np.full((1, 512), 77, np.uint8)
    (payload,) = bitstream.pack_codes(codes)
    assert len(payload) < 32
    plain = zstandard.ZstdDecompressor(format=zstandard.FORMAT_ZSTD1_MAGICLESS).decompressobj()
    assert plain.decompress(payload) == expand(payload) == codes.tobytes()


def test_random_codes_stay_as_they_are() -> None:
    codes = np.random.default_rng(0).integers(0, 256, (3, 512), dtype=np.uint8)
    assert bitstream.pack_codes(codes) == [row.tobytes() for row in codes]


@given(st.integers(1, 300), st.integers(1, 256), st.integers(0, 2**32))
def test_codes_round_trip(dim: int, symbols: int, seed: int) -> None:
    codes = np.random.default_rng(seed).integers(0, symbols, (2, dim), dtype=np.uint8)
    payloads = bitstream.pack_codes(codes)
    assert all(0 < len(payload) <= dim for payload in payloads)
    assert b"".join(expand(payload, dim) for payload in payloads) == codes.tobytes()


@pytest.mark.parametrize("symbols", [1, 2, 40])
def test_the_largest_dimension_keeps_to_the_window(symbols: int) -> None:
    codes = np.random.default_rng(0).integers(0, symbols, (1, bitstream.MAX_DIM), dtype=np.uint8)
    (payload,) = bitstream.pack_codes(codes)
    assert len(payload) < bitstream.MAX_DIM
    assert expand(payload, bitstream.MAX_DIM) == codes.tobytes()


@pytest.mark.parametrize("size", [0, 1, 513, 65000])
def test_payload_lengths(size: int) -> None:
    assert payload_refused(bytes(size)) == f"payload: found {size} bytes, expected 512, or 2 or more as zstd"


@pytest.mark.parametrize("descriptor", [0x20, 0x04, 0x01, 0x08, 0xC0, 0xFF])
def test_frames_with_other_headers(descriptor: int) -> None:
    message = payload_refused(bytes([descriptor]) + bytes(20))
    assert message == f"zstd frame descriptor: found {descriptor:#04x}, expected 0x00"


@pytest.mark.parametrize("window", [0x19, 0x58, 0xFF])
def test_frames_with_a_large_window(window: int) -> None:
    message = payload_refused(bytes([0, window]) + bytes(20))
    assert message == f"zstd window: found {window:#04x}, expected at most 0x18 (8 KiB)"


def rle_block(size: int, value: int = 0, last: bool = True) -> bytes:
    """RFC 8878, 3.1.1.2: three bytes of last flag, type 1 and size, then the byte to repeat."""
    return (last | 1 << 1 | size << 3).to_bytes(3, "little") + bytes([value])


def test_frames_by_hand() -> None:
    assert expand(b"\x00\x00" + rle_block(512, 9)) == bytes([9]) * 512
    two = b"\x00\x00" + rle_block(500, 9, last=False) + rle_block(12, 8)
    assert expand(two) == bytes([9]) * 500 + bytes([8]) * 12


@pytest.mark.parametrize("size", [0, 1, 511])
def test_frames_that_hold_too_little(size: int) -> None:
    assert payload_refused(b"\x00\x00" + rle_block(size)) == f"zstd frame: found {size} codes, expected 512"


@pytest.mark.parametrize(
    "frame",
    [
        b"\x00\x00" + rle_block(513),
        b"\x00\x18" + rle_block(8192, last=False) * 100 + rle_block(8192),
        b"\x00\x00" + rle_block(512, last=False),
        b"\x00\x00" + rle_block(512) + b"\x00",
        b"\x00\x00" + rle_block(512) * 2,
        b"\x00\x00" + rle_block(512)[:3],
        b"\x00\x00\xff\xff\xff",
        b"\x00\x00",
    ],
    ids=["over", "bomb", "unfinished", "extra", "twice", "truncated", "reserved block", "empty"],
)
def test_frames_that_do_not_hold_the_vector(frame: bytes) -> None:
    message = payload_refused(frame)
    assert message.startswith("zstd frame: found one that does not decode to 512 bytes (")
    assert message.endswith("), expected one that does")
