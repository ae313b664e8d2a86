"""The learned upsampler: from the decoder's small canvas to four times its side, with plausible detail."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from clip_feature_codec.diffusion.arrays import bicubic
from clip_feature_codec.diffusion.blocks import FiLM, zero_init
from clip_feature_codec.errors import ConfigError

# A configuration may come from a stranger's file: these keep building it short.
_MAX_CHANNELS = 512
_MAX_BLOCKS = 64
_MAX_DIM = 8192
_CONDITION = 128  # width of what the blocks are told of the vector


class _Block(nn.Module):
    """Two convolutions beside a shortcut, without normalisation (EDSR, Lim et al. 2017, figure 2c).

    Where there is a vector, it scales and shifts what lies between them; at first by nothing.
    """

    def __init__(self, channels: int, told: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = zero_init(nn.Conv2d(channels, channels, 3, padding=1))
        self.film = None
        if told:
            self.film = FiLM(channels, _CONDITION)
            zero_init(self.film.project)

    def forward(self, x: Tensor, told: Tensor | None) -> Tensor:
        inner = self.conv1(x)
        if self.film is not None and told is not None:
            inner = self.film(inner, told)
        out: Tensor = x + self.conv2(F.leaky_relu(inner, 0.2))
        return out


class Upsampler(nn.Module):
    """Pictures four times as wide and high: residual blocks at the small size, then two sub-pixel steps.

    The layout is that of SRResNet (Ledig et al. 2017, figure 4) with EDSR's blocks; what it paints is added
    to a bicubic enlargement, and starts at exactly 0.

    Args:
        channels: of all inner layers at the small size; a multiple of 4. The two finer sizes have half and
            a quarter as many.
        blocks: residual blocks.
        dim: length D of the vectors that tell what is on the pictures; 0: it is told nothing.

    Attributes:
        config: the arguments above, JSON-able.
        factor: how many times larger a result is on each side.

    Raises:
        ConfigError: an argument is out of range.
    """

    factor = 4

    def __init__(self, channels: int = 48, blocks: int = 6, dim: int = 0) -> None:
        super().__init__()
        self.config: dict[str, Any] = {"channels": channels, "blocks": blocks}
        if dim:
            self.config["dim"] = dim
        if type(channels) is not int or not 4 <= channels <= _MAX_CHANNELS or channels % 4:
            raise ConfigError(
                f"upsampler: channels is {channels!r}; it must be a multiple of 4 up to {_MAX_CHANNELS}"
            )
        if type(blocks) is not int or not 0 <= blocks <= _MAX_BLOCKS:
            raise ConfigError(f"upsampler: blocks is {blocks!r}; it must be 0 to {_MAX_BLOCKS}")
        if type(dim) is not int or not 0 <= dim <= _MAX_DIM:
            raise ConfigError(f"upsampler: dim is {dim!r}; it must be 0 to {_MAX_DIM}")
        half, quarter = channels // 2, channels // 4
        self.told = nn.Linear(dim, _CONDITION) if dim else None
        self.stem = nn.Conv2d(3, channels, 3, padding=1)
        self.blocks = nn.ModuleList(_Block(channels, dim > 0) for _ in range(blocks))
        self.up1 = nn.Conv2d(channels, 4 * half, 3, padding=1)
        self.up2 = nn.Conv2d(half, 4 * quarter, 3, padding=1)
        self.head = zero_init(nn.Conv2d(quarter, 3, 3, padding=1))

    def forward(self, pictures: Tensor, vectors: Tensor | None = None) -> Tensor:
        """Make pictures larger.

        Args:
            pictures: (N, 3, H, W) in [-1, 1].
            vectors: (N, D), of unit length, zeros for none; needed by an upsampler that is told of them.

        Returns:
            (N, 3, 4 H, 4 W), about in [-1, 1].
        """
        height, width = pictures.shape[-2:]
        large = bicubic(pictures, (height * self.factor, width * self.factor))
        return large + self.detail(pictures, vectors)

    def detail(self, pictures: Tensor, vectors: Tensor | None = None) -> Tensor:
        """What is added to the enlargement."""
        told = None
        if self.told is not None and vectors is not None:
            told = F.silu(self.told(vectors * vectors.shape[1] ** 0.5))
        x = self.stem(pictures)
        for block in self.blocks:
            x = block(x, told)
        x = F.leaky_relu(F.pixel_shuffle(self.up1(x), 2), 0.2)
        x = F.leaky_relu(F.pixel_shuffle(self.up2(x), 2), 0.2)
        detail: Tensor = self.head(x)
        return detail
