"""JPEG XL files (fault 5). The encoder at hand writes few kinds, so headers are written here."""

from __future__ import annotations

import contextlib

import imagecodecs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_files import largest_difference, over_white, pixels, samples, smooth

from clip_feature_codec.errors import ImageError
from clip_feature_codec.images import load_image
from clip_feature_codec.images.jxl_header import read_header

RED = np.full((16, 16, 3), (200, 60, 60), np.uint8)


class Writer:
    """A writer of bits, the lowest of each byte first."""

    def __init__(self) -> None:
        self.bits: list[int] = []

    def put(self, *numbers: tuple[int, int]) -> Writer:
        """Numbers and how many bits each takes."""
        for number, count in numbers:
            self.bits += [number >> i & 1 for i in range(count)]
        return self

    def enumerated(self, number: int) -> Writer:
        if number < 2:
            return self.put((number, 2))
        return self.put((2, 2), (number - 2, 4)) if number < 18 else self.put((3, 2), (number - 18, 6))

    def tobytes(self) -> bytes:
        return np.packbits(np.array(self.bits, np.uint8), bitorder="little").tobytes()


def made(
    picture: np.ndarray = RED,
    *,
    primaries: int = 1,
    transfer: int = 13,
    gamma: float | None = None,
    orientation: int = 1,
    icc: bool = False,
    lossless: bool = True,
) -> bytes:
    """A codestream of 16 × 16 pixels whose header says what it is told (ISO/IEC 18181-1, annexes A and D)."""
    options = {"lossless": True} if lossless else {"distance": 0.5}
    data = imagecodecs.jpegxl_encode(picture, usecontainer=False, **options)
    frames = data[5 if lossless else 4 :]  # the encoder's own header has 22 or 11 bits behind the signature
    writer = Writer().put((1, 1), (1, 5), (1, 3))  # 16 × 16
    writer.put((0, 1), (int(orientation != 1), 1))
    if orientation != 1:
        writer.put((orientation - 1, 3), (0, 3))
    writer.put((0, 1), (0, 2), (1, 1), (0, 2), (int(not lossless), 1))  # 8 bits, no alpha
    writer.put((0, 1), (int(icc), 1)).enumerated(0)
    if not icc:
        writer.enumerated(1).enumerated(primaries)
        if gamma is None:
            writer.put((0, 1)).enumerated(transfer)
        else:
            writer.put((1, 1), (round(1e7 / gamma), 24))
        writer.enumerated(1)
    if orientation != 1:
        writer.put((1, 1))
    return b"\xff\x0a" + writer.put((0, 2), (1, 1)).tobytes() + frames


def light(encoded: np.ndarray) -> np.ndarray:
    """IEC 61966-2-1, from samples to light."""
    return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)


@pytest.mark.parametrize("container", [False, True])
@pytest.mark.parametrize("lossless", [False, True])
def test_jpeg_xl(tmp_path, container: bool, lossless: bool):
    data = imagecodecs.jpegxl_encode(np.asarray(smooth()), lossless=lossless, usecontainer=container)
    (tmp_path / "photo.jxl").write_bytes(data)
    loaded = load_image(tmp_path / "photo.jxl")
    assert (loaded.mode, loaded.info) == ("RGB", {})
    assert largest_difference(loaded, smooth()) <= (0 if lossless else 24)


