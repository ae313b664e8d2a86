"""The networks that look at pictures in an evaluation behind one interface: CLIP models and judges."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clip_feature_codec.embed import Embedder
from clip_feature_codec.evaluate.metrics.classifier import Classifier
from clip_feature_codec.evaluate.metrics.definitions import METRICS, SET_METRICS, Metric
from clip_feature_codec.evaluate.metrics.judge import Judge
from clip_feature_codec.evaluate.metrics.recognition import RECOGNITION_METRICS, KnownClasses, recognition
from clip_feature_codec.evaluate.metrics.vectors import cosine

OWN_CLIP = "clip"
JUDGE = "judge"
CLASSIFIER = "classifier"
JUDGE_METRICS = ("judge_similarity", "judge_rank", "fid", "kid")

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class View:
    """One network's vectors, and the metrics that they give.

    Attributes:
        key: ``clip`` (the streams' own), ``clip@NAME`` or ``judge``.
        metrics: what each metric means that these vectors give, with network and weights.
        dim: the length of a vector.
        prepare: picture as it is, picture as it is compared -> what ``embed`` takes.
        embed: N of these -> float32 (N, D).
        compare: vectors (N, D) of decoded pictures, those of their originals, and the originals' names ->
            float64 (N,) of each metric of a pair but ``rank``.
        rank: the metric of a pair that is an original's place among all originals; empty where there is none.
        sets: metrics over a whole set.
    """

    key: str
    metrics: dict[str, Metric]
    dim: int
    prepare: Callable[[Image.Image, Image.Image], Any]
    embed: Callable[[Sequence[Any]], NDArray[np.float32]]
    compare: Callable[[Vectors, Vectors, Sequence[str]], dict[str, NDArray[np.float64]]]
    rank: str = ""
    sets: tuple[str, ...] = ()

    def __call__(self, pictures: Sequence[Image.Image]) -> NDArray[np.float32]:
        """Vectors (N, D) of decoded pictures."""
        return self.embed([self.prepare(picture, picture) for picture in pictures])


def clip_view(embedder: Embedder, name: str | None = None) -> View:
    """How a CLIP model sees: the whole original, at its own size; ``name`` is None for the streams' own."""
    suffix = "" if name is None else f"@{name}"
    kinds = ["clip_similarity", "clip_rank", "cmmd"]
    similarity, rank, cmmd = (kind + suffix for kind in kinds)
    network, weights = embedder.space.label, embedder.space.fingerprint
    return View(
        OWN_CLIP + suffix,
        _bound([similarity, rank, cmmd], kinds, network, weights, name),
        embedder.dim,
        prepare=lambda picture, _: embedder.preprocess(picture),
        embed=lambda pixels: embedder.embed_batch(np.stack(pixels)),
        compare=lambda vectors, originals, _: {similarity: cosine(vectors, originals)},
        rank=rank,
        sets=(cmmd,),
    )


def judge_view(judge: Judge) -> View:
    """How the judge sees: pictures at the size at which they are compared."""
    return View(
        JUDGE,
        _bound(JUDGE_METRICS, JUDGE_METRICS, judge.name, judge.weights),
        judge.dim,
        prepare=lambda _, reference: reference,
        embed=judge,
        compare=lambda vectors, originals, _: {"judge_similarity": cosine(vectors, originals)},
        rank="judge_rank",
        sets=("fid", "kid"),
    )


def recognition_view(classifier: Classifier, classes: KnownClasses) -> View:
    """What a classifier takes pictures for, at the size at which they are compared."""
    bound = _bound(
        RECOGNITION_METRICS, RECOGNITION_METRICS, f"{classifier.name}, {classes.rule}", classifier.weights
    )
    return View(
        CLASSIFIER,
        bound,
        classifier.classes,
        prepare=lambda _, reference: classifier.prepare(reference),
        embed=classifier,
        compare=lambda scores, originals, names: recognition(scores, classes.targets(names, originals)),
    )


def _bound(
    names: Sequence[str], kinds: Sequence[str], network: str, weights: str, label: str | None = None
) -> dict[str, Metric]:
    """Metrics of some kinds, with the network that computes them."""
    kinds_of_all = METRICS | SET_METRICS
    metrics = {}
    for name, kind in zip(names, kinds, strict=True):
        metric = kinds_of_all[kind]
        title = metric.title if label is None else f"{metric.title}, {label}"
        metrics[name] = replace(metric, title=title, network=network, weights=weights)
    return metrics
