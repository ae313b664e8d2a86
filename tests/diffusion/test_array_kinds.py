from __future__ import annotations

import numpy as np
import pytest
import torch

from clip_feature_codec.diffusion.arrays import bicubic
from clip_feature_codec.diffusion.noise import noise_generators
from clip_feature_codec.diffusion.plans import SamplerName, sampling_plan
from clip_feature_codec.diffusion.residual import Residual
from clip_feature_codec.diffusion.samplers import sample
from clip_feature_codec.diffusion.schedule import NoiseScheduler


class Tanh:
    """A stand-in for a network that is written in operators alone, for arrays of one kind."""

    def __init__(self, kind: type) -> None:
        self.kind = kind

    def array(self, values):
        return np.asarray(values) if self.kind is np.ndarray else torch.as_tensor(values)

    def __call__(self, x, z, t, layout):
        assert isinstance(x, self.kind)
        assert isinstance(z, self.kind)
        shift = z[:, :1, None, None] * 0.5
        return x * 0.3 + shift + (0 if layout is None else layout[:, 3:, :1, :1] * 0.1) - t * 1e-3


@pytest.mark.parametrize(
    ("old", "new"), [((48, 48), (64, 64)), ((5, 9), (20, 11)), ((8, 8), (8, 8)), ((16, 16), (7, 5))]
)
def test_both_kinds_of_pictures_are_enlarged_alike(old: tuple[int, int], new: tuple[int, int]) -> None:
    pictures = np.random.default_rng(0).normal(size=(2, 3, *old)).astype(np.float32)
    found = bicubic(pictures, new)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, bicubic(torch.from_numpy(pictures), new).numpy(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("layouts", [False, True])
@pytest.mark.parametrize("guidance", [1.0, 2.5])
@pytest.mark.parametrize(("sampler", "eta"), [("dpm-solver++", 0.0), ("ddim", 0.0), ("ddim", 0.7)])
def test_both_kinds_are_sampled_alike(
    sampler: SamplerName, eta: float, guidance: float, layouts: bool
) -> None:
    scheduler = NoiseScheduler(100, prediction="v", zero_terminal_snr=True)
    rng = np.random.default_rng(0)
    z = rng.normal(size=(3, 8)).astype(np.float32)
    layout = rng.uniform(-1, 1, (3, 4, 6, 6)).astype(np.float32) if layouts else None
    found = []
    for kind in (np.ndarray, torch.Tensor):
        model = Tanh(kind)
        told = None if layout is None else model.array(layout)
        painted = sample(
            model,
            sampling_plan(sampler, scheduler, 6, eta),
            z,
            size=8,
            guidance=guidance,
            layout=told,
            residual=Residual.around(told, (8, 8), 3.0),
            generators=noise_generators(0, [b"a", b"b", b"c"]),
        )
        assert isinstance(painted, kind)
        found.append(np.asarray(painted))
    assert found[0].dtype == np.float32
    assert found[0].std() > 0.1
    np.testing.assert_allclose(*found, rtol=0, atol=2e-5)
