"""JPEG XL files, by imagecodecs: the plug-ins for Pillow are under the GPL."""

from __future__ import annotations

from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clip_feature_codec.images.jxl_header import (
    SPACE_GREY,
    SPACE_RGB,
    TRANSFER_LINEAR,
    TRANSFER_SRGB,
    Colours,
    Header,
    read_header,
)
from clip_feature_codec.images.levels import integer_levels, picture_of
from clip_feature_codec.images.limits import CheckSize
from clip_feature_codec.images.profiles import matrix_profile


def read_jxl(file: BinaryIO, check_size: CheckSize) -> Image.Image:
    """Decode the first frame of a JPEG XL file to 8 bits.

    The decoder turns it upright; an EXIF orientation in the container only informs (ISO/IEC 18181-2).

    Args:
        file: at its beginning.
        check_size: called with width and height before any pixel is decoded.

    Raises:
        ValueError: its colours are described by an ICC profile, which the library does not give out, are of
            high dynamic range, or are none.
    """
    data = file.read()
    header = read_header(data)
    check_size(header.width, header.height)
    if header.colours is None:
        raise ValueError("found colours described by an ICC profile in JPEG XL, expected numbered ones")
    _refuse_unknown(header.colours)

    import imagecodecs

    values = imagecodecs.jpegxl_decode(data, index=0, numthreads=1)
    levels = _levels(np.atleast_3d(values), header)
    picture = picture_of(levels)
    if header.premultiplied and picture.mode.endswith("A"):
        picture = picture_of(levels, picture.mode.replace("A", "a"))
    if header.colours.space == SPACE_RGB and not header.colours.has_srgb_primaries:
        picture.info["icc_profile"] = matrix_profile(header.colours.white, header.colours.primaries)
    return picture


def _refuse_unknown(colours: Colours) -> None:
    if colours.space not in (SPACE_RGB, SPACE_GREY):
        raise ValueError(f"found colour space {colours.space}, expected RGB or grey")
    if colours.transfer not in (None, TRANSFER_LINEAR, TRANSFER_SRGB):
        raise ValueError(f"found transfer function {colours.transfer}, expected sRGB's, linear or a power")


def _levels(values: NDArray[Any], header: Header) -> NDArray[np.uint8]:
    """Bring samples (H, W, C) of any transfer function to sRGB's, at full depth, and round them."""
    floats = values.dtype.kind == "f"
    linear = header.colours is not None and header.colours.transfer != TRANSFER_SRGB
    if not floats and not linear:
        return integer_levels(values, header.bits)
    samples = values.astype(np.float32) / (1 if floats else 2**header.bits - 1)
    if linear and header.colours is not None:
        count = 3 if header.colours.space == SPACE_RGB else 1
        samples[..., :count] = _srgb_curve(samples[..., :count].clip(0.0, 1.0) ** header.colours.gamma)
    levels: NDArray[np.uint8] = np.rint(np.nan_to_num(samples).clip(0.0, 1.0) * 255).astype(np.uint8)
    return levels


def _srgb_curve(light: NDArray[Any]) -> NDArray[Any]:
    """From light, 0 to 1, to sRGB's samples, 0 to 1 (IEC 61966-2-1)."""
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
