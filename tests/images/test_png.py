"""PNG files of every kind, held against the standard."""

from __future__ import annotations

import io
import struct
import threading
import zlib

import numpy as np
import pytest
from made_files import chunk, encoded, largest_difference, over_white, pixels, png, smooth
from PIL import Image, PngImagePlugin

from clip_feature_codec.errors import ImageError
from clip_feature_codec.images import load_image

# PNG, third edition, table 8: colour type, channels, depths
KINDS = [
    (colour, channels, depth)
    for colour, channels, depths in [
        (0, 1, (1, 2, 4, 8, 16)),
        (2, 3, (8, 16)),
        (3, 1, (1, 2, 4, 8)),
        (4, 2, (8, 16)),
        (6, 4, (8, 16)),
    ]
    for depth in depths
]


def rows_of(values: np.ndarray, depth: int) -> bytes:
    """Samples (H, W, C) as the rows of a PNG file, unfiltered."""
    flat = values.reshape(len(values), -1)
    if depth == 16:
        packed = [row.astype(">u2").tobytes() for row in flat]
    else:
        bits = np.unpackbits(flat.astype(np.uint8)[..., None], axis=-1)[..., 8 - depth :]
        packed = [np.packbits(row).tobytes() for row in bits.reshape(len(flat), -1)]
    return b"".join(b"\0" + row for row in packed)


def passes_of(values: np.ndarray, depth: int) -> bytes:
    """The same in Adam7's seven passes: each from (x, y) on, in steps across and down."""
    passes = [
        (0, 0, 8, 8),
        (4, 0, 8, 8),
        (0, 4, 4, 8),
        (2, 0, 4, 4),
        (0, 2, 2, 4),
        (1, 0, 2, 2),
        (0, 1, 1, 2),
    ]
    return b"".join(rows_of(values[y::down, x::across], depth) for x, y, across, down in passes)


class Made:
    """A PNG of noise, 11 × 13, in which the fourth pixel's colour is transparent, if there is to be one."""

    def __init__(
        self, colour: int, channels: int, depth: int, *, transparent: bool = False, interlaced: bool = False
    ) -> None:
        rng = np.random.default_rng(depth)
        self.colour, self.highest = colour, 2**depth - 1
        self.values = rng.integers(0, self.highest + 1, (13, 11, channels))
        self.key = self.values[0, 3] if transparent else None
        self.palette = rng.integers(0, 256, (self.highest + 1, 4)).astype(np.uint8)
        more = b""
        if colour == 3:
            more += chunk(b"PLTE", self.palette[:, :3].tobytes())
        if transparent:
            of_palette = self.palette[:, 3].tobytes()
            more += chunk(b"tRNS", of_palette if colour == 3 else self.key.astype(">u2").tobytes())
        rows = (passes_of if interlaced else rows_of)(self.values, depth)
        self.data = png(11, 13, depth, colour, rows, more, int(interlaced))

    def seen(self) -> np.ndarray:
        """What is to be seen by the standard, in 8 bits a sample, over white."""
        if self.colour == 3:
            colours = self.palette[self.values[..., 0]]
            return over_white((colours[..., :3] if self.key is None else colours) / 255)
        colours = np.rint(self.values / self.highest * 255) / 255
        if self.key is None:
            return over_white(colours)
        alpha = (self.values != self.key).any(axis=2, keepdims=True)
        return over_white(np.concatenate([colours, alpha], axis=2))


EVERY = [(*kind, False) for kind in KINDS] + [(*kind, True) for kind in KINDS if kind[0] not in (4, 6)]


@pytest.mark.parametrize(("colour", "channels", "depth", "transparent"), EVERY)
@pytest.mark.parametrize("interlaced", [False, True])
def test_every_kind(colour: int, channels: int, depth: int, transparent: bool, interlaced: bool):
    """Fault 22 is grey of 2, 4 and 16 bits and colour of 16 with a transparent colour."""
    made = Made(colour, channels, depth, transparent=transparent, interlaced=interlaced)
    assert np.abs(pixels(load_image(made.data)) - made.seen()).max() <= 0.501


@pytest.mark.parametrize("key", [0x0034, 0x3400, 0x3434])
def test_a_16_bit_colour_is_compared_whole(key: int):
    """Fault 22: an opaque (52, 52, 52) whose bytes resemble the transparent colour became white."""
    values = np.full((1, 2, 3), 0x3434)
    values[0, 1] = key
    data = png(2, 1, 16, 2, rows_of(values, 16), chunk(b"tRNS", struct.pack(">3H", key, key, key)))
    loaded = load_image(data)
    assert loaded.getpixel((1, 0)) == (255, 255, 255)
    assert loaded.getpixel((0, 0)) == ((255, 255, 255) if key == 0x3434 else (52, 52, 52))


def test_black_that_is_transparent_becomes_white_at_every_depth():
    for depth in (1, 2, 4, 8, 16):
        data = png(1, 1, depth, 0, rows_of(np.zeros((1, 1, 1), int), depth), chunk(b"tRNS", b"\0\0"))
        assert load_image(data).getpixel((0, 0)) == (255, 255, 255)


