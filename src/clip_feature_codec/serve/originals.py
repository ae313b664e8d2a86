"""The pictures that a store was made from, where they are still as they were."""

from __future__ import annotations

import io
import stat
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from clip_feature_codec.errors import ImageError
from clip_feature_codec.images import load_image, output_size, picture_kind, resize_to
from clip_feature_codec.serve.refusals import Refusal
from clip_feature_codec.store.manifest import Entry
from clip_feature_codec.store.protocol import Store

_QUALITY = 88
MEDIA_TYPES = {
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "WEBP": "image/webp",
    "AVIF": "image/avif",
    "TIFF": "image/tiff",
    "GIF": "image/gif",
    "BMP": "image/bmp",
    "HEIF": "image/heic",
    "JXL": "image/jxl",
}
"""What each format that we read is called in HTTP."""


class Original(NamedTuple):
    """A picture's file, and what is in it by its first bytes, whatever it is called."""

    path: Path
    media_type: str


def find_original(store: Store, entry: Entry) -> Original:
    """The file that an entry was made from.

    Nothing but a picture is ever found, whatever a foreign store's manifest names.

    Raises:
        Refusal: it is gone, is another one now, or is no picture.
    """
    path = store.source_path(entry)
    try:
        status = path.stat()
        same = stat.S_ISREG(status.st_mode) and status.st_size == entry.source_bytes
        kind = picture_kind(path) if same else None
    except (OSError, ValueError):
        same, kind = False, None
    if kind is None:
        line = (
            "what was the original is no picture" if same else "the original is gone, or is another one now"
        )
        raise Refusal(404, line)
    return Original(path, MEDIA_TYPES[kind])


def small_original(original: Original, size: int, max_pixels: int) -> bytes:
    """A JPEG file of the picture, with a longer side of at most ``size`` pixels.

    Raises:
        Refusal: it cannot be read, or has more than ``max_pixels``.
    """
    try:
        picture = load_image(original.path, max_pixels)
    except ImageError:  # whose words name the path
        raise Refusal(422, "the original is damaged, or too large to be shown") from None
    if max(picture.size) > size:
        picture = resize_to(picture, output_size(picture.width / picture.height, size))
    return _jpeg(picture)


def _jpeg(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=_QUALITY)
    return file.getvalue()
