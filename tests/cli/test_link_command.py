"""`clip-codec link`: what goes into a link comes out of it."""

from __future__ import annotations

import base64
import io
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from clip_feature_codec import ClipCodec
from clip_feature_codec.cli.main import main
from clip_feature_codec.errors import ConfigError
from clip_feature_codec.links import link_to, qr_code
from samples import make_picture

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture(scope="module")
def codec() -> ClipCodec:
    return ClipCodec.load(device="cpu")


@pytest.fixture
def photo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    make_picture(1, (60, 40)).save("photo.png")
    return "photo.png"


def run(*arguments: str, stdin: bytes | None = None, page: str | None = None) -> Result:
    return CliRunner(env={"CLIP_CODEC_PAGE": page}).invoke(main, ["link", *arguments], input=stdin)


def held(link: str) -> bytes:
    """The stream in a link, in the way that any program would read it."""
    fragment = link.strip().partition("#")[2]
    assert "=" not in fragment
    return base64.b64decode(fragment + "=" * (-len(fragment) % 4), altchars=b"-_", validate=True)


def read_by_another(picture: Image.Image) -> str:
    zxingcpp = pytest.importorskip("zxingcpp", reason="zxing-cpp is not installed")
    (found,) = zxingcpp.read_barcodes(picture)
    assert found.format == zxingcpp.BarcodeFormat.QRCode
    return str(found.text)


def test_a_photo_becomes_a_link_and_a_code(photo: str, codec: ClipCodec):
    done = run(photo, "--max-bytes", "140", "--qr", "out.png")
    assert (done.exit_code, done.stdout.count("\n")) == (0, 1), done.output
    assert held(done.stdout) == codec.encode(photo, max_bytes=140)
    assert done.stdout.startswith("http://127.0.0.1:8140/view#x")
    link = done.stdout.strip()
    assert f"{len(held(link))} bytes in a link of {len(link)} characters" in done.stderr
    with Image.open("out.png") as code:
        assert code.size == ((53 + 8) * 8, (53 + 8) * 8)  # version 9
        assert read_by_another(code.convert("L")) == link


@pytest.mark.parametrize("size", [6, 340, 2000])
def test_codes_of_all_sizes_are_read(size: int):
    link = link_to("https://example.org/v", bytes(range(256)) * 8)[: size + 30]
    assert read_by_another(qr_code(link)) == link


def test_what_no_code_can_hold_is_told():
    with pytest.raises(ConfigError, match="QR code: found 3000 characters, expected 2,953 at most"):
        qr_code("x" * 3000)


def test_a_stream_goes_in_as_it_is_or_smaller(photo: str, codec: ClipCodec, tmp_path: Path):
    blob = codec.encode(photo, max_bytes=200)
    (tmp_path / "a.clp").write_bytes(blob)
    assert held(run("a.clp", "--page", "https://example.org/see").stdout) == blob
    assert held(run("-", stdin=blob).stdout) == blob
    assert held(run("a.clp", "--max-bytes", "64").stdout) == codec.transcode([blob], max_bytes=64)[0]
    picture = io.BytesIO(Path(photo).read_bytes())
    assert held(run("-", "--max-bytes", "90", stdin=picture.getvalue()).stdout) == codec.encode(
        photo, max_bytes=90
    )


def test_the_page_is_chosen_once_for_all(photo: str):
    link = run(photo, "--layers", "layout", "--quiet", page="https://example.org/view/").stdout
    assert link.startswith("https://example.org/view/#x")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--page", "example.org"], "page: found 'example.org'"),
        (["--page", "https://example.org/#top"], "page: found"),
        (["--page", "javascript:alert(1)"], "page: found"),
        (["--max-bytes", "5"], "max bytes"),
    ],
)
def test_what_makes_no_link_is_told_in_one_line(photo: str, arguments: list[str], expected: str):
    done = run(photo, "--quiet", "--qr", "out.png", *arguments)
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.output
    assert expected in done.stderr
    assert not Path("out.png").exists()


def test_streams_that_the_page_cannot_show_are_refused(photo: str, codec: ClipCodec, tmp_path: Path):
    shutil.copy(GOLDEN / "klt/square.clp", tmp_path / "other.clp")
    (tmp_path / "damaged.clp").write_bytes(codec.encode(photo)[:-1])
    for name, expected in (("other.clp", "codec id: found"), ("damaged.clp", "checksum: found")):
        done = run(name)
        assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.output
        assert f"{name}: {expected}" in done.stderr
