"""`VisionTower`: pictures to vectors, by an image tower of transformers' format."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from clip_feature_codec.bundle import IN_FOLDER
from clip_feature_codec.codec.space import ClipSpace, canonical_json
from clip_feature_codec.devices import pick_device
from clip_feature_codec.embed.configuration import read_json
from clip_feature_codec.embed.torch_tower import TorchTower
from clip_feature_codec.embed.transformers.preprocessing import TowerPreprocess, preprocessing_of
from clip_feature_codec.embed.transformers.quiet import quiet_transformers
from clip_feature_codec.embed.transformers.source import TowerSource
from clip_feature_codec.errors import ModelError

_DECISIVE = (
    "hidden_act",
    "num_attention_heads",
    "layer_norm_eps",
    "patch_size",
    "image_size",
    "projection_dim",
)
"""Of a tower's configuration, what decides its vectors and may not show in the shapes of its weights."""

_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")


class VisionTower(TorchTower):
    """An image tower with weights, ready to embed: an `Embedder` without words.

    Its vectors are those that diffusers' pipelines call ``image_embeds``, brought to unit length.

    Attributes:
        space: the CLIP space its vectors lie in.
        preprocess: its own preprocessing of one RGB picture: PIL image -> float32 (3, S, S).
    """

    def __init__(self, network: torch.nn.Module, space: ClipSpace, device: torch.device) -> None:
        self.space = space
        self.preprocess = TowerPreprocess(space.preprocessing)
        self._device = device
        self._network: Any = network.to(device)

    @classmethod
    def from_source(cls, source: TowerSource, device: str = "auto") -> VisionTower:
        """Load a tower that was found.

        Raises:
            ModelError: its weights are no safetensors, or cannot be loaded.
        """
        target, space = pick_device(device), space_of(source)
        try:
            with quiet_transformers():
                network = _network_class(_config_of(source.folder).model_type).from_pretrained(
                    source.folder, use_safetensors=True, local_files_only=True
                )
        except Exception as error:  # transformers raises what the damage leads to
            raise _unusable(source.folder, error) from error
        return cls(network.float().eval().requires_grad_(False), space, target)

    def image_embeds(self, pixels: torch.Tensor) -> torch.Tensor:
        """See `TorchTower`."""
        with self._autocast():
            given = self._network(pixel_values=pixels)
        embeds: torch.Tensor = given.image_embeds if hasattr(given, "image_embeds") else given.pooler_output
        return embeds.float()

    def embed_text(self, texts: str | Sequence[str]) -> NDArray[np.float32]:
        """There are no words here.

        Raises:
            ModelError: always.
        """
        raise ModelError(
            f"CLIP model {self.space.model!r} has no words, only an image tower: name the same model in "
            "open_clip's format, or search with a picture"
        )


def space_of(source: TowerSource) -> ClipSpace:
    """The space of a tower: from its files, without building it.

    The weights' hash is over the tensors' values as float32, by names that do not change with transformers'
    version, and over what of the configuration decides vectors beside them.

    Raises:
        ModelError: the weights are no safetensors, or cannot be read.
    """
    config = _config_of(source.folder)
    # SigLIP has no projection: its vectors are as long as it is wide.
    dim = getattr(config, "projection_dim", None) or config.hidden_size
    facts = {name: getattr(config, name, None) for name in _DECISIVE}
    digest = hashlib.sha256(canonical_json(facts))
    try:
        for name, value in sorted(_tensors(source.folder), key=lambda item: item[0]):
            digest.update(f"\n{name} {tuple(value.shape)}\n".encode())
            digest.update(value.to(torch.float32).contiguous().numpy().tobytes())
    except ModelError:
        raise
    except Exception as error:  # safetensors raises what the damage leads to
        raise _unusable(source.folder, error) from error
    preprocessing = preprocessing_of(source.preprocessor, config.model_type, config.image_size)
    return ClipSpace(source.label, IN_FOLDER, digest.hexdigest(), int(dim), preprocessing)


def _tensors(folder: Path) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors of the image tower, one at a time, by what they are called in every version."""
    from safetensors import safe_open

    whole, index = (folder / name for name in _WEIGHTS)
    if whole.is_file():
        files = [whole]
    elif index.is_file():
        files = sorted({folder / name for name in read_json(index)["weight_map"].values()})
    else:
        raise ModelError(f"{folder}: found no {_WEIGHTS[0]}; weights of another format are refused")
    for file in files:
        with safe_open(file, "pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 (it is no mapping)
                short = name.removeprefix("vision_model.")
                if (
                    not name.startswith(("text_model.", "text_projection", "logit_"))
                    and "position_ids" not in name
                ):
                    yield short, tensors.get_tensor(name)


def _config_of(folder: Path) -> Any:
    """The configuration of the image tower, with transformers' defaults for what its file leaves out."""
    from transformers import CLIPVisionConfig, SiglipVisionConfig

    content = read_json(folder / "config.json")
    kind = SiglipVisionConfig if str(content.get("model_type")).startswith("siglip") else CLIPVisionConfig
    vision = content.get("vision_config", content)
    inherited = {
        name: content[name] for name in ("projection_dim",) if name in content and kind is CLIPVisionConfig
    }
    try:
        return kind(**{**vision, **inherited})
    except Exception as error:  # of whatever kind, by the version
        raise _unusable(folder, error) from error


def _network_class(model_type: str) -> Any:
    from transformers import CLIPVisionModelWithProjection, SiglipVisionModel

    return SiglipVisionModel if model_type.startswith("siglip") else CLIPVisionModelWithProjection


def _unusable(folder: Path, error: Exception) -> ModelError:
    why = " ".join(str(error).split())[:200] or type(error).__name__
    return ModelError(f"image tower {folder} cannot be loaded: {why}")
