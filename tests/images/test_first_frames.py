"""The first frame of animations, small or with holes: as giflib, libwebp and libpng read it."""

from __future__ import annotations

import struct

import imagecodecs
import numpy as np
import pytest
from made_files import encoded, largest_difference, over_white, pixels, smooth
from PIL import Image

from clip_feature_codec.images import load_image


def sticker() -> Image.Image:
    """Clear but for two rectangles, of which one is half transparent: encoders store less than the whole."""
    picture = Image.new("RGBA", (64, 48))
    picture.paste((200, 30, 30, 255), (10, 8, 40, 30))
    picture.paste((30, 200, 30, 128), (20, 10, 30, 20))
    return picture


def other() -> Image.Image:
    return Image.new("RGBA", (64, 48), (0, 0, 200, 255))


@pytest.mark.parametrize("first", [sticker(), other(), smooth(64, 48).convert("RGBA")])
@pytest.mark.parametrize("options", [{"lossless": True, "exact": True}, {"quality": 90}, {"quality": 5}])
@pytest.mark.parametrize("animated", [False, True])
def test_webp(first: Image.Image, options: dict[str, object], animated: bool):
    more = {"save_all": True, "append_images": [other(), sticker()]} if animated else {}
    data = encoded(first, "WEBP", **options, **more)
    expected = over_white(imagecodecs.webp_decode(data, index=0) / 255)
    assert np.abs(pixels(load_image(data)) - expected).max() <= 0.501


@pytest.mark.parametrize("animated", [False, True])
@pytest.mark.parametrize("interlaced", [0, 1])
def test_gif(animated: bool, interlaced: int):
    more = {"save_all": True, "append_images": [other()]} if animated else {}
    data = encoded(sticker(), "GIF", interlace=interlaced, **more)
    expected = over_white(imagecodecs.gif_decode(data, index=0) / 255)
    assert np.abs(pixels(load_image(data)) - expected).max() < 1e-6


@pytest.mark.parametrize("background", [0, 1])
def test_a_gif_s_first_frame_smaller_than_the_whole(background: int):
    """What it leaves free is clear, as browsers have it, whatever the background colour."""
    data = bytearray(encoded(Image.new("RGB", (3, 2), (200, 30, 30)), "GIF"))
    at = data.index(b",\0\0\0\0\3\0\2\0")
    struct.pack_into("<HHBB", data, 6, 6, 4, data[10], background)
    struct.pack_into("<HH", data, at + 1, 2, 1)
    expected = np.full((4, 6, 3), 255)
    expected[1:3, 2:5] = (200, 30, 30)
    assert (pixels(load_image(bytes(data))) == expected).all()
    by_giflib = imagecodecs.gif_decode(bytes(data), index=0)
    assert (by_giflib[1:3, 2:5] == expected[1:3, 2:5]).all()


@pytest.mark.parametrize("default_image", [False, True])
def test_png(default_image: bool):
    """With a default image, which is no part of the animation, that one is the picture."""
    data = encoded(
        sticker(), "PNG", save_all=True, append_images=[other(), other()], default_image=default_image
    )
    expected = over_white(imagecodecs.png_decode(data) / 255)
    assert np.abs(pixels(load_image(data)) - expected).max() <= 0.501
    assert largest_difference(load_image(data), load_image(sticker())) == 0


def test_avif():
    still = encoded(smooth(64, 48), "AVIF", quality=90)
    moving = encoded(
        smooth(64, 48), "AVIF", quality=90, save_all=True, append_images=[other().convert("RGB")]
    )
    assert largest_difference(load_image(moving), load_image(still)) <= 6
