"""Reading pictures from files: as upright 8-bit RGB, whatever they are in."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from clip_feature_codec.errors import ImageError, reason
from clip_feature_codec.images.formats import IMAGE_SUFFIXES, WRITTEN

MAX_PIXELS = 178_956_970
"""Pictures with more pixels are refused before they are decoded (Pillow's own limit for an error)."""

# Named, because Pillow would otherwise try every plugin it has, and some start other programs (EPS).
_FORMATS = sorted(set(WRITTEN.values()))

_ORIENTATION_TAG = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_PHOTOMETRIC_TAG = 262
_WHITE_IS_ZERO = 0


def load_image(source: Path | bytes | Image.Image) -> Image.Image:
    """Read a picture as upright 8-bit RGB, without metadata.

    EXIF orientation is applied, transparency is laid over white, and of an animation the first frame is
    taken (of an opened Pillow image, the current one). 16-bit grey is scaled from 0..65535 to 0..255 and
    rounded; Pillow keeps the upper byte of 16-bit colour. Floating point is taken as 0..1 when no finite
    value exceeds 1, else as 0..255; it is clipped, and NaN is black.

    Args:
        source: a file, the bytes of one, or an image of Pillow's, which is left as it is.

    Raises:
        ImageError: it is not a picture in one of the formats of `IMAGE_SUFFIXES`, it is damaged or cut
            short, it has no pixels, or more than `MAX_PIXELS` (found out before they are decoded).
    """
    name = str(source) if isinstance(source, str | Path) else "the given picture"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about metadata, mostly: the picture is read or refused
            if isinstance(source, Image.Image):
                return _upright_rgb(source)
            file = io.BytesIO(source) if isinstance(source, bytes) else source
            with Image.open(file, formats=_FORMATS) as image:
                return _upright_rgb(image)
    except UnidentifiedImageError as error:
        raise ImageError(
            f"{name}: not a picture in a format we read ({' '.join(sorted(IMAGE_SUFFIXES))})"
        ) from error
    except OSError as error:
        raise ImageError(f"{name}: cannot be read: {reason(error)}") from error
    except Exception as error:  # a damaged file makes Pillow's plugins raise nearly anything
        raise ImageError(f"{name}: cannot be read as a picture: {reason(error)}") from error


def _upright_rgb(image: Image.Image) -> Image.Image:
    """Decode an image: RGB, upright, over white, without metadata (which would turn it a second time)."""
    pixels = image.width * image.height
    if not 0 < pixels <= MAX_PIXELS:
        raise ValueError(f"{image.width}×{image.height} pixels, expected 1 to {MAX_PIXELS:,} in all")
    image.load()
    rgb = _to_rgb(image)
    rgb.info = {}
    turn = _UPRIGHT.get(_orientation(image))
    return rgb if turn is None else rgb.transpose(turn)


def _to_rgb(image: Image.Image) -> Image.Image:
    """Convert a decoded image of any mode to a new RGB image."""
    if image.mode == "F":
        return _from_grey(_float_levels(np.asarray(image)))
    if image.mode.startswith("I"):  # I;16, I;16B, ..., I
        values = np.clip(np.asarray(image).astype(np.int32), 0, 65535)
        tags = getattr(image, "tag_v2", {})  # Pillow inverts white-is-zero TIFFs of up to 8 bits only
        if tags.get(_PHOTOMETRIC_TAG) == _WHITE_IS_ZERO:
            values = 65535 - values
        return _from_grey((values + 128) // 257)  # v / 257 rounded: 257 is odd, so there are no ties
    if image.has_transparency_data:
        if image.mode == "La":
            image = image.convert("LA")
        rgba = image.convert("RGBA")
        canvas = Image.new("RGB", image.size, "white")
        canvas.paste(rgba, mask=rgba)
        return canvas
    return image.convert("RGB")


def _from_grey(levels: np.ndarray) -> Image.Image:
    return Image.fromarray(levels.astype(np.uint8)).convert("RGB")


def _float_levels(values: np.ndarray) -> np.ndarray:
    """Scale floating-point grey to 0..255 (see `load_image`)."""
    highest = np.max(values, where=np.isfinite(values), initial=0.0)
    scale = 255.0 if highest <= 1.0 else 1.0
    levels: np.ndarray = np.rint(np.clip(np.nan_to_num(values, nan=0.0) * scale, 0.0, 255.0))
    return levels


def _orientation(image: Image.Image) -> int:
    """Read the EXIF orientation, 1 to 8; 1 (upright) when there is none or the EXIF block is damaged."""
    try:
        orientation = image.getexif().get(_ORIENTATION_TAG)
    except Exception:  # the pixels are whole: a picture that may lie on its side is better than none
        return 1
    return orientation if isinstance(orientation, int) else 1
