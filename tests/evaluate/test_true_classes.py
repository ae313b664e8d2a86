"""What is truly on a store's pictures: from a table, or from the folders that they lie in."""

from __future__ import annotations

import csv
import logging
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from clip_feature_codec.errors import ConfigError
from clip_feature_codec.evaluate.metrics.labels import Labels
from clip_feature_codec.evaluate.true_classes import known_classes, read_class_names
from clip_feature_codec.store.manifest import Entry

CLASSIFIER: Any = SimpleNamespace(labels=Labels(["red", "green, lime", "blue"]))
CAFE = os.fsdecode(b"caf\xe9")


def entries(*names: str) -> list[Entry]:
    return [Entry(name, f"../photos/{name}.jpg", "", 1, 1, 1, 1, 1) for name in names]


def test_a_folder_called_as_a_class_says_it():
    found = known_classes(entries("red/a", "x/Lime/b", "blue/red/c", "red", "other/d"), CLASSIFIER, None)
    assert found.by_name == {"red/a": {0}, "x/Lime/b": {1}, "blue/red/c": {0}}
    assert found.pictures == 5
    assert known_classes(entries("red/a"), SimpleNamespace(labels=None), None).by_name == {}


@pytest.mark.parametrize("key", ["deep/a", "deep/a.jpg", "a.jpg", "../photos/deep/a.jpg"])
def test_a_picture_is_found_by_each_of_its_names(key: str):
    assert known_classes(entries("deep/a", "b"), CLASSIFIER, {key: "LIME"}).by_name == {"deep/a": {1}}


def test_names_win_over_folders():
    assert known_classes(entries("red/a"), CLASSIFIER, {"red/a": "blue"}).by_name == {"red/a": {2}}


def test_a_class_that_is_no_label_is_said_and_not_known(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING):
        found = known_classes(entries("a", "b", "c"), CLASSIFIER, {"a": "red", "b": "skirt", "c": "hat"})
    assert found.by_name == {"a": {0}}
    assert "2 of 3" in caplog.text
    assert "'skirt' of b" in caplog.text


@pytest.mark.parametrize(
    ("names", "classifier", "message"),
    [
        ({"z": "red"}, CLASSIFIER, "'z'.*'a'"),
        ({}, CLASSIFIER, "no picture of the store"),
        ({"a": "skirt"}, CLASSIFIER, "'skirt' of a"),
        ({"a": "red"}, SimpleNamespace(labels=None), "--judge-labels"),
    ],
)
def test_names_of_nothing_are_refused(names: dict[str, str], classifier: Any, message: str):
    with pytest.raises(ConfigError, match=message):
        known_classes(entries("a"), classifier, names)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_tables_are_read(tmp_path: Path, suffix: str):
    path = tmp_path / f"classes{suffix}"
    columns = {"other": ["1", "2", "3"], "class": ["red", "green, lime", ""], "image": ["a", "d/b.jpg", "c"]}
    if suffix == ".csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([columns, *zip(*columns.values(), strict=True)])
    else:
        parquet.write_table(pa.table(columns), path)
    assert read_class_names(path) == {"a": "red", "d/b.jpg": "green, lime"}


def test_a_name_that_is_not_utf_8_is_read_from_csv(tmp_path: Path):
    path = tmp_path / "classes.csv"
    path.write_bytes(b"image,class\ncaf\xe9,red\n")
    assert read_class_names(path) == {CAFE: "red"}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"", "no column 'image'"),
        ("a.csv", b"image,name\nx,y\n", "it has image, name"),
        ("a.csv", b"\xff\xd8\xff\xe0\0\x10JFIF\n", "no column"),
        ("a.parquet", b"PAR1 or so", "not a Parquet file"),
    ],
)
def test_another_file_is_refused(tmp_path: Path, name: str, content: bytes, message: str):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=message) as caught:
        read_class_names(path)
    assert str(path) in str(caught.value)
