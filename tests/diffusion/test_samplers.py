from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from clip_feature_codec.diffusion.plans import lambda_grid, timestep_grid
from clip_feature_codec.diffusion.samplers import ddim_sample, noise_generators
from clip_feature_codec.diffusion.samplers import sample as sample_pictures
from clip_feature_codec.diffusion.schedule import NoiseScheduler
from clip_feature_codec.diffusion.unet import CLIPCondUNet, layout_planes
from clip_feature_codec.errors import ConfigError

Array = NDArray[np.float64]
SIZE = 8
SPACINGS = ["linspace", "leading", "trailing"]


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


def grid_by_numpy(timesteps: int, steps: int, spacing: str) -> list[int]:
    if spacing == "linspace":
        grid = np.linspace(timesteps - 1, 0, steps).round()
    elif spacing == "leading":
        grid = np.arange(steps)[::-1] * (timesteps // steps)
    else:
        grid = np.round(np.linspace(timesteps, timesteps / steps, steps)) - 1
    return [int(t) for t in grid]


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


def ddim_by_numpy(
    z: Array,
    bars: Array,
    grid: list[int],
    prediction: str,
    eta: float,
    clip: bool,
    generators: list[torch.Generator],
    guidance: float = 1.0,
) -> Array:
    """Song et al. 2021, eqs. 12 and 16, as they stand, in float64."""

    def noise() -> Array:
        return np.stack([torch.randn(3, SIZE, SIZE, generator=g).double().numpy() for g in generators])

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


def unit_vectors(rows: int, dim: int, seed: int = 0) -> Tensor:
    z = torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed))
    return nn.functional.normalize(z)


def keys(rows: int) -> list[bytes]:
    return [bytes([row, 7]) for row in range(rows)]


