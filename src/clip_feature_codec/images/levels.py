"""From decoded samples of every depth to 8-bit pictures: what rounds, and how."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_CHANNELS = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}


def integer_levels(values: NDArray[np.unsignedinteger], bits: int) -> NDArray[np.uint8]:
    """Scale unsigned integers from 0..2^bits - 1 to 0..255, rounded to nearest.

    Args:
        values: any shape; none above 2^bits - 1.
        bits: 1 to 32.
    """
    if bits <= 16:
        return values.astype(np.uint8, copy=False) if bits == 8 else _table(bits)[values]
    return _scaled(values.astype(np.uint64), 2**bits - 1)


def float_levels(values: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Scale floating-point samples of any shape to 0..255, rounded; see `load_image` for their range."""
    values = values.astype(np.float32) if values.dtype == np.float16 else values
    highest = np.max(values, where=np.isfinite(values), initial=0.0)
    scale = 255.0 if highest <= 1.0 else 1.0
    levels: NDArray[np.uint8] = np.rint(np.clip(np.nan_to_num(values) * scale, 0.0, 255.0)).astype(np.uint8)
    return levels


def picture_of(levels: NDArray[np.uint8], mode: str | None = None) -> Image.Image:
    """Make a picture of levels (H, W) or (H, W, C).

    Args:
        levels: 0..255, the alpha channel last.
        mode: Pillow's name for the channels; by default L, LA, RGB or RGBA by their number.
    """
    height, width = levels.shape[:2]
    if mode is None:
        mode = _CHANNELS[1 if levels.ndim == 2 else levels.shape[2]]
    return Image.frombytes(mode, (width, height), np.ascontiguousarray(levels))


@cache
def _table(bits: int) -> NDArray[np.uint8]:
    return _scaled(np.arange(2**bits, dtype=np.uint64), 2**bits - 1)


def _scaled(values: NDArray[np.uint64], highest: int) -> NDArray[np.uint8]:
    levels: NDArray[np.uint8] = ((values * 255 + highest // 2) // highest).astype(np.uint8)
    return levels
