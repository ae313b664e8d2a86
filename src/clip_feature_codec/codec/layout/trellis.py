"""Dependent quantisation of a layout: from coefficients to the magnitudes that code them best.

The quantisers and the way a machine of parities switches between them are those of the semantic layer (see
`semantic.trellis`), with 8 states; levels come from `context`. All of it is integer arithmetic.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from clip_feature_codec.codec.entropy.compiled import compiled, inlined
from clip_feature_codec.codec.entropy.machine import Machine
from clip_feature_codec.codec.entropy.magnitudes import Magnitudes
from clip_feature_codec.codec.entropy.quantisers import Bytes, Ints, address, branches, rare, rare_branches
from clip_feature_codec.codec.layout.context import RUNNING, fold, level_at, look, score_of, select
from clip_feature_codec.codec.layout.tables import FEATURES, SIDE, Geometry, LayoutTables

STATES_LOG2 = 3
STATES = 1 << STATES_LOG2
MACHINE = Machine.of(0o13, 0o4, STATES_LOG2)  # Ungerboeck's 8-state code

_HALF = STATES >> 1
_UNREACHED = 1 << 50


class Paths(NamedTuple):
    """What the search remembers, for each of the coded coefficients.

    Only the best path is looked at by what comes; it is kept whole, and mended from where another one becomes
    the best.

    Attributes:
        coded: int64 (L,), which coefficients they are.
        starts: int64 (L,), where their levels start.
        ways: uint8 (L, states / 2), by which of its two ways the best path to state 2 u (bit 0) and 2 u + 1
            (bit 1) came: from state u, 0, or from u + states / 2, 1.
        choices: int64 (L, 4), the magnitudes that are branched to, by 2 * quantiser + parity.
        states: int64 (L,), those of the best path, behind each coefficient.
        taken: int64 (L,), its branches.
        sums: int64 (L + 1, 2), of its scores and their information, from the channel's first one on, before
            each.
        scores: int64 (L + 1,), its scores, by coefficient.
        firsts: int64 (2 SIDE,), with which coefficient each of the channel's diagonals begins.
        running: int64 (2 SIDE, RUNNING), its running means, before each of those.
    """

    coded: Ints
    starts: Ints
    ways: Bytes
    choices: Ints
    states: Ints
    taken: Ints
    sums: Ints
    scores: Ints
    firsts: Ints
    running: Ints


def workspace(size: int) -> Paths:
    """Memory for L coefficients."""
    return Paths(
        coded=np.empty(size, np.int64),
        starts=np.empty(size, np.int64),
        ways=np.empty((size, _HALF), np.uint8),
        choices=np.empty((size, 4), np.int64),
        states=np.empty(size, np.int64),
        taken=np.empty(size, np.int64),
        sums=np.empty((size + 1, 2), np.int64),
        scores=np.empty(size + 1, np.int64),
        firsts=np.empty(2 * SIDE, np.int64),
        running=np.empty((2 * SIDE, RUNNING), np.int64),
    )


@inlined
def _advance(
    costs: Ints, costs_after: Ints, prices: tuple[int, int, int, int], machine: Machine, ways: Bytes
) -> int:
    """One step of the Viterbi algorithm; returns the best state. Costs are int64 (states,)."""
    even_0, odd_0, even_1, odd_1 = prices
    best = 0
    for u in range(_HALF):
        even, odd = (even_1, odd_1) if machine.quantisers[u] else (even_0, odd_0)
        to_0, to_1 = (odd, even) if machine.parities[u] else (even, odd)
        low, high = costs[u], costs[u + _HALF]
        low_0, high_0, low_1, high_1 = low + to_0, high + to_1, low + to_1, high + to_0
        ways[u] = np.uint8(high_0 < low_0) | np.uint8(high_1 < low_1) << np.uint8(1)
        costs_after[2 * u], costs_after[2 * u + 1] = min(low_0, high_0), min(low_1, high_1)
    for state in range(1, STATES):
        if costs_after[state] < costs_after[best]:
            best = state
    return best


@inlined
def _mend(j: int, begin: int, best: int, paths: Paths, machine: Machine, magnitudes: Magnitudes) -> int:
    """Make the path that ends in state ``best`` behind coefficient j the one that is kept, from ``begin`` on.

    Returns:
        The first coefficient at which it is another one, of those that are coded.
    """
    state, first = np.intp(best), j
    while True:
        u, newest = state >> 1, state & 1
        way = np.int64(paths.ways[first, u]) >> newest & 1
        paths.states[first] = state
        paths.taken[first] = 2 * machine.quantisers[u] + (newest ^ machine.parities[u] ^ way)
        state = np.intp(u + way * _HALF)
        if first == begin or paths.states[first - 1] == state:
            break
        first -= 1
    for k in range(first, j + 1):
        i, branch = paths.coded[k], paths.taken[k]
        score, information = score_of(paths.starts[i], paths.choices[k, branch], branch >> 1, magnitudes)
        paths.scores[i] = score
        paths.sums[k + 1, 0] = paths.sums[k, 0] + score
        paths.sums[k + 1, 1] = paths.sums[k, 1] + information
    return first


@inlined
def _enter(diagonal: int, paths: Paths) -> None:
    """The running means on entering a diagonal, 1 or more, from those of the one before and what it added."""
    running, before = paths.running[diagonal], paths.running[diagonal - 1]
    begin, end = paths.firsts[diagonal - 1], paths.firsts[diagonal]
    for column in range(4):
        running[column] = before[column]
    running[4] = paths.sums[end, 0] - paths.sums[begin, 0]
    running[5] = paths.sums[end, 1] - paths.sums[begin, 1]
    fold(running)


@compiled
def quantise(
    targets: Ints,
    step: int,
    weight: int,
    tables: LayoutTables,
    geometry: Geometry,
    machine: Machine,
    paths: Paths,
    symbols: Ints,
    quantisers: Ints,
) -> None:
    """Choose symbols of little distortion + weight * rate, by the Viterbi algorithm.

    All paths are priced at the level that the best one so far gives, as in `semantic.trellis`. At the end of
    a channel the best path wins, so that the next channel looks at one past.

    Args:
        targets: int64 (L,), coefficients in 2^-8 of the step.
        step: its byte.
        weight: lambda, in 2^-12 of the step squared per bit.
        tables: `tables.LayoutTables`.
        geometry: `tables.geometry()`.
        machine: `MACHINE`.
        paths: from `workspace`.
        symbols: int64 (L,), the result: magnitudes with the targets' signs.
        quantisers: int64 (L,), those they belong to; nothing where no symbol is coded.
    """
    coded, count = paths.coded, select(tables.scales, step, paths.coded, paths.starts)
    features, before = np.empty(FEATURES, np.int64), np.zeros(len(targets) + 1, np.int64)
    costs, costs_after = np.full(STATES, _UNREACHED), np.empty(STATES, np.int64)
    paths.scores[:] = 0
    costs[0], best, begin, diagonal = 0, 0, 0, 0
    for j in range(count):
        i = coded[j]
        if j == 0 or geometry.channels[i] != geometry.channels[coded[j - 1]]:
            before[:] = paths.scores
            _restart(j, best, costs, paths)
            begin, diagonal = j, 0
        elif geometry.diagonals[i] != geometry.diagonals[coded[j - 1]]:
            diagonal += 1
            paths.firsts[diagonal] = j
            _enter(diagonal, paths)
        look(i, geometry, paths.scores, before, paths.running[diagonal], features)
        row, shift = address(level_at(paths.starts[i], tables.weights[geometry.groups[i]], features))
        target, magnitudes = abs(targets[i]), tables.magnitudes
        price_0, price_1, choice_0, choice_1 = branches(target, 0, row, weight, magnitudes)
        price_2, price_3, choice_2, choice_3 = branches(target, 1, row, weight, magnitudes)
        if rare(target, shift):
            price_0, price_1, choice_0, choice_1 = rare_branches(target, 0, row, shift, weight, magnitudes)
            price_2, price_3, choice_2, choice_3 = rare_branches(target, 1, row, shift, weight, magnitudes)
        choices = paths.choices[j]
        choices[0], choices[1], choices[2], choices[3] = choice_0, choice_1, choice_2, choice_3
        best = _advance(costs, costs_after, (price_0, price_1, price_2, price_3), machine, paths.ways[j])
        costs, costs_after = costs_after, costs
        first = _mend(j, begin, best, paths, machine, magnitudes)
        if first < paths.firsts[diagonal]:
            stale = diagonal
            while paths.firsts[stale] > first:
                stale -= 1
            for entered in range(stale + 1, diagonal + 1):
                _enter(entered, paths)
    _take(targets, count, paths, symbols, quantisers)


@inlined
def _restart(j: int, best: int, costs: Ints, paths: Paths) -> None:
    """A new channel begins with coefficient j: only the best path goes on, without running means."""
    cost = costs[best]
    costs[:] = _UNREACHED
    costs[best] = cost
    paths.firsts[0] = j
    paths.running[0], paths.sums[j] = 0, 0


@inlined
def _take(targets: Ints, count: int, paths: Paths, symbols: Ints, quantisers: Ints) -> None:
    """Fill in the symbols of the best path and their quantisers."""
    symbols[:] = 0
    for j in range(count):
        i, branch = paths.coded[j], paths.taken[j]
        magnitude = paths.choices[j, branch]
        symbols[i] = magnitude if targets[i] >= 0 else -magnitude
        quantisers[i] = branch >> 1
