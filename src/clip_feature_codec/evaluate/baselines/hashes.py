"""BlurHash and ThumbHash: pictures of a few cosines, at the sizes that they come in."""

from __future__ import annotations

import math
import string
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clip_feature_codec.errors import ImageError
from clip_feature_codec.evaluate.baselines.baseline import Baseline, Settings
from clip_feature_codec.evaluate.baselines.best_files import Curve, FileSearch
from clip_feature_codec.extras import extra
from clip_feature_codec.images import output_size

BASE83 = string.digits + string.ascii_uppercase + string.ascii_lowercase + "#$%*+,-.:;=?@[]^_{|}~"
"""The digits of BlurHash."""

BLURHASH_SIDE = 64
"""Pixels of the longer side from which cosines are taken, and at which they are drawn."""

THUMBHASH_SIDE = 100
"""The same for ThumbHash, which allows no more."""


class BlurHash(Baseline):
    """BlurHash with the number of cosines, across and down, that is best.

    Its file is the string as written in ASCII; its payload is what the string's digits hold, in whole bytes.
    """

    name, title, kind = "blurhash", "BlurHash", "hash"
    parameters: Mapping[str, Any] = {"components": [1, 9], "side": BLURHASH_SIDE}

    def __init__(self) -> None:
        with extra("eval", "BlurHash"):
            import blurhash
        self.version = f"blurhash-python {blurhash.__version__}"

    def search(self, original: Image.Image, limits: Sequence[int]) -> list[Settings | None]:
        """See `Baseline.search`."""
        files = FileSearch(
            encode=lambda settings: self.encode(original, settings),
            size=len,
            decode=lambda data: self.decode(data, original.size),
            original=original,
        )
        families: list[list[Curve]] = [[[{"x": x, "y": y}]] for x in range(1, 10) for y in range(1, 10)]
        found = [files.best(families, limit) for limit in limits]
        return [finds[0].settings if finds else None for finds in found]

    def encode(self, original: Image.Image, settings: Settings) -> bytes:
        """See `Baseline.encode`."""
        import blurhash

        small = _small(original, BLURHASH_SIDE)  # a new one each time: it is closed in there
        text: str = blurhash.encode(small, settings["x"], settings["y"])
        return text.encode("ascii")

    def payload(self, data: bytes) -> int:
        """See `Baseline.payload`."""
        return math.ceil(len(data) * math.log2(len(BASE83)) / 8)

    def decode(self, data: bytes, size: tuple[int, int]) -> Image.Image:
        """See `Baseline.decode`."""
        import blurhash

        width, height = output_size(size[0] / size[1], BLURHASH_SIDE)
        picture: Image.Image = blurhash.decode(data.decode("ascii"), width, height)
        return picture.convert("RGB").resize(size, Image.Resampling.LANCZOS)

    def describe(self, settings: Settings) -> str:
        """See `Baseline.describe`."""
        return f"{settings['x']} × {settings['y']} components"


class ThumbHash(Baseline):
    """ThumbHash as its author defines it (https://evanw.github.io/thumbhash/), for pictures without alpha.

    There is one file of each picture. It is drawn without the boost of colours by 1.25 that the author's
    decoder adds, which takes it away from the original. The packages of that name ask for an older Pillow,
    decode wrongly, or have no wheels for every Python; hence it is written out here.
    """

    name, title, kind = "thumbhash", "ThumbHash", "hash"
    version = "as of https://evanw.github.io/thumbhash/"
    parameters: Mapping[str, Any] = {"side": THUMBHASH_SIDE}

    def search(self, original: Image.Image, limits: Sequence[int]) -> list[Settings | None]:
        """See `Baseline.search`."""
        size = len(self.encode(original, {}))
        return [{} if size <= limit else None for limit in limits]

    def encode(self, original: Image.Image, settings: Settings) -> bytes:
        """See `Baseline.encode`."""
        return thumbhash(np.asarray(_small(original, THUMBHASH_SIDE)))

    def payload(self, data: bytes) -> int:
        """See `Baseline.payload`."""
        return len(data)

    def decode(self, data: bytes, size: tuple[int, int]) -> Image.Image:
        """See `Baseline.decode`."""
        small = Image.fromarray(draw_thumbhash(data, *output_size(size[0] / size[1], THUMBHASH_SIDE)))
        return small.resize(size, Image.Resampling.LANCZOS)

    def describe(self, settings: Settings) -> str:
        """See `Baseline.describe`."""
        return "its only size"


