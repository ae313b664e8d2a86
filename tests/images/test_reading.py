"""Reading pictures: every format, every mode, every orientation."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from made_files import encoded, largest_difference, over_white, pixels, png, smooth, tiff
from PIL import Image

from clip_feature_codec.images import IMAGE_SUFFIXES, load_image, save_image

LOSSLESS = (".png", ".tif", ".tiff", ".bmp")


@pytest.mark.parametrize("suffix", sorted(IMAGE_SUFFIXES))
def test_each_format_is_written_and_read_again(tmp_path: Path, suffix: str):
    path = tmp_path / f"bild-äß-写真{suffix}"
    save_image(smooth(), path)
    loaded = load_image(path)
    assert loaded.mode == "RGB"
    assert loaded.info == {}
    tolerance = 0 if suffix in LOSSLESS else 40 if suffix == ".gif" else 8
    assert largest_difference(loaded, smooth()) <= tolerance
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    assert largest_difference(load_image(path.read_bytes()), loaded) == 0


@pytest.mark.parametrize("suffix", sorted(IMAGE_SUFFIXES))
@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1)])
def test_tiny_pictures_and_strips(tmp_path: Path, suffix: str, size: tuple[int, int]):
    picture = Image.new("RGB", size, (200, 100, 50))
    save_image(picture, tmp_path / f"x{suffix}")
    loaded = load_image(tmp_path / f"x{suffix}")
    assert largest_difference(loaded, picture) <= (0 if suffix in LOSSLESS else 6)


def test_suffix_case_does_not_matter(tmp_path: Path):
    save_image(smooth(), tmp_path / "X.PNG")
    assert (tmp_path / "X.PNG").read_bytes().startswith(b"\x89PNG")


def test_the_content_decides_the_format_not_the_name(tmp_path: Path):
    (tmp_path / "x.jpg").write_bytes(encoded(smooth(), "PNG"))
    assert largest_difference(load_image(tmp_path / "x.jpg"), smooth()) == 0


# Orientation: the EXIF values as the standard defines them, by where row 0 and column 0 of the file belong

AS_STORED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: a.transpose(1, 0, 2)[::-1],
    7: lambda a: a.transpose(1, 0, 2)[::-1, ::-1],
    8: lambda a: a.transpose(1, 0, 2)[:, ::-1],
}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "TIFF", "TIFF-LZW", "AVIF"])
def test_orientation_is_applied(image_format: str, orientation: int):
    upright = smooth()
    stored = Image.fromarray(np.ascontiguousarray(AS_STORED[orientation](np.asarray(upright))))
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"compression": "tiff_lzw"} if image_format == "TIFF-LZW" else {}
    data = encoded(stored, image_format.removesuffix("-LZW"), exif=exif, **options)
    loaded = load_image(data)
    assert largest_difference(loaded, upright) <= (0 if image_format in ("PNG", "TIFF", "TIFF-LZW") else 16)
    assert largest_difference(load_image(loaded), loaded) == 0  # not turned a second time


def test_an_opened_image_is_turned_and_left_as_it_was():
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(io.BytesIO(encoded(smooth(), "JPEG", exif=exif))) as image:
        assert load_image(image).size == (32, 48)
        assert image.size == (48, 32)
        assert image.getexif()[0x0112] == 6


@pytest.mark.parametrize("exif", [b"Exif\0\0garbage, no TIFF header", b"Exif\0\0II*\0\xff\xff\xff\xff"])
@pytest.mark.parametrize("image_format", ["JPEG", "WEBP", "PNG"])
def test_a_damaged_exif_block_does_not_cost_the_picture(image_format: str, exif: bytes):
    assert load_image(encoded(smooth(), image_format, exif=exif)).size == (48, 32)


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_orientations_that_do_not_exist_are_ignored(value: int):
    exif = Image.Exif()
    exif[0x0112] = value
    assert load_image(encoded(smooth(), "JPEG", exif=exif)).size == (48, 32)


# Modes


@pytest.mark.parametrize(
    ("mode", "image_format"), [("L", "PNG"), ("L", "JPEG"), ("L", "TIFF"), ("1", "PNG"), ("1", "TIFF")]
)
def test_grey_and_bilevel(mode: str, image_format: str):
    picture = smooth().convert(mode)
    loaded = load_image(encoded(picture, image_format))
    expected = np.repeat(pixels(picture.convert("L"))[..., None], 3, axis=2)
    assert np.abs(pixels(loaded) - expected).max() <= (4 if image_format == "JPEG" else 0)


def with_alpha() -> np.ndarray:
    rgba = np.zeros((16, 16, 4), np.uint8)
    rgba[..., :3] = np.asarray(smooth(16, 16))
    rgba[..., 3] = np.arange(256).reshape(16, 16)
    return rgba


@pytest.mark.parametrize("image_format", ["PNG", "TIFF", "WEBP"])
def test_alpha_is_laid_over_white(image_format: str):
    options = {"lossless": True, "exact": True} if image_format == "WEBP" else {}
    loaded = load_image(encoded(Image.fromarray(with_alpha()), image_format, **options))
    assert np.abs(pixels(loaded) - over_white(with_alpha() / 255)).max() <= 1


def test_alpha_in_avif():
    opaque_left = np.full((16, 16, 4), (200, 30, 30, 0), np.uint8)
    opaque_left[:, :8, 3] = 255
    loaded = pixels(load_image(encoded(Image.fromarray(opaque_left), "AVIF", quality=95)))
    assert np.abs(loaded[:, :4] - (200, 30, 30)).max() <= 12
    assert loaded[:, 12:].min() >= 250


@pytest.mark.parametrize("mode", ["LA", "La", "RGBA", "RGBa"])
def test_images_in_memory_with_alpha(mode: str):
    image = Image.fromarray(with_alpha())
    if mode in ("LA", "La"):
        image = image.convert("LA")
    expected = over_white(np.asarray(image.convert("RGBA")) / 255)
    loaded = load_image(image if image.mode == mode else image.convert(mode))
    # Premultiplied colour has lost precision where alpha is small, but is laid over white there
    assert np.abs(pixels(loaded) - expected).max() <= (2 if mode.endswith("a") else 1)


def test_a_palette_with_an_alpha_channel():
    image = Image.frombytes("PA", (2, 1), bytes([0, 255, 1, 51]))
    image.putpalette([100, 0, 0, 0, 100, 0])
    loaded = load_image(image)
    assert loaded.getpixel((0, 0)) == (100, 0, 0)
    assert loaded.getpixel((1, 0)) == pytest.approx((204, 224, 204), abs=1)


def test_grey_with_alpha_in_png():
    image = Image.fromarray(with_alpha()).convert("LA")
    expected = over_white(np.asarray(image.convert("RGBA")) / 255)
    assert np.abs(pixels(load_image(encoded(image, "PNG"))) - expected).max() <= 1


@pytest.mark.parametrize("image_format", ["PNG", "GIF"])
def test_a_palette_with_a_transparent_colour(image_format: str):
    image = Image.new("P", (4, 2), 0)
    image.putpalette([10, 20, 30, 250, 0, 0])
    image.putpixel((1, 0), 1)
    loaded = load_image(encoded(image, image_format, transparency=0))
    assert loaded.getpixel((0, 0)) == (255, 255, 255)
    assert loaded.getpixel((1, 0)) == (250, 0, 0)


def test_a_palette_with_an_alpha_for_each_colour():
    image = Image.new("P", (2, 1), 0)
    image.putpalette([100, 0, 0, 0, 100, 0])
    image.putpixel((1, 0), 1)
    loaded = load_image(encoded(image, "PNG", transparency=bytes([0, 51])))
    assert loaded.getpixel((0, 0)) == (255, 255, 255)
    assert loaded.getpixel((1, 0)) == pytest.approx((204, 224, 204), abs=1)


@pytest.mark.parametrize(("mode", "colour"), [("L", 7), ("RGB", (1, 2, 3))])
def test_a_transparent_colour_without_a_palette(mode: str, colour: int | tuple[int, ...]):
    image = Image.new(mode, (2, 1), colour)
    image.putpixel((1, 0), 90 if mode == "L" else (90, 90, 90))
    loaded = load_image(encoded(image, "PNG", transparency=colour))
    assert loaded.getpixel((0, 0)) == (255, 255, 255)
    assert loaded.getpixel((1, 0)) == (90, 90, 90)


@pytest.mark.parametrize(("image_format", "tolerance"), [("TIFF", 0), ("JPEG", 6)])
def test_cmyk(image_format: str, tolerance: int):
    cyan, black_half = (255, 0, 0, 0), (0, 0, 0, 128)
    image = Image.new("CMYK", (32, 16), cyan)
    image.paste(black_half, (16, 0, 32, 16))
    loaded = pixels(load_image(encoded(image, image_format)))
    assert np.abs(loaded[:, :12] - (0, 255, 255)).max() <= tolerance
    assert np.abs(loaded[:, 20:] - 127).max() <= tolerance


EVERY_16_BIT = np.arange(65536, dtype=np.uint16).reshape(256, 256)
ROUNDED = np.floor(EVERY_16_BIT / 257 + 0.5).astype(np.int64)


def test_16_bit_grey_png_every_value():
    loaded = pixels(load_image(encoded(Image.fromarray(EVERY_16_BIT), "PNG")))
    assert (loaded == ROUNDED[..., None]).all()


@pytest.mark.parametrize("photometric", [0, 1])
@pytest.mark.parametrize("order", ["<", ">"])
def test_16_bit_grey_tiff_every_value(photometric: int, order: str):
    loaded = pixels(load_image(tiff(EVERY_16_BIT, photometric, order)))
    expected = ROUNDED if photometric == 1 else 255 - ROUNDED
    assert (loaded == expected[..., None]).all()


@pytest.mark.parametrize("mode", ["I", "I;16", "I;16B", "I;16L"])
def test_16_bit_images_in_memory(mode: str):
    image = Image.new(mode, (2, 1), 0)
    image.putpixel((1, 0), 65535)
    loaded = load_image(image)
    assert loaded.getpixel((0, 0)) == (0, 0, 0)
    assert loaded.getpixel((1, 0)) == (255, 255, 255)


def test_integers_outside_16_bits_are_clipped():
    values = np.array([[-70000, 0, 65535, 2**31 - 1]], np.int32)
    assert pixels(load_image(Image.fromarray(values)))[0, :, 0].tolist() == [0, 0, 255, 255]


@pytest.mark.parametrize("order", ["<", ">"])
def test_16_bit_colour_tiff(order: str):
    values = np.zeros((1, 3, 3), np.uint16)
    values[0] = [(65535, 0, 0), (0x8000, 0x8000, 0x8000), (0, 257, 65535)]
    loaded = pixels(load_image(tiff(values, photometric=2, order=order)))
    assert np.abs(loaded - values / 257).max() <= 0.5


def test_16_bit_colour_png():
    rows = b"\0" + struct.pack(">6H", 65535, 0, 257, 0x1234, 0x8000, 0xFEDC)
    loaded = pixels(load_image(png(2, 1, 16, 2, rows)))
    expected = np.array([[65535, 0, 257], [0x1234, 0x8000, 0xFEDC]]) / 257
    assert np.abs(loaded[0] - expected).max() <= 0.5


def test_float_up_to_one_and_not_a_number():
    values = np.array([[0.0, 0.25, 1.0, np.nan, np.inf, -np.inf, -3.0]], np.float32)
    loaded = load_image(encoded(Image.fromarray(values), "TIFF"))
    assert pixels(loaded)[0, :, 0].tolist() == [0, 64, 255, 0, 255, 0, 0]


def test_float_up_to_255():
    values = np.array([[0.4, 0.6, 128.0, 255.0, 1e9, np.nan]], np.float32)
    loaded = load_image(encoded(Image.fromarray(values), "TIFF"))
    assert pixels(loaded)[0, :, 0].tolist() == [0, 1, 128, 255, 255, 0]


def test_float_of_nothing_but_nan_is_black():
    values = np.full((2, 3), np.nan, np.float32)
    assert pixels(load_image(encoded(Image.fromarray(values), "TIFF"))).max() == 0


@pytest.mark.parametrize("image_format", ["GIF", "WEBP", "PNG", "AVIF", "TIFF"])
def test_the_first_frame_of_several(image_format: str):
    red, blue = (Image.new("RGB", (16, 16), colour) for colour in ("red", "blue"))
    loaded = load_image(encoded(red, image_format, save_all=True, append_images=[blue]))
    assert np.abs(pixels(loaded) - (255, 0, 0)).max() <= 6
