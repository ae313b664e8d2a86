"""Dependent quantisation: coefficients to symbols to bytes, and back.

Two quantisers share one grid of multiples of the step: Q0 has the even ones, Q1 the odd ones and zero. A
machine of 128 states, which the parities of the symbols so far drive, says which of the two the next
coefficient is coded with; so a coefficient costs what the coarse grid of one quantiser costs, and a path
through the machine finds points nearly as close as the fine grid's (Marcellin and Fischer, "Trellis coded
quantization", 1990; the union of subsets and the parity rule as in JPEG 2000 part 2 and in H.266). The
encoder finds the path of least distortion + lambda rate with the Viterbi algorithm.

Each coefficient has a level: its spread, less the step, in sixteenths of an octave. The level addresses
the frozen tables of `magnitudes`. Vectors differ in how far they spread: so the decoder keeps a running
estimate, ``drift``, of how much wider or narrower than its levels a vector is, and adds it to them. It moves
by the score of each symbol over the information so far, the method of scoring with forgetting.

All of it is integer arithmetic.
"""

from __future__ import annotations

import numpy as np

from clip_feature_codec.codec.entropy.arithmetic import complete, flush, reader, writer
from clip_feature_codec.codec.entropy.compiled import compiled
from clip_feature_codec.codec.entropy.magnitudes import ESCAPE, Magnitudes
from clip_feature_codec.codec.entropy.quantisers import (
    MAX_SYMBOL,
    Bytes,
    Ints,
    address,
    branches,
    put_magnitude,
    take_magnitude,
)

STATES_LOG2 = 7
STATES = 1 << STATES_LOG2
_PARITY_0, _PARITY_1 = 0o235, 0o126  # the code of Ungerboeck 1987, table I, amplitude modulation

LOWEST_LEVEL = -40  # coefficients below this level are zero and are not coded
DRIFT_BITS = 12  # the drift counts in 2^-12 of a level
_DRIFT_LIMIT = 48 << DRIFT_BITS
_PRIOR = 42000  # information, in the unit of the tables, that the first estimate of 0 is worth
_FORGET = 6  # 1/64 of the information is forgotten with each coefficient
_GAIN = 775_000_000  # 2^8 2^12 16 / (8 ln 2 / 2^8): drift per score, by the information so far
LANES = 32  # vectors that the encoder works on side by side, which compiled code does at once
_INFINITE = 1 << 54


# From states s < H = states / 2, which use Q0, parities lead to 2 s and (2 s) ^ _PARITY_1; from H + s, which
# use Q1, to (2 s + 1) ^ _TURN and that ^ _PARITY_1. The encoder asks whence one comes to 2 i and to 2 i + 1.
_HALF = STATES >> 1
_TURN = _PARITY_0 & STATES - 2
_CROSS = _PARITY_1 >> 1
_SHIFT = _TURN >> 1


def _successor(state: int, parity: int) -> int:
    """The state after a symbol.

    This is the systematic feedback encoder of the code with the parity-check polynomials _PARITY_0 and
    _PARITY_1. With bits w_1..w_n of the state, lowest first: its quantiser is w_n; w_1 becomes w_n, and
    w_i+1 becomes w_i ^ (bit i of _PARITY_0 and w_n) ^ (bit i of _PARITY_1 and the parity).
    """
    following = (state << 1) ^ (_PARITY_1 if parity else 0)
    return following if state < _HALF else (following & STATES - 1 | 1) ^ _TURN


successor = compiled(_successor)


@compiled
def drifted(drift: int, score: int, gain: int) -> int:
    """The estimate after one more symbol."""
    return min(max(drift + (score * gain >> 8), -_DRIFT_LIMIT), _DRIFT_LIMIT)


@compiled
def _gains(levels: Ints, information: Ints, gains: Ints) -> None:
    """The weight of each coefficient's score in the estimate, which does not depend on the symbols."""
    known = _PRIOR
    for j in range(len(levels)):
        if levels[j] >= LOWEST_LEVEL:
            gains[j] = _GAIN // known
            known += information[address(levels[j])[0]] - (known >> _FORGET)


