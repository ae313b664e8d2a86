"""The best file under a limit, found among many settings while few of them are tried."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from clip_feature_codec.evaluate.baselines.baseline import Settings

Curve = Sequence[Settings]
"""Settings in the order of rising files, such as a thumbnail's at every quality."""

CLOSER = 3
"""Beside so many of the best curves of a family their neighbours are tried, too."""

HOPELESS = 1.5
"""Two curves in a row that are so many dB below the best: the rest of the family is left out."""


class Find(NamedTuple):
    """A file that fits: its PSNR in dB, and its settings."""

    psnr: float
    settings: Settings


class _Place(NamedTuple):
    """A file that fits, as a point of a family of curves."""

    psnr: float
    curve: int
    rung: int


class FileSearch:
    """The files of one picture, each encoded and measured once, however many limits they are tried for.

    Args:
        encode: makes a file.
        size: counts its bytes as limits do.
        decode: makes it a picture as large as ``original``.
        original: RGB.
        stride: every so many curves of a family are tried first; a power of two.
    """

    def __init__(
        self,
        encode: Callable[[Settings], bytes],
        size: Callable[[bytes], int],
        decode: Callable[[bytes], Image.Image],
        original: Image.Image,
        stride: int = 4,
    ) -> None:
        self._stride = stride
        self._encode, self._size, self._decode = encode, size, decode
        self._original = np.asarray(original, dtype=np.float32)
        self._files: dict[tuple[object, ...], tuple[bytes, int]] = {}
        self._psnrs: dict[bytes, float] = {}

    def best(self, families: Sequence[Sequence[Curve]], limit: int) -> list[Find]:
        """Give files that are no larger than ``limit``, the best first; none when nothing fits.

        Args:
            families: curves of which neighbours are alike, such as one per scale. A family is tried
                coarsely, then around its best curves; a family of one curve is always tried.
            limit: bytes.
        """
        finds = [
            Find(place.psnr, family[place.curve][place.rung])
            for family in families
            for place in self._along(family, limit)
        ]
        return sorted(finds, key=lambda find: -find.psnr)  # stable: of equal ones the first

    def _along(self, family: Sequence[Curve], limit: int) -> list[_Place]:
        found: dict[int, _Place] = {}
        top, misses, rung = -np.inf, 0, len(family[0]) // 2
        for at in range(0, len(family), self._stride):
            place = self._fitting(family, at, limit, rung)
            if place is None and not found:
                place = self._anywhere(family, at, limit)
            if place is None or place.psnr < top - HOPELESS:
                misses += 1
                if misses == (2 if found else 4):
                    break
            else:
                misses = 0
            if place is not None:
                found[at], rung, top = place, place.rung, max(top, place.psnr)
        step = self._stride
        while step := step // 2:
            for best in sorted(found.values(), reverse=True)[:CLOSER]:
                for at in (best.curve - step, best.curve + step):
                    if at in range(len(family)) and at not in found:
                        place = self._fitting(family, at, limit, best.rung)
                        if place is not None:
                            found[at] = place
        places = sorted(found.values(), reverse=True)
        return places + [near for place in places[:CLOSER] for near in self._beside(family, place, limit)]

    def _fitting(self, family: Sequence[Curve], at: int, limit: int, guess: int) -> _Place | None:
        """The last rung of a curve that fits: steps that double from a guess, then halves between."""
        curve = family[at]
        low, high, step = -1, len(curve), 1  # low fits, high does not; both beyond the ends at first
        rung = min(guess, high - 1)
        while high - low > 1:
            if self._bytes(curve[rung]) <= limit:
                low = rung
                rung = low + step if high == len(curve) else (low + high) // 2
            else:
                high = rung
                rung = high - step if low == -1 else (low + high) // 2
            rung = min(max(rung, low + 1), high - 1)
            step *= 2
        return None if low < 0 else _Place(self._psnr(curve[low]), at, low)

    def _anywhere(self, family: Sequence[Curve], at: int, limit: int) -> _Place | None:
        """The best of every fourth rung: where hardly anything fits, sizes go up and down."""
        fitting = (rung for rung in range(0, len(family[at]), 4) if self._bytes(family[at][rung]) <= limit)
        return max((_Place(self._psnr(family[at][rung]), at, rung) for rung in fitting), default=None)

    def _beside(self, family: Sequence[Curve], place: _Place, limit: int) -> Iterator[_Place]:
        """Rungs near one that fits: files do not grow at every step, nor do pictures get better."""
        curve = family[place.curve]
        for rung in (place.rung - 1, place.rung + 1, place.rung + 2):
            if rung in range(len(curve)) and self._bytes(curve[rung]) <= limit:
                yield _Place(self._psnr(curve[rung]), place.curve, rung)

    def _file(self, settings: Settings) -> tuple[bytes, int]:
        key = tuple(settings.items())
        if key not in self._files:
            data = self._encode(settings)
            self._files[key] = data, self._size(data)
        return self._files[key]

    def _bytes(self, settings: Settings) -> int:
        return self._file(settings)[1]

    def _psnr(self, settings: Settings) -> float:
        data = self._file(settings)[0]
        if data not in self._psnrs:
            difference = np.asarray(self._decode(data), dtype=np.float32) - self._original
            error = float(np.mean(difference * difference, dtype=np.float64))
            self._psnrs[data] = np.inf if error == 0.0 else 10.0 * float(np.log10(255.0**2 / error))
        return self._psnrs[data]
