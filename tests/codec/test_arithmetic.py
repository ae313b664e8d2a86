from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from clip_feature_codec.codec.entropy.arithmetic import decode, encode
from clip_feature_codec.codec.entropy.magnitudes import PRECISION

TOTAL = 1 << PRECISION


def table(weights: list[int]) -> NDArray[np.int64]:
    """Cumulative frequencies from 0 to 2^15, as near to the weights as whole numbers above 0 come."""
    shares = np.cumsum(weights) * (TOTAL - len(weights)) // sum(weights) + np.arange(1, len(weights) + 1)
    return np.concatenate([[0], shares])


def encoded(symbols: list[int], starts: NDArray[np.int64]) -> bytes:
    parts = np.stack([starts[:-1], np.diff(starts)], axis=1)
    return encode(parts[np.array(symbols, np.int64)])


def decoded(blob: bytes, count: int, starts: NDArray[np.int64]) -> tuple[list[int], bool]:
    """The symbols, and whether the stream is just what codes them."""
    symbols, whole = decode(np.frombuffer(blob, np.uint8), starts, count)
    return symbols.tolist(), whole


def shortest(symbols: list[int], starts: NDArray[np.int64]) -> bytes:
    """The shortest stream whose number is in the interval, kept as whole numbers without end."""
    low, width, size = 0, 1 << 48, 6
    for symbol in symbols:
        low += (width >> PRECISION) * int(starts[symbol])
        width = (width >> PRECISION) * int(starts[symbol + 1] - starts[symbol])
        while width < 1 << 40:
            low, width, size = low << 8, width << 8, size + 1
    for length in range(size):
        unit = 1 << 8 * (size - length)
        number = -(-low // unit)
        if number * unit < low + width:
            return number.to_bytes(length, "big")
    raise AssertionError


weights = st.lists(st.integers(1, 5000), min_size=2, max_size=20)


@settings(max_examples=60, deadline=None)
@given(weights, st.data())
def test_symbols_come_back(shares: list[int], data: st.DataObject):
    starts = table(shares)
    symbols = data.draw(st.lists(st.integers(0, len(shares) - 1), max_size=80))
    assert decoded(encoded(symbols, starts), len(symbols), starts) == (symbols, True)


@settings(max_examples=60, deadline=None)
@given(weights, st.data())
def test_a_stream_is_the_shortest_in_the_interval_of_its_symbols(shares: list[int], data: st.DataObject):
    starts = table(shares)
    symbols = data.draw(st.lists(st.integers(0, len(shares) - 1), max_size=80))
    assert encoded(symbols, starts) == shortest(symbols, starts)


def test_a_stream_takes_less_than_a_byte_more_than_its_information():
    rng = np.random.default_rng(3)
    shares = [700, 200, 60, 30, 7, 2, 1]
    starts = table(shares)
    for count in (1, 3, 10, 100, 1000):
        for _ in range(20):
            symbols = rng.choice(len(shares), count, p=np.array(shares) / sum(shares)).tolist()
            bits = -np.log2(np.diff(starts)[symbols] / TOTAL).sum()
            assert 8 * len(encoded(symbols, starts)) < bits + 8.001


def test_the_first_symbol_over_and_over_takes_no_byte():
    starts = table([99, 1])
    assert encoded([0] * 10_000, starts) == b""
    assert decoded(b"", 10_000, starts) == ([0] * 10_000, True)


def test_a_carry_runs_through():
    """The last symbol's share of the first one's share, to the end, begins just below the next byte."""
    starts = np.array([0, 1, TOTAL - 1, TOTAL])
    for count in range(1, 60):
        for last in ([0], [1], [2], [1, 2, 0], [2, 0, 2]):
            symbols = [1] + [2] * count + last
            assert decoded(encoded(symbols, starts), len(symbols), starts) == (symbols, True)
            symbols = [0] * (count % 7) + [2] * count + last
            assert decoded(encoded(symbols, starts), len(symbols), starts) == (symbols, True)


@settings(deadline=None)
@given(st.integers(0, 12), st.data())
def test_bits_take_their_number(bits: int, data: st.DataObject):
    starts = np.arange(0, TOTAL + 1, TOTAL >> bits)
    values = data.draw(st.lists(st.integers(0, (1 << bits) - 1)))
    blob = encoded(values, starts)
    assert 8 * len(blob) < bits * len(values) + 8
    assert decoded(blob, len(values), starts) == (values, True)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=12), weights, st.integers(0, 12))
def test_the_only_complete_stream_is_the_encoder_s(blob: bytes, shares: list[int], count: int):
    """Whatever the bytes: they decode to some symbols, and are complete just when those encode to them."""
    starts = table(shares)
    symbols, whole = decoded(blob, count, starts)
    assert all(0 <= symbol < len(shares) for symbol in symbols)
    assert whole == (encoded(symbols, starts) == blob)


def test_so_it_is_among_all_short_streams():
    starts = table([3, 1])
    for count in (0, 1, 2, 5, 12):
        streams = [
            b"",
            *(bytes([a]) for a in range(256)),
            *(bytes([a, b]) for a in range(256) for b in range(0, 256, 5)),
        ]
        for blob in streams:
            symbols, whole = decoded(blob, count, starts)
            assert whole == (encoded(symbols, starts) == blob)
