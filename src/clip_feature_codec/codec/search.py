"""Rate control: the step and the lambda that a budget or a target asks for, found in a few codings.

What a row of a layer takes at a step is known when it is coded, and to some per cent before: each layer
foretells it in its own way. So rows are coded where they should come to their limits; what each coding takes
says where the next one should be; and lambda, the weight on the rate, makes up for what lies between steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]

ANY_LENGTH = 1 << 40  # bytes that no payload has
_AIMED = 4  # codings that are aimed by those before them
_MORE_LEFT = (1,) * _AIMED + (2,) * 12  # windows that may be left over after so many codings
_NARROW = 0.04  # steps between what does and what fails that are not looked into
_FACTORS = 0.6, 2.0  # of lambda, at most


class Coded(NamedTuple):
    """What n rows are coded as.

    Attributes:
        payloads: those that were asked for.
        lengths: float64 (n,), bytes of the payloads, about, where they were not asked for.
        errors: float64 (n,), what they leave to be wished for.
    """

    payloads: list[bytes]
    lengths: Floats
    errors: Floats


Coding: TypeAlias = Callable[[Ints, Ints, Ints, Ints], Coded]
"""Codes rows (n,) of a block at steps (n,) and lambdas (n,); payloads are asked for that have at most so many
bytes, (n,)."""
Forecast: TypeAlias = Callable[[Ints, Ints], Floats]
"""What rows (n,) of a block come to at steps (n,) and the usual lambda, about: bytes or errors, (n,)."""


class Course(NamedTuple):
    """How rows come to their limits, about.

    Attributes:
        crossings: float64 (N,), at which steps.
        rates: float64 (N,), by which share a step changes what they come to.
        powers: float64 (N,), of lambda, to which what they come to falls or rises.
        lucks: float64 (N,), steps by which a row comes to more or less than it should.
    """

    crossings: Floats
    rates: Floats
    powers: Floats
    lucks: Floats


class Search:
    """Looks for payloads of N rows within limits, all rows side by side.

    Attributes:
        limits: float64 (N,), of bytes or errors.
        best: the payloads found, by row; None where none will do.
    """

    def __init__(self, coding: Coding, limits: Floats, by_length: bool, usual: int, last: int) -> None:
        """Look for payloads.

        Args:
            coding: codes the rows.
            limits: (N,), of bytes or errors.
            by_length: limits are of bytes, and errors should be small; or the other way round.
            usual: lambda where it makes up for nothing.
            last: the coarsest step; the finest one is 0.
        """
        self._coding, self.limits, self._by_length = coding, limits, by_length
        self._usual, self._last = usual, last
        self._toward = 1 if by_length else -1  # where steps come to less
        count = len(limits)
        self.best: list[bytes | None] = [None] * count
        self._costs, self._reached = np.full(count, np.inf), np.zeros(count)

    def meet(self, course: Course, windows: Floats, others: Sequence[int]) -> None:
        """Find what comes close to its limit; where luck leaves much over, at some other steps, too.

        Args:
            course: of the rows.
            windows: (N,), the share of a limit that may be left over.
            others: by how many steps they are finer, or coarser where limits are of errors.
        """
        course = course._replace(crossings=self.approach(course, windows))
        for finer in others:
            self.approach(course, 2 * windows, finer)

    def approach(self, course: Course, windows: Floats, finer: int = 0) -> Floats:
        """Find what comes close to its limit, in a few codings of each row that leaves too much over.

        Between steps, lambda makes up for what is missing. But a row comes to more or less than its step and
        lambda are worth, by luck, which is another one at each: so each coding is a sample, by turns at the
        two steps next to where the row is wanted. The first are aimed: where the limit is met is averaged
        over those before. Then what lies between the last that does and the last that fails is halved. The
        more were made, the more may be left over.

        Args:
            course: of the rows.
            windows: (N,), the share of a limit that may be left over.
            finer: steps by which rows are coded beside where they come to their limits, and lambda makes up
                for it: finer ones, or coarser ones where limits are of errors.

        Returns:
            The course's crossings, (N,), as far as they are known now.
        """
        rows = np.flatnonzero(self._reached < self.limits * (1 - windows))
        trail = _Trail(course, self._toward)
        # The steps that rows come to most and to least at: there is nothing beyond them to look for.
        ends = np.array([0, self._last])[:: self._toward]
        most, least = np.clip(ends - self._toward * finer, 0, self._last)
        for tries, more in enumerate(_MORE_LEFT):
            if not rows.size:
                break
            limits, window = self.limits[rows], windows[rows] * more
            places = trail.aimed(rows, window / 2) if tries < _AIMED else trail.halved(rows, tries - _AIMED)
            places = np.clip(places, 0, self._last)
            steps = np.rint(places)
            if tries % 2:
                steps += np.where(steps > places, -1, 1)
            steps = np.clip(steps - self._toward * finer, 0, self._last).astype(np.int64)
            lambdas = self._usual * trail.factors(rows, places - steps)
            measures = self._tried(rows, steps, np.rint(lambdas).astype(np.int64))
            trail.passed(rows, places, logarithms(measures, limits))
            settled = (steps == np.where(measures > limits, least, most)) | (trail.gaps(rows) < _NARROW)
            rows = rows[(self._reached[rows] < limits * (1 - window)) & ~settled]
        return trail.crossings

    def _tried(self, rows: Ints, steps: Ints, weights: Ints) -> Floats:
        """Code rows, and keep what is no worse than what there was; what they come to."""
        most = np.minimum(self.limits[rows] if self._by_length else self._costs[rows], ANY_LENGTH)
        coded = self._coding(rows, steps, weights, most.astype(np.int64))
        measures, costs = coded.lengths, coded.errors
        if not self._by_length:
            measures, costs = costs, measures
        kept = np.flatnonzero((measures <= self.limits[rows]) & (costs <= self._costs[rows]))
        self._costs[rows[kept]], self._reached[rows[kept]] = costs[kept], measures[kept]
        for row, at in zip(rows[kept].tolist(), kept.tolist(), strict=True):
            self.best[row] = coded.payloads[at]
        return measures

    def found(self, otherwise: bytes) -> list[bytes]:
        """The payloads; ``otherwise`` where there is none."""
        return [otherwise if payload is None else payload for payload in self.best]


class _Trail:
    """Where N rows have been: places along the steps, that are whole numbers at the usual lambda.

    Attributes:
        crossings: float64 (N,), where they come to their limits, as far as that is known.
    """

    def __init__(self, course: Course, toward: int) -> None:
        self._course, self._toward = course, toward
        self.crossings = course.crossings.copy()
        self._sums, self._trusts = np.zeros((2, len(course.crossings)))
        # The last places that did and that failed
        self._does, self._fails = np.full((2, len(course.crossings)), np.nan)

    def aimed(self, rows: Ints, spare: Floats) -> Floats:
        """Where rows (n,) are thought to come to so much less than their limits, (n,)."""
        aimed: Floats = self.crossings[rows] + self._toward * spare / self._course.rates[rows]
        return aimed

    def halved(self, rows: Ints, doublings: int) -> Floats:
        """In the middle of what does and what fails; or on from there, by strides that double."""
        does, fails, stride = self._does[rows], self._fails[rows], self._toward * (1 << doublings)
        middles = np.where(np.isnan(fails), does - stride, (does + fails) / 2)
        return np.where(np.isnan(does), fails + stride, middles)

    def factors(self, rows: Ints, missing: Floats) -> Floats:
        """By what lambda makes up for so many steps."""
        factors: Floats = np.exp(missing * self._course.rates[rows] / self._course.powers[rows])
        return np.clip(factors, *_FACTORS)

    def passed(self, rows: Ints, places: Floats, missed: Floats) -> None:
        """Learn by what logarithms rows came to more than their limits at places.

        Where limits are met is averaged; but a miss by more than luck tells against what it was aimed by.
        """
        self._does[rows] = np.where(missed > 0, self._does[rows], places)
        self._fails[rows] = np.where(missed > 0, places, self._fails[rows])
        beyond = self._toward * missed / self._course.rates[rows]
        trust = 1 / (1 + np.square(beyond / (4 * self._course.lucks[rows])))
        self._sums[rows] = trust * (self._sums[rows] + places + beyond)
        self._trusts[rows] = trust * (self._trusts[rows] + 1)
        self.crossings[rows] = self._sums[rows] / self._trusts[rows]

    def gaps(self, rows: Ints) -> Floats:
        """How far what does is from what fails, NaN where one of them is not known."""
        gaps: Floats = np.abs(self._does[rows] - self._fails[rows])
        return gaps


def logarithms(numerators: Floats, denominators: Floats) -> Floats:
    """Natural logarithms of quotients, about, and the same on every machine."""
    quotients: Floats = 2 * (numerators - denominators) / (numerators + denominators)
    return quotients
