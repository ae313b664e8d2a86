from __future__ import annotations

import json
import os
import shutil
import threading
import time
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from huggingface_hub import constants as hub
from numpy.typing import NDArray
from PIL import Image

from clip_feature_codec import ClipCodec
from clip_feature_codec.codec.space import ClipSpace
from clip_feature_codec.embed import (
    ClipEmbedder,
    DifferentiableEmbedder,
    differentiable_embedder_for,
    embedder_for,
    factory,
    load_embedder,
)
from clip_feature_codec.errors import ConfigError, ModelError
from samples import TINY_CLIP, make_picture


@pytest.fixture
def parts(tmp_path: Path, tiny_clip: Path) -> tuple[Path, Path]:
    """A configuration and a weights file of the tiny CLIP."""
    config, weights = tmp_path / "here/tiny.json", tmp_path / "there/w.safetensors"
    config.parent.mkdir()
    weights.parent.mkdir()
    config.write_text(json.dumps(TINY_CLIP))
    shutil.copy(tiny_clip / "open_clip_model.safetensors", weights)
    return config, weights


class MeanColour:
    """The least that can be an embedder: a picture's mean colour, without torch."""

    space = ClipSpace("mean-colour", "none", "ab" * 32, 3, {"size": 1})
    dim = 3
    device = "cpu"

    def preprocess(self, picture: Image.Image) -> NDArray[np.float32]:
        pixel = np.asarray(picture.resize((1, 1), Image.Resampling.BOX), np.float32) / 255 + 0.01
        return pixel.transpose(2, 0, 1)

    def embed_images(self, pictures: Sequence[Image.Image]) -> NDArray[np.float32]:
        return self.embed_batch(np.stack([self.preprocess(picture) for picture in pictures]))

    def embed_batch(self, pixels: NDArray[np.float32] | torch.Tensor) -> NDArray[np.float32]:
        rows = np.asarray(pixels).reshape(-1, 3)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def embed_text(self, texts: str | Sequence[str]) -> NDArray[np.float32]:
        raise ModelError("a mean colour has no words")


@pytest.fixture
def mean_colour(monkeypatch: pytest.MonkeyPatch) -> MeanColour:
    """Another kind of model, which joins by one entry in one list."""
    only = MeanColour()
    loaders = (lambda model, *_: only if model == "mean-colour" else None, *factory._LOADERS)
    monkeypatch.setattr(factory, "_LOADERS", loaders)
    return only


def test_another_kind_of_model_is_one_entry_away(mean_colour: MeanColour, tmp_path: Path, tiny_clip: Path):
    from clip_feature_codec.encode import encode_source

    (tmp_path / "photos").mkdir()
    for i in range(3):
        make_picture(i).save(tmp_path / f"photos/{i}.png")
    encode_source(tmp_path / "photos", tmp_path / "store", load_embedder("mean-colour"), workers=0)
    codec = ClipCodec.load(tmp_path / "store")
    assert codec.embedder is mean_colour
    picture = make_picture(1)
    assert codec.vector(codec.encode(picture)) @ mean_colour.embed_images([picture])[0] > 0.99
    assert isinstance(load_embedder(str(tiny_clip), device="cpu"), ClipEmbedder)


def test_a_model_without_gradients_is_refused_where_one_learns_through_it(
    mean_colour: MeanColour, tiny_clip: Path
):
    with pytest.raises(ConfigError, match="clip_w=0"):
        differentiable_embedder_for(mean_colour.space)
    space = load_embedder(str(tiny_clip), device="cpu").space
    assert isinstance(differentiable_embedder_for(space, "cpu"), DifferentiableEmbedder)


def test_threads_load_a_codec_s_model_once(
    tmp_path: Path, embedder: ClipEmbedder, monkeypatch: pytest.MonkeyPatch
):
    """Fault 16: two threads loaded it twice."""
    from clip_feature_codec.codec.feature_codec import FeatureCodec

    loads, together = [], threading.Barrier(4)

    def slowly(*arguments: object) -> ClipEmbedder:
        loads.append(arguments)
        time.sleep(0.05)
        return embedder

    monkeypatch.setattr(factory, "_LOADERS", (slowly,))
    codec = ClipCodec(FeatureCodec.fit(np.eye(32, dtype=np.float32), embedder.space), decoder=None)

    def ask(_: int) -> object:
        together.wait()
        return codec.embedder

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(ask, range(4))) == [embedder] * 4
    assert len(loads) == 1


def test_loading_changes_nothing_global(parts: tuple[Path, Path]):
    """Fault 16: the environment, the hub's settings, warnings and open_clip's list of models."""

    def state() -> list[object]:
        return [dict(os.environ), hub.HF_HUB_OFFLINE, list(warnings.filters), open_clip.list_models()]

    before = state()
    ClipEmbedder.load(*map(str, parts), device="cpu").embed_text("a red bus")
    assert state() == before


def test_two_configurations_of_one_name_are_two_models(parts: tuple[Path, Path], tmp_path: Path):
    config, weights = parts
    other = tmp_path / "other/tiny.json"
    other.parent.mkdir()
    other.write_text(json.dumps(TINY_CLIP | {"quick_gelu": True}))
    first, second = (load_embedder(str(file), str(weights), "cpu") for file in (config, other))
    again = load_embedder(str(config), str(weights), "cpu")
    assert first.space == again.space != second.space
    assert np.array_equal(first.embed_text("a bus"), again.embed_text(["a bus"]))
    assert not np.array_equal(first.embed_text("a bus"), second.embed_text("a bus"))


def test_one_text_is_one_row(embedder: ClipEmbedder):
    """Fault 11: it was a row for each letter."""
    assert embedder.embed_text("a red bus").shape == (1, 32)
    assert np.array_equal(embedder.embed_text("a red bus"), embedder.embed_text(["a red bus"]))
    assert embedder.embed_text([]).shape == (0, 32)
    for wrong in ([b"bus"], [None], [["a", "b"]], (3,)):
        with pytest.raises(ConfigError, match=r"texts: found .+, expected str"):
            embedder.embed_text(wrong)


@pytest.mark.parametrize("gone", [0, 1])
def test_a_model_file_that_has_moved_is_named_with_the_way_out(parts: tuple[Path, Path], gone: int):
    """Fault 17: a store keeps the absolute paths of its model's files."""
    space = load_embedder(*map(str, parts), device="cpu").space
    moved = parts[gone].rename(parts[gone].with_stem("moved"))
    with pytest.raises(ModelError, match="--model and --pretrained") as caught:
        embedder_for(space, device="cpu")
    assert str(caught.value).startswith(f"{parts[gone]}, of CLIP model")
    named = {"model": str(moved)} if gone == 0 else {"pretrained": str(moved)}
    assert embedder_for(space, **named, device="cpu").space.fingerprint == space.fingerprint


def test_a_model_folder_that_has_moved_is_named_with_the_way_out(tiny_clip: Path, tmp_path: Path):
    folder = Path(shutil.copytree(tiny_clip, tmp_path / "clip"))
    space = load_embedder(str(folder), device="cpu").space
    moved = folder.rename(tmp_path / "moved")
    with pytest.raises(ModelError, match=r"clip, of CLIP model .* put it back, or say where it is"):
        embedder_for(space, device="cpu")
    assert embedder_for(space, str(moved), device="cpu").space.fingerprint == space.fingerprint
