"""JPEG, WebP, AVIF and JPEG XL under a few bytes: thumbnails at their best scale and quality."""

from __future__ import annotations

import io
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Literal

import numpy as np
import PIL
from PIL import Image, features

from clip_feature_codec.errors import ConfigError
from clip_feature_codec.evaluate.baselines.baseline import Baseline, Settings
from clip_feature_codec.evaluate.baselines.best_files import Curve, FileSearch
from clip_feature_codec.evaluate.baselines.containers import avif_payload, jpeg_payload, webp_payload
from clip_feature_codec.images import output_size

Counts = Literal["file", "payload"]

SMALLEST = 4
"""Pixels of the longer side of the smallest thumbnail."""

FINISHED = 8
"""So many of the best drafts are encoded again with more effort."""

LOSSLESS_UP_TO = 8
"""Pixels of the longer side up to which a lossless file may be the smaller one."""

FLAT_TABLE = [16] * 64
"""JPEG's quantisation table for luminance and colour at quality 50."""

DISTANCES = tuple(round(25.0 * 0.93**i, 2) for i in range(60))
"""JPEG XL's distances, from the greatest that libjxl takes down to 0.35."""


def sides(longest: int) -> list[int]:
    """Longer sides of thumbnails: every pixel up to 32, then 16 to an octave, up to the picture's own."""
    found = list(range(SMALLEST, 33))
    while found[-1] < longest:
        octave = found[-1]
        found += range(octave + octave // 16, 2 * octave + 1, octave // 16)
    return [side for side in found if side < longest] + [longest]


class Thumbnail(Baseline):
    """A picture format that keeps a scaled-down picture."""

    kind = "classic"
    stride = 2

    def __init__(self, counts: Counts = "file") -> None:
        self.counts = counts
        if counts == "payload":
            self.name, self.title = f"{self.name}:payload", f"{self.title}, payload only"

    @abstractmethod
    def _families(self, longest: int) -> list[list[Curve]]:
        """Settings to try first, one curve for every scale."""

    def _finished(self, settings: Settings) -> Curve:
        """Settings near one of the best that take more effort; none where there are none."""
        return []

    @abstractmethod
    def _save(self, thumbnail: Image.Image, settings: Settings) -> bytes:
        """Make a file of a thumbnail."""

    def _open(self, data: bytes) -> Image.Image:
        return Image.open(io.BytesIO(data))

    def search(self, original: Image.Image, limits: Sequence[int]) -> list[Settings | None]:
        """See `Baseline.search`."""

        @cache
        def shrunk(side: int) -> Image.Image:
            return _shrink(original, side)

        files = FileSearch(
            encode=lambda settings: self._save(shrunk(settings["side"]), settings),
            size=self.counted,
            decode=lambda data: self.decode(data, original.size),
            original=original,
            stride=self.stride,
        )
        families = self._families(max(original.size))

        def best(limit: int) -> Settings | None:
            drafts = files.best(families, limit)
            again = [[curve] for draft in drafts[:FINISHED] if (curve := self._finished(draft.settings))]
            finds = drafts[:1] + files.best(again, limit)[:1]
            return max(finds, key=lambda find: find.psnr).settings if finds else None

        return [best(limit) for limit in limits]

    def encode(self, original: Image.Image, settings: Settings) -> bytes:
        """See `Baseline.encode`."""
        return self._save(_shrink(original, settings["side"]), settings)

    def decode(self, data: bytes, size: tuple[int, int]) -> Image.Image:
        """See `Baseline.decode`."""
        return self._open(data).convert("RGB").resize(size, Image.Resampling.LANCZOS)

    def describe(self, settings: Settings) -> str:
        """See `Baseline.describe`."""
        return f"{settings['side']} px, " + ", ".join(
            str(settings[key]) if isinstance(settings[key], str) else f"{key} {settings[key]}"
            for key in settings
            if key != "side"
        )


class Jpeg(Thumbnail):
    """JPEG with one flat quantisation table: the best one by PSNR, and the shortest header."""

    name, title = "jpeg", "JPEG"
    stride = 1
    parameters: Mapping[str, Any] = {
        "subsampling": ["4:2:0", "4:4:4"],
        "quality": [3, 95],
        "table": FLAT_TABLE,
    }

    def __init__(self, counts: Counts = "file") -> None:
        super().__init__(counts)
        self.version = _pillow("libjpeg_turbo", "libjpeg-turbo")

    def payload(self, data: bytes) -> int:
        """See `Baseline.payload`."""
        return jpeg_payload(data)

    def _families(self, longest: int) -> list[list[Curve]]:
        return [
            [_qualities(side, self.parameters["quality"], subsampling=subsampling) for side in sides(longest)]
            for subsampling in self.parameters["subsampling"]
        ]

    def _save(self, thumbnail: Image.Image, settings: Settings) -> bytes:
        """Baseline or progressive, whichever is smaller: their pixels are the same."""
        options = {key: settings[key] for key in ("quality", "subsampling")}
        files = (
            _saved(thumbnail, "JPEG", optimize=True, progressive=progressive, qtables=[FLAT_TABLE], **options)
            for progressive in (False, True)
        )
        return min(files, key=self.counted)


class WebP(Thumbnail):
    """Lossy WebP, and lossless WebP of a few pixels."""

    name, title = "webp", "WebP"
    stride = 1
    parameters: Mapping[str, Any] = {"quality": [0, 100], "method": 6, "lossless": LOSSLESS_UP_TO}

    def __init__(self, counts: Counts = "file") -> None:
        super().__init__(counts)
        self.version = _pillow("webp", "libwebp")

    def payload(self, data: bytes) -> int:
        """See `Baseline.payload`."""
        return webp_payload(data)

    def _families(self, longest: int) -> list[list[Curve]]:
        lossless: list[Curve] = [
            [{"side": side, "coding": "lossless"}] for side in sides(longest) if side <= LOSSLESS_UP_TO
        ]
        return [
            [_qualities(side, self.parameters["quality"]) for side in sides(longest)],
            *([curve] for curve in lossless),
        ]

    def _save(self, thumbnail: Image.Image, settings: Settings) -> bytes:
        if "quality" in settings:
            return _saved(thumbnail, "WEBP", method=6, quality=settings["quality"])
        return _saved(thumbnail, "WEBP", method=6, lossless=True, quality=100)


class Avif(Thumbnail):
    """AVIF tuned for PSNR, which is not libavif's own choice, drafted fast and finished slowly."""

    name, title = "avif", "AVIF"
    parameters: Mapping[str, Any] = {
        "subsampling": "4:4:4",
        "quality": [0, 99],
        "tune": "psnr",
        "speed": [8, 5],
        "around": 4,
    }

    def __init__(self, counts: Counts = "file") -> None:
        super().__init__(counts)
        if not features.check("avif"):
            raise ConfigError("this Pillow cannot write AVIF: install Pillow 11.3 or later from PyPI")
        self.version = _pillow("avif", "libavif")

    def payload(self, data: bytes) -> int:
        """See `Baseline.payload`."""
        return avif_payload(data)

    def _families(self, longest: int) -> list[list[Curve]]:
        draft, _ = self.parameters["speed"]
        return [[_qualities(side, self.parameters["quality"], speed=draft) for side in sides(longest)]]

    def _finished(self, settings: Settings) -> Curve:
        lowest, highest = self.parameters["quality"]
        around, (_, speed) = self.parameters["around"], self.parameters["speed"]
        near = (max(lowest, settings["quality"] - around), min(highest, settings["quality"] + around))
        return [settings | {"quality": quality, "speed": speed} for quality in range(near[0], near[1] + 1)]

    def _save(self, thumbnail: Image.Image, settings: Settings) -> bytes:
        options = {key: settings[key] for key in ("quality", "speed")}
        fixed = {"subsampling": "4:4:4", "advanced": {"tune": "psnr"}, "max_threads": 1}
        return _saved(thumbnail, "AVIF", **options, **fixed)


class Jxl(Thumbnail):
    """JPEG XL as a naked codestream, with the efforts at which it spends bytes best by PSNR."""

    name, title = "jxl", "JPEG XL"
    parameters: Mapping[str, Any] = {"distance": list(DISTANCES), "effort": [4, 7]}

    def __init__(self, counts: Counts = "file") -> None:
        super().__init__(counts)
        import imagecodecs

        if not imagecodecs.JPEGXL.available:
            raise ConfigError("this build of imagecodecs has no JPEG XL: install imagecodecs from PyPI")
        self.version = f"imagecodecs {imagecodecs.__version__}, {imagecodecs.jpegxl_version()}"

    def payload(self, data: bytes) -> int:
        """See `Baseline.payload`."""
        return len(data)

    def _families(self, longest: int) -> list[list[Curve]]:
        return [
            [
                [{"side": side, "distance": distance, "effort": effort} for distance in DISTANCES]
                for side in sides(longest)
            ]
            for effort in self.parameters["effort"]
        ]

    def _save(self, thumbnail: Image.Image, settings: Settings) -> bytes:
        import imagecodecs

        options = {key: settings[key] for key in ("distance", "effort")}
        return bytes(
            imagecodecs.jpegxl_encode(np.asarray(thumbnail), usecontainer=False, numthreads=1, **options)
        )

    def _open(self, data: bytes) -> Image.Image:
        import imagecodecs

        return Image.fromarray(imagecodecs.jpegxl_decode(data, numthreads=1))


def _qualities(side: int, span: tuple[int, int], **options: Any) -> Curve:
    return [{"side": side, "quality": quality, **options} for quality in range(span[0], span[1] + 1)]


def _shrink(original: Image.Image, side: int) -> Image.Image:
    return original.resize(output_size(original.width / original.height, side), Image.Resampling.LANCZOS)


def _saved(picture: Image.Image, image_format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, format=image_format, **options)
    return file.getvalue()


def _pillow(feature: str, library: str) -> str:
    return f"Pillow {PIL.__version__}, {library} {features.version(feature)}"