@pytest.mark.parametrize("kind", ["u1", "u2", "f2", "f4", "10 bits"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_every_kind_of_samples(kind: str, channels: int):
    """The encoder at hand calls deep samples linear, and so they are meant."""
    four = np.concatenate([samples(), samples()[::-1, ::-1, :1]], axis=2)
    shares = four[..., [0, 3]] if channels == 2 else four[..., :channels]
    coded, colours = shares.copy(), channels - (channels % 2 == 0)
    if kind != "u1":
        coded[..., :colours] = light(coded[..., :colours])
    options = {"bitspersample": 10} if kind == "10 bits" else {}
    highest = {"u1": 255, "u2": 65535, "10 bits": 1023}.get(kind)
    values = coded.astype(kind) if highest is None else np.rint(coded * highest)
    values = values.astype({"10 bits": "u2"}.get(kind, kind)).squeeze()
    data = imagecodecs.jpegxl_encode(values, lossless=True, **options)
    tolerance = 2 if kind == "10 bits" or channels % 2 == 0 else 0.6
    assert np.abs(pixels(load_image(data)) - over_white(shares)).max() <= tolerance


@pytest.mark.parametrize("lossless", [False, True])
def test_the_written_header_says_srgb(lossless: bool):
    assert load_image(made(lossless=lossless)).getpixel((8, 8)) == pytest.approx((200, 60, 60), abs=1)


def test_colours_by_number():
    """Lossless samples are of the colours named; lossy ones are brought there by the decoder."""
    assert load_image(made(primaries=11)).getpixel((8, 8)) == pytest.approx((217, 42, 52), abs=1)
    for primaries in (9, 11):
        there_and_back = load_image(made(primaries=primaries, lossless=False))
        assert there_and_back.getpixel((8, 8)) == pytest.approx((200, 60, 60), abs=2)


def test_curves():
    expected = [((value / 255) ** 2.2) for value in (200, 60, 60)]
    back = [255 * (1.055 * value ** (1 / 2.4) - 0.055) for value in expected]
    assert load_image(made(gamma=2.2)).getpixel((8, 8)) == pytest.approx(back, abs=1)
    linear = [255 * (1.055 * (value / 255) ** (1 / 2.4) - 0.055) for value in (200, 60, 60)]
    assert load_image(made(transfer=8)).getpixel((8, 8)) == pytest.approx(linear, abs=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"transfer": 16}, "found transfer function 16"),
        ({"transfer": 18}, "found transfer function 18"),
        ({"primaries": 7}, "found white point or primaries 7"),
        ({"icc": True}, "found colours described by an ICC profile"),
    ],
)
def test_what_cannot_be_brought_to_srgb_is_refused(options: dict[str, int], message: str):
    with pytest.raises(ImageError, match=message):
        load_image(made(**options))


TURNS = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: a[::-1].transpose(1, 0, 2),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: a[:, ::-1].transpose(1, 0, 2),
}


@pytest.mark.parametrize("orientation", TURNS)
def test_a_picture_is_turned_once(orientation: int):
    """By the decoder; the numbers are EXIF's."""
    stored = np.asarray(smooth(16, 16))
    loaded = load_image(made(stored, orientation=orientation))
    assert (np.asarray(loaded) == TURNS[orientation](stored)).all()


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (256, 256), (257, 3), (3, 2000), (40, 20), (9000, 1)])
@pytest.mark.parametrize("container", [False, True])
def test_the_header_knows_the_size(size: tuple[int, int], container: bool):
    width, height = size
    data = imagecodecs.jpegxl_encode(np.zeros((height, width), np.uint8), usecontainer=container)
    header = read_header(data)
    assert (header.width, header.height, header.bits) == (width, height, 8)
    with pytest.raises(ImageError, match=f"{width}×{height} pixels"):
        load_image(data, max_pixels=width * height - 1)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60), st.booleans())
def test_any_header_is_read_or_refused(rest: bytes, container: bool):
    box = (8 + len(rest)).to_bytes(4, "big") + b"jxlc"
    data = b"\0\0\0\x0cJXL \r\n\x87\n" + box + rest if container else b"\xff\x0a" + rest
    with contextlib.suppress(ValueError):
        assert read_header(data).width >= 1


@pytest.mark.parametrize("kept", [0.02, 0.5, 0.9])
def test_truncated_files_are_refused(kept: float):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    data = imagecodecs.jpegxl_encode(noise)
    with pytest.raises(ImageError):
        load_image(data[: int(len(data) * kept)])
