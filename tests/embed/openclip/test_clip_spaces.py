"""Where the weights come from, and that a space is known by them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from clip_files import PICTURES, Weights, load, quick_config, save_pt, write_config
from open_clip import pretrained as pretrained_tags
from safetensors.torch import save_file

from clip_feature_codec.embed import ClipEmbedder, embedder_for
from clip_feature_codec.errors import SpaceMismatchError
from samples import TINY_CLIP


def test_the_fingerprint_does_not_depend_on_format_or_place(
    config: str, weights: Weights, tmp_path: Path, tiny_clip: Path
) -> None:
    (tmp_path / "deep").mkdir()
    save_file(weights, tmp_path / "deep" / "w.safetensors")
    training = {"epoch": 3, "state_dict": {f"module.{name}": value for name, value in weights.items()}}
    files = [
        save_pt(tmp_path / "plain.pt", weights),
        save_pt(tmp_path / "reversed.pt", dict(reversed(weights.items()))),
        save_pt(tmp_path / "training.pt", training),
        tmp_path / "deep" / "w.safetensors",
    ]
    folder = tmp_path / "folder"
    folder.mkdir()
    shutil.copy(tiny_clip / "open_clip_model.safetensors", folder)
    write_config(folder / "open_clip_config.json", {"model_cfg": TINY_CLIP})
    embedders = [load(config, file) for file in files] + [ClipEmbedder.load(str(folder), device="cpu")]
    assert len({embedder.space.fingerprint for embedder in embedders}) == 1
    first = embedders[0].embed_images(PICTURES)
    assert all(np.array_equal(first, embedder.embed_images(PICTURES)) for embedder in embedders)


def test_a_16_bit_file_is_the_space_of_rounded_weights(config: str, weights: Weights, tmp_path: Path) -> None:
    half = {name: value.half() for name, value in weights.items()}
    rounded = {name: value.float() for name, value in half.items()}
    in_16, in_32, exact = (
        load(config, save_pt(tmp_path / f"{name}.pt", content))
        for name, content in (("half", half), ("rounded", rounded), ("exact", weights))
    )
    assert in_16.space.fingerprint == in_32.space.fingerprint != exact.space.fingerprint
    assert np.array_equal(in_16.embed_images(PICTURES), in_32.embed_images(PICTURES))
    assert (np.sum(in_16.embed_images(PICTURES) * exact.embed_images(PICTURES), axis=1) > 0.999).all()


def test_whatever_changes_a_vector_changes_the_fingerprint(
    config: str, weights: Weights, tmp_path: Path, embedder: ClipEmbedder
) -> None:
    file = save_pt(tmp_path / "w.pt", weights)
    usual = load(config, file)
    quick = load(quick_config(tmp_path), file)
    name = "visual.conv1.weight"
    nudged = {**weights, name: weights[name].clone()}
    nudged[name].view(-1)[0] += 1e-3
    others = [quick, load(config, save_pt(tmp_path / "nudged.pt", nudged)), embedder]  # it squashes
    assert len({other.space.fingerprint for other in [usual, *others]}) == 4
    assert quick.space.weights_sha256 != usual.space.weights_sha256 == embedder.space.weights_sha256
    for other in others:
        assert not np.array_equal(other.embed_images(PICTURES), usual.embed_images(PICTURES))


def test_a_space_finds_its_model_again_from_anywhere(
    config: str, weights: Weights, tmp_path: Path, tiny_clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_pt(tmp_path / "w.pt", weights)
    shutil.copytree(tiny_clip, tmp_path / "clip")
    monkeypatch.chdir(tmp_path)
    spaces = [
        ClipEmbedder.load(Path(config).name, "w.pt", "cpu").space,
        ClipEmbedder.load("clip", device="cpu").space,
    ]
    monkeypatch.chdir("/")
    for space in spaces:
        assert embedder_for(space, device="cpu").space == space


def test_another_model_in_its_place_is_refused(
    config: str, weights: Weights, tmp_path: Path, embedder: ClipEmbedder
) -> None:
    save_pt(tmp_path / "w.pt", weights)
    with pytest.raises(SpaceMismatchError) as caught:
        embedder_for(embedder.space, config, str(tmp_path / "w.pt"), "cpu")
    assert embedder.space.label in str(caught.value)


def test_a_tag_brings_its_activation_and_preprocessing(
    config: str, weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = save_pt(tmp_path / "w.pt", weights)
    name = Path(config).stem
    tag = {"file": str(file), "quick_gelu": True, "mean": (0.1, 0.2, 0.3), "interpolation": "bilinear"}
    monkeypatch.setitem(pretrained_tags._PRETRAINED, name, {"our_tag": tag})
    embedder = ClipEmbedder.load(config, "our_tag", "cpu")
    quick = load(quick_config(tmp_path), file)
    assert embedder.space.weights_sha256 == quick.space.weights_sha256
    assert embedder.space.preprocessing["mean"] == [0.1, 0.2, 0.3]
    assert embedder.space.preprocessing["interpolation"] == "bilinear"
    assert embedder.space.preprocessing["size"] == [32, 32]
    assert (embedder.space.model, embedder.space.pretrained) == (config, "our_tag")


def test_a_file_called_like_a_tag_is_the_file(
    config: str, weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_pt(tmp_path / "openai", weights)
    monkeypatch.setitem(pretrained_tags._PRETRAINED, Path(config).stem, {"openai": {"file": "nowhere"}})
    monkeypatch.chdir(tmp_path)
    assert ClipEmbedder.load(config, "openai", "cpu").space.pretrained == str(tmp_path / "openai")
