"""Resizing, and the sizes of pictures that come out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_files import largest_difference, pixels, smooth
from PIL import Image

from clip_feature_codec.codec.bitstream import pack, parse
from clip_feature_codec.errors import ConfigError
from clip_feature_codec.images import output_size, resize_to, squash


def test_squash_is_antialiased():
    checks = (np.indices((256, 256)).sum(axis=0) % 2 * 255).astype(np.uint8)
    small = pixels(squash(Image.fromarray(checks).convert("RGB"), 16))
    assert small.shape == (16, 16, 3)
    assert np.abs(small - 127.5).max() <= 2


def test_resizing_to_a_width_and_a_height():
    assert resize_to(smooth(), (10, 20)).size == (10, 20)
    assert largest_difference(resize_to(smooth(), (48, 32)), smooth()) == 0


@pytest.mark.parametrize(
    ("aspect", "expected"),
    [
        (1.0, (256, 256)),
        (2.0, (256, 128)),
        (0.5, (128, 256)),
        (1.5, (256, 171)),
        (1e9, (256, 1)),
        (1e-9, (1, 256)),
    ],
)
def test_output_size(aspect: float, expected: tuple[int, int]):
    assert output_size(aspect, 256) == expected


@given(st.floats(1e-6, 1e6), st.integers(1, 4096))
def test_the_longer_side_is_the_size(aspect: float, size: int):
    width, height = output_size(aspect, size)
    assert max(width, height) == size
    assert min(width, height) >= 1
    assert (width >= height) == (aspect >= 1) or width == height


@pytest.mark.parametrize("aspect", [0.0, -1.0, float("nan"), float("inf")])
def test_impossible_aspects(aspect: float):
    with pytest.raises(ConfigError):
        output_size(aspect, 64)


def test_impossible_sizes():
    with pytest.raises(ConfigError):
        output_size(1.0, 0)


@pytest.mark.parametrize("size", [100, 256, 320])
def test_a_line_of_pixels_stays_one(size: int):
    """Fault 18: a 3000 × 1 picture came back as 256 × 2, the longest shape that a stream can say."""
    for width, height in ((3000, 1), (1, 5000), (1920, 1)):
        aspect = parse(pack(bytes(32), "int8", b"payload", aspect=width / height), bytes(32)).aspect
        assert output_size(aspect, size) == ((size, 1) if width > height else (1, size))


@pytest.mark.parametrize("ratio", [1.5, 10, 64, 127])
def test_shapes_that_a_stream_can_say_are_the_nearest_possible(ratio: float):
    assert output_size(ratio, 1024) == (1024, round(1024 / ratio))
    assert output_size(1 / ratio, 1024) == (round(1024 / ratio), 1024)
