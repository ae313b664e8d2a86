"""What pictures are coded from, layer by layer, as one value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clip_feature_codec.codec.bitstream import LAYERS
from clip_feature_codec.errors import ConfigError


@dataclass(frozen=True, eq=False)
class Layers:
    """What N pictures are coded from, layer by layer; also what streams that all have these layers decode to.

    Attributes:
        semantic: CLIP vectors, float32 (N, D), of any positive length; None: no picture has the layer.
        layout: coefficients (N, L) from `LayoutCoder.analyse`; None: no picture has the layer.
        aspects: width / height of each picture, None for square; no list means that all are square.

    Raises:
        ConfigError: there is no layer at all, or the numbers of rows differ.
    """

    semantic: NDArray[np.float32] | None = None
    layout: NDArray[Any] | None = None
    aspects: Sequence[float | None] | None = None

    def __post_init__(self) -> None:
        lengths = {name: len(rows) for name in LAYERS if (rows := self.rows(name)) is not None}
        if not lengths:
            raise ConfigError(f"layers: found nothing to code, expected {' or '.join(LAYERS)}")
        count = next(iter(lengths.values()))
        aspects = (None,) * count if self.aspects is None else tuple(self.aspects)
        object.__setattr__(self, "aspects", aspects)
        for name, found in (lengths | {"aspects": len(aspects)}).items():
            if found != count:
                raise ConfigError(f"{name}: found {found}, expected {count}, one for each picture")

    def __len__(self) -> int:
        return len(self.shapes)

    @property
    def shapes(self) -> tuple[float | None, ...]:
        """`aspects`, N of them."""
        return tuple(self.aspects or ())

    def rows(self, name: str) -> NDArray[Any] | None:
        """What there is of the layer ``name``: (N, ...), or None."""
        found: NDArray[Any] | None = getattr(self, name)
        return found

    def parts(self, count: int) -> list[Layers]:
        """The same pictures in ``count`` parts, 1 or more, one behind the other and about as large."""
        ends = [len(self) * part // count for part in range(count + 1)]

        def part(first: int, end: int) -> Layers:
            rows = {name: None if (all_ := self.rows(name)) is None else all_[first:end] for name in LAYERS}
            return Layers(**rows, aspects=self.shapes[first:end])

        return [part(first, end) for first, end in pairwise(ends)]

    def some(self, numbers: Sequence[int]) -> Layers:
        """What the pictures of some numbers are coded from."""
        chosen = list(numbers)
        rows = {name: None if (all_ := self.rows(name)) is None else all_[chosen] for name in LAYERS}
        return Layers(**rows, aspects=[self.shapes[number] for number in chosen])

    def only(self, layers: str) -> Layers:
        """Without the layers that are not wanted.

        Args:
            layers: ``both``, or the name of the one that is kept.

        Raises:
            ConfigError: nothing is left.
        """
        kept = {name: self.rows(name) if layers in ("both", name) else None for name in LAYERS}
        if all(rows is None for rows in kept.values()):
            raise ConfigError(f"layers: found nothing to code for {layers!r}, expected the {layers} layer")
        return Layers(**kept, aspects=self.aspects)
