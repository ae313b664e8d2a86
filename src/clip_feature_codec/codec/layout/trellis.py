"""Coding of layout coefficients: each one's spread is guessed from those before it.

The quantisers, the machine that switches between them and the symbols are those of `trellis`; what differs is
the level at which a coefficient's table is looked up. It starts from the scale of the coefficient less the
step. Then every coded coefficient leaves a score, the derivative of its log-likelihood by the log of its
spread at that starting level: below zero where it came out smaller than expected, far above where it came
out larger. A weighted sum of the scores of neighbouring frequencies, of the same frequency in the channels
before, and of running means over the channel so far moves the level. The weights are trained.

All of it is integer arithmetic.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

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
from clip_feature_codec.codec.layout.tables import FEATURES, LOOKED_AT, Geometry, LayoutTables

Shorts: TypeAlias = NDArray[np.int16]

LOWEST = -5 * 256  # coefficients whose scale is this far below the step are zero and are not coded
_HIGHEST = 13 * 256  # where shifts end
_MEMORY = 205  # of 256: how much of a running mean is left after another diagonal
_PRIOR = 16  # information that a running mean of 0 is worth before anything is coded
_STATES_LOG2, _PARITY_0, _PARITY_1 = 3, 0o13, 0o4  # Ungerboeck's 8-state code
_INFINITE = 1 << 50
_RUNNING = 6  # score and information: with forgetting, over all, of the diagonal at hand


def _machine() -> tuple[Ints, Bytes]:
    """The machine as tables: successors, int64 (8, 2), by the parity; and arrivals, uint8 (4, 8).

    It is that of `trellis`, with fewer states. The arrivals of a state are its two ways in, each as the
    former state and 2 * its quantiser + the parity.
    """
    half = 1 << (_STATES_LOG2 - 1)
    mask = 2 * half - 1
    successors = np.zeros((2 * half, 2), np.int64)
    ways: list[list[int]] = [[] for _ in range(2 * half)]
    for state in range(2 * half):
        top = state // half
        for parity in (0, 1):
            moved = (state << 1 & mask) ^ top ^ (_PARITY_0 & -top & mask - 1) ^ (_PARITY_1 & -parity)
            successors[state, parity] = moved
            ways[moved] += [state, 2 * top + parity]
    # Unsigned, since compiled code tests signed indices for being negative.
    return successors, np.array(ways, np.uint8).T.copy()


MACHINE = _machine()


@compiled
def _turn(running: Ints, same_channel: bool) -> None:
    """A new diagonal: the one at hand goes into the means; or a new channel: they begin again."""
    if same_channel:
        running[0] = (running[0] * _MEMORY >> 8) + running[4]
        running[1] = (running[1] * _MEMORY >> 8) + running[5]
        running[2] += running[4]
        running[3] += running[5]
    else:
        running[:4] = 0
    running[4:] = 0


@compiled
def look(
    i: int, geometry: Geometry, scores: NDArray[Any], before: Ints, running: Ints, features: Ints
) -> None:
    """Fill ``features``, int64 (8,), with what coefficient i can know.

    ``scores`` and ``before``, (L + 1,), are the scores of this channel and of those before it, 0 at what is
    not coded yet; ``running`` is int64 (6,).
    """
    near = geometry.neighbours[i]
    for k in range(LOOKED_AT // 2):
        features[k] = np.int64(scores[near[2 * k]]) + scores[near[2 * k + 1]]
    features[4] = before[near[LOOKED_AT]]
    features[5] = before[near[LOOKED_AT + 1]]
    features[6] = running[0] * 256 // (running[1] + _PRIOR)
    features[7] = running[2] * 256 // (running[3] + _PRIOR)


@compiled
def level_at(start: int, weights: Ints, features: Ints) -> int:
    """The level, in 1/16 octave, from where it starts, in 1/256, and the features."""
    moved = 0
    for k in range(FEATURES):
        moved += weights[k] * features[k]
    return min(start + (moved >> 8), _HIGHEST) >> 4


@compiled
def expected(start: int) -> tuple[int, int]:
    """Row and shift of the table that scores at a starting level come from."""
    return address(min(start, _HIGHEST) >> 4)


@compiled
def _extend(
    paths: tuple[Shorts, Shorts],
    sums: tuple[Ints, Ints],
    arrivals: Bytes,
    back: Bytes,
    choices: Ints,
    span: tuple[int, int],
    home: tuple[int, int],
    magnitudes: Magnitudes,
) -> None:
    """Give every state the path that reached it, ``span[0]`` on, with the score of coefficient ``span[1]``.

    ``paths`` and ``sums`` are those before, read, and after, written; ``home`` is the table of the score.
    """
    (old_paths, new_paths), (old_sums, new_sums) = paths, sums
    (first, i), (row, shift) = span, home
    for n in range(len(new_paths)):
        way = 2 * np.int64(back[n])
        origin, branch = np.int64(arrivals[way, n]), np.int64(arrivals[way + 1, n])
        new_paths[n, first:i] = old_paths[origin, first:i]
        score = magnitudes.scores[row, branch >> 1, min(choices[branch] >> shift, ESCAPE)]
        new_paths[n, i] = score
        new_sums[n] = old_sums[origin]
        new_sums[n, 4] += score
        new_sums[n, 5] += magnitudes.information[row]


@compiled
def _advance(cost: Ints, new_cost: Ints, prices: Ints, arrivals: Bytes, back: Bytes) -> int:
    """One step of the Viterbi algorithm; returns the best state."""
    best = 0
    for n in range(len(cost)):
        first = cost[arrivals[0, n]] + prices[arrivals[1, n]]
        second = cost[arrivals[2, n]] + prices[arrivals[3, n]]
        back[n] = second < first
        new_cost[n] = min(first, second)
        if new_cost[n] < new_cost[best]:
            best = n
    return best


@compiled
def _settle(
    targets: Ints,
    coded: Ints,
    begin: int,
    best: int,
    arrivals: Bytes,
    back: Bytes,
    choices: Ints,
    symbols: Ints,
    quantisers: Ints,
) -> None:
    """Follow the best path back to ``begin``, and note its symbols and quantisers."""
    state = np.int64(best)
    for j in range(len(coded) - 1, begin - 1, -1):
        way = 2 * np.int64(back[j, state])
        branch = np.int64(arrivals[way + 1, state])
        magnitude = choices[j, branch]
        symbols[coded[j]] = magnitude if targets[coded[j]] >= 0 else -magnitude
        quantisers[coded[j]] = branch >> 1
        state = np.int64(arrivals[way, state])


@compiled
def score_of(start: int, magnitude: int, quantiser: int, magnitudes: Magnitudes) -> tuple[int, int]:
    """Score and information of a coded coefficient."""
    row, shift = expected(start)
    symbol = min(magnitude >> shift, ESCAPE)
    return magnitudes.scores[row, quantiser, symbol], magnitudes.information[row]


@compiled
def select(scales: Ints, step: int, coded: Ints, starts: Ints) -> int:
    """Where each coefficient's level starts, and which of them are coded; returns how many."""
    count = 0
    for i in range(len(scales)):
        starts[i] = scales[i] - 16 * step
        if starts[i] >= LOWEST:
            coded[count] = i
            count += 1
    return count


