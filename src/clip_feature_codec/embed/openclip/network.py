"""Building open_clip's networks: with weights, never without, and without touching what is global."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.tokenizer import DEFAULT_CONTEXT_LENGTH, HFTokenizer, SimpleTokenizer
from open_clip.transform import PreprocessCfg, merge_preprocess_dict

import clip_feature_codec.embed.openclip.glimpse  # noqa: F401 (timm finds it by its name)
from clip_feature_codec.codec.space import ClipSpace
from clip_feature_codec.embed.openclip.preprocessing import input_size
from clip_feature_codec.embed.openclip.source import ModelSource
from clip_feature_codec.weights import hash_weights

Tokenizer = Callable[[Sequence[str]], torch.Tensor]


def build(source: ModelSource) -> torch.nn.Module:
    """Build a model and load its weights, on the CPU, in float32."""
    model = _bare(source.config)
    if Path(source.weights).suffix not in (".safetensors", ".npz", ".npy"):
        # Where torch.load fails with a TypeError, open_clip tries again in torch's default mode, which before
        # torch 2.6 runs what it unpickles. So what fails is found here, before it.
        torch.load(source.weights, map_location="cpu", weights_only=True)
    open_clip.load_checkpoint(model, source.weights, strict=True)
    return model.eval().requires_grad_(False)


def _bare(config: dict[str, Any]) -> torch.nn.Module:
    """A model with random weights, as `open_clip.create_model` builds it.

    That would look up the weights and read them itself, or else warn that there are none.
    """
    config = deepcopy(config)
    from_hub = "hf_model_name" in config["text_cfg"]
    # The towers' own weights are not wanted: those of the whole model come after.
    if "timm_model_name" in config["vision_cfg"]:
        config["vision_cfg"]["timm_model_pretrained"] = False
    if from_hub:
        config["text_cfg"]["hf_model_pretrained"] = False
    kind = open_clip.CLIP
    if config.pop("custom_text", False) or from_hub:
        kind = open_clip.CoCa if "multimodal_cfg" in config else open_clip.CustomTextCLIP
    model: torch.nn.Module = kind(**config)
    return model


def space_of(source: ModelSource, model: Any) -> ClipSpace:
    """Fingerprint a built model: every tensor of it, and the activation, which no tensor shows."""
    digest = hash_weights(
        {name: value.detach().cpu().float().numpy() for name, value in model.state_dict().items()}
    )
    if any(type(module).__name__ == "QuickGELU" for module in model.modules()):
        digest.update(b"QuickGELU")
    size = {"size": getattr(model.visual, "image_size", None)}
    merged = merge_preprocess_dict(merge_preprocess_dict(PreprocessCfg(), source.preprocessing), size)
    preprocessing = asdict(PreprocessCfg(**merged))
    preprocessing = {k: list(v) if isinstance(v, tuple) else v for k, v in preprocessing.items()}
    with torch.inference_mode():
        dim = model.encode_image(torch.zeros(1, 3, *input_size(preprocessing))).shape[-1]
    return ClipSpace(source.model, source.pretrained, digest.hexdigest(), int(dim), preprocessing)


def load_tokenizer(source: ModelSource) -> Tokenizer:
    """The tokenizer of a model's text tower; some come from the hub."""
    if source.known_as:
        known: Tokenizer = open_clip.get_tokenizer(source.known_as)
        return known
    text = source.config["text_cfg"]
    length = text.get("context_length", DEFAULT_CONTEXT_LENGTH)
    options = {"context_length": length, **text.get("tokenizer_kwargs", {})}
    if name := text.get("hf_tokenizer_name"):
        from_hub: Tokenizer = HFTokenizer(name, tokenizer_mode=text.get("tokenizer_mode"), **options)
        return from_hub
    simple: Tokenizer = SimpleTokenizer(**options)
    return simple
