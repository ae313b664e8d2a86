"""Picture files made for tests, and what is to come out of them."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image


def smooth(width: int = 48, height: int = 32) -> Image.Image:
    """A picture without sharp edges, whose four corners differ, so that lossy formats stay close to it."""
    return Image.fromarray(np.rint(255 * samples(width, height)).astype(np.uint8))


def samples(width: int = 48, height: int = 32) -> np.ndarray:
    """The same as floats (H, W, 3) from 0 to 1."""
    x = np.linspace(0, 1, width)[None, :] * np.ones((height, 1))
    y = np.linspace(0, 1, height)[:, None] * np.ones((1, width))
    return (np.stack([x, y, 1 - x], axis=2) * 200 + 20) / 255


def encoded(image: Image.Image, image_format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=image_format, **options)
    return buffer.getvalue()


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(np.int64)


def largest_difference(a: Image.Image, b: Image.Image) -> int:
    assert a.size == b.size
    return int(np.abs(pixels(a) - pixels(b)).max())


def over_white(samples: np.ndarray) -> np.ndarray:
    """What is to be seen of floats (H, W, C) from 0 to 1, alpha last if C is 2 or 4: (H, W, 3), 0 to 255."""
    if samples.shape[2] in (2, 4):
        alpha = samples[..., -1:]
        samples = samples[..., :-1] * alpha + 1 - alpha
    return np.broadcast_to(samples, (*samples.shape[:2], 3)) * 255.0


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG file."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(
    width: int,
    height: int,
    bit_depth: int,
    colour_type: int,
    rows: bytes = b"",
    more: bytes = b"",
    interlace: int = 0,
) -> bytes:
    """A PNG put together by hand, for what Pillow does not write; ``more`` are chunks before the pixels."""
    header = struct.pack(">IIBBBBB", width, height, bit_depth, colour_type, 0, 0, interlace)
    parts = (chunk(b"IHDR", header), more, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


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
