"""Rate control of the ``klt`` profile: the step and the lambda that a budget or a target asks for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from clip_feature_codec.errors import ConfigError

if TYPE_CHECKING:
    from clip_feature_codec.codec.semantic.klt import KltCoder

STEPS = 256
WEIGHT = 1475  # the usual lambda: 0.36 step^2 per bit, in 2^-12
_LAMBDA_TRIALS = 5
_LAMBDA_RANGE = 5  # the greatest lambda tried, in the usual one
_FINER_STEPS = 4  # finer steps that are tried to fill a budget


class _Search(ABC):
    """Bisection over steps, then over lambda, of many vectors side by side."""

    def __init__(self, transform: KltCoder, coefficients: NDArray[np.float64]) -> None:
        self.transform, self.coefficients = transform, coefficients
        self.best: list[bytes] = [b""] * len(coefficients)

    @abstractmethod
    def good(self, payloads: list[bytes], rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which payloads of these rows will do."""

    def steps(self, sure: int, beyond: int) -> NDArray[np.int64]:
        """Each row's last step from ``sure``, which is taken to do, towards ``beyond``, that does."""
        count = len(self.coefficients)
        sures, beyonds = np.full(count, sure), np.full(count, beyond)
        self.best = self.transform.coded(self.coefficients, sures, np.full(count, WEIGHT))
        while (rows := np.flatnonzero(np.abs(sures - beyonds) > 1)).size:
            middle = (sures[rows] + beyonds[rows]) // 2
            tried = self.transform.coded(self.coefficients[rows], middle, np.full(rows.size, WEIGHT))
            passed = self.good(tried, rows)
            sures[rows] = np.where(passed, middle, sures[rows])
            beyonds[rows] = np.where(passed, beyonds[rows], middle)
            for at in np.flatnonzero(passed):
                self.best[rows[at]] = tried[at]
        return sures

    def lambdas(self, rows: NDArray[np.int64], steps: NDArray[np.int64], longest: bool) -> None:
        """Try greater lambdas at these steps: for the longest payload that will do, or for the shortest."""
        low, high = np.full(rows.size, WEIGHT), np.full(rows.size, _LAMBDA_RANGE * WEIGHT)
        for _ in range(_LAMBDA_TRIALS):
            middle = (low + high) // 2
            tried = self.transform.coded(self.coefficients[rows], steps, middle)
            passed = self.good(tried, rows)
            for at in np.flatnonzero(passed):
                payload, row = tried[at], rows[at]
                if len(payload) != len(self.best[row]) and (len(payload) > len(self.best[row])) == longest:
                    self.best[row] = payload
            greater = passed != longest
            low, high = np.where(greater, middle, low), np.where(greater, high, middle)


class ByteSearch(_Search):
    """For the best payloads within limits."""

    def within(self, limits: NDArray[np.int64]) -> list[bytes]:
        """Payloads of at most ``limits`` (N,) bytes."""
        self.limits = limits
        steps = self.steps(STEPS - 1, -1)
        for finer in range(1, _FINER_STEPS + 1):
            left = limits - np.array([len(payload) for payload in self.best])
            rows = np.flatnonzero((left > 1) & (steps >= finer))
            if rows.size:
                self.lambdas(rows, steps[rows] - finer, longest=True)
        return self.best

    def good(self, payloads: list[bytes], rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Those that fit."""
        return np.array([len(payload) for payload in payloads]) <= self.limits[rows]


class CosineSearch(_Search):
    """For the shortest payloads that are near enough to ``unit`` (N, D)."""

    def __init__(
        self, transform: KltCoder, coefficients: NDArray[np.float64], unit: NDArray[np.float32]
    ) -> None:
        super().__init__(transform, coefficients)
        self.unit = unit.astype(np.float64)
        self.unit /= np.sqrt(np.square(self.unit).sum(axis=1, keepdims=True))

    def reaching(self, target: float) -> list[bytes]:
        """Payloads with a cosine of ``target`` or more."""
        self.target = target
        steps = self.steps(0, STEPS)
        rows = np.arange(len(self.unit))
        reached = self.cosines(self.best, rows)
        if (reached < target).any():
            expected = f"at most {reached.min():.9f}, which every vector reaches"
            raise ConfigError(f"target cosine: found {target}, expected {expected}")
        self.lambdas(rows, steps, longest=False)
        return self.best

    def cosines(self, payloads: list[bytes], rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Cosines of these rows with what their payloads decode to."""
        decoded = self.transform.decode(payloads).astype(np.float64)
        lengths = np.sqrt(np.square(decoded).sum(axis=1))
        cosines: NDArray[np.float64] = (self.unit[rows] * decoded).sum(axis=1) / lengths
        return cosines

    def good(self, payloads: list[bytes], rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Those that are near enough."""
        return self.cosines(payloads, rows) >= self.target
