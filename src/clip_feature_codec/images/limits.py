"""How large a picture may be."""

from __future__ import annotations

from collections.abc import Callable

MAX_PIXELS = 178_956_970
"""Pictures with more pixels are refused unless more are allowed (Pillow's own limit)."""

CheckSize = Callable[[int, int], None]
"""Raises ValueError for a width and a height that are not to be decoded."""


def pixel_limit(max_pixels: int) -> CheckSize:
    """Give a check for pictures of 1 to ``max_pixels`` pixels.

    Pillow's own limit is a variable of the process, and would be changed under other threads.
    """

    def check_size(width: int, height: int) -> None:
        if width * height < 1:
            raise ValueError(f"{width}×{height} pixels, expected 1 at least")
        if width * height > max_pixels:
            limit = f"{max_pixels:,} at most: allow more with --max-pixels (in Python: max_pixels=)"
            raise ValueError(f"{width}×{height} pixels, expected {limit}")

    return check_size
