"""Colour profiles (fault 4), held against Little CMS through another binding than the one in use."""

from __future__ import annotations

import io
import logging
import struct
import zlib

import imagecodecs
import numpy as np
import pytest
from made_files import chunk, encoded, over_white, pixels, png, samples, smooth
from made_profiles import (
    ADOBE_RGB,
    D65,
    DISPLAY_P3,
    P3_PRIMARIES,
    PROPHOTO,
    SRGB,
    SRGB_PRIMARIES,
    cmyk_profile,
    colorants,
    gamma_curve,
    grey_profile,
    rgb_profile,
)
from PIL import Image, ImageCms

from clip_feature_codec.images import load_image

WIDE = {"Display P3": DISPLAY_P3, "Adobe RGB": ADOBE_RGB, "ProPhoto": PROPHOTO}
LITTLE_CMS_SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
RELATIVE_COLORIMETRIC, BLACK_POINT = 1, 0x2000


def by_lcms(values: np.ndarray, profile: bytes, space: str = "rgb") -> np.ndarray:
    converted = imagecodecs.cms_transform(
        values,
        profile,
        LITTLE_CMS_SRGB,
        colorspace=space,
        outcolorspace="rgb",
        intent=RELATIVE_COLORIMETRIC,
        flags=BLACK_POINT,
    )
    return converted.astype(np.int64)


def noise(channels: int) -> np.ndarray:
    return np.random.default_rng(channels).integers(0, 256, (20, 30, channels), dtype=np.uint8)


@pytest.mark.parametrize(
    ("profile", "expected"),
    [
        (DISPLAY_P3, (217, 42, 52)),
        (ADOBE_RGB, (231, 57, 57)),
        (PROPHOTO, (255, 0, 74)),
        (SRGB, (200, 60, 60)),
    ],
    ids=[*WIDE, "sRGB"],
)
def test_a_colour_that_is_known(profile: bytes, expected: tuple[int, int, int]):
    picture = Image.new("RGB", (8, 8), (200, 60, 60))
    assert load_image(encoded(picture, "PNG", icc_profile=profile)).getpixel((4, 4)) == expected


def test_display_p3_by_its_definition():
    """SMPTE EG 432-1 and IEC 61966-2-1, in floating point."""
    values = noise(3)
    light = np.where(values <= 10, values / 255 / 12.92, ((values / 255 + 0.055) / 1.055) ** 2.4)
    there = np.linalg.solve(colorants(SRGB_PRIMARIES, D65), colorants(P3_PRIMARIES, D65))
    light = (light @ there.T).clip(0, 1)
    expected = 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    loaded = pixels(load_image(encoded(Image.fromarray(values), "PNG", icc_profile=DISPLAY_P3)))
    assert np.abs(loaded - expected).max() <= 1


@pytest.mark.parametrize("profile", WIDE.values(), ids=WIDE)
@pytest.mark.parametrize("image_format", ["PNG", "TIFF", "WEBP"])
def test_wide_colours_in_lossless_files(profile: bytes, image_format: str):
    options = {"lossless": True} if image_format == "WEBP" else {}
    data = encoded(Image.fromarray(noise(3)), image_format, icc_profile=profile, **options)
    assert np.abs(pixels(load_image(data)) - by_lcms(noise(3), profile)).max() <= 1


@pytest.mark.parametrize("image_format", ["JPEG", "WEBP", "AVIF"])
def test_wide_colours_in_lossy_files(image_format: str):
    data = encoded(smooth(), image_format, quality=95, icc_profile=DISPLAY_P3)
    with Image.open(io.BytesIO(data)) as image:
        stored = np.asarray(image.convert("RGB"))
    assert np.abs(pixels(load_image(data)) - by_lcms(stored, DISPLAY_P3)).max() <= 1
    with Image.open(io.BytesIO(data)) as image:
        assert np.abs(pixels(load_image(image)) - by_lcms(stored, DISPLAY_P3)).max() <= 1


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "TIFF"])
def test_grey(image_format: str):
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    data = encoded(Image.fromarray(ramp), image_format, icc_profile=grey_profile(1.0))
    with Image.open(io.BytesIO(data)) as image:
        expected = by_lcms(np.asarray(image), grey_profile(1.0), "gray")
    assert np.abs(pixels(load_image(data)) - expected).max() <= 1
    assert expected[8, 0].tolist() == pytest.approx([188] * 3, abs=2)  # half the light


