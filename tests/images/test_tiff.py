"""TIFF files in every form: what comes out is what was put in, or they are refused with the reason."""

from __future__ import annotations

import io
import itertools
import struct

import numpy as np
import pytest
import tifffile
from made_files import encoded, largest_difference, over_white, pixels, samples, smooth
from PIL import Image, TiffImagePlugin

from clip_feature_codec.errors import ImageError
from clip_feature_codec.images import load_image

# What the samples mean: photometric interpretation, extra samples, channels
MEANINGS = {
    "black is zero": ("minisblack", (), 1),
    "white is zero": ("miniswhite", (), 1),
    "grey, alpha": ("minisblack", (2,), 2),
    "grey, multiplied": ("minisblack", (1,), 2),
    "grey, unknown": ("minisblack", (0,), 2),
    "colour": ("rgb", (), 3),
    "colour, alpha": ("rgb", (2,), 4),
    "colour, multiplied": ("rgb", (1,), 4),
    "colour, unknown": ("rgb", (0,), 4),
    "colour, alpha, unknown": ("rgb", (2, 0), 5),
    "inks": ("separated", (), 4),
}
TYPES = ("u1", "u2", "u4", "f2", "f4", "f8")
WAYS = [
    {},
    {"tile": (16, 16)},
    {"rowsperstrip": 5},
    {"compression": "lzw"},
    {"compression": "lzw", "predictor": True},
    {"compression": "zlib", "predictor": True, "tile": (16, 16)},
    {"compression": "packbits"},
    {"compression": "zstd"},
    {"bigtiff": True},
]


def stored(channels: int, kind: np.dtype) -> np.ndarray:
    """Samples (H, W, C) from 0 to 1 that differ in every channel, as far as ``kind`` can tell them."""
    smooth_samples = np.concatenate([samples(33, 24), samples(33, 24)[::-1, ::-1]], axis=2)[..., :channels]
    if kind.kind == "f":
        return smooth_samples.astype(kind)
    return np.rint(smooth_samples * np.iinfo(kind).max).astype(kind)


def scaled(values: np.ndarray) -> np.ndarray:
    """Samples as floats from 0 to 1; integers are rounded to 8 bits, as they are on the way."""
    if values.dtype.kind == "f":
        return values.astype(np.float64)
    return np.rint(values / np.iinfo(values.dtype).max * 255) / 255


def seen(values: np.ndarray, meaning: str) -> np.ndarray:
    """What is to be seen of samples (H, W, C): levels (H, W, 3)."""
    photometric, extra, _ = MEANINGS[meaning]
    colours = scaled(values)
    if photometric == "miniswhite":
        colours = 1 - colours
    if photometric == "separated":
        return over_white((1 - colours[..., :3]) * (1 - colours[..., 3:]))
    count = 3 if photometric == "rgb" else 1
    if extra[:1] == (2,):
        return over_white(colours[..., : count + 1])
    if extra[:1] == (1,):
        return over_white(colours[..., :count] + 1 - colours[..., count : count + 1])
    return over_white(colours[..., :count])


def written(values: np.ndarray, meaning: str, order: str, planar: bool, **way: object) -> bytes:
    photometric, extra, channels = MEANINGS[meaning]
    if channels == 1:
        values = values[..., 0]
    else:
        way["planarconfig"] = "separate" if planar else "contig"
        values = np.moveaxis(values, -1, 0) if planar else values
    buffer = io.BytesIO()
    tifffile.imwrite(
        buffer, values, photometric=photometric, extrasamples=extra, byteorder=order, metadata=None, **way
    )
    return buffer.getvalue()


@pytest.mark.parametrize("meaning", MEANINGS)
@pytest.mark.parametrize("kind", TYPES)
def test_what_was_put_in_comes_out(kind: str, meaning: str):
    """Fault 24 is colour of u2, planar, without compression: Pillow takes its planes for pixels."""
    values = stored(MEANINGS[meaning][2], np.dtype(kind))
    if "multiplied" in meaning:  # no colour is brighter than its alpha
        values[..., -1] = values.max(axis=-1)
    alone = MEANINGS[meaning][1] in ((), (0,)) and meaning != "inks"
    # Where samples come together, each of them is rounded before, and perhaps divided by alpha
    tolerance = 0.51 if alone else 2.0 if "multiplied" in meaning else 1.5
    for order, planar, way in itertools.product("<>", (False, True), WAYS):
        data = written(values, meaning, order, planar, **way)
        difference = np.abs(pixels(load_image(data)) - seen(values, meaning)).max()
        assert difference <= tolerance, (order, planar, way)