def thumbhash(pixels: NDArray[np.uint8]) -> bytes:
    """Hash a picture: the first cosines of lightness (up to 7 × 7) and of two colour differences (3 × 3).

    Args:
        pixels: RGB (H, W, 3), H and W at most 100.

    Returns:
        14 to 25 bytes: 5 of header, then 4 bits for each cosine.
    """
    height, width = pixels.shape[:2]
    red, green, blue = (pixels[..., channel] / 255.0 for channel in range(3))
    across = max(1, _round(7 * width / max(width, height)))
    down = max(1, _round(7 * height / max(width, height)))
    l_mean, l_scale, l_waves = _analyse((red + green + blue) / 3, max(3, across), max(3, down))
    p_mean, p_scale, p_waves = _analyse((red + green) / 2 - blue, 3, 3)
    q_mean, q_scale, q_waves = _analyse(red - green, 3, 3)
    wide = width > height
    first = (
        _round(63 * l_mean)
        | _round(31.5 + 31.5 * p_mean) << 6
        | _round(31.5 + 31.5 * q_mean) << 12
        | _round(31 * l_scale) << 18
    )
    second = (down if wide else across) | _round(63 * p_scale) << 3 | _round(63 * q_scale) << 9 | wide << 15
    nibbles: list[int] = [_round(15 * wave) for wave in [*l_waves, *p_waves, *q_waves]]
    pairs = zip(nibbles[::2], [*nibbles[1::2], 0], strict=False)
    header: bytes = first.to_bytes(3, "little") + second.to_bytes(2, "little")
    return header + bytes([low | high << 4 for low, high in pairs])


def draw_thumbhash(data: bytes, width: int, height: int) -> NDArray[np.uint8]:
    """Draw a hash as RGB (height, width, 3).

    Raises:
        ImageError: it is cut short, or of a picture with alpha.
    """
    first, second = int.from_bytes(data[:3], "little"), int.from_bytes(data[3:5], "little")
    if len(data) < 5 or first >> 23:
        raise ImageError("not a ThumbHash of a picture without alpha")
    shorter = max(3, second & 7)
    across, down = (7, shorter) if second >> 15 else (shorter, 7)
    nibbles = iter([nibble for byte in data[5:] for nibble in (byte & 15, byte >> 4)])

    def channel(mean: float, scale: float, columns: int, rows: int) -> NDArray[np.float64]:
        values = np.full((height, width), mean)
        for x, y in _waves(columns, rows):
            wave = next(nibbles, None)
            if wave is None:
                raise ImageError("a ThumbHash is cut short")
            values += 2 * scale * (wave / 7.5 - 1) * np.outer(_cosine(y, height), _cosine(x, width))
        return values

    lightness = channel((first & 63) / 63, (first >> 18 & 31) / 31, across, down)
    yellow = channel((first >> 6 & 63) / 31.5 - 1, (second >> 3 & 63) / 63, 3, 3)
    red_green = channel((first >> 12 & 63) / 31.5 - 1, (second >> 9 & 63) / 63, 3, 3)
    blue = lightness - 2 / 3 * yellow
    red = (3 * lightness - blue + red_green) / 2
    levels = np.stack([red, red - red_green, blue], axis=-1).clip(0.0, 1.0) * 255
    pixels: NDArray[np.uint8] = np.rint(levels).astype(np.uint8)
    return pixels


def _analyse(plane: NDArray[np.float64], columns: int, rows: int) -> tuple[float, float, list[float]]:
    """Mean, greatest magnitude and, between 0 and 1, every cosine of a plane (H, W)."""
    height, width = plane.shape
    waves = [
        float(_cosine(y, height) @ plane @ _cosine(x, width)) / plane.size for x, y in _waves(columns, rows)
    ]
    scale = max(abs(wave) for wave in waves)
    return float(plane.mean()), scale, [0.5 + 0.5 * wave / scale if scale else 0.0 for wave in waves]


def _waves(columns: int, rows: int) -> Iterator[tuple[int, int]]:
    """The waves kept, across and down: a triangle of the lowest, but not the mean."""
    for y in range(rows):
        for x in range(columns):
            if (x or y) and x * rows < columns * (rows - y):
                yield x, y


def _cosine(wave: int, length: int) -> NDArray[np.float64]:
    """One cosine (length,) of DCT-II, at the middles of the samples."""
    values: NDArray[np.float64] = np.cos(np.pi / length * wave * (np.arange(length) + 0.5))
    return values


def _round(value: float) -> int:
    """Half up, as JavaScript does."""
    return math.floor(value + 0.5)


def _small(original: Image.Image, side: int) -> Image.Image:
    return original.resize(output_size(original.width / original.height, side), Image.Resampling.LANCZOS)
