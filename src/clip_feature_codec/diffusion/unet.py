"""CLIPCondUNet: the network that sees a noisy picture, a CLIP vector, a coarse layout and a timestep."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

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
from clip_feature_codec.diffusion.residual import Residual
from clip_feature_codec.diffusion.schedule import NoiseScheduler
from clip_feature_codec.diffusion.shrinkage import Shrinkage
from clip_feature_codec.errors import ConfigError

# A configuration may come from a stranger's file: these keep building it short.
_MAX_LEVELS = 8
_MAX_BLOCKS = 16
_MAX_MAP = 64
_MAX_LAYOUT = 256
_MAX_GAIN = 100.0

LAYOUT_PLANES = 4


class CLIPCondUNet(nn.Module):
    """U-Net that predicts ε or v at x_t, given a CLIP vector, the timestep (both by FiLM) and a layout.

    Each level has ``num_res_blocks`` residual blocks on the way down and as many on the way up, each of
    which takes the output of its counterpart; levels differ by a factor of 2 in size. The vector 0 stands
    for "no condition" (classifier-free guidance, Ho & Salimans 2022), and so do the layout 0 and None: a
    network that takes layouts does exactly what it would do had it never heard of them. Their projection
    starts at 0, so that a network without one can be continued with it. The output starts at exactly 0.

    Args:
        clip_dim: D, the dimension of the CLIP vectors.
        base: channels that ``ch_mult`` multiplies; a multiple of 4.
        ch_mult: channel multiplier of each level, finest first; at most 8 levels.
        num_res_blocks: residual blocks of each level, in each direction; at most 16.
        attention_levels: levels (0 is the finest) whose blocks are followed by self-attention.
        patch: side of the pixel squares that are folded into channels before the first convolution.
        z_map: side of a coarse map that the CLIP vector is projected to besides FiLM, resized and added to
            the stem's output; 0 is none. FiLM alone treats all places alike, so that a network must learn to
            tell them apart by their distance from the border before a vector can say where colours lie.
        layout: side of the square layout pictures that are resized to x_t's size, folded as x_t is, and
            projected into the stem's output; 0: the network takes none.
        residual_gain: where there is a layout, x_t and the output are those of the picture's difference from
            it, times this (see `residual`); 0: they are those of the picture itself.
        shrinkage: the noise schedule (`NoiseScheduler.to_config`) by which the network's beliefs about each
            patch become v (see `Shrinkage`); None: it gives ε or v itself.
        in_channels: channels of x_t and of the output.

    Attributes:
        config: the arguments above, JSON-able.
        size_multiple: H and W must be multiples of this.

    Raises:
        ConfigError: an argument is out of range.
    """

    def __init__(
        self,
        clip_dim: int,
        base: int = 128,
        ch_mult: Sequence[int] = (1, 2, 2),
        num_res_blocks: int = 2,
        attention_levels: Sequence[int] = (),
        patch: int = 1,
        z_map: int = 0,
        layout: int = 0,
        residual_gain: float = 0.0,
        shrinkage: Mapping[str, Any] | None = None,
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        self.config: dict[str, Any] = {
            "clip_dim": clip_dim,
            "base": base,
            "ch_mult": list(ch_mult),
            "num_res_blocks": num_res_blocks,
            "attention_levels": list(attention_levels),
            "patch": patch,
            "z_map": z_map,
            "layout": layout,
            "residual_gain": residual_gain,
            "shrinkage": None if shrinkage is None else dict(shrinkage),
            "in_channels": in_channels,
        }
        _check_config(self.config)
        self.size_multiple = patch * 2 ** (len(ch_mult) - 1)
        self._clip_scale = math.sqrt(clip_dim)  # a unit vector's entries then have mean square 1
        self._patch = patch
        self._base = base

        widths = [base * multiplier for multiplier in ch_mult]
        cond_dim = 4 * base
        self.time_mlp = nn.Sequential(nn.Linear(base, cond_dim), nn.SiLU(), nn.Linear(cond_dim, cond_dim))
        # Without a bias, so that the vector 0 adds nothing at all.
        self.clip_proj = nn.Linear(clip_dim, cond_dim, bias=False)
        self.map_proj = nn.Linear(clip_dim, widths[0] * z_map**2, bias=False) if z_map else None
        self.stem = nn.Conv2d(in_channels * patch**2, widths[0], 3, padding=1)
        # Without a bias, for the same reason.
        self.layout_proj = (
            zero_init(nn.Conv2d(LAYOUT_PLANES * patch**2, widths[0], 3, padding=1, bias=False))
            if layout
            else None
        )
        levels = list(zip(widths, [level in attention_levels for level in range(len(widths))], strict=True))
        self.down = nn.ModuleList()
        self.up = nn.ModuleList()  # coarsest first, the order of use
        finer = None
        for width, attention in levels:
            self.down.append(DownLevel(finer, width, cond_dim, num_res_blocks, attention))
            finer = width
        self.middle1 = ResidualBlock(widths[-1], widths[-1], cond_dim, levels[-1][1])
        self.middle2 = ResidualBlock(widths[-1], widths[-1], cond_dim, False)
        coarser = None
        for width, attention in reversed(levels):
            self.up.append(UpLevel(coarser, width, cond_dim, num_res_blocks, attention))
            coarser = width
        self.head_norm = group_norm(widths[0])
        self.shrinkage = None
        if shrinkage is not None:
            with torch.device("cpu"):  # its tables are no weights: on the meta device they would be lost
                self.shrinkage = Shrinkage(NoiseScheduler.from_config(shrinkage), in_channels, patch)
        outputs = in_channels * patch**2 * (1 if self.shrinkage is None else 2)
        self.head = zero_init(nn.Conv2d(widths[0], outputs, 3, padding=1))
        self.to(memory_format=torch.channels_last)

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
        cond = self.time_mlp(timestep_embedding(t, self._base))
        z = z_clip * self._clip_scale
        cond = F.silu(cond + self.clip_proj(z))

        folded = self._fold(x_t)
        x = self.stem(folded)
        if layout is not None:
            x = x + self._project_layout(layout, x_t)
        if self.map_proj is not None:
            side = self.config["z_map"]
            coarse = self.map_proj(z).view(len(z), -1, side, side)
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
        return F.pixel_shuffle(x, self._patch) if self._patch > 1 else x

    def residual(self, layout: Tensor | None, size: Sequence[int]) -> Residual:
        """What x_t and the output are of, for pictures of ``size`` (H, W) with layouts as for `forward`."""
        gain = self.config["residual_gain"]
        if not gain or layout is None:
            return Residual.none(self.head.weight.device)
        return Residual.around(layout, size, gain)

    def _fold(self, pictures: Tensor) -> Tensor:
        folded = F.pixel_unshuffle(pictures, self._patch) if self._patch > 1 else pictures
        return folded.contiguous(memory_format=torch.channels_last)

    def _project_layout(self, layout: Tensor, x_t: Tensor) -> Tensor:
        side = self.config["layout"]
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


def _check_config(config: dict[str, Any]) -> None:
    for name in ("clip_dim", "base", "num_res_blocks", "patch", "in_channels"):
        _require(name, config[name], type(config[name]) is int and config[name] > 0, "a positive integer")
    z_map = config["z_map"]
    _require("z_map", z_map, type(z_map) is int and 0 <= z_map <= _MAX_MAP, f"0 to {_MAX_MAP}")
    layout = config["layout"]
    fits = type(layout) is int and 0 <= layout <= _MAX_LAYOUT
    _require("layout", layout, fits, f"0 to {_MAX_LAYOUT}")
    gain = config["residual_gain"]
    fits = type(gain) in (int, float) and (gain == 0 or (1 <= gain <= _MAX_GAIN and layout > 0))
    _require("residual_gain", gain, fits, f"0, or 1 to {_MAX_GAIN:g} where there are layouts")
    base, ch_mult, levels = config["base"], config["ch_mult"], config["attention_levels"]
    _require("base", base, base % 4 == 0, "a multiple of 4")
    fits = config["num_res_blocks"] <= _MAX_BLOCKS
    _require("num_res_blocks", config["num_res_blocks"], fits, f"at most {_MAX_BLOCKS}")
    fits = 1 <= len(ch_mult) <= _MAX_LEVELS and all(type(m) is int and m > 0 for m in ch_mult)
    _require("ch_mult", ch_mult, fits, f"1 to {_MAX_LEVELS} positive integers")
    fits = all(type(level) is int and 0 <= level < len(ch_mult) for level in levels)
    _require("attention_levels", levels, fits, f"integers from 0 to {len(ch_mult) - 1}")


def _require(name: str, value: Any, fits: bool, wanted: str) -> None:
    if not fits:
        raise ConfigError(f"U-Net: {name} is {value!r}; it must be {wanted}")
