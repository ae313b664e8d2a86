"""Image towers of transformers' format, against transformers itself and against open_clip."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from converted import convert, damage
from safetensors.torch import load_file, save_file
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    SiglipImageProcessor,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from clip_feature_codec.codec.feature_codec import FeatureCodec
from clip_feature_codec.embed import embedder_for, load_embedder
from clip_feature_codec.embed.probes import prove_same
from clip_feature_codec.errors import ConfigError, ModelError, SpaceMismatchError
from samples import make_picture

PICTURES = [make_picture(i, size) for i, size in enumerate([(57, 40), (32, 33), (41, 100), (64, 64)])]


def clip(folder: Path) -> Path:
    config = CLIPVisionConfig(
        hidden_size=32, intermediate_size=37, projection_dim=24, num_attention_heads=4, num_hidden_layers=2,
        image_size=32, patch_size=8,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        CLIPVisionModelWithProjection(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def tower(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tower of CLIP's and its preprocessing."""
    folder = clip(tmp_path_factory.mktemp("tower") / "clip")
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(
        folder
    )
    return folder


def test_vectors_are_transformers_own_and_their_lengths_are_told(tower: Path) -> None:
    embedder = load_embedder(str(tower), device="cpu")
    pixels = np.stack([embedder.preprocess(picture) for picture in PICTURES])
    vectors, lengths = embedder.embed_measured(pixels)
    network = CLIPVisionModelWithProjection.from_pretrained(tower).eval()
    with torch.no_grad():
        expected = network(torch.from_numpy(pixels)).image_embeds.numpy()
    assert np.abs(vectors * lengths[:, None] - expected).max() < 1e-5
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1.0, abs=1e-6)
    assert embedder.dim == 24
    assert np.array_equal(embedder.embed_images(PICTURES), vectors)
    assert embedder.embed_images([]).shape == (0, 24)
    with pytest.raises(ModelError, match="has no words"):
        embedder.embed_text("a cat")


def test_preprocessing_is_that_of_the_folder(tower: Path) -> None:
    """To a level in a few pixels, by which torchvision's resizing differs from Pillow's."""
    processor = CLIPImageProcessor.from_pretrained(tower)
    embedder = load_embedder(str(tower), device="cpu")
    for picture in PICTURES:
        theirs = processor(picture, return_tensors="np").pixel_values[0]
        assert np.abs(embedder.preprocess(picture) - theirs).mean() < 2e-3
    assert np.allclose(  # nothing to resize or crop
        embedder.preprocess(make_picture(5, (32, 32))),
        processor(make_picture(5, (32, 32)), return_tensors="np").pixel_values[0],
        atol=1e-6,
    )


def test_an_old_description_says_the_same(tower: Path, tmp_path: Path) -> None:
    old = shutil.copytree(tower, tmp_path / "old")
    config = json.loads((old / "preprocessor_config.json").read_bytes())
    config |= {"size": 32, "crop_size": 32, "feature_extractor_type": "CLIPFeatureExtractor"}
    for name in ("image_processor_type", "do_rescale", "rescale_factor"):
        config.pop(name, None)
    (old / "preprocessor_config.json").write_text(json.dumps(config))
    assert load_embedder(str(old)).space.is_same(load_embedder(str(tower)).space)
    (old / "preprocessor_config.json").unlink()
    assert load_embedder(str(old)).space.is_same(load_embedder(str(tower)).space)


def test_siglip_has_vectors_without_a_projection(tmp_path: Path) -> None:
    config = SiglipVisionConfig(
        hidden_size=32,
        intermediate_size=37,
        num_attention_heads=4,
        num_hidden_layers=2,
        image_size=32,
        patch_size=8,
    )
    network = SiglipVisionModel(config).eval()
    network.save_pretrained(tmp_path)
    SiglipImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    embedder = load_embedder(str(tmp_path), device="cpu")
    pixels = np.stack([embedder.preprocess(picture) for picture in PICTURES])
    vectors, lengths = embedder.embed_measured(pixels)
    with torch.no_grad():
        expected = network(torch.from_numpy(pixels)).pooler_output.numpy()
    assert np.abs(vectors * lengths[:, None] - expected).max() < 1e-5