@compiled
def quantise(
    targets: Ints,
    step: int,
    weight: int,
    tables: LayoutTables,
    geometry: Geometry,
    arrivals: Bytes,
    symbols: Ints,
    quantisers: Ints,
) -> None:
    """Choose symbols of little distortion + weight * rate, by the Viterbi algorithm.

    All paths are priced at the level that the best one so far gives, as in `trellis`. At the end of a
    channel the best path wins, so that the next channel looks at one past.

    Args:
        targets: int64 (L,), coefficients in 2^-8 of the step.
        step: its byte.
        weight: lambda, in 2^-12 of the step squared per bit.
        tables: `tables.LayoutTables`.
        geometry: `tables.geometry()`.
        arrivals: of `MACHINE`.
        symbols: int64 (L,), the result.
        quantisers: int64 (L,), those they belong to; nothing where no symbol is coded.
    """
    size, states = len(targets), arrivals.shape[1]
    coded, starts = np.empty(size, np.int64), np.empty(size, np.int64)
    count = select(tables.scales, step, coded, starts)
    symbols[:] = 0
    back, choices = np.empty((count, states), np.uint8), np.empty((count, 4), np.int64)
    paths, new_paths = np.zeros((states, size + 1), np.int16), np.zeros((states, size + 1), np.int16)
    sums, new_sums = np.zeros((states, _RUNNING), np.int64), np.zeros((states, _RUNNING), np.int64)
    cost, new_cost = np.full(states, _INFINITE), np.empty(states, np.int64)
    prices, features = np.empty(4, np.int64), np.empty(FEATURES, np.int64)
    before = np.zeros(size + 1, np.int64)
    cost[0], best, begin, last = 0, 0, 0, -1
    for j in range(count):
        i = coded[j]
        if last >= 0 and geometry.channels[i] != geometry.channels[last]:
            _settle(targets, coded[:j], begin, best, arrivals, back, choices, symbols, quantisers)
            for k in coded[begin:j]:
                before[k] = score_of(starts[k], abs(symbols[k]), quantisers[k], tables.magnitudes)[0]
            for n in range(states):
                _turn(sums[n], False)
                cost[n] = cost[n] if n == best else _INFINITE
            begin = j
        elif last >= 0 and geometry.diagonals[i] != geometry.diagonals[last]:
            for n in range(states):
                _turn(sums[n], True)
        look(i, geometry, paths[best], before, sums[best], features)
        row, shift = address(level_at(starts[i], tables.weights[geometry.groups[i]], features))
        branches(abs(targets[i]), row, shift, weight, tables.magnitudes, prices, choices[j])
        best = _advance(cost, new_cost, prices, arrivals, back[j])
        span, home = (max(coded[begin], i - geometry.reach), i), expected(starts[i])
        _extend(
            (paths, new_paths), (sums, new_sums), arrivals, back[j], choices[j], span, home, tables.magnitudes
        )
        paths, new_paths, sums, new_sums = new_paths, paths, new_sums, sums
        cost, new_cost = new_cost, cost
        last = i
    _settle(targets, coded[:count], begin, best, arrivals, back, choices, symbols, quantisers)


