"""Fault 18: how many pixels a picture may have is for the person at the keyboard to say."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from samples import make_picture

Run = Callable[..., Result]


@pytest.fixture
def photos(work: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four pictures of the store, and ``p4``, which has 10,000 pixels and is new."""
    monkeypatch.chdir(work)
    make_picture(4, (100, 100)).save(work / "photos/p4.png")
    return work / "photos"


def test_a_picture_alone(photos: Path, run: Run, ok: Run):
    for source, name in (("photos/p4.png", "photos/p4.png"), ("-", "standard input")):
        command = ("encode", source, "-o", "x.clp", "--codec", "store", "--max-pixels")
        result = run(*command, 9999, stdin=(photos / "p4.png").read_bytes())
        assert result.exit_code == 2
        assert f"{name}: " in result.stderr
        assert "--max-pixels" in result.stderr
        ok(*command, 10000, stdin=(photos / "p4.png").read_bytes())


def test_a_folder_a_query_and_originals(photos: Path, tiny_clip: Path, run: Run, ok: Run):
    for command, status in (
        (("encode", "photos", "-o", "store", "--workers", 0, "--quiet"), 1),
        (("fit", "photos", "-o", "codec.json", "--model", tiny_clip), 1),
        (("search", "store", "--image", "photos/p4.png"), 2),
        (("eval", "store", "--steps", 1, "--size", 16, "--device", "cpu"), 1),
    ):
        result = run(*command, "--max-pixels", 9999)
        assert result.exit_code == status, result.output
        assert "p4.png: cannot be read" in result.stderr
        ok(*command, "--max-pixels", 10000)
    assert json.loads(ok("info", "store", "--json", "-").stdout)["pictures"] == 5
