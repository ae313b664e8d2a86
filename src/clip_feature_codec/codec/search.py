"""Rate control: the step and the lambda that a budget or a target asks for, found in a few codings.

What a row of a layer takes at a step is known when it is coded; but it is known to some per cent when each
coefficient takes what is cheapest for it, which is done in a fraction of the time. So that is foretold at
steps an octave apart, and trials whose outcome is foretold clearly enough are not made: of a bisection over
all steps, those near its end are left. Then lambda, the weight on the rate, makes use of what is left of the
limit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]
Flags: TypeAlias = NDArray[np.bool_]

SPACING = 16  # steps between forecasts, an octave
_LEAST_RATE, _GREATEST_RATE = 0.01, 0.12  # shares by which a step changes what a row comes to
_LEAST_DOUBTS = 2.0, 1.2  # steps by which a forecast may be wrong at least, before and after it is corrected
_LESS_DOUBT = 0.3  # of a corrected one
# How many steps coarser than where its limit is met a row is coded at each try, and bytes that may be left over then
_COARSER, _ENOUGH = (0, -1, -2, 0, -1), (0, 0, 0, 0, 1)
_ROOM, _HASTE = 0.5, 4  # bytes by which less than the limit is aimed at; tries after which it is more
_LUCK = 0.015  # share of a length that is luck


class Coded(NamedTuple):
    """Payloads of n rows, and their errors, float64 (n,): what they leave to be wished for."""

    payloads: list[bytes]
    errors: Floats

    @property
    def lengths(self) -> Floats:
        """Bytes of the payloads, (n,)."""
        return np.array([len(payload) for payload in self.payloads], np.float64)


Coding: TypeAlias = Callable[[Ints, Ints, Ints], Coded]
"""Codes rows (n,) of a block at steps (n,) and lambdas (n,)."""
Forecast: TypeAlias = Callable[[Ints, Ints], Floats]
"""What rows (n,) of a block come to at steps (n,) and the usual lambda, about: bytes or errors, (n,)."""


class Weights(NamedTuple):
    """Lambdas that are tried at one step: so many steps finer than the one found, and int64 (K,), rising."""

    finer: int
    values: Ints


def length_powers(rates: Floats) -> Floats:
    """The powers of lambda to which lengths fall, where they change by these rates from step to step.

    The shorter a payload, the more of its coefficients may as well be zero. From training vectors and
    photographs.
    """
    powers: Floats = np.clip(130 * rates * rates, 0.02, 1.0)
    return powers


def error_powers(rates: Floats) -> Floats:
    """The powers of lambda to which errors rise, where they change by these rates from step to step.

    The finer the steps, the less is up to lambda. From training vectors.
    """
    powers: Floats = np.clip(1.2 - 11 * rates, 0.15, 0.55)
    return powers


class Search:
    """Looks for payloads of N rows within limits, all rows side by side.

    Attributes:
        best: the payloads found, by row; None where none will do.
        steps: int64 (N,), the last steps that will do with the usual lambda.
        rates: float64 (N,), the share by which a step changes what a row comes to, about.
    """

    def __init__(
        self, coding: Coding, limits: Floats, doubts: Floats, by_length: bool, usual: int, last: int
    ) -> None:
        """Look for payloads.

        Args:
            coding: codes the rows.
            limits: (N,), of bytes or errors.
            doubts: (N,), the share of its limit by which a forecast may be wrong.
            by_length: limits are of bytes, and errors should be small; or the other way round.
            usual: lambda while steps are looked for.
            last: the coarsest step; the finest one is 0.
        """
        self._doubts = doubts
        self._coding, self.limits, self._by_length = coding, limits, by_length
        self._usual, self._last = usual, last
        self._toward = 1 if by_length else -1  # where steps come to less
        count = len(limits)
        self.best: list[bytes | None] = [None] * count
        self._costs = np.full(count, np.inf)
        self.steps, self.rates = np.zeros(count, np.int64), np.full(count, _LEAST_RATE)
        # What rows come to at those steps, and one before, NaN where that is not known
        self._measures, self._before = np.full((2, count), np.nan)

    def find_steps(self, forecast: Forecast, usual: Floats, sure: int, beyond: Ints) -> None:
        """Find each row's last step within its limit, by bisection.

        Args:
            forecast: foretells what rows come to.
            usual: of a usual row, at every sixteenth step, about: where forecasts begin.
            sure: a step that is taken to do.
            beyond: (N,), one that is taken not to.
        """
        crossings = self._foresee(forecast, self._guesses(usual))
        doubts = np.maximum(_LEAST_DOUBTS[0], self._doubts / self.rates)
        rows, self.steps, beyond = np.arange(len(self.limits)), np.full(len(self.limits), sure), beyond.copy()
        while (rows := rows[np.abs(self.steps[rows] - beyond[rows]) > 1]).size:
            middles = (self.steps[rows] + beyond[rows]) // 2
            away = self._toward * (middles - crossings[rows])
            good, measures = away > 0, np.full(rows.size, np.nan)
            asked = np.abs(away) <= doubts[rows]
            some = rows[asked]
            found, _ = self._tried(some, middles[asked], np.full(some.size, self._usual))
            measures[asked] = found
            good[asked] = found <= self.limits[some]
            moved = logarithms(found, self.limits[some]) / self.rates[some]
            crossings[some] = middles[asked] + self._toward * moved
            doubts[some] = np.maximum(_LEAST_DOUBTS[1], _LESS_DOUBT * self._doubts[some] / self.rates[some])
            self.steps[rows[good]], self._measures[rows[good]] = middles[good], measures[good]
            beyond[rows[~good]], self._before[rows[~good]] = middles[~good], measures[~good]
        self._make_sure()

    def _guesses(self, usual: Floats) -> Ints:
        """By which of the anchors a usual row comes to the limits, (N,)."""
        rising = np.maximum.accumulate(usual[::-1] if self._by_length else usual)
        places = np.minimum(np.searchsorted(rising, self.limits), len(usual) - 1)
        return len(usual) - 1 - places if self._by_length else places

    def _foresee(self, forecast: Forecast, at: Ints) -> Floats:
        """At which steps rows come to their limits, (N,), about; sets their rates.

        Args:
            forecast: is asked at every sixteenth step from ``at`` on until the limit lies in between.
            at: (N,), in sixteen steps.
        """
        end, rows = self._last // SPACING, np.arange(len(at))
        found = forecast(rows, at * SPACING)
        above = found > self.limits
        ways = np.where(above, self._toward, -self._toward)
        much, little = np.where(above, found, np.nan), np.where(above, np.nan, found)
        while rows.size:
            at[rows] += ways[rows]
            rows = rows[(at[rows] >= 0) & (at[rows] <= end)]
            found = forecast(rows, at[rows] * SPACING)
            over = found > self.limits[rows]
            much[rows[over]], little[rows[~over]] = found[over], found[~over]
            rows = rows[over == above[rows]]
        # Beyond the ends, as if it went on by the greatest rate
        much = np.where(np.isnan(much), little * np.exp(SPACING * _GREATEST_RATE), much)
        little = np.where(np.isnan(little), much * np.exp(-SPACING * _GREATEST_RATE), little)
        whole = logarithms(much, little)
        self.rates = np.clip(whole / SPACING, _LEAST_RATE, _GREATEST_RATE)
        shares = logarithms(much, self.limits) / whole
        first = at - np.where(above, self._toward, 0)
        crossings: Floats = SPACING * (first + self._toward * shares)
        return crossings

    def _make_sure(self) -> None:
        """Code at the steps that were found what has not been, and go on where forecasts were wrong."""
        usual = np.full(len(self.limits), self._usual)
        rows = np.flatnonzero(np.isnan(self._measures))
        while (rows := rows[self._codable(self.steps[rows])]).size:
            measures, _ = self._tried(rows, self.steps[rows], usual[rows])
            bad = measures > self.limits[rows]
            self._measures[rows], self._before[rows[bad]] = measures, measures[bad]
            rows = rows[bad]
            self.steps[rows] += self._toward
        rows = np.flatnonzero(np.isnan(self._before))
        while True:
            roomy = self._measures[rows] * (1 + self.rates[rows]) <= self.limits[rows]
            rows = rows[roomy & self._codable(self.steps[rows] - self._toward)]
            if not rows.size:
                break
            measures, _ = self._tried(rows, self.steps[rows] - self._toward, usual[rows])
            good = measures <= self.limits[rows]
            self._before[rows[~good]] = measures[~good]
            rows, measures = rows[good], measures[good]
            self._measures[rows] = measures
            self.steps[rows] -= self._toward

    def approach(self, crossings: Floats, rates: Floats) -> None:
        """Find payloads whose lengths come close to their limits, in a few codings of each row.

        Between two steps lengths are met by the coarser one with less weight on the rate, as well as by a finer
        one with more. What a row takes is some per cent off what either would make of it, by luck. So each
        coding is a sample, at another step than the one before; where the limit is met is averaged over
        them. The more were made, the more may be left over.

        Args:
            crossings: (N,), at which steps rows come to their limits, of bytes, about.
            rates: (N,), the share by which a step changes what they come to, about.
        """
        powers, at, rows = length_powers(rates), crossings.copy(), np.arange(len(self.limits))
        sums, trusts = np.zeros((2, len(rows)))
        for tries, (coarser, enough) in enumerate(zip(_COARSER, _ENOUGH, strict=True), 1):
            steps = np.clip(np.ceil(at[rows]) + coarser, 0, self._last).astype(np.int64)
            made_up = np.clip((steps - at[rows]) * rates[rows] / powers[rows], -0.8, 4.0)
            lengths, _ = self._tried(rows, steps, np.rint(self._usual / (1 + made_up)).astype(np.int64))
            limits, left = self.limits[rows], self.left()[rows]
            missed = logarithms(lengths, limits - _ROOM)
            trust = 1 / (np.square(_LUCK + _ROOM / limits) + np.square(missed / 4))
            sums[rows] += trust * (at[rows] + missed / rates[rows])
            trusts[rows] += trust
            at[rows] = sums[rows] / trusts[rows]
            if tries >= _HASTE:
                more = np.clip(0.4 * left, _ROOM, np.maximum(0.03 * limits, _ROOM)) - _ROOM
                at[rows] += more / limits / rates[rows]
            rows = rows[(left > enough) & ((steps > 0) | (lengths > limits))]
            if not rows.size:
                break
        self.steps, self.rates = np.clip(np.ceil(at), 0, self._last).astype(np.int64), rates
        self._measures = self.limits * (1 - (self.steps - at) * rates)

    def _codable(self, steps: Ints) -> Flags:
        """Which of steps (n,) there are."""
        return (steps >= 0) & (steps <= self._last)

    def try_weights(self, weights: Weights, powers: Floats, rows: Ints) -> None:
        """Find the lambda with which some rows come to their limits at a step, and keep what is better.

        From where it is foretold, strides double until the limit is passed, and what lies between is halved.

        Args:
            weights: the step, and the lambdas.
            powers: (N,), of lambda, to which what a row comes to falls or rises.
            rows: (n,), those that it is done for, if they have such a step.
        """
        steps = self.steps - self._toward * weights.finer
        rows = rows[self._codable(steps[rows])]
        at, end = self._place(weights, powers)[rows], len(weights.values)
        # The last place that does, and the first that does not; beyond the ends where that is not known yet
        least, most = (end, -1) if self._by_length else (-1, end)
        does, fails = np.full(rows.size, least), np.full(rows.size, most)
        strides, some = np.ones(rows.size, np.int64), np.arange(rows.size)
        while some.size:
            measures, better = self._tried(rows[some], steps[rows[some]], weights.values[at[some]])
            good = measures <= self.limits[rows[some]]
            does[some[good]], fails[some[~good]] = at[some[good]], at[some[~good]]
            known = (does[some] != least) & (fails[some] != most)
            ahead = at[some] + np.where(good, -self._toward, self._toward) * strides[some]
            inside = (np.minimum(does[some], fails[some]) < ahead) & (
                ahead < np.maximum(does[some], fails[some])
            )
            at[some] = np.where(known | ~inside, (does[some] + fails[some]) // 2, ahead)
            strides[some] *= 2
            some = some[
                (np.abs(does[some] - fails[some]) > 1) & ~(better & (measures == self.limits[rows[some]]))
            ]

    def _place(self, weights: Weights, powers: Floats) -> Ints:
        """Which of the lambdas is foretold to do, (N,)."""
        usual = self._measures * (1 + self.rates) ** weights.finer
        if weights.finer == 1:
            usual = np.where(np.isnan(self._before), usual, self._before)
        lambdas = np.log(weights.values / self._usual)
        wanted = logarithms(usual, self.limits) / powers
        if self._by_length:
            places = np.searchsorted(lambdas, wanted)
        else:
            places = np.searchsorted(lambdas, -wanted, side="right") - 1
        return np.clip(places, 0, len(lambdas) - 1)

    def _tried(self, rows: Ints, steps: Ints, weights: Ints) -> tuple[Floats, Flags]:
        """Code rows; what they come to, and which are better than what there was: they are kept."""
        coded = self._coding(rows, steps, weights)
        lengths = coded.lengths
        measures, costs = (lengths, coded.errors) if self._by_length else (coded.errors, lengths)
        within, before = measures <= self.limits[rows], self._costs[rows]
        for at in np.flatnonzero(within & (costs <= before)):
            self.best[rows[at]], self._costs[rows[at]] = coded.payloads[at], costs[at]
        return measures, within & (costs < before)

    def take(self, other: Search, rows: Ints) -> None:
        """Keep what another search found for some rows (n,), its own ones, where that is better."""
        for at in np.flatnonzero(other._costs < self._costs[rows]):
            self.best[rows[at]], self._costs[rows[at]] = other.best[at], other._costs[at]

    def left(self) -> Floats:
        """What is left of limits that are bytes, (N,)."""
        used = np.array([0.0 if payload is None else len(payload) for payload in self.best])
        left: Floats = self.limits - used
        return left

    def found(self, otherwise: bytes) -> list[bytes]:
        """The payloads; ``otherwise`` where there is none."""
        return [otherwise if payload is None else payload for payload in self.best]


def logarithms(numerators: Floats, denominators: Floats) -> Floats:
    """Natural logarithms of quotients, about, and the same on every machine."""
    quotients: Floats = 2 * (numerators - denominators) / (numerators + denominators)
    return quotients
