"""What the program knows of a decoder; it does not ask which kind it has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from PIL import Image

from clip_feature_codec.codec.space import ClipSpace
from clip_feature_codec.decoders.conditions import Conditions
from clip_feature_codec.decoders.options import PaintOptions, Sampling


class Decoder(Protocol):
    """Paints pictures from what their streams hold: vectors of one CLIP space and, perhaps, layouts."""

    @property
    def space(self) -> ClipSpace:
        """The CLIP space of the vectors that it takes."""

    @property
    def layout_side(self) -> int:
        """Side in pixels of the square layouts that it takes; 0: it takes none."""

    @property
    def image_size(self) -> int:
        """Side in pixels of the square canvas that it paints on."""

    @property
    def usual(self) -> Sampling:
        """What it paints with where nothing else is asked for."""

    @property
    def has_fidelity(self) -> bool:
        """Whether it can paint towards the mean of all pictures that a stream allows."""

    def identity(self) -> str:
        """SHA-256, in hex, of all that decides a pixel: weights and configuration of every part."""

    def paint(
        self, conditions: Conditions, options: PaintOptions, keys: Sequence[bytes]
    ) -> list[Image.Image]:
        """Paint the pictures of N streams.

        Args:
            conditions: what the streams say, with layouts of ``layout_side``.
            options: how to sample; ``size``, ``square`` and ``match_layout`` are the caller's affair.
            keys: the streams' bytes. A picture's noise follows from ``options.seed`` and its key, so that it
                does not depend on what is painted beside it.

        Returns:
            N square pictures, RGB, of any size from ``image_size`` up.

        Raises:
            ConfigError: an option is out of this decoder's range.
        """
