"""Other ways to keep a picture in a few dozen bytes: thumbnails, BlurHash and ThumbHash."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import blurhash
import imagecodecs
import numpy as np
import thumbhash
from PIL import Image

from clip_feature_codec.images import output_size

SIDES = (4, 6, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 128)
QUALITIES = (0, 2, 5, 10, 15, 20, 30, 40, 50, 60, 70, 80, 90)
DISTANCES = (25.0, 20.0, 15.0, 11.0, 8.0, 6.0, 4.5, 3.0, 2.0, 1.0)
LOSSLESS_UP_TO = 8  # pixels of the longer side
UPSCALERS = (Image.Resampling.BICUBIC, Image.Resampling.LANCZOS)


@dataclass(frozen=True)
class Codec:
    """A way to keep pictures.

    Attributes:
        name: as in options and results.
        files: every file of a picture that is at most so many bytes, over its scales and qualities.
        open: a file's picture, brought to (width, height).
    """

    name: str
    files: Callable[[Image.Image, int], Iterator[bytes]]
    open: Callable[[bytes, tuple[int, int], Image.Resampling], Image.Image]


def _thumbnail(picture: Image.Image, side: int) -> Image.Image:
    return picture.resize(output_size(picture.width / picture.height, side), Image.Resampling.LANCZOS)


def _scaled(
    picture: Image.Image, limit: int, encoders: list[Callable[[Image.Image], bytes]]
) -> Iterator[bytes]:
    """Files of thumbnails; encoders go from the smallest files to the largest."""
    for side in SIDES:
        small, found = _thumbnail(picture, side), False
        for encode in encoders:
            data = encode(small)
            if len(data) <= limit:
                found = True
                yield data
            elif found:
                break
        if not found and side >= LOSSLESS_UP_TO:  # from here on files only grow
            return


def _saved(picture: Image.Image, image_format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, format=image_format, **options)
    return file.getvalue()


def _pillow_files(picture: Image.Image, limit: int, image_format: str, **options: Any) -> Iterator[bytes]:
    encoders: list[Callable[[Image.Image], bytes]] = [
        partial(_saved, image_format=image_format, quality=quality, **options) for quality in QUALITIES
    ]
    yield from _scaled(picture, limit, encoders)
    if image_format == "WEBP":
        for side in (side for side in SIDES if side <= LOSSLESS_UP_TO):
            data = _saved(_thumbnail(picture, side), image_format, lossless=True, quality=100, method=6)
            if len(data) <= limit:
                yield data


def _jxl(picture: Image.Image, distance: float) -> bytes:
    return bytes(imagecodecs.jpegxl_encode(np.asarray(picture), distance=distance, effort=9))


def _jxl_files(picture: Image.Image, limit: int) -> Iterator[bytes]:
    encoders: list[Callable[[Image.Image], bytes]] = [partial(_jxl, distance=d) for d in DISTANCES]
    yield from _scaled(picture, limit, encoders)


def _blurhash_files(picture: Image.Image, limit: int) -> Iterator[bytes]:
    """Hashes of 1 to 9 by 1 to 9 components, but for those far from the picture's shape."""
    small = _thumbnail(picture, 64)
    aspect = picture.width / picture.height
    for x in range(1, 10):
        for y in range(1, 10):
            if 4 + 2 * x * y <= limit and abs(x - y * aspect) <= max(1.0, aspect) + 1:
                yield blurhash.encode(small.copy(), x, y).encode("ascii")  # it closes its input


def _thumbhash_files(picture: Image.Image, limit: int) -> Iterator[bytes]:
    data = base64.b64decode(thumbhash.image_to_thumbhash(_thumbnail(picture, 100)))
    if len(data) <= limit:
        yield data


def _open_pillow(data: bytes, size: tuple[int, int], upscaler: Image.Resampling) -> Image.Image:
    return Image.open(io.BytesIO(data)).convert("RGB").resize(size, upscaler)


def _open_jxl(data: bytes, size: tuple[int, int], upscaler: Image.Resampling) -> Image.Image:
    return Image.fromarray(imagecodecs.jpegxl_decode(data)).convert("RGB").resize(size, upscaler)


def _open_blurhash(data: bytes, size: tuple[int, int], upscaler: Image.Resampling) -> Image.Image:
    """Its cosines are drawn at a quarter of the size, where they are as smooth, and upscaled."""
    width, height = (max(1, side // 4) for side in size)
    small: Image.Image = blurhash.decode(data.decode("ascii"), width, height)
    return small.convert("RGB").resize(size, upscaler)


def _open_thumbhash(data: bytes, size: tuple[int, int], upscaler: Image.Resampling) -> Image.Image:
    """Without the boost of colours that is its default, which takes it away from the original."""
    small: Image.Image = thumbhash.thumbhash_to_image(data, 64, 1.0)
    return small.convert("RGB").resize(size, upscaler)


CODECS = (
    Codec("blurhash", _blurhash_files, _open_blurhash),
    Codec("thumbhash", _thumbhash_files, _open_thumbhash),
    Codec("jpeg", partial(_pillow_files, image_format="JPEG", optimize=True), _open_pillow),
    Codec("webp", partial(_pillow_files, image_format="WEBP", method=6), _open_pillow),
    Codec("avif", partial(_pillow_files, image_format="AVIF", speed=4), _open_pillow),
    Codec("jxl", _jxl_files, _open_jxl),
)
"""The codecs, by the names of the command line's options."""
