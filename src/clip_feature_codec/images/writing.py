"""Writing pictures to files, with a mark that tells them from the pictures of other programs."""

from __future__ import annotations

import io
import zlib
from pathlib import Path
from typing import Any

from PIL import ExifTags, Image

from clip_feature_codec.errors import ImageError, reason
from clip_feature_codec.files import write_atomic
from clip_feature_codec.images.formats import IMAGE_SUFFIXES, WRITTEN, picture_kind
from clip_feature_codec.images.quiet import quiet

_MARK = "clip-feature-codec"
_OPTIONS: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 95},
    "WEBP": {"quality": 95},
    "AVIF": {"quality": 90},
    # A fifth of zlib's usual time; a preview's file is 10 % larger, a photograph's 1 %.
    "PNG": {"compress_type": zlib.Z_RLE},
}


def save_image(picture: Image.Image, path: Path, *, note: str = "") -> None:
    """Write a picture, whole or not at all, in the format that the ending of ``path`` names.

    JPEG and WebP are written at quality 95, AVIF at 90. Each file names this program as its maker, as
    `has_mark` finds out; a BMP file has no place for that.

    Args:
        picture: any that the format can hold.
        path: the file.
        note: what the picture was made from, for `note_of`; only a PNG file has a place for it.

    Raises:
        ImageError: the ending is none of `IMAGE_SUFFIXES`, the format cannot hold the picture, or the
            file cannot be written.
    """
    suffix = path.suffix.lower()
    if suffix not in WRITTEN:
        known = " ".join(sorted(IMAGE_SUFFIXES))
        raise ImageError(f"{path}: cannot tell the format from {path.suffix!r}: use one of {known}")
    try:
        write_atomic(path, _encoded(picture, suffix, note))
    except Exception as error:  # Pillow's encoders raise nearly anything, too
        raise ImageError(f"{path}: cannot be written: {reason(error)}") from error


def png_bytes(picture: Image.Image) -> bytes:
    """The bytes of a picture's PNG file, as `save_image` writes it."""
    return _encoded(picture, ".png")


def _encoded(picture: Image.Image, suffix: str, note: str = "") -> bytes:
    image_format = WRITTEN[suffix]
    encoded = io.BytesIO()
    encoded.name = f"picture{suffix}"  # by this, Pillow imports one plugin; by format=, those of all formats
    picture.save(encoded, **_OPTIONS.get(image_format, {}), **_marked(image_format, note))
    return encoded.getvalue()


def has_mark(path: Path) -> bool:
    """Tell whether a file is a picture that `save_image` wrote, from its metadata: no pixel is decoded.

    False for a BMP file, whoever wrote it, for what is no picture, and for what cannot be read.
    """
    try:
        kind = picture_kind(path)
        if kind is None or kind not in WRITTEN.values():
            return False
        with quiet(), Image.open(path, formats=[kind]) as image:
            return _maker(image, kind) == _MARK
    except Exception:  # a damaged file makes Pillow's plugins raise nearly anything: it is not one of ours  # noqa: BLE001
        return False


def note_of(path: Path) -> str:
    """The note in a PNG file that `save_image` wrote; nothing where there is none, or no such file."""
    try:
        with quiet(), Image.open(path, formats=["PNG"]) as image:
            return str(image.info.get(_MARK, ""))
    except Exception:  # as in `has_mark`  # noqa: BLE001
        return ""


def _marked(image_format: str, note: str) -> dict[str, Any]:
    """What `Image.save` is to be told so that the file names its maker."""
    if image_format == "BMP":
        return {}
    if image_format == "GIF":
        return {"comment": _MARK.encode()}
    if image_format == "PNG":
        from PIL.PngImagePlugin import PngInfo

        info = PngInfo()
        info.add_text("Software", _MARK)
        if note:
            info.add_text(_MARK, note)
        return {"pnginfo": info}
    exif = Image.Exif()
    exif[ExifTags.Base.Software] = _MARK
    return {"exif": exif}


def _maker(image: Image.Image, kind: str) -> object:
    """The program that a picture's metadata names, where `_marked` puts it."""
    if kind == "GIF":
        return bytes(image.info.get("comment", b"")).decode("latin-1")
    if kind == "PNG":
        return image.info.get("Software")
    return image.getexif().get(ExifTags.Base.Software)
