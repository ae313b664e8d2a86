"""Stable unCLIP: Stable Diffusion 2.1 that takes CLIP image embeddings (ViT-L/14 or OpenCLIP ViT-H/14)."""

from __future__ import annotations

from typing import Self

import diffusers
from PIL import Image

from clip_feature_codec.decoders.diffusers.pipeline import (
    PipelineDecoder,
    PipelineFiles,
    Request,
    load_parts,
)
from clip_feature_codec.decoders.options import Sampling


class StableUnClip(PipelineDecoder):
    """Paints with `diffusers.StableUnCLIPImg2ImgPipeline`, whose sampling cannot begin with a picture."""

    parts = (
        "unet",
        "vae",
        "scheduler",
        "text_encoder",
        "tokenizer",
        "image_normalizer",
        "image_noising_scheduler",
    )
    takes_layouts = False
    usual = Sampling(steps=20, guidance=10.0, sampler=None)

    @classmethod
    def load(cls, files: PipelineFiles) -> Self:
        """See `PipelineDecoder`."""
        pipeline = load_parts(
            diffusers.StableUnCLIPImg2ImgPipeline, files, image_encoder=None, feature_extractor=None
        )
        # It reads its precision off the image encoder, and wants nothing else of it.
        pipeline.image_encoder = pipeline.image_normalizer
        return cls(files, pipeline, image_size=pipeline.unet.config.sample_size * pipeline.vae_scale_factor)

    def call(self, request: Request) -> list[Image.Image]:
        """See `PipelineDecoder`."""
        painted: list[Image.Image] = self.run(
            self.pipelines[0],
            image_embeds=request.embeds,
            prompt=[""] * len(request),
            height=self.image_size,
            width=self.image_size,
            num_inference_steps=request.steps,
            guidance_scale=request.guidance,
            eta=request.eta,
            generator=request.generators,
        ).images
        return painted
