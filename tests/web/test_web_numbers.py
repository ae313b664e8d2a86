"""What painting is made of, in JavaScript and in Python."""

from __future__ import annotations

import numpy as np
import pytest
from engines import in_node, needs_node
from PIL import Image

from clip_feature_codec.diffusion.arrays import bicubic
from clip_feature_codec.diffusion.noise import NoiseGenerator, noise_seeds
from clip_feature_codec.diffusion.plans import sampling_plan
from clip_feature_codec.diffusion.schedule import NoiseScheduler
from samples import make_picture

pytestmark = needs_node
FIELDS = {
    "t": "t",
    "x0FromX": "x0_from_x",
    "x0FromOutput": "x0_from_output",
    "xFromX0": "x_from_x0",
    "xFromX": "x_from_x",
    "xFromLast": "x_from_last",
}


@pytest.mark.parametrize("length", [0, 53, 54, 140])  # the seed and a colon come on top: a block holds 55
def test_noise_is_the_same(length: int):
    stream = bytes(range(length))
    (seed,) = noise_seeds(7, [stream])
    found = in_node("numbers.mjs", "noise", {"seed": 7, "stream": [*stream], "count": 2048})
    assert found["seed"] == seed % 2**32
    expected = NoiseGenerator(seed).normal(2048)
    np.testing.assert_allclose(found["values"], expected, rtol=0, atol=2e-6)  # sines and logarithms differ


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
@pytest.mark.parametrize(("prediction", "zero_terminal_snr"), [("v", True), ("v", False), ("epsilon", False)])
@pytest.mark.parametrize("steps", [1, 2, 12])
def test_plans_are_the_same(schedule: str, prediction: str, zero_terminal_snr: bool, steps: int):
    scheduler = NoiseScheduler(300, schedule, prediction, zero_terminal_snr)  # type: ignore[arg-type]
    found = in_node("numbers.mjs", "plan", {"scheduler": scheduler.to_config(), "steps": steps})
    np.testing.assert_allclose(found["bars"], scheduler.alphas_cumprod, rtol=1e-9, atol=1e-15)
    expected = sampling_plan("dpm-solver++", scheduler, steps)
    assert len(found["steps"]) == len(expected)
    for here, there in zip(found["steps"], expected, strict=True):
        for name, field in FIELDS.items():
            assert here[name] == pytest.approx(getattr(there, field), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(("old", "size"), [(48, 64), (8, 32), (5, 5)])
def test_planes_are_enlarged_alike(old: int, size: int):
    planes = np.random.default_rng(0).normal(size=(1, 3, old, old)).astype(np.float32)
    given = {"planes": planes.ravel().tolist(), "old": old, "size": size}
    found = np.reshape(in_node("numbers.mjs", "enlarged", given), (1, 3, size, size))
    np.testing.assert_allclose(found, bicubic(planes, (size, size)), rtol=0, atol=2e-6)


@pytest.mark.parametrize(
    ("size", "tolerance"),
    [
        ((20, 150), 0),
        ((97, 31), 0),
        ((300, 150), 0),
        ((96, 96), 1),
        ((31, 7), 1),
        ((300, 160), 1),
        ((1, 1), 1),
    ],
)
def test_pictures_are_resized_as_pillow_does_it(size: tuple[int, int], tolerance: int):
    """Exactly along one side; along both, what is rounded in between depends on which is the first."""
    picture = make_picture(3).resize((97, 150))
    given = {"width": 97, "height": 150, "data": [*picture.convert("RGBA").tobytes()]}
    values = in_node("numbers.mjs", "resized", {"picture": given, "width": size[0], "height": size[1]})
    found = np.reshape(values, (size[1], size[0], 4))
    expected = np.asarray(picture.resize(size, Image.Resampling.BICUBIC)).astype(int)
    assert np.abs(found[..., :3] - expected).max() <= tolerance
    assert (found[..., 3] == 255).all()
