"""What tuning and upsampler share: batches of crops, canvases, and learning by the clock."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clip_feature_codec.codec.feature_codec import FeatureCodec
from clip_feature_codec.decoders.diffusion import DiffusionDecoder
from clip_feature_codec.decoders.options import OUR_SAMPLING
from clip_feature_codec.devices import autocast_dtype
from clip_feature_codec.diffusion.noise import noise_generators
from clip_feature_codec.diffusion.plans import sampling_plan
from clip_feature_codec.diffusion.residual import Residual
from clip_feature_codec.diffusion.samplers import sample
from clip_feature_codec.diffusion.unet import layout_planes
from clip_feature_codec.files import atomic_writer
from clip_feature_codec.names import CODEC_FILE
from code_crops import KEPT_OUT, coded_names
from data import Shards

Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True)
class Batch:
    """N crops with what one stream of each decodes to.

    Attributes:
        pictures: (N, 3, S, S) in [-1, 1].
        vectors: (N, D), zeros where the stream has none.
        planes: the layouts, as `layout_planes` gives them.
    """

    pictures: Tensor
    vectors: Tensor
    planes: Tensor


def open_crops(work: Path, device: torch.device) -> Shards:
    """The decoder's crops: ``images`` with what their streams decode to."""
    names = ("images", *coded_names(FeatureCodec.load(work / CODEC_FILE)))
    return Shards(work / "crops-decoder", names, device)


def open_kept(work: Path, device: torch.device) -> dict[str, Tensor]:
    """The photographs that were kept out, see `code_crops`."""
    with np.load(work / KEPT_OUT) as arrays:
        return {name: torch.from_numpy(values).to(device) for name, values in arrays.items()}


def draw(crops: Shards, rows: np.ndarray, rng: np.random.Generator, config: dict[str, Any]) -> Batch:
    """A batch of some ``rows``, half of them mirrored; ``dropout`` is the share that has no vector."""
    count = config["batch_size"]
    images, coded, layouts = crops.take(rng.choice(rows, count)).values()
    device = images.device
    version = torch.from_numpy(rng.integers(0, coded.shape[1], count)).to(device)
    kept = torch.from_numpy(rng.random(count) >= config["dropout"]).to(device)
    turned = torch.from_numpy(rng.random(count) < 0.5).to(device)[:, None, None, None]
    chosen = torch.arange(count, device=device)
    pictures = images.permute(0, 3, 1, 2).float() / 127.5 - 1
    planes = layout_planes(layouts[chosen, version], torch.ones_like(kept))
    return Batch(
        torch.where(turned, pictures.flip(3), pictures),
        coded[chosen, version].float() * kept[:, None],
        torch.where(turned, planes.flip(3), planes),
    )


def canvases(decoder: DiffusionDecoder, vectors: Tensor, planes: Tensor, steps: int, seed: int) -> Tensor:
    """What so many steps of the decoder paint, (N, 3, S, S); the guidance is the default."""
    size = decoder.image_size
    with autocast(vectors.device):
        return sample(
            decoder.denoiser,
            sampling_plan("dpm-solver++", decoder.scheduler, steps),
            vectors,
            size=size,
            guidance=OUR_SAMPLING.guidance if steps > 1 else 1.0,
            layout=planes,
            residual=Residual.around(planes, (size, size), decoder.unet_config.residual_gain),
            generators=noise_generators(seed, [row.to_bytes(4) for row in range(len(vectors))]),
        ).float()


