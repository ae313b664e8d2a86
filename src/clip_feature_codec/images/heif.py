"""HEIC and HEIF files, as telephones write them."""

from __future__ import annotations

from typing import BinaryIO

from PIL import Image

from clip_feature_codec.images.limits import CheckSize
from clip_feature_codec.images.profiles import numbered_profile


def read_heif(file: BinaryIO, check_size: CheckSize) -> Image.Image:
    """Decode the primary picture of a HEIF file to 8 bits.

    It is turned by the file's ``irot`` and ``imir`` properties. An EXIF orientation, which mostly says the
    same again, only informs (ISO/IEC 23008-12, A.2) and is left out.

    Args:
        file: at its beginning.
        check_size: called with width and height before any pixel is decoded.
    """
    # pi-heif holds libheif and libde265 (LGPL). pillow-heif is the same with x265, an encoder under the GPL
    # that we have no use for, and imagecodecs has HEIF only where it is built by hand.
    import pi_heif

    heif = pi_heif.open_heif(file)
    check_size(*heif.size)
    image: Image.Image = heif.to_pillow()
    profile = image.info.get("icc_profile")
    if not profile:
        numbers = image.info.get("nclx_profile") or {}
        profile = numbered_profile(
            numbers.get("color_primaries", 0), numbers.get("transfer_characteristics", 0)
        )
    image.info = {"icc_profile": profile}
    return image
