"""Tars and Parquet files as sources: what is found in them, in which order, and what is said of the rest."""

from __future__ import annotations

import pickle
import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from source_samples import (
    datasets_parquet,
    img2dataset_parquet,
    picture_bytes,
    plain_tar,
    read_all,
    webdataset_tar,
)

from clip_feature_codec.errors import StoreError
from clip_feature_codec.places import safe_name
from clip_feature_codec.sources import parquet as parquet_module
from clip_feature_codec.sources import tar as tar_module
from clip_feature_codec.sources.opening import open_source
from clip_feature_codec.sources.original import read_original
from clip_feature_codec.sources.patterns import expand_braces
from clip_feature_codec.sources.protocol import Notes


def names(name: str | Path) -> list[str]:
    return [picture.name for picture in read_all(name)[0]]


def test_a_tar_of_webdatasets(tmp_path: Path) -> None:
    tar = webdataset_tar(tmp_path / "shard-000.tar", range(5))
    found, notes = read_all(tar)
    assert [picture.name for picture in found] == [f"shard-000/{i:05}.jpg" for i in range(5)]
    assert [picture.content for picture in found] == [picture_bytes(i) for i in range(5)]
    assert [picture.place for picture in found] == [f"{tar}/{i:05}.jpg" for i in range(5)]
    assert {picture.mtime_ns for picture in found} == {tar.stat().st_mtime_ns}
    assert notes == Notes([], Counter({".txt": 5, ".json": 5}))


@pytest.mark.parametrize("ending", [".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz"])
def test_tars_are_read_however_they_are_packed(tmp_path: Path, ending: str) -> None:
    mode = {".tar.gz": "w:gz", ".tgz": "w:gz", ".tar.bz2": "w:bz2", ".tar.xz": "w:xz"}.get(ending, "w")
    tar = plain_tar(tmp_path / f"a{ending}", {"x/1.jpg": picture_bytes(1), "2.png": picture_bytes(2)}, mode)
    assert names(tar) == ["a/x/1.jpg", "a/2.png"]
    assert read_original(f"{tar}/2.png") == picture_bytes(2)


def test_names_in_a_tar_lead_nowhere_else_and_kinds_are_known_by_content(tmp_path: Path) -> None:
    files = {
        "./a.jpg": picture_bytes(0),
        "../../etc/b.jpg": picture_bytes(1),
        "/root/c.jpg": picture_bytes(2),
        "d": picture_bytes(3),
        "e\\..\\f.jpg": picture_bytes(4),
        ".hidden.jpg": picture_bytes(5),
        "__MACOSX/._a.jpg": b"resource fork",
        "notes": b"no picture",
        "film.mp4": b"\0" * 50,
    }
    found, notes = read_all(plain_tar(tmp_path / "t.tar", files))
    assert [p.name for p in found] == ["t/a.jpg", "t/etc/b.jpg", "t/root/c.jpg", "t/d", "t/e/f.jpg"]
    assert notes.skipped == {"without an ending": 1, ".mp4": 1}
    assert read_original(found[1].place) == picture_bytes(1)


@settings(max_examples=50)
@given(st.text("a./\\\\ :é\0"))
def test_a_safe_name_stays_inside(name: str) -> None:
    safe = safe_name(name)
    assert not safe.startswith("/")
    assert ".." not in safe.split("/")
    assert safe_name(safe) == safe


def test_what_is_twice_in_an_archive_is_said_and_the_first_taken(tmp_path: Path) -> None:
    tar = plain_tar(tmp_path / "t.tar", [("a.jpg", picture_bytes(0)), ("a.jpg", picture_bytes(1))])
    found, notes = read_all(tar)
    assert [picture.content for picture in found] == [picture_bytes(0)]
    assert notes.failures == [
        (f"{tar}/a.jpg", f"{tar}/a.jpg: the tar has this name twice: the first one is taken")
    ]
    assert read_original(f"{tar}/a.jpg") == picture_bytes(0)
    rows = [("a", picture_bytes(0)), ("b", picture_bytes(1)), ("a", picture_bytes(2))]
    table = img2dataset_parquet(tmp_path / "t.parquet", rows, group=2)
    found, notes = read_all(table)
    assert [picture.name for picture in found] == ["t/a.jpg", "t/b.jpg"]
    assert notes.failures[0][1].endswith(
        "t.parquet/a.jpg: the file has this key twice: the first one is taken"
    )


