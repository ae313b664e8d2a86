"""Whole evaluations: figures against independent ones, rivals at equal bytes, going on after a kill."""

from __future__ import annotations

import dataclasses
import io
import json
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from clip_feature_codec.codec.layers import Layers
from clip_feature_codec.codec.rate import Rate
from clip_feature_codec.decoders.checkpoint import load_decoder, save_decoder
from clip_feature_codec.decoders.options import PaintOptions
from clip_feature_codec.diffusion.upsampler import Upsampler
from clip_feature_codec.embed import ClipEmbedder
from clip_feature_codec.encode import encode_folder
from clip_feature_codec.errors import ConfigError, MetricError, SpaceMismatchError, StoreError
from clip_feature_codec.evaluate.evaluation import Comparison, Evaluator
from clip_feature_codec.evaluate.report import html_page, text_table
from clip_feature_codec.evaluate.results import Evaluation, Row
from clip_feature_codec.evaluate.trial import Trial
from clip_feature_codec.names import DECODER_FILE
from clip_feature_codec.reconstruct import paint
from clip_feature_codec.store.feature_store import FeatureStore
from samples import make_decoder, make_judge, make_picture, make_store

OPTIONS = PaintOptions(steps=2, size=48)
NAMES = ["deep/p2", "p0", "p1", "p3"]
Prepare = Callable[..., Evaluator]


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
def prepare(store: FeatureStore, embedder: ClipEmbedder) -> Prepare:
    def make(options: PaintOptions = OPTIONS, **others: object) -> Evaluator:
        comparison = Comparison(**others.pop("comparison", {}))  # type: ignore[arg-type]
        decoder = load_decoder(store.folder / DECODER_FILE)
        return Evaluator.prepare(store, decoder, embedder, options, comparison, **others)

    return make


@pytest.fixture
def evaluate(prepare: Prepare) -> Callable[..., Evaluation]:
    def run(options: PaintOptions = OPTIONS, **others: object) -> Evaluation:
        evaluator = prepare(options, **others)
        result = evaluator.run()
        evaluator.finish()
        return result

    return run


def original(store: FeatureStore, name: str) -> Image.Image:
    with Image.open(store.folder.parent / f"photos/{name}.png") as file:
        return file.convert("RGB")


def painted(store: FeatureStore, name: str, options: PaintOptions = OPTIONS) -> Image.Image:
    stream = store.codec.parse((store.folder / f"{name}.clp").read_bytes())
    return next(paint([stream], store.codec, load_decoder(store.folder / DECODER_FILE), options))


def figures(evaluation: Evaluation) -> list[dict[str, object]]:
    """The rows without what differs from run to run."""
    costs = ("encode_ms", "decode_ms", "encode_mb", "decode_mb")
    return [{k: v for k, v in vars(row).items() if k not in costs} for row in evaluation.rows]


def of_series(evaluation: Evaluation, series: str) -> list[Row]:
    return [row for row in evaluation.rows if row.series == series]


# Figures


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


# Networks


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
    evaluator.require(["psnr", "clip_rank"])
    with pytest.raises(MetricError, match="alexnet"):
        evaluator.require(["psnr", "lpips"])
    with pytest.raises(ConfigError, match=r"'beauty'.*psnr"):
        evaluator.require(["beauty"])


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
    result = evaluate(judge=judge, other_clips={"twin": embedder})
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
    store = encode_folder(tmp_path / "photos", tmp_path / "store", embedder, workers=0).store
    decoder, judge = make_decoder(embedder.space), make_judge(tmp_path / "judge")
    options = PaintOptions(steps=1, size=16)
    evaluator = Evaluator.prepare(store, decoder, embedder, options, judge=judge, batch_size=32)
    result = evaluator.run()
    values = {value.metric: value for value in result.set_values}
    assert values.keys() == {"kid", "cmmd"}
    assert "fid" in result.unavailable
    assert {metric for metric in result.metrics if result.metrics[metric].over == "set"} == {"kid", "cmmd"}
    originals = [Image.open(store.source_path(entry)) for entry in store.entries]
    shown = list(paint([store.read(entry) for entry in store.entries], store.codec, decoder, options, 32))
    expected = cmmd(embedder.embed_images(originals), embedder.embed_images(shown))
    assert values["cmmd"].value == pytest.approx(expected, rel=1e-3)
    assert values["kid"].value == pytest.approx(kid(judge(originals), judge(shown))[0], rel=1e-2)
    assert values["kid"].count == 100
    assert values["kid"].deviation


