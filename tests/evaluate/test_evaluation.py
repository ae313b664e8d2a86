from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from clip_feature_codec.diffusion.checkpoint import load_decoder
from clip_feature_codec.embed import ClipEmbedder
from clip_feature_codec.errors import ConfigError, MetricError, SpaceMismatchError, StoreError
from clip_feature_codec.evaluate.evaluation import Evaluation, evaluate_store
from clip_feature_codec.evaluate.metrics import Lpips
from clip_feature_codec.images import to_tensor
from clip_feature_codec.reconstruct import PaintOptions, paint
from clip_feature_codec.store.feature_store import DECODER_FILE, FeatureStore
from samples import make_decoder, make_picture, make_store

OPTIONS = PaintOptions(steps=2, size=48)
Evaluate = Callable[..., Evaluation]


@pytest.fixture(autouse=True)
def checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where torch keeps what it downloads: an empty folder."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    folder = tmp_path / "torch/hub/checkpoints"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture(scope="module")
def finished(embedder: ClipEmbedder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("evaluation"), embedder)


@pytest.fixture
def store(finished: Path, tmp_path: Path) -> FeatureStore:
    shutil.copytree(finished.parent, tmp_path / "work")
    return FeatureStore.open(tmp_path / "work/store")


@pytest.fixture
def evaluate(store: FeatureStore, embedder: ClipEmbedder) -> Evaluate:
    def run(options: PaintOptions = OPTIONS, **others: object) -> Evaluation:
        return evaluate_store(store, load_decoder(store.folder / DECODER_FILE), embedder, options, **others)

    return run


