"""PNG files: the pixels by libpng, and by Pillow what else they hold.

Pillow keeps the upper byte of 16 bits, compares a transparent colour with what it has made of the pixels,
takes missing rows for black ones, and refuses a picture whose texts inflate to more than a megabyte; its
limit for them is one for the whole process.
"""

from __future__ import annotations

import contextlib
import struct
import zlib
from collections.abc import Iterable, Iterator
from io import BytesIO
from typing import BinaryIO, NamedTuple

from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from clip_feature_codec.images.levels import integer_levels, picture_of
from clip_feature_codec.images.limits import CheckSize
from clip_feature_codec.images.profiles import numbered_profile

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# All that libpng is shown, and only when it is sound: of faults it speaks on the screen
_FOR_PIXELS = {b"IHDR", b"PLTE", b"tRNS", b"IDAT"}
_END = struct.pack(">I4sI", 0, b"IEND", zlib.crc32(b"IEND"))
_NO_PIXELS = struct.pack(">I4sI", 0, b"IDAT", zlib.crc32(b"IDAT"))  # up to there, Pillow reads when it opens
_TEXTS = {b"tEXt", b"zTXt", b"iTXt"}
_WITH_ORIENTATION = {b"XML:com.adobe.xmp", b"Raw profile type exif"}
_LARGEST_PROFILE = 2**24


class _Chunk(NamedTuple):
    kind: bytes
    whole: memoryview

    @property
    def content(self) -> bytes:
        return bytes(self.whole[8:-4])

    @property
    def is_sound(self) -> bool:
        return zlib.crc32(self.whole[4:-4]) == int.from_bytes(self.whole[-4:], "big")


def read_png(file: BinaryIO, check_size: CheckSize) -> Image.Image:
    """Decode a PNG file; 16 bits are rounded to 8, and a transparent colour is compared at full depth.

    Args:
        file: at its beginning.
        check_size: called with width and height before any pixel is decoded.

    Raises:
        ValueError: its colours are of high dynamic range.
    """
    import imagecodecs

    chunks = list(_chunks(file.read()))
    metadata = _metadata(chunks)
    check_size(*metadata.size)
    profile = _profile(chunks)
    for_pixels = [chunk for chunk in chunks if chunk.kind in _FOR_PIXELS]
    if not all(chunk.is_sound for chunk in for_pixels):
        raise ValueError("the file is damaged: a checksum is wrong")
    values = imagecodecs.png_decode(_joined(for_pixels) + _END)
    picture = picture_of(integer_levels(values, 8 * values.itemsize))  # a transparent colour became alpha
    picture.info = {**metadata.info, "icc_profile": profile}
    return picture


def _metadata(chunks: Iterable[_Chunk]) -> Image.Image:
    """An image with a size and what may tell the orientation, be it before or behind the pixels."""
    told = [chunk for chunk in chunks if chunk.kind in (b"IHDR", b"eXIf")]
    texts = [chunk for chunk in chunks if chunk.kind in _TEXTS]
    texts = [text for text in texts if text.content.partition(b"\0")[0] in _WITH_ORIENTATION]
    with contextlib.suppress(ValueError):  # too long for Pillow
        return PngImageFile(BytesIO(_joined(told + texts) + _NO_PIXELS))
    return PngImageFile(BytesIO(_joined(told) + _NO_PIXELS))


def _profile(chunks: Iterable[_Chunk]) -> bytes | None:
    """The ICC profile, or one for colours named by numbers, which go before it (PNG, 3rd edition, 4.3)."""
    content = {chunk.kind: chunk.content for chunk in chunks if chunk.kind in (b"cICP", b"iCCP")}
    if len(content.get(b"cICP", b"")) >= 2:
        primaries, transfer = content[b"cICP"][:2]
        return numbered_profile(primaries, transfer)
    _, _, profile = content.get(b"iCCP", b"").partition(b"\0")
    with contextlib.suppress(zlib.error):
        return zlib.decompressobj().decompress(profile[1:], _LARGEST_PROFILE)
    return None


def _chunks(data: bytes) -> Iterator[_Chunk]:
    view, at = memoryview(data), len(_SIGNATURE)
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        yield _Chunk(kind, view[at : at + 12 + length])
        at += 12 + length


def _joined(chunks: Iterable[_Chunk]) -> bytes:
    return _SIGNATURE + b"".join(chunk.whole for chunk in chunks)
