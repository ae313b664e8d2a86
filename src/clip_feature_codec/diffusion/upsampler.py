"""The learned upsampler: from the decoder's small canvas to four times its side, with plausible detail."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from clip_feature_codec.diffusion.arrays import bicubic
from clip_feature_codec.diffusion.blocks import zero_init
from clip_feature_codec.errors import ConfigError

# A configuration may come from a stranger's file: these keep building it short.
_MAX_CHANNELS = 512
_MAX_BLOCKS = 64


class _Block(nn.Module):
    """Two convolutions beside a shortcut, without normalisation (EDSR, Lim et al. 2017, figure 2c)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = zero_init(nn.Conv2d(channels, channels, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.conv2(F.leaky_relu(self.conv1(x), 0.2))
        return out


class Upsampler(nn.Module):
    """Pictures four times as wide and high: residual blocks at the small size, then two sub-pixel steps.

    The layout is that of SRResNet (Ledig et al. 2017, figure 4) with EDSR's blocks; what it paints is added
    to a bicubic enlargement, and starts at exactly 0.

    Args:
        channels: of all inner layers at the small size; a multiple of 4. The two finer sizes have half and
            a quarter as many.
        blocks: residual blocks.

    Attributes:
        config: the arguments above, JSON-able.
        factor: how many times larger a result is on each side.

    Raises:
        ConfigError: an argument is out of range.
    """

    factor = 4

    def __init__(self, channels: int = 48, blocks: int = 6) -> None:
        super().__init__()
        self.config: dict[str, Any] = {"channels": channels, "blocks": blocks}
        if type(channels) is not int or not 4 <= channels <= _MAX_CHANNELS or channels % 4:
            raise ConfigError(
                f"upsampler: channels is {channels!r}; it must be a multiple of 4 up to {_MAX_CHANNELS}"
            )
        if type(blocks) is not int or not 0 <= blocks <= _MAX_BLOCKS:
            raise ConfigError(f"upsampler: blocks is {blocks!r}; it must be 0 to {_MAX_BLOCKS}")
        half, quarter = channels // 2, channels // 4
        self.stem = nn.Conv2d(3, channels, 3, padding=1)
        self.blocks = nn.Sequential(*(_Block(channels) for _ in range(blocks)))
        self.up1 = nn.Conv2d(channels, 4 * half, 3, padding=1)
        self.up2 = nn.Conv2d(half, 4 * quarter, 3, padding=1)
        self.head = zero_init(nn.Conv2d(quarter, 3, 3, padding=1))

    def forward(self, pictures: Tensor) -> Tensor:
        """Pictures (N, 3, H, W) in [-1, 1] -> (N, 3, 4 H, 4 W), about in [-1, 1]."""
        height, width = pictures.shape[-2:]
        return bicubic(pictures, (height * self.factor, width * self.factor)) + self.detail(pictures)

    def detail(self, pictures: Tensor) -> Tensor:
        """What is added to the enlargement."""
        x = self.blocks(self.stem(pictures))
        x = F.leaky_relu(F.pixel_shuffle(self.up1(x), 2), 0.2)
        x = F.leaky_relu(F.pixel_shuffle(self.up2(x), 2), 0.2)
        detail: Tensor = self.head(x)
        return detail
