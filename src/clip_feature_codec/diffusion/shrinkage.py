"""From what a network believes of a picture to v, by Bayes' rule in the frequencies of small patches."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clip_feature_codec.diffusion.schedule import NoiseScheduler
from clip_feature_codec.errors import ConfigError

_FIRST_DEVIATION = 0.3
_MAX_LOG_VARIANCE = 12.0


class Shrinkage(nn.Module):
    """Combines x_t with a normal distribution of each patch frequency that a network predicts.

    A coefficient x of the picture with mean m and variance q, seen as a x + s ε, has the expectation
    (s² m + a q x_t) / (s² + a² q) (the Wiener filter), from which v = (a x_t - x) / s follows:

        v = s (a (1 - q) x_t - m) / (s² + a² q)

    A network that gives v itself has to carry every pixel of x_t to its output; this one says where there is
    detail, and the noise elsewhere is taken away exactly.

    Args:
        scheduler: gives a and s of each timestep.
        channels: C of the pictures.
        patch: P, the side of the patches, whose orthonormal DCT-II has P² frequencies for each channel.

    Raises:
        ConfigError: the scheduler is of another prediction than v.
    """

    a: Tensor
    s: Tensor
    dct: Tensor

    def __init__(self, scheduler: NoiseScheduler, channels: int, patch: int) -> None:
        super().__init__()
        if scheduler.prediction != "v":
            raise ConfigError(f"shrinkage needs a network that predicts v, found {scheduler.prediction}")
        bars = torch.from_numpy(scheduler.alphas_cumprod)
        self.register_buffer("a", bars.sqrt().float(), persistent=False)
        self.register_buffer("s", (1.0 - bars).sqrt().float(), persistent=False)
        self.register_buffer("dct", _patch_dct(channels, patch), persistent=False)

    def forward(self, folded: Tensor, t: Tensor, beliefs: Tensor) -> Tensor:
        """Turn beliefs into v.

        Args:
            folded: x_t with patches folded into channels, (N, C P², h, w).
            t: timesteps (N,).
            beliefs: (N, 2 C P², h, w): means, and log variances less that of a deviation of 0.3.

        Returns:
            v, folded as x_t is, float32.
        """
        mean, log_variance = beliefs.float().chunk(2, dim=1)
        q = (log_variance + 2.0 * math.log(_FIRST_DEVIATION)).clamp(max=_MAX_LOG_VARIANCE).exp()
        a, s = (table[t].view(-1, 1, 1, 1) for table in (self.a, self.s))
        with torch.autocast(folded.device.type, enabled=False):
            x = F.conv2d(folded.float(), self.dct)
            v = s * (a * (1.0 - q) * x - mean) / (s * s + a * a * q)
            # Orthonormal: the transpose is the inverse.
            return F.conv2d(v, self.dct.transpose(0, 1).contiguous())


def _patch_dct(channels: int, patch: int) -> Tensor:
    """The orthonormal DCT-II of P × P patches as a 1 × 1 convolution, (C P², C P², 1, 1)."""
    u, x = torch.arange(patch)[:, None], torch.arange(patch)
    line = torch.cos(math.pi * (2 * x + 1) * u / (2 * patch)) * math.sqrt(2 / patch)
    line[0] /= math.sqrt(2)
    whole: Tensor = torch.kron(torch.eye(channels), torch.kron(line, line))
    return whole[:, :, None, None]
