"""Whole evaluations: codecs at equal bytes, steps and seeds."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
from evaluated import NAMES, OPTIONS, Prepare, of_series, original

from clip_feature_codec.codec.layers import Layers
from clip_feature_codec.codec.rate import Rate
from clip_feature_codec.decoders.options import PaintOptions
from clip_feature_codec.embed import ClipEmbedder
from clip_feature_codec.errors import ConfigError, StoreError
from clip_feature_codec.evaluate.report import html_page, text_table
from clip_feature_codec.evaluate.results import Evaluation
from clip_feature_codec.store.feature_store import FeatureStore
from samples import make_decoder


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
        return prepare(options).codecs[0].series.title

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


def test_without_budgets_baselines_have_the_bytes_of_each_stream(
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