@pytest.mark.parametrize("kind", ["i1", "i2", "i4", "c8"])
@pytest.mark.parametrize("photometric", ["minisblack", "rgb"])
def test_signed_and_complex_samples_are_refused(kind: str, photometric: str):
    values = np.zeros((8, 8, 3) if photometric == "rgb" else (8, 8), kind)
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, photometric=photometric, metadata=None)
    with pytest.raises(ImageError, match=f"found samples of type {np.dtype(kind).name}, expected unsigned"):
        load_image(buffer.getvalue())


@pytest.mark.parametrize("bits", [2, 4, 6, 10, 12, 14])
@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite", "rgb"])
def test_samples_between_bytes(bits: int, photometric: str):
    """The rest of a byte belongs to the next sample; each row begins with a new one (TIFF 6.0, page 17)."""
    channels = 3 if photometric == "rgb" else 1
    highest = 2**bits - 1
    values = np.random.default_rng(bits).integers(0, highest + 1, (5, 7, channels))
    unpacked = (values.reshape(5, -1, 1) >> np.arange(bits)[::-1]) & 1
    rows = np.packbits(unpacked.reshape(5, -1).astype(np.uint8), axis=1).tobytes()
    loaded = load_image(
        by_hand(7, 5, bits, channels, {"miniswhite": 0, "minisblack": 1, "rgb": 2}[photometric], rows)
    )
    shares = 1 - values / highest if photometric == "miniswhite" else values / highest
    assert np.abs(pixels(loaded) - over_white(shares)).max() <= 0.501


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize(("channels", "photometric"), [(1, 1), (3, 2), (4, 5)])
def test_bytes_with_the_first_pixel_in_the_lowest_bits(bits: int, channels: int, photometric: int):
    """FillOrder 2 (TIFF 6.0, page 32)."""
    values = np.random.default_rng(bits).integers(0, 2**bits, (5, 7, channels))
    unpacked = (values.reshape(5, -1, 1) >> np.arange(bits)[::-1]) & 1
    straight, turned = (
        np.packbits(unpacked.reshape(5, -1).astype(np.uint8), axis=1, bitorder=order).tobytes()
        for order in ("big", "little")
    )
    loaded = load_image(by_hand(7, 5, bits, channels, photometric, turned, fill_order=2))
    assert largest_difference(loaded, load_image(by_hand(7, 5, bits, channels, photometric, straight))) == 0


def by_hand(
    width: int, height: int, bits: int, channels: int, photometric: int, rows: bytes, fill_order: int = 1
) -> bytes:
    """An uncompressed TIFF of rows that are packed already."""
    ifd = TiffImagePlugin.ImageFileDirectory_v2()
    ifd[256], ifd[257], ifd[258] = width, height, (bits,) * channels
    ifd[259], ifd[262], ifd[277], ifd[278], ifd[279] = 1, photometric, channels, height, len(rows)
    ifd[266] = fill_order
    ifd[273] = 0  # from the end of the directory on
    return b"II*\0\x08\0\0\0" + ifd.tobytes(8) + rows


WITH_JPEG = ("L", "LA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")
WITHOUT = itertools.product(
    ("1", "P", "I;16", "F", *WITH_JPEG), (None, "tiff_lzw", "tiff_adobe_deflate", "packbits")
)


@pytest.mark.parametrize(("mode", "compression"), [*WITHOUT, *((mode, "jpeg") for mode in WITH_JPEG)])
def test_what_pillow_writes(mode: str, compression: str | None):
    picture = smooth().convert(mode) if mode != "I;16" else Image.new(mode, (48, 32), 0x8080)
    expected = picture.convert("RGB") if mode != "I;16" else Image.new("RGB", (48, 32), (128, 128, 128))
    tolerance = 8 if compression == "jpeg" else 1 if mode in ("F", "YCbCr") else 0
    loaded = load_image(encoded(picture, "TIFF", compression=compression))
    assert largest_difference(loaded, expected) <= tolerance


@pytest.mark.parametrize("compression", ["group3", "group4", "tiff_ccitt"])
def test_faxes(compression: str):
    page = smooth().convert("1")
    loaded = load_image(encoded(page, "TIFF", compression=compression))
    assert largest_difference(loaded, page.convert("RGB")) == 0


