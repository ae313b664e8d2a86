"""Layout symbols to an arithmetic-coded stream and back. All of it is integer arithmetic."""

from __future__ import annotations

import numpy as np

from clip_feature_codec.codec.entropy.arithmetic import complete, flush, reader, writer
from clip_feature_codec.codec.entropy.compiled import compiled
from clip_feature_codec.codec.entropy.machine import Machine, following
from clip_feature_codec.codec.entropy.quantisers import (
    MAX_SYMBOL,
    Bytes,
    Ints,
    address,
    point,
    put_magnitude,
    take_magnitude,
)
from clip_feature_codec.codec.layout.context import RUNNING, level_at, look, note, score_of, select, turn
from clip_feature_codec.codec.layout.tables import FEATURES, Geometry, LayoutTables


@compiled
def write(
    symbols: Ints,
    step: int,
    tables: LayoutTables,
    geometry: Geometry,
    machine: Machine,
    buffer: Bytes,
    values: Ints,
) -> int:
    """Code the symbols of the coefficients that `select` names.

    Args:
        symbols: int64 (L,), magnitudes with signs.
        step: its byte.
        tables: `tables.LayoutTables`.
        geometry: `tables.geometry()`.
        machine: `trellis.MACHINE`.
        buffer: uint8 (ROOM (L + 1),), the stream.
        values: int64 (L,), what will be decoded, in 2^-8 of the step.

    Returns:
        How many bytes the stream has.
    """
    size = len(symbols)
    coded, starts = np.empty(size, np.int64), np.empty(size, np.int64)
    count = select(tables.scales, step, coded, starts)
    scores, before = np.zeros(size + 1, np.int64), np.zeros(size + 1, np.int64)
    running, features = np.zeros(RUNNING, np.int64), np.empty(FEATURES, np.int64)
    coder = writer()
    values[:] = 0
    state, last = 0, -1
    for i in coded[:count]:
        if turn(i, last, geometry, running):
            before[:] = scores
        look(i, geometry, scores, before, running, features)
        row, shift = address(level_at(starts[i], tables.weights[geometry.groups[i]], features))
        quantiser, symbol = machine.quantisers[state], symbols[i]
        put_magnitude(coder, symbol, shift, tables.magnitudes.starts[row, quantiser], buffer)
        values[i] = point(symbol, quantiser, shift, tables.magnitudes.centroids[row, quantiser])
        score, information = score_of(starts[i], abs(symbol), quantiser, tables.magnitudes)
        note(i, score, information, scores, running)
        state, last = following(state, symbol, machine.parities), i
    return flush(coder, buffer)


@compiled
def read(
    data: Bytes, step: int, tables: LayoutTables, geometry: Geometry, machine: Machine, values: Ints
) -> bool:
    """Decode a stream.

    Args:
        data: uint8 (bytes,).
        step: as in `write`.
        tables: as in `write`.
        geometry: as in `write`.
        machine: as in `write`.
        values: int64 (L,), the result, in 2^-8 of the step.

    Returns:
        True, or False where the bytes are no stream of ours.
    """
    end, size = len(data), len(values)
    coded, starts = np.empty(size, np.int64), np.empty(size, np.int64)
    count = select(tables.scales, step, coded, starts)
    scores, before = np.zeros(size + 1, np.int64), np.zeros(size + 1, np.int64)
    running, features = np.zeros(RUNNING, np.int64), np.empty(FEATURES, np.int64)
    coder = reader(data, 0, end)
    values[:] = 0
    state, last = 0, -1
    for i in coded[:count]:
        if turn(i, last, geometry, running):
            before[:] = scores
        look(i, geometry, scores, before, running, features)
        row, shift = address(level_at(starts[i], tables.weights[geometry.groups[i]], features))
        quantiser = machine.quantisers[state]
        symbol = take_magnitude(coder, shift, tables.magnitudes.starts[row, quantiser], data, end)
        if abs(symbol) >= MAX_SYMBOL:
            return False
        values[i] = point(symbol, quantiser, shift, tables.magnitudes.centroids[row, quantiser])
        score, information = score_of(starts[i], abs(symbol), quantiser, tables.magnitudes)
        note(i, score, information, scores, running)
        state, last = following(state, symbol, machine.parities), i
    return complete(coder, data, 0, end)
