"""The layout layer's coefficients, their order, what each may know of the others, and the trained tables."""

from __future__ import annotations

import base64
import json
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from clip_feature_codec.codec.entropy.magnitudes import Magnitudes
from clip_feature_codec.codec.entropy.tables import from_base64, to_base64
from clip_feature_codec.codec.native import address, record
from clip_feature_codec.errors import StoreError

CHANNELS = 3
RADII = (1640, 650, 650)  # a channel has the frequencies (u, v) with u^2 + v^2 up to this
SIDE = 41  # frequencies 0 to 40 in each direction
_BANDS = (9, 49, 169)  # u^2 + v^2 at which the next set of weights begins
GROUPS = CHANNELS * (len(_BANDS) + 1)
FEATURES = 8  # what a coefficient's spread is estimated from (see context.h)
_SAME_CHANNEL = ((-1, 0), (0, -1), (-2, 0), (0, -2), (-1, 1), (-2, 2), (-3, 0), (0, -3))
LOOKED_AT = len(_SAME_CHANNEL)


class Geometry(NamedTuple):
    """The L coefficients in the order in which they are coded: by channel, u + v and u.

    Attributes:
        places: int64 (L, 3), channel, vertical frequency u and horizontal frequency v.
        neighbours: uint16 (L, 10), the coefficients at (u, v) + (-1, 0), (0, -1), (-2, 0), (0, -2), (-1, 1),
            (-2, 2), (-3, 0), (0, -3) of the same channel, and at (u, v) of channel 0 and of channel 1 where
            those are earlier ones; L where there is none.
        diagonals: int64 (L,), a number that changes with u + v.
        channels: int64 (L,).
        groups: int64 (L,), 4 * channel + band: which row of weights a coefficient has.
    """

    places: NDArray[np.int64]
    neighbours: NDArray[np.uint16]
    diagonals: NDArray[np.int64]
    channels: NDArray[np.int64]
    groups: NDArray[np.int64]

    def record(self, size: int) -> Any:
        """``struct geometry`` of context.h, for loops over L = ``size`` coefficients."""
        return record(
            address(self.neighbours, np.uint16, size, LOOKED_AT + 2),
            address(self.diagonals, np.int64, size),
            address(self.channels, np.int64, size),
            address(self.groups, np.int64, size),
            size,
        )


@cache
def geometry() -> Geometry:
    """The geometry, which is the same for all tables."""
    channels, u, v = np.indices((CHANNELS, SIDE, SIDE)).reshape(CHANNELS, -1)
    inside = u * u + v * v <= np.array(RADII)[channels]
    channels, u, v = channels[inside], u[inside], v[inside]
    order = np.lexsort((u, u + v, channels))
    places = np.stack([channels, u, v], axis=1)[order]
    channels, u, v = np.ascontiguousarray(places.T)
    none, margin = len(places), 1 + max(abs(offset) for pair in _SAME_CHANNEL for offset in pair)
    index = np.full((CHANNELS, SIDE + 2 * margin, SIDE + 2 * margin), none)
    index[channels, u + margin, v + margin] = np.arange(none)
    near = [index[channels, u + margin + du, v + margin + dv] for du, dv in _SAME_CHANNEL]
    near += [np.where(channels > c, index[c, u + margin, v + margin], none) for c in range(CHANNELS - 1)]
    groups = channels * (len(_BANDS) + 1) + np.digitize(u * u + v * v, _BANDS)
    return Geometry(places, np.stack(near, axis=1).astype(np.uint16), u + v, channels, groups)


class LayoutTables(NamedTuple):
    """The trained numbers of the layout layer, all integers.

    Attributes:
        scales: int64 (L,), 256 log2 of a coefficient's usual size over half the finest step.
        weights: int64 (12, 8), what each feature adds to that, in 1/256; rows are `Geometry.groups`.
        mean: int64 (L,), the mean picture, in 1/64; zero beyond the lowest frequencies.
        magnitudes: frequencies, scores and centroids of the symbols.
    """

    scales: NDArray[np.int64]
    weights: NDArray[np.int64]
    mean: NDArray[np.int64]
    magnitudes: Magnitudes

    def record(self, size: int) -> Any:
        """``struct layout_tables`` of context.h, for loops over L = ``size`` coefficients."""
        scales = address(self.scales, np.int64, size)
        weights = address(self.weights, np.int64, GROUPS, FEATURES)
        return record(scales, weights, *self.magnitudes.addresses())

    def to_json(self) -> dict[str, Any]:
        """The tables as a JSON-able dictionary of base64 strings, little-endian int16 inside."""
        return {
            "scales": to_base64(self.scales),
            "weights": to_base64(self.weights),
            "mean": to_base64(self.mean[_mean_places()]),
            **self.magnitudes.to_json(),
        }

    def to_bytes(self) -> bytes:
        """The tables as bytes: what the strings of `to_json` hold, in its order."""
        return b"".join(base64.b64decode(text) for text in self.to_json().values())

    @classmethod
    def from_json(cls, data: Any) -> LayoutTables:
        """Tables from what `to_json` gave; further keys are ignored.

        Raises:
            StoreError: a table is missing, of another size, or a number is out of its range.
        """
        if not isinstance(data, dict):
            raise StoreError(f"layout tables: found {type(data).__name__}, expected an object")
        count = len(geometry().places)
        mean = np.zeros(count, np.int64)
        try:
            mean[_mean_places()] = from_base64(data, "mean", (len(_mean_places()),))
            scales = from_base64(data, "scales", (count,))
            weights = from_base64(data, "weights", (GROUPS, FEATURES))
            magnitudes = Magnitudes.from_json(data)
        except StoreError as error:
            raise StoreError(f"layout, {error}") from None
        if np.abs(scales).max() > MAX_SCALE or np.abs(weights).max() > MAX_WEIGHT:
            limits = f"a scale beyond {MAX_SCALE} or a weight beyond {MAX_WEIGHT}"
            raise StoreError(f"layout tables: found {limits}, expected numbers within")
        return cls(scales, weights, mean, magnitudes)


MAX_SCALE = 4096
MAX_WEIGHT = 16384


@cache
def builtin() -> LayoutTables:
    """The package's tables."""
    return LayoutTables.from_json(json.loads(Path(__file__).with_name("tables.json").read_bytes()))


@cache
def _mean_places() -> NDArray[np.int64]:
    """The coefficients that have a mean: u and v of 0 or 1."""
    places = geometry().places
    found: NDArray[np.int64] = np.flatnonzero((places[:, 1] < 2) & (places[:, 2] < 2))
    return found
