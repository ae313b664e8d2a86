"""The tests' tiny CLIP in transformers' format: the same weights under other names."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from samples import TINY_CLIP, TINY_PREPROCESSING

_LAYERS = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}


def convert(tiny_clip: Path, folder: Path) -> Path:
    """Write the image tower of a model in open_clip's format as a `CLIPVisionModelWithProjection`."""
    given = load_file(tiny_clip / "open_clip_model.safetensors")
    given = {
        name.removeprefix("visual."): value for name, value in given.items() if name.startswith("visual.")
    }
    made = {
        "vision_model.embeddings.class_embedding": given["class_embedding"],
        "vision_model.embeddings.patch_embedding.weight": given["conv1.weight"],
        "vision_model.embeddings.position_embedding.weight": given["positional_embedding"],
        "visual_projection.weight": given["proj"].T,
    }
    for kind in ("weight", "bias"):
        made[f"vision_model.pre_layrnorm.{kind}"] = given[f"ln_pre.{kind}"]
        made[f"vision_model.post_layernorm.{kind}"] = given[f"ln_post.{kind}"]
        for layer in range(TINY_CLIP["vision_cfg"]["layers"]):
            theirs, ours = f"vision_model.encoder.layers.{layer}", f"transformer.resblocks.{layer}"
            for old, new in _LAYERS.items():
                made[f"{theirs}.{new}.{kind}"] = given[f"{ours}.{old}.{kind}"]
            parts = given[f"{ours}.attn.in_proj_{kind}"].chunk(3)
            for name, part in zip("qkv", parts, strict=True):
                made[f"{theirs}.self_attn.{name}_proj.{kind}"] = part
    folder.mkdir(parents=True)
    save_file(
        {name: value.contiguous().clone() for name, value in made.items()}, folder / "model.safetensors"
    )
    (folder / "config.json").write_text(json.dumps(_config()))
    (folder / "preprocessor_config.json").write_text(json.dumps(_preprocessing()))
    return folder


def _config() -> dict[str, object]:
    vision = TINY_CLIP["vision_cfg"]
    return {
        "model_type": "clip_vision_model",
        "architectures": ["CLIPVisionModelWithProjection"],
        "hidden_act": "gelu",
        "hidden_size": vision["width"],
        "intermediate_size": 4 * vision["width"],
        "num_attention_heads": vision["width"] // vision["head_width"],
        "num_hidden_layers": vision["layers"],
        "image_size": vision["image_size"],
        "patch_size": vision["patch_size"],
        "projection_dim": TINY_CLIP["embed_dim"],
    }


def _preprocessing() -> dict[str, object]:
    side = TINY_CLIP["vision_cfg"]["image_size"]
    return {
        "do_center_crop": False,
        "size": {"height": side, "width": side},
        "image_mean": TINY_PREPROCESSING["mean"],
        "image_std": TINY_PREPROCESSING["std"],
    }


def damage(folder: Path) -> None:
    """Change one weight."""
    file = folder / "model.safetensors"
    tensors = load_file(file)
    tensors["visual_projection.weight"] = tensors["visual_projection.weight"] + torch.eye(32)[:, :32] * 0.05
    save_file(tensors, file)
