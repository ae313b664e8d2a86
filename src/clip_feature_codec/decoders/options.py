"""What a person may choose about painting, and the defaults: said here, or left to the decoder."""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any, NamedTuple, TypedDict, Unpack

from clip_feature_codec.diffusion.plans import SAMPLERS, SamplerName
from clip_feature_codec.errors import ConfigError

MAX_SIZE = 8192
MAX_SEED = 2**63 - 1


class PaintKeywords(TypedDict, total=False):
    """`PaintOptions` as keyword arguments (see `PaintOptions.of`)."""

    steps: int | None
    sampler: SamplerName | None
    eta: float | None
    guidance: float | None
    fidelity: float
    seed: int
    size: int
    square: bool
    match_layout: bool


class Sampling(NamedTuple):
    """What of `PaintOptions` is a decoder's own affair where a person leaves it to the decoder.

    Attributes:
        steps: see `PaintOptions`.
        guidance: see `PaintOptions`.
        sampler: see `PaintOptions`; None: one that comes with the decoder and has no name here.
    """

    steps: int
    guidance: float
    sampler: SamplerName | None


OUR_SAMPLER: SamplerName = "dpm-solver++"
OUR_SAMPLING = Sampling(steps=2, guidance=2.0, sampler=OUR_SAMPLER)
"""What is usual for decoders of our own kind."""


@dataclass(frozen=True)
class PaintOptions:
    """How to sample, and in which size to give out; None: as is usual for the decoder.

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
        match_layout: give what is painted the low frequencies of the stream's layout layer, where there is
            one; for decoders that follow it too loosely, or not at all.

    Raises:
        ConfigError: an option is of the wrong kind or out of range.
    """

    steps: int | None = None
    sampler: SamplerName | None = None
    eta: float = 0.0
    guidance: float | None = None
    fidelity: float = 0.0
    seed: int = 0
    size: int = 256
    square: bool = False
    match_layout: bool = False

    def __post_init__(self) -> None:
        if self.steps is not None:
            self._whole("steps", 1, math.inf)
        self._whole("seed", 0, MAX_SEED)
        self._whole("size", 1, MAX_SIZE)
        self._number("eta", 0.0, 1.0)
        self._number("fidelity", 0.0, 1.0)
        if self.guidance is not None:
            self._number("guidance", -math.inf, math.inf)
        self._require("sampler", self.sampler in (None, *SAMPLERS), " or ".join(SAMPLERS))
        for name in ("square", "match_layout"):
            self._require(name, isinstance(getattr(self, name), bool), "True or False")
        if self.eta and self.sampler != "ddim":
            known = f"{self.sampler} adds no noise" if self.sampler else "no sampler is chosen"
            raise ConfigError(f"eta is {self.eta}; {known}: take the sampler ddim")

    @classmethod
    def of(cls, **keywords: Unpack[PaintKeywords]) -> PaintOptions:
        """Take options as the commands and the API do: an ``eta`` alone chooses DDIM.

        Args:
            **keywords: the fields; None says of one that it is not chosen.

        Raises:
            ConfigError: an option is of the wrong kind or out of range.
        """
        chosen: dict[str, Any] = {name: value for name, value in keywords.items() if value is not None}
        if "eta" in chosen:
            chosen.setdefault("sampler", "ddim")
        return cls(**chosen)

    def sampling(self, usual: Sampling) -> Sampling:
        """What was chosen, and in the place of what was not, what is usual for a decoder."""
        chosen = {name: getattr(self, name) for name in Sampling._fields}
        return usual._replace(**{name: value for name, value in chosen.items() if value is not None})

    def settled(self, usual: Sampling) -> PaintOptions:
        """The same options with `sampling` put into them."""
        return replace(self, **self.sampling(usual)._asdict())

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
