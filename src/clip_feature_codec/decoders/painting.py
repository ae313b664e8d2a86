"""How our own kind of decoder paints, whichever library its networks run on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Generic

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clip_feature_codec.codec.space import ClipSpace
from clip_feature_codec.decoders.conditions import Conditions
from clip_feature_codec.decoders.options import OUR_SAMPLER, OUR_SAMPLING, PaintOptions, Sampling
from clip_feature_codec.diffusion.arrays import Array, bicubic
from clip_feature_codec.diffusion.config import UNetConfig
from clip_feature_codec.diffusion.noise import noise_generators
from clip_feature_codec.diffusion.plans import Step, sampling_plan
from clip_feature_codec.diffusion.residual import Residual
from clip_feature_codec.diffusion.samplers import Denoiser, sample
from clip_feature_codec.diffusion.schedule import NoiseScheduler
from clip_feature_codec.images import to_pictures


class DiffusionPainting(ABC, Generic[Array]):
    """A U-Net that takes noise away, and an upsampler where there is one: most of a `protocol.Decoder`.

    Attributes:
        scheduler: the noise schedule that the U-Net was trained with.
        space: the CLIP space of its condition.
        image_size: side in pixels of the square pictures that it was trained on.
    """

    scheduler: NoiseScheduler
    space: ClipSpace
    image_size: int

    @property
    @abstractmethod
    def unet_config(self) -> UNetConfig:
        """What the U-Net is built from."""

    @property
    @abstractmethod
    def denoiser(self) -> Denoiser[Array]:
        """The U-Net, for `samplers.sample`."""

    @abstractmethod
    def enlarged(self, canvases: Array, vectors: NDArray[np.float32]) -> Array:
        """Let the upsampler enlarge canvases (N, 3, S, S) in [-1, 1], if there is one, by what (N, D) say.

        For small pictures, too: it mends the canvas's own flaws, and a picture is the same at every size.
        """

    @abstractmethod
    def identity(self) -> str:
        """See `protocol.Decoder`."""

    @property
    def layout_side(self) -> int:
        """See `protocol.Decoder`."""
        return self.unet_config.layout

    @property
    def usual(self) -> Sampling:
        """See `protocol.Decoder`."""
        return OUR_SAMPLING

    @property
    def has_fidelity(self) -> bool:
        """See `protocol.Decoder`: where sampling begins with pure noise, one evaluation gives the mean."""
        return self.scheduler.zero_terminal_snr

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
        canvases = self.enlarged(canvases, conditions.vectors).clip(-1.0, 1.0)
        if mean is not None:
            mean = bicubic(mean, canvases.shape[-2:])
            canvases = canvases + (mean - canvases) * options.fidelity
        return to_pictures(canvases)

    def _sample(
        self,
        plan: Sequence[Step],
        conditions: Conditions,
        guidance: float,
        seed: int,
        keys: Sequence[bytes],
    ) -> Array:
        """Canvases (N, 3, S, S) in [-1, 1]."""
        model, planes = self.denoiser, _planes(conditions)
        layout = None if planes is None else model.array(planes)
        side = self.image_size
        return sample(
            model,
            plan,
            conditions.vectors,
            size=side,
            guidance=guidance,
            layout=layout,
            residual=Residual.around(layout, (side, side), self.unet_config.residual_gain),
            generators=noise_generators(seed, keys),
        )


def _planes(conditions: Conditions) -> NDArray[np.float32] | None:
    """The layouts as `CLIPCondUNet` takes them, (N, 4, S, S), or None where no row has one.

    Colours are in [-1, 1]; a plane of ones tells grey from nothing.
    """
    if conditions.layouts is None or not conditions.present.any():
        return None
    colours = conditions.layouts.transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1
    planes = np.concatenate([colours, np.ones_like(colours[:, :1])], axis=1)
    planes[~conditions.present] = 0.0
    return planes
