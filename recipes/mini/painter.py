"""A decoder of one step: from a vector and a layout to a picture, and the critics that it learns from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from clip_feature_codec.diffusion.blocks import FiLM, zero_init
from clip_feature_codec.diffusion.unet import LAYOUT_PLANES
from teacher import fold_norms, read_teacher

_CONDITION = 256  # width of what the blocks are told of the vector
_MAP = (48, 8)  # channels and side of the coarse map that is made of the vector


class Block(nn.Module):
    """Two convolutions around FiLM, beside a shortcut; no norms (EDSR, Lim et al. 2017, figure 2c)."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.shortcut = nn.Identity() if before == after else nn.Conv2d(before, after, 1)
        self.conv1 = nn.Conv2d(before, after, 3, padding=1)
        self.film = FiLM(after, _CONDITION)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1)
        with torch.no_grad():
            self.conv2.weight *= 0.2

    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        """(N, before, H, W) and what there is to know (N, 256) -> (N, after, H, W)."""
        inner = F.leaky_relu(self.film(self.conv1(x), told), 0.2, inplace=True)
        out: Tensor = self.shortcut(x) + self.conv2(inner)
        return out


class Painter(nn.Module):
    """Paints above the layout: the mean of all pictures that a stream allows, and detail on top of it.

    A U-Net of three levels at 32, 16 and 8 pixels, each block of which is told of the vector; two sub-pixel
    steps lead from 32 to 128 pixels. It is to the layout that the mean is added, and to the mean the detail:
    both begin at 0.

    Args:
        dim: length D of a vector.
        widths: channels at 32, 16 and 8 pixels.
        fine: channels at 64 and 128 pixels.

    Attributes:
        layout_side: of the layouts it takes, in pixels.
        side: of what it paints.
    """

    layout_side = 64
    side = 128

    def __init__(
        self, dim: int, widths: Sequence[int] = (80, 160, 320), fine: Sequence[int] = (32, 16)
    ) -> None:
        super().__init__()
        self.config: dict[str, Any] = {"dim": dim, "widths": list(widths), "fine": list(fine)}
        large, middle, small = widths

        self.told = nn.Sequential(nn.Linear(dim, _CONDITION), nn.SiLU(), nn.Linear(_CONDITION, _CONDITION))
        self.map = nn.Linear(dim, _MAP[0] * _MAP[1] ** 2)
        self.stem = nn.Conv2d(4 * (LAYOUT_PLANES + 1), large, 3, padding=1)
        self.down1 = nn.ModuleList([Block(large, large)])
        self.to2 = nn.Conv2d(large, middle, 3, stride=2, padding=1)
        self.down2 = nn.ModuleList([Block(middle, middle), Block(middle, middle)])
        self.to3 = nn.Conv2d(middle, small, 3, stride=2, padding=1)
        self.bottom = nn.ModuleList([Block(small + _MAP[0], small), Block(small, small)])
        self.up2 = nn.ModuleList([Block(small + middle, middle), Block(middle, middle)])
        self.up1 = nn.ModuleList([Block(middle + large, large), Block(large, large)])
        self.mean_head = zero_init(nn.Conv2d(large, 12, 3, padding=1))
        self.finer1 = nn.Conv2d(large, 4 * fine[0], 3, padding=1)
        self.block1 = Block(fine[0], fine[0])
        self.finer2 = nn.Conv2d(fine[0], 4 * fine[1], 3, padding=1)
        self.smooth = nn.Conv2d(fine[1], fine[1], 3, padding=1)
        self.head = zero_init(nn.Conv2d(fine[1], 3, 3, padding=1))

    def forward(self, vectors: Tensor, planes: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Paint.

        Args:
            vectors: (N, D), of unit length; zeros for none.
            planes: the layouts as `layout_planes` gives them, (N, 4, 64, 64).
            noise: (N, 1, 64, 64), normal.

        Returns:
            The mean (N, 3, 64, 64) and the picture (N, 3, 128, 128), about in [-1, 1].
        """
        z = vectors * vectors.shape[1] ** 0.5
        told = F.silu(self.told(z))
        x = self.stem(F.pixel_unshuffle(torch.cat([planes, noise], dim=1), 2))
        large = _through(self.down1, x, told)
        middle = _through(self.down2, self.to2(large), told)
        coarse = self.map(z).view(len(z), *_MAP[:1], *_MAP[1:] * 2)
        x = _through(self.bottom, torch.cat([self.to3(middle), coarse], dim=1), told)
        x = _through(self.up2, torch.cat([_twice(x), middle], dim=1), told)
        x = _through(self.up1, torch.cat([_twice(x), large], dim=1), told)
        mean = planes[:, :3] + F.pixel_shuffle(self.mean_head(x), 2).float()
        x = self.block1(F.pixel_shuffle(self.finer1(x), 2), told)
        x = F.leaky_relu(F.pixel_shuffle(self.finer2(x), 2), 0.2)
        detail = self.head(F.leaky_relu(self.smooth(x), 0.2)).float()
        return mean, enlarged(mean).detach() + detail


def enlarged(pictures: Tensor) -> Tensor:
    """Twice as wide and high."""
    large: Tensor = F.interpolate(pictures, scale_factor=2.0, mode="bicubic")
    return large


def _twice(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


def _through(blocks: nn.ModuleList, x: Tensor, told: Tensor) -> Tensor:
    for block in blocks:
        x = block(x, told)
    return x


class TeacherEyes(nn.Module):
    """What the teacher sees of a picture on several levels; its weights stay as they are.

    Attributes:
        channels: of each level.
    """

    levels = (1, 2, 4, 6)  # blocks of its network: 32, 16, 8 and 4 pixels of a picture of 128
    channels = (24, 32, 96, 320)

    def __init__(self, teacher: Path) -> None:
        super().__init__()
        self.network: Any = read_teacher(teacher)
        fold_norms(self.network)
        self.network.requires_grad_(False).to(memory_format=torch.channels_last)
        for level, channels in enumerate(self.channels):
            self.register_buffer(f"mean{level}", torch.zeros(1, channels, 1, 1))
            self.register_buffer(f"spread{level}", torch.ones(1, channels, 1, 1))

    def forward(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        """Pictures (N, 3, S, S) in [-1, 1] -> features of each level, standardised; logits (N, 1000)."""
        network = self.network
        features: list[Tensor] = []
        x = network.bn1(network.conv_stem(x.contiguous(memory_format=torch.channels_last)))
        for number, block in enumerate(network.blocks):
            x = block(x)
            if number in self.levels:
                level = len(features)
                features.append((x - getattr(self, f"mean{level}")) / getattr(self, f"spread{level}"))
        return features, network.forward_head(network.bn2(network.conv_head(x)))

    @torch.no_grad()
    def standardise(self, pictures: Tensor) -> None:
        """Let each channel of each level have mean 0 and variance 1 over these pictures."""
        for level in range(len(self.levels)):
            getattr(self, f"mean{level}").zero_()
            getattr(self, f"spread{level}").fill_(1.0)
        for level, found in enumerate(self(pictures)[0]):
            getattr(self, f"mean{level}").copy_(found.mean((0, 2, 3), keepdim=True))
            getattr(self, f"spread{level}").copy_(found.std((0, 2, 3), keepdim=True) + 1e-3)


class Critic(nn.Module):
    """Real or painted, by the teacher's features on each level and the vector (Sauer et al. 2021).

    The vector speaks by a projection (Miyato & Koyama 2018): does what is there go with it?
    """

    def __init__(self, dim: int, width: int = 96) -> None:
        super().__init__()
        self.bodies = nn.ModuleList(
            nn.Sequential(
                spectral_norm(nn.Conv2d(channels, width, 3, padding=1)),
                nn.LeakyReLU(0.2),
                spectral_norm(nn.Conv2d(width, width, 3, padding=1)),
                nn.LeakyReLU(0.2),
            )
            for channels in TeacherEyes.channels
        )
        self.scores = nn.ModuleList(spectral_norm(nn.Conv2d(width, 1, 1)) for _ in self.bodies)
        self.words = nn.ModuleList(spectral_norm(nn.Linear(dim, width)) for _ in self.bodies)

    def forward(self, features: list[Tensor], vectors: Tensor) -> list[Tensor]:
        """Features of each level and unit vectors (N, D) -> scores (N, 1, H, W) of each level."""
        z = vectors * vectors.shape[1] ** 0.5
        found = []
        for seen, body, score, word in zip(features, self.bodies, self.scores, self.words, strict=True):
            x = body(seen)
            found.append(score(x) + (x * word(z)[:, :, None, None]).mean(1, keepdim=True))
        return found
