"""Dependent quantisation of a layout: from coefficients to the magnitudes that code them best.

The quantisers and the way a machine of parities switches between them are those of the semantic layer (see
`semantic.trellis`), with 8 states; levels come from ``context.h``. All of it is integer arithmetic, in
``trellis.c``.
"""

from __future__ import annotations

import numpy as np

from clip_feature_codec.codec.entropy.machine import Machine
from clip_feature_codec.codec.layout.tables import Geometry, LayoutTables
from clip_feature_codec.codec.native import Ints, address, loops, memory, place

STATES_LOG2 = 3
STATES = 1 << STATES_LOG2
MACHINE = Machine.of(0o13, 0o4, STATES_LOG2)  # Ungerboeck's 8-state code


def workspace(size: int) -> Ints:
    """Memory of `quantise` for L coefficients; one for each thread."""
    return np.empty(loops().layout_search_size(size), np.int64)


def quantise(
    targets: Ints,
    step: int,
    weight: int,
    tables: LayoutTables,
    geometry: Geometry,
    machine: Machine,
    work: Ints,
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
        work: from `workspace`.
        symbols: int64 (L,), the result: magnitudes with the targets' signs.
        quantisers: int64 (L,), those they belong to; nothing where no symbol is coded.
    """
    size = len(targets)
    loops().layout_quantise(
        address(targets, np.int64, size),
        step,
        weight,
        tables.record(size),
        geometry.record(size),
        machine.record(STATES),
        memory(work, loops().layout_search_size(size)),
        place(symbols, np.int64, size),
        place(quantisers, np.int64, size),
    )
