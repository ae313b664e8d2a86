"""What a `CLIPCondUNet` is built from: said here, and kept with the weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from clip_feature_codec.errors import ConfigError

# A configuration may come from a stranger's file: these keep building it short.
_MAX_LEVELS = 8
_MAX_BLOCKS = 16
_MAX_MAP = 64
_MAX_LAYOUT = 256
_MAX_GAIN = 100.0


@dataclass(frozen=True)
class UNetConfig:
    """The shape of a network, and what it takes and gives.

    Attributes:
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

    Raises:
        ConfigError: a value is out of range.
    """

    clip_dim: int
    base: int = 128
    ch_mult: tuple[int, ...] = (1, 2, 2)
    num_res_blocks: int = 2
    attention_levels: tuple[int, ...] = ()
    patch: int = 1
    z_map: int = 0
    layout: int = 0
    residual_gain: float = 0.0
    shrinkage: Mapping[str, Any] | None = None
    in_channels: int = 3

    def __post_init__(self) -> None:
        for name in ("clip_dim", "base", "num_res_blocks", "patch", "in_channels"):
            self._require(name, _is_whole(getattr(self, name), least=1), "a positive integer")
        for name in ("ch_mult", "attention_levels"):
            value = getattr(self, name)
            self._require(name, isinstance(value, tuple | list), "a list of integers")
            object.__setattr__(self, name, tuple(value))  # JSON makes lists of tuples
        self._require("base", self.base % 4 == 0, "a multiple of 4")
        self._require("num_res_blocks", self.num_res_blocks <= _MAX_BLOCKS, f"at most {_MAX_BLOCKS}")
        levels = len(self.ch_mult)
        fits = 1 <= levels <= _MAX_LEVELS and all(_is_whole(factor, 1) for factor in self.ch_mult)
        self._require("ch_mult", fits, f"1 to {_MAX_LEVELS} positive integers")
        fits = all(_is_whole(level, 0) and level < levels for level in self.attention_levels)
        self._require("attention_levels", fits, f"integers from 0 to {levels - 1}")
        for name, most in (("z_map", _MAX_MAP), ("layout", _MAX_LAYOUT)):
            value = getattr(self, name)
            self._require(name, _is_whole(value, 0) and value <= most, f"0 to {most}")
        gain = self.residual_gain
        fits = type(gain) in (int, float) and (gain == 0 or (1 <= gain <= _MAX_GAIN and self.layout > 0))
        self._require("residual_gain", fits, f"0, or 1 to {_MAX_GAIN:g} where there are layouts")

    @property
    def widths(self) -> list[int]:
        """Channels of each level, finest first."""
        return [self.base * factor for factor in self.ch_mult]

    @property
    def size_multiple(self) -> int:
        """What height and width of pictures must be multiples of."""
        return self.patch << (len(self.ch_mult) - 1)

    def to_json(self) -> dict[str, Any]:
        """The fields as plain values."""
        plain = asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in plain.items()}

    def _require(self, name: str, fits: bool, wanted: str) -> None:
        if not fits:
            value = getattr(self, name)
            shown = list(value) if isinstance(value, tuple) else value
            raise ConfigError(f"U-Net: {name} is {shown!r}; it must be {wanted}")


def _is_whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
