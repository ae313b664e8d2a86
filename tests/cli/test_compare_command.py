"""``clip-codec compare``: what is printed and written, and what is no result of an evaluation."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

Run = Callable[..., Result]


@pytest.fixture
def files(result: dict[str, Any], tmp_path: Path) -> tuple[Path, Path]:
    """A result, and the same where every picture is worse by a decibel."""
    first, second = tmp_path / "a.json", tmp_path / "b.json"
    first.write_text(json.dumps(result))
    for row in result["rows"]:
        if row["metrics"]["psnr"] is not None:
            row["metrics"]["psnr"] -= 1
    second.write_text(json.dumps(result))
    return first, second


def refused(done: Result, *expected: str) -> None:
    assert done.exit_code == 2, done.output
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert [text for text in expected if text not in done.stderr] == [], done.stderr


def test_a_result_of_eval_is_equal_to_itself(finished: Path, tmp_path: Path, ok: Run):
    path = tmp_path / "result.json"
    ok("eval", finished / "store", "--steps", 1, "--size", 16, "--device", "cpu", "--quiet", "--json", path)
    assert "0 worse, 0 better" in ok("compare", path, path).stdout


def test_the_table_says_what_got_worse(files: tuple[Path, Path], ok: Run):
    line = next(line for line in ok("compare", *files).stdout.splitlines() if " psnr " in line)
    assert line.split()[-2:] == ["12", "worse"]


def test_fault_7_the_json_that_is_asked_for_is_written(files: tuple[Path, Path], tmp_path: Path, ok: Run):
    path = tmp_path / "changes.json"
    assert "worse" in ok("compare", *files, "--json", path).stdout
    found = json.loads(path.read_text())
    assert [result["file"] for result in found["results"]] == [str(file) for file in files]
    change = next(change for change in found["changes"] if change["metric"] == "psnr")
    assert change["verdict"] == "worse"
    assert change["difference"]["mean"] == pytest.approx(-11 / 12, abs=1e-6)  # one of twelve is exact in both
    assert change["difference"]["count"] == 12
    assert found["verdicts"]["worse"] == sum(one["verdict"] == "worse" for one in found["changes"])
    assert json.loads(ok("compare", *files, "--json", "-").stdout) == found
    assert ok("compare", *files, "--quiet").stdout == ""


def test_fault_7_what_is_not_written_is_no_option(files: tuple[Path, Path], run: Run):
    refused(run("compare", *files, "--html", "x.html"), "--html")
    refused(run("eval", "--compare", *files), "--compare")


def test_the_status_says_whether_it_is_worse(files: tuple[Path, Path], ok: Run, run: Run):
    first, second = files
    ok("compare", first, second, "--fail-on", "ssim")
    ok("compare", second, first, "--fail-on", "psnr")
    worse = run("compare", first, second, "--fail-on", "psnr")
    assert worse.exit_code == 1
    assert "failed: clp@8, 140 bytes, psnr: worse" in worse.stderr
    refused(run("compare", first, second, "--fail-on", "beauty"), "beauty", "psnr")


def test_few_pictures_allow_no_verdict(result: dict[str, Any], tmp_path: Path, run: Run):
    path = tmp_path / "few.json"
    kept = {image["name"] for image in result["images"][:4]}
    result["rows"] = [row for row in result["rows"] if row["image"] in kept]
    path.write_text(json.dumps(result))
    done = run("compare", path, path, "--fail-on", "psnr")
    assert done.exit_code == 2
    assert "no verdict" in done.stderr


@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xd8\xff\xe0\0\x10JFIF",
        b"",
        b"{",
        b"[" * 100_000,
        b"9" * 5_000,
        b"[1, 2]",
        b'{"model": "another program", "rows": []}',
    ],
    ids=["jpeg", "empty", "cut", "deep", "long", "list", "foreign"],
)
def test_fault_17_what_is_no_result_is_named_with_the_way_out(
    content: bytes, files: tuple[Path, Path], tmp_path: Path, run: Run
):
    path = tmp_path / "photo.jpg"
    path.write_bytes(content)
    refused(run("compare", files[0], path), str(path), "clip-codec eval --json")
    refused(run("compare", path, files[0]), str(path))


@pytest.mark.parametrize(
    ("where", "value"),
    [("bytes", "many"), ("metrics", {"psnr": "high"}), ("metrics", [3]), ("image", ["a"]), ("series", None)],
)
def test_a_result_with_a_value_of_another_kind_is_damaged(
    where: str, value: object, result: dict[str, Any], tmp_path: Path, run: Run
):
    result["rows"][0][where] = value
    path = tmp_path / "damaged.json"
    path.write_text(json.dumps(result))
    refused(run("compare", path, path), str(path), "damaged")


def test_standard_input_is_one_result(files: tuple[Path, Path], ok: Run, run: Run):
    assert "0 worse" in ok("compare", files[0], "-", stdin=files[0].read_bytes()).stdout
    refused(run("compare", "-", "-"), "only one")
    refused(run("compare", files[0], "-", stdin=b"{}"), "standard input")