@compiled
def _advance(cost: Ints, new_cost: Ints, prices: Ints, back: Bytes, least: Ints, best: Ints) -> None:
    """One step of the Viterbi algorithm, for `LANES` vectors side by side.

    Args:
        cost: int64 (states, lanes), before.
        new_cost: int64 (states, lanes), after.
        prices: int64 (4, lanes), of 2 * quantiser + parity.
        back: uint8 (states, lanes): the parity that each state was reached by.
        least: int64 (lanes,), memory.
        best: int64 (lanes,), the best state of each, the result.
    """
    least[:] = _INFINITE
    for i in range(_HALF):
        for lane in range(LANES):
            even, odd = cost[i, lane] + prices[0, lane], cost[i ^ _CROSS, lane] + prices[1, lane]
            total = min(even, odd)
            back[2 * i, lane] = odd < even
            new_cost[2 * i, lane] = total
            best[lane] = 2 * i if total < least[lane] else best[lane]
            least[lane] = min(least[lane], total)
        first, second = _HALF + (i ^ _SHIFT), _HALF + (i ^ _SHIFT ^ _CROSS)
        for lane in range(LANES):
            even, odd = cost[first, lane] + prices[2, lane], cost[second, lane] + prices[3, lane]
            total = min(even, odd)
            back[2 * i + 1, lane] = odd < even
            new_cost[2 * i + 1, lane] = total
            best[lane] = 2 * i + 1 if total < least[lane] else best[lane]
            least[lane] = min(least[lane], total)


@compiled
def viterbi(
    targets: Ints,
    scales: Ints,
    steps: Ints,
    weights: Ints,
    tables: Magnitudes,
    work: tuple[Bytes, Ints, Ints],
    symbols: Ints,
) -> None:
    """Fill ``symbols`` with the paths of least distortion + weight * rate, for up to `LANES` vectors.

    Rates are those at the drift of the best path so far, so that paths need not carry their own.

    Args:
        targets: int64 (m, n), m <= LANES, the coefficients in 2^-8 of the steps.
        scales: int64 (n,), not increasing.
        steps: int64 (m,).
        weights: int64 (m,).
        tables: the frozen tables.
        work: uint8 (n, states, lanes), int64 (n, lanes, 4) and int64 (lanes, n), memory for the paths, the
            choices on them and the gains.
        symbols: int64 (m, n), the result.
    """
    back, choices, gains = work
    count, width = targets.shape
    cost, new_cost = np.full((STATES, LANES), _INFINITE, np.int64), np.empty((STATES, LANES), np.int64)
    cost[0] = 0
    prices, price = np.zeros((4, LANES), np.int64), np.empty(4, np.int64)
    least, best = np.empty(LANES, np.int64), np.zeros(LANES, np.int64)
    drifts, last = np.zeros(LANES, np.int64), np.zeros(LANES, np.int64)
    rows, shifts = np.zeros(LANES, np.int64), np.zeros(LANES, np.int64)
    for lane in range(count):
        _gains(scales - steps[lane], tables.information, gains[lane])
    for j in range(width):
        active = 0
        for lane in range(count):
            level = scales[j] - steps[lane]
            if level < LOWEST_LEVEL:
                continue
            active += 1
            rows[lane], shifts[lane] = address(level + (drifts[lane] >> DRIFT_BITS))
            target = abs(targets[lane, j])
            branches(target, rows[lane], shifts[lane], weights[lane], tables, price, choices[j, lane])
            prices[:, lane] = price
        if active == 0:
            symbols[:, j:] = 0
            break
        _advance(cost, new_cost, prices, back[j], least, best)
        cost, new_cost = new_cost, cost
        for lane in range(count):
            if scales[j] - steps[lane] < LOWEST_LEVEL:
                continue
            last[lane] = best[lane]
            q, parity = best[lane] & 1, np.int64(back[j, best[lane], lane])
            symbol = min(choices[j, lane, 2 * q + parity] >> shifts[lane], ESCAPE)
            score = tables.scores[rows[lane], q, symbol]
            drifts[lane] = drifted(drifts[lane], score, gains[lane, j])
    for lane in range(count):
        state = last[lane]
        for j in range(width - 1, -1, -1):
            symbols[lane, j] = 0
            if scales[j] - steps[lane] >= LOWEST_LEVEL:
                q, parity = state & 1, np.int64(back[j, state, lane])
                magnitude = choices[j, lane, 2 * q + parity]
                symbols[lane, j] = magnitude if targets[lane, j] >= 0 else -magnitude
                way = state >> 1 ^ _CROSS * parity
                state = way if q == 0 else _HALF + (way ^ _SHIFT)


