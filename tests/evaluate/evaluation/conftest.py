"""A small store with a decoder, and ways to evaluate it without any downloaded network."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from evaluated import OPTIONS, Prepare

from clip_feature_codec.decoders.checkpoint import load_decoder
from clip_feature_codec.decoders.options import PaintOptions
from clip_feature_codec.embed import ClipEmbedder
from clip_feature_codec.evaluate.codecs import Painter
from clip_feature_codec.evaluate.comparison import Comparison
from clip_feature_codec.evaluate.evaluation import Evaluator
from clip_feature_codec.evaluate.results import Evaluation
from clip_feature_codec.names import DECODER_FILE
from clip_feature_codec.store.feature_store import FeatureStore
from samples import make_store


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
        painters = others.pop("painters", [Painter(load_decoder(store.folder / DECODER_FILE))])
        return Evaluator.prepare(store, painters, embedder, options, comparison, **others)

    return make


@pytest.fixture
def evaluate(prepare: Prepare) -> Callable[..., Evaluation]:
    def run(options: PaintOptions = OPTIONS, **others: object) -> Evaluation:
        evaluator = prepare(options, **others)
        result = evaluator.run()
        evaluator.finish()
        return result

    return run
