"""What cannot be is found out before any work, and costs nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from encode_samples import PhotoFolder, contents, cosines

from clip_feature_codec.codec.feature_codec import FeatureCodec
from clip_feature_codec.codec.rate import Rate
from clip_feature_codec.embed import ClipEmbedder
from clip_feature_codec.embed.torch_tower import TorchTower
from clip_feature_codec.encode import encode_source
from clip_feature_codec.errors import ConfigError
from clip_feature_codec.store.feature_store import FeatureStore
from samples import make_picture


@pytest.fixture
def klt(embedder: ClipEmbedder) -> FeatureCodec:
    vectors = embedder.embed_images([make_picture(i) for i in range(60)])
    return FeatureCodec.fit_klt([vectors], embedder.space)


@pytest.mark.parametrize("layers", ["both", "semantic", "layout"])
@pytest.mark.parametrize("given", ["klt", "int8", "store"])
def test_a_budget_that_the_tables_cannot_meet_is_found_before_the_first_picture_is_embedded(
    photo_folder: PhotoFolder,
    tmp_path: Path,
    embedder: ClipEmbedder,
    klt: FeatureCodec,
    given: str,
    layers: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Fault 9: it was found after all were embedded, and codec.json was left behind."""
    folder, out = photo_folder(3), tmp_path / "store"
    codec = klt if given != "int8" else FeatureCodec.fit(np.eye(2, embedder.dim), embedder.space)
    if given == "store":
        encode_source(folder, out, embedder, klt, workers=0)
        make_picture(9).save(folder / "new.png")
    before = contents(out)
    monkeypatch.delattr(TorchTower, "embed_measured")
    with pytest.raises(ConfigError, match=rf"found 6, expected at least {codec.smallest(layers)}"):
        encode_source(folder, out, embedder, codec, Rate(max_bytes=6, layers=layers), workers=0)
    assert contents(out) == before
    assert out.exists() == (given == "store")


@pytest.mark.parametrize("layers", ["both", "semantic"])
def test_a_budget_that_fitted_tables_will_not_meet_is_found_then_too(
    photo_folder: PhotoFolder,
    tmp_path: Path,
    embedder: ClipEmbedder,
    layers: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(TorchTower, "embed_measured")
    rate = Rate(max_bytes=20, layers=layers)
    with pytest.raises(ConfigError, match=rf"found 20, expected at least {6 + embedder.dim}"):
        encode_source(photo_folder(3), tmp_path / "store", embedder, None, rate, workers=0)
    assert not (tmp_path / "store").exists()


def test_the_smallest_budget_can_be_met_by_square_pictures_and_one_more_by_all(
    tmp_path: Path, embedder: ClipEmbedder, klt: FeatureCodec, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "photos").mkdir()
    make_picture(1, (40, 40)).save(tmp_path / "photos" / "square.png")
    smallest, out = klt.smallest("both"), tmp_path / "store"
    encode_source(tmp_path / "photos", out, embedder, klt, Rate(max_bytes=smallest), workers=0)
    make_picture(2, (60, 40)).save(tmp_path / "photos" / "wide.png")
    with monkeypatch.context() as patch:
        patch.delattr(TorchTower, "embed_measured")
        with pytest.raises(ConfigError, match=f"found {smallest}, expected at least {smallest + 1}"):
            encode_source(tmp_path / "photos", out, embedder, klt, Rate(max_bytes=smallest), workers=0)
    rate = Rate(max_bytes=smallest + 1)
    assert encode_source(tmp_path / "photos", out, embedder, klt, rate, workers=0).added == 1


def test_a_target_that_the_tables_cannot_reach_leaves_no_store(
    photo_folder: PhotoFolder, tmp_path: Path, embedder: ClipEmbedder
) -> None:
    folder, out = photo_folder(3), tmp_path / "store"
    codec = FeatureCodec.fit(-np.ones((1, embedder.dim), np.float32), embedder.space)
    with pytest.raises(ConfigError, match="cosine"):
        encode_source(folder, out, embedder, codec, Rate(target_cosine=0.9999999), workers=0)
    assert not list(out.rglob("*.clp"))
    assert not (out / "codec.json").exists()


def test_layouts_alone_need_no_clip_model(
    photo_folder: PhotoFolder, tmp_path: Path, klt: FeatureCodec
) -> None:
    """Fault 16: one was loaded."""
    rate = Rate(layers="layout")
    result = encode_source(photo_folder(3), tmp_path / "store", None, klt, rate, workers=0)
    assert result.added == 3
    streams = [result.store.read(entry) for entry in result.store.entries]
    assert all(stream.semantic is None and stream.layout for stream in streams)
    again = encode_source(tmp_path / "photos", tmp_path / "store", None, rate=rate, workers=0)
    assert again.unchanged == 3
    with pytest.raises(ConfigError, match="CLIP model: found none"):
        encode_source(tmp_path / "photos", tmp_path / "other", None, klt, workers=0)
    with pytest.raises(ConfigError, match="name a codec to encode layouts alone"):
        encode_source(tmp_path / "photos", tmp_path / "other", None, rate=rate, workers=0)
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("with_tables", [False, True])
def test_long_names_are_stored_and_what_cannot_be_is_one_failure(
    tmp_path: Path, embedder: ClipEmbedder, klt: FeatureCodec, with_tables: bool
) -> None:
    """Fault 19: one name of 238 bytes and more blocked its whole folder."""
    folder = tmp_path / "photos"
    folder.mkdir()
    fits = ["日" * 80 + ".png", "a" * 251 + ".png", "b" * 238, "short.png"]
    does_not = "c" * 255
    for seed, name in enumerate([*fits, does_not]):
        make_picture(seed).save(folder / name, "PNG")
    result = encode_source(folder, tmp_path / "store", embedder, klt if with_tables else None, workers=0)
    ((path, reason),) = result.failures
    assert (path, result.added) == (str(folder / does_not), 4)
    assert "too long a name" in reason
    assert {Path(result.store.source_place(entry)).name for entry in result.store.entries} == set(fits)
    assert (cosines(FeatureStore.open(tmp_path / "store"), embedder) > 0.9).all()
    again = encode_source(folder, tmp_path / "store", embedder, workers=0)
    assert (again.added, again.unchanged, len(again.failures)) == (0, 4, 1)
