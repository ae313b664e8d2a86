"""Vectors in the coordinates of the ``klt`` profile: what codes them, and what they come to, about."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from clip_feature_codec.codec.entropy.magnitudes import Magnitudes
from clip_feature_codec.codec.entropy.tables import STEP_MANTISSAS
from clip_feature_codec.codec.search import Coded, Floats, Ints

if TYPE_CHECKING:
    from clip_feature_codec.codec.semantic.payloads import Vectors

STEPS = 256
STEP_ONE = 208  # the step byte of a step of 1
UNIT_BITS = 15  # the transform's tables count in 2^-15
FRACTION_BITS = 8  # coefficients in units of the step have 8 bits behind the point
WEIGHT = 1475  # the usual lambda: 0.36 step^2 per bit, in 2^-12

# What bytes and errors are of what is foretold, where each coefficient has the finer of both quantisers
# (fitted to training vectors)
_MORE, _AT_FIRST = 1.02, 2.4
_LARGER, _BENT = 1.05, 4.0
_LEAST_ERROR = 2e-7  # smaller ones are not told apart
_TINY = float(np.finfo(float).tiny)


class Frame(NamedTuple):
    """What a coder's coordinates are.

    Attributes:
        scales: int64 (D,), 16 log2 of each coefficient's spread.
        mean: int64 (D,), coefficients of the mean, in 2^-15.
        square: squared length of the mean.
        magnitudes: tables of the entropy coder.
    """

    scales: Ints
    mean: Ints
    square: float
    magnitudes: Magnitudes


def widths(scales: Ints, steps: Ints) -> Ints:
    """How many coefficients of such scales (D,) are coded at step bytes (n,): those that are wide enough."""
    from clip_feature_codec.codec.semantic.levels import LOWEST_LEVEL

    return len(scales) - np.searchsorted(scales[::-1], LOWEST_LEVEL + step_levels(steps))


class Block:
    """N vectors.

    Payloads are found by their numbers, rows (n,), at steps (n,), step bytes.
    """

    def __init__(self, frame: Frame, coefficients: Floats, products: Floats) -> None:
        """Hold vectors.

        Args:
            frame: what coordinates are.
            coefficients: float64 (N, D), integers in 2^-30.
            products: float64 (2, N), squared lengths of the vectors, which rounding leaves a bit off 1, and
                of what they are less the mean.
        """
        self.frame, self.coefficients, self.products = frame, coefficients, products
        # What is lost of a vector when coefficients from one on are not coded
        self.tails = np.zeros((len(coefficients), coefficients.shape[1] + 1))
        np.cumsum(np.square(coefficients[:, ::-1]) / (1 << 4 * UNIT_BITS), axis=1, out=self.tails[:, -2::-1])

    def of(self, rows: Ints) -> Block:
        """Some of the vectors, (n,)."""
        return Block(self.frame, self.coefficients[rows], self.products[:, rows])

    def code(self, rows: Ints, steps: Ints, weights: Ints, most: Ints) -> Coded:
        """Payloads at lambdas (n,) that have no more than ``most`` (n,) bytes.

        Errors are 1 less the cosines, nearly.
        """
        out, (lengths, errors), places = self._coded(rows, steps, weights, most)
        found = [b""] * len(rows)
        for i in np.flatnonzero(lengths <= most).tolist():
            found[i] = bytes([steps[i]]) + out[places[i], : lengths[i] - 1].tobytes()
        return Coded(found, lengths.astype(np.float64), errors)

    def draft(self, rows: Ints, steps: Ints, weights: Ints, most: Ints) -> Coded:
        """The same with drafts, however long: steps and symbols, which `write` makes payloads of."""
        symbols = np.empty((len(rows), self._width(steps)), np.int16)
        _, (lengths, errors), places = self._coded(
            rows, steps, weights, np.zeros(len(rows), np.int64), symbols
        )
        drafts = np.concatenate([steps[:, None].astype(np.int16), symbols[places]], axis=1)
        return Coded([draft.tobytes() for draft in drafts], lengths.astype(np.float64), errors)

    def write(self, drafts: list[bytes]) -> tuple[list[bytes], Ints, Ints]:
        """Payloads of n drafts; their steps, (n,), and what will be decoded, in 2^-8 of those, (n, width)."""
        from clip_feature_codec.codec.entropy.quantisers import ROOM
        from clip_feature_codec.codec.semantic import payloads, trellis

        rows = [np.frombuffer(draft, np.int16) for draft in drafts]
        steps = np.array([row[0] for row in rows], np.int64)
        width = self._width(steps)
        symbols = np.zeros((len(rows), width), np.int16)
        for at, row in enumerate(rows):
            symbols[at, : row.size - 1] = row[1 : width + 1]
        out, values = np.empty((len(rows), ROOM * (width + 1)), np.uint8), np.empty(symbols.shape, np.int64)
        scales, levels = self.frame.scales[:width], step_levels(steps)
        work = trellis.workspace(width)
        sizes = payloads.write(
            symbols, scales, levels, self.frame.magnitudes, trellis.MACHINE, work, out, values
        )
        found = [
            bytes([step]) + stream[:size].tobytes()
            for step, stream, size in zip(steps.tolist(), out, sizes.tolist(), strict=True)
        ]
        return found, steps, values

    def _coded(
        self, rows: Ints, steps: Ints, weights: Ints, most: Ints, symbols: NDArray[np.int16] | None = None
    ) -> tuple[NDArray[np.uint8], tuple[Ints, Floats], Ints]:
        """Streams and symbols in an order of their own; lengths and errors; where each row's stream is."""
        from clip_feature_codec.codec.entropy.quantisers import ROOM
        from clip_feature_codec.codec.semantic import payloads, trellis

        vectors, order = self._vectors(rows, steps)
        width = len(vectors.scales)
        out, sums = np.empty((len(steps), ROOM * (width + 1)), np.uint8), np.empty((len(steps), 3), np.int64)
        lengths = payloads.code(
            vectors,
            weights[order],
            self.frame.magnitudes,
            trellis.MACHINE,
            trellis.workspace(width),
            out,
            self.frame.mean[:width],
            sums,
            most[order] - 1,
            symbols,
        )
        places = np.argsort(order)
        return out, (1 + lengths[places], self._errors(rows, steps, sums[places])), places

    def _width(self, steps: Ints) -> int:
        """How many coefficients are coded at the finest of some steps (n,)."""
        return int(widths(self.frame.scales, steps).max(initial=0))

    def _vectors(self, rows: Ints, steps: Ints) -> tuple[Vectors, Ints]:
        """Rows as loops take them, and their order there: those at the same step share some of the work."""
        from clip_feature_codec.codec.semantic.payloads import Vectors

        order = np.argsort(steps, kind="stable")
        coded = self.frame.scales[: self._width(steps)]
        factors = _in_steps(step_sizes(steps))
        levels = step_levels(steps)
        return Vectors(self.coefficients, coded, rows[order], levels[order], factors[order]), order

    def _errors(self, rows: Ints, steps: Ints, sums: Ints) -> Floats:
        """1 less the cosines, from `payloads.code`'s sums: (|x - y|^2 - (|x| - |y|)^2) / (2 |x| |y|)."""
        units = step_sizes(steps) / (1 << FRACTION_BITS)
        error, by_value, by_mean = sums.T * units * (units, units, np.full(len(units), 2.0**-UNIT_BITS))
        distances = error + self.tails[rows, widths(self.frame.scales, steps)]
        squares, offsets = self.products[:, rows]
        # The rounded basis is not quite orthonormal: by as much as a vector grows on the way into it, what is
        # decoded grows on the way back.
        growth = 2 - offsets / np.maximum(self.tails[rows, 0], _TINY)
        lengths = np.sqrt(np.maximum(self.frame.square + 2 * by_mean + growth * by_value, _TINY))
        originals = np.sqrt(squares)
        errors: Floats = (distances - np.square(originals - lengths)) / (2 * originals * lengths)
        return np.maximum(errors, _LEAST_ERROR)

    def bytes_about(self, rows: Ints, steps: Ints) -> Floats:
        """Bytes at the usual lambda, (n,), about."""
        foretold = self._foretold(rows, steps)[:, 0] / (8 << FRACTION_BITS)
        forecasts: Floats = 1 + foretold * (_MORE + _AT_FIRST / (foretold + 4))
        return forecasts

    def errors_about(self, rows: Ints, steps: Ints) -> Floats:
        """1 less the cosines at the usual lambda, (n,), about."""
        units = step_sizes(steps) / (1 << FRACTION_BITS)
        finer = np.maximum(self.tails[rows, 0] - self._foretold(rows, steps)[:, 1] * units * units, 0)
        errors: Floats = _LARGER * finer / (1 + _BENT * finer)
        return errors

    def _foretold(self, rows: Ints, steps: Ints) -> Ints:
        from clip_feature_codec.codec.semantic import payloads, trellis

        vectors, order = self._vectors(rows, steps)
        work = trellis.workspace(len(vectors.scales))
        return payloads.foretell(vectors, WEIGHT, self.frame.magnitudes, work)[np.argsort(order)]


def step_sizes(steps: Ints) -> Floats:
    """The steps (N,) that step bytes (N,) stand for."""
    mantissas = np.array(STEP_MANTISSAS, np.float64)[steps % 16]
    return np.ldexp(mantissas, (steps // 16 - STEP_ONE // 16 - 16).astype(np.int32))


def step_levels(steps: NDArray[np.int64]) -> Ints:
    """16 log2 of twice the step, (N,), of step bytes (N,)."""
    return steps - STEP_ONE + 16


def _in_steps(sizes: Floats) -> Floats:
    """What takes coefficients to 2^-8 of steps of these sizes, (n,)."""
    factors: Floats = 2.0 ** (FRACTION_BITS - 2 * UNIT_BITS) / sizes
    return factors
