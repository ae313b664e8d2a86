"""What vectors come to at each step, foretold by how usual ones do: where the search for a limit begins."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from clip_feature_codec.codec.search import Course, Floats, Forecast
from clip_feature_codec.codec.semantic.klt_block import STEPS, UNIT_BITS, WEIGHT, Block, Frame

_SPACING = 8  # steps between those at which usual vectors are coded
_VECTORS = 8
_RATES = 0.005, 0.12  # least and greatest share by which a step changes what a vector comes to


class Curve(NamedTuple):
    """How far along the steps vectors are, by what they come to.

    Attributes:
        sign: -1 for bytes, of which finer steps take more, 1 for errors.
        steps: float64 (A,), rising.
        foretold: float64 (A,), rising: logarithms of what is foretold of usual vectors there, times the sign.
        coded: the same of what it comes to.
        rates: float64 (A - 1,), by which share a step changes that.
        powers: the same, as in `Course`.
        lucks: the same, as in `Course`.
    """

    sign: int
    steps: Floats
    foretold: Floats
    coded: Floats
    rates: Floats
    powers: Floats
    lucks: Floats

    def course(self, forecast: Forecast, limits: Floats) -> Course:
        """That of rows to their limits (N,).

        Each is asked for where a usual vector comes to its limit; what is foretold says how far along it is.
        """
        goals = np.interp(self.sign * np.log(limits), self.coded, self.steps)
        asked = np.rint(goals).astype(np.int64)
        found = self.sign * np.log(forecast(np.arange(len(limits)), asked))
        crossings = goals - (np.interp(found, self.foretold, self.steps) - asked)
        between = np.clip(np.searchsorted(self.steps, goals) - 1, 0, len(self.rates) - 1)
        return Course(crossings, self.rates[between], self.powers[between], self.lucks[between])


class Usual(NamedTuple):
    """Curves of the bytes and of the errors, at the usual lambda."""

    bytes: Curve
    errors: Curve

    @classmethod
    def of(cls, frame: Frame) -> Usual:
        """Those of a coder: from vectors whose coefficients are as wide as its tables say."""
        steps, block = np.arange(0, STEPS, _SPACING), _made_up(frame)
        rows, at = np.tile(np.arange(_VECTORS), len(steps)), np.repeat(steps, _VECTORS)
        coded = block.code(rows, at, np.full(len(at), WEIGHT), np.zeros(len(at), np.int64))
        told = -_means(block.bytes_about(rows, at)), _means(block.errors_about(rows, at))
        found = -_means(coded.lengths), _means(coded.errors)
        rates, error_rates = (np.clip(np.diff(each) / _SPACING, *_RATES) for each in found)
        # The shorter a payload, the more of its coefficients may as well be zero.
        powers, error_powers = np.clip(4200 * rates**3, 0.002, 0.6), np.clip(320 * rates**2, 0.01, 0.6)
        places, lucks = steps.astype(np.float64), 20 * rates
        return cls(
            Curve(-1, places, told[0], found[0], rates, powers, lucks),
            Curve(1, places, told[1], found[1], error_rates, error_powers, lucks),
        )


def _means(found: Floats) -> Floats:
    """Logarithms of geometric means at each of the steps, from fine to coarse, made to fall or to rise."""
    means = np.log(found).reshape(-1, _VECTORS).mean(axis=1)
    monotone = np.maximum.accumulate(means) if means[-1] > means[0] else np.minimum.accumulate(means)
    return np.asarray(monotone)


def _made_up(frame: Frame) -> Block:
    """Vectors of nearly Gaussian coefficients: sums of four numbers that a multiplication scatters."""
    count = 4 * _VECTORS * len(frame.scales)
    numbers = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    numbers = (numbers ^ numbers >> np.uint64(32)) * np.uint64(0xD6E8FEB86659FD93) >> np.uint64(32)
    sums = numbers.reshape(4, _VECTORS, -1).astype(np.float64).sum(axis=0) / 2.0**31 - 4  # of variance 4 / 3
    spreads = 2.0 ** (2 * UNIT_BITS + frame.scales / 16)
    coefficients = np.rint(sums * np.sqrt(0.75) * spreads)
    offsets, mean = coefficients / (1 << 2 * UNIT_BITS), frame.mean / (1 << UNIT_BITS)
    squares = np.square(offsets).sum(axis=1)
    return Block(frame, coefficients, np.stack([frame.square + 2 * (offsets @ mean) + squares, squares]))
