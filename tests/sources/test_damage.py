"""Archives that are damaged, break off, or hold what nobody expects: the rest is read, and all is said."""

from __future__ import annotations

import io
import tarfile
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pytest
from pyarrow import parquet
from source_samples import picture_bytes, plain_tar, read_all

from clip_feature_codec.sources import parquet as parquet_module
from clip_feature_codec.sources import tar as tar_module
from clip_feature_codec.sources.original import read_original

PICTURES = [picture_bytes(i) for i in range(6)]
STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def small_tar(path: Path) -> bytes:
    return plain_tar(path, {f"{i}.jpg": content for i, content in enumerate(PICTURES)}).read_bytes()


@pytest.mark.parametrize(
    ("kind", "left", "reason"),
    [("a header", 3, "found no header: "), ("the end", 6, "the mark at the end is missing")],
)
def test_a_tar_that_goes_on_with_noise_or_ends_without_a_mark_is_said_to_be_damaged(
    tmp_path: Path, kind: str, left: int, reason: str
) -> None:
    """Python's tarfile takes either for the end."""
    whole = small_tar(tmp_path / "t.tar")
    header = whole.index(b"3.jpg\0")
    last = whole.index(PICTURES[5]) + len(PICTURES[5])
    cut = whole[: last + -last % 512]
    noisy = whole[:header] + b"noise" * 100 + whole[header + 500 :]
    (tmp_path / "t.tar").write_bytes(noisy if kind == "a header" else cut)
    found, notes = read_all(tmp_path / "t.tar")
    assert [picture.content for picture in found] == PICTURES[:left]
    ((place, said),) = notes.failures
    assert place == str(tmp_path / "t.tar")
    assert f"damaged from here on: {reason}" in said


def test_links_in_a_tar_are_counted(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "t.tar", "w") as archive:
        picture = tarfile.TarInfo("a.jpg")
        picture.size = len(PICTURES[0])
        archive.addfile(picture, io.BytesIO(PICTURES[0]))
        for name, kind in (("b.jpg", tarfile.LNKTYPE), ("c.jpg", tarfile.SYMTYPE)):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = kind, "a.jpg"
            archive.addfile(link)
    found, notes = read_all(tmp_path / "t.tar")
    assert [picture.name for picture in found] == ["t/a.jpg"]
    assert notes.skipped == {"links": 2}


def test_names_that_differ_in_their_normal_form_alone(tmp_path: Path) -> None:
    """Some file systems take them for one: streams get names of one form, which a store keeps apart."""
    forms = [unicodedata.normalize(form, "é.jpg") for form in ("NFC", "NFD")]
    tar = plain_tar(tmp_path / "t.tar", dict(zip(forms, PICTURES, strict=False)))
    found, _ = read_all(tar)
    assert [picture.name for picture in found] == [f"t/{forms[0]}"] * 2
    assert [picture.place for picture in found] == [f"{tar}/{form}" for form in forms]
    assert [read_original(picture.place) for picture in found] == PICTURES[:2]


