"""What the coders of both layers share: their scale of steps, and tables as text in ``codec.json``."""

from __future__ import annotations

import base64
import binascii
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clip_feature_codec.errors import StoreError

STEP_MANTISSAS = (
    65536, 68438, 71468, 74632, 77936, 81386, 84990, 88752,
    92682, 96785, 101070, 105545, 110218, 115098, 120194, 125515,
)  # fmt: skip
"""round(2^16 2^(i / 16)): steps are a sixteenth of an octave apart."""


def to_base64(table: NDArray[Any], dtype: str = "<i2") -> str:
    """A table of integers as base64 text of its values, row by row."""
    return base64.b64encode(table.astype(dtype).tobytes()).decode("ascii")


def from_base64(data: Any, name: str, shape: tuple[int, ...], dtype: str = "<i2") -> NDArray[np.int64]:
    """The table ``name`` out of a JSON object: int64, checked for its size.

    Raises:
        StoreError: it is missing, not base64, or of another size.
    """
    text = data.get(name) if isinstance(data, dict) else None
    if not isinstance(text, str):
        raise StoreError(f"{name}: found {type(text).__name__}, expected base64 text")
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise StoreError(f"{name}: found text that is not base64, expected base64") from None
    expected = int(np.prod(shape)) * np.dtype(dtype).itemsize
    if len(raw) != expected:
        raise StoreError(f"{name}: found {len(raw)} bytes, expected {expected}")
    return np.frombuffer(raw, dtype).reshape(shape).astype(np.int64)
