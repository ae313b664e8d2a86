"""The frozen family of integer tables that every coefficient is coded with.

One table per ratio of a coefficient's spread to the step, in eighths of an octave, and per quantiser of the
trellis. They were counted once on trained vectors (recipes/codec/fit_magnitudes.py) and are integers ever
since: no logarithm or exponential is taken where a symbol is decoded.
"""

from __future__ import annotations

import base64
import json
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from clip_feature_codec.codec.entropy.tables import from_base64, to_base64
from clip_feature_codec.codec.native import address, record
from clip_feature_codec.errors import StoreError

PRECISION = 15  # a table's frequencies add up to 2^15
DIRECT = 57  # rows whose symbol is the magnitude itself: spread / (2 step) from 2^-5 to 2^2
FINE = 8  # rows for magnitudes without their low bits, one per eighth of an octave
ROWS = DIRECT + FINE
ORIGIN = 40  # the row in which the spread is twice the step
SYMBOLS = 20  # magnitudes 0 to 18, and 19 for all above
ESCAPE = SYMBOLS - 1

_SHAPE = (ROWS, 2, SYMBOLS)


class Magnitudes(NamedTuple):
    """The tables, as the loops in C take them. Row, quantiser and symbol are the axes in this order.

    Attributes:
        starts: int32 (65, 2, 21), cumulative frequencies from 0 to 2^15; symbol 0 comes first.
        scores: int32 (65, 2, 20), the derivative of a symbol's code length by the row, which moves the
            estimate of a vector's spread.
        information: int32 (65,), the mean square of a row's scores.
        centroids: int32 (65, 2, 20), where a symbol's values lie on average, from its grid point, in
            1/256 of the step.
        costs: int32 (65, 2, 20), code lengths with the sign's bit, in 1/256 bit. They only guide the encoder.
        points: int32 (65, 2, 20), the value of a symbol in a direct row, in 1/256 of the step. Likewise.
        guides: int32 (65, 2, 20), points times 2^16, plus costs: what the encoder reads together.
    """

    starts: NDArray[np.int32]
    scores: NDArray[np.int32]
    information: NDArray[np.int32]
    centroids: NDArray[np.int32]
    costs: NDArray[np.int32]
    points: NDArray[np.int32]
    guides: NDArray[np.int32]

    @classmethod
    def of(
        cls,
        frequencies: NDArray[np.int64],
        scores: NDArray[np.int64],
        information: NDArray[np.int64],
        centroids: NDArray[np.int64],
    ) -> Magnitudes:
        """The tables with what follows from them."""
        starts = np.zeros((*_SHAPE[:2], SYMBOLS + 1), np.int64)
        np.cumsum(frequencies, axis=-1, out=starts[..., 1:])
        costs = code_lengths(frequencies)
        costs[..., 1:] += 256
        grid = 512 * np.arange(SYMBOLS) - 256 * np.arange(2)[:, None]
        points = centroids + grid
        points[..., 0] = 0
        tables = (starts, scores, information, centroids, costs, points, points << 16 | costs)
        return cls(*(table.astype(np.int32) for table in tables))

    def addresses(self) -> list[int]:
        """What ``struct magnitudes`` of magnitudes.h holds."""
        return [
            address(self.starts, np.int32, *_SHAPE[:2], SYMBOLS + 1),
            address(self.scores, np.int32, *_SHAPE),
            address(self.information, np.int32, ROWS),
            address(self.centroids, np.int32, *_SHAPE),
            address(self.costs, np.int32, *_SHAPE),
            address(self.points, np.int32, *_SHAPE),
            address(self.guides, np.int32, *_SHAPE),
        ]

    def record(self) -> Any:
        """``struct magnitudes`` of magnitudes.h."""
        return record(*self.addresses())

    def to_bytes(self) -> bytes:
        """What decoding depends on, for a hash: the arrays of `to_json`, joined."""
        return b"".join(base64.b64decode(text) for text in self.to_json().values())

    def to_json(self) -> dict[str, str]:
        """The four tables that decoding needs, as base64 of little-endian int16 (information: int32)."""
        return {
            "frequencies": to_base64(np.diff(self.starts, axis=-1)),
            "scores": to_base64(self.scores),
            "information": to_base64(self.information, "<i4"),
            "centroids": to_base64(self.centroids),
        }

    @classmethod
    def from_json(cls, data: Any) -> Magnitudes:
        """Tables from what `to_json` gave.

        Raises:
            StoreError: a table is missing, of another size, or its frequencies do not add up to 2^15.
        """
        frequencies = from_base64(data, "frequencies", _SHAPE)
        sums = frequencies.sum(axis=-1)
        if (frequencies < 1).any() or (sums != 1 << PRECISION).any():
            found = f"a table that adds up to {sums[sums != 1 << PRECISION].min(initial=1 << PRECISION)}"
            expected = f"positive numbers that add up to {1 << PRECISION}"
            raise StoreError(f"frequencies: found {found}, expected {expected}")
        information = from_base64(data, "information", (ROWS,), "<i4")
        if (information < 0).any():
            raise StoreError(f"information: found {information.min()}, expected 0 or more")
        scores, centroids = (from_base64(data, name, _SHAPE) for name in ("scores", "centroids"))
        if (np.abs(centroids) > 256).any():
            raise StoreError(
                f"centroids: found {centroids.ravel()[np.abs(centroids).argmax()]}, expected -256 to 256"
            )
        return cls.of(frequencies, scores, information, centroids)


@cache
def builtin() -> Magnitudes:
    """The package's tables."""
    return Magnitudes.from_json(json.loads(Path(__file__).with_name("magnitudes.json").read_bytes()))


def code_lengths(frequencies: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
    """-log2(f / 2^15) in 1/256 bit, rounded down, in integers so that every machine agrees.

    The binary logarithm bit by bit: squaring a number in [1, 2) doubles its logarithm, whose next bit is 1
    where the square reaches 2.

    Args:
        frequencies: integers from 1 to 2^15.

    Returns:
        int64, of the same shape.
    """
    frequencies = frequencies.astype(np.int64)
    exponent = np.zeros_like(frequencies)
    for bit in range(PRECISION, 0, -1):
        exponent = np.where((frequencies >> bit > 0) & (exponent == 0), bit, exponent)
    mantissa = frequencies << (30 - exponent)  # [1, 2) in 1/2^30
    logarithm = exponent
    for _ in range(8):
        mantissa = mantissa * mantissa >> 30
        carry = mantissa >> 31
        mantissa >>= carry
        logarithm = 2 * logarithm + carry
    lengths: NDArray[np.int64] = (PRECISION << 8) - logarithm
    return lengths
