"""Vectors of a CLIP that is not at hand, called by its name; and what `fit` is given by mistake."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result

from clip_feature_codec import ClipCodec
from clip_feature_codec.store.feature_store import FeatureStore

Run = Callable[..., Result]
NAME = "ViT-L-14/openai"


@pytest.fixture
def vectors(work: Path) -> np.ndarray:
    """Those of the store, saved as ``vectors.npy`` beside it."""
    rows = np.tile(FeatureStore.open(work / "store").vectors(), (5, 1))
    np.save(work / "vectors.npy", rows)
    return rows


@pytest.fixture
def named(work: Path, vectors: np.ndarray, ok: Run) -> Path:
    """Tables fitted on vectors of a model that is not at hand."""
    ok("fit", work / "vectors.npy", "-o", work / "named.json", "--space-name", NAME)
    return work / "named.json"


def refused(result: Result, *expected: str) -> None:
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1), result.stderr
    assert [text for text in expected if text not in result.stderr] == []


def test_vectors_by_name_are_coded_and_read(named: Path, vectors: np.ndarray, ok: Run):
    codec = ClipCodec.load(named)
    blobs = codec.encode_vectors(vectors[:2], target_cosine=0.99)
    assert ((codec.vectors(blobs) * vectors[:2]).sum(axis=1) >= 0.99).all()
    (named.parent / "one.clp").write_bytes(blobs[0])
    assert f"{NAME}\n" in ok("info", named.parent / "one.clp", "--codec", named).stdout


def test_by_its_name_a_space_is_none_of_known_weights(
    named: Path, work: Path, tiny_clip: Path, run: Run, tmp_path: Path
):
    model = ("--model", tiny_clip, "--device", "cpu")
    for command in (
        ("transcode", work / "store", "-o", tmp_path / "new", "--codec", named),
        ("encode", work / "photos/p0.png", "-o", tmp_path / "x.clp", "--codec", named, *model),
        ("encode", work / "photos", "-o", tmp_path / "new", "--codec", named, "--workers", 0, *model),
    ):
        refused(run(*command), f"{NAME} (space ", "weights unknown", "fit --same-as")
    assert list(tmp_path.glob("new/*.clp")) == []


def test_once_it_is_said_to_be_the_same_it_is_taken_for_it(
    named: Path, work: Path, tiny_clip: Path, ok: Run, tmp_path: Path
):
    same = tmp_path / "same.json"
    ok("fit", work / "vectors.npy", "-o", same, "--space-name", NAME, "--same-as", work / "store")
    # What was coded before it was said can be read as well.
    assert ClipCodec.load(same).features.tables_sha256 == ClipCodec.load(named).features.tables_sha256
    ok("transcode", work / "store", "-o", tmp_path / "small", "--codec", same, "--max-bytes", 60)
    model = ("--model", tiny_clip, "--device", "cpu")
    assert "p0" in ok("search", tmp_path / "small", "--image", work / "photos/p0.png", *model).stdout
    ok("fit", tmp_path / "small", "-o", tmp_path / "again.json")
    assert ClipCodec.load(tmp_path / "again.json").features.space.same_as


def test_a_space_is_named_once_and_only_for_vectors(vectors: np.ndarray, work: Path, run: Run):
    fit, name = ("fit", "-o", work / "x.json"), ("--space-name", NAME)
    refused(run(*fit, work / "vectors.npy", *name, "--space", work / "store"), "--space and --space-name")
    refused(run(*fit, work / "vectors.npy", "--space-name", "ViT-L-14"), "MODEL/WEIGHTS")
    refused(run(*fit, work / "store", *name), "leave out --space-name")
    refused(run(*fit, work / "photos", *name), "leave out --space-name")
    refused(run(*fit, work / "store", "--same-as", work / "store"), "its weights are known")
    assert not (work / "x.json").exists()


def test_pictures_where_tables_or_vectors_are_wanted(work: Path, run: Run):
    picture = work / "photos/p0.png"
    refused(
        run("fit", picture, "-o", work / "x.json", "--space", work / "store"), "expected a store, a folder"
    )
    refused(run("info", work / "store/p0.clp", "--codec", picture), "p0.png: found no JSON (it is no text)")


def test_what_is_wrong_with_a_vector_stands_on_a_line_of_its_own(tmp_path: Path, run: Run):
    np.save(tmp_path / "nan.npy", np.full((3, 4), np.nan, np.float32))
    result = run("fit", tmp_path / "nan.npy", "-o", tmp_path / "nan.json", "--space-name", NAME)
    assert result.exit_code == 2
    assert (
        result.stderr.splitlines()[-1] == "error: vector 0: found length nan, expected a finite, positive one"
    )


def test_where_there_is_nothing_to_fit_on_it_is_said_why(tmp_path: Path, run: Run):
    (tmp_path / "none").mkdir()
    refused(run("fit", tmp_path / "none", "-o", tmp_path / "x.json", "--quiet"), "none: no pictures")
    (tmp_path / "none/a.jpg").write_bytes(b"no picture")
    result = run("fit", tmp_path / "none", "-o", tmp_path / "x.json", "--quiet")
    assert result.exit_code == 2
    failed, error = result.stderr.splitlines()
    assert failed.startswith(f"failed: {tmp_path / 'none/a.jpg'}: not a picture")
    assert error == "error: all 1 pictures failed"
    assert not (tmp_path / "x.json").exists()
