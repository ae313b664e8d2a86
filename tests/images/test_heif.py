"""HEIC files (fault 5), written by x265 and changed by hand where no program would write them so."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from made_files import largest_difference, over_white, pixels, smooth
from made_profiles import DISPLAY_P3
from PIL import Image

from clip_feature_codec.errors import ImageError
from clip_feature_codec.images import load_image

ORIENTATION = b"\x01\x12\0\x03\0\0\0\x01"  # the tag in an EXIF block


def heic(picture: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    pillow_heif.from_pillow(picture).save(buffer, quality=95, chroma=444, **options)
    return buffer.getvalue()


def exif(orientation: int) -> bytes:
    block = Image.Exif()
    block[0x0112] = orientation
    return block.tobytes()


def with_exif_orientation(data: bytes, orientation: int) -> bytes:
    """The same file, whose EXIF says otherwise."""
    assert data.count(ORIENTATION) == 1
    at = data.index(ORIENTATION) + len(ORIENTATION)
    return data[:at] + struct.pack(">H", orientation) + data[at + 2 :]


def test_heic(tmp_path: Path):
    path = tmp_path / "IMG_0001.HEIC"
    path.write_bytes(heic(smooth()))
    loaded = load_image(path)
    assert (loaded.mode, loaded.info) == ("RGB", {})
    assert largest_difference(loaded, smooth()) <= 4
    assert largest_difference(load_image(path.read_bytes()), loaded) == 0


@pytest.mark.parametrize(("orientation", "turned"), [(1, False), (3, False), (6, True), (8, True)])
@pytest.mark.parametrize("repeated", [False, True])
def test_a_picture_is_turned_once(orientation: int, turned: bool, repeated: bool):
    """By ``irot`` and ``imir``; that EXIF says it again, as telephones do, must not turn it again."""
    data = heic(smooth(), exif=exif(orientation))  # the encoder makes irot of it, and sets EXIF to 1
    assert (b"irot" in data) == (orientation != 1)
    data = with_exif_orientation(data, orientation if repeated else 1)
    upright = {
        1: smooth(),
        3: smooth().transpose(Image.Transpose.ROTATE_180),
        6: smooth().transpose(Image.Transpose.ROTATE_270),
        8: smooth().transpose(Image.Transpose.ROTATE_90),
    }[orientation]
    assert load_image(data).size == ((32, 48) if turned else (48, 32))
    assert largest_difference(load_image(data), upright) <= 6


@pytest.mark.parametrize("orientation", [2, 4, 5, 7])
def test_a_mirrored_picture_is_mirrored_once(orientation: int):
    data = heic(smooth(), exif=exif(orientation))
    assert b"imir" in data
    upright = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        7: Image.Transpose.TRANSVERSE,
    }[orientation]
    repeated = with_exif_orientation(data, orientation)
    assert largest_difference(load_image(repeated), smooth().transpose(upright)) <= 6


def test_exif_alone_only_informs():
    """ISO/IEC 23008-12: orientation is a property of the picture."""
    data = with_exif_orientation(heic(smooth(), exif=exif(1)), 6)
    assert largest_difference(load_image(data), smooth()) <= 6


def test_alpha_is_laid_over_white():
    picture = smooth().convert("RGBA")
    picture.putalpha(128)
    expected = over_white(np.asarray(picture) / 255)
    assert np.abs(pixels(load_image(heic(picture))) - expected).max() <= 4


def test_grey():
    assert (
        largest_difference(load_image(heic(smooth().convert("L"))), smooth().convert("L").convert("RGB")) <= 4
    )


def test_a_profile_and_colours_by_number():
    """Telephones write Display P3, as a profile or as number 12."""
    red = Image.new("RGB", (64, 64), (200, 60, 60))
    profiled = red.copy()
    profiled.info["icc_profile"] = DISPLAY_P3
    numbered = heic(red, save_nclx_profile=True, color_primaries=12, transfer_characteristics=13)
    for data in (heic(profiled), numbered):
        assert load_image(data).getpixel((32, 32)) == pytest.approx((217, 42, 52), abs=3)


def test_high_dynamic_range_is_refused():
    data = heic(smooth(), save_nclx_profile=True, color_primaries=9, transfer_characteristics=16)
    with pytest.raises(ImageError, match=r"found high dynamic range \(PQ\), expected standard range"):
        load_image(data)


def test_10_bits():
    values = (np.asarray(smooth()).astype(np.uint16) << 8).tobytes()
    picture = pillow_heif.from_bytes("RGB;16", smooth().size, values)
    buffer = io.BytesIO()
    picture.save(buffer, quality=95, chroma=444)
    assert largest_difference(load_image(buffer.getvalue()), smooth()) <= 4


def test_the_limit_of_pixels():
    with pytest.raises(ImageError, match="48×32 pixels, expected 1,000 at most"):
        load_image(heic(smooth()), max_pixels=1000)


@pytest.mark.parametrize("kept", [0.05, 0.3, 0.9])
def test_truncated_files_are_refused(kept: float):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    data = heic(Image.fromarray(noise))
    with pytest.raises(ImageError):
        load_image(data[: int(len(data) * kept)])
