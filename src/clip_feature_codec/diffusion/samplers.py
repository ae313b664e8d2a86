"""From noise to pictures: DDIM (Song et al. 2021), with eta, guidance, and noise drawn per picture.

Legend: ``a`` = sqrt(ᾱ_t), ``s`` = sqrt(1 - ᾱ_t); the bar of "prev" is that of the next, cleaner timestep on
the sampler's own grid, and 1 after the last one.

1. x0 = what the network's output implies, clipped to [-1, 1];  ε = (x_t - a x0) / s
2. σ = η sqrt((1 - ᾱ_prev) / (1 - ᾱ_t)) sqrt(1 - ᾱ_t / ᾱ_prev)                         (eq. 16)
3. x_prev = sqrt(ᾱ_prev) x0 + sqrt(1 - ᾱ_prev - σ²) ε + σ noise                        (eq. 12)
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from clip_feature_codec.diffusion.schedule import NoiseScheduler
from clip_feature_codec.errors import ConfigError

Spacing = Literal["linspace", "leading", "trailing"]


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


def noise_generators(seed: int, keys: Sequence[bytes]) -> list[torch.Generator]:
    """One CPU generator per key (a picture's stream), seeded from SHA-256 of the seed and the key.

    A picture's noise thus depends on nothing but the seed and its own bytes.
    """
    generators = []
    for key in keys:
        digest = hashlib.sha256(b"%d:" % seed + key).digest()
        generators.append(torch.Generator().manual_seed(int.from_bytes(digest[:8], "little")))
    return generators


@torch.no_grad()
def ddim_sample(
    model: nn.Module,
    scheduler: NoiseScheduler,
    z: Tensor,
    *,
    size: int,
    steps: int = 50,
    eta: float = 0.0,
    guidance: float = 1.0,
    layout: Tensor | None = None,
    generators: Sequence[torch.Generator],
    spacing: Spacing = "trailing",
    clip_x0: bool = True,
) -> Tensor:
    """Sample one picture per row of conditions: a CLIP vector, a layout, both or neither.

    Args:
        model: called as ``model(x_t, z, t)``, or ``model(x_t, z, t, layout)`` where there are layouts;
            sampling happens on its parameters' device.
        scheduler: the schedule that the model was trained with.
        z: unit CLIP vectors ``(N, D)``; a row of zeros is none.
        size: side of the square pictures in pixels.
        steps: evaluations of the model, 1 to T.
        eta: 0 is deterministic, 1 as noisy as DDPM.
        guidance: 1 is none; w gives uncond + w (cond - uncond), for twice the work in one doubled batch
            (Ho & Salimans 2022, with w counted from 1). Its unconditional half is told neither vector nor
            layout: dropping the vector alone follows it more closely, at the cost of the places of things,
            and would leave a picture that has a layout only as it is.
        layout: as `CLIPCondUNet` takes them, ``(N, 4, S, S)``; None: no row has one.
        generators: one CPU generator for each row; rows are independent of each other.
        spacing: see `timestep_grid`.
        clip_x0: clip each prediction of the picture to [-1, 1]; ε follows from the clipped one.

    Returns:
        ``(N, 3, size, size)`` float32 on the model's device, in [-1, 1] if ``clip_x0``.

    Raises:
        ConfigError: an option is out of range, or the numbers of rows differ.
    """
    _check_options(z, layout, generators, size, eta, guidance)
    plan = _ddim_plan(scheduler, timestep_grid(scheduler.timesteps, steps, spacing), eta)
    device = next(model.parameters(), z).device
    z = z.to(device, torch.float32)
    layout = None if layout is None else layout.to(device, torch.float32)
    guided = guidance != 1.0
    if guided:
        z = torch.cat([z, torch.zeros_like(z)])
        layout = None if layout is None else torch.cat([layout, torch.zeros_like(layout)])
    layouts = () if layout is None else (layout,)
    times = torch.tensor([[step.t] for step in plan], device=device).repeat(1, len(z))

    x = _draw(generators, size, device)
    for step, t in zip(plan, times, strict=True):
        output = model(torch.cat([x, x]) if guided else x, z, t, *layouts).float()
        if guided:
            cond, uncond = output.chunk(2)
            output = torch.lerp(uncond, cond, guidance)
        x0 = (output * step.x0_from_output).add_(x, alpha=step.x0_from_x)
        if clip_x0:
            x0.clamp_(-1.0, 1.0)
        x = x0.mul_(step.x_from_x0).add_(x, alpha=step.x_from_x)
        if step.sigma > 0.0:
            x.add_(_draw(generators, size, device), alpha=step.sigma)
    return x


@dataclass(frozen=True, slots=True)
class _Step:
    """The formulas at the head of this file with ε written out, so that a step is two sums."""

    t: int
    x0_from_x: float
    x0_from_output: float
    x_from_x0: float
    x_from_x: float
    sigma: float


def _ddim_plan(scheduler: NoiseScheduler, grid: list[int], eta: float) -> list[_Step]:
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
        plan.append(_Step(t, x_weight[t], output_weight[t], x_from_x0, x_from_x, sigma))
    return plan


def _draw(generators: Sequence[torch.Generator], size: int, device: torch.device) -> Tensor:
    """Draw standard normal noise, each row from its own generator and always on the CPU."""
    rows = [torch.randn(3, size, size, generator=generator) for generator in generators]
    return torch.stack(rows).to(device, memory_format=torch.channels_last)


def _check_options(
    z: Tensor,
    layout: Tensor | None,
    generators: Sequence[torch.Generator],
    size: int,
    eta: float,
    guidance: float,
) -> None:
    if z.ndim != 2 or len(z) == 0 or len(generators) != len(z):
        raise ConfigError(
            f"CLIP vectors of shape {tuple(z.shape)} with {len(generators)} noise generators; "
            "give (N, D) vectors, N at least 1, and one generator for each"
        )
    if layout is not None and (layout.ndim != 4 or len(layout) != len(z)):
        raise ConfigError(
            f"layouts of shape {tuple(layout.shape)}; give ({len(z)}, 4, S, S) for these vectors"
        )
    if size < 1:
        raise ConfigError(f"size is {size}; it must be a positive number of pixels")
    if not 0.0 <= eta <= 1.0:
        raise ConfigError(f"eta is {eta}; it must be from 0 (deterministic) to 1 (as DDPM)")
    if not math.isfinite(guidance):
        raise ConfigError(f"guidance is {guidance}; it must be a finite number (1 is none)")
