"""Between RGB pictures and tensors in [-1, 1]."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clip_feature_codec.errors import ImageError

if TYPE_CHECKING:
    import torch


def to_tensor(pictures: Sequence[Image.Image]) -> torch.Tensor:
    """Stack pictures as one float32 tensor (N, 3, H, W) in [-1, 1]: v / 127.5 - 1.

    Args:
        pictures: at least one, mode RGB, all of one size.

    Raises:
        ImageError: there are none, or they differ in size, or one is not RGB.
    """
    import torch

    kinds = {(picture.mode, picture.size) for picture in pictures}
    if len(kinds) != 1 or next(iter(kinds))[0] != "RGB":
        raise ImageError(f"a batch needs RGB pictures of one size, found {sorted(kinds) or 'none'}")
    stacked = torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures]))
    return stacked.permute(0, 3, 1, 2).to(torch.float32).contiguous().div_(127.5).sub_(1.0)


def to_pictures(x: NDArray[np.floating] | torch.Tensor) -> list[Image.Image]:
    """Turn an array or a tensor into RGB pictures; `to_tensor`'s inverse, exact for all 256 values.

    Args:
        x: (N, 3, H, W), any float type and device, in [-1, 1]; values outside are clamped, and those
            between two levels are rounded, half to even.

    Raises:
        ImageError: the shape is another one, or a value is NaN.
    """
    if x.ndim != 4 or x.shape[1] != 3:
        raise ImageError(f"pictures need a tensor of shape (N, 3, H, W), found {tuple(x.shape)}")
    values = np.asarray(x if isinstance(x, np.ndarray) else x.detach().float().cpu().numpy(), np.float32)
    if np.isnan(values).any():
        raise ImageError("pictures cannot be made of NaN: what computed them has gone wrong")
    levels = ((values.clip(-1.0, 1.0) + 1.0) * 127.5).round().astype(np.uint8)
    return [Image.fromarray(np.ascontiguousarray(level)) for level in levels.transpose(0, 2, 3, 1)]
