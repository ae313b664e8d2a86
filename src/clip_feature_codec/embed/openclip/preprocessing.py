"""What open_clip does to a picture before its model sees it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image

from clip_feature_codec.images import middle_of_strip


class OpenClipPreprocess:
    """A model's own preprocessing of one picture; travels to worker processes.

    Args:
        config: as a `ClipSpace` has it: size, mean, std, interpolation, resize_mode, ...
    """

    def __init__(self, config: dict[str, Any]) -> None:
        self._transform = image_transform_v2(PreprocessCfg(**config), is_train=False)
        self._crops = config["resize_mode"] == "shortest"

    def __call__(self, picture: Image.Image) -> NDArray[np.float32]:
        """Turn an RGB picture of any size into float32 (3, S, S)."""
        if self._crops:
            picture = middle_of_strip(picture)
        pixels: NDArray[np.float32] = self._transform(picture).numpy()
        return pixels


def input_size(config: dict[str, Any]) -> tuple[int, int]:
    """Height and width in pixels of what the model sees."""
    size: int | Sequence[int] = config["size"]
    return (size, size) if isinstance(size, int) else (size[0], size[1])
