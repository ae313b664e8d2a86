"""Any bytes at all give a vector or a BitstreamError, in bounded time and memory."""

from __future__ import annotations

import binascii
import random
import re
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clip_feature_codec.codec.feature_codec import FeatureCodec
from clip_feature_codec.errors import BitstreamError

GOLDEN = Path(__file__).parents[1] / "golden"


PROFILES = ("int8", "klt")


@pytest.fixture(scope="module", params=PROFILES)
def golden(request: pytest.FixtureRequest) -> FeatureCodec:
    return FeatureCodec.load(GOLDEN / request.param / "codec.json")


@pytest.fixture(scope="module")
def seeds(golden: FeatureCodec) -> list[bytes]:
    return [file.read_bytes() for file in sorted((GOLDEN / golden.profile).glob("*.clp"))]


def resealed(codec: FeatureCodec, blob: bytes) -> bytes:
    """The stream with its first header bytes and checksum made right, to try what lies behind them."""
    start = int.from_bytes(bytes.fromhex(codec.tables_sha256)[2:4], "little")
    profile = 0x18 if blob[1] & 0x1C == 0x1C else PROFILES.index(codec.profile) << 3
    head = bytes([0xC7, 0x20 | profile | blob[1] & 5]) + codec.codec_id
    checksum = binascii.crc_hqx(blob[6:], binascii.crc_hqx(head, start))
    return head + checksum.to_bytes(2, "little") + blob[6:]


def outcome(codec: FeatureCodec, blob: bytes) -> str:
    """``stream`` or the field that was refused; whatever else happens fails the test."""
    message = ""
    try:
        stream = codec.parse(blob)
        codec.decode([stream])
    except BitstreamError as error:
        message = str(error)
    if message:
        assert re.fullmatch(r"[^\n:]+: found [^\n]+, expected [^\n]+", message)
        for use in (codec.vectors, codec.layouts):
            with suppress(BitstreamError):  # one of the layers may be whole
                use([codec.parse(blob)])
        return message.split(":")[0]
    assert 1 / 128 <= stream.aspect <= 128
    if stream.semantic is not None:
        vector = codec.vectors([stream])
        assert vector.shape == (1, codec.dim)
        assert abs(float(np.linalg.norm(vector)) - 1) < 1e-5
    if stream.layout is not None:
        shown = codec.preview(stream, 8, 6)
        assert (shown.dtype, shown.shape) == (np.uint8, (6, 8, 3))
    return "stream"


@given(st.binary(max_size=200))
def test_any_bytes(golden: FeatureCodec, blob: bytes) -> None:
    outcome(golden, blob)


@given(st.binary(min_size=6, max_size=200))
def test_any_bytes_behind_a_right_checksum(golden: FeatureCodec, blob: bytes) -> None:
    outcome(golden, resealed(golden, blob))


@settings(max_examples=300)
@given(st.binary(max_size=60), st.integers(0, 0x18))
def test_any_bytes_behind_a_right_zstd_header(blob: bytes, window: int) -> None:
    codec = FeatureCodec.load(GOLDEN / "int8/codec.json")
    outcome(codec, resealed(codec, b"\xc7\x20\0\0\0\0\x00" + bytes([window]) + blob))


def test_every_truncation(golden: FeatureCodec, seeds: list[bytes]) -> None:
    for blob in seeds:
        for size in range(len(blob)):
            assert outcome(golden, blob[:size]) in ("length", "checksum")
            if size >= 6:  # an arithmetic code that is cut short is, mostly, another arithmetic code
                outcome(golden, resealed(golden, blob[:size]))