def test_grey_with_a_profile_of_colours_has_equal_channels():
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    data = encoded(Image.fromarray(ramp), "PNG", icc_profile=ADOBE_RGB)
    expected = by_lcms(np.repeat(ramp[..., None], 3, axis=2), ADOBE_RGB)
    assert np.abs(pixels(load_image(data)) - expected).max() <= 1


@pytest.mark.parametrize("image_format", ["TIFF", "JPEG"])
def test_cmyk(image_format: str):
    profile = cmyk_profile()
    picture = Image.fromarray(noise(4), "CMYK").resize((60, 40))
    data = encoded(picture, image_format, icc_profile=profile)
    with Image.open(io.BytesIO(data)) as image:
        expected = by_lcms(np.asarray(image), profile, "cmyk")
    assert np.abs(pixels(load_image(data)) - expected).max() <= 1


def test_paper_is_white_and_all_ink_is_black():
    picture = Image.new("CMYK", (2, 1), (0, 0, 0, 0))
    picture.putpixel((1, 0), (255, 255, 255, 255))
    loaded = load_image(encoded(picture, "TIFF", icc_profile=cmyk_profile()))
    assert loaded.getpixel((0, 0)) == (255, 255, 255)
    assert max(loaded.getpixel((1, 0))) <= 2


# Beside what else a picture may have


def test_alpha_is_laid_over_white_after_the_conversion():
    rgba = noise(4)
    expected = over_white(np.concatenate([by_lcms(rgba[..., :3], DISPLAY_P3), rgba[..., 3:]], axis=2) / 255)
    for image_format in ("PNG", "TIFF"):
        data = encoded(Image.fromarray(rgba), image_format, icc_profile=DISPLAY_P3)
        assert np.abs(pixels(load_image(data)) - expected).max() <= 1.5


def test_grey_with_alpha():
    values = noise(2)
    data = encoded(Image.fromarray(values, "LA"), "PNG", icc_profile=grey_profile(1.0))
    converted = by_lcms(values[..., 0], grey_profile(1.0), "gray")
    expected = over_white(np.concatenate([converted, values[..., 1:]], axis=2) / 255)
    assert np.abs(pixels(load_image(data)) - expected).max() <= 1.5


@pytest.mark.parametrize("transparent", [None, 1])
def test_palettes(transparent: int | None):
    palette = noise(3)[0, :4]
    image = Image.new("P", (4, 1))
    image.putpalette(palette.tobytes())
    image.putdata(range(4))
    options = {} if transparent is None else {"transparency": transparent}
    loaded = pixels(load_image(encoded(image, "PNG", icc_profile=DISPLAY_P3, **options)))
    expected = by_lcms(palette[None], DISPLAY_P3)
    if transparent is not None:
        expected[0, transparent] = 255
    assert np.abs(loaded - expected).max() <= 1


def test_a_transparent_colour_is_compared_before_the_conversion():
    image = Image.new("RGB", (2, 1), (200, 60, 60))
    image.putpixel((1, 0), (217, 42, 52))
    loaded = load_image(encoded(image, "PNG", icc_profile=DISPLAY_P3, transparency=(200, 60, 60)))
    assert loaded.getpixel((0, 0)) == (255, 255, 255)
    assert loaded.getpixel((1, 0)) != (255, 255, 255)


def test_16_bits():
    """They are rounded to 8 bits first: Little CMS takes two seconds for each megapixel of 16."""
    levels = np.rint(samples() * 65535).astype(np.uint16)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in levels)
    more = chunk(b"iCCP", b"wide\0\0" + zlib.compress(PROPHOTO))
    loaded = pixels(load_image(png(48, 32, 16, 2, rows, more)))
    assert np.abs(loaded - by_lcms(np.rint(samples() * 255).astype(np.uint8), PROPHOTO)).max() <= 1


