"""File managers: the MIME type, the entry for thumbnails, and who draws them."""

from __future__ import annotations

import configparser
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner
from PIL import Image

from clip_feature_codec import ClipCodec, thumbnailer
from clip_feature_codec.cli.main import main
from clip_feature_codec.desktop import data_home, files_for, install
from samples import make_picture

GOLDEN = Path(__file__).parent / "golden"
needs_gio = pytest.mark.skipif(
    not (shutil.which("gio") and shutil.which("update-mime-database")),
    reason="there is no gio or no shared-mime-info on this machine",
)


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("desktop") / "a b.clp"
    path.write_bytes(ClipCodec.load(device="cpu").encode(make_picture(1, (60, 40)), layers="layout"))
    return path


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder of nobody's."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))
    return tmp_path / "share"


def type_of(path: Path) -> str:
    """What the desktop takes a file for."""
    told = subprocess.run(
        ["gio", "info", "-a", "standard::content-type", path], capture_output=True, text=True, check=True
    ).stdout
    return told.rpartition("standard::content-type:")[2].strip()


@needs_gio
def test_the_desktop_knows_streams_by_name_and_by_content(home: Path, stream: Path, tmp_path: Path):
    assert type_of(stream) != "image/x-clp"
    done = CliRunner().invoke(main, ["desktop"])
    assert (done.exit_code, done.stderr.count(": written\n")) == (0, 2), done.output
    streams = [stream]
    for path in sorted(GOLDEN.glob("*/*.clp")):  # every profile and layer there is
        streams.append(tmp_path / f"{path.parent.name}-{path.stem}")
        shutil.copy(path, streams[-1])
    assert {type_of(path) for path in streams} == {"image/x-clp"}
    other = tmp_path / "other"
    other.write_bytes(b"\xc7\x42" + bytes(20))
    assert type_of(other) == "application/octet-stream"
    for expected in (2, 0):
        done = CliRunner().invoke(main, ["desktop", "--remove"])
        assert (done.exit_code, done.stderr.count(": deleted\n")) == (0, expected), done.output
    assert type_of(stream) != "image/x-clp"


def test_what_is_installed_names_one_type(home: Path):
    mime, thumbnailer = files_for(data_home()).values()
    space = "{http://www.freedesktop.org/standards/shared-mime-info}"
    found = ElementTree.fromstring(mime).findall(f"{space}mime-type")
    assert [one.get("type") for one in found] == ["image/x-clp"]
    entry = configparser.ConfigParser(interpolation=None)
    entry.read_string(thumbnailer)
    assert entry["Thumbnailer Entry"]["MimeType"] == "image/x-clp;"


@pytest.mark.parametrize("python", [sys.executable, "a folder/100%/python"])
def test_the_entry_draws_a_thumbnail(
    home: Path, stream: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, python: str
):
    monkeypatch.chdir(tmp_path)
    if not Path(python).exists():
        Path(python).parent.mkdir(parents=True)
        Path(python).write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
        Path(python).chmod(0o755)
    entry = configparser.ConfigParser(interpolation=None)
    entry.read_string(files_for(home, python)[home / "thumbnailers/clip-feature-codec.thumbnailer"])
    assert Path(entry["Thumbnailer Entry"]["TryExec"]).exists()
    fields = {"%i": str(stream), "%o": "made by a file manager", "%s": "128"}
    words = shlex.split(entry["Thumbnailer Entry"]["Exec"])
    command = [fields.get(word, word.replace("%%", "%")) for word in words]
    subprocess.run(command, check=True)
    with Image.open("made by a file manager") as image:
        assert (image.format, image.size) == ("PNG", (128, 85))
        expected = ClipCodec.load().preview(stream, size=128)
        assert image.tobytes() == expected.tobytes()


def test_what_cannot_be_drawn_is_told_in_one_line(
    stream: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    damaged, out = tmp_path / "damaged.clp", tmp_path / "t.png"
    damaged.write_bytes(stream.read_bytes()[:-1])
    for arguments, expected in [
        ([damaged, out, "64"], "damaged.clp: checksum: found"),
        ([tmp_path / "none.clp", out, "64"], "none.clp: cannot be read"),
        ([stream, out, "0"], "size is 0"),
        ([stream, stream, "64"], "found the stream itself"),
        ([stream, tmp_path, "64"], "cannot be written"),
        ([stream, out], "usage: "),
    ]:
        status, told = thumbnailer.main([*map(str, arguments)]), capsys.readouterr()
        assert (status, told.out, told.err.count("\n")) == (2, "", 1), told.err
        assert expected in told.err
    assert not out.exists()
    assert stream.read_bytes()[0] == 0xC7


def test_what_cannot_be_installed_is_told_in_one_line(home: Path):
    home.mkdir()
    (home / "mime").write_text("a file")
    done = CliRunner().invoke(main, ["desktop"])
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert "cannot be written" in done.stderr


def test_data_are_where_the_specification_says(tmp_path: Path):
    assert data_home({"XDG_DATA_HOME": str(tmp_path)}) == tmp_path
    for text in ("", "relative/path"):  # which is to be ignored
        assert data_home({"XDG_DATA_HOME": text}) == Path.home() / ".local/share"


def test_without_a_desktop_there_are_the_files_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert all(path.is_file() for path in install(tmp_path / "share"))
    assert not (tmp_path / "share" / "mime" / "mime.cache").exists()
