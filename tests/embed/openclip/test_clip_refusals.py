"""What is no model, or cannot be had, is refused in one line, and nothing in it is run."""

from __future__ import annotations

import pickle
import shutil
import socket
import time
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from clip_files import Weights, load, save_pt, write_config
from huggingface_hub import constants as hub
from safetensors.torch import save_file

from clip_feature_codec.embed import ClipEmbedder
from clip_feature_codec.errors import ConfigError, ModelError
from samples import TINY_CLIP


def refusal(model: str, pretrained: str | None = None) -> str:
    with pytest.raises(ModelError) as caught:
        ClipEmbedder.load(model, pretrained, "cpu")
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("name", ["ViT-B-33", "", "hf-hub:some/thing", "local-dir:/nowhere", "/nowhere"])
def test_unknown_models_are_refused(name: str) -> None:
    assert repr(name) in refusal(name, "openai")


def test_a_model_without_weights_is_never_random(config: str, weights: Weights, tmp_path: Path) -> None:
    message = refusal("ViT-B-32")
    assert "openai" in message
    assert ".safetensors" in message
    assert "it has none" in refusal(config)
    (tmp_path / "bare").mkdir()
    write_config(tmp_path / "bare" / "open_clip_config.json", {"model_cfg": TINY_CLIP})
    assert "bare" in refusal(str(tmp_path / "bare"))
    message = refusal("ViT-B-32", str(tmp_path / "nothing.pt"))
    assert "nothing.pt" in message
    assert "openai" in message


def test_weights_beside_a_model_that_has_its_own_are_refused(tiny_clip: Path) -> None:
    with pytest.raises(ConfigError, match="leave out"):
        ClipEmbedder.load(str(tiny_clip), "openai", "cpu")


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"embed_dim": 4}', "[" * 100_000])
def test_configurations_that_are_none_are_refused_and_do_no_lasting_harm(
    config: str, weights: Weights, tmp_path: Path, content: str
) -> None:
    bad = tmp_path / "bad-for-tests.json"
    bad.write_text(content)
    file = save_pt(tmp_path / "w.pt", weights)
    assert "bad-for-tests" in refusal(str(bad), str(file))
    assert "gone.json" in refusal(str(tmp_path / "gone.json"), str(file))
    assert load(config, file).dim == 32


def test_a_configuration_that_makes_no_model_is_refused(tmp_path: Path, weights: Weights) -> None:
    broken = {**TINY_CLIP, "vision_cfg": {"image_size": 32, "layers": "many"}}
    config = write_config(tmp_path / "broken-for-tests.json", broken)
    assert "broken-for-tests" in refusal(config, str(save_pt(tmp_path / "w.pt", weights)))
    folder = tmp_path / "folder"
    folder.mkdir()
    save_file(weights, folder / "open_clip_model.safetensors")
    for description in ({}, {"model_cfg": TINY_CLIP, "preprocess_cfg": {"resize_mode": "fold"}}):
        write_config(folder / "open_clip_config.json", description)
        assert "folder" in refusal(str(folder))


class Malice:
    """Unpickled by an unwary reader, it makes a file."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.trace,)


def bad_files(folder: Path, weights: Weights, trace: Path) -> list[Path]:
    whole = save_pt(folder / "whole.pt", weights).read_bytes()
    save_file(weights, folder / "whole.safetensors")
    safe = (folder / "whole.safetensors").read_bytes()
    contents = {
        "empty.pt": b"",
        "empty.safetensors": b"",
        "text.pt": b"these are no weights",
        "text.safetensors": b"these are no weights",
        "truncated.pt": whole[: len(whole) // 2],
        "truncated.safetensors": safe[: len(safe) // 2],
        "huge_header.safetensors": (2**60).to_bytes(8, "little") + safe[8:],
        "pickle.pt": pickle.dumps(Malice(trace), protocol=2),
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    odd = {
        "code.pt": Malice(trace),
        "code_beside.pt": {**weights, "code": Malice(trace)},
        "nothing.pt": {},
        "list.pt": [1, 2],
        "number.pt": 7,
        "missing.pt": {k: v for k, v in weights.items() if k != "visual.conv1.weight"},
        "more.pt": {**weights, "unheard.of": torch.zeros(3)},
        "shape.pt": {**weights, "visual.conv1.weight": torch.zeros(5, 5)},
        "other_model.pt": {"layer.weight": torch.zeros(3, 3)},
    }
    for name, thing in odd.items():
        save_pt(folder / name, thing)
    save_file({"layer.weight": torch.zeros(3, 3)}, folder / "other_model.safetensors")
    return [folder / name for name in [*contents, *odd, "other_model.safetensors"]]


def test_corrupt_and_foreign_weights_are_refused_and_nothing_in_them_is_run(
    config: str, weights: Weights, tmp_path: Path
) -> None:
    trace = tmp_path / "it_was_run"
    pickle.loads(pickle.dumps(Malice(trace)))
    assert trace.exists()  # so it would have been noticed
    trace.unlink()
    for file in bad_files(tmp_path, weights, trace):
        assert "tiny-for-tests" in refusal(config, str(file)), file
        assert not trace.exists(), file
    folder = tmp_path / "folder"
    folder.mkdir()
    write_config(folder / "open_clip_config.json", {"model_cfg": TINY_CLIP})
    shutil.copy(tmp_path / "code_beside.pt", folder / "open_clip_pytorch_model.bin")
    assert "folder" in refusal(str(folder))
    assert not trace.exists()


@pytest.mark.parametrize("says_offline", [True, False])
def test_without_a_connection_a_tag_is_refused_at_once_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says_offline: bool
) -> None:
    def no_connection(*_: object, **__: object) -> Any:
        raise socket.gaierror("Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", no_connection)
    monkeypatch.setattr(socket.socket, "connect", no_connection)
    monkeypatch.setattr(hub, "HF_HUB_OFFLINE", says_offline)
    monkeypatch.setattr(hub, "HF_HUB_CACHE", str(tmp_path / "cache"))
    for proxy in ("https_proxy", "all_proxy"):
        monkeypatch.delenv(proxy, raising=False)
        monkeypatch.delenv(proxy.upper(), raising=False)
    began = time.process_time(), time.monotonic()
    message = refusal("ViT-B-32", "laion2b_s34b_b79k")
    assert time.monotonic() - began[1] < 5
    assert "ViT-B-32/laion2b_s34b_b79k" in message
    assert str(tmp_path / "cache") in message
    assert "--pretrained" in message
    assert hub.HF_HUB_OFFLINE is says_offline


def test_a_tokenizer_that_cannot_be_had_is_one_line(tiny_clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> Any:
        raise ImportError("a library that reads this tokenizer is missing")

    embedder = ClipEmbedder.load(str(tiny_clip), device="cpu")
    monkeypatch.setattr(open_clip, "get_tokenizer", missing)
    with pytest.raises(ModelError, match="the tokenizer of"):
        embedder.embed_text(["x"])