def test_16_bit_grey():
    ramp = (np.arange(256, dtype=np.uint16) * 257).reshape(16, 16)
    for image_format in ("PNG", "TIFF"):
        data = encoded(Image.fromarray(ramp), image_format, icc_profile=grey_profile(1.0))
        expected = by_lcms((ramp >> 8).astype(np.uint8), grey_profile(1.0), "gray")
        assert np.abs(pixels(load_image(data)) - expected).max() <= 1


def test_orientation_and_profile():
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = Image.new("RGB", (20, 10), (200, 60, 60))
    loaded = load_image(encoded(picture, "PNG", exif=exif, icc_profile=DISPLAY_P3))
    assert (loaded.size, loaded.getpixel((0, 0)), loaded.info) == ((10, 20), (217, 42, 52), {})


# Profiles that change nothing, and those that cannot be used


@pytest.mark.parametrize("profile", [SRGB, LITTLE_CMS_SRGB], ids=["version 2", "version 4"])
def test_srgb_changes_no_pixel(profile: bytes):
    data = encoded(Image.fromarray(noise(3)), "PNG", icc_profile=profile)
    assert (pixels(load_image(data)) == noise(3)).all()


def damaged(profile: bytes, at: int) -> bytes:
    return profile[:at] + b"\xff" * 4 + profile[at + 4 :]


BROKEN = {
    "no profile": b"not a profile at all",
    "short": DISPLAY_P3[:100],
    "cut": DISPLAY_P3[:200],
    "no tables": DISPLAY_P3[:128] + struct.pack(">I", 0),
    "signature": damaged(DISPLAY_P3, 36),
    "table": damaged(DISPLAY_P3, 128),
    "grey": grey_profile(1.0),
    "inks": cmyk_profile(),
}


@pytest.mark.parametrize("profile", BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_broken_profiles_are_passed_over_with_a_remark(
    tmp_path, caplog: pytest.LogCaptureFixture, profile: bytes, image_format: str
):
    path = tmp_path / "photo"
    path.write_bytes(encoded(smooth(), image_format, icc_profile=profile))
    with caplog.at_level(logging.WARNING):
        loaded = load_image(path)
    assert np.abs(pixels(loaded) - pixels(smooth())).max() <= 10
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert str(path) in record.getMessage()
    assert "profile" in record.getMessage()
    assert "\n" not in record.getMessage()


# Colours that are named by numbers


def test_png_colours_by_number():
    values = noise(3)
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    loaded = pixels(load_image(png(30, 20, 8, 2, rows, chunk(b"cICP", bytes([12, 13, 0, 1])))))
    assert np.abs(loaded - by_lcms(values, DISPLAY_P3)).max() <= 1
    plain = pixels(load_image(png(30, 20, 8, 2, rows, chunk(b"cICP", bytes([1, 13, 0, 1])))))
    assert (plain == values).all()


def test_avif_colours_by_number():
    data = encoded(Image.new("RGB", (16, 16), (200, 60, 60)), "AVIF", quality=100, subsampling="4:4:4")
    at = data.index(b"colrnclx") + 8
    assert load_image(data).getpixel((8, 8)) == pytest.approx((200, 60, 60), abs=2)
    wide = data[:at] + struct.pack(">H", 12) + data[at + 2 :]
    assert load_image(wide).getpixel((8, 8)) == pytest.approx((217, 42, 52), abs=3)


def test_a_curve_of_one_s_own_is_no_srgb():
    half_as_bright = rgb_profile(SRGB_PRIMARIES, gamma_curve(3.0))
    data = encoded(Image.fromarray(noise(3)), "PNG", icc_profile=half_as_bright)
    assert np.abs(pixels(load_image(data)) - by_lcms(noise(3), half_as_bright)).max() <= 1
