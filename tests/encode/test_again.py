"""Encoding into a store that is there."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from encode_samples import PhotoFolder, contents, cosines

from clip_feature_codec.codec.feature_codec import FeatureCodec
from clip_feature_codec.embed import ClipEmbedder
from clip_feature_codec.embed.torch_tower import TorchTower
from clip_feature_codec.encode import encode_source
from clip_feature_codec.errors import SpaceMismatchError
from clip_feature_codec.store.feature_store import FeatureStore
from samples import make_picture


def test_the_second_run_does_nothing(
    photo_folder: PhotoFolder, tmp_path: Path, embedder: ClipEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, out = photo_folder(5), tmp_path / "store"
    encode_source(folder, out, embedder, workers=0)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.*") if path.name != ".lock"}
    monkeypatch.delattr(TorchTower, "embed_measured")
    result = encode_source(folder, out, embedder, workers=0)
    assert (result.added, result.unchanged, result.failures) == (0, 5, [])
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.*") if path.name != ".lock"} == before


def test_new_pictures_are_added_with_the_stores_tables(
    photo_folder: PhotoFolder, tmp_path: Path, embedder: ClipEmbedder
) -> None:
    folder, out = photo_folder(5), tmp_path / "store"
    encode_source(folder, out, embedder, workers=0)
    before = contents(out)
    times = {path: path.stat().st_mtime_ns for path in out.rglob("*.clp")}
    make_picture(90).save(folder / "a first one.png")
    make_picture(91).save(folder / "z last.jpg")
    other = FeatureCodec.fit(np.eye(8, embedder.dim, dtype=np.float32), embedder.space)

    result = encode_source(folder, out, embedder, other, workers=0)

    assert (result.added, result.unchanged) == (2, 5)
    after = contents(out)
    pictures = after.pop("manifest.sqlite")
    assert pictures.startswith(before.pop("manifest.sqlite"))
    assert pictures.count(b"\n") == 7
    assert after.keys() - before.keys() == {"a first one.clp", "z last.clp"}
    assert {name: after[name] for name in before} == before
    assert all(path.stat().st_mtime_ns == time for path, time in times.items())
    assert (cosines(FeatureStore.open(out), embedder) > 0.98).all()


def test_changed_pictures_are_coded_again_under_the_same_name(
    photo_folder: PhotoFolder, tmp_path: Path, embedder: ClipEmbedder
) -> None:
    folder, out = photo_folder(5), tmp_path / "store"
    first = encode_source(folder, out, embedder, workers=0).store
    before = contents(out)
    make_picture(77, (20, 50)).save(folder / "p001.png")
    result = encode_source(folder, out, embedder, workers=0)
    assert (result.added, result.unchanged) == (1, 4)
    store = FeatureStore.open(out)
    assert [entry.name for entry in store.entries] == [entry.name for entry in first.entries]
    assert {name for name, data in contents(out).items() if data != before[name]} == {
        "manifest.sqlite",
        "p001.clp",
    }
    assert next(e for e in store.entries if e.name == "p001").height == 50
    assert (cosines(store, embedder) > 0.98).all()


def test_a_picture_that_is_broken_now_keeps_its_stream_and_is_listed(
    photo_folder: PhotoFolder, tmp_path: Path, embedder: ClipEmbedder
) -> None:
    folder, out = photo_folder(4), tmp_path / "store"
    encode_source(folder, out, embedder, workers=0)
    before = contents(out)
    (folder / "p000.png").write_bytes(b"")
    for _ in range(2):
        result = encode_source(folder, out, embedder, workers=0)
        assert (result.added, result.unchanged, len(result.failures)) == (0, 3, 1)
        assert contents(out) == before


def test_a_lost_stream_is_written_again(
    photo_folder: PhotoFolder, tmp_path: Path, embedder: ClipEmbedder
) -> None:
    folder, out = photo_folder(4), tmp_path / "store"
    encode_source(folder, out, embedder, workers=0)
    (out / "p000.clp").unlink()
    assert encode_source(folder, out, embedder, workers=0).added == 1
    assert (cosines(FeatureStore.open(out), embedder) > 0.99).all()


def test_a_picture_that_changes_meanwhile_costs_no_other(
    photo_folder: PhotoFolder, tmp_path: Path, embedder: ClipEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, out = photo_folder(4), tmp_path / "store"
    embed_measured = ClipEmbedder.embed_measured

    def embed_and_change(self: ClipEmbedder, pixels: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        make_picture(66, (30, 30)).save(folder / "p001.png")
        return embed_measured(self, pixels)

    with monkeypatch.context() as patch:
        patch.setattr(ClipEmbedder, "embed_measured", embed_and_change)
        result = encode_source(folder, out, embedder, workers=0)
    assert (result.added, len(result.store)) == (4, 4)
    result = encode_source(folder, out, embedder, workers=0)
    assert (result.added, result.unchanged) == (1, 3)
    assert (cosines(result.store, embedder) > 0.98).all()


def test_a_store_of_another_clip_space_is_refused_with_both_names(
    photo_folder: PhotoFolder, tmp_path: Path, embedder: ClipEmbedder, tiny_clip: Path
) -> None:
    other_clip = tmp_path / "other_clip"
    shutil.copytree(tiny_clip, other_clip)
    config = other_clip / "open_clip_config.json"
    config.write_text(config.read_text().replace("0.25", "0.5"))
    other = ClipEmbedder.load(str(other_clip), device="cpu")
    folder, out = photo_folder(2), tmp_path / "store"
    encode_source(folder, out, embedder, workers=0)
    before = contents(out)
    make_picture(9).save(folder / "new.png")
    for store, codec in ((out, None), (tmp_path / "new", FeatureStore.open(out).codec)):
        with pytest.raises(SpaceMismatchError) as caught:
            encode_source(folder, store, other, codec, workers=0)
        assert embedder.space.label in str(caught.value)
        assert other.space.label in str(caught.value)
    assert contents(out) == before
