"""The networks that look at pictures in an evaluation: CLIP models and the judge, behind one interface."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clip_feature_codec.embed import Embedder
from clip_feature_codec.evaluate.metrics.definitions import METRICS, SET_METRICS, Metric
from clip_feature_codec.evaluate.metrics.judge import Judge

OWN_CLIP = "clip"
JUDGE = "judge"
JUDGE_METRICS = ("judge_similarity", "judge_rank", "fid", "kid")


@dataclass(frozen=True)
class View:
    """One network's vectors, and the metrics that they give.

    Attributes:
        key: ``clip`` (the streams' own), ``clip@NAME`` or ``judge``.
        similarity, rank: metrics of a pair: cosine with the original, and the original's place among all.
        sets: metrics over a whole set.
        metrics: what each of these means, with network and weights.
        dim: the length of a vector.
        prepare: picture as it is, picture as it is compared -> what ``embed`` takes.
        embed: N of these -> float32 (N, D).
    """

    key: str
    similarity: str
    rank: str
    sets: tuple[str, ...]
    metrics: dict[str, Metric]
    dim: int
    prepare: Callable[[Image.Image, Image.Image], Any]
    embed: Callable[[Sequence[Any]], NDArray[np.float32]]

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
        similarity,
        rank,
        (cmmd,),
        _bound([similarity, rank, cmmd], kinds, network, weights, name),
        embedder.dim,
        prepare=lambda picture, _: embedder.preprocess(picture),
        embed=lambda pixels: embedder.embed_batch(np.stack(pixels)),
    )


def judge_view(judge: Judge) -> View:
    """How the judge sees: pictures at the size at which they are compared."""
    return View(
        JUDGE,
        "judge_similarity",
        "judge_rank",
        ("fid", "kid"),
        _bound(JUDGE_METRICS, JUDGE_METRICS, judge.name, judge.weights),
        judge.dim,
        prepare=lambda _, reference: reference,
        embed=judge,
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
