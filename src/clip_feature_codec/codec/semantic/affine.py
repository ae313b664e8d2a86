"""Per-channel affine quantiser: float32 channels to 8-bit codes and back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clip_feature_codec.errors import ConfigError

LEVELS = 256
_PRIOR_VECTORS = 8  # weight of the prior variance, counted in vectors
_SIGMAS = 4.0  # 4 standard deviations: 6e-5 of a Gaussian's values are outside, and clamped
ROWS_AT_ONCE = 4096  # so that float64 copies of many vectors stay small


@dataclass(frozen=True, eq=False)
class AffineQuantizer:
    """256 evenly spaced levels per channel: level k of channel d is ``minimum[d] + k * step[d]``.

    Attributes:
        minimum: float32 (D,), finite; the value of code 0.
        step: float32 (D,), finite and positive.

    Raises:
        ConfigError: the shapes differ or are not (D,), or a value is out of its range.
    """

    minimum: NDArray[np.float32]
    step: NDArray[np.float32]

    def __post_init__(self) -> None:
        for name in ("minimum", "step"):
            values = np.array(getattr(self, name), dtype=np.float32)
            values.flags.writeable = False
            object.__setattr__(self, name, values)
        if self.minimum.ndim != 1 or self.minimum.size == 0 or self.step.shape != self.minimum.shape:
            shapes = f"{self.minimum.shape} and {self.step.shape}"
            raise ConfigError(f"quantiser: found minimum and step of shapes {shapes}, expected (D,) for both")
        with np.errstate(over="ignore", invalid="ignore"):
            top = self.minimum + np.float32(LEVELS - 1) * self.step
        if not (np.isfinite(self.minimum).all() and np.isfinite(top).all()):
            raise ConfigError("quantiser: found a range that is not finite, expected finite minimum and step")
        if not (self.step > 0).all():
            raise ConfigError(f"quantiser: found a step of {self.step.min()}, expected positive steps")

    @property
    def dim(self) -> int:
        """Number of channels D."""
        return int(self.minimum.size)

    @classmethod
    def fit(cls, vectors: NDArray[np.float32]) -> AffineQuantizer:
        """Choose each channel's range from sample vectors.

        With mean m and variance v of a channel over n vectors, s^2 = (n v + 8 / D) / (n + 8) shrinks v
        towards 1 / D, a unit vector's mean square per channel, so that one vector is enough to begin with.
        The range is [min(lowest value, m - 4 s), max(highest value, m + 4 s)]: later vectors mostly fit.

        Args:
            vectors: float (N, D), N >= 1, unit length, finite.

        Raises:
            ConfigError: the shape is not (N, D) or there is no vector.
        """
        if vectors.ndim != 2 or vectors.shape[0] == 0 or vectors.shape[1] == 0:
            raise ConfigError(f"quantiser: found vectors of shape {vectors.shape}, expected (N, D), N >= 1")
        count, dim = vectors.shape
        total, squares = np.zeros(dim), np.zeros(dim)
        for first in range(0, count, ROWS_AT_ONCE):
            block = vectors[first : first + ROWS_AT_ONCE].astype(np.float64)
            total += block.sum(axis=0)
            squares += np.square(block).sum(axis=0)
        mean = total / count
        variance = np.maximum(squares / count - mean * mean, 0.0)  # rounding may leave it just below 0
        reach = _SIGMAS * np.sqrt((count * variance + _PRIOR_VECTORS / dim) / (count + _PRIOR_VECTORS))
        low = np.minimum(vectors.min(axis=0), mean - reach)
        high = np.maximum(vectors.max(axis=0), mean + reach)
        return cls(low.astype(np.float32), ((high - low) / (LEVELS - 1)).astype(np.float32))

    def quantize(self, vectors: NDArray[np.float32]) -> NDArray[np.uint8]:
        """The nearest level's code, ties to even; values outside the range get its nearer end.

        Args:
            vectors: float32 (N, D), finite.

        Returns:
            uint8 (N, D), each clip(rint((x - minimum) / step), 0, 255) in float32, in this order.
        """
        levels = np.rint((vectors - self.minimum) / self.step)
        codes: NDArray[np.uint8] = np.clip(levels, 0, LEVELS - 1).astype(np.uint8)
        return codes

    def dequantize(self, codes: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The levels that codes name.

        Args:
            codes: uint8 (N, D).

        Returns:
            float32 (N, D): code * step, rounded, plus minimum, rounded.
        """
        values = codes * self.step  # uint8 * float32 is float32 in numpy's promotion
        values += self.minimum
        return values
