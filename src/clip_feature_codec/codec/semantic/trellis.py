"""Dependent quantisation of a vector: from coefficients to the magnitudes that code them best.

Two quantisers share one grid of multiples of the step: Q0 has the even ones, Q1 the odd ones and zero. A
machine of 128 states, which the parities of the magnitudes so far drive, says which of the two the next
coefficient is coded with; so a coefficient costs what the coarse grid of one quantiser costs, and a path
through the machine finds points nearly as close as the fine grid's (Marcellin and Fischer, "Trellis coded
quantization", 1990; the union of subsets and the parity rule as in JPEG 2000 part 2 and in H.266). The
encoder finds the path of least distortion + lambda rate with the Viterbi algorithm.

All of it is integer arithmetic.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from clip_feature_codec.codec.entropy.compiled import compiled, inlined
from clip_feature_codec.codec.entropy.machine import Machine
from clip_feature_codec.codec.entropy.magnitudes import Magnitudes
from clip_feature_codec.codec.entropy.quantisers import Bytes, Ints, branches, rare, rare_branches
from clip_feature_codec.codec.semantic.levels import drift_after, drifted_address

Int32s: TypeAlias = NDArray[np.int32]

STATES_LOG2 = 7
STATES = 1 << STATES_LOG2
MACHINE = Machine.of(0o235, 0o126, STATES_LOG2)  # Ungerboeck 1987, table I, amplitude modulation

_HALF = STATES >> 1
_DEAREST = 1 << 26  # prices are no further apart, so that the costs of paths fit int32
_UNREACHED = np.int32(1 << 29)  # beyond what seven branches cost, after which all states are reached


class Work(NamedTuple):
    """Memory of the search.

    Attributes:
        costs: int32 (2, states), of the best path to each state, before and after a coefficient.
        ways: uint8 (n, states / 2), by which of its two ways the best path to state 2 u (bit 0) and 2 u + 1
            (bit 1) came: from state u, 0, or from u + states / 2, 1.
        choices: int64 (n, 4), the magnitudes that are branched to, by 2 * quantiser + parity.
    """

    costs: Int32s
    ways: Bytes
    choices: Ints


def workspace(width: int) -> Work:
    """Memory for vectors of up to ``width`` coefficients."""
    ways = np.empty((width, _HALF), np.uint8)
    return Work(np.empty((2, STATES), np.int32), ways, np.empty((width, 4), np.int64))


@compiled
def _advance(
    costs: Int32s,
    costs_after: Int32s,
    prices: tuple[np.int32, np.int32, np.int32, np.int32],
    machine: Machine,
    ways: Bytes,
) -> tuple[np.int32, np.int32]:
    """One step of the Viterbi algorithm; returns the least cost before it of the states of each quantiser.

    Args:
        costs: int32 (states,), before.
        costs_after: int32 (states,), the result.
        prices: of 2 * quantiser + parity, int32.
        machine: `MACHINE`.
        ways: uint8 (states / 2,), the result (see `Work`).
    """
    even_0, odd_0, even_1, odd_1 = prices
    least_0 = least_1 = _UNREACHED
    for u in range(_HALF):
        quantiser = machine.quantisers[u]
        even, odd = (even_1, odd_1) if quantiser else (even_0, odd_0)
        to_0, to_1 = (odd, even) if machine.parities[u] else (even, odd)
        low, high = costs[u], costs[u + _HALF]
        low_0, high_0 = np.int32(low + to_0), np.int32(high + to_1)
        low_1, high_1 = np.int32(low + to_1), np.int32(high + to_0)
        costs_after[2 * u], costs_after[2 * u + 1] = min(low_0, high_0), min(low_1, high_1)
        ways[u] = np.uint8(high_0 < low_0) | np.uint8(high_1 < low_1) << np.uint8(1)
        least = min(low, high)
        least_0 = min(least_0, _UNREACHED if quantiser else least)
        least_1 = min(least_1, least if quantiser else _UNREACHED)
    return least_0, least_1


@compiled
def quantise(
    targets: Ints,
    levels: Ints,
    gains: Ints,
    weight: int,
    tables: Magnitudes,
    machine: Machine,
    work: Work,
    symbols: Ints,
) -> None:
    """Fill ``symbols`` with the path of least distortion + weight * rate.

    Rates are those at the drift of the best path so far, so that paths need not carry their own.

    Args:
        targets: int64 (n,), the coefficients that are coded, in 2^-8 of the step.
        levels: int64 (n,), theirs, at `LOWEST_LEVEL` or above.
        gains: int64 (n,), from `levels.fill_gains`.
        weight: lambda, in 2^-12 of the step squared per bit.
        tables: the frozen tables.
        machine: `MACHINE`.
        work: from `workspace`.
        symbols: int64 (n,), the result: magnitudes with the targets' signs.
    """
    before, after = work.costs[0], work.costs[1]
    before[:] = _UNREACHED
    before[0] = 0
    drift, least = 0, np.int32(0)
    for j in range(len(targets)):
        row, shift = drifted_address(levels[j], drift)
        target = abs(targets[j])
        price_0, price_1, choice_0, choice_1 = branches(target, 0, row, weight, tables)
        price_2, price_3, choice_2, choice_3 = branches(target, 1, row, weight, tables)
        if rare(target, shift):
            price_0, price_1, choice_0, choice_1 = rare_branches(target, 0, row, shift, weight, tables)
            price_2, price_3, choice_2, choice_3 = rare_branches(target, 1, row, shift, weight, tables)
        choices = work.choices[j]
        choices[0], choices[1], choices[2], choices[3] = choice_0, choice_1, choice_2, choice_3
        # What all paths have paid by now is taken off, so that costs stay small.
        base = min(price_0, price_1, price_2, price_3)
        even_0, odd_0 = _relative(price_0, base, least), _relative(price_1, base, least)
        even_1, odd_1 = _relative(price_2, base, least), _relative(price_3, base, least)
        least_0, least_1 = _advance(before, after, (even_0, odd_0, even_1, odd_1), machine, work.ways[j])
        before, after = after, before
        cheapest_0, cheapest_1 = least_0 + min(even_0, odd_0), least_1 + min(even_1, odd_1)
        least = min(cheapest_0, cheapest_1)
        quantiser = 0 if cheapest_0 <= cheapest_1 else 1
        parity = np.int64(odd_0 < even_0 if quantiser == 0 else odd_1 < even_1)
        drift = drift_after(drift, gains[j], row, shift, quantiser, choices[2 * quantiser + parity], tables)
    _follow_back(targets, np.argmin(before), machine, work, symbols)


@inlined
def _relative(price: int, base: int, least: np.int32) -> np.int32:
    """A branch's price, above that of the cheapest branch and less what the cheapest path has paid."""
    return np.int32(min(price - base, _DEAREST) - least)


@inlined
def _follow_back(targets: Ints, state: np.intp, machine: Machine, work: Work, symbols: Ints) -> None:
    """Fill ``symbols`` with the path that ends in ``state``."""
    for j in range(len(targets) - 1, -1, -1):
        u, newest = state >> 1, state & 1
        way = np.int64(work.ways[j, u]) >> newest & 1
        parity = newest ^ machine.parities[u] ^ way
        magnitude = work.choices[j, 2 * machine.quantisers[u] + parity]
        symbols[j] = magnitude if targets[j] >= 0 else -magnitude
        state = np.intp(u + way * _HALF)
