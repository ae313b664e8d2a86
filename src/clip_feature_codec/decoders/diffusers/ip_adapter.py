"""IP-Adapter: Stable Diffusion 1.5 or XL with attention to a CLIP image embedding, the text left empty."""

from __future__ import annotations

from typing import Any, ClassVar, Self

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
from clip_feature_codec.errors import CheckpointError


class IpAdapter(PipelineDecoder):
    """Paints with a pipeline of Stable Diffusion 1.5 and an IP-Adapter, from noise or from a layout.

    How many steps are usual follows from the scheduler that comes with the folder: few for distilled ones.
    """

    parts: ClassVar[tuple[str, ...]] = ("unet", "vae", "scheduler", "text_encoder", "tokenizer")
    slices_attention = False  # diffusers would put other attention in the place of the adapter's
    classes: ClassVar[tuple[str, str]] = ("StableDiffusionPipeline", "StableDiffusionImg2ImgPipeline")
    """The pipelines that begin with noise and with a picture."""
    left_out: ClassVar[dict[str, Any]] = {
        "safety_checker": None,
        "feature_extractor": None,
        "image_encoder": None,
        "requires_safety_checker": False,
    }
    """What is not loaded: a codec gives back what was coded, and the embedding is there already."""

    @classmethod
    def load(cls, files: PipelineFiles) -> Self:
        """See `PipelineDecoder`."""
        from_noise, from_picture = (getattr(diffusers, name) for name in cls.classes)
        begun = load_parts(from_picture, files, **cls.left_out)
        _load_adapter(begun, files)
        parts = {name: part for name, part in begun.components.items() if name not in cls.left_out}
        plain = from_noise(**parts, **cls.left_out)
        plain.set_progress_bar_config(disable=True)
        for pipeline in (plain, begun):
            pipeline.prepare_ip_adapter_image_embeds = _as_given
        return cls(files, plain, begun, image_size=plain.unet.config.sample_size * plain.vae_scale_factor)

    @property
    def usual(self) -> Sampling:
        """See `protocol.Decoder`."""
        scheduler, unet = self.own_scheduler, self.pipelines[0].unet
        if type(scheduler).__name__ in ("LCMScheduler", "TCDScheduler"):
            # A distilled network that is told the guidance, or one that has an adapter (LoRA) fused into it.
            return Sampling(4, 1.0 if unet.config.time_cond_proj_dim is None else 8.5, None)
        if scheduler.config.get("timestep_spacing") == "trailing":  # Turbo, Lightning, Hyper-SD
            return Sampling(4, 1.0, None)
        return Sampling(30, 5.0, None)

    def call(self, request: Request) -> list[Image.Image]:
        """See `PipelineDecoder`."""
        plain, begun = self.pipelines
        embeds = request.embeds[:, None]
        if request.guidance > 1 and plain.unet.config.time_cond_proj_dim is None:
            embeds = torch.cat([torch.zeros_like(embeds), embeds])
        arguments: dict[str, Any] = {
            "prompt": [""] * len(request),
            "ip_adapter_image_embeds": [embeds],
            "num_inference_steps": request.steps,
            "guidance_scale": request.guidance,
            "eta": request.eta,
            "generator": request.generators,
        }
        if request.beginnings is not None:
            beginning = {"image": request.beginnings, "strength": request.strength}
            painted: list[Image.Image] = self.run(begun, **arguments, **beginning).images
        else:
            size = {"height": self.image_size, "width": self.image_size}
            painted = self.run(plain, **arguments, **size).images
        return painted


class IpAdapterXL(IpAdapter):
    """The same with Stable Diffusion XL."""

    parts = (*IpAdapter.parts, "text_encoder_2", "tokenizer_2")
    classes = ("StableDiffusionXLPipeline", "StableDiffusionXLImg2ImgPipeline")
    left_out: ClassVar[dict[str, Any]] = {
        "feature_extractor": None,
        "image_encoder": None,
        "add_watermarker": False,
    }


def _load_adapter(pipeline: Any, files: PipelineFiles) -> None:
    """Load the adapter's weights.

    Raises:
        CheckpointError: they are no safetensors, damaged, or for another network.
    """
    adapter = files.adapter
    if adapter is None or adapter.suffix != ".safetensors":
        found = "none" if adapter is None else adapter
        raise CheckpointError(
            f"{files.folder}: this pipeline takes image embeddings by an IP-Adapter, found {found}; expected "
            "PIPELINE+ADAPTER.safetensors"
        )
    try:
        pipeline.load_ip_adapter(
            str(adapter.parent),
            subfolder="",
            weight_name=adapter.name,
            image_encoder_folder=None,
            local_files_only=True,
        )
    except Exception as error:  # diffusers raises what the damage leads to
        why = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{adapter}: no IP-Adapter of this pipeline: {why}") from error
    pipeline.set_ip_adapter_scale(1.0)


def _as_given(_: Any, embeds: list[torch.Tensor], device: torch.device, *__: Any) -> list[torch.Tensor]:
    """In the place of a method that would repeat the embeddings of N pictures N times."""
    return [each.to(device) for each in embeds]
