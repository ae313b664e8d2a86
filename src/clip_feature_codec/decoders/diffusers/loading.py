"""From a pipeline's folder to a decoder: the one place that knows which pipelines there are."""

from __future__ import annotations

from pathlib import Path

import torch

from clip_feature_codec.decoders.diffusers.cascade import Cascade
from clip_feature_codec.decoders.diffusers.files import check_parts, has_half, read_index, weights_size
from clip_feature_codec.decoders.diffusers.ip_adapter import IpAdapter, IpAdapterXL
from clip_feature_codec.decoders.diffusers.kandinsky import Kandinsky
from clip_feature_codec.decoders.diffusers.memory import plan_memory
from clip_feature_codec.decoders.diffusers.pipeline import PipelineDecoder, PipelineFiles
from clip_feature_codec.decoders.diffusers.unclip import StableUnClip
from clip_feature_codec.embed.transformers.source import TowerSource
from clip_feature_codec.embed.transformers.tower import space_of
from clip_feature_codec.errors import CheckpointError

KINDS: dict[str, type[PipelineDecoder]] = {
    "StableUnCLIPImg2ImgPipeline": StableUnClip,
    "KandinskyV22Pipeline": Kandinsky,
    "KandinskyV22Img2ImgPipeline": Kandinsky,
    "KandinskyV22CombinedPipeline": Kandinsky,
    "KandinskyV22Img2ImgCombinedPipeline": Kandinsky,
    "StableDiffusionPipeline": IpAdapter,
    "StableDiffusionImg2ImgPipeline": IpAdapter,
    "LatentConsistencyModelPipeline": IpAdapter,
    "LatentConsistencyModelImg2ImgPipeline": IpAdapter,
    "StableDiffusionXLPipeline": IpAdapterXL,
    "StableDiffusionXLImg2ImgPipeline": IpAdapterXL,
    "StableCascadeCombinedPipeline": Cascade,
}
"""What paints with which pipeline, by the ``_class_name`` in its ``model_index.json``."""


def kind_of(folder: Path) -> type[PipelineDecoder]:
    """What paints with the pipeline in a folder.

    Raises:
        CheckpointError: nothing here does.
    """
    name = read_index(folder).get("_class_name")
    if isinstance(name, list) and name:  # of a repository with a pipeline's code of its own, which is not run
        name = name[-1]
    kind = KINDS.get(name) if isinstance(name, str) else None
    if kind is None:
        raise CheckpointError(
            f"{folder}: {name} paints from no CLIP image embedding, or is not known here; known: "
            f"{', '.join(KINDS)}"
        )
    return kind


def load_pipeline(
    folder: Path, adapter: Path | None, tower: TowerSource, device: torch.device
) -> PipelineDecoder:
    """Load the pipeline in a folder; nothing in it is run, and nothing is asked of the network.

    Args:
        folder: what ``save_pretrained`` wrote, or the hub's client downloaded.
        adapter: the file of an IP-Adapter, for a pipeline that takes embeddings by one.
        tower: the image tower whose embeddings it takes.
        device: where it is to run.

    Raises:
        CheckpointError: it is none that is known, is damaged, or has weights that are no safetensors.
        ModelError: its image tower cannot be read.
    """
    kind = kind_of(folder)
    if adapter and not issubclass(kind, IpAdapter):
        raise CheckpointError(f"{folder}: {kind.__name__} takes no IP-Adapter: leave out +{adapter}")
    half = device.type != "cpu" and has_half(folder, kind.parts)
    check_parts(folder, read_index(folder), kind.parts, half=half)
    memory = plan_memory(device, weights_size(folder, kind.parts), kind.half)
    variant = "fp16" if half else None
    return kind.load(PipelineFiles(folder, adapter, tower, space_of(tower), device, memory, variant))
