"""Commands on a store whose pictures lie in archives: originals are found there."""

from __future__ import annotations

import json
import shutil
import tarfile
from collections.abc import Callable
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from click.testing import Result

from clip_feature_codec.embed import ClipEmbedder
from clip_feature_codec.encode import encode_source
from clip_feature_codec.names import DECODER_FILE
from clip_feature_codec.store.opening import open_store

Run = Callable[..., Result]
QUICK = ("--steps", 1, "--size", 16, "--device", "cpu", "--quiet")


@pytest.fixture
def tarred(work: Path, embedder: ClipEmbedder) -> Path:
    """``photos.tar``, and ``tarred``, the store that it makes; the decoder is that of ``store``."""
    with tarfile.open(work / "photos.tar", "w") as archive:
        for path in sorted((work / "photos").rglob("*.png")):
            archive.add(path, path.relative_to(work / "photos"))
    encode_source(work / "photos.tar", work / "tarred", embedder, workers=0)
    shutil.copy(work / "store" / DECODER_FILE, work / "tarred")
    return work / "tarred"


def test_eval_reads_originals_out_of_an_archive(tarred: Path, work: Path, ok: Run) -> None:
    ok("eval", tarred, *QUICK, "--json", work / "tarred.json", "--html", work / "page.html")
    ok("eval", work / "store", *QUICK, "--json", work / "folder.json")
    ours, theirs = (json.loads((work / name).read_text()) for name in ("tarred.json", "folder.json"))
    assert ours["failures"] == []
    assert [original["sha256"] for original in ours["images"]] == [o["sha256"] for o in theirs["images"]]
    assert [row["metrics"] for row in ours["rows"]] == [row["metrics"] for row in theirs["rows"]]
    assert (work / "page.html").read_text().count("data:image") >= 2 * len(ours["images"])


def test_a_store_of_an_archive_is_searched_pruned_and_looked_after(tarred: Path, work: Path, ok: Run) -> None:
    found = json.loads(ok("search", tarred, "--duplicates", "--threshold", "0", "--json", "-").stdout)
    text = json.dumps(found)
    assert str(work / "photos.tar/p0.png") in text
    assert '"missing": true' not in text
    assert "0 of 4 pictures gone" in ok("prune", tarred).output
    (work / "photos.tar").unlink()
    assert "4 of 4 pictures" in ok("prune", tarred).output


def test_an_output_that_would_replace_the_archive_is_refused(tarred: Path, work: Path, run: Run) -> None:
    refused = run("info", tarred, "--json", work / "photos.tar")
    assert refused.exit_code == 2
    assert f"the store {tarred} was made from this picture" in refused.stderr


def test_a_tar_on_a_web_server(tarred: Path, work: Path, ok: Run) -> None:
    class Quiet(SimpleHTTPRequestHandler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(work))  # type: ignore[arg-type]

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/photos.tar"
    try:
        line = ("encode", url, "-o", work / "far", "--codec", tarred, "--layers", "layout")
        assert "4 pictures encoded, 0 unchanged, 0 failed" in ok(*line).output
        assert "0 pictures encoded, 4 unchanged, 0 failed" in ok(*line).output
    finally:
        server.shutdown()
    assert {entry.source for entry in open_store(work / "far").entries} == {
        f"{url}/{name}" for name in ("p0.png", "p1.png", "p3.png", "deep/p2.png")
    }


def test_what_is_no_source_ends_in_a_line(run: Run, work: Path) -> None:
    for name in ("nothing.tar", "no-{0..3}.tar", "s3x://bucket/x/"):
        result = run("encode", name, "-o", work / "new")
        assert result.exit_code == 2
        assert len(result.stderr.splitlines()) <= 2, result.stderr  # one may be a remark on the model
        assert "Traceback" not in result.stderr
    assert "--sync is for a folder" in run("encode", work / "photos/p0.png", "-o", "x.clp", "--sync").stderr


def test_a_name_that_no_file_can_have_costs_its_picture_alone(work: Path, ok: Run, run: Run) -> None:
    with tarfile.open(work / "names.tar", "w") as archive:
        for name in ("p0.png", "x" * 400 + ".png", "p1.png"):
            archive.add(work / "photos/p0.png", name)
    line = ("encode", work / "names.tar", "-o", work / "named", "--codec", "mini", "--layers", "layout")
    ok(*line, "--packed")
    for _ in range(2):  # the second time, there is something in the folder
        result = run("decode", work / "named", "-o", work / "out", "--preview", "--quiet")
        assert result.exit_code == 1, result.output
        assert "xxx.png: cannot be written: File name too long" in result.stderr
        assert "1 of 3 pictures failed; the rest is done" in result.stderr
    assert {path.name for path in (work / "out").rglob("*.png")} == {"p0.png", "p1.png"}
