"""Stable Cascade: its prior takes a CLIP ViT-L/14 image embedding, and its decoder paints what that gives."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import diffusers
import torch
from diffusers.pipelines.stable_cascade import pipeline_stable_cascade as stage
from diffusers.pipelines.stable_cascade import pipeline_stable_cascade_prior as prior_stage
from PIL import Image

from clip_feature_codec.decoders.diffusers.pipeline import (
    PipelineDecoder,
    PipelineFiles,
    Request,
    quiet_diffusers,
)
from clip_feature_codec.decoders.options import Sampling
from clip_feature_codec.errors import CheckpointError

_KINDS = {
    "text_encoder": prior_stage.CLIPTextModelWithProjection,
    "tokenizer": prior_stage.CLIPTokenizer,
    "decoder": stage.StableCascadeUNet,
    "scheduler": stage.DDPMWuerstchenScheduler,
    "vqgan": stage.PaellaVQModel,
    "prior_prior": stage.StableCascadeUNet,
    "prior_text_encoder": prior_stage.CLIPTextModelWithProjection,
    "prior_tokenizer": prior_stage.CLIPTokenizer,
    "prior_scheduler": stage.DDPMWuerstchenScheduler,
}
"""The parts of its two stages, and what they are."""


class Cascade(PipelineDecoder):
    """Paints with the two stages of `diffusers.StableCascadeCombinedPipeline`.

    ``steps`` and ``guidance`` are those of the prior; the second stage takes half as many steps, without
    guidance.
    """

    parts = tuple(_KINDS)
    takes_layouts = False
    takes_samplers = False
    at_once = 1  # the prior would repeat the embeddings of N pictures N times
    slices_attention = False
    half = torch.bfloat16  # the prior overflows in float16
    side: ClassVar[int] = 1024
    """What it was trained to paint, in pixels."""
    usual = Sampling(steps=20, guidance=4.0, sampler=None)

    @classmethod
    def load(cls, files: PipelineFiles) -> Self:
        """See `PipelineDecoder`."""
        # One by one: of a whole folder, versions of diffusers do not find what others have written.
        parts = {name: _part(name, kind, files) for name, kind in _KINDS.items()}
        of_prior = {name[len("prior_") :]: part for name, part in parts.items() if name.startswith("prior_")}
        decoder = {name: part for name, part in parts.items() if not name.startswith("prior_")}
        with quiet_diffusers():
            first = diffusers.StableCascadePriorPipeline(**of_prior)
            second = diffusers.StableCascadeDecoderPipeline(**decoder)
        for pipeline in (first, second):
            pipeline.set_progress_bar_config(disable=True)
        return cls(files, first, second, image_size=cls.side)

    def call(self, request: Request) -> list[Image.Image]:
        """See `PipelineDecoder`."""
        prior, decoder = self.pipelines
        first = self.run(
            prior,
            image_embeds=request.embeds[None],
            prompt="",
            height=self.image_size,
            width=self.image_size,
            num_inference_steps=request.steps,
            guidance_scale=request.guidance,
            generator=request.generators[0],
        )
        painted: list[Image.Image] = self.run(
            decoder,
            image_embeddings=first.image_embeddings,
            prompt="",
            num_inference_steps=max(1, request.steps // 2),
            guidance_scale=0.0,
            generator=request.generators[0],
        ).images
        return painted


def _part(name: str, kind: Any, files: PipelineFiles) -> Any:
    """One part of the pipeline.

    Raises:
        CheckpointError: it cannot be loaded.
    """
    folder = files.folder / name
    options = {"use_safetensors": True} if issubclass(kind, torch.nn.Module) else {}
    try:
        with quiet_diffusers():
            part = kind.from_pretrained(str(folder), local_files_only=True, **options)
    except Exception as error:  # of whatever kind the damage leads to
        why = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{folder}: diffusers cannot load it: {why}") from error
    return part.to(files.memory.dtype).eval() if options else part
