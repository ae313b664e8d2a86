from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from diffusers import DDIMScheduler
from hypothesis import given
from hypothesis import strategies as st
from sampler_helpers import SCHEDULES

from clip_feature_codec.diffusion.plans import (
    ddim_plan,
    dpm_solver_plan,
    lambda_grid,
    sampling_plan,
    timestep_grid,
)
from clip_feature_codec.diffusion.schedule import NoiseScheduler
from clip_feature_codec.errors import ConfigError

SPACINGS = ["linspace", "leading", "trailing"]


@given(data=st.data(), timesteps=st.integers(1, 2000), spacing=st.sampled_from(SPACINGS))
def test_grid_is_a_decreasing_choice_of_timesteps(data: st.DataObject, timesteps: int, spacing: Any) -> None:
    steps = data.draw(st.integers(1, timesteps))
    grid = timestep_grid(timesteps, steps, spacing)
    assert len(grid) == steps
    assert all(type(t) is int and 0 <= t < timesteps for t in grid)
    gaps = [a - b for a, b in pairwise(grid)]
    assert all(gap > 0 for gap in gaps)
    assert not gaps or max(gaps) - min(gaps) <= 1
    if spacing != "leading":
        assert grid[0] == timesteps - 1
    if spacing == "leading" or (spacing == "linspace" and steps > 1):
        assert grid[-1] == 0
    if steps == timesteps:
        assert grid == list(range(timesteps - 1, -1, -1))


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("steps", [1, 3, 10, 50, 100, 1000])
def test_grids_are_those_of_diffusers(spacing: Any, steps: int) -> None:
    if spacing == "linspace" and steps == 1:
        assert timestep_grid(1000, 1, "linspace") == [
            999
        ]  # theirs is [0], which is no place to start from noise
        return
    theirs = DDIMScheduler(1000, timestep_spacing=spacing)
    theirs.set_timesteps(steps)
    assert timestep_grid(1000, steps, spacing) == theirs.timesteps.tolist()


@pytest.mark.parametrize("steps", [0, -1, 11])
def test_impossible_step_counts_are_refused(steps: int) -> None:
    with pytest.raises(ConfigError, match=f"{steps} sampling steps; this decoder takes 1 to 10"):
        timestep_grid(10, steps, "leading")


def test_unknown_spacing_is_refused() -> None:
    with pytest.raises(ConfigError, match="'karras'"):
        timestep_grid(10, 5, "karras")  # type: ignore[arg-type]


@given(
    steps=st.integers(1, 60),
    schedule=st.sampled_from(SCHEDULES),
    timesteps=st.integers(60, 300),
)
def test_lambda_grid_starts_at_the_noisiest_and_decreases(steps: int, schedule: Any, timesteps: int) -> None:
    grid = lambda_grid(NoiseScheduler(timesteps, *schedule), steps)
    assert grid[0] == timesteps - 1
    assert 1 <= len(grid) <= steps
    assert all(a > b >= 0 for a, b in pairwise(grid))


def test_a_sampler_is_chosen_by_name() -> None:
    scheduler = NoiseScheduler(100, "cosine", "v", True)
    trailing = timestep_grid(100, 6, "trailing")
    for eta in (0.0, 0.7):
        assert sampling_plan("ddim", scheduler, 6, eta) == ddim_plan(scheduler, trailing, eta)
    dpm = sampling_plan("dpm-solver++", scheduler, 6)
    assert dpm == dpm_solver_plan(scheduler, lambda_grid(scheduler, 6))
    assert dpm != sampling_plan("ddim", scheduler, 6)


@pytest.mark.parametrize(
    ("sampler", "steps", "eta", "message"),
    [
        ("ddim", 21, 0.0, "21 sampling steps"),
        ("dpm-solver++", 21, 0.0, "21 sampling steps"),
        ("ddim", 5, -0.1, "eta is -0.1"),
        ("ddim", 5, 1.5, "eta is 1.5"),
        ("ddim", 5, float("nan"), "eta is nan"),
        ("euler", 5, 0.0, r"unknown sampler 'euler'; use dpm-solver\+\+ or ddim"),
    ],
)
def test_senseless_plans_are_refused(sampler: Any, steps: int, eta: float, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        sampling_plan(sampler, NoiseScheduler(20), steps, eta)
