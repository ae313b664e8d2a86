"""What samplers do, as numbers: DDIM (Song et al. 2021) and DPM-Solver++ (Lu et al. 2022).

Legend: ``a`` = sqrt(ᾱ_t), ``s`` = sqrt(1 - ᾱ_t), λ = ln(a / s); the bar of "prev" is that of the next,
cleaner timestep on the sampler's own grid, and 1 after the last one.

1. x0 = what the network's output implies, clipped to [-1, 1];  ε = (x_t - a x0) / s
2. σ = η sqrt((1 - ᾱ_prev) / (1 - ᾱ_t)) sqrt(1 - ᾱ_t / ᾱ_prev)                         (DDIM, eq. 16)
3. x_prev = sqrt(ᾱ_prev) x0 + sqrt(1 - ᾱ_prev - σ²) ε + σ noise                        (DDIM, eq. 12)

DPM-Solver++(2M) (algorithm 2) is the same step without noise, x0 replaced by a straight line through it and
the one before, x0', taken at the middle of the step in λ:

4. x0 + h / (2 h') (x0 - x0'),   h = λ_prev - λ_t, and h' the same of the step before

The first step has no x0'. The last one goes to λ = ∞ and is of first order, too: its picture is x0. Where
ᾱ is 0 at the first step, λ is -∞ there, and h / (2 h') of the second step has its limit, 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

from clip_feature_codec.errors import ConfigError

if TYPE_CHECKING:  # plans are numbers: they need no torch
    from clip_feature_codec.diffusion.schedule import NoiseScheduler

SamplerName = Literal["dpm-solver++", "ddim"]
Spacing = Literal["linspace", "leading", "trailing"]

SAMPLERS: tuple[SamplerName, ...] = get_args(SamplerName)
"""The samplers that there are, by name."""

_LAMBDAS = (-2.5, 3.0)
"""λ of `lambda_grid`: little of a picture is decided before the first, and little is seen after the last."""


def timestep_grid(timesteps: int, steps: int, spacing: Spacing) -> list[int]:
    """List the timesteps to visit, strictly decreasing, ``steps`` of them out of 0..``timesteps`` - 1.

    "linspace" takes both ends, "trailing" the noisy end, "leading" the clean end (Lin et al. 2023, table 2).

    Raises:
        ConfigError: the spacing is unknown, or ``steps`` is not in 1..``timesteps``.
    """
    if not 1 <= steps <= timesteps:
        raise ConfigError(f"{steps} sampling steps; this decoder takes 1 to {timesteps}")
    if spacing == "linspace":
        gaps = max(1, steps - 1)
        return [round((timesteps - 1) * (gaps - i) / gaps) for i in range(steps)]
    if spacing == "leading":
        return [timesteps // steps * i for i in reversed(range(steps))]
    if spacing == "trailing":
        return [round(timesteps * i / steps) - 1 for i in range(steps, 0, -1)]
    raise ConfigError(f"unknown timestep spacing {spacing!r}; use linspace, leading or trailing")


def lambda_grid(scheduler: NoiseScheduler, steps: int) -> list[int]:
    """List the timesteps of DPM-Solver++: the noisiest, and then as even in λ as whole timesteps can be.

    λ goes from -2.5 to 3; with many steps two of them may be nearest to one timestep, which is visited once.

    Returns:
        Strictly decreasing timesteps, ``steps`` of them or, where two would be the same, fewer.

    Raises:
        ConfigError: ``steps`` is not in 1..``timesteps``.
    """
    timestep_grid(scheduler.timesteps, steps, "trailing")  # refuses impossible numbers
    lambdas = _lambdas(scheduler, range(scheduler.timesteps))
    low, high = _LAMBDAS
    wanted = [low + (high - low) * i / max(1, steps - 2) for i in range(steps - 1)]
    nearest = {min(range(len(lambdas)), key=lambda t: abs(lambdas[t] - value)) for value in wanted}
    return sorted({scheduler.timesteps - 1} | nearest, reverse=True)


class Step(NamedTuple):
    """The formulas at the head of this file with ε written out, so that a step is a few sums.

    Attributes:
        t: the timestep of the evaluation.
        x0_from_x: weight of x_t in x0.
        x0_from_output: weight of the network's output in x0.
        x_from_x0: weight of x0 in x_prev.
        x_from_x: weight of x_t in x_prev.
        x_from_last: weight of the x0 of the step before in x_prev.
        sigma: standard deviation of the noise that is added.
    """

    t: int
    x0_from_x: float
    x0_from_output: float
    x_from_x0: float
    x_from_x: float
    x_from_last: float = 0.0
    sigma: float = 0.0


def sampling_plan(
    sampler: SamplerName, scheduler: NoiseScheduler, steps: int, eta: float = 0.0
) -> list[Step]:
    """Plan the steps of a sampler, on the grid of timesteps that suits it.

    Args:
        sampler: one of `SAMPLERS`.
        scheduler: the schedule that the network was trained with.
        steps: evaluations of the network, 1 to T; DPM-Solver++ may find that fewer are enough.
        eta: noise that DDIM adds, 0 (deterministic) to 1 (as DDPM); without meaning for DPM-Solver++.

    Raises:
        ConfigError: the sampler is unknown, or a number is out of range.
    """
    if sampler == "ddim":
        return ddim_plan(scheduler, timestep_grid(scheduler.timesteps, steps, "trailing"), eta)
    if sampler == "dpm-solver++":
        return dpm_solver_plan(scheduler, lambda_grid(scheduler, steps))
    raise ConfigError(f"unknown sampler {sampler!r}; use {' or '.join(SAMPLERS)}")


def ddim_plan(scheduler: NoiseScheduler, grid: list[int], eta: float) -> list[Step]:
    """Plan the steps of DDIM; ``grid`` is strictly decreasing.

    Raises:
        ConfigError: eta is not in 0..1.
    """
    if not 0.0 <= eta <= 1.0:
        raise ConfigError(f"eta is {eta}; it must be from 0 (deterministic) to 1 (as DDPM)")
    alpha_bar: list[float] = scheduler.alphas_cumprod.tolist()
    x_weight, output_weight = scheduler.x0_weights()
    plan = []
    for t, prev in zip(grid, [*grid[1:], None], strict=True):
        bar, bar_prev = alpha_bar[t], 1.0 if prev is None else alpha_bar[prev]
        a, s = math.sqrt(bar), math.sqrt(1.0 - bar)
        sigma = eta * math.sqrt((1.0 - bar_prev) / (1.0 - bar)) * math.sqrt(1.0 - bar / bar_prev)
        # With eta = 1 the difference can be 0 but for rounding.
        x_from_eps = math.sqrt(max(0.0, 1.0 - bar_prev - sigma**2))
        x_from_x = x_from_eps / s
        x_from_x0 = math.sqrt(bar_prev) - x_from_x * a
        plan.append(Step(t, x_weight[t], output_weight[t], x_from_x0, x_from_x, sigma=sigma))
    return plan


def dpm_solver_plan(scheduler: NoiseScheduler, grid: list[int]) -> list[Step]:
    """Plan the steps of DPM-Solver++(2M); ``grid`` is strictly decreasing."""
    plan = ddim_plan(scheduler, grid, eta=0.0)
    lambdas = _lambdas(scheduler, grid)
    for i in range(1, len(plan) - 1):
        # 0 where h' is infinite: the limit, exactly.
        beyond = (lambdas[i + 1] - lambdas[i]) / (2.0 * (lambdas[i] - lambdas[i - 1]))
        weight = plan[i].x_from_x0
        plan[i] = plan[i]._replace(x_from_x0=weight * (1.0 + beyond), x_from_last=-weight * beyond)
    return plan


def _lambdas(scheduler: NoiseScheduler, timesteps: Iterable[int]) -> list[float]:
    """λ = ln(a / s) of timesteps; -∞ where nothing is left of the picture."""
    alpha_bar: list[float] = scheduler.alphas_cumprod.tolist()
    bars = [alpha_bar[t] for t in timesteps]
    return [0.5 * math.log(bar / (1.0 - bar)) if bar > 0.0 else -math.inf for bar in bars]
