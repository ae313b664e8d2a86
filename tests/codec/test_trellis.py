from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from clip_feature_codec.codec.entropy.magnitudes import Magnitudes, builtin
from clip_feature_codec.codec.entropy.quantisers import ROOM
from clip_feature_codec.codec.semantic import payloads, trellis
from clip_feature_codec.codec.semantic.levels import LOWEST_LEVEL

LAMBDA = 1350
SCALES = np.array([60, 40, 9, 0, -3, -8, -20, -30, -39, -41])  # at step 0 the last one is not coded
STILL = builtin()._replace(scores=np.zeros_like(builtin().scores))  # tables under which no drift builds up


def coded(
    targets: NDArray[np.int64],
    scales: NDArray[np.int64],
    step: int = 0,
    weight: int = LAMBDA,
    tables: Magnitudes | None = None,
) -> list[bytes]:
    """Streams of targets (N, n), all at one step."""
    count, width = targets.shape
    out = np.empty((count, ROOM * (width + 1)), np.uint8)
    rows, steps, weights = np.arange(count), np.full(count, step), np.full(count, weight)
    vectors = payloads.Vectors(targets.astype(np.float64), scales, rows, steps, np.ones(count))
    work = trellis.workspace(width)
    sizes = payloads.code(vectors, weights, tables or builtin(), trellis.MACHINE, work, out)
    return [out[row, :size].tobytes() for row, size in enumerate(sizes)]


def read(blobs: list[bytes], scales: NDArray[np.int64], step: int = 0) -> tuple[int, NDArray[np.int64]]:
    """What `payloads.decode` says, and the values."""
    values = np.full((len(blobs), len(scales)), -1, np.int64)
    ends = np.cumsum([0, *map(len, blobs)])
    data = np.frombuffer(b"".join(blobs), np.uint8)
    steps = np.full(len(blobs), step)
    return payloads.decode(data, ends, scales, steps, builtin(), trellis.MACHINE, values), values


def drawn(
    count: int, scales: NDArray[np.int64], seed: int, widths: tuple[float, ...] = (1.0,)
) -> NDArray[np.int64]:
    """Gaussian targets at step 0, whose step is half a unit; ``widths`` widen the vectors in turn."""
    rng = np.random.default_rng(seed)
    wide = np.resize(widths, count)[:, None]
    return np.rint(rng.normal(size=(count, len(scales))) * 2.0 ** (scales / 16) * wide * 512).astype(np.int64)


