"""The pictures that a store was made from, where they are still as they were."""

from __future__ import annotations

import io
import stat
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from clip_feature_codec.errors import ImageError
from clip_feature_codec.images import load_image, output_size, picture_kind, resize_to
from clip_feature_codec.images.formats import HEAD, kind_of
from clip_feature_codec.places import is_url, split_archive
from clip_feature_codec.serve.refusals import Refusal
from clip_feature_codec.sources.original import read_original
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


_FROM_ARCHIVE = 64 << 20
"""Bytes that an original in an archive may have: it is read as a whole."""


class Original(NamedTuple):
    """A picture's file, and what is in it by its first bytes, whatever it is called.

    Attributes:
        content: its path; its bytes where it is in an archive.
        media_type: as HTTP calls it.
    """

    content: Path | bytes
    media_type: str


def find_original(store: Store, entry: Entry) -> Original:
    """The file that an entry was made from.

    Nothing but a picture on this machine is ever found, whatever a foreign store's manifest names.

    Raises:
        Refusal: it is gone, is another one now, is on object storage, or is no picture.
    """
    place = store.source_place(entry)
    if is_url(place):
        raise Refusal(404, "the original is on object storage: it is not fetched for others")
    try:
        content = _content(place, entry.source_bytes)
        kind = picture_kind(content) if isinstance(content, Path) else kind_of(content[:HEAD])
    except (ImageError, OSError, ValueError):
        raise Refusal(404, "the original is gone, or is another one now") from None
    if kind is None:
        raise Refusal(404, "what was the original is no picture")
    return Original(content, MEDIA_TYPES[kind])


def _content(place: str, size: int) -> Path | bytes:
    """The file of a picture, of the size that it had.

    Raises:
        ImageError: it has another one, or is too large to be taken out of its archive.
        OSError: it cannot be read.
    """
    if split_archive(place)[1] and size > _FROM_ARCHIVE:
        raise ImageError(f"{place}: too large")
    content = read_original(place, _FROM_ARCHIVE)
    if isinstance(content, bytes):
        found = len(content)
    else:
        status = content.stat()
        found = status.st_size if stat.S_ISREG(status.st_mode) else -1
    if found != size:
        raise ImageError(f"{place}: another one now")
    return content


def small_original(original: Original, size: int, max_pixels: int) -> bytes:
    """A JPEG file of the picture, with a longer side of at most ``size`` pixels.

    Raises:
        Refusal: it cannot be read, or has more than ``max_pixels``.
    """
    try:
        picture = load_image(original.content, max_pixels)
    except ImageError:  # whose words name the path
        raise Refusal(422, "the original is damaged, or too large to be shown") from None
    if max(picture.size) > size:
        picture = resize_to(picture, output_size(picture.width / picture.height, size))
    return _jpeg(picture)


def _jpeg(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=_QUALITY)
    return file.getvalue()
