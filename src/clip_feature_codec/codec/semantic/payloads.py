"""Vectors to arithmetic-coded streams and back, each at its own step.

All of it is integer arithmetic, in ``payloads.c``.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from clip_feature_codec.codec.entropy.machine import Machine
from clip_feature_codec.codec.entropy.magnitudes import Magnitudes
from clip_feature_codec.codec.entropy.quantisers import ROOM
from clip_feature_codec.codec.native import Bytes, Ints, address, loops, memory, place, record
from clip_feature_codec.codec.semantic.trellis import STATES

Symbols: TypeAlias = NDArray[np.int16]


class Vectors(NamedTuple):
    """Which vectors are worked on, each at its own step.

    Attributes:
        coefficients: float64 (M, D), any number of coefficients behind those that are coded.
        scales: int64 (n,), 16 log2(spread) of those that may be coded, not increasing.
        rows: int64 (N,), which of the vectors; neighbours at the same step share some of the work.
        steps: int64 (N,), 16 log2(twice the step): a coefficient's level is its scale minus this.
        factors: float64 (N,), what takes coefficients to 2^-8 of each vector's step.
    """

    coefficients: NDArray[np.float64]
    scales: Ints
    rows: Ints
    steps: Ints
    factors: NDArray[np.float64]

    def record(self) -> Any:
        """``struct vectors`` of payloads.c.

        Raises:
            ValueError: an array is of another kind or shape, or a row is none of the vectors.
        """
        (there, stride), width, count = self.coefficients.shape, len(self.scales), len(self.rows)
        if width > stride or (count and not 0 <= self.rows.min() <= self.rows.max() < there):
            found = f"{width} scales and rows {self.rows}"
            raise ValueError(f"vectors: found {found}, expected those of {there} vectors of {stride} numbers")
        return record(
            address(self.coefficients, np.float64, there, stride),
            stride,
            width,
            address(self.scales, np.int64, width),
            address(self.rows, np.int64, count),
            address(self.steps, np.int64, count),
            address(self.factors, np.float64, count),
        )


def code(
    vectors: Vectors,
    weights: Ints,
    tables: Magnitudes,
    machine: Machine,
    work: Ints,
    out: Bytes,
    mean: Ints | None = None,
    sums: Ints | None = None,
    most: Ints | None = None,
    symbols: Symbols | None = None,
) -> Ints:
    """Quantise and code N vectors.

    Args:
        vectors: those, of which up to n coefficients are coded.
        weights: int64 (N,), lambda, in 2^-12 of the step squared per bit, below 2^18.
        tables: `magnitudes.builtin()`.
        machine: `trellis.MACHINE`.
        work: from `trellis.workspace`, for n or more.
        out: uint8 (N, ROOM (n + 1)), the streams.
        mean: int64 (n,), coefficients of the mean, for the last of the sums; by default zeros.
        sums: int64 (N, 3), a second result, in 2^-8 of the step: the squared error of the coded coefficients,
            and the sums over values that will be decoded, times themselves and times ``mean``.
        most: int64 (N,), bytes beyond which a stream is of no use and need not be written; any by default.
        symbols: int16 (N, n), a third result, for `write`.

    Returns:
        int64 (N,), bytes of each stream; about what it would have, where that is more than is of use.
    """
    count, width = len(vectors.rows), len(vectors.scales)
    sizes = np.full(count, ROOM * (width + 1)) if most is None else most.copy()
    mean = np.zeros(width, np.int64) if mean is None else mean
    sums = np.empty((count, 3), np.int64) if sums is None else sums
    loops().semantic_code(
        vectors.record(),
        count,
        address(weights, np.int64, count),
        tables.record(),
        machine.record(STATES),
        address(mean, np.int64, width),
        memory(work, loops().semantic_code_size(width)),
        place(out, np.uint8, count, ROOM * (width + 1)),
        ROOM * (width + 1),
        place(sizes, np.int64, count),
        place(sums, np.int64, count, 3),
        None if symbols is None else place(symbols, np.int16, count, width),
    )
    return sizes


def write(
    symbols: Symbols,
    scales: Ints,
    steps: Ints,
    tables: Magnitudes,
    machine: Machine,
    work: Ints,
    out: Bytes,
    values: Ints,
) -> Ints:
    """Code symbols that `code` found.

    Args:
        symbols: int16 (N, n).
        scales: as in `Vectors`.
        steps: as in `Vectors`.
        tables: as in `code`.
        machine: as in `code`.
        work: as in `code`.
        out: uint8 (N, ROOM (n + 1)), the streams.
        values: int64 (N, n), a second result, what `decode` will give.

    Returns:
        int64 (N,), bytes of each stream.
    """
    count, width = values.shape
    sizes = np.empty(count, np.int64)
    loops().semantic_write(
        address(symbols, np.int16, count, width),
        count,
        width,
        address(scales, np.int64, width),
        address(steps, np.int64, count),
        tables.record(),
        machine.record(STATES),
        memory(work, loops().semantic_code_size(width)),
        place(out, np.uint8, count, ROOM * (width + 1)),
        ROOM * (width + 1),
        place(sizes, np.int64, count),
        place(values, np.int64, count, width),
    )
    return sizes


def foretell(vectors: Vectors, weight: int, tables: Magnitudes, work: Ints) -> Ints:
    """What N vectors would take about, without a search for the best path.

    Each coefficient takes what is cheapest for it, whatever the quantiser.

    Args:
        vectors: as in `code`.
        weight: lambda, for all.
        tables: as in `code`.
        work: as in `code`.

    Returns:
        int64 (N, 2): bits, in 1/256; and how much less the squared error is than that of zeros, in 2^-16 of
        the step squared.
    """
    count, width = len(vectors.rows), len(vectors.scales)
    found = np.empty((count, 2), np.int64)
    loops().semantic_foretell(
        vectors.record(),
        count,
        weight,
        tables.record(),
        memory(work, loops().semantic_code_size(width)),
        place(found, np.int64, count, 2),
    )
    return found


def decode(
    data: Bytes, ends: Ints, scales: Ints, steps: Ints, tables: Magnitudes, machine: Machine, values: Ints
) -> int:
    """Decode streams that lie one behind the other in ``data``.

    Args:
        data: uint8, all the streams.
        ends: int64 (N + 1,), stream i is ``data[ends[i]:ends[i + 1]]``.
        scales: as in `Vectors`.
        steps: as in `Vectors`.
        tables: as in `code`.
        machine: as in `code`.
        values: int64 (N, n), the coefficients in 2^-8 of each vector's step.

    Returns:
        The number of the first stream that is none of ours, or -1.
    """
    count, width = values.shape
    if not 0 <= ends[0] <= ends[-1] <= len(data) or (np.diff(ends) < 0).any():
        raise ValueError(f"ends: found {ends}, expected rising numbers from 0 to {len(data)}")
    gains = np.empty(width, np.int32)
    first: int = loops().semantic_decode(
        address(data, np.uint8, len(data)),
        address(ends, np.int64, count + 1),
        count,
        width,
        address(scales, np.int64, width),
        address(steps, np.int64, count),
        tables.record(),
        machine.record(STATES),
        place(gains, np.int32, width),
        place(values, np.int64, count, width),
    )
    return first


def addresses(
    symbols: Ints, levels: Ints, gains: NDArray[np.int32], tables: Magnitudes, machine: Machine
) -> Ints:
    """What each symbol of a vector is coded with.

    Args:
        symbols: int64 (n,), those that are coded.
        levels: int64 (n,), theirs.
        gains: int32 (n,), from `levels.fill_gains`.
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
        address(gains, np.int32, width),
        width,
        tables.record(),
        machine.record(STATES),
        place(found, np.int64, width, 3),
    )
    return found