@pytest.mark.parametrize("kind", ["cut in a member", "cut in a header", "noise", "empty", "no gzip"])
def test_a_damaged_tar_gives_what_comes_before_and_one_line(tmp_path: Path, kind: str) -> None:
    whole = webdataset_tar(tmp_path / "a.tar", range(3)).read_bytes()
    second = whole.index(picture_bytes(1))
    content, left = {
        "cut in a member": (whole[: second + 100], 1),
        "cut in a header": (whole[: second - 200], 1),
        "noise": (b"noise" * 1000, 0),
        "empty": (b"", 0),
        "no gzip": (b"noise" * 1000, 0),
    }[kind]
    bad = tmp_path / ("b.tar.gz" if kind == "no gzip" else "b.tar")
    bad.write_bytes(content)
    found, notes = read_all(tmp_path)  # the other one goes on
    assert [picture.name for picture in found] == [
        *(f"a/{i:05}.jpg" for i in range(3)),
        *(f"b/{i:05}.jpg" for i in range(left)),
    ]
    ((place, reason),) = notes.failures
    assert place == str(bad)
    assert reason.startswith(f"{bad}: the tar is damaged from here on: ")
    assert "\n" not in reason
    assert notes.complete


def test_a_file_too_large_for_a_picture_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar_module, "LARGEST", len(picture_bytes(0)))
    tar = plain_tar(tmp_path / "t.tar", {"a.jpg": picture_bytes(0), "b.jpg": picture_bytes(0) + b" "})
    found, notes = read_all(tar)
    assert [picture.name for picture in found] == ["t/a.jpg"]
    assert "expected a picture of at most" in notes.failures[0][1]


def test_a_file_of_datasets(tmp_path: Path) -> None:
    table = datasets_parquet(tmp_path / "train-00000-of-00001.parquet", range(5))
    found, notes = read_all(table)
    stem = "train-00000-of-00001"
    assert [picture.name for picture in found] == [
        *(f"{stem}/00000000", f"{stem}/00000001-cat1.jpg", f"{stem}/00000002"),
        *(f"{stem}/00000003-cat3.jpg", f"{stem}/00000004"),
    ]
    assert [picture.content for picture in found] == [picture_bytes(i) for i in range(5)]
    assert [read_original(picture.place) for picture in found] == [picture_bytes(i) for i in range(5)]
    assert notes == Notes()


def test_a_file_of_img2dataset(tmp_path: Path) -> None:
    rows = [("000", picture_bytes(0)), ("001", None), ("../x", picture_bytes(2)), (None, picture_bytes(3))]
    table = img2dataset_parquet(tmp_path / "00000.parquet", rows, group=3)
    found, notes = read_all(table)
    assert [p.name for p in found] == ["00000/000.jpg", "00000/x.jpg", "00000/00000003"]
    assert notes == Notes([], Counter({"rows without a picture": 1}))
    assert [read_original(p.place) for p in found] == [picture_bytes(i) for i in (0, 2, 3)]


