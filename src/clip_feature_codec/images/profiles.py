"""Colour profiles: from a picture's own colours to sRGB, by Little CMS."""

from __future__ import annotations

import io
import logging
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from clip_feature_codec.errors import reason

if TYPE_CHECKING:
    from PIL import ImageCms

logger = logging.getLogger(__name__)

# By their numbers in ITU-T H.273, table 2: x and y of red, green, blue; those left out are near to sRGB's.
_PRIMARIES = {9: (0.708, 0.292, 0.170, 0.797, 0.131, 0.046), 12: (0.680, 0.320, 0.265, 0.690, 0.150, 0.060)}
_D65 = (0.3127, 0.3290)
_HIGH_RANGE = {16: "PQ", 18: "HLG"}  # table 3

_COLOURS = {b"RGB ": "RGB", b"GRAY": "L", b"CMYK": "CMYK"}
_SPACE_AT = slice(16, 20)  # the colour space in a profile's header (ICC.1, 7.2.6)


def to_srgb(picture: Image.Image, profile: bytes, name: str) -> Image.Image:
    """Convert a picture from the colours of its ICC profile to sRGB.

    A profile that says nothing else than sRGB, to one level, leaves the picture as it is. One that is
    broken, or of other colours than the picture, is passed over with a remark in the log.

    Args:
        picture: mode L, LA, RGB, RGBA or CMYK.
        profile: the bytes of an ICC profile.
        name: of the picture, for the remark.
    """
    try:
        colours = _COLOURS.get(profile[_SPACE_AT], "none")
        if picture.mode in ("L", "LA") and colours == "RGB":  # grey in a coloured space: equal channels
            picture = picture.convert("RGB" if picture.mode == "L" else "RGBA")
        if colours != picture.mode.removesuffix("A"):
            raise ValueError(f"it is for {profile[_SPACE_AT]!r}, the picture's colours are {picture.mode}")
        transform = _transform(profile, colours)
    except Exception as error:  # a broken profile makes Little CMS, and Pillow around it, raise many things  # noqa: BLE001
        logger.warning("%s: its colour profile is passed over: %s", name, reason(error))
        return picture
    if transform is None:
        return picture
    if not picture.mode.endswith("A"):
        return transform.apply(picture)
    alpha = picture.getchannel("A")
    converted = transform.apply(picture.convert(colours))
    converted.putalpha(alpha)
    return converted


def numbered_profile(primaries: int, transfer: int) -> bytes | None:
    """Give an ICC profile for colours that a file names by numbers (ITU-T H.273); None for sRGB.

    Raises:
        ValueError: the transfer function is one of high dynamic range.
    """
    if transfer in _HIGH_RANGE:
        raise ValueError(f"found high dynamic range ({_HIGH_RANGE[transfer]}), expected standard range")
    return matrix_profile(_D65, _PRIMARIES[primaries]) if primaries in _PRIMARIES else None


@lru_cache(maxsize=16)
def matrix_profile(white: tuple[float, ...], primaries: tuple[float, ...]) -> bytes:
    """Make an ICC profile with sRGB's curve (IEC 61966-2-1).

    Args:
        white: CIE x and y of the white point.
        primaries: x and y of red, green and blue, six numbers.
    """
    import imagecodecs

    samples = np.linspace(0.0, 1.0, 4096)
    curve = np.where(samples <= 0.04045, samples / 12.92, ((samples + 0.055) / 1.055) ** 2.4)
    profile: bytes = imagecodecs.cms_profile(
        "rgb", whitepoint=white, primaries=primaries, transferfunction=curve.astype(np.float32)
    )
    return profile


@lru_cache(maxsize=16)
def _transform(profile: bytes, colours: str) -> ImageCms.ImageCmsTransform | None:
    """The way from a profile to sRGB; None where there is nothing to do.

    For matrix profiles all intents come to the same. For tables, those of printers, this is what picture
    editors show by default: white stays white, and the blackest ink becomes black.
    """
    from PIL import ImageCms

    transform = ImageCms.ImageCmsTransform(
        ImageCms.ImageCmsProfile(io.BytesIO(profile)),
        ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")),
        colours,
        "RGB",
        ImageCms.Intent.RELATIVE_COLORIMETRIC,
        flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )
    if colours == "CMYK":
        return transform
    probe = _probe().convert(colours)
    there = np.asarray(transform.apply(probe)).astype(int)
    return None if np.abs(there - np.asarray(probe.convert("RGB"))).max() <= 1 else transform


def _probe() -> Image.Image:
    """Colours from all over the cube, every grey among them."""
    steps = np.linspace(0, 255, 9).astype(np.uint8)
    cube = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(-1, 3)
    greys = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
    return Image.fromarray(np.concatenate([cube, greys])[None])
