"""Which files of a repository a tower needs, on a hub that is a dictionary."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from clip_feature_codec.embed.transformers import source
from clip_feature_codec.embed.transformers.source import find_tower


def config(width: int) -> bytes:
    return json.dumps({"model_type": "clip_vision_model", "projection_dim": width}).encode()


def adapter(width: int) -> bytes:
    return save({"image_proj.proj.weight": np.zeros((8, width), np.float32)})


REPOSITORIES = {
    "lab/sd": {"model_index.json": b"{}", "unet/model.safetensors": b"0"},
    "lab/ip": {
        "models/image_encoder/config.json": config(1024),
        "models/image_encoder/model.safetensors": b"H",
        "models/image_encoder/pytorch_model.bin": b"H",
        "sdxl_models/image_encoder/config.json": config(1280),
        "sdxl_models/image_encoder/model.safetensors": b"G",
        "sdxl_models/small.safetensors": adapter(1024),
        "sdxl_models/large.safetensors": adapter(1280),
        "sdxl_models/plus.safetensors": save({"image_proj.latents": np.zeros(3, np.float32)}),
    },
}


class Repository:
    def __init__(self, name: str, cache: Path, taken: list[str]) -> None:
        self.files = REPOSITORIES[name]
        self._folder, self._taken = cache / name, taken

    def download(self, wanted: Collection[str]) -> Path:
        for name in wanted:
            self._taken.append(name)
            (self._folder / name).parent.mkdir(parents=True, exist_ok=True)
            (self._folder / name).write_bytes(self.files[name])
        return self._folder


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """The files that are downloaded."""
    names: list[str] = []
    monkeypatch.setattr(source, "look", lambda name: Repository(name.partition("@")[0], tmp_path, names))
    return names


@pytest.mark.parametrize(
    ("file", "encoder"), [("small", "models/image_encoder"), ("large", "sdxl_models/image_encoder")]
)
def test_of_an_adapter_s_towers_the_fitting_one_is_downloaded(
    taken: list[str], tmp_path: Path, file: str, encoder: str
) -> None:
    name = f"lab/sd+lab/ip/sdxl_models/{file}.safetensors@v1"
    found = find_tower(name)
    assert found is not None
    assert found.folder == (tmp_path / "lab/ip" / encoder).resolve()
    assert found.label == name
    weights = [each for each in taken if each.endswith((".safetensors", ".bin"))]
    assert weights == [f"sdxl_models/{file}.safetensors", f"{encoder}/model.safetensors"]


def test_an_adapter_that_wants_more_than_the_embedding_is_refused(taken: list[str]) -> None:
    with pytest.raises(source.ModelError, match="takes more than an image embedding"):
        find_tower("lab/sd+lab/ip/sdxl_models/plus.safetensors")


def test_a_tower_inside_a_repository(taken: list[str], tmp_path: Path) -> None:
    found = find_tower("lab/ip/models/image_encoder")
    assert found is not None
    assert found.folder == tmp_path / "lab/ip/models/image_encoder"
    assert sorted(taken) == ["models/image_encoder/config.json", "models/image_encoder/model.safetensors"]
