"""Payloads of picture files, against files taken apart or put together here."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image

from clip_feature_codec.errors import ImageError
from clip_feature_codec.evaluate.baselines.containers import avif_payload, jpeg_payload, webp_payload
from samples import make_picture


def saved(image_format: str, **options: object) -> bytes:
    file = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)
    picture = Image.blend(make_picture(0, (56, 40)), Image.fromarray(noise), 0.5)
    picture.save(file, format=image_format, **options)
    return file.getvalue()


def test_a_jpegs_payload_lies_between_its_scan_header_and_its_end():
    data = saved("JPEG", quality=90)
    at = data.index(b"\xff\xda")
    scan = at + 2 + int.from_bytes(data[at + 2 : at + 4])
    assert b"\xff\x00" in data[scan:], "the picture must have a stuffed byte, or this shows little"
    assert jpeg_payload(data) == len(data) - 2 - scan


def test_all_scans_of_a_progressive_jpeg_and_restarts_count():
    plain, restarts = saved("JPEG", quality=60), saved("JPEG", quality=60, restart_marker_blocks=2)
    markers = sum(restarts.count(bytes([0xFF, 0xD0 + i])) for i in range(8))
    assert markers > 2
    assert jpeg_payload(restarts) >= jpeg_payload(plain) + 2 * markers
    progressive = saved("JPEG", quality=60, progressive=True)
    assert progressive.count(b"\xff\xda") > 3
    assert 0.7 < jpeg_payload(progressive) / jpeg_payload(plain) < 1.3


@pytest.mark.parametrize("lossless", [False, True])
def test_a_webps_payload_is_the_file_without_twenty_bytes(lossless: bool):
    data = saved("WEBP", quality=30, lossless=lossless)
    padded = len(data) - 20
    assert webp_payload(data) in (padded, padded - 1)
    assert webp_payload(data) == struct.unpack("<I", data[16:20])[0]


def test_an_extended_webps_metadata_is_no_payload():
    plain, extended = saved("WEBP", quality=30), saved("WEBP", quality=30, exif=b"Exif\0\0" + 99 * b"x")
    assert extended[12:16] == b"VP8X"
    assert webp_payload(extended) == webp_payload(plain)


def test_an_avifs_payload_is_what_its_media_data_box_holds():
    data = saved("AVIF", quality=40)
    at = data.index(b"mdat")
    assert avif_payload(data) == len(data) - at - 4 == int.from_bytes(data[at - 4 : at]) - 8


@pytest.mark.parametrize("version", [0, 1, 2])
def test_item_locations_of_every_version(version: int):
    def box(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", 8 + len(body)) + kind + body

    wide = "I" if version == 2 else "H"
    iloc = bytes([version, 0, 0, 0, 0x48, 0x40 | (4 if version else 0)])  # offsets 4, lengths 8, bases 4
    iloc += struct.pack(f">{wide}", 2)
    for item, lengths in ((1, [30, 12]), (2, [5])):
        iloc += struct.pack(f">{wide}", item) + (b"\0\0" if version else b"") + struct.pack(">HI", 0, 7)
        iloc += struct.pack(">H", len(lengths))
        for length in lengths:
            iloc += (struct.pack(">I", 1) if version else b"") + struct.pack(">IQ", 100, length)
    meta = box(b"meta", bytes(4) + box(b"hdlr", bytes(20)) + box(b"iloc", iloc))
    assert avif_payload(box(b"ftyp", b"avif") + meta + box(b"mdat", bytes(47))) == 47


@pytest.mark.parametrize("payload", [jpeg_payload, webp_payload, avif_payload])
@pytest.mark.parametrize(
    "data", [b"", b"nothing of the kind, but long enough", b"RIFF\0\0\0\0WEBP", b"\xff\xd8"]
)
def test_other_files_are_refused(payload, data: bytes):
    with pytest.raises(ImageError, match="not a"):
        payload(data)


def test_a_jpeg_that_is_cut_short_is_refused():
    with pytest.raises(ImageError, match="whole"):
        jpeg_payload(saved("JPEG")[:-2])
