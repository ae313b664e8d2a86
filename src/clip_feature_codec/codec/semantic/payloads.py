"""Vectors to arithmetic-coded streams and back, each at its own step. All of it is integer arithmetic."""

from __future__ import annotations

import numpy as np

from clip_feature_codec.codec.entropy.arithmetic import complete, flush, reader, writer
from clip_feature_codec.codec.entropy.compiled import compiled
from clip_feature_codec.codec.entropy.machine import Machine, following
from clip_feature_codec.codec.entropy.magnitudes import Magnitudes
from clip_feature_codec.codec.entropy.quantisers import (
    MAX_SYMBOL,
    Bytes,
    Ints,
    point,
    put_magnitude,
    take_magnitude,
)
from clip_feature_codec.codec.semantic.levels import drift_after, drifted_address, fill_gains
from clip_feature_codec.codec.semantic.trellis import Work, quantise


@compiled
def _write(
    symbols: Ints, levels: Ints, gains: Ints, tables: Magnitudes, machine: Machine, buffer: Bytes
) -> int:
    """Code symbols; returns the number of bytes in ``buffer``, which has ROOM for each and once more.

    Args:
        symbols: int64 (n,), those that are coded.
        levels: int64 (n,), theirs.
        gains: int64 (n,), theirs.
        tables: the frozen tables.
        machine: `trellis.MACHINE`.
        buffer: uint8 (ROOM (n + 1),).
    """
    coder = writer()
    state, drift = 0, 0
    for j in range(len(symbols)):
        row, shift = drifted_address(levels[j], drift)
        q = machine.quantisers[state]
        put_magnitude(coder, symbols[j], shift, tables.starts[row, q], buffer)
        drift = drift_after(drift, gains[j], row, shift, q, abs(symbols[j]), tables)
        state = following(state, symbols[j], machine.parities)
    return flush(coder, buffer)


@compiled
def _read(
    data: Bytes,
    span: tuple[int, int],
    levels: Ints,
    gains: Ints,
    tables: Magnitudes,
    machine: Machine,
    values: Ints,
) -> bool:
    """Decode ``data[span[0]:span[1]]`` into ``values``, int64 (n,), in 2^-8 of the step.

    Returns:
        True, or False where the bytes are no stream of ours.
    """
    begin, end = span
    coder = reader(data, begin, end)
    state, drift = 0, 0
    for j in range(len(levels)):
        row, shift = drifted_address(levels[j], drift)
        q = machine.quantisers[state]
        symbol = take_magnitude(coder, shift, tables.starts[row, q], data, end)
        if abs(symbol) >= MAX_SYMBOL:
            return False
        values[j] = point(symbol, q, shift, tables.centroids[row, q])
        drift = drift_after(drift, gains[j], row, shift, q, abs(symbol), tables)
        state = following(state, symbol, machine.parities)
    return complete(coder, data, begin, end)


@compiled
def code(
    targets: Ints,
    scales: Ints,
    steps: Ints,
    weights: Ints,
    tables: Magnitudes,
    machine: Machine,
    work: Work,
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
    sizes = np.zeros(count, np.int64)
    gains, symbols, coded = np.empty(width, np.int64), np.empty(width, np.int64), 0
    for i in range(count):
        levels = scales - steps[i]
        if i == 0 or steps[i] != steps[i - 1]:
            coded = fill_gains(levels, tables.information, gains)
        these = symbols[:coded]
        quantise(targets[i, :coded], levels[:coded], gains[:coded], weights[i], tables, machine, work, these)
        sizes[i] = _write(these, levels[:coded], gains[:coded], tables, machine, out[i])
    return sizes


@compiled
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
    gains, coded = np.empty(values.shape[1], np.int64), 0
    values[:] = 0
    for i in range(len(steps)):
        levels = scales - steps[i]
        if i == 0 or steps[i] != steps[i - 1]:
            coded = fill_gains(levels, tables.information, gains)
        span = ends[i], ends[i + 1]
        if not _read(data, span, levels[:coded], gains[:coded], tables, machine, values[i, :coded]):
            return i
    return -1
