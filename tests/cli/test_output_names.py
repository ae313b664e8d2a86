"""Faults 14 and 17: outputs with names that say something else, or that cannot be written, refused early."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from clip_feature_codec import files
from clip_feature_codec.embed import ClipEmbedder

Run = Callable[..., Result]


def refused(result: Result, *expected: str) -> None:
    assert (result.exit_code, result.stdout) == (2, ""), result.output
    assert result.stderr.count("\n") == 1, result.stderr
    assert [text for text in expected if text not in result.stderr] == [], result.stderr


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            "encode photos/p0.png -o x.png",
            "x.png: names in .png are those of pictures; what is written",
        ),
        ("encode photos/p0.png -o .png", "names in .png"),
        ("encode photos/p0.png -o x.HEIC", "names in .heic"),
        ("encode photos/p0.png -o x.json", "use .clp"),
        ("encode photos/p0.png -o x.clp --json y.clp", "names in .clp are those of a .clp stream"),
        ("encode photos -o x.clp", "what is written here is a store, a folder: leave it out"),
        ("encode photos -o x.jpeg", "names in .jpeg"),
        ("transcode store/p0.clp -o y.png", "names in .png"),
        ("transcode store -o y.clp", "names in .clp"),
        ("decode store -o file.png", "what is written here is a folder of pictures"),
        ("decode store/p0.clp -o x", "its name must end in .avif"),
        ("decode store/p0.clp -o x.clp", "its name must end in .avif"),
        ("fit store -o x.png", "names in .png"),
        ("fit store -o -", "does not go to standard output"),
        ("search store sky --sheet -", "does not go to standard output"),
        ("eval store --html x.csv", "names in .csv are those of a table"),
        ("eval store --table x.json", "its name must end in .csv .parquet"),
        ("eval store --figures x.png", "names in .png"),
        ("demo -o x.html", "names in .html"),
        ("encode photos/p0.png -o --quiet", "expected a name, found '--quiet' (./--quiet names such a file)"),
        ("encode photos/p0.png -o x.clp --json --quiet", "'--json': expected a name, found '--quiet'"),
        (
            "encode photos/p0.png -o new/",
            "new is a folder; what is written here is a .clp stream",
        ),
        ("fit store -o new/", "new is a folder"),
        ("info store --json store", "'store' is a directory"),
        ("info store --json store/p0.clp/x.json", "store/p0.clp is a file, not a folder"),
    ],
)
def test_fault_14_names_say_what_is_there(
    line: str, expected: str, work: Path, run: Run, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(work)
    before = sorted(work.rglob("*"))
    refused(run(*line.split()), expected)
    assert sorted(work.rglob("*")) == before


@pytest.mark.parametrize("name", ["x.clp", "x.CLP", "x", "x.y.clp", "x.v2"])
def test_a_stream_has_its_ending_or_none_that_is_known(
    name: str, work: Path, run: Run, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(work)
    result = run("transcode", "store/p0.clp", "-o", name)
    assert result.exit_code == 0, result.output
    assert (work / name).read_bytes()[:1] == b"\xc7"


@pytest.fixture
def no_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes sure that no model is loaded."""

    def fail(*_: object, **__: object) -> ClipEmbedder:
        raise AssertionError("the model was loaded first")

    monkeypatch.setattr(ClipEmbedder, "load", fail)


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.EROFS, "name a place outside of this read-only file system"),
        (errno.ENOSPC, "free some space there"),
        (errno.EACCES, "name another place"),
        (errno.EIO, "name another place"),
    ],
)
@pytest.mark.parametrize(
    "line",
    [
        "encode photos -o new/store",
        "encode photos -o store",
        "encode photos/p0.png -o x.clp",
        "decode store/p0.clp -o new/x.png",
        "decode store -o new",
        "search store sky --sheet x.png",
        "info store --json x.json",
        "transcode store -o new",
        "fit photos -o x.json",
        "train store --force",
        "eval store --table x.csv",
        "eval store --work new",
        "demo -o new",
    ],
)
@pytest.mark.usefixtures("no_models")
def test_fault_17_outputs_are_tried_before_the_work(
    line: str, number: int, remedy: str, work: Path, run: Run, monkeypatch: pytest.MonkeyPatch
):
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.chdir(work)
    monkeypatch.setattr(Path, "write_bytes", fail)
    before = sorted(work.rglob("*"))
    refused(run(*line.split()), f"cannot be written: {os.strerror(number)}", remedy)
    assert sorted(work.rglob("*")) == before


def test_fault_17_trying_an_output_leaves_nothing_behind(tmp_path: Path):
    (tmp_path / "there").mkdir()
    for name in ("x", "there/x", "new/deep/x"):
        files.try_writing(tmp_path / name)
    assert [path.name for path in tmp_path.rglob("*")] == ["there"]
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="a" * 300):
        files.try_writing(tmp_path / ("a" * 300))


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="needs a device that is always full")
def test_fault_17_a_disk_that_fills_up_is_named_with_what_to_do(work: Path, run: Run):
    result = run("transcode", work / "store/p0.clp", "-o", "/dev/full")
    refused(result, "/dev/full: No space left on device: free some space there, and run the same")


def test_devices_and_pipes_are_written_to_as_they_are(work: Path, run: Run):
    result = run("transcode", work / "store/p0.clp", "-o", os.devnull, "--json", os.devnull)
    assert result.exit_code == 0, result.output
    assert Path(os.devnull).is_char_device()
