"""What open_clip does to a picture before a model sees it, without open_clip."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


class Squash:
    """Preprocessing that resizes a picture without regard to its shape; travels to worker processes.

    Args:
        config: as a `ClipSpace` has it, with the ``resize_mode`` ``squash``.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        height, width = config["size"]
        self._size = (width, height)
        self._filter = _FILTERS[config["interpolation"]]
        self._mean, self._std = (
            np.asarray(config[name], np.float32).reshape(3, 1, 1) for name in ("mean", "std")
        )

    def __call__(self, picture: Image.Image) -> NDArray[np.float32]:
        """Turn an RGB picture of any size into float32 (3, S, S)."""
        levels = np.asarray(picture.resize(self._size, self._filter)).transpose(2, 0, 1)
        pixels: NDArray[np.float32] = (levels.astype(np.float32) / np.float32(255) - self._mean) / self._std
        return pixels
