"""The search for the best file under a limit, on codecs made up for it."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from clip_feature_codec.evaluate.baselines.baseline import Settings
from clip_feature_codec.evaluate.baselines.best_files import Curve, FileSearch

ORIGINAL = Image.new("RGB", (4, 4))


class MadeUp:
    """A codec whose files have the sizes and errors that two functions say; it counts what is made."""

    def __init__(self, sizes, errors) -> None:
        self.sizes, self.errors, self.made = sizes, errors, []

    def encode(self, settings: Settings) -> bytes:
        self.made.append(settings)
        text = f"{settings['side']} {settings['quality']} "
        return text.encode().ljust(self.sizes(**settings), b".")

    def decode(self, data: bytes) -> Image.Image:
        side, quality = (int(part) for part in data.split()[:2])
        return Image.new("RGB", (4, 4), (self.errors(side=side, quality=quality),) * 3)

    def search(self, stride: int = 4) -> FileSearch:
        return FileSearch(self.encode, len, self.decode, ORIGINAL, stride)


def family(sides: int, qualities: int) -> list[Curve]:
    return [
        [{"side": side, "quality": quality} for quality in range(qualities)] for side in range(1, sides + 1)
    ]


def test_the_best_is_found_and_little_is_made():
    # The larger the picture, the less is lost by scaling and the more by quality.
    def error(side: int, quality: int) -> int:
        return 10 + abs(side - 37) + (100 - quality)

    codec = MadeUp(lambda side, quality: 20 + side * (quality + 1), error)
    finds = codec.search().best([family(64, 100)], 1000)
    allowed = [s for curve in family(64, 100) for s in curve if codec.sizes(**s) <= 1000]
    least = min(error(**settings) for settings in allowed)
    assert finds[0].psnr == 20 * math.log10(255 / least)
    assert error(**finds[0].settings) == least
    assert [find.psnr for find in finds] == sorted((find.psnr for find in finds), reverse=True)
    assert len(codec.made) < len(allowed) / 8


def test_nothing_is_made_twice_for_many_limits():
    codec = MadeUp(lambda side, quality: 20 + side * (quality + 1), lambda side, quality: 150 - quality)
    search = codec.search(stride=1)
    for limit in (400, 100, 1000, 400):
        search.best([family(16, 50)], limit)
    assert len(codec.made) == len({tuple(settings.items()) for settings in codec.made})


@given(
    sizes=st.lists(st.integers(10, 60), min_size=1, max_size=40),
    limit=st.integers(5, 60),
)
def test_no_file_is_above_the_limit_whatever_the_sizes(sizes: list[int], limit: int):
    codec = MadeUp(lambda side, quality: sizes[quality], lambda side, quality: 200 - quality)
    for find in codec.search().best([family(1, len(sizes))], limit):
        assert sizes[find.settings["quality"]] <= limit


@given(rises=st.lists(st.integers(0, 3), min_size=1, max_size=60), limit=st.integers(5, 90))
def test_of_a_rising_curve_the_last_that_fits_is_found(rises: list[int], limit: int):
    sizes = (10 + np.cumsum(rises)).tolist()
    codec = MadeUp(lambda side, quality: sizes[quality], lambda side, quality: 200 - quality)
    finds = codec.search().best([family(1, len(sizes))], limit)
    fitting = [quality for quality, size in enumerate(sizes) if size <= limit]
    assert [find.settings["quality"] for find in finds[:1]] == fitting[-1:]


def test_every_family_is_tried():
    families = [[curve] for curve in family(9, 5)]
    codec = MadeUp(lambda side, quality: 30, lambda side, quality: 100 if side == 7 else 200)
    assert codec.search().best(families, 30)[0].settings["side"] == 7


def test_identical_pictures_are_better_than_all_others():
    codec = MadeUp(lambda side, quality: 30, lambda side, quality: 0)
    assert codec.search().best([family(1, 1)], 30)[0].psnr == math.inf
