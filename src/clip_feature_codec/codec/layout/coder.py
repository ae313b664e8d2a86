"""The layout layer: a coarse colour picture in a few dozen bytes.

The picture, squashed to a square, goes through a discrete cosine transform (DCT-II) in an opponent colour
space; the lowest frequencies are quantised with one step and coded with trained integer tables
(`trellis`). A payload is a step byte b and an arithmetic code; the step is 2^(b / 16) / 8, in units in
which the squares of all coefficients of a picture add up to three times its mean square.

What is coded and what comes back are integers and the same on every machine; the picture that is drawn of
them may differ by a level.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from clip_feature_codec.codec.layout import tables as layout_tables
from clip_feature_codec.codec.layout.block import MAX_STEP, STEP_BITS, WEIGHT, Block, step_size
from clip_feature_codec.codec.layout.tables import CHANNELS, SIDE, LayoutTables, geometry
from clip_feature_codec.codec.search import ANY_LENGTH, Ints, Search
from clip_feature_codec.errors import BitstreamError, ConfigError

MAX_BYTES = 255
UNITS = 64  # coefficients are integers in 1/64
_BASIS_BITS = 14
_GREY = 127.5
_OPPONENT = ((1, 1, 1), (1, 0, -1), (1, -2, 1))  # rows: brightness, red - blue, magenta - green
_LARGEST = 1 << 15  # what is coded stays within this; what is decoded, within twice this
_ROWS = 64  # pictures that a search is made for side by side
_SMALLEST = bytes([MAX_STEP])  # with which all symbols are 0: the mean picture
_LEFT, _LARGE = (0.3, 1.0), 48.0  # bytes that may be left over, and the limit from which on it is the latter
_FINER = 2, -1, 1, 3  # steps than where the limit is met, at which others are tried
_COARSEST_QUALITY, _FINEST_QUALITY = 92, 32  # step bytes of quality 0 and 100


@dataclass(frozen=True, eq=False)
class LayoutCoder:
    """Layout coefficients to payloads and back.

    Coefficients are integers in 1/64, in the order of `tables.geometry`: L of them.

    Attributes:
        tables: the trained numbers.
        canvas: side in pixels of the square picture that is analysed.
        smallest: bytes of the smallest payload that may be asked for: room for a mean colour.
    """

    tables: LayoutTables
    canvas: ClassVar[int] = 96
    smallest: ClassVar[int] = 4

    @classmethod
    def builtin(cls) -> LayoutCoder:
        """The coder with the package's tables."""
        return _builtin()

    @property
    def coefficients(self) -> int:
        """Number L of coefficients."""
        return len(geometry().places)

    @staticmethod
    def analyse(canvas: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Take a picture apart: float32 (L,), whole numbers.

        Coefficient (c, u, v) is 64 n_c / 96^2 times the sum over y and x of
        s_c(y, x) k_u cos(pi (2 y + 1) u / 192) k_v cos(pi (2 x + 1) v / 192), rounded, where k_0 is 1 and the
        others are sqrt(2); s_c is the sum of the colours weighted by row c of ((1, 1, 1), (1, 0, -1),
        (1, -2, 1)), less 382.5 for c = 0; and n_c is one over that row's length.

        Args:
            canvas: uint8 (96, 96, 3), the whole picture squashed to a square.

        Raises:
            ConfigError: it has another shape.
        """
        if canvas.shape != (LayoutCoder.canvas, LayoutCoder.canvas, CHANNELS):
            expected = (LayoutCoder.canvas, LayoutCoder.canvas, CHANNELS)
            raise ConfigError(f"layout canvas: found shape {canvas.shape}, expected {expected}")
        basis = _analysis_basis(LayoutCoder.canvas)
        # Sums of integers below 2^53: exact in float64 in any order, hence the same on every machine.
        mixed = np.einsum("cd,yxd->cyx", np.array(_OPPONENT), canvas.astype(np.int64)).astype(np.float64)
        planes = basis @ mixed @ basis.T * _analysis_factors(LayoutCoder.canvas)
        planes[0, 0, 0] -= UNITS * _GREY * np.sqrt(3.0)
        channels, u, v = geometry().places.T
        found: NDArray[np.float32] = np.rint(planes[channels, u, v]).astype(np.float32)
        return found

    def step_at(self, quality: float) -> int:
        """The step byte of a quality from 0 to 100; 50 gives about 70 bytes."""
        return round(_COARSEST_QUALITY + (_FINEST_QUALITY - _COARSEST_QUALITY) * quality / 100)

    def encode(self, layouts: NDArray[Any], steps: NDArray[np.integer[Any]]) -> list[bytes]:
        """Payloads of pictures, each at its own step, or the next coarser one that 255 bytes are enough for.

        Args:
            layouts: (N, L), from `analyse` or `decode`.
            steps: integers (N,), step bytes from 0, the finest, to `MAX_STEP`.

        Raises:
            ConfigError: a shape or a step is wrong.
        """
        rows, given = self._checked(layouts, steps)
        if len(given) and not 0 <= given.min() <= given.max() <= MAX_STEP:
            raise ConfigError(f"layout step: found {given.min()} to {given.max()}, expected 0 to {MAX_STEP}")
        payloads = self._coded(rows, given)
        long = np.array([row for row, payload in enumerate(payloads) if len(payload) > MAX_BYTES], np.int64)
        for row, payload in zip(long, self._coarser(rows[long], given[long]), strict=True):
            payloads[row] = payload
        return payloads

    def _coded(self, rows: Ints, steps: Ints) -> list[bytes]:
        """Payloads of rows (N, L) at their steps (N,)."""
        every = np.full((2, len(rows)), [[WEIGHT], [ANY_LENGTH]])
        return Block(rows, self.tables).code(np.arange(len(rows)), steps, *every).payloads

    def _coarser(self, rows: Ints, steps: Ints) -> list[bytes]:
        """Payloads of rows (N, L) at the next steps coarser than those (N,) that 255 bytes are enough for.

        By bisection, of all steps: so that it hardly matters from which one they come.
        """
        found, some = [_SMALLEST] * len(rows), np.arange(len(rows))
        fails, does = np.full((2, len(rows)), [[-1], [MAX_STEP]])
        while (some := some[does[some] - fails[some] > 1]).size:
            middles = (fails[some] + does[some]) // 2
            asked = middles > steps[some]
            for row, step, payload in zip(
                some[asked],
                middles[asked],
                self._coded(rows[some[asked]], middles[asked]),
                strict=True,
            ):
                if len(payload) <= MAX_BYTES:
                    found[row], does[row] = payload, step
            fails[some] = np.where(does[some] == middles, fails[some], middles)
        return found

    def encode_to_bytes(self, layouts: NDArray[Any], limits: NDArray[np.integer[Any]]) -> list[bytes]:
        """Payloads of at most so many bytes, with the least distortion found.

        Args:
            layouts: (N, L), from `analyse` or `decode`.
            limits: integers (N,), at least `smallest`; more than 255 bytes are never used.

        Raises:
            ConfigError: a shape is wrong or a limit is below `smallest`.
        """
        rows, given = self._checked(layouts, limits)
        if len(given) and given.min() < self.smallest:
            found = f"a limit of {given.min()} bytes"
            raise ConfigError(f"layout payload: found {found}, expected {self.smallest} or more")
        return self._within(rows, np.minimum(given, MAX_BYTES))

    def _within(self, rows: Ints, limits: Ints) -> list[bytes]:
        """Payloads of rows (N, L) of at most so many bytes (N,).

        Where luck leaves bytes over, others are tried: at finer steps with more weight on the rate, and at
        coarser ones with less.
        """
        payloads: list[bytes] = []
        for first in range(0, len(rows), _ROWS):
            block = Block(rows[first : first + _ROWS], self.tables)
            most = limits[first : first + _ROWS].astype(np.float64)
            search = Search(block.code, most, True, WEIGHT, MAX_STEP)
            search.meet(block.course(most), np.clip(most / _LARGE, *_LEFT) / most, _FINER)
            payloads += search.found(_SMALLEST)
        return payloads

    def _checked(
        self, layouts: NDArray[Any], numbers: NDArray[np.integer[Any]]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Coefficients less their mean, and the steps or limits that go with them."""
        if layouts.ndim != 2 or layouts.shape != (len(numbers), self.coefficients):
            expected = (len(numbers), self.coefficients)
            raise ConfigError(f"layouts: found shape {layouts.shape}, expected {expected}")
        whole = np.clip(np.rint(layouts), -_LARGEST, _LARGEST).astype(np.int64)
        return whole - self.tables.mean, np.asarray(numbers, np.int64)

    def decode(self, payloads: Sequence[bytes]) -> NDArray[np.int64]:
        """Coefficients of payloads: int64 (N, L), in 1/64.

        Raises:
            BitstreamError: a payload is no stream of ours.
        """
        found = np.empty((len(payloads), self.coefficients), np.int64)
        for row, payload in enumerate(payloads):
            found[row] = self._values(payload) + self.tables.mean
        return found

    def _values(self, payload: bytes) -> NDArray[np.int64]:
        """Coefficients of one payload, less their mean."""
        from clip_feature_codec.codec.layout import payloads, trellis

        if not payload:
            raise BitstreamError("layout payload: found 0 bytes, expected 1 or more")
        step = payload[0]
        if step > MAX_STEP:
            raise BitstreamError(f"layout step: found {step}, expected 0 to {MAX_STEP}")
        values = np.empty(self.coefficients, np.int64)
        data = np.frombuffer(payload, np.uint8)[1:]
        if not payloads.read(data, step, self.tables, geometry(), trellis.MACHINE, values):
            found = f"{len(payload)} bytes that end elsewhere"
            raise BitstreamError(f"layout payload: found {found}, expected {self.coefficients} coefficients")
        values = _rescaled(values, step)
        if np.abs(values).max() > 2 * _LARGEST:
            found = f"a coefficient of {np.abs(values).max()}"
            raise BitstreamError(f"layout payload: found {found}, expected at most {2 * _LARGEST}")
        return values

    @staticmethod
    def step_of(payload: bytes) -> float:
        """How far apart the values are that a payload can tell, in 1/64."""
        return step_size(payload[0]) / (1 << STEP_BITS)

    def render(self, coefficients: NDArray[Any], width: int, height: int) -> NDArray[np.uint8]:
        """Draw pictures: uint8 (..., height, width, 3), `waves` plus 127.5, clipped and rounded.

        Args:
            coefficients: (L,) or (N, L), in 1/64.
            width: pixels, at least 1.
            height: pixels, at least 1.
        """
        if coefficients.ndim == 2:
            return np.stack([self.render(row, width, height) for row in coefficients])
        pixels = self.waves(coefficients, width, height, _GREY)
        np.clip(pixels, 0.0, 255.0, out=pixels)
        pixels += np.float32(0.5)
        return pixels.astype(np.uint8)

    @staticmethod
    def waves(coefficients: NDArray[Any], width: int, height: int, level: float = 0.0) -> NDArray[np.float32]:
        """Add up cosines: float32 (height, width, 3), in levels of 8 bits.

        Those of `analyse` at the middles of the pixels, k_u cos(pi (2 y + 1) u / (2 height)) and
        k_v cos(pi (2 x + 1) v / (2 width)), times the coefficients / 64, summed in float32; times the
        transposed colour rows with their n_c.

        Args:
            coefficients: (L,), in 1/64.
            width: pixels, at least 1.
            height: pixels, at least 1.
            level: is added.
        """
        planes = np.zeros((SIDE, SIDE, CHANNELS), np.float32)
        channels, u, v = geometry().places.T
        planes[u, v, channels] = coefficients
        colours = planes @ _DISPLAY  # (u, v, rgb)
        colours[0, 0] += level
        across = _synthesis_basis(width) @ colours.swapaxes(0, 1).reshape(SIDE, -1)  # (x, u rgb)
        lines = across.reshape(width, SIDE, CHANNELS).swapaxes(0, 1).reshape(SIDE, -1)
        pixels: NDArray[np.float32] = _synthesis_basis(height) @ lines  # (y, x rgb)
        return pixels.reshape(height, width, CHANNELS)

    def to_bytes(self) -> bytes:
        """The tables as bytes, to be hashed: `to_json`'s strings, decoded, in its order."""
        return self.tables.to_bytes()

    def to_json(self) -> dict[str, Any]:
        """The tables as a JSON-able dictionary."""
        return self.tables.to_json()

    @classmethod
    def from_json(cls, data: Any) -> LayoutCoder:
        """Rebuild a coder from `to_json`'s result; further keys are ignored.

        Raises:
            StoreError: a table is missing or its numbers are out of their range.
        """
        return cls(LayoutTables.from_json(data))


@cache
def _builtin() -> LayoutCoder:
    return LayoutCoder(layout_tables.builtin())


_NORMS = 1 / np.sqrt(np.square(np.array(_OPPONENT, np.float64)).sum(axis=1))
_DISPLAY = (np.array(_OPPONENT) * _NORMS[:, None] / UNITS).astype(np.float32)


def _rescaled(values: NDArray[np.int64], step: int) -> NDArray[np.int64]:
    """Coefficients, rounded, of values (L,) in 2^-8 of the step."""
    return (values * step_size(step) + (1 << (7 + STEP_BITS))) >> (8 + STEP_BITS)


def _cosines(size: int) -> NDArray[np.float64]:
    """Cosines (41, size) at the middles of ``size`` pixels; the constant one is 1, the others sqrt(2) cos."""
    frequencies, places = np.arange(SIDE)[:, None], np.arange(size)
    cosines: NDArray[np.float64] = np.cos(np.pi * (2 * places + 1) * frequencies / (2 * size))
    cosines[1:] *= np.sqrt(2.0)
    return cosines


@cache
def _analysis_basis(size: int) -> NDArray[np.float64]:
    """`_cosines` as integers in 2^-14."""
    return np.rint(_cosines(size) * (1 << _BASIS_BITS))


@cache
def _analysis_factors(size: int) -> NDArray[np.float64]:
    """What takes the sums of integers to coefficients, (3, 1, 1)."""
    factors: NDArray[np.float64] = (_NORMS * UNITS / (size * size) / 4.0**_BASIS_BITS)[:, None, None]
    return factors


@lru_cache(maxsize=32)
def _synthesis_basis(size: int) -> NDArray[np.float32]:
    """`_cosines` (size, 41)."""
    return np.ascontiguousarray(_cosines(size).T, np.float32)