# Budgets, rivals, seeds


def test_every_codec_keeps_every_budget(evaluate: Callable[..., Evaluation], store: FeatureStore):
    budgets = (24, 90, 600)
    result = evaluate(comparison={"budgets": budgets, "steps": (1, 2), "baselines": ["layout", "webp"]})
    assert [series.id for series in result.series] == ["clp@1", "clp@2", "layout", "webp"]
    assert all(row.bytes <= row.budget for row in result.rows if row.budget)
    fits = {
        (series.id, budget): sum(row.budget == budget for row in of_series(result, series.id))
        for series in result.series
        for budget in budgets
    }
    assert fits["webp", 24] == 0  # its smallest file is larger
    assert [fits["webp", budget] for budget in (90, 600)] == [4, 4]
    assert [fits["layout", budget] for budget in budgets] == [4, 4, 4]
    assert [fits["clp@1", budget] for budget in budgets] == [fits["clp@2", budget] for budget in budgets]
    for name in NAMES:  # a larger budget is never worse for a codec that is searched by PSNR
        found = [row.metrics["psnr"] for row in of_series(result, "webp") if row.image == name]
        assert found == sorted(found)  # type: ignore[type-var]


def test_the_title_names_steps_sampler_and_fidelity(prepare: Prepare):
    def title(steps: int, eta: float | None, fidelity: float = 0.0) -> str:
        options = PaintOptions.of(steps=steps, eta=eta, fidelity=fidelity)
        return prepare(options).contestants[0].series.title

    assert title(8, None) == "clp, 8 steps"
    assert title(1, 0.0) == "clp, 1 DDIM step"
    assert title(8, None, 0.5) == "clp, 8 steps, fidelity 0.5"


def test_our_streams_are_those_that_encoding_to_the_budget_gives(
    evaluate: Callable[..., Evaluation], store: FeatureStore, embedder: ClipEmbedder
):
    decoder = make_decoder(embedder.space)  # takes no layouts: the whole budget is the vector's
    assert not decoder.unet.config.layout
    result = evaluate(comparison={"budgets": (600,)})
    vectors = embedder.embed_images([original(store, name) for name in NAMES])
    aspects = [store.codec.parse((store.folder / f"{name}.clp").read_bytes()).aspect for name in NAMES]
    expected = store.codec.encode(Layers(vectors, aspects=aspects), Rate(max_bytes=600, layers="semantic"))
    assert [row.bytes for row in result.rows] == [len(blob) for blob in expected]


def test_without_budgets_rivals_have_the_bytes_of_each_stream(
    evaluate: Callable[..., Evaluation], store: FeatureStore
):
    result = evaluate(comparison={"baselines": ["layout", "webp"]})
    sizes = {name: (store.folder / f"{name}.clp").stat().st_size for name in NAMES}
    assert {row.image: row.bytes for row in of_series(result, "clp@2")} == sizes
    for series in ("layout", "webp"):
        rows = of_series(result, series)
        assert [row.budget for row in rows] == [None] * len(rows)
        assert all(row.bytes <= sizes[row.image] for row in rows)


