"""BlurHash and ThumbHash."""

from __future__ import annotations

import math

import numpy as np
import pytest
from PIL import Image

from clip_feature_codec.errors import ImageError
from clip_feature_codec.evaluate.baselines.hashes import (
    BASE83,
    BlurHash,
    ThumbHash,
    draw_thumbhash,
    thumbhash,
)
from samples import make_picture


def ramps(width: int, height: int) -> np.ndarray:
    """A picture of whole numbers, the same on every machine."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 255 // (width - 1), y * 255 // (height - 1), (x * y * 7) % 256], -1).astype(np.uint8)


@pytest.mark.parametrize(
    ("width", "height", "expected"),
    [
        (60, 40, "1ff809359a7076778077777777687777807109f878"),
        (31, 100, "1f080a321a70717777777777918008f878"),
        (50, 50, "1f080a371a70767780877777776778787777070997808f07"),
    ],
)
def test_hashes_are_those_of_the_authors_code(width: int, height: int, expected: str):
    """Made with the Rust crate thumbhash (fast_thumbhash 1.0.0), and the same with thumbhash-python 1.0.1."""
    assert thumbhash(ramps(width, height)).hex() == expected


def test_a_hash_is_drawn_as_others_draw_it():
    """Five pixels from thumbhash-python 1.0.1 without its boost of colours."""
    drawn = draw_thumbhash(bytes.fromhex("1ff809359a7076778077777777687777807109f878"), 8, 6).astype(int)
    expected = [[6, 4, 81], [228, 33, 105], [14, 229, 110], [236, 231, 133], [134, 145, 127]]
    assert np.abs(drawn[[0, 0, -1, -1, 3], [0, -1, 0, -1, 4]] - expected).max() <= 1


@pytest.mark.parametrize("size", [(100, 100), (100, 1), (1, 100), (1, 1), (7, 5), (300, 200)])
def test_any_shape_can_be_hashed_and_drawn(size: tuple[int, int]):
    codec, picture = ThumbHash(), make_picture(1, size)
    blob = codec.encode(picture, {})
    assert 14 <= len(blob) <= 25
    assert codec.decode(blob, size).size == size


def test_a_flat_picture_stays_flat():
    drawn = np.asarray(
        ThumbHash().decode(ThumbHash().encode(Image.new("RGB", (40, 20), (90, 90, 90)), {}), (40, 20))
    )
    assert np.abs(drawn.astype(int) - 90).max() <= 4


@pytest.mark.parametrize("data", [b"", b"\0\0\0\0", b"\0\0\x80\x07\0" + bytes(30), bytes(9)])
def test_what_is_no_thumbhash_is_refused(data: bytes):
    with pytest.raises(ImageError, match="ThumbHash"):
        draw_thumbhash(data, 8, 8)


def test_blurhash_takes_the_best_components_that_fit():
    codec, picture = BlurHash(), make_picture(2, (64, 40))
    values = {}
    for x in range(1, 10):
        for y in range(1, 10):
            blob = codec.encode(picture, {"x": x, "y": y})
            assert len(blob) == 4 + 2 * x * y
            error = np.asarray(codec.decode(blob, picture.size), float) - np.asarray(picture)
            values[x, y] = float((error**2).mean())
    for limit, found in zip((20, 60, 200), codec.search(picture, (20, 60, 200)), strict=True):
        fitting = {key: value for key, value in values.items() if 4 + 2 * key[0] * key[1] <= limit}
        assert found is not None
        assert values[found["x"], found["y"]] == min(fitting.values())
    assert codec.search(picture, [5]) == [None]


def test_a_blurhash_without_its_ascii_holds_base_83_digits_in_whole_bytes():
    blob = BlurHash().encode(make_picture(2), {"x": 4, "y": 3})
    assert set(blob.decode()) <= set(BASE83)
    assert len(BASE83) == 83
    assert BlurHash().payload(blob) == math.ceil((83 ** len(blob) - 1).bit_length() / 8)
    assert BlurHash().describe({"x": 4, "y": 3}) == "4 × 3 components"
