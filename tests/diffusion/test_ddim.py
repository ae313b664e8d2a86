from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler
from sampler_helpers import (
    SCHEDULES,
    SIZE,
    AnalyticModel,
    Array,
    alpha_bars,
    analytic,
    ddim_sample,
    drawn,
    keys,
    unit_vectors,
)

from clip_feature_codec.diffusion.noise import NoiseGenerator, noise_generators
from clip_feature_codec.diffusion.schedule import NoiseScheduler

SPACINGS = ["linspace", "leading", "trailing"]


def grid_by_numpy(timesteps: int, steps: int, spacing: str) -> list[int]:
    if spacing == "linspace":
        grid = np.linspace(timesteps - 1, 0, steps).round()
    elif spacing == "leading":
        grid = np.arange(steps)[::-1] * (timesteps // steps)
    else:
        grid = np.round(np.linspace(timesteps, timesteps / steps, steps)) - 1
    return [int(t) for t in grid]


def ddim_by_numpy(
    z: Array,
    bars: Array,
    grid: list[int],
    prediction: str,
    eta: float,
    clip: bool,
    generators: list[NoiseGenerator],
    guidance: float = 1.0,
) -> Array:
    """Song et al. 2021, eqs. 12 and 16, as they stand, in float64."""

    def noise() -> Array:
        return np.asarray(drawn(generators), np.float64)

    x = noise()
    for i, t in enumerate(grid):
        output = analytic(x, z, t, bars, prediction)
        if guidance != 1.0:
            free = analytic(x, np.zeros_like(z), t, bars, prediction)
            output = free + guidance * (output - free)
        bar = bars[t]
        bar_prev = bars[grid[i + 1]] if i + 1 < len(grid) else 1.0
        if prediction == "epsilon":
            x0 = (x - np.sqrt(1 - bar) * output) / np.sqrt(bar)
        else:
            x0 = np.sqrt(bar) * x - np.sqrt(1 - bar) * output
        if clip:
            x0 = np.clip(x0, -1, 1)
        eps = (x - np.sqrt(bar) * x0) / np.sqrt(1 - bar)
        sigma = eta * np.sqrt((1 - bar_prev) / (1 - bar)) * np.sqrt(1 - bar / bar_prev)
        x = np.sqrt(bar_prev) * x0 + np.sqrt(max(1 - bar_prev - sigma**2, 0)) * eps
        if sigma > 0:
            x = x + sigma * noise()
    return x


@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize(("schedule", "prediction", "zero_terminal"), SCHEDULES)
def test_ddim_is_the_paper_formula(
    schedule: Any, prediction: Any, zero_terminal: bool, spacing: Any, eta: float, clip: bool
) -> None:
    timesteps, z = 40, unit_vectors(2, 4)
    scheduler = NoiseScheduler(timesteps, schedule, prediction, zero_terminal)
    bars = alpha_bars(timesteps, schedule, zero_terminal)
    for steps in (1, 2, 7, timesteps - 1, timesteps):
        grid = grid_by_numpy(timesteps, steps, spacing)
        found = ddim_sample(
            AnalyticModel(bars, prediction),
            scheduler,
            z,
            size=SIZE,
            steps=steps,
            eta=eta,
            generators=noise_generators(3, keys(2)),
            spacing=spacing,
            clip_x0=clip,
        )
        args = (z.double().numpy(), bars, grid, prediction, eta, clip, noise_generators(3, keys(2)))
        # Epsilon's rounding to float32 is divided by sqrt(alpha_bar) on its way to the picture.
        tolerance = 1e-5 + (6e-7 / np.sqrt(bars[grid[0]]) if prediction == "epsilon" else 0)
        assert found.dtype == torch.float32
        np.testing.assert_allclose(found.numpy(), ddim_by_numpy(*args), rtol=0, atol=tolerance)


# diffusers' DDIM steps from t to t - T // steps whatever its grid. "leading" has exactly that stride;
# "trailing" has it when steps divides T; "linspace" only when every timestep is visited. Elsewhere it
# steps to an alpha_bar that is not its grid's (and is no oracle), so those cases are left to the formula.
@pytest.mark.parametrize("prediction", ["epsilon", "v"])
@pytest.mark.parametrize("eta", [0.0, 0.7])
@pytest.mark.parametrize(
    ("spacing", "steps"),
    [("leading", 5), ("leading", 7), ("leading", 100), ("trailing", 10), ("trailing", 25), ("linspace", 100)],
)
def test_ddim_agrees_with_diffusers(spacing: Any, steps: int, eta: float, prediction: Any) -> None:
    timesteps, z = 100, unit_vectors(2, 4)
    theirs = DDIMScheduler(
        timesteps,
        beta_schedule="squaredcos_cap_v2",
        prediction_type=f"{prediction}_prediction" if prediction == "v" else prediction,
        timestep_spacing=spacing,
        clip_sample=True,
    )
    theirs.set_timesteps(steps)
    model = AnalyticModel(alpha_bars(timesteps, "cosine", False), prediction)
    generators = noise_generators(0, keys(2))

    x = drawn(generators)
    for i, t in enumerate(theirs.timesteps):
        output = model(x, z, t.repeat(2))
        noise = drawn(generators) if eta > 0 and i + 1 < steps else torch.zeros_like(x)
        x = theirs.step(
            output, int(t), x, eta=eta, use_clipped_model_output=True, variance_noise=noise
        ).prev_sample
    found = ddim_sample(
        model,
        NoiseScheduler(timesteps, "cosine", prediction),
        z,
        size=SIZE,
        steps=steps,
        eta=eta,
        generators=noise_generators(0, keys(2)),
        spacing=spacing,
    )
    torch.testing.assert_close(found, x, rtol=0, atol=1e-3)


@pytest.mark.parametrize("guidance", [0.0, 3.0])
def test_guidance_extrapolates_in_one_doubled_batch(guidance: float) -> None:
    bars, z = alpha_bars(40, "cosine", True), unit_vectors(2, 4)
    model = AnalyticModel(bars, "v")
    found = ddim_sample(
        model,
        NoiseScheduler(40, "cosine", "v", True),
        z,
        size=SIZE,
        steps=8,
        guidance=guidance,
        generators=noise_generators(0, keys(2)),
        spacing="linspace",
    )
    grid = grid_by_numpy(40, 8, "linspace")
    generators = noise_generators(0, keys(2))
    expected = ddim_by_numpy(z.double().numpy(), bars, grid, "v", 0.0, True, generators, guidance)
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-5)
    assert model.rows == [4] * 8


def test_one_step_from_zero_terminal_snr_gives_minus_v() -> None:
    model = AnalyticModel(alpha_bars(40, "cosine", True), "v")
    z = unit_vectors(2, 4)
    generators = noise_generators(0, keys(2))
    x = drawn(generators)
    v = model(x, z, torch.full((2,), 39))
    scheduler = NoiseScheduler(40, "cosine", "v", zero_terminal_snr=True)
    found = ddim_sample(model, scheduler, z, size=SIZE, steps=1, generators=noise_generators(0, keys(2)))
    torch.testing.assert_close(found, (-v).clamp(-1, 1))
