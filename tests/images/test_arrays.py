"""Pictures in memory (fault 15): arrays and tensors in the shapes that programs hold them in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from made_files import largest_difference, over_white, pixels, smooth
from PIL import Image

from clip_feature_codec.errors import ConfigError, ImageError
from clip_feature_codec.images import as_picture, load_image, save_image


def levels(channels: int) -> np.ndarray:
    """A picture (H, W, C) of noise."""
    return np.random.default_rng(channels).integers(0, 256, (20, 30, channels), dtype=np.uint8)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_arrays_and_tensors(channels: int):
    array = levels(channels)
    expected = np.rint(over_white(array / 255))
    last = torch.from_numpy(array)
    first = last.permute(2, 0, 1)
    for given_picture in (
        array,
        last,
        first,
        first.contiguous(),
        last / 255,
        first / 255,
        (first / 255).double(),
    ):
        picture = as_picture(given_picture)
        assert (picture.mode, picture.size) == ("RGB", (30, 20))
        assert np.abs(pixels(picture) - expected).max() <= (1 if channels == 4 else 0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype: torch.dtype):
    tensor = (torch.from_numpy(levels(3)) / 255).to(dtype)
    exact = tensor.float().numpy() * 255
    assert np.abs(pixels(as_picture(tensor)) - exact).max() <= 0.5


def test_two_axes_are_grey():
    grey = levels(1)[..., 0]
    for given_picture in (grey, torch.from_numpy(grey), torch.from_numpy(grey) / 255):
        assert (pixels(as_picture(given_picture)) == grey[..., None]).all()


def test_views_are_taken_as_they_look():
    flipped = levels(3)[::-1, ::2]
    assert not flipped.flags.c_contiguous
    assert (pixels(as_picture(flipped)) == flipped).all()
    assert (pixels(as_picture(torch.from_numpy(levels(3)).flip(0)[:, ::2])) == flipped).all()


def test_a_tensor_that_could_be_either_has_its_channels_first():
    tensor = torch.zeros(3, 5, 3, dtype=torch.uint8)
    tensor[0] = 255
    picture = as_picture(tensor)
    assert (picture.size, picture.getpixel((0, 0))) == ((3, 5), (255, 0, 0))


def test_tensors_that_carry_a_gradient():
    assert as_picture(torch.full((3, 2, 2), 0.5, requires_grad=True)).getpixel((0, 0)) == (128, 128, 128)


@given(st.lists(st.integers(0, 255), min_size=1, max_size=20))
def test_every_level_survives_the_way_through_floats(values: list[int]):
    tensor = torch.tensor(values, dtype=torch.float32).reshape(1, 1, -1) / 255
    assert pixels(as_picture(tensor))[0, :, 0].tolist() == values


def test_files_and_images(tmp_path: Path):
    save_image(smooth(), tmp_path / "x.png")
    for source in (tmp_path / "x.png", str(tmp_path / "x.png"), smooth()):
        assert largest_difference(as_picture(source), smooth()) == 0
    image = Image.new("LA", (3, 2), (10, 0))
    assert largest_difference(as_picture(image), load_image(image)) == 0


@pytest.mark.parametrize(
    ("source", "found"),
    [
        (None, "NoneType"),
        (7, "int"),
        (["a.jpg"], "list"),
        (b"bytes", "bytes"),
        (np.zeros((8, 8, 3), np.float32), r"ndarray of float32 \(8, 8, 3\)"),
        (np.zeros((8, 8, 2), np.uint8), r"\(8, 8, 2\)"),
        (np.zeros((3, 8, 8), np.uint8), r"\(3, 8, 8\)"),
        (np.zeros((1, 8, 8, 3), np.uint8), r"\(1, 8, 8, 3\)"),
        (np.zeros((0, 8, 3), np.uint8), r"\(0, 8, 3\)"),
        (np.zeros((8, 8), bool), "bool"),
        (np.array(None), "object"),
        (torch.zeros(1, 3, 8, 8), r"Tensor of torch.float32 \(1, 3, 8, 8\)"),
        (torch.zeros(8, 8, 3, dtype=torch.int64), "torch.int64"),
        (torch.zeros(8, dtype=torch.uint8), r"\(8,\)"),
        (torch.zeros(3, 0, 8), r"\(0, 8, 3\)"),
        (torch.zeros(2, 8, 8), r"\(2, 8, 8\)"),
        (torch.full((3, 2, 2), 255.0), "values from 255 to 255"),
        (torch.full((3, 2, 2), -1.0), "values from -1 to -1"),
        (torch.full((3, 2, 2), float("nan")), "values from nan to nan"),
    ],
)
def test_the_rest_is_refused_with_what_was_found_and_expected(source: object, found: str):
    with pytest.raises(ConfigError, match=f"expected .*found .*{found}") as caught:
        as_picture(source)
    assert "\n" not in str(caught.value)


def test_the_limit_of_pixels():
    with pytest.raises(ImageError, match="30×20 pixels, expected 599 at most"):
        as_picture(levels(3), max_pixels=599)
    assert as_picture(levels(3), max_pixels=600).size == (30, 20)