@compiled
def _write(symbols: Ints, levels: Ints, gains: Ints, tables: Magnitudes, buffer: Bytes) -> int:
    """Code symbols; returns the number of bytes in ``buffer``, which has ROOM for each and once more.

    Args:
        symbols: int64 (n,).
        levels: int64 (n,).
        gains: int64 (n,), from `_gains`.
        tables: the frozen tables.
        buffer: uint8 (ROOM (n + 1),).
    """
    coder = writer()
    state, drift = 0, 0
    for j in range(len(symbols)):
        if levels[j] >= LOWEST_LEVEL:
            row, shift = address(levels[j] + (drift >> DRIFT_BITS))
            q = 1 if state >= _HALF else 0
            put_magnitude(coder, symbols[j], shift, tables.starts[row, q], buffer)
            symbol = min(abs(symbols[j]) >> shift, ESCAPE)
            drift = drifted(drift, tables.scores[row, q, symbol], gains[j])
            state = successor(state, symbols[j] & 1)
    return flush(coder, buffer)


@compiled
def _read(
    data: Bytes, begin: int, end: int, levels: Ints, gains: Ints, tables: Magnitudes, values: Ints
) -> bool:
    """Decode ``data[begin:end]`` into ``values``, int64 (n,), in 2^-8 of the step.

    Returns:
        True, or False where the bytes are no stream of ours.
    """
    coder = reader(data, begin, end)
    state, drift = 0, 0
    for j in range(len(levels)):
        values[j] = 0
        if levels[j] < LOWEST_LEVEL:
            continue
        row, shift = address(levels[j] + (drift >> DRIFT_BITS))
        q = 1 if state >= _HALF else 0
        starts, centroids = tables.starts[row, q], tables.centroids[row, q]
        magnitude, values[j] = take_magnitude(coder, q, shift, starts, centroids, data, end)
        if magnitude >= MAX_SYMBOL:
            return False
        symbol = min(magnitude >> shift, ESCAPE)
        drift = drifted(drift, tables.scores[row, q, symbol], gains[j])
        state = successor(state, magnitude & 1)
    return complete(coder, data, begin, end)


@compiled
def code(targets: Ints, scales: Ints, steps: Ints, weights: Ints, tables: Magnitudes, out: Bytes) -> Ints:
    """Quantise and code vectors, each at its own step.

    Args:
        targets: int64 (N, n), coefficients in 2^-8 of each vector's step.
        scales: int64 (n,), 16 log2(spread), not increasing.
        steps: int64 (N,), 16 log2(twice the step): a coefficient's level is its scale minus this.
        weights: int64 (N,), lambda, in 2^-12 of the step squared per bit.
        tables: `magnitudes.builtin()`.
        out: uint8 (N, ROOM (n + 1)), the streams.

    Returns:
        int64 (N,), bytes of each stream.
    """
    count, width = targets.shape
    sizes = np.zeros(count, np.int64)
    gains = np.zeros((LANES, width), np.int64)
    back = np.zeros((width, STATES, LANES), np.uint8)
    work = back, np.zeros((width, LANES, 4), np.int64), gains
    symbols = np.zeros((LANES, width), np.int64)
    for first in range(0, count, LANES):
        end = min(first + LANES, count)
        chosen = symbols[: end - first]
        viterbi(targets[first:end], scales, steps[first:end], weights[first:end], tables, work, chosen)
        for i in range(first, end):
            levels = scales - steps[i]
            sizes[i] = _write(symbols[i - first], levels, gains[i - first], tables, out[i])
    return sizes


@compiled
def decode(data: Bytes, ends: Ints, scales: Ints, steps: Ints, tables: Magnitudes, values: Ints) -> int:
    """Decode streams that lie one behind the other in ``data``.

    Args:
        data: uint8, all the streams.
        ends: int64 (N + 1,), stream i is ``data[ends[i]:ends[i + 1]]``.
        scales: as in `code`.
        steps: as in `code`.
        tables: as in `code`.
        values: int64 (N, n), the coefficients in 2^-8 of each vector's step.

    Returns:
        The number of the first stream that is none of ours, or -1.
    """
    gains = np.zeros(values.shape[1], np.int64)
    for i in range(len(steps)):
        levels = scales - steps[i]
        _gains(levels, tables.information, gains)
        if not _read(data, ends[i], ends[i + 1], levels, gains, tables, values[i]):
            return i
    return -1
