"""CLIPCondUNet: the network that sees a noisy picture, a CLIP vector, a coarse layout and a timestep."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clip_feature_codec.diffusion.blocks import (
    DownLevel,
    ResidualBlock,
    UpLevel,
    group_norm,
    timestep_embedding,
    zero_init,
)
from clip_feature_codec.diffusion.config import UNetConfig
from clip_feature_codec.diffusion.residual import Residual
from clip_feature_codec.diffusion.schedule import NoiseScheduler
from clip_feature_codec.diffusion.shrinkage import Shrinkage
from clip_feature_codec.errors import ConfigError

LAYOUT_PLANES = 4


class CLIPCondUNet(nn.Module):
    """U-Net that predicts ε or v at x_t, given a CLIP vector, the timestep (both by FiLM) and a layout.

    Each level has ``num_res_blocks`` residual blocks on the way down and as many on the way up, each of
    which takes the output of its counterpart; levels differ by a factor of 2 in size. The vector 0 stands
    for "no condition" (classifier-free guidance, Ho & Salimans 2022), and so do the layout 0 and None: a
    network that takes layouts does exactly what it would do had it never heard of them. Their projection
    starts at 0, so that a network without one can be continued with it. The output starts at exactly 0.

    Args:
        config: its shape.

    Attributes:
        config: the same.
        size_multiple: H and W must be multiples of this.
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        self.size_multiple = config.size_multiple
        self._clip_scale = math.sqrt(config.clip_dim)  # a unit vector's entries then have mean square 1
        finest, cond_dim, pixels = config.widths[0], 4 * config.base, config.patch**2

        self.time_mlp = nn.Sequential(
            nn.Linear(config.base, cond_dim), nn.SiLU(), nn.Linear(cond_dim, cond_dim)
        )
        # Without biases here and in the layout's projection, so that nothing at all comes of zeros.
        self.clip_proj = nn.Linear(config.clip_dim, cond_dim, bias=False)
        self.map_proj = (
            nn.Linear(config.clip_dim, finest * config.z_map**2, bias=False) if config.z_map else None
        )
        self.stem = nn.Conv2d(config.in_channels * pixels, finest, 3, padding=1)
        self.layout_proj = None
        if config.layout:
            planes = LAYOUT_PLANES * pixels
            self.layout_proj = zero_init(nn.Conv2d(planes, finest, 3, padding=1, bias=False))
        self._build_levels(cond_dim)
        self.head_norm = group_norm(finest)
        self.shrinkage = None
        if config.shrinkage is not None:
            with torch.device("cpu"):  # its tables are no weights: on the meta device they would be lost
                schedule = NoiseScheduler.from_config(config.shrinkage)
                self.shrinkage = Shrinkage(schedule, config.in_channels, config.patch)
        beliefs = 1 if self.shrinkage is None else 2
        self.head = zero_init(nn.Conv2d(finest, beliefs * config.in_channels * pixels, 3, padding=1))
        self.to(memory_format=torch.channels_last)

    def _build_levels(self, cond_dim: int) -> None:
        """The way down, the middle and the way up; weights are drawn in this order."""
        config, blocks = self.config, self.config.num_res_blocks
        attention = [level in config.attention_levels for level in range(len(config.widths))]
        levels = list(zip(config.widths, attention, strict=True))
        coarsest = config.widths[-1]
        self.down = nn.ModuleList()
        self.up = nn.ModuleList()  # coarsest first, the order of use
        finer = None
        for width, attends in levels:
            self.down.append(DownLevel(finer, width, cond_dim, blocks, attends))
            finer = width
        self.middle1 = ResidualBlock(coarsest, coarsest, cond_dim, attention[-1])
        self.middle2 = ResidualBlock(coarsest, coarsest, cond_dim, False)
        coarser = None
        for width, attends in reversed(levels):
            self.up.append(UpLevel(coarser, width, cond_dim, blocks, attends))
            coarser = width

    def forward(self, x_t: Tensor, z_clip: Tensor, t: Tensor, layout: Tensor | None = None) -> Tensor:
        """Predict ε or v.

        Args:
            x_t: noisy pictures ``(N, in_channels, H, W)``, float; H and W multiples of ``size_multiple``.
            z_clip: unit CLIP vectors ``(N, clip_dim)``, or rows of zeros for "no condition".
            t: timesteps ``(N,)`` int64.
            layout: what `layout_planes` gives, ``(N, 4, side, side)``, with rows of zeros for "no layout";
                None: no row has one.

        Returns:
            The prediction, in the shape of x_t.

        Raises:
            ConfigError: H or W is not a multiple of ``size_multiple``, or the network takes no such layout.
        """
        height, width = x_t.shape[-2:]
        if height % self.size_multiple or width % self.size_multiple:
            raise ConfigError(
                f"pictures of {width}×{height} do not fit this decoder; "
                f"width and height must be multiples of {self.size_multiple}"
            )
        cond = self.time_mlp(timestep_embedding(t, self.config.base))
        z = z_clip * self._clip_scale
        cond = F.silu(cond + self.clip_proj(z))

        folded = self._fold(x_t)
        x = self.stem(folded)
        if layout is not None:
            x = x + self._project_layout(layout, x_t)
        if self.map_proj is not None:
            coarse = self.map_proj(z).unflatten(1, (-1, self.config.z_map, self.config.z_map))
            x = x + F.interpolate(coarse, x.shape[-2:], mode="bilinear")
        skips: list[Tensor] = []
        for level in self.down:
            skips += level(x, cond)
            x = skips[-1]
        x = self.middle2(self.middle1(x, cond), cond)
        for level in self.up:
            x = level(x, cond, skips)
        x = self.head(F.silu(self.head_norm(x)))
        if self.shrinkage is not None:
            x = self.shrinkage(folded, t, x)
        patch = self.config.patch
        return F.pixel_shuffle(x, patch) if patch > 1 else x

    def residual(self, layout: Tensor | None, size: Sequence[int]) -> Residual[Tensor]:
        """What x_t and the output are of, for pictures of ``size`` (H, W) with layouts as for `forward`."""
        return Residual.around(layout, size, self.config.residual_gain)

    def _fold(self, pictures: Tensor) -> Tensor:
        """Squares of P pixels become channels: ``(N, C, H, W)`` to ``(N, C P², H / P, W / P)``."""
        patch = self.config.patch
        folded = F.pixel_unshuffle(pictures, patch) if patch > 1 else pictures
        return folded.contiguous(memory_format=torch.channels_last)

    def _project_layout(self, layout: Tensor, x_t: Tensor) -> Tensor:
        """Layouts ``(N, 4, side, side)`` as the stem's output for x_t is, ``(N, base ch_mult[0], h, w)``."""
        side = self.config.layout
        if self.layout_proj is None or layout.shape != (len(x_t), LAYOUT_PLANES, side, side):
            takes = f"(N, {LAYOUT_PLANES}, {side}, {side})" if side else "none at all"
            raise ConfigError(f"U-Net: layouts are {tuple(layout.shape)}; this one takes {takes}")
        resized = F.interpolate(layout, x_t.shape[-2:], mode="bilinear")
        projected: Tensor = self.layout_proj(self._fold(resized))
        return projected


def layout_planes(pictures: Tensor, present: Tensor) -> Tensor:
    """Turn layout pictures into what `CLIPCondUNet` takes.

    Args:
        pictures: ``(..., 3, S, S)`` uint8 RGB.
        present: ``(...)`` bool: whether there is a layout at all.

    Returns:
        ``(..., 4, S, S)`` float32: RGB in [-1, 1] and a plane of ones that tells grey from nothing; zeros
        where no layout is present.
    """
    shown = present.to(torch.float32)[..., None, None, None]
    colours = (pictures.to(torch.float32) / 127.5 - 1) * shown
    return torch.cat([colours, shown.expand_as(colours[..., :1, :, :])], dim=-3)
