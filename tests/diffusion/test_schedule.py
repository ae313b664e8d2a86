from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler
from diffusers.schedulers.scheduling_ddim import rescale_zero_terminal_snr
from hypothesis import given, settings
from hypothesis import strategies as st

from clip_feature_codec.diffusion.schedule import NoiseScheduler
from clip_feature_codec.errors import ConfigError


def pictures(rows: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(rows, 3, 4, 4, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("timesteps", [2, 10, 1000])
def test_cosine_follows_the_squared_cosine(timesteps: int) -> None:
    def f(t: float) -> float:
        return math.cos((t / timesteps + 0.008) / 1.008 * math.pi / 2) ** 2

    found = NoiseScheduler(timesteps, "cosine").alphas_cumprod
    # The product of 1 - beta telescopes to f(t) / f(0), but for the last beta, which is cut at 0.999.
    expected = [f(t + 1) / f(0) for t in range(timesteps - 1)]
    np.testing.assert_allclose(found[:-1], expected, rtol=1e-10)
    assert found[-1] == pytest.approx(found[-2] * 0.001, rel=1e-10)


def test_linear_multiplies_evenly_spaced_betas() -> None:
    product, expected = 1.0, []
    for t in range(1000):
        product *= 1.0 - (1e-4 + (0.02 - 1e-4) * t / 999)
        expected.append(product)
    np.testing.assert_allclose(NoiseScheduler(schedule="linear").alphas_cumprod, expected, rtol=1e-10)


def test_linear_ends_about_as_noisy_for_every_length() -> None:
    ends = [float(NoiseScheduler(n, "linear").alphas_cumprod[-1]) for n in (200, 1000, 4000)]
    assert max(ends) / min(ends) < 3


@given(
    timesteps=st.integers(1, 3000),
    schedule=st.sampled_from(["cosine", "linear"]),
    zero_terminal=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_alpha_bar_falls_strictly(timesteps: int, schedule: Any, zero_terminal: bool) -> None:
    zero_terminal = zero_terminal and timesteps > 1
    scheduler = NoiseScheduler(timesteps, schedule, "v", zero_terminal)
    bar = scheduler.alphas_cumprod
    assert bar.dtype == np.float64
    assert bar.shape == (timesteps,)
    assert bool((bar[1:] < bar[:-1]).all())
    assert float(bar[0]) < 1.0
    assert float(bar[-1]) == 0.0 if zero_terminal else float(bar[-1]) > 0.0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_q_sample_is_the_formula_row_by_row(dtype: torch.dtype) -> None:
    scheduler = NoiseScheduler(schedule="linear")
    x0, noise, t = pictures(4, 0, dtype), pictures(4, 1, dtype), torch.tensor([0, 17, 500, 999])
    found = scheduler.q_sample(x0, t, noise)
    assert found.dtype == dtype
    bars = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))[t.numpy()]
    for row, bar in enumerate(bars):
        expected = math.sqrt(bar) * x0[row].double() + math.sqrt(1 - bar) * noise[row].double()
        tolerance = 1e-6 if dtype == torch.float32 else 1e-12
        np.testing.assert_allclose(found[row], expected, atol=tolerance)


@pytest.mark.parametrize("prediction", ["epsilon", "v"])
def test_target_and_prediction_invert_q_sample(prediction: Any) -> None:
    scheduler = NoiseScheduler(prediction=prediction)
    t = torch.arange(0, 990, 10)
    x0, noise = pictures(len(t), 0, torch.float64), pictures(len(t), 1, torch.float64)
    x_t = scheduler.q_sample(x0, t, noise)
    output = scheduler.target(x0, noise, t)
    torch.testing.assert_close(scheduler.predict_x0(x_t, t, output), x0, rtol=0, atol=1e-10)


def test_targets_are_what_diffusers_says() -> None:
    theirs = DDPMScheduler(1000, beta_schedule="squaredcos_cap_v2")
    x0, noise, t = pictures(3, 0), pictures(3, 1), torch.tensor([1, 400, 998])
    torch.testing.assert_close(NoiseScheduler().target(x0, noise, t), noise)
    found = NoiseScheduler(prediction="v").target(x0, noise, t)
    torch.testing.assert_close(found, theirs.get_velocity(x0, noise, t), rtol=0, atol=2e-5)


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_zero_terminal_snr_is_the_published_rescaling(schedule: Any) -> None:
    plain = torch.from_numpy(NoiseScheduler(1000, schedule, "v").alphas_cumprod)
    scheduler = NoiseScheduler(1000, schedule, "v", zero_terminal_snr=True)
    bar = torch.from_numpy(scheduler.alphas_cumprod)
    assert float(bar[-1]) == 0.0
    assert float(bar[0]) == pytest.approx(float(plain[0]), rel=1e-12)
    betas = 1 - plain / torch.cat([torch.ones(1, dtype=torch.float64), plain[:-1]])
    torch.testing.assert_close(
        torch.cumprod(1 - rescale_zero_terminal_snr(betas), 0), bar, rtol=0, atol=1e-10
    )


def test_at_zero_terminal_snr_the_picture_is_minus_v() -> None:
    scheduler = NoiseScheduler(prediction="v", zero_terminal_snr=True)
    x_t, v, t = pictures(2, 0), pictures(2, 1), torch.full((2,), 999)
    torch.testing.assert_close(scheduler.predict_x0(x_t, t, v), -v)
    torch.testing.assert_close(scheduler.q_sample(v, t, x_t), x_t)


def test_config_goes_through_json() -> None:
    scheduler = NoiseScheduler(321, "linear", "v", zero_terminal_snr=True)
    again = NoiseScheduler.from_config(json.loads(json.dumps(scheduler.to_config())))
    assert again.to_config() == scheduler.to_config()
    assert np.array_equal(again.alphas_cumprod, scheduler.alphas_cumprod)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"timesteps": 0}, "timesteps is 0"),
        ({"timesteps": 10**9}, "timesteps is 1000000000"),
        ({"timesteps": 10.0}, "timesteps is 10.0"),
        ({"timesteps": True}, "timesteps is True"),
        ({"schedule": "sigmoid"}, "'sigmoid'"),
        ({"prediction": "x0"}, "'x0'"),
        ({"zero_terminal_snr": 1}, "zero_terminal_snr is 1"),
        ({"zero_terminal_snr": True}, "needs prediction v"),
        ({"zero_terminal_snr": True, "prediction": "v", "timesteps": 1}, "at least 2"),
        ({"steps": 5}, "steps"),
    ],
)
def test_senseless_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        NoiseScheduler.from_config(options)
