"""Everything that decides how a decoder is trained, checked before anything is loaded."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from clip_feature_codec.diffusion.config import UNetConfig
from clip_feature_codec.errors import ConfigError

# The options can be listed without torch.
if TYPE_CHECKING:
    from clip_feature_codec.diffusion.schedule import NoiseScheduler
    from clip_feature_codec.diffusion.unet import CLIPCondUNet

# Least value of each whole number; those of the network and the schedule are checked by their owners.
_WHOLE = {
    "out_size": 2,
    "epochs": 1,
    "batch_size": 1,
    "warmup_steps": 0,
    "cooldown_steps": 0,
    "accumulate": 1,
    "sample_every": 0,
    "checkpoint_every": 1,
    "log_every": 1,
    "seed": 0,
    "workers": 0,
}
_WEIGHTS = ("recon_w", "clip_w", "tv_w")
_POSITIVE = ("lr", "grad_clip")
_FRACTIONS = ("ema_decay", "cond_dropout", "layout_dropout", "val_fraction")

# What may differ between the run that wrote a checkpoint and the one that goes on from it: how long to
# train, how often to look, and how the work is spread. The batches per optimizer step that processes and
# ``accumulate`` give together are compared instead of ``accumulate`` alone.
FREE_ON_RESUME = frozenset(
    {
        *("epochs", "max_steps", "cooldown_steps"),
        *("accumulate", "workers"),
        *("sample_every", "checkpoint_every", "log_every"),
    }
)


@dataclass(frozen=True)
class TrainConfig:
    """The options of one training; the losses and switches of the specification are the defaults.

    Attributes:
        out_size: side of the square canvas in pixels.
        epochs: passes over the training pictures.
        batch_size: pictures per process in one forward pass.
        timesteps: length T of the noise schedule.
        recon_w: weight of the L1 distance of the predicted picture (0: not computed, as for the next two).
        clip_w: weight of 1 - cosine between the predicted picture's CLIP vector and the stream's.
        tv_w: weight of the predicted picture's total variation.
        lr: AdamW's learning rate after the warm-up.
        warmup_steps: steps in which the learning rate climbs linearly.
        cooldown_steps: steps at the end in which it falls linearly towards 0 (0: it stays).
        grad_clip: largest norm of the gradient.
        accumulate: batches per process that make one optimizer step.
        ema_decay: decay of the averaged weights, once warmed up.
        cond_dropout: share of the pictures that are trained without their vector, for guidance.
        layout_dropout: share of the pictures that are trained without their layout, independently of that.
        schedule: ``cosine`` or ``linear``.
        prediction: what the network predicts, ``epsilon`` or ``v``.
        zero_terminal_snr: whether the last timestep is pure noise (needs ``v``).
        base: channels of the U-Net's first level.
        ch_mult: channels of each level as multiples of ``base``.
        num_res_blocks: residual blocks per level.
        attention_levels: levels with self-attention, 0 being the finest.
        patch: side of the square of pixels that the stem folds into channels.
        z_map: side of the coarse map that the vector is projected to besides FiLM (0: none).
        layout: side of the square layout pictures that the decoder takes besides the vector (0: none).
        residual_gain: where there is a layout, learn the picture's difference from it, times this (0: learn
            the picture itself).
        shrinkage: whether the network predicts distributions from which v follows (needs ``prediction`` v).
        val_fraction: share of the pictures held back for the validation loss.
        sample_every: steps between validations and sample grids (0: never).
        checkpoint_every: steps between checkpoints; there is always one at the end.
        log_every: steps between entries of the log.
        compile: whether the network goes through ``torch.compile``.
        seed: of weights, order and noise.
        workers: processes that read pictures (0: the training process itself).
        max_steps: stops after so many optimizer steps, if that comes before the last epoch's end.

    Raises:
        ConfigError: a value makes no sense, alone or beside another.
    """

    out_size: int = 256
    epochs: int = 40
    batch_size: int = 8
    timesteps: int = 1000
    recon_w: float = 0.05
    clip_w: float = 0.1
    tv_w: float = 1e-4
    lr: float = 2e-4
    warmup_steps: int = 250
    cooldown_steps: int = 0
    grad_clip: float = 1.0
    accumulate: int = 1
    ema_decay: float = 0.9999
    cond_dropout: float = 0.1
    layout_dropout: float = 0.3
    schedule: str = "cosine"
    prediction: str = "epsilon"
    zero_terminal_snr: bool = False
    base: int = UNetConfig.base
    ch_mult: tuple[int, ...] = UNetConfig.ch_mult
    num_res_blocks: int = UNetConfig.num_res_blocks
    attention_levels: tuple[int, ...] = UNetConfig.attention_levels
    patch: int = UNetConfig.patch
    z_map: int = UNetConfig.z_map
    layout: int = 24
    residual_gain: float = UNetConfig.residual_gain
    shrinkage: bool = False
    val_fraction: float = 0.05
    sample_every: int = 500
    checkpoint_every: int = 500
    log_every: int = 20
    compile: bool = False
    seed: int = 0
    workers: int = 2
    max_steps: int | None = None

    def __post_init__(self) -> None:
        for name, least in _WHOLE.items():
            self._require(name, _is_whole(getattr(self, name), least), f"a whole number of at least {least}")
        for name in _WEIGHTS:
            self._require(name, _is_number(getattr(self, name), 0.0), "a number of at least 0")
        for name in _POSITIVE:
            value = getattr(self, name)
            self._require(name, _is_number(value, 0.0) and value > 0, "a number above 0")
        for name in _FRACTIONS:
            value = getattr(self, name)
            self._require(name, _is_number(value, 0.0) and value < 1, "a number from 0 up to but not with 1")
        for name in ("zero_terminal_snr", "shrinkage", "compile"):
            self._require(name, isinstance(getattr(self, name), bool), "True or False")
        limit = self.max_steps
        self._require("max_steps", limit is None or _is_whole(limit, 1), "None or at least 1")
        for name in ("ch_mult", "attention_levels"):
            value = getattr(self, name)
            self._require(name, isinstance(value, tuple | list), "a tuple of whole numbers")
            object.__setattr__(self, name, tuple(value))  # JSON makes lists of tuples
        import torch

        self.build_scheduler()
        with torch.device("meta"):  # neither memory nor time
            multiple = self.build_unet(clip_dim=1).size_multiple
        self._require(
            "out_size", self.out_size % multiple == 0, f"a multiple of {multiple} (patch and levels)"
        )

    def build_scheduler(self) -> NoiseScheduler:
        """The noise schedule that these options describe."""
        from clip_feature_codec.diffusion.schedule import NoiseScheduler

        return NoiseScheduler.from_config(
            {
                "timesteps": self.timesteps,
                "schedule": self.schedule,
                "prediction": self.prediction,
                "zero_terminal_snr": self.zero_terminal_snr,
            }
        )

    def build_unet(self, clip_dim: int) -> CLIPCondUNet:
        """The network that these options describe, for vectors of ``clip_dim`` numbers."""
        from clip_feature_codec.diffusion.unet import CLIPCondUNet

        # The network's options have the same names here, but for shrinkage, which it is told by a schedule.
        names = [field.name for field in fields(UNetConfig) if hasattr(self, field.name)]
        given = {name: getattr(self, name) for name in names}
        given["shrinkage"] = self.build_scheduler().to_config() if self.shrinkage else None
        return CLIPCondUNet(UNetConfig(clip_dim, **given))

    def _require(self, name: str, holds: bool, expected: str) -> None:
        if not holds:
            raise ConfigError(f"training option {name} is {getattr(self, name)!r}: expected {expected}")

    def to_dict(self) -> dict[str, Any]:
        """The options as plain values that JSON can hold."""
        return {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, options: Mapping[str, Any]) -> TrainConfig:
        """The inverse of `to_dict`; options left out take their defaults.

        Raises:
            ConfigError: an option is unknown or its value makes no sense.
        """
        known = [field.name for field in fields(cls)]
        for name in options:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f": did you mean {near[0]}?" if near else f": there are {', '.join(known)}"
                raise ConfigError(f"unknown training option {name!r}{hint}")
        return cls(**options)

    def differences(self, other: TrainConfig) -> list[str]:
        """What keeps ``other`` from continuing a training of this one, as ``name: mine, not other's``."""
        mine, others = self.to_dict(), other.to_dict()
        return [
            f"{name}: {mine[name]!r}, not {others[name]!r}"
            for name in mine
            if name not in FREE_ON_RESUME and mine[name] != others[name]
        ]


def _is_whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _is_number(value: object, least: float) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value) and value >= least
