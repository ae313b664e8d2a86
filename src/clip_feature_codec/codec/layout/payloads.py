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
from clip_feature_codec.codec.native import Bytes, Ints, address, loops, place, record


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


class Workspace:
    """What `code` works with, one for each thread: memory for up to N layouts, and where the tables are."""

    def __init__(self, count: int, tables: LayoutTables, geometry: Geometry, machine: Machine) -> None:
        """Lay out memory.

        Args:
            count: N.
            tables: as in `read`.
            geometry: as in `read`.
            machine: as in `read`.
        """
        size = self.size = len(geometry.places)
        self.work = np.empty(loops().layout_code_size(size), np.int64)
        self.out = np.empty((count, ROOM * (size + 1)), np.uint8)
        self.lengths, self.outcomes = np.empty(count, np.int64), np.empty((count, 1 + CHANNELS), np.int64)
        self._tables = tables, geometry, machine  # which have to outlive what is said of where they are
        self.inputs = tables.record(size), geometry.record(size), machine.record(STATES)
        self.memory = (
            place(self.work, np.int64, self.work.size),
            place(self.out, np.uint8, *self.out.shape),
            self.out.shape[1],
            place(self.lengths, np.int64, count),
            place(self.outcomes, np.int64, count, 1 + CHANNELS),
        )


def code(layouts: Layouts, weights: Ints, workspace: Workspace) -> tuple[list[bytes], Ints, Ints]:
    """Quantise and code N layouts.

    Args:
        layouts: those.
        weights: int64 (N,), lambda, in 2^-12 of the step squared per bit, below 2^18.
        workspace: for N layouts of L coefficients or more of them.

    Returns:
        The N streams; their squared errors, int64 (N,), in 2^-12; and int64 (N, 3), behind the last
        coefficient of each channel that is not 0.

    Raises:
        ValueError: an array is of another shape, or the workspace is too small.
    """
    count, size = layouts.rows.shape
    if count > len(workspace.out) or size != workspace.size:
        room = len(workspace.out), workspace.size
        raise ValueError(f"layouts: found shape {(count, size)}, expected at most {room}")
    given, lambdas = layouts.record(), address(weights, np.int64, count)
    loops().layout_code(given, count, lambdas, *workspace.inputs, *workspace.memory)
    streams = [workspace.out[row, :length].tobytes() for row, length in enumerate(workspace.lengths[:count])]
    outcomes = workspace.outcomes[:count].copy()
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
