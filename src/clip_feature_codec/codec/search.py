"""Rate control: the step and the lambda that a budget or a target asks for, found in a few codings.

What a row of a layer takes at a step is known when it is coded; but it is known to a few per cent when each
coefficient takes what is cheapest for it, which is done in a fraction of the time. So that is foretold at steps half
an octave apart. A search begins between those that a limit lies between, goes on from step to step, and then from
lambda to lambda.

With a wider limit a row's step never changes the wrong way: where a search begins follows from the limit by
forecasts that do not depend on it; from there it goes on to the first step that will do or, where that one does, as
far as all do, while there is room.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]

SPACING = 8  # steps between forecasts, half an octave
_CAREFUL = 0.7  # of the way that a row seems to have to go, where that is more than one place
_ROOM_FOR_STEP, _ROOM_FOR_WEIGHT = 0.5, 3.0  # in what the next one takes: with less room it is not tried
_LEAST_RATE, _GREATEST_RATE = 0.01, 0.12  # by which a measure changes from step to step


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
Places: TypeAlias = Callable[[Ints, Ints], tuple[Ints, Ints]]
"""Steps and lambdas (n,) that places (n,) of a walk stand for, of rows (n,)."""


@dataclass(frozen=True)
class Weights:
    """Lambdas that are tried at a step.

    Attributes:
        finer: how many steps it is finer than the one that was found.
        values: int64 (K,), rising.
    """

    finer: int
    values: Ints


def lambda_powers(rates: Floats) -> Floats:
    """The powers of lambda to which lengths fall, of rows whose lengths change by these rates from step to step.

    That goes with the square: the shorter a payload, the more of it are coefficients that may as well be zero.
    The factor is from training vectors and photographs.
    """
    powers: Floats = np.clip(130 * rates * rates, 0.02, 1.0)
    return powers


def error_powers(rates: Floats) -> Floats:
    """The powers of lambda to which errors rise, of rows whose errors change by these rates from step to step.

    The finer the steps, the more is quantised finely, and the less is up to lambda. From training vectors.
    """
    powers: Floats = np.clip(1.2 - 11 * rates, 0.15, 0.55)
    return powers


class Search:
    """Looks for payloads of N rows within limits, all rows side by side.

    Attributes:
        best: the payloads found, by row; None where none will do.
        measures: float64 (N,), what the row comes to at the step that was found, and the usual lambda.
    """

    def __init__(self, coding: Coding, limits: Floats, by_length: bool, usual: int, last: int) -> None:
        """Look for payloads.

        Args:
            coding: codes the rows.
            limits: (N,), of bytes or errors.
            by_length: limits are of bytes, and errors should be small; or the other way round.
            usual: lambda while steps are looked for.
            last: the coarsest step; the finest one is 0.
        """
        self.coding, self.limits, self.by_length = coding, limits, by_length
        self.usual, self.last = usual, last
        self.toward = 1 if by_length else -1  # where places come to less
        count = len(limits)
        self.best: list[bytes | None] = [None] * count
        self.costs = np.full(count, np.inf)
        self.steps, self.rates = np.zeros(count, np.int64), np.full(count, _LEAST_RATE)
        self.measures, self.beyond = np.zeros(count), np.full(count, np.nan)

    def find_steps(self, forecast: Forecast, usual: Floats, finest: Ints) -> None:
        """Find each row's last step within its limit.

        Args:
            forecast: foretells what rows come to.
            usual: of a usual row, at every eighth step, about: where forecasts begin.
            finest: (N,), where steps begin; the one before is known not to do.
        """
        falling = np.minimum.accumulate(usual[:: self.toward])
        guesses = np.minimum(np.searchsorted(-falling, -self.limits), len(usual) - 1)
        self._begin(forecast, guesses if self.by_length else len(usual) - 1 - guesses)
        self.steps = np.maximum(self.steps, finest)
        rows = np.arange(len(self.limits))
        self.room = _ROOM_FOR_STEP
        self.steps, self.measures, self.beyond = self._walk(
            rows, self.steps, self.last, self.rates, lambda some, at: (at, np.full(some.size, self.usual))
        )

    def left(self) -> Floats:
        """What is left of limits that are bytes, (N,)."""
        return self.limits - np.array([0 if payload is None else len(payload) for payload in self.best])

    def found(self, otherwise: bytes) -> list[bytes]:
        """The payloads; ``otherwise`` where there is none."""
        return [otherwise if payload is None else payload for payload in self.best]

    def _begin(self, forecast: Forecast, at: Ints) -> None:
        """Set where rows begin, and by how much a step changes what they come to, by forecasts from ``at`` on."""
        end = self.last // SPACING
        rows = np.arange(len(at))
        found = forecast(rows, at * SPACING)
        above = found > self.limits
        ways = np.where(above, self.toward, -self.toward)
        much, little = np.where(above, found, np.inf), np.where(above, 0.0, found)
        while rows.size:
            at[rows] += ways[rows]
            rows = rows[(at[rows] >= 0) & (at[rows] <= end)]
            found = forecast(rows, at[rows] * SPACING)
            beyond = found > self.limits[rows]
            much[rows[beyond]], little[rows[~beyond]] = found[beyond], found[~beyond]
            rows = rows[beyond == above[rows]]
        bounded = np.isfinite(much)
        many = np.where(bounded, much, 2 * little + 1)
        shares = np.where(bounded, (many - self.limits) / (many - little), 1.0)
        first = (at - np.where(above, self.toward, 0)) * SPACING
        steps = first + self.toward * np.floor(SPACING * shares).astype(np.int64)
        self.steps = np.clip(steps, 0, self.last)
        self.rates = np.clip(2 * (many - little) / (many + little) / SPACING, _LEAST_RATE, _GREATEST_RATE)

    def try_weights(self, weights: Weights, powers: Floats, rows: Ints) -> None:
        """Find the best lambda at a step for some rows (n,).

        Args:
            weights: the step and the lambdas.
            powers: (N,), of lambda, to which what a row comes to falls or rises.
            rows: those that it is done for, if they have such a step.
        """
        steps = self.steps - self.toward * weights.finer
        rows = rows[(steps[rows] >= 0) & (steps[rows] <= self.last)]
        usual = self.measures * (1 + self.rates) ** weights.finer
        if weights.finer == 1:
            usual = np.where(np.isnan(self.beyond), usual, self.beyond)
        wanted = 2 * (usual - self.limits) / (usual + self.limits) / powers  # near the logarithm
        logarithms = np.log(weights.values / self.usual)
        last = len(logarithms) - 1
        if self.by_length:
            at = np.searchsorted(logarithms, wanted)
        else:
            at = np.searchsorted(logarithms, -wanted, side="right") - 1
        at = np.clip(at, 0, last)
        rates = powers * (logarithms[-1] - logarithms[0]) / last
        self.room = _ROOM_FOR_WEIGHT
        self._walk(rows, at[rows], last, rates[rows], lambda some, at: (steps[some], weights.values[at]))

    def _walk(
        self, rows: Ints, at: Ints, last: int, rates: Floats, places: Places
    ) -> tuple[Ints, Floats, Floats]:
        """Go from place to place, 0 to ``last``, to each row's last one within its limit.

        Args:
            rows: (n,), those that walk.
            at: (n,), where they begin.
            last: the last place.
            rates: (n,), share by which the next place changes what a row comes to, about.
            places: what a place means.

        Returns:
            Where each row ends, what it comes to there, and what it would beyond, NaN where that is not known.
        """
        at, beyond, limits = at.copy(), np.full(rows.size, np.nan), self.limits[rows]
        measures = self._tried(rows, *places(rows, at))
        ahead = measures <= limits
        roomy = limits - measures > self.room * rates * limits
        some = np.flatnonzero(roomy | ~ahead)
        while some.size:
            away = _CAREFUL * (1 - limits[some] / measures[some]) / rates[some]
            strides = np.where(ahead[some], -1, np.clip(away, 1, last).astype(np.int64))
            on = np.clip(at[some] + self.toward * strides, 0, last)
            some, on, strides = (each[on != at[some]] for each in (some, on, strides))
            found = self._tried(rows[some], *places(rows[some], on))
            within, goes_ahead = found <= limits[some], ahead[some]
            left = np.where(strides == 1, measures[some], np.nan)
            beyond[some] = np.where(goes_ahead, np.where(within, np.nan, found), left)
            moved = within | ~goes_ahead
            at[some[moved]], measures[some[moved]] = on[moved], found[moved]
            roomy = limits[some] - found > self.room * rates[some] * limits[some]
            some = some[np.where(goes_ahead, within & roomy, ~within)]
        return at, measures, beyond

    def _tried(self, rows: Ints, steps: Ints, weights: Ints) -> Floats:
        """Code rows, keep what is within its limit and better than what there was, and say what they come to."""
        coded = self.coding(rows, steps, weights)
        lengths = coded.lengths
        measures, costs = (lengths, coded.errors) if self.by_length else (coded.errors, lengths)
        better = (measures <= self.limits[rows]) & (costs < self.costs[rows])
        for at in np.flatnonzero(better):
            self.best[rows[at]], self.costs[rows[at]] = coded.payloads[at], costs[at]
        return measures
