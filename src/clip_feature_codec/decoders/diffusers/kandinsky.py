"""Kandinsky 2.2: a decoder of OpenCLIP ViT-bigG/14 image embeddings, without words."""

from __future__ import annotations

from typing import Any, Self

import diffusers
import torch
from PIL import Image

from clip_feature_codec.decoders.diffusers.pipeline import (
    PipelineDecoder,
    PipelineFiles,
    Request,
    load_parts,
)
from clip_feature_codec.decoders.options import Sampling
from clip_feature_codec.embed.transformers.tower import VisionTower


class Kandinsky(PipelineDecoder):
    """Paints with `diffusers.KandinskyV22Pipeline`, or with its img2img where there is a layout.

    Its guidance leads away from the embedding of a black picture, as its prior does it.
    """

    parts = ("unet", "scheduler", "movq")
    takes_samplers = False  # its network predicts the variance as well, for its own scheduler
    usual = Sampling(steps=50, guidance=4.0, sampler=None)

    @classmethod
    def load(cls, files: PipelineFiles) -> Self:
        """See `PipelineDecoder`."""
        plain = load_parts(diffusers.KandinskyV22Pipeline, files)
        begun = diffusers.KandinskyV22Img2ImgPipeline(**plain.components)
        begun.set_progress_bar_config(disable=True)
        decoder = cls(files, plain, begun, image_size=plain.unet.config.sample_size * plain.movq_scale_factor)
        decoder._nothing = _of_black(files)
        return decoder

    _nothing: torch.Tensor

    def call(self, request: Request) -> list[Image.Image]:
        """See `PipelineDecoder`."""
        nothing = self._nothing.to(request.embeds)
        # A stream without a vector says nothing of what is on the picture.
        told = request.embeds.any(dim=1, keepdim=True)
        arguments: dict[str, Any] = {
            "image_embeds": torch.where(told, request.embeds, nothing),
            "negative_image_embeds": nothing.expand_as(request.embeds),
            "height": self.image_size,
            "width": self.image_size,
            "num_inference_steps": request.steps,
            "guidance_scale": request.guidance,
            "generator": request.generators,
        }
        plain, begun = self.pipelines
        if request.beginnings is not None:
            beginning = {"image": request.beginnings, "strength": request.strength}
            painted: list[Image.Image] = self.run(begun, **arguments, **beginning).images
        else:
            painted = self.run(plain, **arguments).images
        return painted


def _of_black(files: PipelineFiles) -> torch.Tensor:
    """The embedding (1, D) that its prior calls that of nothing: zeros after the preprocessing."""
    tower = VisionTower.from_source(files.tower, "cpu")  # once, and not beside the pipeline on its device
    side = tower.space.preprocessing["crop"]
    with torch.inference_mode():
        return tower.image_embeds(torch.zeros(1, 3, *side))
