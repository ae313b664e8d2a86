"""Files of a tiny CLIP model: its architecture and weights, and pictures to embed with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from clip_feature_codec.embed import ClipEmbedder
from samples import TINY_CLIP, make_picture

Weights = dict[str, torch.Tensor]

PICTURES = [make_picture(1), make_picture(2, (32, 32)), make_picture(3, (100, 20)), make_picture(4, (1, 1))]


def write_config(path: Path, config: Any) -> str:
    path.write_text(json.dumps(config))
    return str(path)


def quick_config(folder: Path) -> str:
    """The same architecture with another activation, which no weight shows."""
    return write_config(folder / "tiny-quick-for-tests.json", {**TINY_CLIP, "quick_gelu": True})


def save_pt(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


def load(config: str, file: Path) -> ClipEmbedder:
    return ClipEmbedder.load(config, str(file), device="cpu")
