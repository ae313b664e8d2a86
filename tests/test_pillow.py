"""Pillow, and what reads through it, with ``.clp`` files."""

from __future__ import annotations

import io
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, UnidentifiedImageError

import clip_feature_codec.pillow  # noqa: F401
from clip_feature_codec import ClipCodec
from clip_feature_codec.codec.feature_codec import FeatureCodec
from clip_feature_codec.errors import CodecError
from samples import make_picture

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="module")
def codec() -> ClipCodec:
    return ClipCodec.load(device="cpu")


@pytest.fixture(scope="module")
def stream(codec: ClipCodec, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pillow") / "a.clp"
    path.write_bytes(codec.encode(make_picture(1, (60, 40)), max_bytes=140))
    return path


def test_a_file_is_opened_at_once_and_shown_when_it_is_looked_at(
    stream: Path, codec: ClipCodec, monkeypatch: pytest.MonkeyPatch
):
    with monkeypatch.context() as patched:
        patched.setattr(FeatureCodec, "layouts", None)  # whoever decodes fails
        image = Image.open(stream)
        assert (image.format, image.mode, image.size) == ("CLP", "RGB", (256, 170))
        assert image.get_format_mimetype() == "image/x-clp"
    assert image.tobytes() == codec.preview(stream).tobytes()
    assert image.fp is None  # the file is closed


def test_a_stream_in_memory_is_opened_too(stream: Path, codec: ClipCodec):
    with Image.open(io.BytesIO(stream.read_bytes())) as image:
        assert image.tobytes() == codec.preview(stream).tobytes()


@pytest.mark.parametrize(
    ("size", "expected"), [((64, 64), (97, 64)), ((600, 200), (600, 398)), ((10**9, 1), (8192, 5440))]
)
def test_a_draft_covers_the_size_that_is_asked_for(
    stream: Path, codec: ClipCodec, size: tuple[int, int], expected: tuple[int, int]
):
    image = Image.open(stream)
    image.draft(None, size)
    assert image.size == expected
    if max(expected) < 1000:
        assert image.tobytes() == codec.preview(stream, size=expected[0]).tobytes()
        image.draft(None, (10, 10))  # too late
        assert image.size == expected


def test_a_thumbnail_is_drawn_small(stream: Path, codec: ClipCodec):
    image = Image.open(stream)
    image.thumbnail((32, 32))
    assert image.size == (32, 21)
    small = np.asarray(codec.preview(stream, size=32), int)
    assert np.abs(np.asarray(image, int) - small).max() <= 8


def test_it_is_painted_on_request(stream: Path, codec: ClipCodec):
    image = Image.open(stream)
    painted = image.paint(fidelity=1.0, size=64)
    assert painted.tobytes() == codec.decode(stream, fidelity=1.0, size=64).tobytes()
    with pytest.raises(CodecError, match="fidelity"):
        image.paint(fidelity=2)


def test_an_image_is_saved_to_a_budget(tmp_path: Path, codec: ClipCodec):
    picture = make_picture(2, (50, 70))
    picture.save(tmp_path / "b.clp", max_bytes=140)
    assert (tmp_path / "b.clp").read_bytes() == codec.encode(picture, max_bytes=140)
    memory = io.BytesIO()
    picture.save(memory, "CLP", layers="layout", quality=20, codec=codec)
    assert memory.getvalue() == codec.encode(picture, layers="layout", quality=20)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"max_bytes": 3}, "max bytes"),
        ({"quality": 101}, "quality: found 101"),
        ({"codec": "mini"}, "codec: found str, expected a ClipCodec"),
    ],
)
def test_what_cannot_be_saved_is_a_value_error_and_leaves_no_file(
    tmp_path: Path, options: dict[str, object], expected: str
):
    with pytest.raises(ValueError, match=expected):
        make_picture(0).save(tmp_path / "c.clp", **options)
    assert not (tmp_path / "c.clp").exists()


def test_a_store_s_stream_is_read_with_the_tables_beside_it(tmp_path: Path):
    for name in ("codec.json", "landscape.clp"):
        shutil.copy(GOLDEN / "klt" / name, tmp_path)
    with Image.open(tmp_path / "landscape.clp") as image:
        expected = ClipCodec.load(tmp_path).preview(tmp_path / "landscape.clp")
        assert image.tobytes() == expected.tobytes()


def test_streams_that_cannot_be_read_are_pillow_s_errors_with_our_line(stream: Path, tmp_path: Path):
    damaged, other = tmp_path / "damaged.clp", tmp_path / "other.clp"
    damaged.write_bytes(stream.read_bytes()[:-1])
    shutil.copy(GOLDEN / "klt" / "square.clp", other)
    for path, expected in ((damaged, "checksum"), (other, "codec id")):
        with pytest.raises(UnidentifiedImageError, match=f"{path.name}: {expected}: found"):
            Image.open(path)
    with pytest.raises(UnidentifiedImageError, match="length: found 2 bytes"):
        Image.open(io.BytesIO(b"\xc7\x2c"))
    for head in (b"\xc7", b"\xc7\x4c" + bytes(20), bytes(20)):  # one of a later version among them
        with pytest.raises(UnidentifiedImageError, match="cannot identify image file"):
            Image.open(io.BytesIO(head))


def test_a_stream_without_a_layout_says_how_it_is_seen(codec: ClipCodec, tmp_path: Path):
    (tmp_path / "v.clp").write_bytes(codec.encode(make_picture(3), layers="semantic"))
    image = Image.open(tmp_path / "v.clp")
    with pytest.raises(OSError, match=r"layout layer: found none.*paint\(\)"):
        image.load()
    assert image.paint(steps=1, size=32).size == (32, 24)


def test_an_opened_file_goes_to_another_process(stream: Path):
    for drawn in (False, True):
        image = Image.open(stream)
        image.draft(None, (40, 40))
        if drawn:
            image.load()
        again = pickle.loads(pickle.dumps(image))
        assert (again.size, again.tobytes()) == (image.size, image.tobytes())
        assert again.stream == image.stream


def test_imageio_reads_and_writes_through_pillow(stream: Path, tmp_path: Path):
    imageio = pytest.importorskip("imageio.v3", reason="imageio is not installed")
    with Image.open(stream) as image:
        np.testing.assert_array_equal(imageio.imread(stream), np.asarray(image))
    imageio.imwrite(tmp_path / "d.clp", np.asarray(make_picture(4)), max_bytes=100)
    assert 90 < (tmp_path / "d.clp").stat().st_size <= 100


def test_one_import_is_what_it_takes(stream: Path):
    script = (
        "import sys; from PIL import Image; import {}\n"
        "try: print(Image.open(sys.argv[1]).size, 'torch' in sys.modules)\n"
        "except Image.UnidentifiedImageError: print('unknown')"
    )
    for module, expected in (
        ("clip_feature_codec.pillow", "(256, 170) False"),
        ("clip_feature_codec", "unknown"),
    ):
        done = subprocess.run(
            [sys.executable, "-c", script.format(module), str(stream)],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert done.stdout.strip() == expected
