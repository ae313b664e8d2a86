from __future__ import annotations

from pathlib import Path
from typing import Any

import open_clip
import pytest
from huggingface_hub import constants

from clip_feature_codec.embed.openclip import hub
from clip_feature_codec.errors import ModelError

CONFIG = {"hf_hub": "lab/clip/"}
BIN, SAFE = "open_clip_pytorch_model.bin", "open_clip_model.safetensors"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which the hub's client keeps one repository's files; nothing may ask the network."""

    def online(*_: object, **__: object) -> Any:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    for name in ("file_exists", "hf_hub_download"):
        monkeypatch.setattr(hub, name, online)
    repository = tmp_path / "models--lab--clip"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs/main").write_text("abc")
    (repository / "snapshots/abc").mkdir(parents=True)
    return repository / "snapshots/abc"


@pytest.mark.parametrize(
    ("there", "place", "expected"),
    [
        ([BIN], "lab/clip/", BIN),
        ([BIN, SAFE], "lab/clip/", SAFE),
        (["w.pt"], "lab/clip/w.pt", "w.pt"),
        (["w.bin", "w.safetensors"], "lab/clip/w.bin", "w.safetensors"),
    ],
)
def test_what_is_in_the_cache_is_taken_from_it(cache: Path, there: list[str], place: str, expected: str):
    for name in there:
        (cache / name).touch()
    assert hub.tagged_weights("ViT", "tag", {"hf_hub": place}) == str(cache / expected)


@pytest.mark.parametrize("there", [[BIN], [BIN, SAFE]])
def test_what_is_not_is_downloaded_as_safetensors_where_there_are_any(
    cache: Path, monkeypatch: pytest.MonkeyPatch, there: list[str]
):
    monkeypatch.setattr(hub, "file_exists", lambda repository, name: name in there)
    monkeypatch.setattr(hub, "hf_hub_download", lambda repository, name: f"{repository}: {name}")
    assert hub.tagged_weights("ViT", "tag", CONFIG) == f"lab/clip: {there[-1]}"


def test_what_is_nowhere_is_refused(cache: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(hub, "file_exists", lambda *_: False)
    with pytest.raises(ModelError, match=r"ViT/tag are not in the cache .* --pretrained FILE"):
        hub.tagged_weights("ViT", "tag", CONFIG)


def test_what_the_hub_does_not_have_is_left_to_open_clip(cache: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(open_clip, "download_pretrained", lambda config: f"from {config['url']}")
    assert hub.tagged_weights("ViT", "tag", {"url": "there", "hf_hub": ""}) == "from there"
    assert hub.tagged_weights("ViT", "tag", {"url": "there"}) == "from there"
