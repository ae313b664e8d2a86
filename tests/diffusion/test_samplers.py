from __future__ import annotations

from typing import Any

import pytest
import torch
from sampler_helpers import AnalyticModel, alpha_bars, ddim_sample, keys, random_unet, unit_vectors
from torch import Tensor

from clip_feature_codec.diffusion.noise import noise_generators
from clip_feature_codec.diffusion.schedule import NoiseScheduler
from clip_feature_codec.diffusion.unet import layout_planes
from clip_feature_codec.errors import ConfigError


def test_without_guidance_each_step_is_one_plain_evaluation() -> None:
    model = AnalyticModel(alpha_bars(40, "cosine", False), "epsilon")
    ddim_sample(
        model,
        NoiseScheduler(40),
        unit_vectors(3, 4),
        size=8,
        steps=5,
        generators=noise_generators(0, keys(3)),
    )
    assert model.rows == [3] * 5


def test_half_precision_outputs_are_stepped_in_float32() -> None:
    model = AnalyticModel(alpha_bars(40, "cosine", False), "v", torch.bfloat16)
    found = ddim_sample(
        model,
        NoiseScheduler(40, prediction="v"),
        unit_vectors(1, 4),
        size=8,
        steps=4,
        generators=noise_generators(0, keys(1)),
    )
    assert found.dtype == torch.float32
    assert float(found.abs().max()) <= 1.0


@pytest.mark.parametrize("guidance", [1.0, 2.0])
@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize(("prediction", "zero_terminal"), [("epsilon", False), ("v", True)])
def test_a_picture_is_the_same_whatever_its_batch(
    prediction: Any, zero_terminal: bool, eta: float, guidance: float
) -> None:
    unet, scheduler = random_unet(), NoiseScheduler(100, "cosine", prediction, zero_terminal)
    z, names = unit_vectors(5, 8), keys(5)

    def sample(rows: list[int]) -> Tensor:
        return ddim_sample(
            unet,
            scheduler,
            z[rows],
            size=16,
            steps=10,
            eta=eta,
            guidance=guidance,
            generators=noise_generators(11, [names[row] for row in rows]),
        )

    together = sample([0, 1, 2, 3, 4])
    assert float((together[0] - together[1]).abs().max()) > 0.1
    for rows in ([0], [3], [4, 2, 0]):
        torch.testing.assert_close(sample(rows), together[rows], rtol=0, atol=1e-4)


LAYOUTS = layout_planes(
    torch.randint(0, 256, (5, 3, 6, 6), generator=torch.Generator().manual_seed(2), dtype=torch.uint8),
    torch.tensor([True, True, False, True, False]),
)


def sample_mixed(rows: list[int], layout: Tensor | None = LAYOUTS, **options: Any) -> Tensor:
    """Rows with both conditions, one of them or (the last) none."""
    z, names = unit_vectors(5, 8), keys(5)
    z[3:] = 0
    return ddim_sample(
        random_unet(layout=6),
        NoiseScheduler(100, "cosine", "v", True),
        z[rows],
        size=16,
        steps=6,
        layout=None if layout is None else layout[rows],
        generators=noise_generators(11, [names[row] for row in rows]),
        **options,
    )


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_mixed_conditions_are_independent_of_the_batch(guidance: float) -> None:
    together = sample_mixed([0, 1, 2, 3, 4], guidance=guidance)
    for rows in ([0], [2], [3], [4], [3, 1, 2]):
        torch.testing.assert_close(sample_mixed(rows, guidance=guidance), together[rows], rtol=0, atol=1e-4)
    without = sample_mixed([0, 1, 2, 3, 4], layout=None, guidance=guidance)
    torch.testing.assert_close(without[[2, 4]], together[[2, 4]], rtol=0, atol=1e-4)
    assert all(float((without - together)[row].abs().max()) > 0.1 for row in (0, 1, 3))


def test_noise_depends_on_seed_and_key_and_nothing_else() -> None:
    def draw(seed: int, key: bytes) -> Tensor:
        (generator,) = noise_generators(seed, [key])
        return torch.from_numpy(generator.normal(4, 8, 8))

    state = torch.get_rng_state()
    torch.testing.assert_close(draw(1, b"a"), draw(1, b"a"), rtol=0, atol=0)
    drawn = [draw(1, b"a"), draw(2, b"a"), draw(1, b"b"), draw(-1, b"a"), draw(2**70, b"a"), draw(1, b"")]
    for i, first in enumerate(drawn):
        assert all(not torch.equal(first, second) for second in drawn[i + 1 :])
    assert torch.equal(torch.get_rng_state(), state)


def test_sampling_leaves_the_global_generator_and_the_gradients_alone() -> None:
    state = torch.get_rng_state()
    found = ddim_sample(
        random_unet(),
        NoiseScheduler(20),
        unit_vectors(1, 8),
        size=16,
        steps=3,
        eta=1.0,
        generators=noise_generators(0, keys(1)),
    )
    assert torch.equal(torch.get_rng_state(), state)
    assert not found.requires_grad


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"guidance": float("inf")}, "guidance is inf"),
        ({"size": 0}, "size is 0"),
        ({"size": 18}, "18×18"),
        ({"generators": noise_generators(0, keys(1))}, "1 noise generators"),
        ({"z": torch.zeros(8)}, r"\(8,\)"),
        ({"z": torch.zeros(0, 8), "generators": []}, r"\(0, 8\)"),
        ({"layout": torch.zeros(3, 4, 6, 6)}, r"\(3, 4, 6, 6\); give \(2, 4, S, S\)"),
        ({"layout": torch.zeros(2, 4, 6, 6)}, "takes none at all"),
    ],
)
def test_senseless_options_are_refused(options: dict[str, Any], message: str) -> None:
    usual = {"z": unit_vectors(2, 8), "size": 16, "steps": 2, "generators": noise_generators(0, keys(2))}
    with pytest.raises(ConfigError, match=message):
        ddim_sample(random_unet(), NoiseScheduler(20), **(usual | options))
