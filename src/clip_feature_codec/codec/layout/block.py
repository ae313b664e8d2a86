"""Some layouts whose payloads are looked for together: what they would take, and what they are coded as."""

from __future__ import annotations

from functools import cache, cached_property

import numpy as np

from clip_feature_codec.codec.entropy.tables import STEP_MANTISSAS
from clip_feature_codec.codec.layout.tables import CHANNELS, LayoutTables, geometry
from clip_feature_codec.codec.search import Coded, Course, Floats, Ints, logarithms

STEP_BITS = 13  # (mantissa << (b >> 4)) / 2^13 is the step of step byte b, in 1/64
MAX_STEP = 160  # the step byte of a step of 128; a picture's coefficients reach 221
WEIGHT = 1250  # lambda: 0.3 step^2 per bit, in 2^-12
_CLASSES = 16 * 17  # of magnitudes, sixteen an octave
_LEAST_BYTES, _BYTES_OF_ONE, _BYTES_OF_AN_OCTAVE = 2.3, 52 / 256, 67 / 256  # from the training photographs
_RATES, _POWERS = (0.01, 0.12), (0.02, 1.0)  # of a course, at least and at most
_LUCK = 0.03  # share of its bytes by which a layout takes more or less, and half a byte
_NEAR = 8  # steps to either side, over which the rate is measured
_LARGE, _MARGIN = 1.2, 16  # in steps; coefficients behind the last one that was not 0


class Block:
    """Layouts (N, L), whole numbers in 1/64, less their mean.

    What is not 0 at one step goes about as far at the next: of a row that was coded before, not much more is
    searched.
    """

    def __init__(self, rows: Ints, tables: LayoutTables) -> None:
        from clip_feature_codec.codec.layout import payloads, trellis

        self._rows = rows
        self._workspace = payloads.Workspace(len(rows), tables, geometry(), trellis.MACHINE)
        ends = np.cumsum(np.bincount(geometry().channels, minlength=CHANNELS))
        self._begins = np.concatenate([[0], ends[:-1]])
        self._ends, self._steps = np.tile(ends, (len(rows), 1)), np.zeros(len(rows), np.int64)

    @cached_property
    def _bytes(self) -> Floats:
        """What rows take at each step, about, (N, steps)."""
        sizes, first, steps = _classes()
        counts = _classified(np.abs(self._rows))
        many = _from_each_on(counts)[:, first]
        octaves = _from_each_on(counts * sizes)[:, first] - many * steps
        foretold: Floats = _LEAST_BYTES + _BYTES_OF_ONE * many + _BYTES_OF_AN_OCTAVE * octaves
        return foretold

    def code(self, some: Ints, steps: Ints, weights: Ints, most: Ints) -> Coded:
        """Code some rows, each of them once: a `search.Coding`; errors are squared ones."""
        from clip_feature_codec.codec.layout import payloads

        order = np.argsort(steps, kind="stable")
        rows, sorted_steps = some[order], steps[order]
        layouts = payloads.Layouts(
            self._rows[rows], sorted_steps, step_sizes(sorted_steps), self._searched(rows, sorted_steps)
        )
        streams, errors, self._ends[rows] = payloads.code(layouts, weights[order], self._workspace)
        self._steps[rows] = sorted_steps
        places = np.argsort(order)
        found = [
            bytes([step]) + streams[place]
            for step, place in zip(steps.tolist(), places.tolist(), strict=True)
        ]
        lengths = np.array([len(payload) for payload in found], np.float64)
        return Coded(found, lengths, errors[places].astype(np.float64))

    def _searched(self, rows: Ints, steps: Ints) -> Ints:
        """From which coefficients of each channel on all of them will be 0, (n, 3)."""
        finer = np.maximum(self._steps[rows] - steps, 0)[:, None]
        ends: Ints = self._begins + (self._ends[rows] - self._begins) * (5 * (12 + finer)) // 48 + _MARGIN
        return ends

    def course(self, limits: Floats) -> Course:
        """How rows come to so many bytes (N,).

        Farther out than coefficients are of that size little is coded: so far is searched at first.
        """
        rows, known = np.arange(len(limits)), self._bytes
        first = np.minimum((known > limits[:, None]).sum(axis=1), MAX_STEP)
        finer, coarser = np.maximum(first - _NEAR, 0), np.minimum(first + _NEAR, MAX_STEP)
        falls = logarithms(known[rows, finer], known[rows, coarser]) / (coarser - finer)
        rates = np.clip(falls, *_RATES)
        large = np.abs(self._rows) > (_LARGE * step_sizes(first) / (1 << STEP_BITS))[:, None]
        ends = np.where(large, np.arange(1, large.shape[1] + 1), 0)
        self._ends = np.maximum(np.maximum.reduceat(ends, self._begins, axis=1), self._begins)
        self._steps = first
        crossings = first - logarithms(limits, known[rows, first]) / rates
        powers, lucks = np.clip(130 * rates * rates, *_POWERS), (_LUCK + 0.5 / limits) / rates
        return Course(crossings, rates, powers, lucks)


def _classified(magnitudes: Ints) -> Floats:
    """How many of each row (N, L) are in each class, (N, classes): sixteen an octave, from 1 on."""
    exponents = magnitudes.astype(np.float32).view(np.int32) >> 19  # and four bits of the mantissa
    classes = np.maximum(exponents - (127 << 4), 0)
    classes += _CLASSES * np.arange(len(magnitudes), dtype=np.int32)[:, None]
    counts = np.bincount(classes.ravel(), minlength=_CLASSES * len(magnitudes))
    return counts.reshape(len(magnitudes), _CLASSES).astype(np.float64)


def _from_each_on(numbers: Floats) -> Floats:
    """Sums over each class and all above it, (N, classes); of whole numbers in 1/256, so exact."""
    sums: Floats = numbers[:, ::-1].cumsum(axis=1)[:, ::-1]
    return sums


@cache
def _classes() -> tuple[Floats, Ints, Floats]:
    """Binary logarithms of classes, (classes,); and of each step the first class above it, and its logarithm.

    What is below a step takes nothing; what is above, something for itself, and for each octave.
    """
    octaves, parts = np.divmod(np.arange(_CLASSES), 16)
    found = octaves + np.rint(256 * np.log2(1 + (parts + 0.5) / 16)) / 256
    steps = 3 + np.arange(MAX_STEP + 1) / 16  # the finest one is 1/8
    return found, np.searchsorted(found, steps), steps


def step_size(step: int) -> int:
    """The step of a step byte, in 2^-13 of 1/64."""
    return STEP_MANTISSAS[step & 15] << (step >> 4)


def step_sizes(steps: Ints) -> Ints:
    """`step_size` of many, (n,)."""
    sizes: Ints = np.array(STEP_MANTISSAS, np.int64)[steps & 15] << (steps >> 4)
    return sizes
