"""What searches found, kept in a file."""

from __future__ import annotations

import logging
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from clip_feature_codec.evaluate.baselines.baseline import Settings
from clip_feature_codec.evaluate.baselines.hashes import ThumbHash
from clip_feature_codec.evaluate.baselines.search_cache import SearchCache, search_key
from samples import make_picture


class Counted(ThumbHash):
    """A codec that tells which limits it was asked for."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []

    def search(self, original: Image.Image, limits: Sequence[int]) -> list[Settings | None]:
        self.asked.append(list(limits))
        return [{"quality": limit} if limit > 10 else None for limit in limits]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "searches.sqlite"


def test_only_what_is_not_known_is_searched_for(path: Path):
    codec, picture = Counted(), make_picture(0)
    assert SearchCache(path).search(codec, picture, [5, 20]) == [None, {"quality": 20}]
    assert SearchCache(path).search(codec, picture, [20, 30, 5, 30]) == [
        {"quality": 20},
        {"quality": 30},
        None,
        {"quality": 30},
    ]
    assert codec.asked == [[5, 20], [30]]


def test_another_picture_version_or_range_is_searched_for_anew(path: Path):
    cache, codec, picture = SearchCache(path), Counted(), make_picture(0)
    cache.search(codec, picture, [20])
    cache.search(codec, make_picture(1), [20])
    turned = Image.frombytes("RGB", picture.size[::-1], picture.tobytes())
    cache.search(codec, turned, [20])
    for name, value in (("version", "2"), ("parameters", {"quality": [0, 9]}), ("name", "other")):
        setattr(codec, name, value)
        cache.search(codec, picture, [20])
    assert len(codec.asked) == 6


def test_a_damaged_file_is_begun_anew(path: Path, caplog: pytest.LogCaptureFixture):
    codec, picture = Counted(), make_picture(0)
    path.parent.mkdir()
    path.write_bytes(b"this is no database" * 100)
    with caplog.at_level(logging.WARNING):
        assert SearchCache(path).search(codec, picture, [20]) == [{"quality": 20}]
    assert "damaged" in caplog.text
    SearchCache(path).search(codec, picture, [20])
    assert codec.asked == [[20]]


def test_an_entry_that_is_no_json_is_searched_for_anew(path: Path):
    codec, picture = Counted(), make_picture(0)
    SearchCache(path).search(codec, picture, [20])
    with sqlite3.connect(path) as database:
        database.execute("UPDATE found SET settings = '{'")
    database.close()
    assert SearchCache(path).search(codec, picture, [20]) == [{"quality": 20}]
    assert codec.asked == [[20], [20]]


def test_without_a_place_to_write_everything_is_searched_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    (tmp_path / "file").write_text("in the way")
    codec = Counted()
    for _ in range(2):
        found = SearchCache(tmp_path / "file" / "searches.sqlite").search(codec, make_picture(0), [20])
        assert found == [{"quality": 20}]
    assert codec.asked == [[20], [20]]
    assert "cannot be used" in caplog.text
    assert (tmp_path / "file").read_text() == "in the way"


WRITER = """
import sys
from pathlib import Path
from PIL import Image
from clip_feature_codec.evaluate.baselines.hashes import ThumbHash
from clip_feature_codec.evaluate.baselines.search_cache import SearchCache

for level in range(int(sys.argv[2]), int(sys.argv[2]) + 20):
    SearchCache(Path(sys.argv[1])).search(ThumbHash(), Image.new("RGB", (5, 5), (level, 0, 0)), [9, 30])
"""


def test_two_processes_may_write_at_a_time(path: Path):
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, path, start]) for start in ("0", "20")]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    with sqlite3.connect(path) as database:
        assert database.execute("SELECT COUNT(*), COUNT(DISTINCT key) FROM found").fetchone() == (80, 40)
    database.close()


def test_keys_do_not_change_between_runs():
    assert search_key(Counted(), make_picture(0)) == search_key(Counted(), make_picture(0))
