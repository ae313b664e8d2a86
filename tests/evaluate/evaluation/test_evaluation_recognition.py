"""Whole evaluations with a judge by classes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from evaluated import NAMES, Prepare, of_series, original, painted
from networks import labels, write_onnx
from PIL import Image

from clip_feature_codec.evaluate.analysis.compare import compare
from clip_feature_codec.evaluate.instruments import Eyes
from clip_feature_codec.evaluate.metrics.classifier import Classifier
from clip_feature_codec.evaluate.report import html_page, text_table, write_table
from clip_feature_codec.evaluate.results import Evaluation
from clip_feature_codec.store.feature_store import FeatureStore

TRUE = {"deep/p2": "red", "p0": "lime", "p1": "blue, azure", "p3": "green"}


@pytest.fixture
def classifier(tmp_path: Path) -> Classifier:
    """Finds the colour of a picture's middle square."""
    path = write_onnx(tmp_path / "colours.onnx", ("N", 48, 48, 3), "UINT8")
    return Classifier.load(path, labels(tmp_path))


def colour(picture: Image.Image) -> int:
    """The brightest channel of the middle square."""
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    square = picture.crop((left, top, left + side, top + side))
    return int(np.asarray(square.resize((48, 48), Image.Resampling.BILINEAR)).mean((0, 1)).argmax())


def test_without_names_the_class_is_what_the_judge_sees_in_the_original(
    prepare: Prepare, store: FeatureStore, classifier: Classifier
):
    result = prepare(eyes=Eyes(classifier=classifier)).run()
    for row in result.rows:
        shown = painted(store, row.image)
        reference = original(store, row.image).resize(shown.size, Image.Resampling.BICUBIC)
        assert row.metrics["recognition_top1"] == float(colour(shown) == colour(reference))
        assert row.metrics["recognition"] == 1.0  # of three classes every one is among the first five
    assert "sees in the original" in result.metrics["recognition"].network
    assert [image.metrics["recognition_top1"] for image in result.images] == [1.0] * 4


def test_true_classes_are_what_is_to_be_found(prepare: Prepare, store: FeatureStore, classifier: Classifier):
    eyes = Eyes(classifier=classifier, class_names=TRUE)
    result = prepare(eyes=eyes, comparison={"budgets": (90, 600), "baselines": ["layout", "webp"]}).run()
    wanted = {"deep/p2": 0, "p0": 1, "p1": 2, "p3": 1}
    for row in of_series(result, "clp@2"):
        if row.budget == 600:
            assert row.metrics["recognition_top1"] in (0.0, 1.0)
    for image in result.images:
        shown = painted(store, image.name)
        reference = original(store, image.name).resize(shown.size, Image.Resampling.BICUBIC)
        assert image.metrics["recognition_top1"] == float(colour(reference) == wanted[image.name])
    assert result.metrics["recognition"].network == "colours.onnx, the true class"
    assert result.provenance["settings"]["true_classes_known"] == 4
    assert {row.series for row in result.rows if "recognition" in row.metrics} == {"clp@2", "layout", "webp"}


def test_recognition_is_in_every_report(prepare: Prepare, classifier: Classifier, tmp_path: Path):
    result = prepare(eyes=Eyes(classifier=classifier, class_names=TRUE)).run()
    assert Evaluation.from_json(json.loads(json.dumps(result.to_json()))) == result
    text, page = text_table(result), html_page(result, {}, "title")
    for report in (text, page):
        assert "Recognition, first place" in report
        assert "in the originals themselves" in report
    write_table(result, tmp_path / "rows.csv")
    assert "recognition_top1" in (tmp_path / "rows.csv").read_text().splitlines()[0]
    assert {"recognition", "recognition_top1"} <= {change.metric for change in compare(result, result)}


def test_other_rules_are_not_compared_and_not_gone_on_with(prepare: Prepare, classifier: Classifier):
    seen = prepare(eyes=Eyes(classifier=classifier))
    true = prepare(eyes=Eyes(classifier=classifier, class_names=TRUE))
    other = prepare(eyes=Eyes(classifier=classifier, class_names=TRUE | {"p0": "red"}))
    assert len({evaluator.work.folder for evaluator in (seen, true, other)}) == 3
    changes = [one for one in compare(seen.run(), true.run()) if one.metric == "recognition"]
    assert [change.note for change in changes] == ["measured by another network or other weights"]


def test_without_a_classifier_the_report_says_which_option_names_one(prepare: Prepare):
    assert ".onnx or .tflite" in prepare().instruments.unavailable["recognition"]


def test_classes_are_the_folders_where_these_are_labels(prepare: Prepare, tmp_path: Path):
    path = write_onnx(tmp_path / "net.onnx", ("N", 48, 48, 3), "UINT8")
    deep = Classifier.load(path, labels(tmp_path, "red\ndeep\nblue"))
    provenance = prepare(eyes=Eyes(classifier=deep)).provenance
    assert NAMES[0] == "deep/p2"
    assert provenance["settings"]["true_classes_known"] == 1
