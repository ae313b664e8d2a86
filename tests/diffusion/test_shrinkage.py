from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from clip_feature_codec.diffusion.config import UNetConfig
from clip_feature_codec.diffusion.schedule import NoiseScheduler
from clip_feature_codec.diffusion.shrinkage import Shrinkage
from clip_feature_codec.diffusion.unet import CLIPCondUNet
from clip_feature_codec.errors import ConfigError

SCHEDULER = NoiseScheduler(50, "cosine", "v", zero_terminal_snr=True)
TIMES = torch.tensor([3, 25, 49])
PATCH = 2


def v_of(x_t: torch.Tensor, mean: torch.Tensor, variance: float) -> torch.Tensor:
    """v where the mean of each coefficient is that of the picture ``mean``, and all variances are alike."""
    shrinkage = Shrinkage(SCHEDULER, 3, PATCH)
    means = F.conv2d(F.pixel_unshuffle(mean, PATCH), shrinkage.dct)
    log_variances = torch.full_like(means, math.log(variance / 0.09))
    beliefs = torch.cat([means, log_variances], dim=1)
    return F.pixel_shuffle(shrinkage(F.pixel_unshuffle(x_t, PATCH), TIMES, beliefs), PATCH)


def drawn() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(3, 3, 8, 8, generator=generator), torch.randn(3, 3, 8, 8, generator=generator)


def test_it_is_the_wiener_filter() -> None:
    """With equal variances the frequencies do not matter: each pixel's expectation, in float64."""
    x_t, mean = drawn()
    bar = torch.from_numpy(SCHEDULER.alphas_cumprod)[TIMES].view(3, 1, 1, 1)
    a, variance = bar.sqrt(), 0.2
    expected = mean + a * variance / (a**2 * variance + 1 - bar) * (x_t - a * mean)
    found = SCHEDULER.predict_x0(x_t, TIMES, v_of(x_t, mean, variance))
    torch.testing.assert_close(found.double(), expected, atol=2e-5, rtol=0)


def test_who_is_certain_does_not_look() -> None:
    x_t, mean = drawn()
    found = SCHEDULER.predict_x0(x_t, TIMES, v_of(x_t, mean, 1e-9))
    torch.testing.assert_close(found, mean, atol=1e-3, rtol=0)


def test_frequencies_are_told_apart() -> None:
    """Certain of all but the patches' means, one keeps those and takes the rest for noise."""
    x_t, _ = drawn()
    shrinkage = Shrinkage(SCHEDULER, 3, PATCH)
    variances = torch.tensor([1e4, 1e-9, 1e-9, 1e-9]).repeat(3).view(1, 12, 1, 1).expand(3, 12, 4, 4)
    beliefs = torch.cat([torch.zeros(3, 12, 4, 4), (variances / 0.09).log()], dim=1)
    v = F.pixel_shuffle(shrinkage(F.pixel_unshuffle(x_t, PATCH), TIMES, beliefs), PATCH)
    found = SCHEDULER.predict_x0(x_t, TIMES, v)[0]
    a = torch.from_numpy(SCHEDULER.alphas_cumprod)[TIMES[0]].sqrt().float()
    expected = F.interpolate(F.avg_pool2d(x_t[:1] / a, PATCH), scale_factor=2.0)[0]
    torch.testing.assert_close(found, expected, atol=1e-2, rtol=0)


def test_an_untrained_network_filters_for_a_deviation_of_three_tenths() -> None:
    unet = CLIPCondUNet(
        UNetConfig(6, base=8, ch_mult=(1,), num_res_blocks=1, patch=PATCH, shrinkage=SCHEDULER.to_config())
    )
    x_t, _ = drawn()
    with torch.no_grad():
        found = unet(x_t, torch.zeros(3, 6), TIMES)
    torch.testing.assert_close(found, v_of(x_t, torch.zeros_like(x_t), 0.09), atol=1e-5, rtol=1e-5)


def test_it_needs_v() -> None:
    with pytest.raises(ConfigError, match="predicts v"):
        CLIPCondUNet(UNetConfig(6, base=8, shrinkage=NoiseScheduler(50).to_config()))
