"""All that measures pictures in an evaluation: metrics of pixels, and the networks that look at them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from clip_feature_codec.embed import Embedder
from clip_feature_codec.errors import ConfigError, MetricError
from clip_feature_codec.evaluate.metrics.classifier import Classifier
from clip_feature_codec.evaluate.metrics.definitions import METRICS, POOLED_PSNR, SET_METRICS, Metric
from clip_feature_codec.evaluate.metrics.distributions import too_few
from clip_feature_codec.evaluate.metrics.judge import Judge
from clip_feature_codec.evaluate.metrics.pairs import PairMetrics
from clip_feature_codec.evaluate.metrics.recognition import RECOGNITION_METRICS, KnownClasses
from clip_feature_codec.evaluate.metrics.views import (
    CLASSIFIER,
    JUDGE,
    JUDGE_METRICS,
    View,
    clip_view,
    judge_view,
    recognition_view,
)

_CLIP_METRICS = ("clip_similarity", "clip_rank", "cmmd")


def check_metric_names(names: Sequence[str], other_clips: Sequence[str] = ()) -> None:
    """Refuse names that are no metric's, before anything is loaded.

    Raises:
        ConfigError: one is unknown.
    """
    known = [*METRICS, "pooled_psnr", *SET_METRICS]
    known += [f"{kind}@{clip}" for clip in other_clips for kind in _CLIP_METRICS]
    for name in names:
        if name not in known:
            raise ConfigError(f"unknown metric {name!r}; there are {', '.join(known)}")


@dataclass(frozen=True)
class Eyes:
    """Networks that look at pictures beside the streams' own CLIP, which flatters a codec tuned on it.

    Attributes:
        judge: a network that had no part in the codec, and judges by features.
        classifier: another one, which judges by classes.
        class_names: what is on a picture, by its name: see `true_classes.known_classes`.
        clips: more CLIP models, by the names that results give them.
    """

    judge: Judge | None = None
    classifier: Classifier | None = None
    class_names: Mapping[str, str] | None = None
    clips: Mapping[str, Embedder] = field(default_factory=dict)


@dataclass(frozen=True)
class Instruments:
    """What measures pictures, loaded once: made by `load`.

    Attributes:
        pairs: metrics of pixels.
        views: networks that see; the first is the streams' own CLIP.
        unavailable: metrics that cannot be computed here, with the reason.
    """

    pairs: PairMetrics
    views: Sequence[View]
    unavailable: Mapping[str, str]

    @classmethod
    def load(cls, embedder: Embedder, eyes: Eyes, classes: KnownClasses | None, count: int) -> Instruments:
        """Put together what looks at ``count`` pictures, and say what cannot be measured.

        Args:
            embedder: the streams' own CLIP.
            eyes: other networks.
            classes: what the classifier is to find; needed with one.
            count: pictures there are.
        """
        views = [clip_view(embedder), *(clip_view(clip, name) for name, clip in eyes.clips.items())]
        if eyes.judge:
            views.append(judge_view(eyes.judge))
        if eyes.classifier and classes:
            views.append(recognition_view(eyes.classifier, classes))
        pairs = PairMetrics.load(embedder.device)
        return cls(pairs, views, pairs.unavailable | _unavailable(views, count))

    @property
    def metrics(self) -> dict[str, Metric]:
        """The metrics that are computed, those of a pair first."""
        found = self.pairs.metrics | {"pooled_psnr": POOLED_PSNR}
        for view in self.views:
            found |= {name: metric for name, metric in view.metrics.items() if name not in self.unavailable}
        return dict(sorted(found.items(), key=lambda item: item[1].over == "set"))

    def require(self, names: Sequence[str]) -> None:
        """Refuse to go on without some metrics.

        Raises:
            ConfigError: there is no such metric.
            MetricError: it is not available here.
        """
        known = [*self.metrics, *self.unavailable]
        for name in names:
            if name in self.unavailable:
                raise MetricError(f"{name}: {self.unavailable[name]}")
            if name not in known:
                raise ConfigError(f"unknown metric {name!r}; there are {', '.join(known)}")


def _unavailable(views: Sequence[View], count: int) -> dict[str, str]:
    """Metrics that no network is there for, or too few pictures."""
    reasons = {}
    for view in views:
        for metric in view.sets:
            reason = too_few(metric, count, view.dim)
            if reason:
                reasons[metric] = reason
    seen = {view.key for view in views}
    if JUDGE not in seen:
        why = "no judge by features was named: --judge takes the folder of an image network in timm's format"
        reasons |= dict.fromkeys(JUDGE_METRICS, why)
    if CLASSIFIER not in seen:
        why = "no judge by classes was named: --judge takes a classifier's .onnx or .tflite file"
        reasons |= dict.fromkeys(RECOGNITION_METRICS, why)
    return reasons
