"""What a decoder paints around a layout: not the picture, but how it differs from its layout, enlarged.

A layout alone explains most of a picture, so that what is left has a small variance. Enlarged to that of a
picture, it meets the noise schedule with the same signal-to-noise ratio, and the network has only to learn
what the layout does not say (residual prediction of SRDiff, Li et al. 2022, section 3.2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic

from clip_feature_codec.diffusion.arrays import Array, bicubic


@dataclass(frozen=True)
class Residual(Generic[Array]):
    """y = gain (x - base), for each of N pictures x in [-1, 1]; by default those as they are.

    Attributes:
        base: (N, 3, H, W), or one number for all.
        gain: (N, 1, 1, 1), or one number for all, above 0.
    """

    base: Array | float = 0.0
    gain: Array | float = 1.0

    @classmethod
    def around(cls, layout: Array | None, size: Sequence[int], gain: float) -> Residual[Array]:
        """Around layouts: ``(N, 4, S, S)`` as `layout_planes` gives them, for pictures of ``size`` (H, W).

        A row without a layout has base 0 and gain 1; so have all without layouts, and where ``gain`` is 0.
        """
        if layout is None or not gain:
            return cls()
        colours, present = layout[:, :3], layout[:, 3:, :1, :1]
        if list(colours.shape[-2:]) != list(size):
            colours = bicubic(colours, size).clip(-1.0, 1.0)
        return cls(colours, present * (gain - 1.0) + 1.0)

    def of(self, pictures: Array) -> Array:
        """Take pictures (N, 3, H, W) to residuals."""
        return (pictures - self.base) * self.gain

    def picture(self, residuals: Array) -> Array:
        """Take residuals (N, 3, H, W) to pictures; `of`'s inverse."""
        return residuals / self.gain + self.base
