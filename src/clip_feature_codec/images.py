"""Between picture files, 8-bit RGB pictures and tensors in [-1, 1]: the only place that rounds."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, UnidentifiedImageError

from clip_feature_codec.errors import ConfigError, ImageError
from clip_feature_codec.files import write_atomic

if TYPE_CHECKING:
    import torch

MAX_PIXELS = 178_956_970
"""Pictures with more pixels are refused before they are decoded (Pillow's own limit for an error)."""

# Named, because Pillow would otherwise try every plugin it has, and some start other programs (EPS).
_FORMATS = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".png": "PNG",
    ".webp": "WEBP",
    ".avif": "AVIF",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".gif": "GIF",
    ".bmp": "BMP",
}
IMAGE_SUFFIXES = frozenset(_FORMATS)
"""The file name endings we read and write, in lower case, with the dot."""

_LOSSY_QUALITY = {"JPEG": 95, "WEBP": 95, "AVIF": 90}

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
            with Image.open(file, formats=sorted(set(_FORMATS.values()))) as image:
                return _upright_rgb(image)
    except UnidentifiedImageError as error:
        raise ImageError(f"{name}: not a picture in a format we read ({_suffixes()})") from error
    except OSError as error:
        raise ImageError(f"{name}: cannot be read: {error.strerror or _first_line(error)}") from error
    except Exception as error:  # a damaged file makes Pillow's plugins raise nearly anything
        raise ImageError(f"{name}: cannot be read as a picture: {_first_line(error)}") from error


def save_image(picture: Image.Image, path: Path) -> None:
    """Write a picture, whole or not at all, in the format that the ending of ``path`` names.

    JPEG and WebP are written at quality 95, AVIF at 90.

    Raises:
        ImageError: the ending is none of `IMAGE_SUFFIXES`, the format cannot hold the picture, or the
            file cannot be written.
    """
    image_format = _FORMATS.get(path.suffix.lower())
    if image_format is None:
        raise ImageError(f"{path}: cannot tell the format from {path.suffix!r}: use one of {_suffixes()}")
    options = {"quality": _LOSSY_QUALITY[image_format]} if image_format in _LOSSY_QUALITY else {}
    encoded = io.BytesIO()
    try:
        picture.save(encoded, format=image_format, **options)
        write_atomic(path, encoded.getvalue())
    except Exception as error:  # Pillow's encoders raise nearly anything, too
        reason = error.strerror if isinstance(error, OSError) and error.strerror else _first_line(error)
        raise ImageError(f"{path}: cannot be written: {reason}") from error


def to_tensor(pictures: Sequence[Image.Image]) -> torch.Tensor:
    """Stack pictures as one float32 tensor (N, 3, H, W) in [-1, 1]: v / 127.5 - 1.

    Args:
        pictures: at least one, mode RGB, all of one size.

    Raises:
        ImageError: there are none, or they differ in size, or one is not RGB.
    """
    import torch

    kinds = {(picture.mode, picture.size) for picture in pictures}
    if len(kinds) != 1 or next(iter(kinds))[0] != "RGB":
        raise ImageError(f"a batch needs RGB pictures of one size, found {sorted(kinds) or 'none'}")
    stacked = torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures]))
    return stacked.permute(0, 3, 1, 2).to(torch.float32).contiguous().div_(127.5).sub_(1.0)


def to_pictures(x: torch.Tensor) -> list[Image.Image]:
    """Turn a tensor into RGB pictures; `to_tensor`'s inverse, exact for all 256 values.

    Args:
        x: (N, 3, H, W), any float type and device, in [-1, 1]; values outside are clamped, and those
            between two levels are rounded, half to even.

    Raises:
        ImageError: the shape is another one, or a value is NaN.
    """
    import torch

    if x.ndim != 4 or x.shape[1] != 3:
        raise ImageError(f"pictures need a tensor of shape (N, 3, H, W), found {tuple(x.shape)}")
    values = x.detach().to("cpu", torch.float32)
    if values.isnan().any():
        raise ImageError("pictures cannot be made of NaN: what computed them has gone wrong")
    levels = values.clamp(-1.0, 1.0).add(1.0).mul(127.5).round().to(torch.uint8)
    return [Image.fromarray(level.permute(1, 2, 0).contiguous().numpy()) for level in levels]


def squash(picture: Image.Image, size: int) -> Image.Image:
    """Resize to ``size`` × ``size`` pixels whatever the aspect ratio (see `resize_to`)."""
    return resize_to(picture, (size, size))


def resize_to(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Resize to (width, height) pixels with Pillow's bicubic filter, which is antialiased when it shrinks."""
    return picture.resize(size, Image.Resampling.BICUBIC)


def output_size(aspect: float, size: int) -> tuple[int, int]:
    """Give the (width, height) whose longer side is ``size`` and whose ratio is nearest to ``aspect``.

    Args:
        aspect: width / height.
        size: pixels of the longer side.

    Raises:
        ConfigError: ``aspect`` is not a positive finite number, or ``size`` is below 1.
    """
    if not (math.isfinite(aspect) and aspect > 0):
        raise ConfigError(f"an aspect ratio must be a positive number, found {aspect}")
    if size < 1:
        raise ConfigError(f"a picture's size must be at least 1 pixel, found {size}")
    if aspect >= 1:
        return size, max(1, round(size / aspect))
    return max(1, round(size * aspect)), size


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


def _suffixes() -> str:
    return " ".join(sorted(IMAGE_SUFFIXES))


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
