"""Arrays of either kind, numpy's and torch's: they share operators, and what they do not share is here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

Array = TypeVar("Array", "NDArray[np.float32]", "Tensor")
"""What sampling computes with: the kind that the network takes, on its device."""

_A = -0.75  # of the cubic kernel, as torch has it; -0.5 would be Catmull and Rom's


def bicubic(pictures: Array, size: Sequence[int]) -> Array:
    """Enlarge pictures (N, C, H, W) to a size (height, width) by cubic convolution (Keys 1981).

    Pixels beyond the border are those at the border; nothing is smoothed where a picture becomes smaller.
    """
    if isinstance(pictures, np.ndarray):
        rows, columns = (_weights(old, new) for old, new in zip(pictures.shape[-2:], size, strict=True))
        return np.asarray(rows @ pictures @ columns.T, np.float32)
    from torch.nn.functional import interpolate

    return interpolate(pictures, list(size), mode="bicubic")


def _weights(old: int, new: int) -> NDArray[np.float32]:
    """What each of ``old`` samples counts in each of ``new`` ones, (new, old)."""
    places = (np.arange(new) + 0.5) * old / new - 0.5
    first = np.floor(places).astype(int) - 1
    weights = np.zeros((new, old), np.float32)
    for i in range(4):
        d = np.abs(places - first - i)
        near = (_A + 2) * d**3 - (_A + 3) * d**2 + 1
        far = _A * (d**3 - 5 * d**2 + 8 * d - 4)
        np.add.at(weights, (np.arange(new), (first + i).clip(0, old - 1)), np.where(d <= 1, near, far))
    return weights
