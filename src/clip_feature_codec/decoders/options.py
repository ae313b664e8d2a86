"""What a person may choose about painting, and the defaults: said here and nowhere else."""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass
from numbers import Real
from typing import Any, TypedDict, Unpack

from clip_feature_codec.diffusion.plans import SAMPLERS, SamplerName
from clip_feature_codec.errors import ConfigError

MAX_SIZE = 8192
MAX_SEED = 2**63 - 1


class PaintKeywords(TypedDict, total=False):
    """`PaintOptions` as keyword arguments (see `PaintOptions.of`)."""

    steps: int
    sampler: SamplerName | None
    eta: float | None
    guidance: float
    fidelity: float
    seed: int
    size: int
    square: bool


@dataclass(frozen=True)
class PaintOptions:
    """How to sample, and in which size to give out.

    Attributes:
        steps: network evaluations, 1 to the decoder's number of timesteps.
        sampler: ``dpm-solver++`` or ``ddim``.
        eta: noise that DDIM adds, 0 (deterministic) to 1 (as DDPM).
        guidance: classifier-free guidance; 1 is none, more follows the vector more closely.
        fidelity: 0 to 1: from a sample, sharp and invented where the stream says nothing, towards the mean of
            all pictures that the stream allows, smooth and nearest to the original on average.
        seed: a picture's noise is drawn from this and its stream alone.
        size: longer side of the result, in pixels.
        square: give out the square canvas instead of the picture's own shape.

    Raises:
        ConfigError: an option is of the wrong kind or out of range.
    """

    steps: int = 8
    sampler: SamplerName = "dpm-solver++"
    eta: float = 0.0
    guidance: float = 2.0
    fidelity: float = 0.0
    seed: int = 0
    size: int = 256
    square: bool = False

    def __post_init__(self) -> None:
        self._whole("steps", 1, math.inf)
        self._whole("seed", 0, MAX_SEED)
        self._whole("size", 1, MAX_SIZE)
        self._number("eta", 0.0, 1.0)
        self._number("fidelity", 0.0, 1.0)
        self._number("guidance", -math.inf, math.inf)
        self._require("sampler", self.sampler in SAMPLERS, " or ".join(SAMPLERS))
        self._require("square", isinstance(self.square, bool), "True or False")
        if self.eta and self.sampler != "ddim":
            raise ConfigError(f"eta is {self.eta}; {self.sampler} adds no noise: take the sampler ddim")

    @classmethod
    def of(cls, **keywords: Unpack[PaintKeywords]) -> PaintOptions:
        """Take options as the commands and the API do: an ``eta`` alone chooses DDIM.

        Args:
            **keywords: the fields; of a ``sampler`` and an ``eta``, None says that it is not chosen.

        Raises:
            ConfigError: an option is of the wrong kind or out of range.
        """
        chosen: dict[str, Any] = {**keywords}
        for name in ("sampler", "eta"):
            if chosen.get(name) is None:
                chosen.pop(name, None)
        if "eta" in chosen:
            chosen.setdefault("sampler", "ddim")
        return cls(**chosen)

    def _whole(self, name: str, least: int, most: float) -> None:
        """Check a whole number and keep it as a plain int: numpy's are welcome, 2.0 and True are not."""
        value = getattr(self, name)
        limits = f"from {least} to {most}" if math.isfinite(most) else f"of at least {least}"
        try:
            whole = type(value) is not bool and least <= operator.index(value) <= most
        except TypeError:
            whole = False
        self._require(name, whole, f"a whole number {limits}")
        object.__setattr__(self, name, operator.index(value))

    def _number(self, name: str, low: float, high: float) -> None:
        """Check a finite number and keep it as a plain float."""
        value = getattr(self, name)
        wanted = f"a number from {low:g} to {high:g}" if math.isfinite(high) else "a finite number"
        try:
            number = float(value) if not isinstance(value, bool) and isinstance(value, Real) else math.nan
        except OverflowError:  # a whole number that is too large
            number = math.inf
        self._require(name, math.isfinite(number) and low <= number <= high, wanted)
        object.__setattr__(self, name, number)

    def _require(self, name: str, fits: bool, wanted: str) -> None:
        if not fits:
            raise ConfigError(f"{name} is {getattr(self, name)!r}; it must be {wanted}")