def kept_canvases(
    decoder: DiffusionDecoder, kept: dict[str, Tensor], size: int, steps: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Canvases, vectors and layouts (as planes) of the photographs that were kept out, at a budget."""
    vectors, layouts = kept[f"vectors{size}"], kept[f"layouts{size}"]
    planes = layout_planes(layouts, torch.ones(len(layouts), dtype=torch.bool, device=layouts.device))
    return canvases(decoder, vectors, planes, steps, 0), vectors, planes


def enlarged(pictures: Tensor, originals: Tensor) -> Tensor:
    """Pictures at the originals' size, in [-1, 1]."""
    return F.interpolate(pictures, originals.shape[-2:], mode="bicubic").clamp(-1, 1)


def psnr(pictures: Tensor, originals: Tensor) -> float:
    """Mean over (N, 3, H, W) in [-1, 1], in dB."""
    error = (pictures - originals).square().mean((1, 2, 3)).clamp(min=1e-9)
    return float((10 * torch.log10(4 / error)).mean())


def autocast(device: torch.device) -> torch.autocast:
    """In bfloat16 where the device is good at it."""
    dtype = autocast_dtype(device)
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not None)


class Learning(Generic[Network]):
    """A network that learns for so many minutes, all tries together, with the average of its weights.

    Args:
        network: as it begins.
        config: ``minutes``, ``lr``, ``cooldown``, ``longest_gradient``, ``ema_decay``,
            ``checkpoint_seconds`` and ``look_every``.
        checkpoint: the file to go on from, if it is there.

    Attributes:
        average: the weights to use.
        step: steps done.
    """

    def __init__(self, network: Network, config: dict[str, Any], checkpoint: Path) -> None:
        self._network, self._config, self._checkpoint = network, config, checkpoint
        self.average = copy.deepcopy(network)
        self.average.requires_grad_(False)
        self._optimizer = torch.optim.AdamW(network.parameters(), betas=(0.9, 0.99), weight_decay=0.0)
        self._parts: dict[str, Any] = {
            "network": network,
            "average": self.average,
            "optimizer": self._optimizer,
        }
        self.step, self._seconds = 0, 0.0
        if checkpoint.exists():
            self._load()

    def _save(self) -> None:
        states = {name: part.state_dict() for name, part in self._parts.items()}
        with atomic_writer(self._checkpoint) as file:
            torch.save({"step": self.step, "seconds": self._seconds} | states, file)

    def _load(self) -> None:
        content = torch.load(self._checkpoint, weights_only=True)
        for name, part in self._parts.items():
            part.load_state_dict(content[name])
        self.step, self._seconds = content["step"], content["seconds"]

    def run(self, losses: Callable[[int], dict[str, Tensor]], look: Callable[[int], str]) -> None:
        """Learn until the time is up, and save.

        Args:
            losses: of a step, by name; their sum is what goes down.
            look: what to print of the averaged weights after a step.
        """
        config, start, first = self._config, time.time(), self.step
        saved, began = start, start - self._seconds
        while self._seconds < 60 * config["minutes"]:
            found = losses(self.step)
            self._update(torch.stack([*found.values()]).sum())
            self._seconds = time.time() - began
            if self.step % 25 == 0:
                values = ", ".join(f"{name} {value.item():.4f}" for name, value in found.items())
                speed = (self.step - first) * config["batch_size"] / (time.time() - start)
                print(f"step {self.step}: {values}, {speed:.1f} pictures/s", flush=True)
            if self.step % config["look_every"] == 0:
                print(look(self.step), flush=True)
            if time.time() - saved > config["checkpoint_seconds"]:
                self._save()
                saved = time.time()
        self._save()

    def _update(self, loss: Tensor) -> None:
        for group in self._optimizer.param_groups:
            group["lr"] = self._learning_rate()
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self._network.parameters(), self._config["longest_gradient"])
        self._optimizer.step()
        decay = min(self._config["ema_decay"], (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for average, value in zip(self.average.parameters(), self._network.parameters(), strict=True):
                average.lerp_(value, 1 - decay)
        self.step += 1

    def _learning_rate(self) -> float:
        """Linear warm-up, constant, and a fall to 0 in the last part of the time."""
        left = 1 - self._seconds / (60 * self._config["minutes"])
        highest: float = self._config["lr"]
        share: float = min(1.0, (self.step + 1) / 100, max(0.0, left) / self._config["cooldown"])
        return highest * share
