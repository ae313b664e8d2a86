"""What a stream is spent on: encode, fit, transcode, info, decode --preview."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from PIL import Image

from clip_feature_codec import ClipCodec
from clip_feature_codec.store.feature_store import FeatureStore
from samples import make_picture

Run = Callable[..., Result]


@pytest.fixture
def fitted(work: Path, tmp_path: Path, ok: Run) -> Path:
    """A codec.json of the klt profile for the tiny CLIP."""
    ok("fit", work / "store", "-o", tmp_path / "codec.json")
    return tmp_path / "codec.json"


def facts_of(ok: Run, source: Path, *options: object) -> dict[str, Any]:
    return dict(json.loads(ok("info", source, *options, "--json", "-").stdout))


def test_tables_from_a_store_make_its_streams_smaller(work: Path, fitted: Path, tmp_path: Path, ok: Run):
    result = ok("transcode", work / "store", "--codec", fitted, "--max-bytes", 60, "-o", tmp_path / "small")
    assert "4 streams" in result.stderr
    small, before = FeatureStore.open(tmp_path / "small"), FeatureStore.open(work / "store")
    assert small.codec.profile == "klt"
    assert [entry.name for entry in small.entries] == [entry.name for entry in before.entries]
    assert all(entry.bytes <= 60 for entry in small.entries)
    assert [Path(small.source_place(e)).resolve() for e in small.entries] == [
        Path(before.source_place(e)).resolve() for e in before.entries
    ]
    assert ((small.vectors() * before.vectors()).sum(axis=1) > 0.9).all()
    facts = facts_of(ok, tmp_path / "small")
    assert facts["profile"] == "klt"
    parts = [facts[f"{name}_bytes_per_picture"] for name in ("header", "semantic", "layout")]
    assert sum(parts) == pytest.approx(facts["bytes_per_picture"], abs=0.11)


def test_a_transcoded_store_grows_and_can_be_made_again(work: Path, fitted: Path, tmp_path: Path, ok: Run):
    command = ("transcode", work / "store", "--codec", fitted, "--max-bytes", 50, "-o", tmp_path / "small")
    ok(*command)
    before = {path.name: path.read_bytes() for path in (tmp_path / "small").rglob("*") if path.is_file()}
    ok(*command)
    assert before == {p.name: p.read_bytes() for p in (tmp_path / "small").rglob("*") if p.is_file()}
    make_picture(77).save(work / "photos/new.png")
    ok("encode", work / "photos", "-o", tmp_path / "small", "--device", "cpu", "--max-bytes", 50)
    assert len(FeatureStore.open(tmp_path / "small")) == 5


def test_transcoding_never_writes_over_its_source(work: Path, run: Run):
    result = run("transcode", work / "store", "--layers", "semantic", "-o", work / "store")
    assert result.exit_code == 2
    assert "expected another folder" in result.stderr


def test_transcoding_to_a_store_of_other_tables_is_refused(
    work: Path, fitted: Path, tmp_path: Path, run: Run
):
    shutil.copytree(work / "store", tmp_path / "other")
    result = run("transcode", work / "store", "--codec", fitted, "-o", tmp_path / "other")
    assert result.exit_code == 2
    assert "has tables of its own" in result.stderr


def test_damaged_streams_are_listed_and_the_rest_is_done(work: Path, fitted: Path, tmp_path: Path, run: Run):
    (work / "store/p1.clp").write_bytes(b"nonsense")
    result = run("transcode", work / "store", "--codec", fitted, "-o", tmp_path / "small")
    assert result.exit_code == 1
    assert "p1.clp" in result.stderr
    assert len(FeatureStore.open(tmp_path / "small")) == 3
    result = run("info", work / "store", "--verify")
    assert result.exit_code == 1
    assert "p1.clp" in result.stderr


def test_one_stream_is_transcoded(work: Path, tmp_path: Path, ok: Run, run: Run):
    source = work / "store/p0.clp"
    ok("transcode", source, "--layers", "layout", "-o", tmp_path / "p0.clp")
    facts = facts_of(ok, tmp_path / "p0.clp", "--codec", work / "store")
    assert (facts["semantic_bytes"], facts["layout_bytes"] > 0) == (0, True)
    piped = ok("transcode", source, "--layers", "layout", "-o", "-")
    assert piped.stdout_bytes == (tmp_path / "p0.clp").read_bytes()
    result = run("transcode", source, "--max-bytes", 10, "-o", tmp_path / "x.clp")
    assert result.exit_code == 2
    assert "max bytes: found 10, expected at least" in result.stderr
    assert not (tmp_path / "x.clp").exists()


def test_every_rate_of_encode(work: Path, fitted: Path, tmp_path: Path, ok: Run):
    photo, stream = work / "photos/p1.png", tmp_path / "p1.clp"
    codec = ("--codec", fitted, "--device", "cpu")
    exact = ClipCodec.load(work / "store", device="cpu").embed(photo)
    sizes = []
    for options in (("--max-bytes", 40), ("--max-bytes", 90), ("--target-cosine", 0.9), ("--quality", 20)):
        result = ok("encode", photo, "-o", stream, *codec, *options)
        assert "klt profile" in result.stderr
        sizes.append(stream.stat().st_size)
        facts = facts_of(ok, stream, *codec[:2])
        assert facts["header_bytes"] + facts["semantic_bytes"] + facts["layout_bytes"] == facts["bytes"]
        if options[0] == "--target-cosine":
            assert ClipCodec.load(fitted).vector(stream.read_bytes()) @ exact >= 0.9 - 1e-6
    assert sizes[0] <= 40 < sizes[1] <= 90


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--max-bytes", 3), "max bytes: found 3, expected at least"),
        (("--max-bytes", 90, "--quality", 3), "rate: found both max_bytes and quality, expected one of them"),
        (("--target-cosine", 1.5), "target cosine: found 1.5, expected above 0 and below 1"),
        (("--target-cosine", 0.9, "--layers", "layout"), "target cosine: found for a layout alone"),
    ],
)
def test_rates_that_cannot_be(
    work: Path, fitted: Path, tmp_path: Path, run: Run, options: tuple[object, ...], message: str
):
    stream = tmp_path / "p1.clp"
    result = run(
        "encode", work / "photos/p1.png", "-o", stream, "--codec", fitted, "--device", "cpu", *options
    )
    assert result.exit_code == 2
    assert message in result.stderr
    assert not stream.exists()


def test_a_folder_is_encoded_within_its_budget(work: Path, fitted: Path, tmp_path: Path, ok: Run):
    store = tmp_path / "new"
    command = ("encode", work / "photos", "-o", store, "--codec", fitted, "--device", "cpu", "--workers", 0)
    result = ok(*command, "--max-bytes", 64)
    assert "(klt profile)" in result.stderr
    assert max(entry.bytes for entry in FeatureStore.open(store).entries) <= 64


def test_layouts_alone_need_no_vectors(work: Path, fitted: Path, tmp_path: Path, ok: Run, run: Run):
    store = tmp_path / "new"
    command = (
        "encode",
        work / "photos",
        "-o",
        store,
        "--device",
        "cpu",
        "--workers",
        0,
        "--layers",
        "layout",
    )
    ok(*command, "--codec", fitted)
    assert facts_of(ok, store)["semantic_bytes_per_picture"] == 0
    result = run("search", store, "red")
    assert result.exit_code in (1, 2)
    ok("decode", store, "--preview", "-o", tmp_path / "previews")
    assert len(list((tmp_path / "previews").rglob("*.png"))) == 4


def test_previews_need_no_decoder(work: Path, tmp_path: Path, ok: Run, run: Run):
    (work / "store/diffusion_unet_final.pt").unlink()
    ok("decode", work / "store/p1.clp", "--preview", "-o", tmp_path / "p1.png", "--size", 40)
    with Image.open(tmp_path / "p1.png") as shown, Image.open(work / "photos/p1.png") as photo:
        assert max(shown.size) == 40
        assert shown.size[0] / shown.size[1] == pytest.approx(photo.size[0] / photo.size[1], rel=0.05)
        error = np.asarray(shown.convert("RGB"), float) - np.asarray(photo.resize(shown.size), float)
    assert np.sqrt((error**2).mean()) < 30  # the samples are smooth: their layout is nearly all of them
    ok("transcode", work / "store/p1.clp", "--layers", "semantic", "-o", tmp_path / "p1.clp")
    options = ("--preview", "-o", tmp_path / "none.png", "--codec", work / "store")
    result = run("decode", tmp_path / "p1.clp", *options)
    assert result.exit_code == 2
    assert "layout layer: found none in the stream" in result.stderr


def test_streams_without_a_layout_are_listed_and_the_others_shown(
    work: Path, tmp_path: Path, ok: Run, run: Run
):
    ok("transcode", work / "store/p1.clp", "--layers", "semantic", "-o", tmp_path / "p1.clp")
    store = FeatureStore.open(work / "store")
    entry = next(entry for entry in store.entries if entry.name == "p1")
    store.add_from(store, [entry], [(tmp_path / "p1.clp").read_bytes()])
    result = run("decode", work / "store", "--preview", "-o", tmp_path / "previews")
    assert result.exit_code == 1
    assert "p1.clp: there is no layout layer to show" in result.stderr
    assert len(list((tmp_path / "previews").rglob("*.png"))) == 3


def test_fit_on_npy_vectors_and_on_pictures(work: Path, tiny_clip: Path, tmp_path: Path, ok: Run, run: Run):
    vectors = FeatureStore.open(work / "store").vectors()
    np.save(tmp_path / "vectors.npy", np.tile(vectors, (5, 1)).astype(np.float16))
    by_space, by_model = tmp_path / "a.json", tmp_path / "b.json"
    ok("fit", tmp_path / "vectors.npy", "-o", by_space, "--space", work / "store")
    ok("fit", tmp_path / "vectors.npy", "-o", by_model, "--model", tiny_clip, "--device", "cpu")
    first, second = ClipCodec.load(by_space).features, ClipCodec.load(by_model).features
    assert first.tables_sha256 == second.tables_sha256
    (work / "photos/broken.png").write_bytes(b"broken")
    command = ("fit", work / "photos", "-o", tmp_path / "c.json", "--model", tiny_clip, "--device", "cpu")
    result = run(*command)
    assert result.exit_code == 1
    assert "broken.png" in result.stderr
    assert ClipCodec.load(tmp_path / "c.json").features.profile == "klt"


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((3, 31), np.float32), "expected (N, 32)"),
        (np.zeros((3, 32), np.float32), "expected a finite, positive one"),
        (np.zeros((3, 32), np.int64), "expected vectors (N, D) of floats"),
        (np.zeros(32, np.float32), "expected vectors (N, D) of floats"),
        (np.zeros((0, 32), np.float32), "no pictures and no vectors there"),
    ],
)
def test_arrays_that_are_no_vectors(work: Path, tmp_path: Path, run: Run, array: np.ndarray, message: str):
    np.save(tmp_path / "vectors.npy", array)
    result = run("fit", tmp_path / "vectors.npy", "-o", tmp_path / "codec.json", "--space", work / "store")
    assert result.exit_code == 2
    assert message in result.stderr
    assert not (tmp_path / "codec.json").exists()


def test_fit_for_queries(work: Path, tmp_path: Path, ok: Run, run: Run):
    vectors = FeatureStore.open(work / "store").vectors()
    np.save(tmp_path / "queries.npy", vectors[:3])
    fit = ("fit", work / "store", "-o")
    ok(*fit, tmp_path / "plain.json")
    ok(*fit, tmp_path / "asked.json", "--queries", tmp_path / "queries.npy")
    plain, asked = (ClipCodec.load(tmp_path / name).features for name in ("plain.json", "asked.json"))
    assert plain.space == asked.space
    assert plain.tables_sha256 != asked.tables_sha256
    np.save(tmp_path / "wrong.npy", vectors[:, 1:])
    result = run(*fit, tmp_path / "c.json", "--queries", tmp_path / "wrong.npy")
    assert result.exit_code == 2
    assert f"found shape ({len(vectors)}, 31), expected (N, 32)" in result.stderr


def test_fit_asks_whose_vectors_they_are(work: Path, tmp_path: Path, run: Run):
    np.save(tmp_path / "vectors.npy", np.ones((3, 32), np.float32))
    result = run("fit", tmp_path / "vectors.npy", "-o", tmp_path / "codec.json")
    assert result.exit_code == 2
    assert "name the CLIP model with one of --space, --space-name, --model" in result.stderr
    result = run("fit", work / "store", "-o", tmp_path / "codec.json", "--space", work / "store")
    assert result.exit_code == 2
    assert "leave out --space" in result.stderr
