"""Rate control of the ``klt`` profile: the step and the lambda that a budget or a target asks for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Ints: TypeAlias = NDArray[np.int64]
Coding: TypeAlias = Callable[[Ints, Ints, Ints], list[bytes]]
"""Payloads of some of the vectors, rows (n,), at steps (n,) and lambdas (n,)."""
Closeness: TypeAlias = Callable[[list[bytes], Ints], NDArray[np.float64]]
"""Cosines (n,) of rows (n,) with what their payloads decode to."""

STEPS = 256
WEIGHT = 1475  # the usual lambda: 0.36 step^2 per bit, in 2^-12
_LAMBDA_TRIALS = 5
_LAMBDA_RANGE = 5  # the greatest lambda tried, in the usual one
_FINER_STEPS = 4  # finer steps that are tried to fill a budget


class _Search(ABC):
    """Bisection over steps, then over lambda, of many vectors side by side."""

    def __init__(self, coded: Coding, count: int) -> None:
        self.coded, self.rows = coded, np.arange(count)
        self.best: list[bytes] = [b""] * count

    @abstractmethod
    def good(self, payloads: list[bytes], rows: Ints) -> NDArray[np.bool_]:
        """Which payloads of these rows will do, (n,)."""

    def steps(self, sure: int, beyond: int) -> Ints:
        """Each row's last step (N,) from ``sure``, which is taken to do, towards ``beyond``, that does."""
        count = len(self.rows)
        sures, beyonds = np.full(count, sure), np.full(count, beyond)
        self.best = self.coded(self.rows, sures, np.full(count, WEIGHT))
        while (rows := np.flatnonzero(np.abs(sures - beyonds) > 1)).size:
            middle = (sures[rows] + beyonds[rows]) // 2
            tried = self.coded(rows, middle, np.full(rows.size, WEIGHT))
            passed = self.good(tried, rows)
            sures[rows] = np.where(passed, middle, sures[rows])
            beyonds[rows] = np.where(passed, beyonds[rows], middle)
            for at in np.flatnonzero(passed):
                self.best[rows[at]] = tried[at]
        return sures

    def lambdas(self, rows: Ints, steps: Ints, longest: bool) -> None:
        """Try greater lambdas at steps (n,): for the longest payload that will do, or for the shortest."""
        low, high = np.full(rows.size, WEIGHT), np.full(rows.size, _LAMBDA_RANGE * WEIGHT)
        for _ in range(_LAMBDA_TRIALS):
            middle = (low + high) // 2
            tried = self.coded(rows, steps, middle)
            passed = self.good(tried, rows)
            for at in np.flatnonzero(passed):
                payload, row = tried[at], rows[at]
                if len(payload) != len(self.best[row]) and (len(payload) > len(self.best[row])) == longest:
                    self.best[row] = payload
            greater = passed != longest
            low, high = np.where(greater, middle, low), np.where(greater, high, middle)


class ByteSearch(_Search):
    """For the best payloads within limits."""

    def within(self, limits: Ints) -> list[bytes]:
        """N payloads of at most ``limits`` (N,) bytes."""
        self.limits = limits
        steps = self.steps(STEPS - 1, -1)
        for finer in range(1, _FINER_STEPS + 1):
            left = limits - np.array([len(payload) for payload in self.best])
            rows = np.flatnonzero((left > 1) & (steps >= finer))
            if rows.size:
                self.lambdas(rows, steps[rows] - finer, longest=True)
        return self.best

    def good(self, payloads: list[bytes], rows: Ints) -> NDArray[np.bool_]:
        """Those that fit, (n,)."""
        return np.array([len(payload) for payload in payloads]) <= self.limits[rows]


class CosineSearch(_Search):
    """For the shortest payloads that are near enough."""

    def __init__(self, coded: Coding, cosines: Closeness, count: int) -> None:
        super().__init__(coded, count)
        self.cosines = cosines

    def reaching(self, target: float) -> list[bytes] | None:
        """N payloads with a cosine of ``target`` or more; None where one cannot have it."""
        self.target = target
        steps = self.steps(0, STEPS)
        if not self.good(self.best, self.rows).all():
            return None
        self.lambdas(self.rows, steps, longest=False)
        return self.best

    def good(self, payloads: list[bytes], rows: Ints) -> NDArray[np.bool_]:
        """Those that are near enough, (n,)."""
        return self.cosines(payloads, rows) >= self.target
