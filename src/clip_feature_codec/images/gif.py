"""GIF files: Pillow's reader, which gives what the first frame leaves free the first colour of its table."""

from __future__ import annotations

from typing import BinaryIO

from PIL import Image
from PIL.GifImagePlugin import GifImageFile

from clip_feature_codec.images.limits import CheckSize


def read_gif(file: BinaryIO, check_size: CheckSize) -> Image.Image:
    """Decode the first frame of a GIF file; what it leaves free of the whole is clear, as browsers have it.

    Args:
        file: at its beginning.
        check_size: called with width and height before any pixel is decoded.
    """
    image = GifImageFile(file)
    check_size(*image.size)
    box = image.tile[0].extents
    image.load()
    if box == (0, 0, *image.size) or image.has_transparency_data:
        return image
    whole = Image.new("RGBA", image.size)
    whole.paste(image.crop(box).convert("RGBA"), box)
    return whole