def test_rows_that_are_missing_are_not_black():
    """A stream that ends well, and too early: Pillow gives out black for the rest."""
    whole = rows_of(np.full((10, 10, 3), 200), 8)
    assert load_image(png(10, 10, 8, 2, whole)).getpixel((0, 9)) == (200, 200, 200)
    with pytest.raises(ImageError, match="Not enough image data"):
        load_image(png(10, 10, 8, 2, whole[: 31 * 5]))


def test_faults_beside_the_pixels_are_not_spoken_of(capfd: pytest.CaptureFixture[str]):
    more = (
        chunk(b"iCCP", b"x\0\0" + zlib.compress(b"no profile")) + chunk(b"gAMA", b"1") + chunk(b"zTXt", b"")
    )
    data = png(1, 1, 8, 2, b"\0abc", more + chunk(b"tIME", b"") + chunk(b"cHRM", bytes(3)))
    assert load_image(data).size == (1, 1)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("at", [50, -30, -20])
def test_damaged_pixels_are_refused_and_not_spoken_of(capfd: pytest.CaptureFixture[str], at: int):
    data = bytearray(Made(2, 3, 16).data)
    data[at] ^= 1
    with pytest.raises(ImageError, match="a checksum is wrong"):
        load_image(bytes(data))
    assert capfd.readouterr() == ("", "")


# Texts

MUCH = b"x" * 2_000_000
TEXTS = {
    "tEXt": chunk(b"tEXt", b"parameters\0" + MUCH),
    "zTXt": chunk(b"zTXt", b"parameters\0\0" + zlib.compress(MUCH)),
    "iTXt": chunk(b"iTXt", b"parameters\0\1\0\0\0" + zlib.compress(MUCH)),
    "iCCP": chunk(b"iCCP", b"colours\0\0" + zlib.compress(MUCH)),
}


def with_chunk(data: bytes, more: bytes, *, behind: bool = False) -> bytes:
    """A PNG with a chunk more, before its pixels or behind them."""
    at = data.rindex(b"IEND") - 4 if behind else data.index(b"IDAT") - 4
    return data[:at] + more + data[at:]


@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
@pytest.mark.parametrize("mode", ["RGB", "I;16"])
def test_megabytes_of_text_do_not_cost_the_picture(text: bytes, behind: bool, mode: str):
    """Fault 23: MAX_TEXT_CHUNK."""
    picture = smooth().convert(mode) if mode == "RGB" else Image.new(mode, (48, 32), 0x8080)
    plain = encoded(picture, "PNG")
    loaded = load_image(with_chunk(plain, text, behind=behind))
    assert largest_difference(loaded, load_image(plain)) == 0


def test_a_quarter_of_a_gigabyte_of_text_does_not_cost_the_picture():
    text = chunk(b"zTXt", b"parameters\0\0" + zlib.compress(bytes(2**26)))
    data = with_chunk(encoded(smooth(), "PNG"), text * 4)
    assert largest_difference(load_image(data), smooth()) == 0


def test_orientation_is_found_beside_megabytes_of_text():
    exif = Image.Exif()
    exif[0x0112] = 6
    data = with_chunk(encoded(smooth(), "PNG", exif=exif), TEXTS["zTXt"])
    assert load_image(data).size == (32, 48)
    xmp = b"XML:com.adobe.xmp\0\0\0\0\0" + b'<rdf:Description tiff:Orientation="6"/>'
    data = with_chunk(with_chunk(encoded(smooth(), "PNG"), chunk(b"iTXt", xmp)), TEXTS["zTXt"])
    assert load_image(data).size == (32, 48)


def test_no_setting_of_pillow_s_is_touched_for_other_threads():
    """Fault 23: the way round its limit must not lift it for the process."""
    data = with_chunk(encoded(smooth(), "PNG"), TEXTS["zTXt"])
    errors: list[Exception] = []

    def read() -> None:
        try:
            for _ in range(20):
                load_image(data)
        except Exception as error:  # noqa: BLE001
            errors.append(error)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert PngImagePlugin.MAX_TEXT_CHUNK == 2**20
        with pytest.raises(ValueError, match="MAX_TEXT_CHUNK"):
            PngImagePlugin.PngImageFile(io.BytesIO(data))
    assert errors == []


# 16 bits, by another way than 8


@pytest.mark.parametrize("behind", [False, True])
def test_16_bits_are_turned_upright(behind: bool):
    exif = Image.Exif()
    exif[0x0112] = 6
    block = chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))
    data = with_chunk(png(3, 2, 16, 2, bytes(2 * 19)), block, behind=behind)
    assert load_image(data).size == (2, 3)


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.8])
@pytest.mark.parametrize("colour", [0, 2, 6])
def test_truncated_16_bits_are_refused(kept: float, colour: int):
    noise = np.random.default_rng(0).integers(0, 65536, (64, 64, {0: 1, 2: 3, 6: 4}[colour]))
    data = png(64, 64, 16, colour, rows_of(noise, 16))
    with pytest.raises(ImageError):
        load_image(data[: int(len(data) * kept)])


@pytest.mark.parametrize("name", ["x.png", "ß.png"])
def test_16_bits_from_a_file(tmp_path, name: str):
    data = Made(2, 3, 16, transparent=True).data
    (tmp_path / name).write_bytes(data)
    assert largest_difference(load_image(tmp_path / name), load_image(data)) == 0
