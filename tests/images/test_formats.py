"""Pictures known by their first bytes."""

from __future__ import annotations

import io
from pathlib import Path

import imagecodecs
import numpy as np
import pillow_heif
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_files import encoded, smooth

from clip_feature_codec.images import IMAGE_SUFFIXES, READ_SUFFIXES, load_image, picture_kind, save_image
from clip_feature_codec.images.formats import HEAD, kind_of

KINDS = {"JPEG", "PNG", "WEBP", "AVIF", "TIFF", "GIF", "BMP", "HEIF", "JXL"}


def heic() -> bytes:
    buffer = io.BytesIO()
    pillow_heif.from_pillow(smooth()).save(buffer)
    return buffer.getvalue()


def made() -> dict[str, bytes]:
    files = {kind: encoded(smooth(), kind) for kind in ("JPEG", "PNG", "WEBP", "AVIF", "TIFF", "GIF", "BMP")}
    files["HEIF"] = heic()
    files["JXL"] = imagecodecs.jpegxl_encode(np.asarray(smooth()), usecontainer=False)
    return files


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("name", ["photo", "photo.txt", "photo.jpg", "photo.mp4", ".hidden"])
def test_a_picture_is_known_whatever_its_name(tmp_path: Path, kind: str, name: str):
    path = tmp_path / name
    path.write_bytes(made()[kind])
    assert picture_kind(path) == kind
    assert load_image(path).size == smooth().size


def test_variants_of_containers():
    assert kind_of(imagecodecs.jpegxl_encode(np.asarray(smooth()), usecontainer=True)[:HEAD]) == "JXL"
    assert kind_of(encoded(smooth(), "TIFF", big_tiff=True)[:HEAD]) == "TIFF"
    assert kind_of(b"MM\0+" + bytes(28)) == kind_of(b"MM\0*" + bytes(28)) == "TIFF"
    assert kind_of(b"\0\0\0\x20ftypmif1\0\0\0\0mif1avifmiafMA1B") == "AVIF"
    assert kind_of(b"\0\0\0\x20ftypavis\0\0\0\0msf1iso8avisavif") == "AVIF"
    assert kind_of(b"\0\0\0\x1cftypmif1\0\0\0\0mif1heicmiaf") == "HEIF"
    assert kind_of(b"\0\0\0\x18ftypmsf1\0\0\0\0msf1hevc") == "HEIF"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff",
        b"BM and other texts begin like a bitmap",
        b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0",
        b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41",
        b"\0\0\0\x14ftypqt  \0\0\0\0qt  ",
        b"\0\0\0\x18ftypcrx \0\0\0\1crx isom",  # Canon's raw files of today
        b"%PDF-1.7\n",
        b"%!PS-Adobe-3.0 EPSF-3.0\n",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"GIF88a",
        b"PK\3\4",
        b"\x7fELF\2\1\1\0",
        b"FUJIFILMCCD-RAW ",
    ],
)
def test_what_is_no_picture_of_ours(tmp_path: Path, content: bytes):
    (tmp_path / "x.jpg").write_bytes(content)
    assert picture_kind(tmp_path / "x.jpg") is None


@pytest.mark.parametrize("suffix", [".nef", ".DNG", ".cr2", ".arw"])
def test_raw_files_of_cameras_are_no_pictures_of_ours(tmp_path: Path, suffix: str):
    (tmp_path / f"photo{suffix}").write_bytes(encoded(smooth(), "TIFF"))
    assert picture_kind(tmp_path / f"photo{suffix}") is None
    (tmp_path / f"photo{suffix}").write_bytes(encoded(smooth(), "JPEG"))
    assert picture_kind(tmp_path / f"photo{suffix}") == "JPEG"


def test_what_cannot_be_opened(tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        picture_kind(tmp_path / "gone")
    with pytest.raises(IsADirectoryError):
        picture_kind(tmp_path)


@given(st.binary(max_size=HEAD))
def test_any_bytes_have_a_kind_or_none(head: bytes):
    assert kind_of(head) in KINDS | {None}


@pytest.mark.parametrize("suffix", sorted(IMAGE_SUFFIXES))
def test_what_is_written_is_of_its_kind(tmp_path: Path, suffix: str):
    save_image(smooth(), tmp_path / f"x{suffix}")
    kind = picture_kind(tmp_path / f"x{suffix}")
    assert kind == {".jpg": "JPEG", ".tif": "TIFF"}.get(suffix, suffix[1:].upper())


def test_suffixes_are_lower_case_with_a_dot():
    assert IMAGE_SUFFIXES < READ_SUFFIXES
    assert all(suffix == suffix.lower() and suffix[0] == "." for suffix in READ_SUFFIXES)
    assert {".heic", ".heif", ".jxl"} <= READ_SUFFIXES - IMAGE_SUFFIXES
