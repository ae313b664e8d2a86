"""Our own kind of decoder: a U-Net that takes noise away, and an upsampler where there is one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from clip_feature_codec.codec.space import ClipSpace
from clip_feature_codec.decoders.conditions import Conditions
from clip_feature_codec.decoders.container import content_digest
from clip_feature_codec.decoders.options import OUR_SAMPLER, OUR_SAMPLING, PaintOptions, Sampling
from clip_feature_codec.diffusion.plans import Step, sampling_plan
from clip_feature_codec.diffusion.samplers import noise_generators, sample
from clip_feature_codec.diffusion.schedule import NoiseScheduler
from clip_feature_codec.diffusion.unet import CLIPCondUNet, layout_planes
from clip_feature_codec.diffusion.upsampler import Upsampler
from clip_feature_codec.errors import ConfigError
from clip_feature_codec.images import to_pictures


@dataclass
class DiffusionDecoder:
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
        if config.in_channels != 3:
            raise ConfigError(f"the U-Net paints {config.in_channels} channels; pictures have 3")
        if config.shrinkage not in (None, self.scheduler.to_config()):
            raise ConfigError("the U-Net's shrinkage is for another noise schedule than the decoder's")
        multiple = self.unet.size_multiple
        if self.image_size < 1 or self.image_size % multiple:
            raise ConfigError(f"image size is {self.image_size}; this U-Net takes multiples of {multiple}")

    @property
    def layout_side(self) -> int:
        """See `protocol.Decoder`."""
        return self.unet.config.layout

    @property
    def usual(self) -> Sampling:
        """See `protocol.Decoder`."""
        return OUR_SAMPLING

    @property
    def has_fidelity(self) -> bool:
        """See `protocol.Decoder`: where sampling begins with pure noise, one evaluation gives the mean."""
        return self.scheduler.zero_terminal_snr

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
        return content_digest(self.configuration(), self.weights())

    def paint(
        self, conditions: Conditions, options: PaintOptions, keys: Sequence[bytes]
    ) -> list[Image.Image]:
        """See `protocol.Decoder`.

        A fidelity f gives (1 - f) sample + f mean: the straight line between the two is the best that can be
        had at each perceptual quality between theirs (Freirich et al. 2021, theorem 3). The mean is what the
        network predicts from pure noise, in one evaluation more.
        """
        mean = None
        if options.fidelity:
            first = sampling_plan("dpm-solver++", self.scheduler, steps=1)
            mean = self._sample(first, conditions, 1.0, options.seed, keys)
            if options.fidelity == 1:
                return to_pictures(mean)
        steps, guidance, sampler = options.sampling(OUR_SAMPLING)
        plan = sampling_plan(sampler or OUR_SAMPLER, self.scheduler, steps, options.eta)
        canvases = self._sample(plan, conditions, guidance, options.seed, keys)
        if self.upsampler is not None:
            # For small pictures, too: it mends the canvas's own flaws, and a picture is the same at every
            # size.
            with torch.no_grad():
                canvases = self.upsampler(canvases).clamp(-1.0, 1.0)
        if mean is not None:
            mean = F.interpolate(mean, canvases.shape[-2:], mode="bicubic")
            canvases = torch.lerp(canvases, mean, options.fidelity)
        return to_pictures(canvases)

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

    def _sample(
        self,
        plan: Sequence[Step],
        conditions: Conditions,
        guidance: float,
        seed: int,
        keys: Sequence[bytes],
    ) -> Tensor:
        """Canvases (N, 3, S, S) in [-1, 1]."""
        layout = _planes(conditions)
        return sample(
            self.unet,
            plan,
            torch.from_numpy(conditions.vectors),
            size=self.image_size,
            guidance=guidance,
            layout=layout,
            residual=self.unet.residual(layout, (self.image_size, self.image_size)),
            generators=noise_generators(seed, keys),
        )


def _planes(conditions: Conditions) -> Tensor | None:
    """The layouts as `CLIPCondUNet` takes them, (N, 4, S, S) float32, or None where no row has one."""
    if conditions.layouts is None or not conditions.present.any():
        return None
    pictures = torch.from_numpy(conditions.layouts).permute(0, 3, 1, 2)
    return layout_planes(pictures, torch.from_numpy(conditions.present))
