from __future__ import annotations

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from clip_feature_codec.codec.bitstream import MAX_DIM
from clip_feature_codec.codec.semantic.affine import AffineQuantizer
from clip_feature_codec.codec.semantic.int8 import Int8Coder
from clip_feature_codec.errors import BitstreamError, ConfigError


def coder(dim: int) -> Int8Coder:
    """Codes k stand for k + 1, so that no vector is zero."""
    return Int8Coder(AffineQuantizer(np.ones(dim, np.float32), np.ones(dim, np.float32)))


def payloads_of(codes: np.ndarray) -> list[bytes]:
    return coder(codes.shape[1]).encode(codes.astype(np.float32) + 1, np.zeros(len(codes), np.int64))


def expand(payload: bytes, dim: int = 512) -> np.ndarray:
    """The codes of a payload up to a common factor, which the unit length hides."""
    return coder(dim).decode([payload])[0]


def unit(codes: np.ndarray) -> np.ndarray:
    return (codes + 1.0) / np.linalg.norm(codes + 1.0)


def payload_refused(payload: bytes, dim: int = 512) -> str:
    with pytest.raises(BitstreamError) as caught:
        expand(payload, dim)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_equal_codes_become_a_frame_that_any_zstd_reads() -> None:
    codes = np.full((1, 512), 77, np.uint8)
    (payload,) = payloads_of(codes)
    assert len(payload) < 32
    plain = zstandard.ZstdDecompressor(format=zstandard.FORMAT_ZSTD1_MAGICLESS).decompressobj()
    assert plain.decompress(payload) == codes.tobytes()
    np.testing.assert_allclose(expand(payload), unit(codes[0]), rtol=1e-6)


def test_random_codes_stay_as_they_are() -> None:
    codes = np.random.default_rng(0).integers(0, 256, (3, 512), dtype=np.uint8)
    assert payloads_of(codes) == [row.tobytes() for row in codes]


@given(st.integers(1, 300), st.integers(1, 256), st.integers(0, 2**32))
def test_codes_round_trip(dim: int, symbols: int, seed: int) -> None:
    codes = np.random.default_rng(seed).integers(0, symbols, (2, dim), dtype=np.uint8)
    payloads = payloads_of(codes)
    assert all(0 < len(payload) <= dim for payload in payloads)
    for payload, row in zip(payloads, codes, strict=True):
        np.testing.assert_allclose(expand(payload, dim), unit(row), rtol=1e-6)


@pytest.mark.parametrize("symbols", [1, 2, 40])
def test_the_largest_dimension_keeps_to_the_window(symbols: int) -> None:
    codes = np.random.default_rng(0).integers(0, symbols, (1, MAX_DIM), dtype=np.uint8)
    (payload,) = payloads_of(codes)
    assert len(payload) < MAX_DIM
    np.testing.assert_allclose(expand(payload, MAX_DIM), unit(codes[0]), rtol=1e-6)


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
    two = b"\x00\x00" + rle_block(500, 9, last=False) + rle_block(12, 8)
    np.testing.assert_allclose(expand(two), unit(np.repeat([9, 8], [500, 12])), rtol=1e-6)


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


def test_one_rate_for_all_qualities_and_budgets() -> None:
    rows = np.random.default_rng(0).normal(100, 30, (4, 64)).astype(np.float32)
    payloads = coder(64).encode(rows, np.zeros(4, np.int64))
    assert coder(64).encode_to_bytes(rows, np.full(4, 1000)) == payloads
    assert coder(64).smallest == 64
    assert coder(64).step_at(0) == coder(64).step_at(100)


def test_a_target_that_is_out_of_reach_names_the_best() -> None:
    rows = np.random.default_rng(0).normal(100, 30, (4, 64))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    tables = Int8Coder(AffineQuantizer(np.zeros(64, np.float32), np.full(64, 0.05, np.float32)))
    payloads = tables.encode(rows, np.zeros(4, np.int64))
    worst = (tables.decode(payloads).astype(np.float64) * rows).sum(axis=1).min()
    assert tables.encode_to_cosine(rows, worst - 1e-6) == payloads
    with pytest.raises(ConfigError, match=rf"target cosine: found 0.9999, expected at most {worst:.6f}"):
        tables.encode_to_cosine(rows, 0.9999)
