"""Whole evaluations: what cannot be measured, and what does not fit together."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from evaluated import NAMES, OPTIONS, of_series

from clip_feature_codec.embed import ClipEmbedder
from clip_feature_codec.errors import SpaceMismatchError, StoreError
from clip_feature_codec.evaluate.codecs import Painter
from clip_feature_codec.evaluate.evaluation import Evaluator
from clip_feature_codec.evaluate.report import html_page, text_table
from clip_feature_codec.evaluate.results import Evaluation
from clip_feature_codec.store.feature_store import FeatureStore
from samples import make_decoder


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


def test_a_baseline_that_fails_is_listed_and_the_rest_is_done(
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
        Evaluator.prepare(empty, [Painter(make_decoder(embedder.space))], embedder, OPTIONS).run()


def test_store_decoder_and_model_must_be_of_one_space(store: FeatureStore, embedder: ClipEmbedder):
    other = dataclasses.replace(embedder.space, model="other", weights_sha256="cd" * 32)
    with pytest.raises(SpaceMismatchError, match="other"):
        Evaluator.prepare(store, [Painter(make_decoder(other))], embedder, OPTIONS)
