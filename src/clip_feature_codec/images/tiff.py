"""TIFF files: plain ones by Pillow, and those by tifffile that Pillow reads wrongly without a word."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image
from PIL.TiffImagePlugin import TiffImageFile

from clip_feature_codec.images.levels import float_levels, integer_levels, picture_of
from clip_feature_codec.images.limits import CheckSize

if TYPE_CHECKING:
    from tifffile import TiffPage

# What it logs of damaged files is said by our own errors: it is not to reach standard error by itself
logging.getLogger("tifffile").addHandler(logging.NullHandler())

# TIFF 6.0, sections 3 to 6 and 16 to 23: what the samples mean, and how many of them are colours
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _CMYK, _YCBCR, _LAB = 0, 1, 2, 3, 5, 6, 8
_COLOURS = {_WHITE_IS_ZERO: 1, _BLACK_IS_ZERO: 1, _RGB: 3, _PALETTE: 1, _CMYK: 4, _YCBCR: 3, _LAB: 3}
_BITS = {_PALETTE: 16, _YCBCR: 8, _LAB: 8}  # where there may not be 32
_MODES = {_CMYK: "CMYK", _LAB: "LAB", _YCBCR: "YCbCr"}
_WITH_ALPHA = (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB)
_ASSOCIATED, _UNASSOCIATED = 1, 2
_JPEG = (6, 7)
_CMYK_INKS = 1
_SEPARATE = 2
_THUMBNAIL = 1  # bit of NewSubfileType
_INK_SET, _SUBSAMPLING, _DNG_VERSION = 332, 530, 50706


def read_tiff(file: BinaryIO, check_size: CheckSize) -> Image.Image:
    """Decode the first picture of a TIFF file to 8 bits, in whatever form its samples are.

    Args:
        file: at its beginning.
        check_size: called with width and height before any pixel is decoded.

    Raises:
        ValueError: its samples have no agreed meaning, or one that we do not know.
    """
    import tifffile

    with tifffile.TiffFile(file) as tiff:
        page = tiff.pages.first
        check_size(page.imagewidth, page.imagelength)
        _refuse_unknown(page)
        if _is_plain(page) and not tiff.is_bigtiff:
            file.seek(0)
            image = TiffImageFile(file)
            image.load()
            return image
        picture = _picture(page, _samples(page))
        if page.iccprofile:
            picture.info["icc_profile"] = page.iccprofile
        picture.getexif()[ExifTags.Base.Orientation] = page.tags.valueof(ExifTags.Base.Orientation, 1)
        return picture


def _refuse_unknown(page: TiffPage) -> None:
    """Refuse what is no picture, or one whose colours nobody could tell, before it is decoded."""
    photometric, samples = int(page.photometric), page.samplesperpixel
    if page.subfiletype & _THUMBNAIL or _DNG_VERSION in page.tags:
        raise ValueError("found a thumbnail in the first place, as in raw files of cameras")
    if photometric not in _COLOURS:
        raise ValueError(f"found photometric interpretation {photometric}, expected one of {[*_COLOURS]}")
    if len(page.dataoffsets) < math.prod(page.chunked) or 0 in page.databytecounts:
        raise ValueError("the file is damaged: parts of the picture are missing")
    if page.dtype is None or page.dtype.kind not in "buf":
        raise ValueError(f"found samples of type {page.dtype}, expected unsigned integers or floating point")
    if page.bitspersample > _BITS.get(photometric, 64):
        raise ValueError(f"found {page.bitspersample} bits per sample, expected {_BITS[photometric]} at most")
    if not 0 <= samples - _COLOURS[photometric] <= 8 or page.imagedepth != 1:
        raise ValueError(f"found {samples} samples per pixel, expected {_COLOURS[photometric]}")
    whole = page.compression not in _JPEG
    if photometric == _YCBCR and whole and page.tags.valueof(_SUBSAMPLING, (2, 2)) != (1, 1):
        raise ValueError("found subsampled YCbCr without JPEG compression, expected it with")
    if photometric == _LAB and not whole:
        raise ValueError("found CIELab with JPEG compression, expected it without")
    if photometric == _CMYK and page.tags.valueof(_INK_SET, _CMYK_INKS) != _CMYK_INKS:
        raise ValueError("found inks other than cyan, magenta, yellow and black")
    if _alpha(page) is not None and photometric not in _WITH_ALPHA:
        raise ValueError(f"found alpha beside photometric interpretation {photometric}, expected none")


def _is_plain(page: TiffPage) -> bool:
    """Whether Pillow reads it rightly (and faster than tifffile): colours alone, of 1 or 8 bits."""
    limit = Image.MAX_IMAGE_PIXELS  # Pillow's own: ours may be higher
    small = limit is None or page.imagewidth * page.imagelength <= limit
    integers = page.dtype is not None and page.dtype.kind in "bu"
    straight = page.bitspersample == 8 and page.fillorder == 1
    fitting = straight or (page.bitspersample == 1 and page.samplesperpixel == 1)
    return small and integers and fitting and page.samplesperpixel == _COLOURS[int(page.photometric)]


def _alpha(page: TiffPage) -> int | None:
    """How the first sample behind the colours is alpha, or None where it is not."""
    if page.samplesperpixel == _COLOURS[int(page.photometric)]:
        return None
    if not page.extrasamples:  # not allowed, but seen: Pillow takes a fourth sample as alpha, too
        return _UNASSOCIATED
    first = int(page.extrasamples[0])
    return first if first in (_ASSOCIATED, _UNASSOCIATED) else None


def _samples(page: TiffPage) -> NDArray[np.generic]:
    """Decode the samples (H, W, S)."""
    values: NDArray[np.generic] = page.asarray(maxworkers=1)
    if page.planarconfig == _SEPARATE and page.samplesperpixel > 1:
        values = np.moveaxis(values, 0, -1)
    if values.dtype == bool:
        values = values.astype(np.uint8)
    return values.reshape(page.imagelength, page.imagewidth, page.samplesperpixel)


def _picture(page: TiffPage, values: NDArray[np.generic]) -> Image.Image:
    """Give samples (H, W, S) their meaning."""
    photometric, alpha = int(page.photometric), _alpha(page)
    if photometric == _PALETTE:
        return picture_of(_palette(page)[values[..., 0]])
    count = _COLOURS[photometric]
    levels = _levels(values[..., : count + (alpha is not None)], page.bitspersample)
    if photometric == _WHITE_IS_ZERO:
        levels[..., :count] = 255 - levels[..., :count]
    if photometric in _MODES:
        return picture_of(levels, _MODES[photometric])
    if alpha == _ASSOCIATED:
        return picture_of(levels, "RGBa" if count == 3 else "La")
    return picture_of(levels)


def _levels(values: NDArray[Any], bits: int) -> NDArray[np.uint8]:
    return float_levels(values) if values.dtype.kind == "f" else integer_levels(values, bits)


def _palette(page: TiffPage) -> NDArray[np.uint8]:
    """Colours (N, 3): 16-bit numbers in the file, of which some programs fill the upper byte alone."""
    return (np.asarray(page.colormap).T >> 8).astype(np.uint8)