@compiled
def walk(
    i: int, last: int, geometry: Geometry, scores: Ints, before: Ints, running: Ints, features: Ints
) -> None:
    """Go on from coefficient ``last``, -1 for none, to i on one path, and `look`."""
    if last >= 0 and geometry.channels[i] != geometry.channels[last]:
        before[:] = scores
        _turn(running, False)
    elif last >= 0 and geometry.diagonals[i] != geometry.diagonals[last]:
        _turn(running, True)
    look(i, geometry, scores, before, running, features)


@compiled
def write(
    symbols: Ints, step: int, tables: LayoutTables, geometry: Geometry, successors: Ints, buffer: Bytes
) -> int:
    """Code symbols (L,) of the coefficients that `select` names; returns how many bytes ``buffer`` has."""
    size = len(symbols)
    coded, starts = np.empty(size, np.int64), np.empty(size, np.int64)
    count = select(tables.scales, step, coded, starts)
    scores, before = np.zeros(size + 1, np.int64), np.zeros(size + 1, np.int64)
    running, features = np.zeros(_RUNNING, np.int64), np.empty(FEATURES, np.int64)
    coder = writer()
    state, last, half = 0, -1, len(successors) >> 1
    for i in coded[:count]:
        walk(i, last, geometry, scores, before, running, features)
        row, shift = address(level_at(starts[i], tables.weights[geometry.groups[i]], features))
        quantiser = 1 if state >= half else 0
        put_magnitude(coder, symbols[i], shift, tables.magnitudes.starts[row, quantiser], buffer)
        score, information = score_of(starts[i], abs(symbols[i]), quantiser, tables.magnitudes)
        scores[i] = score
        running[4] += score
        running[5] += information
        state = successors[state, symbols[i] & 1]
        last = i
    return flush(coder, buffer)


@compiled
def read(
    data: Bytes, step: int, tables: LayoutTables, geometry: Geometry, successors: Ints, values: Ints
) -> bool:
    """Decode ``data``, uint8 (bytes,), into ``values``, int64 (L,), in 2^-8 of the step.

    Returns:
        True, or False where the bytes are no stream of ours.
    """
    end, size = len(data), len(values)
    values[:] = 0
    coded, starts = np.empty(size, np.int64), np.empty(size, np.int64)
    count = select(tables.scales, step, coded, starts)
    scores, before = np.zeros(size + 1, np.int64), np.zeros(size + 1, np.int64)
    running, features = np.zeros(_RUNNING, np.int64), np.empty(FEATURES, np.int64)
    coder = reader(data, 0, end)
    state, last, half = 0, -1, len(successors) >> 1
    for i in coded[:count]:
        walk(i, last, geometry, scores, before, running, features)
        row, shift = address(level_at(starts[i], tables.weights[geometry.groups[i]], features))
        quantiser = 1 if state >= half else 0
        frequencies = tables.magnitudes.starts[row, quantiser]
        centroids = tables.magnitudes.centroids[row, quantiser]
        magnitude, values[i] = take_magnitude(coder, quantiser, shift, frequencies, centroids, data, end)
        if magnitude >= MAX_SYMBOL:
            return False
        score, information = score_of(starts[i], magnitude, quantiser, tables.magnitudes)
        scores[i] = score
        running[4] += score
        running[5] += information
        state = successors[state, magnitude & 1]
        last = i
    return complete(coder, data, 0, end)
