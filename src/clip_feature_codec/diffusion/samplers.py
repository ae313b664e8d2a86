"""From noise to pictures: DDIM and DPM-Solver++, with guidance, and noise drawn per picture (see `plans`)."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from clip_feature_codec.diffusion.plans import (
    Spacing,
    Step,
    ddim_plan,
    dpm_solver_plan,
    lambda_grid,
    timestep_grid,
)
from clip_feature_codec.diffusion.residual import Residual
from clip_feature_codec.diffusion.schedule import NoiseScheduler
from clip_feature_codec.errors import ConfigError


def noise_generators(seed: int, keys: Sequence[bytes]) -> list[torch.Generator]:
    """One CPU generator per key (a picture's stream), seeded from SHA-256 of the seed and the key.

    A picture's noise thus depends on nothing but the seed and its own bytes.
    """
    generators = []
    for key in keys:
        digest = hashlib.sha256(b"%d:" % seed + key).digest()
        generators.append(torch.Generator().manual_seed(int.from_bytes(digest[:8], "little")))
    return generators


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
    residual: Residual | None = None,
    generators: Sequence[torch.Generator],
    spacing: Spacing = "trailing",
    clip_x0: bool = True,
) -> Tensor:
    """Sample by DDIM (see `sample`); ``spacing`` as in `timestep_grid`."""
    _check_eta(eta)
    plan = ddim_plan(scheduler, timestep_grid(scheduler.timesteps, steps, spacing), eta)
    return _follow(plan, model, z, size, guidance, layout, residual, generators, clip_x0)


def sample(
    model: nn.Module,
    scheduler: NoiseScheduler,
    z: Tensor,
    *,
    size: int,
    steps: int = 8,
    eta: float | None = None,
    guidance: float = 1.0,
    layout: Tensor | None = None,
    residual: Residual | None = None,
    generators: Sequence[torch.Generator],
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
        eta: None is DPM-Solver++(2M); a number is DDIM, 0 deterministic, 1 as noisy as DDPM.
        guidance: 1 is none; w gives uncond + w (cond - uncond), for twice the work in one doubled batch
            (Ho & Salimans 2022, with w counted from 1). Its unconditional half is told neither vector nor
            layout: dropping the vector alone follows it more closely, at the cost of the places of things,
            and would leave a picture that has a layout only as it is. With a ``residual`` both halves are
            told the layout, since what they paint is a difference from it.
        layout: as `CLIPCondUNet` takes them, ``(N, 4, S, S)``; None: no row has one.
        residual: what the model paints instead of the picture (`CLIPCondUNet.residual`); None: the picture.
        generators: one CPU generator for each row; rows are independent of each other.
        clip_x0: clip each prediction of the picture to [-1, 1]; ε follows from the clipped one.

    Returns:
        ``(N, 3, size, size)`` float32 on the model's device, in [-1, 1] if ``clip_x0``.

    Raises:
        ConfigError: an option is out of range, or the numbers of rows differ.
    """
    if eta is not None:
        return ddim_sample(
            *(model, scheduler, z),
            size=size,
            steps=steps,
            eta=eta,
            guidance=guidance,
            layout=layout,
            residual=residual,
            generators=generators,
            clip_x0=clip_x0,
        )
    plan = dpm_solver_plan(scheduler, lambda_grid(scheduler, steps))
    return _follow(plan, model, z, size, guidance, layout, residual, generators, clip_x0)


@torch.no_grad()
def _follow(
    plan: Sequence[Step],
    model: nn.Module,
    z: Tensor,
    size: int,
    guidance: float,
    layout: Tensor | None,
    residual: Residual | None,
    generators: Sequence[torch.Generator],
    clip_x0: bool,
) -> Tensor:
    """Go from noise to pictures by a plan."""
    _check_options(z, layout, generators, size, guidance)
    device = next(model.parameters(), z).device
    z = z.to(device, torch.float32)
    layout = None if layout is None else layout.to(device, torch.float32)
    guided = guidance != 1.0
    if guided:
        z = torch.cat([z, torch.zeros_like(z)])
        if layout is not None:
            layout = torch.cat([layout, torch.zeros_like(layout) if residual is None else layout])
    layouts = () if layout is None else (layout,)
    times = torch.tensor([[step.t] for step in plan], device=device).repeat(1, len(z))

    painted = Residual.none(device) if residual is None else residual.to(device)
    x = _draw(generators, size, device)
    last = x  # of no weight in the first step
    for step, t in zip(plan, times, strict=True):
        output = model(torch.cat([x, x]) if guided else x, z, t, *layouts).float()
        if guided:
            cond, uncond = output.chunk(2)
            output = torch.lerp(uncond, cond, guidance)
        x0 = (output * step.x0_from_output).add_(x, alpha=step.x0_from_x)
        if clip_x0:
            x0 = painted.of(painted.picture(x0).clamp_(-1.0, 1.0))
        x = (x0 * step.x_from_x0).add_(x, alpha=step.x_from_x)
        if step.x_from_last != 0.0:
            x.add_(last, alpha=step.x_from_last)
        last = x0
        if step.sigma > 0.0:
            x.add_(_draw(generators, size, device), alpha=step.sigma)
    return painted.picture(x)


def _draw(generators: Sequence[torch.Generator], size: int, device: torch.device) -> Tensor:
    """Draw standard normal noise, each row from its own generator and always on the CPU."""
    rows = [torch.randn(3, size, size, generator=generator) for generator in generators]
    return torch.stack(rows).to(device, memory_format=torch.channels_last)


def _check_options(
    z: Tensor,
    layout: Tensor | None,
    generators: Sequence[torch.Generator],
    size: int,
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
    if not math.isfinite(guidance):
        raise ConfigError(f"guidance is {guidance}; it must be a finite number (1 is none)")


def _check_eta(eta: float) -> None:
    if not 0.0 <= eta <= 1.0:
        raise ConfigError(f"eta is {eta}; it must be from 0 (deterministic) to 1 (as DDPM)")
