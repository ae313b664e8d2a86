"""Tiny trainings, shared by the tests and by the processes that they start."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from clip_feature_codec.codec.space import ClipSpace
from clip_feature_codec.decoders.checkpoint import load_decoder
from clip_feature_codec.train.config import TrainConfig
from clip_feature_codec.train.dataset import ArrayDataset, Example

SIZE, DIM = 16, 12
SPACE = ClipSpace("test-model", "test-weights", "ab" * 32, DIM, {"size": [SIZE, SIZE]})


def tiny_config(**options: Any) -> TrainConfig:
    """Trains in milliseconds a step."""
    tiny: dict[str, Any] = {
        "out_size": SIZE,
        "batch_size": 2,
        "timesteps": 50,
        "clip_w": 0.0,
        "lr": 1e-3,
        "warmup_steps": 2,
        "base": 8,
        "ch_mult": (1, 2),
        "num_res_blocks": 1,
        "val_fraction": 0.0,
        "sample_every": 0,
        "checkpoint_every": 1000,
        "log_every": 1,
        "workers": 0,
        "max_steps": 4,
        "layout": 0,
    }
    return TrainConfig.from_dict({**tiny, **options})


def tiny_pairs(count: int = 12, seed: int = 0, layout: int = 0) -> ArrayDataset:
    """Pictures of one colour each, which is also what their vectors begin with and their layouts show.

    With layouts, there are two versions of each condition, the second of which is coarser.
    """
    random = np.random.default_rng(seed)
    colours = random.integers(0, 256, (count, 3, 1, 1), dtype=np.uint8)
    images = np.broadcast_to(colours, (count, 3, SIZE, SIZE)).copy()
    vectors = random.normal(size=(count, DIM)).astype(np.float32)
    vectors[:, :3] = colours[:, :, 0, 0] / 32.0 - 4.0
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    if not layout:
        return ArrayDataset(images, vectors)
    shown = np.broadcast_to(colours[:, None], (count, 1, 3, layout, layout))
    coarser = np.round(vectors * 4) / 4 + np.float32(0.01)
    versions = np.stack([vectors, coarser / np.linalg.norm(coarser, axis=1, keepdims=True)], axis=1)
    return ArrayDataset(images, versions, np.concatenate([shown, shown // 64 * 64], axis=1))


class SlowPairs(ArrayDataset):
    """Takes its time, so that there is a moment in which to kill a training."""

    def __getitem__(self, index: int) -> Example:
        time.sleep(0.02)
        return super().__getitem__(index)


def trained_weights(path: Path) -> dict[str, torch.Tensor]:
    """The weights of a decoder's file, by name."""
    return dict(load_decoder(path).unet.state_dict())