@contextmanager
def breaks_off(place: str) -> Iterator[BinaryIO]:
    """The file, whose second half cannot be had."""
    content = Path(place).read_bytes()

    class Half(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            first = self.tell()
            found = super().read(size)
            at_the_end = first >= len(content) - 65536  # where a Parquet file is read first
            if not at_the_end and self.tell() > len(content) // 2:
                raise ConnectionResetError("the line is dead")
            return found

    yield Half(content)


@pytest.mark.parametrize("kind", ["tar", "parquet"])
def test_what_came_before_the_line_was_dead_is_taken_and_the_rest_read_another_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    contents = [content + bytes(100_000) for content in PICTURES]
    if kind == "tar":
        plain_tar(tmp_path / "t.tar", {f"{i}.jpg": content for i, content in enumerate(contents)})
    else:
        table = pa.table({"jpg": pa.array(contents, pa.binary())})
        parquet.write_table(table, tmp_path / "t.parquet", row_group_size=1, compression="none")
    module = {"tar": tar_module, "parquet": parquet_module}[kind]
    monkeypatch.setattr(module, "open_file", breaks_off)
    found, notes = read_all(tmp_path / f"t.{kind}")
    assert 0 < len(found) < 6
    assert [picture.content for picture in found] == contents[: len(found)]
    assert notes.failures[0][1].endswith("cannot be read: the line is dead")
    assert not notes.complete


def test_the_row_groups_behind_a_damaged_one_are_read(tmp_path: Path) -> None:
    table = pa.table({"jpg": pa.array(PICTURES * 2, pa.binary())})
    parquet.write_table(
        table, tmp_path / "t.parquet", row_group_size=4, compression="none", use_dictionary=False
    )
    content = bytearray((tmp_path / "t.parquet").read_bytes())
    second = content.index(PICTURES[5])
    content[second - 4 : second] = b"\xff\xff\xff\x7f"  # so many bytes it has not
    (tmp_path / "t.parquet").write_bytes(content)
    found, notes = read_all(tmp_path / "t.parquet")
    assert [picture.content for picture in found] == [*PICTURES[:4], *(PICTURES * 2)[8:]]
    assert [picture.name for picture in found][4:] == [f"t/{i:08}" for i in range(8, 12)]
    ((_, said),) = notes.failures
    assert said.startswith(f"{tmp_path}/t.parquet: row group 1 is damaged from row 4 on: ")
    assert notes.complete


@pytest.mark.parametrize(
    ("columns", "names"),
    [
        ({"image": pa.array([{"bytes": PICTURES[0]}], pa.struct([("bytes", pa.binary())]))}, ["00000000"]),
        (
            {"image": pa.array([{"bytes": PICTURES[0], "path": 7}], pa.struct(
                [("bytes", pa.binary()), ("path", pa.int64())]
            ))},
            ["00000000-7"],
        ),
        ({"key": [b"a"], "jpg": pa.array(PICTURES[:1], pa.binary())}, ["a.jpg"]),
        ({"key": [5], "jpg": pa.array(PICTURES[:1], pa.large_binary())}, ["5.jpg"]),
        ({"key": ["../../\0up"], "jpg": pa.array(PICTURES[:1], pa.binary())}, ["up.jpg"]),
        ({"image": pa.array([None, {"bytes": None, "path": None}], STRUCT)}, []),
        ({"image": pa.array([], STRUCT)}, []),
    ],
)  # fmt: skip
def test_columns_of_odd_types(tmp_path: Path, columns: dict[str, Any], names: list[str]) -> None:
    parquet.write_table(pa.table(columns), tmp_path / "t.parquet")
    found, notes = read_all(tmp_path / "t.parquet")
    assert [picture.name for picture in found] == [f"t/{name}" for name in names]
    assert notes.failures == []
    assert [read_original(picture.place) for picture in found] == PICTURES[: len(names)]


@pytest.mark.parametrize(
    "columns",
    [
        {"image": [list(PICTURES[0])]},
        {"image": ["text"]},
        {"image": pa.nulls(2)},
        {"left": pa.array([], STRUCT), "right": pa.array([], STRUCT)},
        {"images": pa.array([[]], pa.list_(STRUCT))},
    ],
)
def test_what_is_no_column_of_pictures_is_said(tmp_path: Path, columns: dict[str, Any]) -> None:
    parquet.write_table(pa.table(columns), tmp_path / "t.parquet")
    found, notes = read_all(tmp_path / "t.parquet")
    assert found == []
    assert f"no column of pictures: found {', '.join(columns)}, expected" in notes.failures[0][1]


def test_links_in_a_folder_that_lead_in_circles(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s/p.jpg").write_bytes(PICTURES[0])
    for name, to in (("self", "self"), ("a", "b"), ("b", "a"), ("s/up", ".."), ("s/back", "../s")):
        (tmp_path / name).symlink_to(to)
    found, notes = read_all(tmp_path)
    assert [picture.name for picture in found] == ["s/p.jpg"]
    assert [Path(place).name for place, _ in notes.failures] == ["a", "b", "self"]
