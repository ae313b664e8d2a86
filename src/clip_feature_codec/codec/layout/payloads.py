"""Layout symbols to an arithmetic-coded stream and back.

All of it is integer arithmetic, in ``payloads.c``.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from clip_feature_codec.codec.entropy.machine import Machine
from clip_feature_codec.codec.entropy.quantisers import ROOM
from clip_feature_codec.codec.layout.tables import CHANNELS, FEATURES, Geometry, LayoutTables
from clip_feature_codec.codec.layout.trellis import STATES
from clip_feature_codec.codec.native import Bytes, Ints, address, loops, memory, place, record


def read(
    data: Bytes, step: int, tables: LayoutTables, geometry: Geometry, machine: Machine, values: Ints
) -> bool:
    """Decode a stream: the symbols of the coefficients whose scale is wide enough for the step.

    Args:
        data: uint8 (bytes,).
        step: its byte.
        tables: `tables.LayoutTables`.
        geometry: `tables.geometry()`.
        machine: `trellis.MACHINE`.
        values: int64 (L,), the result, in 2^-8 of the step.

    Returns:
        True, or False where the bytes are no stream of ours.
    """
    size, work = len(values), _workspace(len(values))
    whole: bool = loops().layout_read(
        address(data, np.uint8, len(data)),
        len(data),
        step,
        tables.record(size),
        geometry.record(size),
        machine.record(STATES),
        place(work, np.int32, work.size),
        place(values, np.int64, size),
    )
    return whole


class Layouts(NamedTuple):
    """Which layouts are worked on, each at its own step.

    Attributes:
        rows: int64 (N, L), coefficients in 1/64, less their mean; neighbours at about the same step go well
            side by side.
        steps: int64 (N,), step bytes.
        sizes: int64 (N,), the steps in 2^-13 of 1/64.
        ends: int64 (N, 3), from which coefficients of each channel on nothing but 0 is looked for.
    """

    rows: Ints
    steps: Ints
    sizes: Ints
    ends: Ints

    def record(self) -> Any:
        """``struct given`` of payloads.c."""
        count, size = self.rows.shape
        return record(
            address(self.rows, np.int64, count, size),
            address(self.steps, np.int64, count),
            address(self.sizes, np.int64, count),
            address(self.ends, np.int64, count, CHANNELS),
        )


class Workspace(NamedTuple):
    """Memory of `code`, one for each thread: what it works on, and where streams of N layouts are written."""

    work: Ints
    out: Bytes

    @classmethod
    def of(cls, count: int, size: int) -> Workspace:
        """For up to N layouts of L coefficients."""
        room = ROOM * (size + 1)
        return cls(np.empty(loops().layout_code_size(size), np.int64), np.empty((count, room), np.uint8))


def code(
    layouts: Layouts,
    weights: Ints,
    tables: LayoutTables,
    geometry: Geometry,
    machine: Machine,
    workspace: Workspace,
) -> tuple[list[bytes], Ints, Ints]:
    """Quantise and code N layouts.

    Args:
        layouts: those.
        weights: int64 (N,), lambda, in 2^-12 of the step squared per bit, below 2^18.
        tables: as in `read`.
        geometry: as in `read`.
        machine: as in `read`.
        workspace: for N layouts or more.

    Returns:
        The N streams; their squared errors, int64 (N,), in 2^-12; and int64 (N, 3), behind the last coefficient of
        each channel that is not 0.
    """
    count, size = layouts.rows.shape
    work, out = workspace.work, workspace.out[:count]
    lengths, outcomes = np.empty(count, np.int64), np.empty((count, 1 + CHANNELS), np.int64)
    loops().layout_code(
        layouts.record(),
        count,
        address(weights, np.int64, count),
        tables.record(size),
        geometry.record(size),
        machine.record(STATES),
        memory(work, loops().layout_code_size(size)),
        place(out, np.uint8, count, ROOM * (size + 1)),
        ROOM * (size + 1),
        place(lengths, np.int64, count),
        place(outcomes, np.int64, count, 1 + CHANNELS),
    )
    streams = [out[row, :length].tobytes() for row, length in enumerate(lengths.tolist())]
    return streams, outcomes[:, 0], outcomes[:, 1:]


def addresses(
    symbols: Ints, step: int, tables: LayoutTables, geometry: Geometry, machine: Machine
) -> tuple[Ints, Ints]:
    """What the symbols are coded with, and what their levels follow from.

    Args:
        symbols: int64 (L,), magnitudes with signs.
        step: as in `read`.
        tables: as in `read`.
        geometry: as in `read`.
        machine: as in `read`.

    Returns:
        int64 (n, 5), for each symbol that is coded its coefficient, where its level starts in 1/256 octave,
        its quantiser, how many low bits are coded apart, and its row of the tables; and the features,
        int64 (n, 8).
    """
    size, work = len(symbols), _workspace(len(symbols))
    places, features = np.empty((size, 5), np.int64), np.empty((size, FEATURES), np.int64)
    count: int = loops().layout_addresses(
        address(symbols, np.int64, size),
        step,
        tables.record(size),
        geometry.record(size),
        machine.record(STATES),
        place(work, np.int32, work.size),
        place(places, np.int64, size, 5),
        place(features, np.int64, size, FEATURES),
    )
    return places[:count], features[:count]


def _workspace(size: int) -> NDArray[np.int32]:
    """Memory for L coefficients."""
    return np.empty(loops().layout_walk_size(size), np.int32)
