"""Our own kind of decoder on torch: a U-Net that takes noise away, and an upsampler where there is one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clip_feature_codec.codec.space import ClipSpace
from clip_feature_codec.decoders.container import content_digest
from clip_feature_codec.decoders.painting import DiffusionPainting
from clip_feature_codec.diffusion.config import UNetConfig
from clip_feature_codec.diffusion.denoiser import TorchDenoiser
from clip_feature_codec.diffusion.schedule import NoiseScheduler
from clip_feature_codec.diffusion.unet import CLIPCondUNet
from clip_feature_codec.diffusion.upsampler import Upsampler
from clip_feature_codec.errors import ConfigError


@dataclass
class DiffusionDecoder(DiffusionPainting[Tensor]):
    """A U-Net with all that is needed to use it; a `protocol.Decoder`.

    Attributes:
        unet: the network, for RGB pictures.
        scheduler: the noise schedule that it was trained with.
        space: the CLIP space of its condition.
        image_size: side in pixels of the square pictures that it was trained on.
        upsampler: makes larger pictures of those; None: bicubic interpolation does.
        extra: plain facts that travel with it (steps, figures); JSON-able.

    Raises:
        ConfigError: the parts do not fit each other.
    """

    unet: CLIPCondUNet
    scheduler: NoiseScheduler
    space: ClipSpace
    image_size: int
    upsampler: Upsampler | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        config = self.unet.config
        if config.clip_dim != self.space.dim:
            raise ConfigError(
                f"the U-Net takes vectors of {config.clip_dim} numbers, "
                f"those of {self.space.label} have {self.space.dim}"
            )
        if self.upsampler is not None and self.upsampler.config.get("dim") not in (None, self.space.dim):
            raise ConfigError(
                f"the upsampler takes vectors of {self.upsampler.config['dim']} numbers, "
                f"those of {self.space.label} have {self.space.dim}"
            )
        if config.in_channels != 3:
            raise ConfigError(f"the U-Net paints {config.in_channels} channels; pictures have 3")
        if config.shrinkage not in (None, self.scheduler.to_config()):
            raise ConfigError("the U-Net's shrinkage is for another noise schedule than the decoder's")
        multiple = self.unet.size_multiple
        if self.image_size < 1 or self.image_size % multiple:
            raise ConfigError(f"image size is {self.image_size}; this U-Net takes multiples of {multiple}")

    @property
    def unet_config(self) -> UNetConfig:
        """What the U-Net is built from."""
        return self.unet.config

    @property
    def denoiser(self) -> TorchDenoiser:
        """The U-Net, for `samplers.sample`."""
        return TorchDenoiser(self.unet)

    @torch.no_grad()
    def enlarged(self, canvases: Tensor, vectors: NDArray[np.float32]) -> Tensor:
        """Let the upsampler enlarge canvases (N, 3, S, S) in [-1, 1], if there is one, by what (N, D) say."""
        if self.upsampler is None:
            return canvases
        large: Tensor = self.upsampler(canvases, torch.from_numpy(vectors).to(canvases.device))
        return large

    def configuration(self) -> dict[str, Any]:
        """All that decides a pixel beside the weights, JSON-able."""
        return {
            "unet": self.unet.config.to_json(),
            "scheduler": self.scheduler.to_config(),
            "image_size": self.image_size,
            "upsampler": {} if self.upsampler is None else self.upsampler.config,
        }

    def weights(self) -> dict[str, Tensor]:
        """Every weight by its name, that of its part in front: ``unet.`` or ``upsampler.``."""
        parts = {"unet": self.unet, "upsampler": self.upsampler}
        return {
            f"{part}.{name}": value
            for part, network in parts.items()
            if network is not None
            for name, value in network.state_dict().items()
        }

    def identity(self) -> str:
        """See `protocol.Decoder`."""
        weights = {name: value.detach().cpu().numpy() for name, value in self.weights().items()}
        return content_digest(self.configuration(), weights)

    def weights_for(self, unet: CLIPCondUNet, scheduler: NoiseScheduler) -> dict[str, Tensor]:
        """The weights with which another training begins.

        Args:
            unet: the network to begin with them: the same, except that it may take layouts where this
                decoder takes none; their projection keeps the weights that it has.
            scheduler: the schedule that it is to be trained with.

        Raises:
            ConfigError: the network or the schedule is another one.
        """
        own = self.unet.config.to_json() | self.scheduler.to_config()
        other = unet.config.to_json() | scheduler.to_config()
        if not own["layout"]:
            own["layout"] = other["layout"]
        differences = [
            f"{name}: {own[name]!r}, not {other[name]!r}" for name in other if own[name] != other[name]
        ]
        if differences:
            raise ConfigError(f"the decoder to begin with has {'; '.join(differences)}: take the same")
        return {**unet.state_dict(), **self.unet.state_dict()}
