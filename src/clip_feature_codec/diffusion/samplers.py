"""From noise to pictures by a plan (see `plans`), with guidance, whichever library the network runs on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Generic, Protocol

import numpy as np
from numpy.typing import NDArray

from clip_feature_codec.diffusion.arrays import Array
from clip_feature_codec.diffusion.noise import NoiseGenerator
from clip_feature_codec.diffusion.plans import Step
from clip_feature_codec.diffusion.residual import Residual
from clip_feature_codec.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor


class Denoiser(Protocol[Array]):
    """A network that predicts ε or v, as `sample` calls it."""

    def array(self, values: NDArray[np.float32] | Tensor) -> Array:
        """Give numbers in the form that the network takes: float32 of its own kind, on its device."""

    def __call__(self, x: Array, z: Array, t: int, layout: Array | None) -> Array:
        """Predict for x_t (N, 3, H, W), vectors (N, D), one timestep, and layouts (N, 4, S, S) or None."""


def sample(
    model: Denoiser[Array],
    plan: Sequence[Step],
    z: NDArray[np.float32] | Tensor,
    *,
    size: int,
    guidance: float = 1.0,
    layout: NDArray[np.float32] | Tensor | None = None,
    residual: Residual[Array] | None = None,
    generators: Sequence[NoiseGenerator],
    clip_x0: bool = True,
) -> Array:
    """Sample one picture per row of conditions: a CLIP vector, a layout, both or neither.

    Args:
        model: predicts; sampling happens in its kind of arrays, on its device.
        plan: the steps, made for the schedule that the model was trained with (`plans.sampling_plan`).
        z: unit CLIP vectors ``(N, D)``; a row of zeros is none.
        size: side of the square pictures in pixels.
        guidance: 1 is none; more follows the conditions more closely, for twice the work (see `_Guided`).
        layout: as `CLIPCondUNet` takes them, ``(N, 4, S, S)``; None: no row has one.
        residual: what the model paints instead of the picture (`Residual.around`), on its device; None: the
            picture.
        generators: one for each row; rows are independent of each other.
        clip_x0: clip each prediction of the picture to [-1, 1]; ε follows from the clipped one.

    Returns:
        ``(N, 3, size, size)`` float32 on the model's device, in [-1, 1] if ``clip_x0``.

    Raises:
        ConfigError: an option is out of range, or the numbers of rows differ.
    """
    _check_options(z, layout, generators, size, guidance)
    layouts = None if layout is None else model.array(layout)
    predict = _Guided(model, model.array(z), layouts, guidance, keeps_layout=residual is not None)
    painted = residual or Residual()
    x = last = model.array(_draw(generators, size))  # in the first step, last has no weight
    for step in plan:
        x0 = predict(x, step.t) * step.x0_from_output + x * step.x0_from_x
        if clip_x0:
            x0 = painted.of(painted.picture(x0).clip(-1.0, 1.0))
        x, last = _advanced(step, x, x0, last), x0
        if step.sigma > 0.0:
            x = x + model.array(_draw(generators, size)) * step.sigma
    return painted.picture(x)


def _advanced(step: Step, x: Array, x0: Array, last: Array) -> Array:
    """x_prev but for its noise, (N, 3, H, W), from x_t, this step's x0 and that of the step before."""
    x = x0 * step.x_from_x0 + x * step.x_from_x
    return x + last * step.x_from_last if step.x_from_last != 0.0 else x


class _Guided(Generic[Array]):
    """A model under classifier-free guidance: uncond + w (cond - uncond), both in one doubled batch.

    As in Ho & Salimans 2022, with w counted from 1. The unconditional half is told neither vector nor layout:
    dropping the vector alone follows it more closely, at the cost of the places of things, and would leave a
    picture that has a layout only as it is. Where the model paints a difference from the layout, both halves
    are told it.

    Args:
        model: see `sample`.
        z: ``(N, D)``, as the model takes it.
        layout: ``(N, 4, S, S)``, as the model takes it, or None.
        guidance: w; at 1 there is no unconditional half.
        keeps_layout: whether both halves are told the layout.
    """

    def __init__(
        self,
        model: Denoiser[Array],
        z: Array,
        layout: Array | None,
        guidance: float,
        *,
        keeps_layout: bool,
    ) -> None:
        self._model: Denoiser[Array] = model
        self._guidance, self._count = guidance, len(z)
        self._rows = [*range(len(z))] * (1 if guidance == 1.0 else 2)
        self._z: Array = z[self._rows]
        self._z[self._count :] = 0.0
        self._layout: Array | None = None if layout is None else layout[self._rows]
        if self._layout is not None and not keeps_layout:
            self._layout[self._count :] = 0.0

    def __call__(self, x: Array, t: int) -> Array:
        """The model's output at x_t ``(N, 3, H, W)``, in the same shape."""
        output: Array = self._model(x[self._rows], self._z, t, self._layout)
        if self._guidance == 1.0:
            return output
        cond, uncond = output[: self._count], output[self._count :]
        guided: Array = uncond + (cond - uncond) * self._guidance
        return guided


def _draw(generators: Sequence[NoiseGenerator], size: int) -> NDArray[np.float32]:
    """Standard normal noise (N, 3, size, size), each row from its own generator."""
    return np.stack([generator.normal(3, size, size) for generator in generators])


def _check_options(
    z: NDArray[np.float32] | Tensor,
    layout: NDArray[np.float32] | Tensor | None,
    generators: Sequence[NoiseGenerator],
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