def test_the_space_is_of_the_weights_whatever_file_they_are_in(tower: Path, tmp_path: Path) -> None:
    first = load_embedder(str(tower)).space
    again = shutil.copytree(tower, tmp_path / "again")
    tensors = load_file(again / "model.safetensors")
    # An older version's buffer, and another order of the file.
    tensors["vision_model.embeddings.position_ids"] = torch.arange(17)[None]
    save_file(dict(reversed(tensors.items())), again / "model.safetensors", {"format": "pt"})
    assert load_embedder(str(again)).space.fingerprint == first.fingerprint
    config = json.loads((again / "config.json").read_bytes())
    (again / "config.json").write_text(json.dumps(config | {"num_attention_heads": 8}))
    assert load_embedder(str(again)).space.fingerprint != first.fingerprint


def test_what_cannot_be_loaded_is_refused(tower: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has its own weights"):
        load_embedder(str(tower), "openai")
    bare = shutil.copytree(tower, tmp_path / "bare")
    torch.save(load_file(bare / "model.safetensors"), bare / "pytorch_model.bin")
    (bare / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"found no model\.safetensors"):
        load_embedder(str(bare))
    (bare / "model.safetensors").write_bytes(b"\0" * 100)
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_embedder(str(bare))
    (bare / "preprocessor_config.json").write_text('{"size": {"longest_edge": 3}}')
    shutil.copy(tower / "model.safetensors", bare)
    with pytest.raises(ModelError, match="preprocessing"):
        load_embedder(str(bare))


def test_a_model_in_two_formats_is_one_space_once_that_is_proven(
    tiny_clip: Path, tmp_path: Path, embedder: object, ok: Callable[..., object]
) -> None:
    other = convert(tiny_clip, tmp_path / "hf")
    codec = FeatureCodec.fit(np.eye(2, 32, dtype=np.float32), load_embedder(str(tiny_clip)).space)
    codec.save(tmp_path / "codec.json")
    space = load_embedder(str(other)).space
    with pytest.raises(SpaceMismatchError):
        embedder_for(codec.space, str(other), device="cpu")
    ok("same", tmp_path / "codec.json", "--model", other)
    told = FeatureCodec.load(tmp_path / "codec.json")
    assert told.tables_sha256 == codec.tables_sha256
    assert [proof.fingerprint for proof in told.space.proven] == [space.fingerprint]
    assert told.space.proven[0].least_cosine > 1 - 1e-6
    assert embedder_for(told.space, str(other), device="cpu").space.is_same(told.space)
    assert space.is_same(told.space)
    written = (tmp_path / "codec.json").read_bytes()
    ok("same", tmp_path / "codec.json", "--model", other)
    assert (tmp_path / "codec.json").read_bytes() == written


def test_another_model_is_not_proven(tiny_clip: Path, tmp_path: Path) -> None:
    other = convert(tiny_clip, tmp_path / "hf")
    damage(other)
    with pytest.raises(SpaceMismatchError, match=r"cosine of 0\.9"):
        prove_same(load_embedder(str(tiny_clip)), load_embedder(str(other)))


def test_a_longer_vector_is_not_the_same(tiny_clip: Path, tmp_path: Path) -> None:
    other = convert(tiny_clip, tmp_path / "hf")
    tensors = load_file(other / "model.safetensors")
    tensors["visual_projection.weight"] *= 1.01
    save_file(tensors, other / "model.safetensors")
    with pytest.raises(SpaceMismatchError, match=r"length by 1\.0%"):
        prove_same(load_embedder(str(tiny_clip)), load_embedder(str(other)))


def test_a_space_without_proofs_is_written_as_ever(tiny_clip: Path) -> None:
    space = load_embedder(str(tiny_clip)).space
    assert list(space.to_json()) == ["model", "pretrained", "weights_sha256", "dim", "preprocessing"]
    assert type(space).from_json(space.to_json()) == space
    assert replace(space, proven=()).to_json() == space.to_json()