def test_each_seed_paints_another_picture(evaluate: Callable[..., Evaluation]):
    three = evaluate(comparison={"seeds": 3, "baselines": ["layout"]})
    rows = of_series(three, "clp@2")
    assert [row.seed for row in rows] == [0] * 4 + [1] * 4 + [2] * 4
    for name in NAMES:
        assert len({row.metrics["psnr"] for row in rows if row.image == name}) == 3
    assert [row.seed for row in of_series(three, "layout")] == [None] * 4
    alone = evaluate(dataclasses.replace(OPTIONS, seed=1))
    again = [row.metrics["psnr"] for row in rows if row.seed == 1]
    assert [row.metrics["psnr"] for row in alone.rows] == pytest.approx(again, abs=0.02)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"budgets": (64, 64)}, "budgets"),
        ({"steps": (0,)}, "steps"),
        ({"seeds": 0}, "seeds"),
        ({"baselines": ["gif"]}, "'gif'"),
    ],
)
def test_a_comparison_that_makes_no_sense_is_refused(
    evaluate: Callable[..., Evaluation], wrong: dict[str, object], message: str
):
    with pytest.raises(ConfigError, match=message):
        evaluate(comparison=wrong)


def test_a_budget_that_nothing_fits_is_said_to_fit_none(evaluate: Callable[..., Evaluation]):
    result = evaluate(comparison={"budgets": (2, 600)})
    assert result.budgets == [2, 600]
    assert text_table(result).split("\n\n")[0].endswith("fits none")
    assert "2 bytes" in html_page(result, {}, "title")


def test_budgets_that_nothing_fits_are_said_so(evaluate: Callable[..., Evaluation]):
    with pytest.raises(StoreError, match="no codec has a file as small"):
        evaluate(comparison={"budgets": (2,)})


# Failures


def test_what_cannot_be_measured_is_listed_and_the_rest_is_done(
    evaluate: Callable[..., Evaluation], store: FeatureStore
):
    torn = store.folder / "p1.clp"
    torn.write_bytes(torn.read_bytes()[:-3])
    (store.folder.parent / "photos/p3.png").unlink()
    result = evaluate(batch_size=2)
    assert [row.image for row in result.rows] == ["deep/p2", "p0"]
    first, second = result.failures
    assert (first.stream, second.stream) == (str(torn), str(store.folder / "p3.clp"))
    assert str(torn) in first.reason
    assert "p3.png" in second.reason
    assert "encode --sync" in second.reason  # fault 17: what to do where it has moved
    assert first.series == second.series == ""
    assert Evaluation.from_json(json.loads(json.dumps(result.to_json()))).failures == result.failures


def test_a_rival_that_fails_is_listed_and_the_rest_is_done(
    evaluate: Callable[..., Evaluation], tmp_path: Path
):
    description = tmp_path / "broken.toml"
    description.write_text(
        'name = "broken"\n'
        "encode = \"python3 -c 'raise SystemExit(3)' {input} {bitstream}\"\n"
        "decode = \"python3 -c 'raise SystemExit(3)' {bitstream} {output}\"\n"
    )
    result = evaluate(comparison={"externals": [description]})
    assert len(of_series(result, "clp@2")) == 4
    assert of_series(result, "broken") == []
    assert [failure.series for failure in result.failures] == ["broken"] * 4
    assert all(failure.reason.startswith(failure.stream) for failure in result.failures)
    assert re.search(r"^broken +failed$", text_table(result), re.M)
    page = html_page(result, {}, "title")
    assert "failed on every picture" in page


def test_the_limit(evaluate: Callable[..., Evaluation]):
    result = evaluate(limit=3, batch_size=2)
    assert [row.image for row in result.rows] == NAMES[:3]


def test_a_store_without_one_usable_picture_is_refused(
    evaluate: Callable[..., Evaluation], store: FeatureStore
):
    shutil.rmtree(store.folder.parent / "photos")
    with pytest.raises(StoreError, match=r"no picture could be measured: the first: .*p2\.png"):
        evaluate()


def test_an_empty_store_is_refused(store: FeatureStore, embedder: ClipEmbedder, tmp_path: Path):
    empty = FeatureStore.create(tmp_path / "empty", store.codec)
    with pytest.raises(StoreError, match="empty"):
        Evaluator.prepare(empty, make_decoder(embedder.space), embedder, OPTIONS).run()