@pytest.mark.parametrize("bits", [8, 16])
def test_palettes(bits: int):
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 256, (3, 2**bits))
    indices = rng.integers(0, 2**bits, (8, 9)).astype(f"u{bits // 8}")
    for factor in (256, 257):  # some programs fill the upper byte alone
        buffer = io.BytesIO()
        table = (colours * factor).astype(np.uint16)
        tifffile.imwrite(buffer, indices, photometric="palette", colormap=table, metadata=None)
        assert (pixels(load_image(buffer.getvalue())) == np.moveaxis(colours[:, indices], 0, -1)).all()


def test_lab():
    """TIFF 6.0, section 23: L* 0 to 255 for 0 to 100, a* and b* signed."""
    lab = np.array([[[255, 0, 0], [137, 0, 0], [136, 81, 70]]], np.uint8)  # white, grey, red of sRGB
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, lab, photometric="cielab", metadata=None)
    expected = [[255, 255, 255], [128, 128, 128], [255, 0, 0]]
    assert np.abs(pixels(load_image(buffer.getvalue()))[0] - expected).max() <= 5


def test_the_first_of_several_pages():
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        for value in (70, 200):
            writer.write(np.full((8, 8, 3), value * 257, np.uint16), photometric="rgb", metadata=None)
    assert load_image(buffer.getvalue()).getpixel((4, 4)) == (70, 70, 70)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_of_deep_samples(orientation: int):
    values = stored(3, np.dtype("u2"))
    tag = [(274, "H", 1, orientation, True)]
    deep = written(values, "colour", "<", planar=False, extratags=tag)
    flat = written(np.rint(values / 257).astype(np.uint8), "colour", "<", planar=False, extratags=tag)
    assert load_image(deep).size == ((24, 33) if orientation > 4 else (33, 24))
    assert largest_difference(load_image(deep), load_image(flat)) == 0


# Refused, with the reason


def refusal(values: np.ndarray, **options: object) -> str:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, metadata=None, **options)
    with pytest.raises(ImageError) as caught:
        load_image(buffer.getvalue())
    return str(caught.value)


def test_raw_files_of_cameras_are_refused():
    """Their first picture is a thumbnail, which would be taken for the photograph."""
    grey = np.zeros((16, 16), np.uint8)
    assert "thumbnail" in refusal(grey, subfiletype=1)
    assert "thumbnail" in refusal(grey, extratags=[(50706, "B", 4, b"\1\4\0\0", True)])
    assert "photometric interpretation 32803" in refusal(grey, photometric="cfa")


def test_what_has_no_agreed_meaning_is_refused():
    assert "alpha beside" in refusal(
        np.zeros((8, 8, 5), np.uint8), photometric="separated", extrasamples=[2], planarconfig="contig"
    )
    assert "inks other than" in refusal(
        np.zeros((8, 8, 4), np.uint8),
        photometric="separated",
        planarconfig="contig",
        extratags=[(332, "H", 1, 2, True)],
    )
    assert "samples per pixel" in refusal(np.zeros((20, 8, 8), np.uint8), planarconfig="separate")


def test_subsampled_colour_without_jpeg_is_refused():
    data = encoded(smooth().convert("YCbCr"), "TIFF")
    tag = b"\x12\x02\x03\0\2\0\0\0\1\0\1\0"  # YCbCrSubSampling 1, 1
    assert tag in data
    with pytest.raises(ImageError, match="subsampled YCbCr"):
        load_image(data.replace(tag, tag[:8] + b"\2\0\2\0"))


@pytest.mark.parametrize("kind", ["u1", "u2"])
@pytest.mark.parametrize(("tag", "value"), [("StripByteCounts", 0), ("ImageLength", 2400)])
def test_missing_parts_are_refused(kind: str, tag: str, value: int):
    """They would be black, or what lay in memory before; and a few bytes could ask for gigabytes."""
    data = bytearray(written(stored(3, np.dtype(kind)), "colour", "<", planar=False, rowsperstrip=5))
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        at = file.pages.first.tags[tag].valueoffset
    struct.pack_into("<H", data, at, value)
    with pytest.raises(ImageError, match="parts of the picture are missing"):
        load_image(bytes(data))


def test_the_limit_of_pixels_holds_for_deep_samples():
    data = written(stored(3, np.dtype("u2")), "colour", "<", planar=False)
    with pytest.raises(ImageError, match="33×24 pixels, expected 100 at most"):
        load_image(data, max_pixels=100)
