"""Building blocks of the U-Net. Pictures are ``(N, C, H, W)``, kept in channels_last memory throughout."""

from __future__ import annotations

import math
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_Layer = TypeVar("_Layer", nn.Linear, nn.Conv2d)

_HEAD_CHANNELS = 64
_MAX_PERIOD = 10_000.0


def timestep_embedding(t: Tensor, dim: int) -> Tensor:
    """Sinusoidal embedding of timesteps (Vaswani et al. 2017, section 3.5).

    Args:
        t: ``(N,)`` integers or floats.
        dim: even width of the embedding.

    Returns:
        ``(N, dim)`` float32: cosines, then sines, at ``dim / 2`` frequencies from 1 down to almost 1e-4.
    """
    half = dim // 2
    exponents = torch.arange(half, device=t.device, dtype=torch.float32) / half
    angles = t.float()[:, None] * torch.exp(-math.log(_MAX_PERIOD) * exponents)
    return torch.cat([angles.cos(), angles.sin()], dim=1)


def group_norm(channels: int) -> nn.GroupNorm:
    """GroupNorm with at most 32 groups of at least 4 channels; ``channels`` is a multiple of 4."""
    return nn.GroupNorm(math.gcd(32, channels // 4), channels)


class FiLM(nn.Module):
    """Scale and shift each channel by what the condition says (Perez et al. 2018, eq. 2, with 1 + scale)."""

    def __init__(self, channels: int, cond_dim: int) -> None:
        super().__init__()
        self.project = nn.Linear(cond_dim, 2 * channels)

    def forward(self, x: Tensor, cond: Tensor) -> Tensor:
        """Modulate x ``(N, C, H, W)`` by cond ``(N, cond_dim)``."""
        scale, shift = self.project(cond)[:, :, None, None].chunk(2, dim=1)
        return torch.addcmul(shift, x, 1 + scale)  # one pass over x, not two


class SelfAttention(nn.Module):
    """Residual multi-head self-attention over the pixels of a feature map; starts as the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.heads = next(n for n in range(max(1, channels // _HEAD_CHANNELS), 0, -1) if channels % n == 0)
        self.norm = group_norm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = zero_init(nn.Linear(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        """Attend within each feature map: ``(N, C, H, W)`` to the same shape."""
        n, c, h, w = x.shape
        tokens = self.norm(x).permute(0, 2, 3, 1).reshape(n, h * w, c)  # a view of channels_last memory
        q, k, v = self.qkv(tokens).view(n, h * w, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, h * w, c)
        update: Tensor = self.out(mixed).view(n, h, w, c).permute(0, 3, 1, 2)
        return x + update


class ResidualBlock(nn.Module):
    """Two convolutions around FiLM after the second norm, beside a shortcut; attention if asked for."""

    def __init__(self, in_channels: int, out_channels: int, cond_dim: int, attention: bool) -> None:
        super().__init__()
        self.norm1 = group_norm(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm2 = group_norm(out_channels)
        self.film = FiLM(out_channels, cond_dim)
        self.conv2 = zero_init(nn.Conv2d(out_channels, out_channels, 3, padding=1))
        same = in_channels == out_channels
        self.shortcut = nn.Identity() if same else nn.Conv2d(in_channels, out_channels, 1)
        self.attention = SelfAttention(out_channels) if attention else nn.Identity()

    def forward(self, x: Tensor, cond: Tensor) -> Tensor:
        """``(N, in, H, W)`` and the condition ``(N, cond_dim)`` to ``(N, out, H, W)``."""
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.film(self.norm2(h), cond)))
        out: Tensor = self.attention(self.shortcut(x) + h)
        return out


class DownLevel(nn.Module):
    """One level on the way down: half the size of the ``finer`` one (None: there is none), then blocks."""

    def __init__(self, finer: int | None, width: int, cond_dim: int, blocks: int, attention: bool) -> None:
        super().__init__()
        first = width if finer is None else finer
        self.resample = nn.Identity() if finer is None else nn.Conv2d(finer, finer, 3, stride=2, padding=1)
        self.blocks = nn.ModuleList(
            ResidualBlock(n, width, cond_dim, attention) for n in [first] + [width] * (blocks - 1)
        )

    def forward(self, x: Tensor, cond: Tensor) -> list[Tensor]:
        """Return the output of each block, ``(N, width, H / 2, W / 2)``."""
        x = self.resample(x)
        outputs = []
        for block in self.blocks:
            x = block(x, cond)
            outputs.append(x)
        return outputs


class UpLevel(nn.Module):
    """One level on the way up: twice the size of the ``coarser`` one (None: there is none), then blocks."""

    def __init__(self, coarser: int | None, width: int, cond_dim: int, blocks: int, attention: bool) -> None:
        super().__init__()
        self.resample = nn.Identity() if coarser is None else nn.Conv2d(coarser, width, 3, padding=1)
        self.upsamples = coarser is not None
        self.blocks = nn.ModuleList(
            ResidualBlock(2 * width, width, cond_dim, attention) for _ in range(blocks)
        )

    def forward(self, x: Tensor, cond: Tensor, skips: list[Tensor]) -> Tensor:
        """Return ``(N, width, 2 H, 2 W)``; each block takes the last of ``skips``."""
        if self.upsamples:
            x = F.interpolate(x, scale_factor=2.0, mode="nearest")
        x = self.resample(x)
        for block in self.blocks:
            x = block(torch.cat([x, skips.pop()], dim=1), cond)
        return x


def zero_init(module: _Layer) -> _Layer:
    """Set weight and bias to 0, so that a branch that ends in the module adds nothing at first."""
    nn.init.zeros_(module.weight)
    if module.bias is not None:
        nn.init.zeros_(module.bias)
    return module
