"""What is no picture, a damaged one, or too large, is refused in one line that names the file."""

from __future__ import annotations

import contextlib
import io
import struct
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import imagecodecs
import numpy as np
import pillow_heif
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_files import encoded, png, smooth, tiff
from PIL import Image

from clip_feature_codec.errors import ImageError
from clip_feature_codec.images import MAX_PIXELS, load_image


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
    with pytest.raises(ImageError, match="Not enough image data"):  # no warning about the size
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


# The limit of pixels (fault 18)


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "AVIF", "TIFF", "GIF", "BMP"])
def test_the_limit_is_the_caller_s(image_format: str):
    data = encoded(smooth(), image_format)
    assert load_image(data, max_pixels=48 * 32).size == (48, 32)
    with pytest.raises(ImageError, match=r"48×32 pixels, expected 1,535 at most.*--max-pixels"):
        load_image(data, max_pixels=48 * 32 - 1)
    with pytest.raises(ImageError, match="48×32 pixels"):
        load_image(smooth(), max_pixels=48 * 32 - 1)


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "AVIF", "TIFF", "GIF", "BMP"])
def test_more_than_pillow_s_limit_can_be_allowed(monkeypatch: pytest.MonkeyPatch, image_format: str):
    """A scanned map of 16400 × 16400 was refused. (WebP has no sides of more than 16383 pixels.)"""
    data = encoded(smooth(), image_format)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert load_image(data).size == (48, 32)


def test_a_scanned_map():
    """It is found to have no pixels, which is more than its header says."""
    data = png(16_400, 16_400, 1, 0)
    with pytest.raises(ImageError, match="16400×16400 pixels, expected 178,956,970 at most"):
        load_image(data)
    with pytest.raises(ImageError, match="Not enough image data"):
        load_image(data, max_pixels=300_000_000)


def test_limits_of_several_threads_do_not_meet():
    data = encoded(smooth(), "PNG")
    refused: list[bool] = []

    def read(max_pixels: int) -> None:
        for _ in range(50):
            try:
                load_image(data, max_pixels)
            except ImageError:
                refused.append(max_pixels < 48 * 32)
            else:
                refused.append(max_pixels >= 48 * 32)

    threads = [threading.Thread(target=read, args=(limit,)) for limit in (10, 10**9, 1535, 1536)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert refused == [True] * 200


def test_warnings_are_hushed_and_back_again_after_reading_in_threads():
    """The filters are the process's: threads that set them back in another order left them changed."""
    corrupt = encoded(smooth(), "TIFF").replace(b"\x11\x01\x04\0\1\0\0\0", b"\x11\x01\x04\0\2\0\0\0")
    before = list(warnings.filters)

    def read() -> None:
        for _ in range(50):
            with contextlib.suppress(ImageError):
                load_image(corrupt)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(warnings.filters) == before


def whole_files() -> dict[str, bytes]:
    """A small sound file of each format, and of the ways that deep samples go."""
    picture, deep = smooth(12, 8), np.asarray(smooth(12, 8)).astype(np.uint16) * 257
    files = {kind: encoded(picture, kind) for kind in ("JPEG", "PNG", "WEBP", "AVIF", "TIFF", "GIF", "BMP")}
    heic = io.BytesIO()
    pillow_heif.from_pillow(picture).save(heic)
    return files | {
        "HEIF": heic.getvalue(),
        "JXL": imagecodecs.jpegxl_encode(np.asarray(picture)),
        "16-bit PNG": imagecodecs.png_encode(deep),
        "16-bit TIFF": tiff(deep, photometric=2),
    }


WHOLE = whole_files()


@settings(max_examples=250, deadline=None)
@given(data=st.data(), form=st.sampled_from(sorted(WHOLE)))
def test_damaged_files_give_a_picture_or_an_image_error(data: st.DataObject, form: str):
    content = bytearray(WHOLE[form])
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ImageError):
        assert load_image(bytes(content)).mode == "RGB"