def test_every_figure_equals_an_independent_one(
    evaluate: Evaluate, store: FeatureStore, embedder: ClipEmbedder
):
    result = evaluate(batch_size=3)
    images = json.loads(json.dumps(result.to_json(), allow_nan=False))["images"]
    assert [image["name"] for image in images] == ["deep/p2", "p0", "p1", "p3"]
    for image, sample in zip(images, result.samples, strict=True):
        with Image.open(store.folder.parent / f"photos/{image['name']}.png") as file:
            original = file.convert("RGB")
        reference = np.asarray(original.resize((image["width"], image["height"]), Image.Resampling.BICUBIC))
        painted = np.asarray(sample.reconstruction)
        assert image["psnr"] == pytest.approx(peak_signal_noise_ratio(reference, painted), abs=1e-4)
        expected = structural_similarity(
            reference, painted, channel_axis=2, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
        assert image["ssim"] == pytest.approx(expected, abs=1e-4)
        first, second = (embedder.embed_images([picture])[0] for picture in (original, sample.reconstruction))
        assert image["clip_similarity"] == pytest.approx(float(first @ second), abs=1e-4)
        size = (store.folder / f"{image['name']}.clp").stat().st_size
        assert image["bytes"] == size
        assert image["bpp"] == pytest.approx(8 * size / (painted.shape[0] * painted.shape[1]))
        assert (np.asarray(sample.original) == reference).all()


def test_the_pictures_are_those_that_decoding_gives(evaluate: Evaluate, store: FeatureStore):
    decoder = load_decoder(store.folder / DECODER_FILE)
    for entry, sample in zip(store.entries, evaluate().samples, strict=True):
        alone = next(paint([store.read(entry)], store.codec, decoder, OPTIONS))
        difference = np.asarray(alone, np.int64) - np.asarray(sample.reconstruction, np.int64)
        assert np.abs(difference).max() <= 1


def test_aggregated_figures(evaluate: Evaluate):
    result = evaluate().to_json()
    for name in ("bytes", "bpp", "psnr", "ssim", "clip_similarity"):
        values = [image[name] for image in result["images"]]
        figures = result["summary"][name]
        assert figures["mean"] == pytest.approx(np.mean(values))
        assert figures["std"] == pytest.approx(np.std(values))
        assert figures["median"] == pytest.approx(np.median(values))
        assert figures["count"] == 4
    settings = result["settings"]
    assert (settings["steps"], settings["size"], settings["decoder_canvas"]) == (2, 48, 16)
    assert (settings["device"], settings["pictures"]) == ("cpu", 4)


def test_the_batch_size_changes_nothing_but_rounding(evaluate: Evaluate):
    for one, four in zip(evaluate(batch_size=1).rows, evaluate(batch_size=4).rows, strict=True):
        assert (one.name, one.bytes) == (four.name, four.bytes)
        assert one.psnr == pytest.approx(four.psnr, abs=0.02)
        assert one.clip_similarity == pytest.approx(four.clip_similarity, abs=1e-3)


def test_a_picture_equal_to_its_reconstruction_is_perfect(evaluate: Evaluate, store: FeatureStore):
    painted = {sample.row.name: sample.reconstruction for sample in evaluate().samples}
    painted["p0"].save(store.folder.parent / "photos/p0.png")
    row = next(row for row in evaluate().rows if row.name == "p0")
    assert row.psnr is None  # infinite
    assert row.ssim == pytest.approx(1)
    assert row.clip_similarity == pytest.approx(1, abs=1e-6)


def test_lpips_without_its_weights_is_reported_with_the_reason(evaluate: Evaluate):
    result = evaluate()
    assert [row.lpips for row in result.rows] == [None] * 4
    assert "alexnet" in result.to_json()["unavailable"]["lpips"]
    assert "lpips" not in result.summary()
    with pytest.raises(MetricError, match="alexnet"):
        evaluate(require=["psnr", "lpips"])


def test_lpips_with_its_weights_is_measured(evaluate: Evaluate, checkpoints: Path):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        alexnet = torchvision.models.alexnet(weights=None).state_dict()
    backbone = {key: value for key, value in alexnet.items() if key.startswith("features.")}
    torch.save(backbone, checkpoints / "alexnet-owt-7be5be79.pth")
    result = evaluate(PaintOptions(steps=1, size=64), require=["lpips"])
    assert result.unavailable == {}
    lpips = Lpips()
    for sample in result.samples:
        (expected,) = lpips(to_tensor([sample.original]), to_tensor([sample.reconstruction]))
        assert sample.row.lpips == pytest.approx(expected, abs=1e-6)
    assert result.summary()["lpips"]["count"] == 4


def test_what_cannot_be_measured_is_listed_and_the_rest_is_done(evaluate: Evaluate, store: FeatureStore):
    whole = {row.name: row for row in evaluate().rows}
    torn = store.folder / "p1.clp"
    torn.write_bytes(torn.read_bytes()[:-3])
    (store.folder.parent / "photos/p3.png").unlink()
    result = evaluate(batch_size=2)
    assert [row.name for row in result.rows] == ["deep/p2", "p0"]
    assert [row.bytes for row in result.rows] == [whole["deep/p2"].bytes, whole["p0"].bytes]
    assert [stream for stream, _ in result.failures] == [str(torn), str(store.folder / "p3.clp")]
    assert str(torn) in result.failures[0][1]
    assert "p3.png" in result.failures[1][1]
    recorded = result.to_json()["failures"]
    assert [failure["stream"] for failure in recorded] == [stream for stream, _ in result.failures]


def test_the_limit_and_the_number_of_samples(evaluate: Evaluate):
    result = evaluate(limit=3, samples=2, batch_size=2)
    assert [row.name for row in result.rows] == ["deep/p2", "p0", "p1"]
    assert [sample.row.name for sample in result.samples] == ["deep/p2", "p0"]


def test_square_pictures_are_compared_as_squares(evaluate: Evaluate):
    result = evaluate(PaintOptions(steps=1, size=24, square=True))
    assert {(row.width, row.height) for row in result.rows} == {(24, 24)}
    assert {sample.original.size for sample in result.samples} == {(24, 24)}


def test_pictures_too_small_for_ssim_have_none(evaluate: Evaluate):
    result = evaluate(PaintOptions(steps=1, size=8))
    assert [row.ssim for row in result.rows] == [None] * 4
    assert result.summary()["ssim"] == {"mean": None, "std": None, "median": None, "count": 0}


def test_a_store_without_one_usable_picture_is_refused(evaluate: Evaluate, store: FeatureStore):
    shutil.rmtree(store.folder.parent / "photos")
    with pytest.raises(StoreError, match=r"no picture could be measured; the first: .*p2\.png"):
        evaluate()


def test_an_empty_store_is_refused(store: FeatureStore, embedder: ClipEmbedder, tmp_path: Path):
    empty = FeatureStore.create(tmp_path / "empty", store.codec)
    with pytest.raises(StoreError, match="empty"):
        evaluate_store(empty, make_decoder(embedder.space), embedder, OPTIONS)


def test_an_unknown_metric_is_refused(evaluate: Evaluate):
    with pytest.raises(ConfigError, match=r"'beauty'.*psnr"):
        evaluate(require=["beauty"])


def test_store_decoder_and_model_must_be_of_one_space(store: FeatureStore, embedder: ClipEmbedder):
    other = dataclasses.replace(embedder.space, model="other", weights_sha256="cd" * 32)
    with pytest.raises(SpaceMismatchError, match="other"):
        evaluate_store(store, make_decoder(other), embedder, OPTIONS)


def test_originals_of_any_size_and_mode_are_measured(evaluate: Evaluate, store: FeatureStore):
    make_picture(1, (500, 400)).convert("L").save(store.folder.parent / "photos/p0.png")
    row = next(row for row in evaluate().rows if row.name == "p0")
    assert max(row.width, row.height) == 48
    assert row.psnr is not None
