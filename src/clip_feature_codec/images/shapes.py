"""The size and the shape of pictures."""

from __future__ import annotations

import math

from PIL import Image

from clip_feature_codec.errors import ConfigError

LONGEST = 128.0
"""The longest shape that a stream can say, and says of everything longer (docs/clp-format.md)."""


_LONGEST_STRIP = 16


def squash(picture: Image.Image, size: int) -> Image.Image:
    """Resize to ``size`` × ``size`` pixels whatever the aspect ratio (see `resize_to`)."""
    return resize_to(picture, (size, size))


def resize_to(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Resize to (width, height) pixels with Pillow's bicubic filter, which is antialiased when it shrinks."""
    return picture.resize(size, Image.Resampling.BICUBIC)


def output_size(aspect: float, size: int) -> tuple[int, int]:
    """Give the (width, height) whose longer side is ``size`` and whose ratio is nearest to ``aspect``.

    A ratio of `LONGEST` is what a stream says of every picture of more than about 85 to 1, a line of pixels
    among them. Such a picture is drawn at half the width that the ratio asks for, so that a line stays one.

    Args:
        aspect: width / height.
        size: pixels of the longer side.

    Raises:
        ConfigError: ``aspect`` is not a positive finite number, or ``size`` is below 1.
    """
    if not (math.isfinite(aspect) and aspect > 0):
        raise ConfigError(f"an aspect ratio must be a positive number, found {aspect}")
    if size < 1:
        raise ConfigError(f"a picture's size must be at least 1 pixel, found {size}")
    exact = size / aspect if aspect >= 1 else size * aspect
    if aspect in (LONGEST, 1 / LONGEST):
        exact /= 2
    shorter = max(1, round(exact))
    return (size, shorter) if aspect >= 1 else (shorter, size)


def middle_of_strip(picture: Image.Image) -> Image.Image:
    """Cut a picture of over 1:16 down to that.

    Models that crop to the central square see nothing of the rest, but resize it first: a line of pixels,
    224 times as long and wide, takes gigabytes.
    """
    limit = _LONGEST_STRIP * min(picture.size)
    if max(picture.size) <= limit:
        return picture
    width, height = (min(side, limit) for side in picture.size)
    left, top = (picture.width - width) // 2, (picture.height - height) // 2
    return picture.crop((left, top, left + width, top + height))
