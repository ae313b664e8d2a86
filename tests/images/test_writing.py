"""Writing pictures, and telling them from those of other programs."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_files import encoded, largest_difference, smooth
from PIL import Image

from clip_feature_codec.errors import ImageError
from clip_feature_codec.images import IMAGE_SUFFIXES, has_mark, load_image, save_image


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


# The mark (fault 1): decoding writes over its own pictures only

MARKED = sorted(IMAGE_SUFFIXES - {".bmp"})


@pytest.mark.parametrize("suffix", MARKED)
def test_what_was_written_here_is_marked(tmp_path: Path, suffix: str):
    path = tmp_path / f"again{suffix}"
    save_image(smooth(), path)
    assert has_mark(path)
    renamed = path.rename(tmp_path / "again")
    assert has_mark(renamed)


@pytest.mark.parametrize("suffix", sorted(IMAGE_SUFFIXES))
def test_what_others_wrote_is_not(tmp_path: Path, suffix: str):
    smooth().save(tmp_path / f"photo{suffix}")
    assert not has_mark(tmp_path / f"photo{suffix}")


@pytest.mark.parametrize("suffix", MARKED)
def test_the_mark_of_another_program_is_not_ours(tmp_path: Path, suffix: str):
    exif = Image.Exif()
    exif[0x0131] = "clip-feature-codec-viewer 3"
    smooth().save(tmp_path / f"photo{suffix}", exif=exif, comment=b"made with clip-feature-codec")
    assert not has_mark(tmp_path / f"photo{suffix}")


def test_a_bitmap_has_no_place_for_a_mark(tmp_path: Path):
    save_image(smooth(), tmp_path / "again.bmp")
    assert not has_mark(tmp_path / "again.bmp")


@pytest.mark.parametrize("content", [b"", b"clip-feature-codec", b"\x89PNG\r\n\x1a\nclip-feature-codec"])
def test_what_is_no_picture_has_no_mark(tmp_path: Path, content: bytes):
    (tmp_path / "x.png").write_bytes(content)
    assert not has_mark(tmp_path / "x.png")
    assert not has_mark(tmp_path / "gone.png")
    assert not has_mark(tmp_path)


@pytest.mark.parametrize("suffix", MARKED)
@pytest.mark.parametrize("kept", [0.05, 0.3, 0.7])
def test_a_cut_file_is_no_error(tmp_path: Path, suffix: str, kept: float):
    save_image(smooth(), tmp_path / f"x{suffix}")
    data = (tmp_path / f"x{suffix}").read_bytes()
    (tmp_path / f"x{suffix}").write_bytes(data[: int(len(data) * kept)])
    assert has_mark(tmp_path / f"x{suffix}") in (True, False)


@pytest.mark.parametrize("suffix", MARKED)
def test_the_mark_changes_no_pixel_and_does_not_travel(tmp_path: Path, suffix: str):
    """A picture that was read from a marked file and written by another program is not marked."""
    path = tmp_path / f"again{suffix}"
    save_image(smooth(), path)
    kind = {".jpg": "JPEG", ".tif": "TIFF"}.get(suffix, suffix[1:].upper())
    quality = {"JPEG": {"quality": 95}, "WEBP": {"quality": 95}, "AVIF": {"quality": 90}}.get(kind, {})
    plain = load_image(encoded(smooth(), kind, **quality))
    assert largest_difference(load_image(path), plain) == 0
    load_image(path).save(tmp_path / f"other{suffix}")
    assert not has_mark(tmp_path / f"other{suffix}")


def test_writing_twice_gives_the_same_bytes(tmp_path: Path):
    for suffix in IMAGE_SUFFIXES:
        save_image(smooth(), tmp_path / f"a{suffix}")
        save_image(smooth(), tmp_path / f"b{suffix}")
        assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()
