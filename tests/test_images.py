"""Reading and writing pictures: every format, every mode, every way a file can be broken."""

from __future__ import annotations

import contextlib
import io
import struct
import subprocess
import sys
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from clip_feature_codec.errors import ConfigError, ImageError
from clip_feature_codec.images import (
    IMAGE_SUFFIXES,
    MAX_PIXELS,
    load_image,
    output_size,
    resize_to,
    save_image,
    squash,
    to_pictures,
    to_tensor,
)

LOSSLESS = (".png", ".tif", ".tiff", ".bmp")


@pytest.fixture(autouse=True)
def _warnings_are_errors():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def smooth(width: int = 48, height: int = 32) -> Image.Image:
    """A picture without sharp edges, whose four corners differ, so that lossy formats stay close to it."""
    x = np.linspace(0, 1, width)[None, :] * np.ones((height, 1))
    y = np.linspace(0, 1, height)[:, None] * np.ones((1, width))
    return Image.fromarray((np.stack([x, y, 1 - x], axis=2) * 200 + 20).astype(np.uint8))


def encoded(image: Image.Image, image_format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=image_format, **options)
    return buffer.getvalue()


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(np.int64)


def largest_difference(a: Image.Image, b: Image.Image) -> int:
    assert a.size == b.size
    return int(np.abs(pixels(a) - pixels(b)).max())


def png(width: int, height: int, bit_depth: int, colour_type: int, rows: bytes = b"") -> bytes:
    """A PNG put together by hand, for what Pillow does not write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, bit_depth, colour_type, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def tiff(values: np.ndarray, photometric: int = 1, order: str = "<") -> bytes:
    """An uncompressed 16-bit TIFF of shape (H, W) or (H, W, 3) put together by hand."""
    height, width = values.shape[:2]
    channels = values.shape[2] if values.ndim == 3 else 1
    data = values.astype(f"{order}u2").tobytes()
    short, long, count = 3, 4, 10
    bits_at = 8 + 2 + 12 * count + 4
    data_at = bits_at + 2 * channels
    word = struct.Struct(f"{order}H")
    tags = [
        (256, short, 1, width),
        (257, short, 1, height),
        (258, short, channels, 16 if channels == 1 else bits_at),
        (259, short, 1, 1),
        (262, short, 1, photometric),
        (273, long, 1, data_at),
        (277, short, 1, channels),
        (278, short, 1, height),
        (279, long, 1, len(data)),
        (284, short, 1, 1),
    ]
    out = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8) + word.pack(count)
    for tag, kind, number, value in tags:
        field = struct.pack(f"{order}HH", value, 0) if kind == short and number == 1 else None
        out += struct.pack(f"{order}HHI", tag, kind, number) + (field or struct.pack(f"{order}I", value))
    return out + struct.pack(f"{order}I", 0) + word.pack(16) * channels + data


# Formats


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


def over_white(rgba: np.ndarray) -> np.ndarray:
    alpha = rgba[..., 3:] / 255.0
    return rgba[..., :3] * alpha + 255.0 * (1 - alpha)


def with_alpha() -> np.ndarray:
    rgba = np.zeros((16, 16, 4), np.uint8)
    rgba[..., :3] = np.asarray(smooth(16, 16))
    rgba[..., 3] = np.arange(256).reshape(16, 16)
    return rgba


@pytest.mark.parametrize("image_format", ["PNG", "TIFF", "WEBP"])
def test_alpha_is_laid_over_white(image_format: str):
    options = {"lossless": True, "exact": True} if image_format == "WEBP" else {}
    loaded = load_image(encoded(Image.fromarray(with_alpha()), image_format, **options))
    assert np.abs(pixels(loaded) - over_white(with_alpha())).max() <= 1


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
    expected = over_white(np.asarray(image.convert("RGBA")).astype(float))
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
    expected = over_white(np.asarray(image.convert("RGBA")).astype(float))
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


# Pillow has no reader for white-is-zero in big-endian order
@pytest.mark.parametrize(("photometric", "order"), [(1, "<"), (1, ">"), (0, "<")])
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
    assert np.abs(loaded - values[..., :].astype(float) / 257).max() < 1


def test_16_bit_colour_png():
    rows = b"\0" + struct.pack(">6H", 65535, 0, 257, 0x1234, 0x8000, 0xFEDC)
    loaded = pixels(load_image(png(2, 1, 16, 2, rows)))
    expected = np.array([[65535, 0, 257], [0x1234, 0x8000, 0xFEDC]]) / 257
    assert np.abs(loaded[0] - expected).max() < 1


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


# What is refused, in one line that names the file


def refusal(path: Path) -> str:
    with pytest.raises(ImageError) as caught:
        load_image(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    return message


@pytest.mark.parametrize("content", [b"", b"\0", b"not a picture at all\n" * 50, b"\xff\xd8\xff\xe0", b"BM"])
def test_no_pictures(tmp_path: Path, content: bytes):
    path = tmp_path / "größe.jpg"
    path.write_bytes(content)
    refusal(path)


def test_a_file_that_is_not_there(tmp_path: Path):
    assert "No such file" in refusal(tmp_path / "gone.png")


def test_a_folder(tmp_path: Path):
    assert "directory" in refusal(tmp_path)


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "AVIF", "TIFF", "GIF", "BMP"])
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.8])
def test_truncated_files(tmp_path: Path, image_format: str, kept: float):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    data = encoded(Image.fromarray(noise), image_format)
    path = tmp_path / "cut.img"
    path.write_bytes(data[: int(len(data) * kept)])
    refusal(path)


def test_bytes_are_refused_without_a_name():
    with pytest.raises(ImageError, match=r"^the given picture: not a picture"):
        load_image(b"nothing")


def test_other_formats_are_not_opened():
    with pytest.raises(ImageError, match="not a picture in a format we read"):
        load_image(encoded(smooth(), "EPS"))


def test_no_pixels():
    with pytest.raises(ImageError, match="0×5"):
        load_image(Image.new("RGB", (0, 5)))


def test_the_limit_holds_without_pillow_s(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    with pytest.raises(ImageError, match="50000×50000"):
        load_image(png(50_000, 50_000, 8, 2))


def test_large_pictures_below_the_limit_do_not_warn():
    width = 10_000
    height = Image.MAX_IMAGE_PIXELS // width + 1
    assert width * height <= MAX_PIXELS
    with pytest.raises(ImageError, match=r"truncated|cut"):  # not the warning: it is the data that is missing
        load_image(png(width, height, 1, 0))


BOMB = """
import resource, sys
from pathlib import Path
from clip_feature_codec.errors import ImageError
from clip_feature_codec.images import load_image
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    load_image(Path(sys.argv[1]))
except ImageError as error:
    assert "pixels" in str(error), error
