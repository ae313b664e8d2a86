"""Pictures to tensors in [-1, 1] and back."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from made_files import pixels, smooth
from PIL import Image

from clip_feature_codec.errors import ImageError
from clip_feature_codec.images import to_pictures, to_tensor


def every_level() -> Image.Image:
    levels = np.arange(256, dtype=np.uint8)
    return Image.fromarray(np.stack([levels, levels[::-1], np.roll(levels, 7)], axis=1)[None])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_round_trip_is_exact_for_every_level(dtype: torch.dtype):
    tensor = to_tensor([every_level(), every_level().transpose(Image.Transpose.ROTATE_180)])
    assert tensor.shape == (2, 3, 1, 256)
    assert tensor.dtype == torch.float32
    assert tensor.is_contiguous()
    first, second = to_pictures(tensor.to(dtype))
    assert (pixels(first) == pixels(every_level())).all()
    assert (pixels(second) == pixels(every_level())[:, ::-1]).all()


def test_the_scale_runs_from_minus_one_to_one():
    tensor = to_tensor([every_level()])
    expected = torch.arange(256, dtype=torch.float64) / 127.5 - 1
    assert tensor[0, 0, 0, 0] == -1.0
    assert tensor[0, 0, 0, 255] == 1.0
    torch.testing.assert_close(tensor[0, 0, 0].double(), expected, atol=1e-7, rtol=0)


def test_rounding_and_clamping():
    # 127.5 and 128.5 levels up from -1 lie exactly between two levels, and go to the even one
    x = torch.tensor([-5.0, -1.0, 127.5 / 127.5 - 1, 1.0, 5.0, float("inf"), float("-inf"), 0.1 / 127.5])
    (picture,) = to_pictures(x.reshape(1, 1, 1, 8).expand(1, 3, 1, 8))
    assert pixels(picture)[0, :, 0].tolist() == [0, 0, 128, 255, 255, 255, 0, 128]


@given(st.lists(st.floats(-1.25, 1.25, width=32), min_size=1, max_size=20))
def test_the_nearest_level_is_taken(values: list[float]):
    x = torch.tensor(values).reshape(1, 1, 1, -1).expand(1, 3, 1, -1)
    levels = pixels(to_pictures(x)[0])[0, :, 0]
    exact = (np.clip(np.array(values, np.float64), -1, 1) + 1) * 127.5
    assert np.abs(levels - exact).max() <= 0.5 + 1e-4


def test_nan_makes_no_picture():
    with pytest.raises(ImageError, match="NaN"):
        to_pictures(torch.full((1, 3, 2, 2), float("nan")))


@pytest.mark.parametrize("shape", [(3, 4, 4), (1, 4, 4, 4), (1, 4, 4, 3)])
def test_other_shapes_are_refused(shape: tuple[int, ...]):
    with pytest.raises(ImageError, match=r"\(N, 3, H, W\)"):
        to_pictures(torch.zeros(shape))


def test_no_pictures_of_an_empty_tensor():
    assert to_pictures(torch.zeros((0, 3, 4, 4))) == []


@pytest.mark.parametrize(
    "pictures",
    [
        [],
        [smooth(4, 4), smooth(4, 5)],
        [smooth(4, 4).convert("L")],
        [smooth(4, 4), smooth(4, 4).convert("RGBA")],
    ],
)
def test_batches_of_mixed_pictures_are_refused(pictures: list[Image.Image]):
    with pytest.raises(ImageError, match="one size"):
        to_tensor(pictures)


def test_importing_images_does_not_import_torch():
    code = "import sys; import clip_feature_codec.images; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
