"""Pictures to compare, for the tests of the metrics."""

from __future__ import annotations

import numpy as np
import torch


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Smooth colours with some noise: near what a photograph is for SSIM."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    phases = rng.uniform(0, 6, 3)
    waves = np.stack([np.sin(x / 9 + p) * np.cos(y / 7 - p) for p in phases], axis=2) * 90 + 128
    return np.clip(waves + rng.normal(0, 6, waves.shape), 0, 255).astype(np.uint8)


def disturbed(a: np.ndarray, strength: float, seed: int = 1) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, strength, a.shape)
    return np.clip(a + noise, 0, 255).astype(np.uint8)


def nchw(a: np.ndarray, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """uint8 (H, W, 3) as a batch of one, levels unchanged."""
    return torch.from_numpy(a).permute(2, 0, 1)[None].to(dtype)
