"""How many bytes a stream may take, and what of them goes to which layer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Integral, Real
from typing import TypedDict

from clip_feature_codec.codec.bitstream import LAYERS, MAX_STREAM_BYTES
from clip_feature_codec.errors import ConfigError

CHOICES = ("both", *LAYERS)
"""What may be asked for as layers."""
DEFAULT_QUALITY = 50.0


@dataclass(frozen=True)
class Rate:
    """What is asked of a stream: at most one of ``max_bytes``, ``target_cosine`` and ``quality``.

    Attributes:
        max_bytes: size that no file exceeds, header included; used up as far as that helps. No stream is
            larger than `bitstream.MAX_STREAM_BYTES`, which takes the place of anything above.
        target_cosine: cosine that the decoded vector has at least with the one that was coded; the layout
            layer, if any, has the default quality.
        quality: 0 (smallest) to 100 (best), the step of each layer; 50 when nothing is asked.
        layers: ``both``, ``semantic`` or ``layout``. Of both, the smallest budgets leave out the layout.

    Raises:
        ConfigError: a value is of the wrong kind or out of its range, or two of them contradict each other.
    """

    max_bytes: int | None = None
    target_cosine: float | None = None
    quality: float | None = None
    layers: str = "both"

    def __post_init__(self) -> None:
        if self.layers not in CHOICES:
            raise ConfigError(f"layers: found {self.layers!r}, expected one of {', '.join(CHOICES)}")
        asked = [
            name for name in ("max_bytes", "target_cosine", "quality") if getattr(self, name) is not None
        ]
        if len(asked) > 1:
            raise ConfigError(f"rate: found both {asked[0]} and {asked[1]}, expected one of them")
        for name, kind in (("max_bytes", Integral), ("target_cosine", Real), ("quality", Real)):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, kind)):
                expected = "a whole number" if kind is Integral else "a number"
                raise ConfigError(f"{name.replace('_', ' ')}: found {value!r}, expected {expected}")
        if self.max_bytes is not None:
            if self.max_bytes < 1:
                raise ConfigError(f"max bytes: found {self.max_bytes}, expected at least 1")
            object.__setattr__(self, "max_bytes", min(int(self.max_bytes), MAX_STREAM_BYTES))
        if self.target_cosine is not None:
            if not 0 < self.target_cosine < 1:
                raise ConfigError(f"target cosine: found {self.target_cosine}, expected above 0 and below 1")
            if self.layers == "layout":
                raise ConfigError("target cosine: found for a layout alone, expected a semantic layer")
        if self.quality is not None and not (math.isfinite(self.quality) and 0 <= self.quality <= 100):
            raise ConfigError(f"quality: found {self.quality}, expected 0 to 100")


class RateKeywords(TypedDict, total=False):
    """The fields of `Rate` as keyword arguments of other functions, which pass them on whole."""

    max_bytes: int | None
    target_cosine: float | None
    quality: float | None
    layers: str


DEFAULT_RATE = Rate()
