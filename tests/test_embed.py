from __future__ import annotations

import json
import pickle
import shutil
import socket
import time
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from huggingface_hub import constants as hub
from open_clip import pretrained as pretrained_tags
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from safetensors.torch import load_file, save_file

from clip_feature_codec.embed import ClipEmbedder, embedder_for
from clip_feature_codec.errors import ConfigError, ModelError, SpaceMismatchError
from clip_feature_codec.images import to_tensor
from samples import TINY_CLIP, make_picture

Weights = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def weights(tiny_clip: Path) -> Weights:
    found: Weights = load_file(tiny_clip / "open_clip_model.safetensors")
    return found


@pytest.fixture
def config(tmp_path: Path) -> str:
    """The tiny CLIP's architecture as a .json file; its preprocessing is then open_clip's default."""
    return write_config(tmp_path / "tiny-for-tests.json", TINY_CLIP)


def write_config(path: Path, config: Any) -> str:
    path.write_text(json.dumps(config))
    return str(path)


def load(config: str, file: Path) -> ClipEmbedder:
    return ClipEmbedder.load(config, str(file), device="cpu")


def quick_config(folder: Path) -> str:
    """The same architecture with another activation, which no weight shows."""
    return write_config(folder / "tiny-quick-for-tests.json", {**TINY_CLIP, "quick_gelu": True})


def save_pt(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


PICTURES = [make_picture(1), make_picture(2, (32, 32)), make_picture(3, (100, 20)), make_picture(4, (1, 1))]


# ---------------------------------------------------------------- vectors


def test_vectors_are_those_of_a_plain_open_clip_loop(embedder: ClipEmbedder, tiny_clip: Path) -> None:
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{tiny_clip}")
    model.eval()
    with torch.no_grad():
        plain = [model.encode_image(preprocess(picture)[None])[0].double().numpy() for picture in PICTURES]
        words = model.encode_text(open_clip.get_tokenizer(f"local-dir:{tiny_clip}")(["a red bus", "a cat"]))
    expected = np.stack([vector / np.linalg.norm(vector) for vector in plain])

    vectors = embedder.embed_images(PICTURES)

    assert vectors.dtype == np.float32
    assert vectors.shape == (4, embedder.dim) == (4, 32)
    assert np.abs(vectors - expected).max() < 1e-5
    texts = embedder.embed_text(["a red bus", "a cat"])
    assert texts.dtype == np.float32
    assert np.abs(texts - (words / words.norm(dim=1, keepdim=True)).numpy()).max() < 1e-5


def test_all_vectors_have_unit_length_and_none_come_from_nothing(embedder: ClipEmbedder) -> None:
    for vectors in (embedder.embed_images(PICTURES), embedder.embed_text(["", "x", "a photo of a dog" * 50])):
        assert np.abs(np.linalg.norm(vectors, axis=1) - 1).max() < 1e-6
    assert embedder.embed_images([]).shape == embedder.embed_text([]).shape == (0, embedder.dim)


def test_a_batch_is_as_good_as_one_by_one(embedder: ClipEmbedder) -> None:
    together = embedder.embed_batch(np.stack([embedder.preprocess(picture) for picture in PICTURES]))
    one_by_one = np.concatenate([embedder.embed_images([picture]) for picture in PICTURES])
    assert np.abs(together - one_by_one).max() < 1e-5


def test_batch_norms_are_left_as_they_were_trained(tmp_path: Path) -> None:
    vision = {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "head_width": 64}
    config = write_config(tmp_path / "tiny-resnet-for-tests.json", {**TINY_CLIP, "vision_cfg": vision})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = open_clip.CLIP(TINY_CLIP["embed_dim"], vision, TINY_CLIP["text_cfg"])
        with torch.no_grad():
            model.visual(torch.randn(64, 3, 32, 32))  # trained enough to have other statistics than 0 and 1
    file = save_pt(tmp_path / "resnet.pt", model.state_dict())
    embedder = load(config, file)
    model.eval()
    pixels = torch.from_numpy(np.stack([embedder.preprocess(picture) for picture in PICTURES]))
    with torch.no_grad():
        plain = model.encode_image(pixels, normalize=True)
    assert np.abs(embedder.embed_images(PICTURES) - plain.numpy()).max() < 1e-5


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("resize_mode", ["squash", "shortest", "longest"])
@pytest.mark.parametrize("side", [20, 32, 96])
def test_the_decoders_canvas_is_embedded_as_its_picture(
    tiny_clip: Path, tmp_path: Path, interpolation: str, resize_mode: str, side: int
) -> None:
    folder = tmp_path / "clip"
    shutil.copytree(tiny_clip, folder)
    description = json.loads((folder / "open_clip_config.json").read_text())
    description["preprocess_cfg"].update(interpolation=interpolation, resize_mode=resize_mode)
    write_config(folder / "open_clip_config.json", description)
    embedder = ClipEmbedder.load(str(folder), device="cpu")
    # Noise shows a wrong filter best, which is then off by 0.005. It has no black or white to overshoot.
    noise = np.random.default_rng(0).integers(64, 192, (3, side, side, 3), dtype=np.uint8)
    pictures = [Image.fromarray(picture) for picture in noise]
    canvas = embedder.encode_tensor(to_tensor(pictures)).numpy()
    assert np.abs(canvas - embedder.embed_images(pictures)).max() < 0.002


def test_the_decoders_canvas_gets_a_gradient_and_the_model_none(embedder: ClipEmbedder) -> None:
    x = to_tensor([make_picture(5, (40, 40)), make_picture(6, (40, 40))]).requires_grad_()
    target = torch.from_numpy(embedder.embed_images([make_picture(7)]))
    z = embedder.encode_tensor(x)
    assert torch.allclose(z.norm(dim=1), torch.ones(2), atol=1e-6)
    before = (z * target).sum()
    before.backward()
    assert x.grad is not None
    step = 0.05 * x.grad / x.grad.abs().max()
    with torch.no_grad():
        after = (embedder.encode_tensor(x + step) * target).sum()
    assert after > before
    assert all(parameter.grad is None for parameter in embedder._model.parameters())


def test_a_long_strip_is_cut_to_its_middle(config: str, weights: Weights, tmp_path: Path) -> None:
    embedder = load(config, save_pt(tmp_path / "w.pt", weights))  # it crops to the central square
    rng = np.random.default_rng(0)
    strip = Image.fromarray(rng.integers(0, 256, (2, 60_000, 3), dtype=np.uint8))
    middle = strip.crop((30_000 - 10, 0, 30_000 + 10, 2))
    for turn in (0, 90):
        a, b = (embedder.preprocess(picture.rotate(turn, expand=True)) for picture in (strip, middle))
        assert a.shape == (3, 32, 32)
        assert np.abs(a - b).max() < 0.05
    ordinary = strip.crop((0, 0, 32, 2))
    plain = image_transform_v2(PreprocessCfg(size=32), is_train=False)
    assert np.array_equal(embedder.preprocess(ordinary), plain(ordinary).numpy())


# ---------------------------------------------------------------- where the weights come from


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


# ---------------------------------------------------------------- refusals


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
