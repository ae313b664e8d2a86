"""Which classes a name means, and whether they are among a classifier's first ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clip_feature_codec.errors import MetricError, ModelError
from clip_feature_codec.evaluate.metrics.labels import Labels
from clip_feature_codec.evaluate.metrics.recognition import KnownClasses, recognition

LABELS = Labels(
    ["background", "tench, Tinca tinca", "crane", "lady's slipper", "crane, bird", "great_grey owl"]
)


@pytest.mark.parametrize(
    ("name", "classes"),
    [
        ("tench", {0}),
        ("Tinca tinca", {0}),
        ("TENCH, some other word", {0}),
        ("crane", {1, 3}),
        ("crane,bird", {3}),
        ("great grey  owl", {4}),
        ("Great_Grey_Owl", {4}),
        ("lady's slipper", {2}),
        ("owl", set()),
        ("background", set()),
        ("", set()),
    ],
)
def test_a_name_means_the_classes_that_share_most_synonyms(name: str, classes: set[int]):
    assert LABELS.classes_of(name) == classes


def test_labels_are_read_from_text(tmp_path: Path):
    path = tmp_path / "labels.txt"
    path.write_bytes("\ufeffbackground\r\ncafé, bar\r\n".encode())
    found = Labels.read(path)
    assert (found.names, found.with_background, len(found)) == (["café, bar"], True, 1)
    assert found.classes_of("Café") == {0}
    for content in (b"", b"\n\n", b"\xff\xd8\xff\xe0JFIF"):
        path.write_bytes(content)
        with pytest.raises(ModelError, match=r"labels\.txt"):
            Labels.read(path)


def test_places_are_counted_from_the_greatest_score():
    scores = np.array([[9, 1, 8, 7, 6, 5, 4]] * 3, np.float32)
    found = recognition(scores, [frozenset([0]), frozenset([6]), frozenset([1, 4])])
    assert found["recognition"].tolist() == [1, 0, 1]
    assert found["recognition_top1"].tolist() == [1, 0, 0]


def test_classes_of_one_score_share_their_places():
    scores = np.array([[3, 2, 2, 2, 1, 1, 1, 1]], np.float32)  # one place of five is left for the four last
    assert recognition(scores, [frozenset([6])])["recognition"].tolist() == [0.25]
    assert recognition(scores, [frozenset([6, 7])])["recognition"].tolist() == [0.5]
    assert recognition(scores, [frozenset([2])])["recognition_top1"].tolist() == [0]


@given(st.integers(2, 40), st.integers(1, 3))
def test_a_network_to_which_all_is_equal_recognises_by_chance(classes: int, own: int):
    target = frozenset(range(min(own, classes)))
    found = recognition(np.zeros((1, classes)), [target])
    misses = 1.0
    for place in range(min(5, classes)):
        misses *= max(0, classes - len(target) - place) / (classes - place)
    assert found["recognition"][0] == pytest.approx(1 - misses)
    assert found["recognition_top1"][0] == pytest.approx(len(target) / classes)


@given(st.lists(st.integers(0, 6), min_size=6, max_size=12), st.integers(0, 5), st.integers(0, 2**32 - 1))
def test_shares_are_those_of_random_orders(row: list[int], own: int, seed: int):
    rng = np.random.default_rng(seed)
    orders = [np.lexsort((rng.random(len(row)), -np.array(row)))[:5] for _ in range(400)]
    share = np.mean([own in order for order in orders])
    assert recognition(np.array([row]), [frozenset([own])])["recognition"][0] == pytest.approx(
        share, abs=0.15
    )


def test_the_class_is_the_true_one_or_what_is_seen_in_the_original():
    known = KnownClasses({"a": frozenset([2])}, pictures=2)
    assert known.targets(["a", "b"], np.array([[9, 0, 0], [0, 9, 0]])) == [{2}, {1}]
    rules = {known.rule, KnownClasses({}, 2).rule, KnownClasses({"a": frozenset([2])}, 1).rule}
    assert len(rules) == 3


@pytest.mark.parametrize("scores", [np.zeros(3), np.zeros((2, 3)), np.full((1, 3), np.nan)])
def test_scores_of_another_form_are_refused(scores: np.ndarray):
    with pytest.raises(MetricError):
        recognition(scores, [frozenset([0])])
