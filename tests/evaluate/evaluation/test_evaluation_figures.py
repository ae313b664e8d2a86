"""Whole evaluations: figures against independent ones."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from evaluated import NAMES, Prepare, of_series, original, painted
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from clip_feature_codec.decoders.options import PaintOptions
from clip_feature_codec.embed import ClipEmbedder
from clip_feature_codec.encode import encode_source
from clip_feature_codec.errors import ConfigError, MetricError
from clip_feature_codec.evaluate.codecs import Painter
from clip_feature_codec.evaluate.evaluation import Evaluator
from clip_feature_codec.evaluate.instruments import Eyes
from clip_feature_codec.evaluate.results import Evaluation
from clip_feature_codec.reconstruct import paint
from clip_feature_codec.store.feature_store import FeatureStore
from samples import make_decoder, make_judge, make_picture


def test_every_figure_equals_an_independent_one(
    evaluate: Callable[..., Evaluation], store: FeatureStore, embedder: ClipEmbedder
):
    result = evaluate(batch_size=3)
    rows = json.loads(json.dumps(result.to_json(), allow_nan=False))["rows"]
    assert [row["image"] for row in rows] == NAMES
    originals = embedder.embed_images([original(store, name) for name in NAMES])
    for place, (row, image) in enumerate(zip(rows, result.images, strict=True)):
        shown = painted(store, row["image"])
        assert (image.width, image.height) == shown.size
        reference = np.asarray(original(store, row["image"]).resize(shown.size, Image.Resampling.BICUBIC))
        metrics = row["metrics"]
        assert metrics["psnr"] == pytest.approx(
            peak_signal_noise_ratio(reference, np.asarray(shown)), abs=0.02
        )
        expected = structural_similarity(
            reference,
            np.asarray(shown),
            channel_axis=2,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        assert metrics["ssim"] == pytest.approx(expected, abs=2e-3)
        cosines = originals @ embedder.embed_images([shown])[0]
        assert metrics["clip_similarity"] == pytest.approx(float(cosines[place]), abs=1e-3)
        assert metrics["clip_rank"] == 1 + np.sum(np.delete(cosines, place) >= cosines[place])
        size = (store.folder / f"{row['image']}.clp").stat().st_size
        assert (row["bytes"], row["budget"], row["seed"], row["series"]) == (size, None, 0, "clp@2")
        assert 0 < row["payload_bytes"] < size
        assert row["bpp"] == pytest.approx(8 * size / (shown.width * shown.height))
        assert row["decode_ms"] > 0


def test_an_evaluation_survives_json(evaluate: Callable[..., Evaluation]):
    result = evaluate(comparison={"budgets": (600,), "baselines": ["layout"]})
    assert Evaluation.from_json(json.loads(json.dumps(result.to_json()))) == result


@pytest.mark.parametrize("damage", [[], {}, {"rows": []}, {"format": 99}, {"format": 1, "metrics": 3}])
def test_what_is_no_evaluation_is_refused(damage: object):
    if isinstance(damage, dict) and "format" in damage:
        damage = {"rows": [], "series": [], "provenance": {}} | damage
    with pytest.raises(ConfigError, match="evaluation"):
        Evaluation.from_json(damage)


def test_the_kept_pictures_are_those_that_were_measured(prepare: Prepare, store: FeatureStore):
    evaluator = prepare()
    evaluator.run()
    kept = evaluator.pictures
    assert {key[0] for key in kept} == set(NAMES)
    assert {key[1:] for key in kept} == {("original", None), ("clp@2", None)}
    for name in NAMES:  # WebP loses some colour, but no picture is taken for another
        shown = painted(store, name)
        picture = np.asarray(Image.open(io.BytesIO(kept[name, "clp@2", None])).convert("RGB"), np.float64)
        errors = {
            other: np.mean((picture - np.asarray(painted(store, other).resize(shown.size))) ** 2)
            for other in NAMES
        }
        assert picture.shape == (*shown.size[::-1], 3)
        assert min(errors, key=lambda other: errors[other]) == name
    evaluator.finish()
    assert list((store.folder / "evaluation").glob("*/*")) == []


def test_the_batch_size_changes_nothing_but_rounding(evaluate: Callable[..., Evaluation]):
    for one, four in zip(evaluate(batch_size=1).rows, evaluate(batch_size=4).rows, strict=True):
        assert (one.image, one.bytes) == (four.image, four.bytes)
        assert one.metrics["psnr"] == pytest.approx(four.metrics["psnr"], abs=0.02)
        assert one.metrics["clip_similarity"] == pytest.approx(four.metrics["clip_similarity"], abs=1e-3)


def test_a_picture_equal_to_its_reconstruction_is_perfect(
    evaluate: Callable[..., Evaluation], store: FeatureStore
):
    painted(store, "p0").save(store.folder.parent / "photos/p0.png")
    (row,) = [row for row in evaluate(batch_size=1).rows if row.image == "p0"]
    assert row.metrics["psnr"] is None  # infinite
    assert row.metrics["ssim"] == pytest.approx(1)
    assert row.metrics["clip_similarity"] == pytest.approx(1, abs=1e-6)


def test_originals_of_any_size_and_mode_are_measured(
    evaluate: Callable[..., Evaluation], store: FeatureStore
):
    make_picture(1, (500, 400)).convert("L").save(store.folder.parent / "photos/p0.png")
    result = evaluate()
    assert {max(image.width, image.height) for image in result.images} == {48}
    assert all(row.metrics["psnr"] is not None for row in result.rows)


def test_square_pictures_are_compared_as_squares(evaluate: Callable[..., Evaluation]):
    result = evaluate(PaintOptions(steps=1, size=24, square=True), comparison={"baselines": ["layout"]})
    assert {(image.width, image.height) for image in result.images} == {(24, 24)}
    assert len(of_series(result, "layout")) == 4


def test_pictures_too_small_for_ssim_have_none(evaluate: Callable[..., Evaluation]):
    result = evaluate(PaintOptions(steps=1, size=8))
    assert [row.metrics["ssim"] for row in result.rows] == [None] * 4


def test_what_there_are_no_weights_for_is_reported_with_the_reason(
    prepare: Prepare, evaluate: Callable[..., Evaluation]
):
    result = evaluate()
    assert "alexnet" in result.unavailable["lpips"]
    assert "--judge" in result.unavailable["kid"]
    assert "100 pictures" in result.unavailable["cmmd"]
    assert not result.unavailable.keys() & result.metrics.keys()
    assert all(row.metrics.keys() <= result.metrics.keys() for row in result.rows)
    evaluator = prepare()
    evaluator.instruments.require(["psnr", "clip_rank"])
    with pytest.raises(MetricError, match="alexnet"):
        evaluator.instruments.require(["psnr", "lpips"])
    with pytest.raises(ConfigError, match=r"'beauty'.*psnr"):
        evaluator.instruments.require(["beauty"])


def test_lpips_with_its_weights_is_measured(evaluate: Callable[..., Evaluation], checkpoints: Path):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        alexnet = torchvision.models.alexnet(weights=None).state_dict()
    backbone = {key: value for key, value in alexnet.items() if key.startswith("features.")}
    torch.save(backbone, checkpoints / "alexnet-owt-7be5be79.pth")
    result = evaluate(PaintOptions(steps=1, size=64))
    assert "lpips" not in result.unavailable
    assert "alexnet-owt-7be5be79.pth" in result.metrics["lpips"].weights
    assert all(row.metrics["lpips"] > 0 for row in result.rows)  # type: ignore[operator]


def test_another_clip_and_a_judge_look_as_well(
    evaluate: Callable[..., Evaluation], store: FeatureStore, embedder: ClipEmbedder, tmp_path: Path
):
    judge = make_judge(tmp_path / "judge")
    result = evaluate(eyes=Eyes(judge, clips={"twin": embedder}))
    for row in result.rows:
        assert row.metrics["clip_similarity@twin"] == row.metrics["clip_similarity"]
        assert row.metrics["clip_rank@twin"] == row.metrics["clip_rank"]
        shown = painted(store, row.image)
        a, b = judge([original(store, row.image).resize(shown.size, Image.Resampling.BICUBIC), shown])
        cosine = float(a @ b / math.sqrt(float(a @ a) * float(b @ b)))
        assert row.metrics["judge_similarity"] == pytest.approx(cosine, abs=1e-3)
    assert result.metrics["judge_rank"].network == judge.name
    assert result.metrics["clip_similarity@twin"].title != result.metrics["clip_similarity"].title


def test_distances_between_sets_from_a_hundred_pictures_on(embedder: ClipEmbedder, tmp_path: Path):
    from clip_feature_codec.evaluate.metrics.distributions import cmmd, kid

    for seed in range(100):
        path = tmp_path / f"photos/{seed:03}.png"
        path.parent.mkdir(exist_ok=True)
        make_picture(seed, (16, 16)).save(path)
    store = encode_source(tmp_path / "photos", tmp_path / "store", embedder, workers=0).store
    decoder, judge = make_decoder(embedder.space), make_judge(tmp_path / "judge")
    options = PaintOptions(steps=1, size=16)
    evaluator = Evaluator.prepare(
        store, [Painter(decoder)], embedder, options, eyes=Eyes(judge), batch_size=32
    )
    result = evaluator.run()
    values = {value.metric: value for value in result.set_values}
    assert values.keys() == {"kid", "cmmd", "pooled_psnr"}
    assert "fid" in result.unavailable
    over_sets = {metric for metric in result.metrics if result.metrics[metric].over == "set"}
    assert over_sets == values.keys()
    originals = [Image.open(Path(store.source_place(entry))) for entry in store.entries]
    shown = list(paint([store.read(entry) for entry in store.entries], store.codec, decoder, options, 32))
    expected = cmmd(embedder.embed_images(originals), embedder.embed_images(shown))
    assert values["cmmd"].value == pytest.approx(expected, rel=1e-3)
    assert values["kid"].value == pytest.approx(kid(judge(originals), judge(shown))[0], rel=1e-2)
    assert values["kid"].count == 100
    assert values["kid"].deviation
