"""Reading pictures from files: as upright 8-bit RGB in sRGB, whatever they are in."""

from __future__ import annotations

import io
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image, ImageOps

from clip_feature_codec.errors import ImageError, reason
from clip_feature_codec.images.formats import HEAD, READ_SUFFIXES, kind_of
from clip_feature_codec.images.levels import float_levels, integer_levels, picture_of
from clip_feature_codec.images.limits import MAX_PIXELS, CheckSize, pixel_limit
from clip_feature_codec.images.profiles import to_srgb
from clip_feature_codec.images.quiet import quiet

_WHITE_IS_ZERO = 0
_OURS = {
    "AVIF": "avif:read_avif",
    "GIF": "gif:read_gif",
    "PNG": "png:read_png",
    "TIFF": "tiff:read_tiff",
    "HEIF": "heif:read_heif",
    "JXL": "jxl:read_jxl",
}
"""Where each format is read that Pillow alone does not read well: module of this room, and name in it."""
_PLUGINS = {
    "BMP": "BmpImagePlugin:BmpImageFile",
    "JPEG": "JpegImagePlugin:JpegImageFile",
    "WEBP": "WebPImagePlugin:WebPImageFile",
}
"""Where Pillow reads the others."""


def load_image(
    source: Path | bytes | Image.Image, max_pixels: int = MAX_PIXELS, name: str = ""
) -> Image.Image:
    """Read a picture as upright 8-bit RGB in sRGB, without metadata.

    The format is known by content, not by name. Colours are converted from the picture's ICC profile to
    sRGB (see `images.profiles.to_srgb`), EXIF orientation is applied, transparency is laid over white, and
    of an animation the first frame is taken (of an opened Pillow image, the current one). Integers of more
    than 8 bits are scaled to 0..255 by their full range and rounded. Floating point is taken as 0..1 when
    no finite value exceeds 1, else as 0..255; it is clipped, and NaN is black.

    Args:
        source: a file, the bytes of one, or an image of Pillow's, which is left as it is.
        max_pixels: pictures with more pixels are refused before they are decoded.
        name: what errors call the picture; by default the file's path.

    Raises:
        ImageError: it is not a picture in a format we read (JPEG, PNG, WebP, AVIF, TIFF, GIF, BMP, HEIF,
            JPEG XL), or in a form of one whose meaning is unknown, it is damaged or cut short, it has no
            pixels, or more than ``max_pixels``.
    """
    name = name or (str(source) if isinstance(source, str | Path) else "the given picture")
    check_size = pixel_limit(max_pixels)
    try:
        with quiet():  # about metadata, mostly: the picture is read or refused
            if isinstance(source, Image.Image):
                check_size(*source.size)
                return _finished(source, name)
            with io.BytesIO(source) if isinstance(source, bytes) else Path(source).open("rb") as file:
                return _finished(_decoded(file, name, check_size), name)
    except ImageError:
        raise
    except OSError as error:
        raise ImageError(f"{name}: cannot be read: {reason(error)}") from error
    except Exception as error:  # a damaged file makes the libraries raise nearly anything
        raise ImageError(f"{name}: cannot be read as a picture: {reason(error)}") from error


def _decoded(file: BinaryIO, name: str, check_size: CheckSize) -> Image.Image:
    """Decode a file to one of Pillow's modes of 8 bits."""
    kind = kind_of(file.read(HEAD))
    file.seek(0)
    if kind is None:
        known = " ".join(sorted(READ_SUFFIXES))
        raise ImageError(f"{name}: not a picture in a format we read ({known})")
    if kind in _OURS:
        return _imported("clip_feature_codec.images", _OURS[kind])(file, check_size)
    # Not by Image.open, whose limit of pixels is the same for all threads
    image = _imported("PIL", _PLUGINS[kind])(file)
    check_size(*image.size)
    image.load()
    return image


def _imported(package: str, place: str) -> Callable[..., Image.Image]:
    """What reads a format, imported when the first such picture comes."""
    module, _, name = place.partition(":")
    reader: Callable[..., Image.Image] = getattr(import_module(f"{package}.{module}"), name)
    return reader


def _finished(image: Image.Image, name: str) -> Image.Image:
    """Turn a decoded image upright, into sRGB, and lay it over white; the given one stays as it is."""
    upright = _upright(image)
    picture = _plain(upright)
    if _is_inverted(image):
        picture = ImageOps.invert(picture)
    profile = upright.info.get("icc_profile")
    if profile and upright.mode != "LAB":  # which is independent of devices
        picture = to_srgb(picture, profile, name)
    if picture.mode.endswith("A"):
        colours = picture.convert("RGB")
        canvas = Image.new("RGB", picture.size, "white")
        canvas.paste(colours, mask=picture.getchannel("A"))
        picture = canvas
    elif picture.mode != "RGB":
        picture = picture.convert("RGB")
    picture.info = {}
    return picture


def _upright(image: Image.Image) -> Image.Image:
    """Copy an image, turned as its EXIF says, without metadata but for transparency and colour profile."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # the pixels are whole: a picture that may lie on its side is better than none  # noqa: BLE001
        orientation = None
    upright = image.copy()
    upright.info = {key: image.info[key] for key in ("transparency", "icc_profile") if key in image.info}
    if isinstance(orientation, int):
        # That tag alone: exif_transpose writes all of them anew, and fails over those that are damaged
        upright.getexif()[ExifTags.Base.Orientation] = orientation
        ImageOps.exif_transpose(upright, in_place=True)
    return upright


def _plain(image: Image.Image) -> Image.Image:
    """Bring an image of any mode to L, LA, RGB, RGBA or CMYK."""
    mode = image.mode
    if mode == "F":
        return picture_of(float_levels(np.asarray(image)))
    if mode.startswith("I"):  # I;16, I;16B, ..., I
        values = np.clip(np.asarray(image).astype(np.int32), 0, 65535)
        return picture_of(integer_levels(values.astype(np.uint16), 16))
    if mode in ("1", "L"):
        wanted = "LA" if image.has_transparency_data else "L"
    elif mode in ("LA", "La"):
        wanted = "LA"
    elif mode == "CMYK":
        wanted = "CMYK"
    else:
        wanted = "RGBA" if image.has_transparency_data else "RGB"
    return image if mode == wanted else image.convert(wanted)


def _is_inverted(image: Image.Image) -> bool:
    """Whether Pillow opened a TIFF of 16 bits or floats whose zero is white, which it gives out as it is."""
    tags = getattr(image, "tag_v2", {})
    deep = image.mode == "F" or image.mode.startswith("I")
    return deep and tags.get(ExifTags.Base.PhotometricInterpretation) == _WHITE_IS_ZERO