def test_parquet_files_without_pictures_are_said(tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    parquet.write_table(pa.table({"text": ["a"], "sound": [b"x"]}), tmp_path / "a.parquet")
    outside = {"image": [{"bytes": None, "path": "/elsewhere/x.jpg"}, None]}
    kind = pa.schema([("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())]))])
    parquet.write_table(pa.Table.from_pydict(outside, kind), tmp_path / "b.parquet")
    (tmp_path / "c.parquet").write_bytes(b"PAR1 and nothing else")
    found, notes = read_all(tmp_path)
    assert found == []
    columns, row, damaged = (reason for _, reason in notes.failures)
    assert columns.startswith(f"{tmp_path}/a.parquet: no column of pictures: found text, sound, expected ")
    assert row.endswith("00000000-x.jpg: the file holds no picture here, but where it was: /elsewhere/x.jpg")
    assert damaged.startswith(f"{tmp_path}/c.parquet: cannot be read: ")
    assert notes.skipped == {"rows without a picture": 1}


def test_a_large_parquet_file_is_several_parts_that_give_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [(f"{i:03}" if i != 7 else "001", picture_bytes(i)) for i in range(12)]
    table = img2dataset_parquet(tmp_path / "t.parquet", rows, group=3)
    whole, whole_notes = read_all(table)
    monkeypatch.setattr(parquet_module, "SPLIT_BYTES", table.stat().st_size // 4)
    parts = list(open_source(str(table)).parts(4))
    assert len(parts) > 2
    assert len({part.key for part in parts}) == len(parts)
    notes = Notes()
    travelled = pickle.loads(pickle.dumps(parts))
    apart = [picture for part in travelled for picture in part.pictures(notes)]
    assert apart == whole
    assert notes.failures == whole_notes.failures
    assert len(notes.failures) == 1


def test_a_row_group_is_read_a_page_at_a_time(tmp_path: Path) -> None:
    """pyarrow itself makes pages of up to 1,024 rows, unless it is asked for smaller ones."""
    import pyarrow as pa
    from pyarrow import parquet

    rows = [b"\xff\xd8\xff" + random.Random(i).randbytes(100_000) for i in range(240)]
    table = pa.table({"key": [f"{i:03}" for i in range(240)], "jpg": pa.array(rows, pa.binary())})
    parquet.write_table(table, tmp_path / "t.parquet", max_rows_per_page=5)
    assert parquet.ParquetFile(tmp_path / "t.parquet").num_row_groups == 1
    usual, watched = pa.default_memory_pool(), pa.proxy_memory_pool(pa.system_memory_pool())
    pa.set_memory_pool(watched)
    try:
        (part,) = open_source(str(tmp_path / "t.parquet")).parts(4)
        assert [picture.content for picture in part.pictures(Notes())] == rows
        assert read_original(f"{tmp_path}/t.parquet/077.jpg") == rows[77]
    finally:
        pa.set_memory_pool(usual)
    assert 100_000 < watched.max_memory() < sum(map(len, rows)) / 2


def test_several_archives_by_a_pattern_or_a_folder(tmp_path: Path) -> None:
    for i in range(3):
        webdataset_tar(tmp_path / f"x/a-{i:03}.tar", range(i, i + 1))
    datasets_parquet(tmp_path / "x/b.parquet", range(1))
    tars = ["a-000/00000.jpg", "a-001/00001.jpg", "a-002/00002.jpg"]
    assert names(tmp_path / "x/a-{000..002}.tar") == tars
    assert names(tmp_path / "x/a-00[02].tar") == [tars[0], tars[2]]
    assert names(tmp_path / "x/{a-000.tar,b.parquet}") == [tars[0], "b/00000000"]
    assert names(tmp_path / "x") == names(tmp_path / "x/*") == [*tars, "b/00000000"]
    assert names(tmp_path) == names(tmp_path / "**/*.*") == names(tmp_path / "x")
    webdataset_tar(tmp_path / "y/a-000.tar", range(1))
    assert names(tmp_path / "?/a-000.tar") == ["x/a-000/00000.jpg", "y/a-000/00000.jpg"]
    (tmp_path / "[odd].tar").write_bytes((tmp_path / "x/a-001.tar").read_bytes())
    assert names(tmp_path / "[odd].tar") == ["[odd]/00001.jpg"]
    found, notes = read_all(tmp_path / "x/a-{000..003}.tar")
    assert len(found) == 3
    assert notes.failures == [
        (f"{tmp_path}/x/a-003.tar", f"{tmp_path}/x/a-003.tar: cannot be read: No such file or directory")
    ]


def test_pictures_come_before_archives_and_shards_of_a_store_are_none(tmp_path: Path) -> None:
    webdataset_tar(tmp_path / "a.tar", range(1))
    datasets_parquet(tmp_path / "b.parquet", range(1))
    (tmp_path / "store/data").mkdir(parents=True)
    datasets_parquet(tmp_path / "store/data/streams-00000.parquet", range(1))
    source = open_source(str(tmp_path))
    assert source.skipped == ["store/data/streams-00000.parquet"]
    assert names(tmp_path) == ["a/00000.jpg", "b/00000000"]
    (tmp_path / "c.jpg").write_bytes(picture_bytes(0))
    source = open_source(str(tmp_path))
    assert names(tmp_path) == ["c.jpg"]
    assert source.skipped == ["a.tar", "b.parquet", "store/data/streams-00000.parquet"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing.tar", "nothing.tar: cannot be read: No such file or directory"),
        ("nothing", "nothing is not a folder of pictures"),
        ("no-{00..03}.tar", "no-00.tar: cannot be read: No such file or directory"),
        ("*.tar", "no file is called so"),
        ("x-{9..1}.tar", "the smaller one first"),
        ("x-{0..9999999}.tar", "at most 1,000,000"),
        ("*.txt", "a pattern names archives .* a.txt is none"),
        ("empty", "no pictures there .*or .tar"),
        ("nowhere://x", "nowhere"),
    ],
)
def test_what_is_no_source_is_refused_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.txt").touch()
    Path("empty").mkdir()
    with pytest.raises(StoreError, match=message) as caught:
        open_source(name)
    assert "\n" not in str(caught.value)


def test_braces() -> None:
    assert list(expand_braces("a{08..10}b{x,y}")) == [
        *("a08bx", "a08by", "a09bx", "a09by", "a10bx", "a10by"),
    ]
    assert list(expand_braces("{plain}")) == ["{plain}"]
