"""Vectors are open_clip's, and the decoder's canvas is embedded as its picture."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from clip_files import PICTURES, Weights, load, save_pt, write_config
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image

from clip_feature_codec.embed import ClipEmbedder
from clip_feature_codec.images import to_tensor
from samples import TINY_CLIP, make_picture


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
