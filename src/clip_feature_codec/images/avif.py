"""AVIF files: Pillow's reader, which passes over colours that are named by numbers."""

from __future__ import annotations

from typing import BinaryIO

from PIL import Image

from clip_feature_codec.images.limits import CheckSize
from clip_feature_codec.images.profiles import numbered_profile

_NUMBERS = b"colrnclx"  # the box's type and its form (ISO/IEC 14496-12, 12.1.5)
_PROPERTIES = 2**14  # bytes of a file in which its properties are looked for: they come before all pixels


def read_avif(file: BinaryIO, check_size: CheckSize) -> Image.Image:
    """Decode an AVIF file, its first frame if it is a sequence, to 8 bits.

    Args:
        file: at its beginning.
        check_size: called with width and height before any pixel is decoded.

    Raises:
        ValueError: its colours are of high dynamic range.
    """
    from PIL.AvifImagePlugin import AvifImageFile

    image = AvifImageFile(file)
    check_size(*image.size)
    image.load()
    if not image.info.get("icc_profile"):
        file.seek(0)
        _, found, numbers = file.read(_PROPERTIES).partition(_NUMBERS)
        if found:
            primaries, transfer = int.from_bytes(numbers[:2], "big"), int.from_bytes(numbers[2:4], "big")
            image.info["icc_profile"] = numbered_profile(primaries, transfer)
    return image
