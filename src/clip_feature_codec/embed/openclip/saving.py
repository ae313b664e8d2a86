"""A model of open_clip's form as a folder that can be given away."""

from __future__ import annotations

import json
from pathlib import Path

from open_clip.constants import HF_CONFIG_NAME, HF_SAFE_WEIGHTS_NAME
from safetensors.torch import save

from clip_feature_codec.embed.openclip.network import build
from clip_feature_codec.embed.openclip.source import find_model
from clip_feature_codec.files import copy_atomic, write_atomic
from clip_feature_codec.packs import may_be_shared


def save_model(model: str, pretrained: str | None, folder: Path) -> None:
    """Write a model's configuration, its weights as safetensors, and what else lies in its folder.

    Files that can be given away as they are stay the same to the byte; weights that are a pickle are read and
    written again.

    Args:
        model: as for `embed.factory.load_embedder`.
        pretrained: as for `embed.factory.load_embedder`.
        folder: made if it is missing.

    Raises:
        ModelError: the model cannot be found or read.
    """
    source = find_model(model, pretrained)
    weights = Path(source.weights)
    if source.in_folder:
        for path in filter(may_be_shared, weights.parent.iterdir()):
            copy_atomic(path, folder / path.name)
    else:
        described = {"model_cfg": source.config, "preprocess_cfg": source.preprocessing}
        write_atomic(folder / HF_CONFIG_NAME, json.dumps(described, indent=1).encode() + b"\n")
    if weights.suffix != ".safetensors":
        tensors = {name: value.contiguous() for name, value in build(source).state_dict().items()}
        write_atomic(folder / HF_SAFE_WEIGHTS_NAME, save(tensors, {"format": "pt"}))
    elif not source.in_folder:
        copy_atomic(weights, folder / HF_SAFE_WEIGHTS_NAME)
