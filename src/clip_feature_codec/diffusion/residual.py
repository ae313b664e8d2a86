"""What a decoder paints around a layout: not the picture, but how it differs from its layout, enlarged.

A layout alone explains most of a picture, so that what is left has a small variance. Enlarged to that of a
picture, it meets the noise schedule with the same signal-to-noise ratio, and the network has only to learn
what the layout does not say (residual prediction of SRDiff, Li et al. 2022, section 3.2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Residual:
    """y = gain (x - base), for each of N pictures x in [-1, 1].

    Attributes:
        base: (N, 3, H, W), or (1, 1, 1, 1) where all are alike.
        gain: (N, 1, 1, 1), or (1, 1, 1, 1), above 0.
    """

    base: Tensor
    gain: Tensor

    @classmethod
    def none(cls, device: torch.device | str = "cpu") -> Residual:
        """Of pictures as they are: base 0, gain 1."""
        return cls(torch.zeros(1, 1, 1, 1, device=device), torch.ones(1, 1, 1, 1, device=device))

    @classmethod
    def around(cls, layout: Tensor, size: Sequence[int], gain: float) -> Residual:
        """Around layouts: ``(N, 4, S, S)`` as `layout_planes` gives them, for pictures of ``size`` (H, W).

        A row without a layout has base 0 and gain 1.
        """
        colours, present = layout[:, :3], layout[:, 3:, :1, :1]
        if list(colours.shape[-2:]) != list(size):
            colours = F.interpolate(colours, list(size), mode="bicubic").clamp(-1.0, 1.0)
        return cls(colours, 1.0 + (gain - 1.0) * present)

    def to(self, device: torch.device) -> Residual:
        """The same on another device."""
        return Residual(self.base.to(device), self.gain.to(device))

    def of(self, pictures: Tensor) -> Tensor:
        """Take pictures (N, 3, H, W) to residuals."""
        return (pictures - self.base) * self.gain

    def picture(self, residuals: Tensor) -> Tensor:
        """Take residuals (N, 3, H, W) to pictures; `of`'s inverse."""
        return residuals / self.gain + self.base
