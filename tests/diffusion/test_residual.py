from __future__ import annotations

import pytest
import torch

from clip_feature_codec.diffusion.config import UNetConfig
from clip_feature_codec.diffusion.denoiser import TorchDenoiser
from clip_feature_codec.diffusion.noise import noise_generators
from clip_feature_codec.diffusion.plans import SamplerName, sampling_plan
from clip_feature_codec.diffusion.residual import Residual
from clip_feature_codec.diffusion.samplers import sample
from clip_feature_codec.diffusion.schedule import NoiseScheduler
from clip_feature_codec.diffusion.unet import CLIPCondUNet, layout_planes
from clip_feature_codec.errors import ConfigError

SCHEDULER = NoiseScheduler(100, "cosine", "v", zero_terminal_snr=True)


def some_layouts(side: int = 8) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randint(0, 256, (3, 3, side, side), generator=generator, dtype=torch.uint8)
    return layout_planes(pictures, torch.tensor([True, False, True]))


def test_the_way_back_is_the_inverse() -> None:
    residual = Residual.around(some_layouts(), (16, 16), 3.0)
    pictures = torch.rand(3, 3, 16, 16) * 2 - 1
    torch.testing.assert_close(residual.picture(residual.of(pictures)), pictures)


def test_a_picture_that_is_its_layout_leaves_nothing() -> None:
    layout = some_layouts()
    residual = Residual.around(layout, (8, 8), 3.0)
    assert residual.of(layout[:, :3]).abs().max() == 0


def test_without_a_layout_the_picture_stays_as_it_is() -> None:
    pictures = torch.rand(3, 3, 16, 16) * 2 - 1
    around = Residual.around(some_layouts(), (16, 16), 3.0).of(pictures)
    assert torch.equal(around[1], pictures[1])
    assert torch.equal(Residual().of(pictures), pictures)


def test_the_gain_is_that_of_the_configuration() -> None:
    unet = CLIPCondUNet(UNetConfig(6, base=8, ch_mult=(1,), num_res_blocks=1, layout=8, residual_gain=4.0))
    pictures, layout = torch.zeros(3, 3, 8, 8), some_layouts()
    found = unet.residual(layout, (8, 8)).of(pictures)
    torch.testing.assert_close(found, -4.0 * layout[:, :3])
    assert torch.equal(unet.residual(None, (8, 8)).of(pictures), pictures)


@pytest.mark.parametrize("gain", [-1.0, 0.5, 1000.0, float("nan"), "3", True])
def test_a_gain_that_makes_no_sense_is_refused(gain: object) -> None:
    with pytest.raises(ConfigError, match="residual_gain"):
        CLIPCondUNet(UNetConfig(6, base=8, layout=8, residual_gain=gain))  # type: ignore[arg-type]


def test_a_gain_needs_layouts() -> None:
    with pytest.raises(ConfigError, match="residual_gain"):
        CLIPCondUNet(UNetConfig(6, base=8, residual_gain=3.0))


@pytest.mark.parametrize("guidance", [1.0, 2.0])
@pytest.mark.parametrize(("sampler", "eta"), [("dpm-solver++", 0.0), ("ddim", 0.0), ("ddim", 1.0)])
def test_a_network_that_finds_nothing_to_add_paints_the_layout(
    guidance: float, sampler: SamplerName, eta: float
) -> None:
    """An output of v = a eps - s 0 at every step is a residual of 0, whatever the sampler."""

    class Nothing(torch.nn.Module):
        def forward(
            self, x: torch.Tensor, z: torch.Tensor, t: torch.Tensor, layout: torch.Tensor
        ) -> torch.Tensor:
            bar = torch.from_numpy(SCHEDULER.alphas_cumprod)[t].float().view(-1, 1, 1, 1)
            return bar.sqrt() / (1 - bar).sqrt() * x

    layout = some_layouts()
    painted = sample(
        TorchDenoiser(Nothing()),
        sampling_plan(sampler, SCHEDULER, 5, eta),
        torch.zeros(3, 6),
        size=8,
        guidance=guidance,
        layout=layout,
        residual=Residual.around(layout, (8, 8), 3.0),
        generators=noise_generators(0, [b"a", b"b", b"c"]),
    )
    torch.testing.assert_close(painted, layout[:, :3], atol=1e-5, rtol=0)


def test_guidance_keeps_the_layout_in_both_halves() -> None:
    seen = []

    class Watching(torch.nn.Module):
        def forward(
            self, x: torch.Tensor, z: torch.Tensor, t: torch.Tensor, layout: torch.Tensor
        ) -> torch.Tensor:
            seen.append((z, layout))
            return torch.zeros_like(x)

    layout, z = some_layouts(), torch.ones(3, 6)
    for residual in (Residual.around(layout, (8, 8), 3.0), None):
        sample(
            TorchDenoiser(Watching()),
            sampling_plan("dpm-solver++", SCHEDULER, 1),
            z,
            size=8,
            guidance=2.0,
            layout=layout,
            residual=residual,
            generators=noise_generators(0, [b"a", b"b", b"c"]),
        )
    with_residual, without = seen
    assert all(torch.equal(vectors[3:], torch.zeros(3, 6)) for vectors, _ in seen)
    assert torch.equal(with_residual[1][3:], layout)
    assert torch.equal(without[1][3:], torch.zeros_like(layout))