else:
    raise SystemExit("not refused")
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
unit = 1 if sys.platform == "darwin" else 1024
print(grown * unit)
"""


def bmp_header(width: int, height: int) -> bytes:
    return struct.pack("<2sIHHIIiiHHIIiiII", b"BM", 54, 0, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)


def gif_header(width: int, height: int) -> bytes:
    return (
        b"GIF89a"
        + struct.pack("<HHBBB", width, height, 0, 0, 0)
        + b","
        + struct.pack("<HHHHB", 0, 0, width, height, 0)
        + b"\x02\x02\x4c\x01\x00;"
    )


def tiff_header(width: int, height: int) -> bytes:
    whole = bytearray(tiff(np.zeros((1, 1), np.uint16)))
    struct.pack_into("<HHIHHHHIHH", whole, 10, 256, 3, 1, width, 0, 257, 3, 1, height, 0)
    return bytes(whole)


BOMBS = {
    "png": png(50_000, 50_000, 8, 2),
    "bmp": bmp_header(50_000, 50_000),
    "gif": gif_header(50_000, 50_000),
    "tiff": tiff_header(50_000, 50_000),
}


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
def test_decompression_bombs_are_refused_in_little_memory(tmp_path: Path, bomb: bytes):
    path = tmp_path / "bomb"
    path.write_bytes(bomb)
    command = [sys.executable, "-c", BOMB, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 20 * 2**20
    assert done.stderr == ""


@settings(max_examples=150, deadline=None)
@given(data=st.data(), image_format=st.sampled_from(["JPEG", "PNG", "WEBP", "AVIF", "TIFF", "GIF", "BMP"]))
def test_damaged_files_give_a_picture_or_an_image_error(data: st.DataObject, image_format: str):
    content = bytearray(encoded(smooth(12, 8), image_format))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ImageError):
        assert load_image(bytes(content)).mode == "RGB"


# Writing


@pytest.mark.parametrize("name", ["x", "x.txt", "x.eps", ".png.gz"])
def test_unknown_suffixes_name_what_works(tmp_path: Path, name: str):
    with pytest.raises(ImageError, match=r"\.avif .*\.png"):
        save_image(smooth(), tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_what_a_format_cannot_hold(tmp_path: Path):
    with pytest.raises(ImageError, match="cannot be written"):
        save_image(Image.new("RGB", (16_384, 1)), tmp_path / "wide.webp")
    with pytest.raises(ImageError, match="cannot be written"):
        save_image(Image.new("RGBA", (2, 2)), tmp_path / "alpha.jpg")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_the_way(tmp_path: Path):
    (tmp_path / "x.png").mkdir()
    with pytest.raises(ImageError, match=r"x\.png"):
        save_image(smooth(), tmp_path / "x.png")
    assert [p.name for p in tmp_path.iterdir()] == ["x.png"]


# Tensors


def every_level() -> Image.Image:
    levels = np.arange(256, dtype=np.uint8)
    return Image.fromarray(np.stack([levels, levels[::-1], np.roll(levels, 7)], axis=1)[None])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_round_trip_is_exact_for_every_level(dtype: torch.dtype):
    tensor = to_tensor([every_level(), every_level().transpose(Image.Transpose.ROTATE_180)])
    assert tensor.shape == (2, 3, 1, 256)
    assert tensor.dtype == torch.float32
    assert tensor.is_contiguous()
    first, second = to_pictures(tensor.to(dtype))
    assert (pixels(first) == pixels(every_level())).all()
    assert (pixels(second) == pixels(every_level())[:, ::-1]).all()


def test_the_scale_runs_from_minus_one_to_one():
    tensor = to_tensor([every_level()])
    expected = torch.arange(256, dtype=torch.float64) / 127.5 - 1
    assert tensor[0, 0, 0, 0] == -1.0
    assert tensor[0, 0, 0, 255] == 1.0
    torch.testing.assert_close(tensor[0, 0, 0].double(), expected, atol=1e-7, rtol=0)


def test_rounding_and_clamping():
    # 127.5 and 128.5 levels up from -1 lie exactly between two levels, and go to the even one
    x = torch.tensor([-5.0, -1.0, 127.5 / 127.5 - 1, 1.0, 5.0, float("inf"), float("-inf"), 0.1 / 127.5])
    (picture,) = to_pictures(x.reshape(1, 1, 1, 8).expand(1, 3, 1, 8))
    assert pixels(picture)[0, :, 0].tolist() == [0, 0, 128, 255, 255, 255, 0, 128]


@given(st.lists(st.floats(-1.25, 1.25, width=32), min_size=1, max_size=20))
def test_the_nearest_level_is_taken(values: list[float]):
    x = torch.tensor(values).reshape(1, 1, 1, -1).expand(1, 3, 1, -1)
    levels = pixels(to_pictures(x)[0])[0, :, 0]
    exact = (np.clip(np.array(values, np.float64), -1, 1) + 1) * 127.5
    assert np.abs(levels - exact).max() <= 0.5 + 1e-4


def test_nan_makes_no_picture():
    with pytest.raises(ImageError, match="NaN"):
        to_pictures(torch.full((1, 3, 2, 2), float("nan")))


@pytest.mark.parametrize("shape", [(3, 4, 4), (1, 4, 4, 4), (1, 4, 4, 3)])
def test_other_shapes_are_refused(shape: tuple[int, ...]):
    with pytest.raises(ImageError, match=r"\(N, 3, H, W\)"):
        to_pictures(torch.zeros(shape))


def test_no_pictures_of_an_empty_tensor():
    assert to_pictures(torch.zeros((0, 3, 4, 4))) == []


@pytest.mark.parametrize(
    "pictures",
    [
        [],
        [smooth(4, 4), smooth(4, 5)],
        [smooth(4, 4).convert("L")],
        [smooth(4, 4), smooth(4, 4).convert("RGBA")],
    ],
)
def test_batches_of_mixed_pictures_are_refused(pictures: list[Image.Image]):
    with pytest.raises(ImageError, match="one size"):
        to_tensor(pictures)


# Sizes


def test_squash_is_antialiased():
    checks = (np.indices((256, 256)).sum(axis=0) % 2 * 255).astype(np.uint8)
    small = pixels(squash(Image.fromarray(checks).convert("RGB"), 16))
    assert small.shape == (16, 16, 3)
    assert np.abs(small - 127.5).max() <= 2


def test_resizing_to_a_width_and_a_height():
    assert resize_to(smooth(), (10, 20)).size == (10, 20)
    assert largest_difference(resize_to(smooth(), (48, 32)), smooth()) == 0


@pytest.mark.parametrize(
    ("aspect", "expected"),
    [
        (1.0, (256, 256)),
        (2.0, (256, 128)),
        (0.5, (128, 256)),
        (1.5, (256, 171)),
        (1e9, (256, 1)),
        (1e-9, (1, 256)),
    ],
)
def test_output_size(aspect: float, expected: tuple[int, int]):
    assert output_size(aspect, 256) == expected


@given(st.floats(1e-6, 1e6), st.integers(1, 4096))
def test_the_longer_side_is_the_size(aspect: float, size: int):
    width, height = output_size(aspect, size)
    assert max(width, height) == size
    assert min(width, height) >= 1
    assert (width >= height) == (aspect >= 1) or width == height


@pytest.mark.parametrize("aspect", [0.0, -1.0, float("nan"), float("inf")])
def test_impossible_aspects(aspect: float):
    with pytest.raises(ConfigError):
        output_size(aspect, 64)


def test_impossible_sizes():
    with pytest.raises(ConfigError):
        output_size(1.0, 0)


def test_importing_images_does_not_import_torch():
    code = "import sys; import clip_feature_codec.images; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