class Oracle:
    """The decoder again, from the text of the format."""

    def __init__(self, blob: bytes) -> None:
        self.rest = list(blob) + [0] * 1000
        self.number, self.range = 0, 2**48
        for _ in range(6):
            self.number = 256 * self.number + self.rest.pop(0)

    def take(self, start: int, frequency: int) -> None:
        share = self.range // 2**15
        self.number -= share * start
        self.range = share * frequency
        while self.range < 2**40:
            self.number = 256 * self.number + self.rest.pop(0)
            self.range *= 256

    def symbol(self, frequencies: list[int]) -> int:
        slot, start = self.number // (self.range // 2**15), 0
        for symbol, frequency in enumerate(frequencies):
            if slot < start + frequency:
                self.take(start, frequency)
                return symbol
            start += frequency
        raise AssertionError

    def bits(self, count: int) -> int:
        width = 2 ** (15 - count)
        value = self.number // (self.range // 2**15) // width
        self.take(value * width, width)
        return value

    @staticmethod
    def row(level: int) -> tuple[int, int]:
        row = level // 2 + 40
        return (max(row, 0), 0) if row < 57 else (57 + (row - 57) % 8, (row - 57) // 8 + 1)

    def values(self, scales: list[int], step: int) -> list[int]:
        tables = builtin()
        frequencies = np.diff(tables.starts, axis=-1).tolist()
        registers, drift, known = [0] * 7, 0, 42000
        values = [0] * len(scales)
        for j, scale in enumerate(scales):
            level = scale - step
            if level < -40:
                continue
            gain = 775_000_000 // known
            known += int(tables.information[self.row(level)[0]]) - known // 64
            row, shift = self.row(level + drift // 4096)
            quantiser = registers[6]
            symbol = magnitude = self.symbol(frequencies[row][quantiser])
            if symbol == 19:
                length = self.bits(4)
                magnitude = 18 + 2**length + self.bits(length)
            if shift:
                magnitude = magnitude * 2**shift + self.bits(shift)
            if magnitude:
                value = (2 * magnitude - quantiser) * 256
                if not shift:
                    value += int(tables.centroids[row, quantiser, symbol])
                values[j] = -value if self.bits(1) else value
            moved = drift + int(tables.scores[row, quantiser, symbol]) * gain // 256
            drift = min(max(moved, -48 * 4096), 48 * 4096)
            # Parity checks 235 and 126, octal: feedback to w_1, w_3, w_4, w_5; parity to w_2, w_3, w_5, w_7.
            w1, w2, w3, w4, w5, w6, w7 = registers
            p = magnitude % 2
            registers = [w7, w1 ^ p, w2 ^ w7 ^ p, w3 ^ w7, w4 ^ w7 ^ p, w5, w6 ^ p]
        return values


def test_the_oracle_agrees_at_every_step():
    scales = np.arange(70, -50, -2)
    targets = drawn(30, scales, 1, (1.0, 0.2, 4.0))
    for step in (-160, -40, -1, 0, 7, 20):
        at_step = np.rint(targets / 2 ** (step / 16)).astype(np.int64)
        blobs = coded(at_step, scales, step)
        bad, values = read(blobs, scales, step)
        assert bad == -1
        for blob, row in zip(blobs, values, strict=True):
            assert Oracle(blob).values(scales.tolist(), step) == row.tolist()


@settings(max_examples=100)
@given(
    st.lists(st.tuples(st.integers(-60, 200), st.integers(-(1 << 22), 1 << 22)), min_size=1, max_size=40),
    st.sampled_from((0, 100, LAMBDA, 4 * LAMBDA)),
)
def test_any_targets_come_back_near(pairs: list[tuple[int, int]], weight: int):
    """However unlikely: with escapes, and next to the greatest magnitude there is."""
    pairs.sort(reverse=True)
    scales = np.array([scale for scale, _ in pairs])
    targets = np.array([[target for _, target in pairs]])
    bad, values = read(coded(targets, scales, weight=weight), scales)
    assert bad == -1
    inside = scales >= LOWEST_LEVEL
    assert (values[0, ~inside] == 0).all()
    if weight == 0:
        assert np.abs(values - targets)[0, inside].max(initial=0) <= 3 * 256


def following(state: int, magnitude: int) -> int:
    """The state of the semantic layer's machine after a magnitude."""
    newest = (magnitude & 1) ^ int(trellis.MACHINE.parities[state])
    return (2 * state | newest) % trellis.STATES


def cost_of(symbols: tuple[int, ...], targets: NDArray[np.int64], levels: NDArray[np.int64]) -> int:
    """Distortion + lambda rate of a path, as the encoder counts them, without drift."""
    state, total = 0, 0
    for symbol, target, level in zip(symbols, targets.tolist(), levels.tolist(), strict=True):
        quantiser, row = int(trellis.MACHINE.quantisers[state]), level // 2 + 40
        error = abs(target) - STILL.points[row, quantiser, symbol]
        total += int(error**2 + (LAMBDA * STILL.costs[row, quantiser, symbol] // 16))
        state = following(state, symbol)
    return total


@pytest.mark.parametrize("seed", range(8))
def test_no_path_is_better(seed: int):
    levels = np.array([10, 8, 3, 0, -2, -6])
    targets = drawn(1, levels, seed)[0]
    symbols = np.zeros(6, np.int64)
    work, gains = trellis.workspace(6), np.zeros(6, np.int32)
    trellis.quantise(targets, levels, gains, LAMBDA, STILL, trellis.MACHINE, work, symbols)
    best = min(cost_of(path, targets, levels) for path in itertools.product(range(5), repeat=6))
    assert (np.sign(symbols) * np.sign(targets) >= 0).all()
    assert cost_of(tuple(np.abs(symbols).tolist()), targets, levels) == best


def test_the_machine_is_the_code_with_its_parity_checks():
    """Every walk fulfils sum over i of h0_i z0_(n+i) + h1_i z1_(n+i) = 0 mod 2; z0: quantiser, z1: parity."""
    checks = [[int(bit) for bit in f"{polynomial:08b}"] for polynomial in (0o235, 0o126)]
    rng = np.random.default_rng(0)
    state, quantisers, parities = 0, [], []
    for parity in rng.integers(0, 2, 500).tolist():
        quantisers.append(int(trellis.MACHINE.quantisers[state]))
        parities.append(parity)
        state = following(state, parity)
    streams = [
        np.convolve(bits, check)[:500] for bits, check in zip((quantisers, parities), checks, strict=True)
    ]
    assert ((streams[0] + streams[1]) % 2 == 0).all()


def test_it_beats_the_uniform_quantiser():
    """By 0.8 of the 1.53 dB that there are, on Gaussian numbers; scalar quantisation at its entropy: 0."""
    scales = np.full(500, 16)
    targets = drawn(40, scales, 5)
    blobs = coded(targets, scales)
    _, values = read(blobs, scales)
    rate = 8 * np.mean([len(blob) for blob in blobs]) / scales.size
    distortion = np.mean((values - targets) ** 2.0) / 512**2
    bound = 0.5 * np.log2(4 / distortion)
    assert rate - bound < 0.254 - 0.8 / 6.02


def test_wide_vectors_take_fewer_bits_than_their_levels_promise():
    scales = np.full(400, 8)
    ratio = []
    for tables in (builtin(), STILL):
        blobs = coded(drawn(20, scales, 6, (4.0,)), scales, tables=tables)
        ratio.append(sum(map(len, blobs)))
    assert ratio[0] < 0.8 * ratio[1]


def test_a_vector_does_not_depend_on_those_beside_it():
    targets = drawn(40, SCALES, 7)
    assert coded(targets, SCALES) == [coded(row[None], SCALES)[0] for row in targets]


@settings(max_examples=300)
@given(st.binary(max_size=60), st.integers(-200, 60))
def test_any_bytes_decode_or_are_refused(blob: bytes, step: int):
    bad, values = read([blob], SCALES, step)
    assert bad in (-1, 0)
    assert np.abs(values).max() < 1 << 25


def test_symbols_are_written_as_the_stream_they_were_found_for():
    """Each with lanes of its own width beside it; and it is said what will be decoded."""
    scales, count = np.arange(60, -39, -1), 21
    targets = drawn(count, scales, 9, (0.3, 1.0, 5.0))
    width, rows, steps = len(scales), np.arange(count), np.repeat([0, 1, 20, 50], [6, 5, 5, 5])
    out, symbols = np.empty((count, ROOM * (width + 1)), np.uint8), np.empty((count, width), np.int16)
    vectors = payloads.Vectors(targets.astype(np.float64), scales, rows, steps, 2.0 ** (-steps / 16))
    work, weights = trellis.workspace(width), np.full(count, LAMBDA)
    sizes = payloads.code(vectors, weights, builtin(), trellis.MACHINE, work, out, symbols=symbols)
    values, again = np.empty((count, width), np.int64), np.empty_like(out)
    given = (symbols, scales, steps, builtin(), trellis.MACHINE, work, again, values)
    assert payloads.write(*given).tolist() == sizes.tolist()
    for i in rows:
        blob = out[i, : sizes[i]].tobytes()
        assert again[i, : sizes[i]].tobytes() == blob
        bad, found = read([blob], scales, int(steps[i]))
        assert bad == -1
        assert found[0].tolist() == values[i].tolist()


def test_streams_of_no_use_are_foretold_about_as_long():
    scales = np.arange(60, -39, -1)
    targets = drawn(12, scales, 10)
    count, width = targets.shape
    vectors = payloads.Vectors(
        targets.astype(np.float64), scales, np.arange(count), np.zeros(count, np.int64), np.ones(count)
    )
    lengths = np.array([len(blob) for blob in coded(targets, scales)])
    out = np.zeros((count, ROOM * (width + 1)), np.uint8)
    work, weights = trellis.workspace(width), np.full(count, LAMBDA)
    for less in (0, 1, 8):
        out[:] = 0
        most = lengths - less
        told = payloads.code(vectors, weights, builtin(), trellis.MACHINE, work, out, most=most)
        assert ((told == lengths) | (told > most)).all()
        assert np.abs(told - lengths).max() <= 1
    assert not out.any()  # by eight bytes too long: not written


def test_a_changed_stream_often_does_not_end_well():
    rng = np.random.default_rng(8)
    scales = np.arange(40, -40, -1)
    blob = coded(drawn(1, scales, 8), scales)[0]
    accepted = 0
    for _ in range(300):
        mutated = bytearray(blob)
        mutated[rng.integers(len(blob))] ^= 1 << rng.integers(8)
        accepted += read([bytes(mutated)], scales)[0] == -1
    assert accepted < 200  # there is no redundancy in it: the container's checksum is what finds damage
    assert read([blob + b"\0"], scales)[0] == 0
    assert read([blob + b"\1\1"], scales)[0] == 0