def test_store_decoder_and_model_must_be_of_one_space(store: FeatureStore, embedder: ClipEmbedder):
    other = dataclasses.replace(embedder.space, model="other", weights_sha256="cd" * 32)
    with pytest.raises(SpaceMismatchError, match="other"):
        Evaluator.prepare(store, make_decoder(other), embedder, OPTIONS)


# Going on


def test_killed_and_run_again_it_gives_the_same_and_does_nothing_twice(
    prepare: Prepare, evaluate: Callable[..., Evaluation], monkeypatch: pytest.MonkeyPatch
):
    comparison = {"budgets": (90, 600), "steps": (1, 2), "baselines": ["layout", "webp"]}
    whole = figures(evaluate(comparison=comparison, batch_size=2))
    trials: list[str] = []
    measure = Trial.__call__

    def killed(self: Trial, *arguments: object) -> object:
        if len(trials) == 3:
            raise KeyboardInterrupt
        trials.append("done")
        return measure(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Trial, "__call__", killed)
    with pytest.raises(KeyboardInterrupt):
        prepare(comparison=comparison, batch_size=2).run()
    monkeypatch.setattr(Trial, "__call__", lambda *arguments: (trials.append("done"), measure(*arguments))[1])
    evaluator = prepare(comparison=comparison, batch_size=2)
    assert figures(evaluator.run()) == whole
    assert len(trials) == 8  # 2 batches x 4 series
    assert figures(evaluator.run()) == whole
    assert len(trials) == 8


def test_the_same_evaluation_twice_at_a_time_is_refused(prepare: Prepare):
    first, second = prepare(), prepare()
    first.run()
    with pytest.raises(StoreError, match="another process"):
        second.run()
    first.finish()
    second.run()


def test_a_picture_that_changed_meanwhile_is_measured_anew(prepare: Prepare, store: FeatureStore):
    evaluator = prepare()
    before = figures(evaluator.run())
    make_picture(7, (50, 50)).save(store.folder.parent / "photos/p0.png")
    again = prepare()
    assert again.progress.folder != evaluator.progress.folder
    changed = [a["image"] for a, b in zip(before, figures(again.run()), strict=True) if a != b]
    assert "p0" in changed


def test_parts_that_vanish_are_no_fewer_pictures(prepare: Prepare, monkeypatch: pytest.MonkeyPatch):
    evaluator = prepare(batch_size=2)
    evaluator.run()
    monkeypatch.setattr(Evaluator, "_measure", lambda *_: None)
    next(evaluator.progress.folder.iterdir()).unlink()
    with pytest.raises(StoreError, match="run the evaluation again"):
        evaluator.run()


def test_a_damaged_part_is_measured_again(prepare: Prepare):
    evaluator = prepare()
    whole = figures(evaluator.run())
    for part in evaluator.progress.folder.iterdir():
        part.write_bytes(part.read_bytes()[:100])
    assert figures(evaluator.run()) == whole


def test_another_evaluation_takes_nothing_from_unfinished_work(prepare: Prepare):
    first, second = prepare(), prepare(dataclasses.replace(OPTIONS, guidance=1.0))
    first.run()
    assert first.progress.folder != second.progress.folder
    assert second.run().rows != first.run().rows


def test_another_decoder_takes_nothing_from_unfinished_work(prepare: Prepare, store: FeatureStore):
    """Fault 6: with and without an upsampler, what identified the decoder was the same."""
    before, file = prepare(), store.folder / DECODER_FILE
    save_decoder(file, dataclasses.replace(load_decoder(file), upsampler=Upsampler(channels=8, blocks=1)))
    assert prepare().progress.folder != before.progress.folder


def test_the_work_folder_can_be_elsewhere_and_must_be_writable(prepare: Prepare, tmp_path: Path):
    prepare(work=tmp_path / "elsewhere").run()
    assert list((tmp_path / "elsewhere").iterdir())
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="--work"):
        prepare(work=tmp_path / "file").run()
