"""From noise to pictures by a plan (see `plans`), with guidance, and noise drawn per picture."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from clip_feature_codec.diffusion.plans import Step
from clip_feature_codec.diffusion.residual import Residual
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


@torch.no_grad()
def sample(
    model: nn.Module,
    plan: Sequence[Step],
    z: Tensor,
    *,
    size: int,
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
        plan: the steps, made for the schedule that the model was trained with (`plans.sampling_plan`).
        z: unit CLIP vectors ``(N, D)``; a row of zeros is none.
        size: side of the square pictures in pixels.
        guidance: 1 is none; more follows the conditions more closely, for twice the work (see `_Guided`).
        layout: as `CLIPCondUNet` takes them, ``(N, 4, S, S)``; None: no row has one.
        residual: what the model paints instead of the picture (`CLIPCondUNet.residual`); None: the picture.
        generators: one CPU generator for each row; rows are independent of each other.
        clip_x0: clip each prediction of the picture to [-1, 1]; ε follows from the clipped one.

    Returns:
        ``(N, 3, size, size)`` float32 on the model's device, in [-1, 1] if ``clip_x0``.

    Raises:
        ConfigError: an option is out of range, or the numbers of rows differ.
    """
    _check_options(z, layout, generators, size, guidance)
    predict = _Guided(model, z, layout, guidance, keeps_layout=residual is not None)
    painted = Residual.none(predict.device) if residual is None else residual.to(predict.device)
    x = last = _draw(generators, size, predict.device)  # in the first step, last has no weight
    for step in plan:
        x0 = (predict(x, step.t) * step.x0_from_output).add_(x, alpha=step.x0_from_x)
        if clip_x0:
            x0 = painted.of(painted.picture(x0).clamp_(-1.0, 1.0))
        x, last = _advanced(step, x, x0, last), x0
        if step.sigma > 0.0:
            x.add_(_draw(generators, size, predict.device), alpha=step.sigma)
    return painted.picture(x)


def _advanced(step: Step, x: Tensor, x0: Tensor, last: Tensor) -> Tensor:
    """x_prev but for its noise, (N, 3, H, W), from x_t, this step's x0 and that of the step before."""
    x = (x0 * step.x_from_x0).add_(x, alpha=step.x_from_x)
    return x.add_(last, alpha=step.x_from_last) if step.x_from_last != 0.0 else x


class _Guided:
    """A model under classifier-free guidance: uncond + w (cond - uncond), both in one doubled batch.

    As in Ho & Salimans 2022, with w counted from 1. The unconditional half is told neither vector nor layout:
    dropping the vector alone follows it more closely, at the cost of the places of things, and would leave a
    picture that has a layout only as it is. Where the model paints a difference from the layout, both halves
    are told it.

    Args:
        model: see `sample`, as for the next three.
        z: ``(N, D)``.
        layout: ``(N, 4, S, S)`` or None.
        guidance: w; at 1 there is no unconditional half.
        keeps_layout: whether both halves are told the layout.

    Attributes:
        device: the model's.
    """

    def __init__(
        self,
        model: nn.Module,
        z: Tensor,
        layout: Tensor | None,
        guidance: float,
        *,
        keeps_layout: bool,
    ) -> None:
        self.device = next(model.parameters(), z).device
        self._model, self._guidance, self._doubled = model, guidance, guidance != 1.0
        self._z = z.to(self.device, torch.float32)
        self._layouts: tuple[Tensor, ...] = () if layout is None else (layout.to(self.device, torch.float32),)
        if self._doubled:
            self._z = torch.cat([self._z, torch.zeros_like(self._z)])
            self._layouts = tuple(
                torch.cat([shown, shown if keeps_layout else torch.zeros_like(shown)])
                for shown in self._layouts
            )

    def __call__(self, x: Tensor, t: int) -> Tensor:
        """The model's output at x_t ``(N, 3, H, W)``, float32 in the same shape."""
        times = torch.full((len(self._z),), t, device=self.device)
        rows = torch.cat([x, x]) if self._doubled else x
        output: Tensor = self._model(rows, self._z, times, *self._layouts).float()
        if not self._doubled:
            return output
        cond, uncond = output.chunk(2)
        return torch.lerp(uncond, cond, self._guidance)


def _draw(generators: Sequence[torch.Generator], size: int, device: torch.device) -> Tensor:
    """Standard normal noise (N, 3, size, size), each row from its own generator and always on the CPU."""
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
