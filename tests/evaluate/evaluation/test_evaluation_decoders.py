"""Several decoders in one evaluation: each as if it were alone, and told apart everywhere."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from evaluated import OPTIONS, of_series

from clip_feature_codec.decoders.checkpoint import load_decoder
from clip_feature_codec.embed import ClipEmbedder
from clip_feature_codec.errors import ConfigError
from clip_feature_codec.evaluate.codecs import Painter
from clip_feature_codec.evaluate.report import html_page
from clip_feature_codec.evaluate.results import Evaluation
from clip_feature_codec.names import DECODER_FILE
from clip_feature_codec.store.feature_store import FeatureStore
from samples import make_decoder

Evaluate = Callable[..., Evaluation]


@pytest.fixture
def painters(store: FeatureStore, embedder: ClipEmbedder) -> list[Painter]:
    first = Painter(load_decoder(store.folder / DECODER_FILE), "first", "here/decoder.pt")
    return [first, Painter(make_decoder(embedder.space, seed=1), "second", "ann/pack@0123")]


def values(evaluation: Evaluation, series: str) -> list[dict[str, float | None]]:
    return [row.metrics for row in of_series(evaluation, series)]


def test_each_has_its_curve_with_the_figures_that_it_has_alone(evaluate: Evaluate, painters: list[Painter]):
    comparison = {"baselines": ["layout"]}
    both = evaluate(painters=painters, comparison=comparison)
    told = [(series.id, series.title) for series in both.series]
    assert told[:2] == [
        ("clp@2:first", "clp, first, 2 steps"),
        ("clp@2:second", "clp, second, 2 steps"),
    ]
    for painter in painters:
        alone = evaluate(painters=[Painter(painter.decoder)], comparison=comparison)
        assert [series.id for series in alone.series] == ["clp@2", "layout"]
        assert values(both, f"clp@2:{painter.name}") == values(alone, "clp@2")
    assert values(both, "clp@2:first") != values(both, "clp@2:second")


def test_what_they_are_is_kept_with_the_result(evaluate: Evaluate, painters: list[Painter]):
    made = evaluate(painters=painters).provenance
    kept = [(one["name"], one["source"], one["canvas"]) for one in made["settings"]["decoders"]]
    assert kept == [("first", "here/decoder.pt", 16), ("second", "ann/pack@0123", 16)]
    assert made["hashes"]["decoders"] == [painter.decoder.identity() for painter in painters]


def test_the_page_tells_them_apart(prepare: Callable, painters: list[Painter]):
    evaluator = prepare(painters=painters, comparison={"budgets": (90, 600)})
    page = html_page(evaluator.run(), evaluator.pictures, "Two decoders")
    assert [name for name in ("clp, first, 2 steps", "clp, second, 2 steps") if name not in page] == []
    assert "clp, first, 2 steps and clp, second, 2 steps" in page


def test_two_of_one_name_are_refused(evaluate: Evaluate, painters: list[Painter]):
    with pytest.raises(ConfigError, match="different names"):
        evaluate(OPTIONS, painters=[painters[0], Painter(painters[1].decoder, "first")])
