from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DPMSolverMultistepScheduler
from sampler_helpers import (
    SCHEDULES,
    SIZE,
    AnalyticModel,
    Array,
    alpha_bars,
    analytic,
    dpm_sample,
    first_noise,
    keys,
    unit_vectors,
)
from torch import Tensor, nn

from clip_feature_codec.diffusion.noise import noise_generators
from clip_feature_codec.diffusion.plans import lambda_grid
from clip_feature_codec.diffusion.schedule import NoiseScheduler


def dpm_by_numpy(z: Array, bars: Array, grid: list[int], prediction: str, x: Array, guidance: float) -> Array:
    """Lu et al. 2022, algorithm 2, as it stands, in float64; first order at either end of the grid."""
    with np.errstate(divide="ignore"):
        lambdas = [0.5 * np.log(bars[t] / (1 - bars[t])) for t in grid]
    before: Array | None = None
    for i, t in enumerate(grid):
        alpha, sigma = np.sqrt(bars[t]), np.sqrt(1 - bars[t])
        output = analytic(x, z, t, bars, prediction)
        free = analytic(x, np.zeros_like(z), t, bars, prediction)
        output = free + guidance * (output - free)
        x0 = (x - sigma * output) / alpha if prediction == "epsilon" else alpha * x - sigma * output
        x0 = np.clip(x0, -1, 1)
        if i + 1 == len(grid):
            return x0
        h = lambdas[i + 1] - lambdas[i]
        line = x0
        if before is not None:
            r = (lambdas[i] - lambdas[i - 1]) / h
            line = (1 + 1 / (2 * r)) * x0 - 1 / (2 * r) * before
        bar = bars[grid[i + 1]]
        x = np.sqrt(1 - bar) / sigma * x - np.sqrt(bar) * np.expm1(-h) * line
        before = x0
    raise AssertionError("an empty grid")


@pytest.mark.parametrize("guidance", [1.0, 2.0])
@pytest.mark.parametrize("steps", [1, 2, 3, 8, 20])
@pytest.mark.parametrize(("schedule", "prediction", "zero_terminal"), SCHEDULES)
def test_dpm_solver_is_the_paper_formula(
    schedule: Any, prediction: Any, zero_terminal: bool, steps: int, guidance: float
) -> None:
    timesteps, z = 400, unit_vectors(2, 4)
    scheduler = NoiseScheduler(timesteps, schedule, prediction, zero_terminal)
    bars = alpha_bars(timesteps, schedule, zero_terminal)
    grid = lambda_grid(scheduler, steps)
    model = AnalyticModel(bars, prediction)
    generators = noise_generators(3, keys(2))
    found = dpm_sample(model, scheduler, z, size=SIZE, steps=steps, guidance=guidance, generators=generators)
    expected = dpm_by_numpy(
        z.double().numpy(), bars, grid, prediction, first_noise().double().numpy(), guidance
    )
    tolerance = 2e-5 + (1e-6 / np.sqrt(bars[grid[0]]) if prediction == "epsilon" else 0)
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=tolerance)
    assert model.rows == [2 if guidance == 1.0 else 4] * len(grid)


@pytest.mark.parametrize("steps", [2, 5, 8, 20])
def test_dpm_solver_agrees_with_diffusers(steps: int) -> None:
    scheduler = NoiseScheduler(1000, "cosine", "v")
    theirs = DPMSolverMultistepScheduler(
        1000,
        beta_schedule="squaredcos_cap_v2",
        prediction_type="v_prediction",
        final_sigmas_type="zero",
        thresholding=True,  # with a largest value of 1 it clips
        sample_max_value=1.0,
    )
    theirs.set_timesteps(timesteps=lambda_grid(scheduler, steps))
    model, z = AnalyticModel(alpha_bars(1000, "cosine", False), "v"), unit_vectors(2, 4)
    x = first_noise()
    for t in theirs.timesteps:
        x = theirs.step(model(x, z, t.repeat(2)), t, x).prev_sample
    generators = noise_generators(3, keys(2))
    found = dpm_sample(model, scheduler, z, size=SIZE, steps=steps, generators=generators)
    torch.testing.assert_close(found, x, rtol=0, atol=1e-4)


def test_the_error_of_dpm_solver_shrinks_with_the_square_of_the_steps() -> None:
    """For a Gaussian picture, whose mean given x_t is known, the whole path is: x_t / sqrt(ᾱ v + 1 - ᾱ)."""
    variance = 0.04
    bars = torch.from_numpy(alpha_bars(4000, "cosine", False))

    class Gaussian(nn.Module):
        def forward(self, x: Tensor, z: Tensor, t: Tensor) -> Tensor:
            a, s = bars[t[0]].sqrt(), (1 - bars[t[0]]).sqrt()
            x0 = a * variance / (a**2 * variance + s**2) * x.double()
            return (a * (x - a * x0) / s - s * x0).float()

    scheduler = NoiseScheduler(4000, "cosine", "v")

    def error(steps: int) -> float:
        grid = lambda_grid(scheduler, steps)
        found = dpm_sample(
            Gaussian(),
            scheduler,
            unit_vectors(2, 4),
            size=SIZE,
            steps=steps,
            generators=noise_generators(3, keys(2)),
        )
        a, s = bars[grid[-1]].sqrt(), (1 - bars[grid[-1]]).sqrt()
        scale = (a**2 * variance + s**2).sqrt()
        exact = a * variance / scale * first_noise()
        return float((found - exact).abs().mean())

    assert error(40) < error(20) / 3
    assert error(80) < error(40) / 3