def test_every_flipped_bit(golden: FeatureCodec, seeds: list[bytes]) -> None:
    """CRC-16 finds every single flipped bit; behind a new checksum it may be another vector."""
    for blob in seeds:
        for bit in range(8 * len(blob)):
            flipped = bytearray(blob)
            flipped[bit // 8] ^= 1 << bit % 8
            assert outcome(golden, bytes(flipped)) != "stream"
            outcome(golden, resealed(golden, bytes(flipped)))


def test_every_burst_of_up_to_16_bits_is_found(golden: FeatureCodec, seeds: list[bytes]) -> None:
    rng = random.Random(5)
    for blob in seeds:
        number = int.from_bytes(blob, "big")
        for shift in range(8 * (len(blob) - 6) - 15):  # not across the checksum, which sits in front
            burst = rng.randrange(1, 1 << 16) << shift
            assert outcome(golden, (number ^ burst).to_bytes(len(blob), "big")) != "stream"


def mutated(rng: random.Random, seeds: list[bytes]) -> bytes:
    """A random stream, or a good one with bytes changed, cut out, doubled, or joined to another's end."""
    if rng.random() < 0.1:
        return rng.randbytes(rng.randrange(300))
    blob = bytearray(rng.choice(seeds))
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(blob) + 1)
        end = min(len(blob), at + rng.choice((1, 1, 1, 2, 8, 40)))
        match rng.randrange(5):
            case 0:
                blob[at:end] = rng.randbytes(end - at)
            case 1:
                del blob[at:end]
            case 2:
                blob[at:at] = blob[at:end]
            case 3:
                blob[at:end] = bytes([rng.choice((0x00, 0x01, 0x7F, 0x80, 0xFF))]) * (end - at)
            case _:
                blob[at:] = rng.choice(seeds)[at:]
    return bytes(blob)


COMMON = {"stream", "length", "magic", "version", "profile", "codec id", "reserved bit", "checksum"}
REACHED = {
    "int8": COMMON | {"aspect", "split", "payload", "zstd frame descriptor", "zstd window", "zstd frame"},
    "klt": COMMON | {"aspect", "split"},
}


def hammer(codec: FeatureCodec, seeds: list[bytes], count: int, slowest: float = 0.5) -> None:
    """Every second stream has its checksum made right again, to reach what lies behind it."""
    rng = random.Random(20240229)
    seen: Counter[str] = Counter()
    longest = 0.0
    for blob in seeds:  # what is loaded at its first use does not count
        outcome(codec, blob)
    for number in range(count):
        blob = mutated(rng, seeds)
        if number % 2 and len(blob) >= 6:
            blob = resealed(codec, blob)
        begun = time.thread_time()
        seen[outcome(codec, blob)] += 1
        longest = max(longest, time.thread_time() - begun)
    assert longest < slowest
    # The mutations reach every check, so none of the above passes for want of being tried.
    assert REACHED[codec.profile] <= seen.keys()


def test_random_and_mutated_streams(golden: FeatureCodec, seeds: list[bytes]) -> None:
    hammer(golden, seeds, 20_000)


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_a_million_random_and_mutated_streams(golden: FeatureCodec, seeds: list[bytes]) -> None:
    hammer(golden, seeds, 1_000_000)


BOMBS = """
import resource, sys, time
from pathlib import Path
import numpy as np
sys.path.insert(0, sys.argv[1])
from test_fuzz import outcome, resealed
from test_int8 import rle_block
from clip_feature_codec.codec.feature_codec import FeatureCodec

codec = FeatureCodec.load(Path(sys.argv[2]))
head = b"\\xc7\\x20\\0\\0\\0\\0"
assert outcome(codec, resealed(codec, head + b"\\0\\0" + rle_block(codec.dim, 9))) == "stream"
too_long = head + bytes(50_000_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
begun = time.process_time()
for payload, field in [
    (b"\\x00\\xff" + rle_block(codec.dim), "zstd window"),
    (b"\\x00\\x88" + rle_block(codec.dim), "zstd window"),
    (b"\\xe0" + b"\\xff" * 20, "zstd frame descriptor"),
    (b"\\x00\\x18" + rle_block(8192, last=False) * 13 + b"\\0", "zstd frame"),
    (b"\\x00\\x18" + rle_block(131072, last=False) * 13 + b"\\0", "zstd frame"),
    (b"\\x00" * 65530, "payload"),
]:
    for _ in range(20):
        found = outcome(codec, resealed(codec, head + payload))
        assert found == field, (found, field)
        assert outcome(codec, too_long) == "length"
print(time.process_time() - begun, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_bombs_are_refused_without_their_memory() -> None:
    """In a process of its own, whose peak of memory nothing else has raised."""
    command = [sys.executable, "-c", BOMBS, str(Path(__file__).parent), str(GOLDEN / "int8" / "codec.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    seconds, grown = (float(value) for value in done.stdout.split())
    unit = 1 if sys.platform == "darwin" else 1024
    assert seconds < 5
    assert grown * unit < 8e6
