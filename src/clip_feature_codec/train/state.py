"""All that a training is at the end of a step, and its checkpoint.

There is no state of random generators in it: randomness follows from the seed and the step (order.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from clip_feature_codec.codec.space import ClipSpace
from clip_feature_codec.decoders.diffusion import DiffusionDecoder
from clip_feature_codec.diffusion.unet import CLIPCondUNet
from clip_feature_codec.errors import CheckpointError, ConfigError
from clip_feature_codec.files import atomic_writer
from clip_feature_codec.train.config import TrainConfig

FORMAT = "clip-feature-codec training"
VERSION = 1
_AFRESH = "start afresh with restart=True (--restart)"


def warmed_up_average(decay: float) -> Callable[[Sequence[Tensor], Sequence[Tensor], Tensor | int], None]:
    """Make `AveragedModel`'s update: average <- d average + (1 - d) weights.

    d = min(decay, (1 + n) / (10 + n)), where n counts the updates, the first of which (n = 0) copies the
    weights. The growing decay keeps a short training from saving mostly its own beginning.
    """

    @torch.no_grad()
    def update(averages: Sequence[Tensor], weights: Sequence[Tensor], n: Tensor | int) -> None:
        count = torch.as_tensor(n, dtype=torch.float32)
        share = 1 - ((1 + count) / (10 + count)).clamp(max=decay)
        # Not lerp, which wants the share as a number: reading it would make the host wait for the device.
        difference = torch._foreach_sub(list(weights), list(averages))
        torch._foreach_mul_(difference, share)
        torch._foreach_add_(list(averages), difference)

    return update


@dataclass
class TrainingState:
    """Weights, averaged weights and optimizer after ``step`` steps, and what they belong to.

    Attributes:
        config: the options of this run.
        space: of the vectors.
        data: fingerprint of the dataset.
        batches_per_step: those of all processes and all accumulated ones.
        unet: the network, wrapped by nothing.
        average: its exponential moving average.
        optimizer: AdamW.
        step: optimizer steps done.
    """

    config: TrainConfig
    space: ClipSpace
    data: str
    batches_per_step: int
    unet: CLIPCondUNet
    average: AveragedModel
    optimizer: torch.optim.Optimizer
    step: int = 0

    @classmethod
    def initial(
        cls,
        config: TrainConfig,
        space: ClipSpace,
        data: str,
        batches_per_step: int,
        device: torch.device,
        start: DiffusionDecoder | None = None,
    ) -> TrainingState:
        """The state before the first step.

        Args:
            config: the options.
            space: of the vectors.
            data: fingerprint of the dataset.
            batches_per_step: those of all processes and all accumulated ones.
            device: where to train.
            start: a decoder whose weights to begin with, of the same network but for the layout, which may
                be new; without one, the weights follow from ``config.seed``.

        Raises:
            ConfigError: ``start`` is another network, or was trained with another schedule.
            SpaceMismatchError: ``start`` belongs to another CLIP space.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            unet = config.build_unet(space.dim)
        if start is not None:
            space.require_same(start.space, "the decoder to begin with")
            unet.load_state_dict(start.weights_for(unet, config.build_scheduler()))
        unet.to(device)
        average = AveragedModel(unet, multi_avg_fn=warmed_up_average(config.ema_decay))
        average.requires_grad_(False).eval()
        optimizer = torch.optim.AdamW(unet.parameters(), lr=config.lr, fused=device.type == "cuda")
        return cls(config, space, data, batches_per_step, unet, average, optimizer)

    @property
    def decoder(self) -> CLIPCondUNet:
        """The network with the averaged weights, in eval mode."""
        return cast(CLIPCondUNet, self.average.module)

    def save(self, path: Path) -> None:
        """Write the checkpoint, whole or not at all."""
        content = {
            "format": FORMAT,
            "version": VERSION,
            "step": self.step,
            "config": self.config.to_dict(),
            "space": self.space.to_json(),
            "data": self.data,
            "batches_per_step": self.batches_per_step,
            "unet": self.unet.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        with atomic_writer(path, durable=True) as file:
            torch.save(content, file)

    def load(self, path: Path) -> None:
        """Go on from a checkpoint.

        Raises:
            CheckpointError: the file is damaged or something else.
            ConfigError: it belongs to a training with other options, data or number of processes.
            SpaceMismatchError: it belongs to another CLIP space.
        """
        content = _read(path)
        try:
            self._require_same(path, content)
            self.unet.load_state_dict(content["unet"])
            self.average.load_state_dict(content["average"])
            self.optimizer.load_state_dict(content["optimizer"])
            self.step = content["step"]
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise CheckpointError(f"{path}: the checkpoint is not whole: {_AFRESH}") from error

    def _require_same(self, path: Path, content: dict[str, Any]) -> None:
        self.space.require_same(ClipSpace.from_json(content["space"]), str(path))
        # A training from before there were these options had none of them.
        begun = {
            "layout": 0,
            "residual_gain": 0.0,
            "shrinkage": False,
            **content["config"],
        }
        differences = TrainConfig.from_dict(begun).differences(self.config)
        if content["batches_per_step"] != self.batches_per_step:
            before, now = content["batches_per_step"], self.batches_per_step
            differences.append(f"batches per step (processes × accumulate): {before}, not {now}")
        if content["data"] != self.data:
            differences.append("the pictures or their vectors are other ones")
        if differences:
            raise ConfigError(
                f"{path}: this training was begun with {'; '.join(differences)}: take the same, or {_AFRESH}"
            )


def _read(path: Path) -> dict[str, Any]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises whatever the damage leads to
        raise CheckpointError(f"{path}: not a readable training checkpoint: {_AFRESH}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CheckpointError(f"{path}: not a training checkpoint: {_AFRESH}")
    if content.get("version") != VERSION:
        found = content.get("version")
        raise CheckpointError(
            f"{path}: training checkpoint of version {found!r}, expected {VERSION}: {_AFRESH}"
        )
    return content
