"""Stand-ins for networks, their schedules by numpy, and samplers with their plans, for tests of sampling."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from clip_feature_codec.diffusion.config import UNetConfig
from clip_feature_codec.diffusion.denoiser import TorchDenoiser
from clip_feature_codec.diffusion.noise import NoiseGenerator, noise_generators
from clip_feature_codec.diffusion.plans import Spacing, ddim_plan, sampling_plan, timestep_grid
from clip_feature_codec.diffusion.samplers import sample
from clip_feature_codec.diffusion.schedule import NoiseScheduler
from clip_feature_codec.diffusion.unet import CLIPCondUNet

Array = NDArray[np.float64]
SIZE = 8
SCHEDULES = [
    ("cosine", "epsilon", False),
    ("cosine", "v", True),
    ("linear", "epsilon", False),
    ("linear", "v", False),
]


def ddim_sample(
    model: nn.Module,
    scheduler: NoiseScheduler,
    z: Tensor,
    *,
    steps: int,
    eta: float = 0.0,
    spacing: Spacing = "trailing",
    **options: Any,
) -> Tensor:
    """DDIM on any of the grids."""
    plan = ddim_plan(scheduler, timestep_grid(scheduler.timesteps, steps, spacing), eta)
    return sample(TorchDenoiser(model), plan, z, **options)


def dpm_sample(
    model: nn.Module, scheduler: NoiseScheduler, z: Tensor, *, steps: int, **options: Any
) -> Tensor:
    """DPM-Solver++."""
    return sample(TorchDenoiser(model), sampling_plan("dpm-solver++", scheduler, steps), z, **options)


def alpha_bars(timesteps: int, schedule: str, zero_terminal: bool) -> Array:
    """The schedules again, from the papers, in numpy."""
    if schedule == "linear":
        scale = 1000 / timesteps
        betas = np.minimum(np.linspace(1e-4 * scale, 0.02 * scale, timesteps), 0.999)
    else:
        f = np.cos((np.arange(timesteps + 1) / timesteps + 0.008) / 1.008 * np.pi / 2) ** 2
        betas = np.minimum(1 - f[1:] / f[:-1], 0.999)
    bars: Array = np.cumprod(1 - betas)
    if zero_terminal:
        root = np.sqrt(bars)
        bars = ((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2
    return bars


def analytic(x: Array, z: Array, t: int, bars: Array, prediction: str) -> Array:
    """A smooth stand-in for a network: it believes in a picture that z, x and t determine."""
    a, s = np.sqrt(bars[t]), np.sqrt(1 - bars[t])
    x0 = 1.3 * np.tanh(z[:, :1, None, None] * 2 + 0.3 * np.sin(x) + 0.01 * t)
    eps = (x - a * x0) / s
    return np.asarray(eps if prediction == "epsilon" else a * eps - s * x0)


class AnalyticModel(nn.Module):
    """`analytic` behind a network's interface, keeping the number of rows of each call."""

    def __init__(self, bars: Array, prediction: str, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.bars, self.prediction, self.dtype = bars, prediction, dtype
        self.rows: list[int] = []

    def forward(self, x: Tensor, z: Tensor, t: Tensor) -> Tensor:
        assert t.dtype == torch.int64
        assert t.shape == (len(x),)
        assert bool((t == t[0]).all())
        assert x.dtype == torch.float32
        self.rows.append(len(x))
        output = analytic(x.double().numpy(), z.double().numpy(), int(t[0]), self.bars, self.prediction)
        return torch.from_numpy(output).to(self.dtype)


def unit_vectors(rows: int, dim: int, seed: int = 0) -> Tensor:
    z = torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed))
    return nn.functional.normalize(z)


def keys(rows: int) -> list[bytes]:
    return [bytes([row, 7]) for row in range(rows)]


def drawn(generators: list[NoiseGenerator]) -> Tensor:
    """The next noise of each, (N, 3, SIZE, SIZE)."""
    return torch.from_numpy(np.stack([generator.normal(3, SIZE, SIZE) for generator in generators]))


def first_noise(rows: int = 2) -> Tensor:
    return drawn(noise_generators(3, keys(rows)))


def random_unet(layout: int = 0) -> CLIPCondUNet:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        unet = CLIPCondUNet(
            UNetConfig(
                8, base=8, ch_mult=(1, 2), num_res_blocks=1, attention_levels=(1,), patch=2, layout=layout
            )
        )
        for parameter in unet.parameters():
            nn.init.normal_(parameter, std=0.2)
    return unet