SCHEDULES = [
    ("cosine", "epsilon", False),
    ("cosine", "v", True),
    ("linear", "epsilon", False),
    ("linear", "v", False),
]


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
        tolerance = 1e-5 + (3e-7 / np.sqrt(bars[grid[0]]) if prediction == "epsilon" else 0)
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

    def noise() -> Tensor:
        return torch.stack([torch.randn(3, SIZE, SIZE, generator=g) for g in generators])

    x = noise()
    for i, t in enumerate(theirs.timesteps):
        output = model(x, z, t.repeat(2))
        drawn = noise() if eta > 0 and i + 1 < steps else torch.zeros_like(x)
        x = theirs.step(
            output, int(t), x, eta=eta, use_clipped_model_output=True, variance_noise=drawn
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


def test_without_guidance_each_step_is_one_plain_evaluation() -> None:
    model = AnalyticModel(alpha_bars(40, "cosine", False), "epsilon")
    ddim_sample(
        model,
        NoiseScheduler(40),
        unit_vectors(3, 4),
        size=8,
        steps=5,
        generators=noise_generators(0, keys(3)),
    )
    assert model.rows == [3] * 5


def test_one_step_from_zero_terminal_snr_gives_minus_v() -> None:
    model = AnalyticModel(alpha_bars(40, "cosine", True), "v")
    z = unit_vectors(2, 4)
    generators = noise_generators(0, keys(2))
    x = torch.stack([torch.randn(3, SIZE, SIZE, generator=g) for g in generators])
    v = model(x, z, torch.full((2,), 39))
    scheduler = NoiseScheduler(40, "cosine", "v", zero_terminal_snr=True)
    found = ddim_sample(model, scheduler, z, size=SIZE, steps=1, generators=noise_generators(0, keys(2)))
    torch.testing.assert_close(found, (-v).clamp(-1, 1))


def test_half_precision_outputs_are_stepped_in_float32() -> None:
    model = AnalyticModel(alpha_bars(40, "cosine", False), "v", torch.bfloat16)
    found = ddim_sample(
        model,
        NoiseScheduler(40, prediction="v"),
        unit_vectors(1, 4),
        size=8,
        steps=4,
        generators=noise_generators(0, keys(1)),
    )
    assert found.dtype == torch.float32
    assert float(found.abs().max()) <= 1.0


def random_unet(layout: int = 0) -> CLIPCondUNet:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        unet = CLIPCondUNet(
            8, base=8, ch_mult=(1, 2), num_res_blocks=1, attention_levels=(1,), patch=2, layout=layout
        )
        for parameter in unet.parameters():
            nn.init.normal_(parameter, std=0.2)
    return unet


@pytest.mark.parametrize("guidance", [1.0, 2.0])
@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize(("prediction", "zero_terminal"), [("epsilon", False), ("v", True)])
def test_a_picture_is_the_same_whatever_its_batch(
    prediction: Any, zero_terminal: bool, eta: float, guidance: float
) -> None:
    unet, scheduler = random_unet(), NoiseScheduler(100, "cosine", prediction, zero_terminal)
    z, names = unit_vectors(5, 8), keys(5)

    def sample(rows: list[int]) -> Tensor:
        return ddim_sample(
            unet,
            scheduler,
            z[rows],
            size=16,
            steps=10,
            eta=eta,
            guidance=guidance,
            generators=noise_generators(11, [names[row] for row in rows]),
        )

    together = sample([0, 1, 2, 3, 4])
    assert float((together[0] - together[1]).abs().max()) > 0.1
    for rows in ([0], [3], [4, 2, 0]):
        torch.testing.assert_close(sample(rows), together[rows], rtol=0, atol=1e-4)


LAYOUTS = layout_planes(
    torch.randint(0, 256, (5, 3, 6, 6), generator=torch.Generator().manual_seed(2), dtype=torch.uint8),
    torch.tensor([True, True, False, True, False]),
)


def sample_mixed(rows: list[int], layout: Tensor | None = LAYOUTS, **options: Any) -> Tensor:
    """Rows with both conditions, one of them or (the last) none."""
    z, names = unit_vectors(5, 8), keys(5)
    z[3:] = 0
    return ddim_sample(
        random_unet(layout=6),
        NoiseScheduler(100, "cosine", "v", True),
        z[rows],
        size=16,
        steps=6,
        layout=None if layout is None else layout[rows],
        generators=noise_generators(11, [names[row] for row in rows]),
        **options,
    )


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_mixed_conditions_are_independent_of_the_batch(guidance: float) -> None:
    together = sample_mixed([0, 1, 2, 3, 4], guidance=guidance)
    for rows in ([0], [2], [3], [4], [3, 1, 2]):
        torch.testing.assert_close(sample_mixed(rows, guidance=guidance), together[rows], rtol=0, atol=1e-4)
    without = sample_mixed([0, 1, 2, 3, 4], layout=None, guidance=guidance)
    torch.testing.assert_close(without[[2, 4]], together[[2, 4]], rtol=0, atol=1e-4)
    assert all(float((without - together)[row].abs().max()) > 0.1 for row in (0, 1, 3))


def test_noise_depends_on_seed_and_key_and_nothing_else() -> None:
    def draw(seed: int, key: bytes) -> Tensor:
        (generator,) = noise_generators(seed, [key])
        return torch.randn(4, 8, 8, generator=generator)

    state = torch.get_rng_state()
    torch.testing.assert_close(draw(1, b"a"), draw(1, b"a"), rtol=0, atol=0)
    drawn = [draw(1, b"a"), draw(2, b"a"), draw(1, b"b"), draw(-1, b"a"), draw(2**70, b"a"), draw(1, b"")]
    for i, first in enumerate(drawn):
        assert all(not torch.equal(first, second) for second in drawn[i + 1 :])
    assert torch.equal(torch.get_rng_state(), state)


def test_sampling_leaves_the_global_generator_and_the_gradients_alone() -> None:
    state = torch.get_rng_state()
    found = ddim_sample(
        random_unet(),
        NoiseScheduler(20),
        unit_vectors(1, 8),
        size=16,
        steps=3,
        eta=1.0,
        generators=noise_generators(0, keys(1)),
    )
    assert torch.equal(torch.get_rng_state(), state)
    assert not found.requires_grad


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"eta": -0.1}, "eta is -0.1"),
        ({"eta": 1.5}, "eta is 1.5"),
        ({"eta": float("nan")}, "eta is nan"),
        ({"guidance": float("inf")}, "guidance is inf"),
        ({"size": 0}, "size is 0"),
        ({"size": 18}, "18×18"),
        ({"steps": 21}, "21 sampling steps"),
        ({"generators": noise_generators(0, keys(1))}, "1 noise generators"),
        ({"z": torch.zeros(8)}, r"\(8,\)"),
        ({"z": torch.zeros(0, 8), "generators": []}, r"\(0, 8\)"),
        ({"layout": torch.zeros(3, 4, 6, 6)}, r"\(3, 4, 6, 6\); give \(2, 4, S, S\)"),
        ({"layout": torch.zeros(2, 4, 6, 6)}, "takes none at all"),
    ],
)
def test_senseless_options_are_refused(options: dict[str, Any], message: str) -> None:
    usual = {"z": unit_vectors(2, 8), "size": 16, "steps": 2, "generators": noise_generators(0, keys(2))}
    with pytest.raises(ConfigError, match=message):
        ddim_sample(random_unet(), NoiseScheduler(20), **(usual | options))


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


def first_noise(rows: int = 2) -> Tensor:
    return torch.stack([torch.randn(3, SIZE, SIZE, generator=g) for g in noise_generators(3, keys(rows))])


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
    found = sample_pictures(
        model, scheduler, z, size=SIZE, steps=steps, guidance=guidance, generators=generators
    )
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
    found = sample_pictures(model, scheduler, z, size=SIZE, steps=steps, generators=generators)
    torch.testing.assert_close(found, x, rtol=0, atol=1e-4)


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


def test_a_number_for_eta_is_ddim() -> None:
    unet, scheduler, z = random_unet(), NoiseScheduler(100, "cosine", "v", True), unit_vectors(2, 8)

    def paint(function: Any, **options: Any) -> Tensor:
        drawn = noise_generators(0, keys(2))
        found: Tensor = function(unet, scheduler, z, size=16, steps=6, generators=drawn, **options)
        return found

    for eta in (0.0, 0.7):
        assert torch.equal(paint(sample_pictures, eta=eta), paint(ddim_sample, eta=eta))
    assert float((paint(sample_pictures) - paint(ddim_sample)).abs().max()) > 1e-3


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
        found = sample_pictures(
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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 21}, "21 sampling steps"),
        ({"eta": 2.0}, "eta is 2.0"),
    ],
)
def test_senseless_options_of_sample_are_refused(options: dict[str, Any], message: str) -> None:
    generators = noise_generators(0, keys(2))
    with pytest.raises(ConfigError, match=message):
        sample_pictures(
            random_unet(), NoiseScheduler(20), unit_vectors(2, 8), size=16, generators=generators, **options
        )
