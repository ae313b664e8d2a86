"""How noise is mixed into pictures: ᾱ per timestep, the forward process, and what the network predicts.

Legend: ``a`` = sqrt(ᾱ_t) weighs the picture, ``s`` = sqrt(1 - ᾱ_t) weighs the noise, so that
x_t = a x0 + s ε (DDPM eq. 4, Ho et al. 2020). Timesteps run from 0 (almost clean) to T - 1 (almost noise).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from clip_feature_codec.errors import ConfigError

if TYPE_CHECKING:  # sampling needs the numbers alone
    import torch
    from torch import Tensor

Schedule = Literal["cosine", "linear"]
Prediction = Literal["epsilon", "v"]

MAX_TIMESTEPS = 100_000
_MAX_BETA = 0.999


class NoiseScheduler:
    """ᾱ_t for t = 0..T-1 and everything that follows from it.

    Coefficients are float64 and are cast to the pictures' dtype last; their copies on a device are made
    once. Functions take pictures ``(N, C, H, W)`` in [-1, 1] and timesteps ``(N,)`` int64.

    Args:
        timesteps: T, 1 to 100,000.
        schedule: "cosine" (Nichol & Dhariwal 2021, eq. 17, β at most 0.999), or "linear" (β from 1e-4 to
            0.02, scaled by 1000 / T so that the end is about as noisy for every T).
        prediction: what the network gives: "epsilon" (the noise) or "v" (Salimans & Ho 2022, section 4).
        zero_terminal_snr: make ᾱ_{T-1} exactly 0 (Lin et al. 2023, Algorithm 1); "v" only, since the
            noise says nothing about a picture that is not there.

    Attributes:
        alphas_cumprod: ᾱ, float64 array ``(T,)``, strictly decreasing.

    Raises:
        ConfigError: a value is unknown or out of range, or the values do not go together.
    """

    def __init__(
        self,
        timesteps: int = 1000,
        schedule: Schedule = "cosine",
        prediction: Prediction = "epsilon",
        zero_terminal_snr: bool = False,
    ) -> None:
        _check_options(timesteps, schedule, prediction, zero_terminal_snr)
        self.timesteps = timesteps
        self.schedule = schedule
        self.prediction = prediction
        self.zero_terminal_snr = zero_terminal_snr
        betas = _cosine_betas(timesteps) if schedule == "cosine" else _linear_betas(timesteps)
        self.alphas_cumprod = np.asarray(np.cumprod(1.0 - betas), np.float64)
        if zero_terminal_snr:
            self.alphas_cumprod = _rescale_to_zero_terminal_snr(self.alphas_cumprod)
        a, s = np.sqrt(self.alphas_cumprod), np.sqrt(1.0 - self.alphas_cumprod)
        # x0 = x_weight x_t + output_weight output, whatever the network predicts.
        x_weight, output_weight = (a, -s) if prediction == "v" else (1.0 / a, -s / a)
        self._tables = {"a": a, "s": s, "x_weight": x_weight, "output_weight": output_weight}
        self._cache: dict[tuple[str, torch.device, torch.dtype], Tensor] = {}

    def q_sample(self, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """Draw x_t ~ q(x_t | x0) with the given standard normal noise (DDPM eq. 4)."""
        return self._rows("a", t, x0) * x0 + self._rows("s", t, x0) * noise

    def target(self, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Return what the network should give at x_t: ε, or v = a ε - s x0 (Salimans & Ho, section 4)."""
        if self.prediction == "epsilon":
            return noise
        return self._rows("a", t, x0) * noise - self._rows("s", t, x0) * x0

    def predict_x0(self, x_t: Tensor, t: Tensor, output: Tensor) -> Tensor:
        """Return the picture that the output implies: (x_t - s ε) / a, or a x_t - s v. Not clipped."""
        return self._rows("x_weight", t, x_t) * x_t + self._rows("output_weight", t, x_t) * output

    def x0_weights(self) -> tuple[list[float], list[float]]:
        """Weights of x_t and of the network's output in x0, for each t (see `predict_x0`)."""
        return self._tables["x_weight"].tolist(), self._tables["output_weight"].tolist()

    def to_config(self) -> dict[str, Any]:
        """Return the constructor's arguments, JSON-able."""
        return {
            "timesteps": self.timesteps,
            "schedule": self.schedule,
            "prediction": self.prediction,
            "zero_terminal_snr": self.zero_terminal_snr,
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> NoiseScheduler:
        """Build the scheduler that `to_config` described; ConfigError when it does not describe one."""
        try:
            return cls(**config)
        except TypeError as error:
            raise ConfigError(f"noise schedule: {error}") from error

    def _rows(self, name: str, t: Tensor, like: Tensor) -> Tensor:
        """Look up a coefficient for each row, ``(N, 1, 1, 1)``, in the pictures' dtype, on their device."""
        key = (name, like.device, like.dtype)
        table = self._cache.get(key)
        if table is None:
            table = self._cache[key] = like.new_tensor(self._tables[name])
        return table[t].view(-1, *[1] * (like.ndim - 1))


def _check_options(timesteps: Any, schedule: Any, prediction: Any, zero_terminal_snr: Any) -> None:
    if type(timesteps) is not int or not 1 <= timesteps <= MAX_TIMESTEPS:
        raise ConfigError(f"timesteps is {timesteps!r}; it must be a whole number from 1 to {MAX_TIMESTEPS}")
    if schedule not in ("cosine", "linear"):
        raise ConfigError(f"unknown noise schedule {schedule!r}; use cosine or linear")
    if prediction not in ("epsilon", "v"):
        raise ConfigError(f"unknown prediction {prediction!r}; use epsilon or v")
    if type(zero_terminal_snr) is not bool:
        raise ConfigError(f"zero_terminal_snr is {zero_terminal_snr!r}; it must be true or false")
    if zero_terminal_snr and prediction == "epsilon":
        raise ConfigError("zero_terminal_snr needs prediction v: ε at ᾱ = 0 says nothing about the picture")
    if zero_terminal_snr and timesteps < 2:
        raise ConfigError("zero_terminal_snr needs at least 2 timesteps")


def _cosine_betas(timesteps: int) -> NDArray[np.float64]:
    """β_t = 1 - ᾱ_t / ᾱ_{t-1} with ᾱ ∝ cos²((t/T + 0.008) / 1.008 · π/2) (Nichol & Dhariwal eq. 17)."""
    t = np.arange(timesteps + 1) / timesteps
    f = np.cos((t + 0.008) / 1.008 * (math.pi / 2)) ** 2
    betas: NDArray[np.float64] = np.minimum(1.0 - f[1:] / f[:-1], _MAX_BETA)
    return betas


def _linear_betas(timesteps: int) -> NDArray[np.float64]:
    scale = 1000 / timesteps
    betas = np.linspace(1e-4 * scale, 0.02 * scale, timesteps)
    limited: NDArray[np.float64] = np.minimum(betas, _MAX_BETA)  # few timesteps would scale β past 1
    return limited


def _rescale_to_zero_terminal_snr(alphas_cumprod: NDArray[np.float64]) -> NDArray[np.float64]:
    """Shift and scale sqrt(ᾱ) so that its last value is 0 and its first stays (Lin et al., Algorithm 1)."""
    a = np.sqrt(alphas_cumprod)
    rescaled: NDArray[np.float64] = ((a - a[-1]) * (a[0] / (a[0] - a[-1]))) ** 2
    return rescaled
