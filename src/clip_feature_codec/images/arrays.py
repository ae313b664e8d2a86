"""Pictures in memory: arrays and tensors as the programs of others hold them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clip_feature_codec.errors import ConfigError
from clip_feature_codec.images.levels import picture_of
from clip_feature_codec.images.limits import MAX_PIXELS
from clip_feature_codec.images.reading import load_image

if TYPE_CHECKING:
    import torch

Picture: TypeAlias = "Image.Image | Path | str | np.ndarray | torch.Tensor"
"""What `as_picture` takes for a picture."""

_EXPECTED = (
    "a path, a Pillow image, a uint8 array (H, W) or (H, W, C), or a tensor (C, H, W) or (H, W, C) "
    "of uint8 or of floats from 0 to 1, C being 1, 3 or 4"
)
_CHANNELS = (1, 3, 4)


def as_picture(source: Picture, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Take a picture in any form that a program may hold it in, as `load_image` gives it out.

    Args:
        source: a path, a Pillow image, a uint8 array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), or a tensor
            of one of these shapes or with the channels first, on any device, uint8 or floats in [0, 1].
            Where a tensor could be either, its channels come first.
        max_pixels: pictures with more pixels are refused.

    Raises:
        ConfigError: it is something else.
        ImageError: it cannot be read as a picture (see `load_image`).
    """
    torch = sys.modules.get("torch")  # without it there are no tensors
    if torch is not None and isinstance(source, torch.Tensor):
        source = _levels(source)
    if isinstance(source, np.ndarray):
        source = _image(source)
    if isinstance(source, str):
        source = Path(source)
    if not isinstance(source, Path | Image.Image):
        raise ConfigError(f"a picture is expected as {_EXPECTED}; found {_described(source)}")
    return load_image(source, max_pixels)


def _image(array: NDArray[Any]) -> Image.Image:
    fits = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in _CHANNELS)
    if array.dtype != np.uint8 or not fits or array.size == 0:
        raise ConfigError(f"a picture is expected as {_EXPECTED}; found {_described(array)}")
    return picture_of(array)


def _levels(tensor: torch.Tensor) -> NDArray[np.uint8]:
    """A tensor as an array (H, W) or (H, W, C) of levels."""
    import torch

    if (tensor.dtype != torch.uint8 and not tensor.is_floating_point()) or tensor.ndim not in (2, 3):
        raise ConfigError(f"a picture is expected as {_EXPECTED}; found {_described(tensor)}")
    values = tensor.detach().cpu()
    if values.is_floating_point():
        values = values.to(torch.float32)
        if not (values.numel() == 0 or (values.min() >= 0 and values.max() <= 1)):  # NaN is neither
            found = f"values from {values.min().item():g} to {values.max().item():g}"
            raise ConfigError(f"a tensor of floats is expected from 0 to 1; found {found}")
        values = values.mul(255.0).round().to(torch.uint8)
    if values.ndim == 3 and values.shape[0] in _CHANNELS:
        values = values.permute(1, 2, 0)
    levels: NDArray[np.uint8] = values.contiguous().numpy()
    return levels


def _described(found: Any) -> str:
    if hasattr(found, "dtype") and hasattr(found, "shape"):
        return f"{type(found).__name__} of {found.dtype} {tuple(found.shape)}"
    return type(found).__name__
