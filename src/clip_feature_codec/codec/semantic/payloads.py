"""Vectors to arithmetic-coded streams and back, each at its own step.

All of it is integer arithmetic, in ``payloads.c``.
"""

from __future__ import annotations

import numpy as np

from clip_feature_codec.codec.entropy.machine import Machine
from clip_feature_codec.codec.entropy.magnitudes import Magnitudes
from clip_feature_codec.codec.entropy.quantisers import ROOM
from clip_feature_codec.codec.native import Bytes, Ints, address, loops, memory, place
from clip_feature_codec.codec.semantic.trellis import STATES


def code(
    targets: Ints,
    scales: Ints,
    steps: Ints,
    weights: Ints,
    tables: Magnitudes,
    machine: Machine,
    work: Ints,
    out: Bytes,
) -> Ints:
    """Quantise and code vectors, each at its own step.

    Args:
        targets: int64 (N, n), coefficients in 2^-8 of each vector's step.
        scales: int64 (n,), 16 log2(spread), not increasing.
        steps: int64 (N,), 16 log2(twice the step): a coefficient's level is its scale minus this.
        weights: int64 (N,), lambda, in 2^-12 of the step squared per bit.
        tables: `magnitudes.builtin()`.
        machine: `trellis.MACHINE`.
        work: from `trellis.workspace`, for n or more.
        out: uint8 (N, ROOM (n + 1)), the streams.

    Returns:
        int64 (N,), bytes of each stream.
    """
    count, width = targets.shape
    sizes = np.empty(count, np.int64)
    loops().semantic_code(
        address(targets, np.int64, count, width),
        count,
        width,
        address(scales, np.int64, width),
        address(steps, np.int64, count),
        address(weights, np.int64, count),
        tables.record(),
        machine.record(STATES),
        memory(work, loops().semantic_code_size(width)),
        place(out, np.uint8, count, ROOM * (width + 1)),
        ROOM * (width + 1),
        place(sizes, np.int64, count),
    )
    return sizes


def decode(
    data: Bytes, ends: Ints, scales: Ints, steps: Ints, tables: Magnitudes, machine: Machine, values: Ints
) -> int:
    """Decode streams that lie one behind the other in ``data``.

    Args:
        data: uint8, all the streams.
        ends: int64 (N + 1,), stream i is ``data[ends[i]:ends[i + 1]]``.
        scales: as in `code`.
        steps: as in `code`.
        tables: as in `code`.
        machine: as in `code`.
        values: int64 (N, n), the coefficients in 2^-8 of each vector's step.

    Returns:
        The number of the first stream that is none of ours, or -1.
    """
    count, width = values.shape
    if not 0 <= ends[0] <= ends[-1] <= len(data) or (np.diff(ends) < 0).any():
        raise ValueError(f"ends: found {ends}, expected rising numbers from 0 to {len(data)}")
    work = np.empty((2, width), np.int64)
    first: int = loops().semantic_decode(
        address(data, np.uint8, len(data)),
        address(ends, np.int64, count + 1),
        count,
        width,
        address(scales, np.int64, width),
        address(steps, np.int64, count),
        tables.record(),
        machine.record(STATES),
        place(work, np.int64, 2, width),
        place(values, np.int64, count, width),
    )
    return first


def addresses(symbols: Ints, levels: Ints, gains: Ints, tables: Magnitudes, machine: Machine) -> Ints:
    """What each symbol of a vector is coded with.

    Args:
        symbols: int64 (n,), those that are coded.
        levels: int64 (n,), theirs.
        gains: int64 (n,), from `levels.fill_gains`.
        tables: as in `code`.
        machine: as in `code`.

    Returns:
        int64 (n, 3): row of the tables, low bits that are coded apart, and quantiser.
    """
    width = len(symbols)
    found = np.empty((width, 3), np.int64)
    loops().semantic_addresses(
        address(symbols, np.int64, width),
        address(levels, np.int64, width),
        address(gains, np.int64, width),
        width,
        tables.record(),
        machine.record(STATES),
        place(found, np.int64, width, 3),
    )
    return found
