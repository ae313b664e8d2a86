"""Dependent quantisation of a vector: from coefficients to the magnitudes that code them best.

Two quantisers share one grid of multiples of the step: Q0 has the even ones, Q1 the odd ones and zero. A
machine of 128 states, which the parities of the magnitudes so far drive, says which of the two the next
coefficient is coded with; so a coefficient costs what the coarse grid of one quantiser costs, and a path
through the machine finds points nearly as close as the fine grid's (Marcellin and Fischer, "Trellis coded
quantization", 1990; the union of subsets and the parity rule as in JPEG 2000 part 2 and in H.266). The
encoder finds the path of least distortion + lambda rate with the Viterbi algorithm.

All of it is integer arithmetic, in ``trellis.c``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from clip_feature_codec.codec.entropy.machine import Machine
from clip_feature_codec.codec.entropy.magnitudes import Magnitudes
from clip_feature_codec.codec.native import Ints, address, loops, memory, place

STATES_LOG2 = 7
STATES = 1 << STATES_LOG2
MACHINE = Machine.of(0o235, 0o126, STATES_LOG2)  # Ungerboeck 1987, table I, amplitude modulation


def workspace(width: int) -> Ints:
    """Memory of `quantise` and `payloads.code` for up to ``width`` coefficients; one for each thread."""
    return np.empty(loops().semantic_code_size(width), np.int64)


def quantise(
    targets: Ints,
    levels: Ints,
    gains: NDArray[np.int32],
    weight: int,
    tables: Magnitudes,
    machine: Machine,
    work: Ints,
    symbols: Ints,
) -> None:
    """Fill ``symbols`` with the path of least distortion + weight * rate.

    Rates are those at the drift of the best path so far, so that paths need not carry their own.

    Args:
        targets: int64 (n,), the coefficients that are coded, in 2^-8 of the step.
        levels: int64 (n,), theirs, at `LOWEST_LEVEL` or above.
        gains: int32 (n,), from `levels.fill_gains`.
        weight: lambda, in 2^-12 of the step squared per bit.
        tables: the frozen tables.
        machine: `MACHINE`.
        work: from `workspace`.
        symbols: int64 (n,), the result: magnitudes with the targets' signs.
    """
    width = len(targets)
    loops().semantic_quantise(
        address(targets, np.int64, width),
        address(levels, np.int64, width),
        address(gains, np.int32, width),
        width,
        weight,
        tables.record(),
        machine.record(STATES),
        memory(work, loops().semantic_search_size(width)),
        place(symbols, np.int64, width),
    )
