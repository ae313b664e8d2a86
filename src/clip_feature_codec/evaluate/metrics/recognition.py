"""Whether a classifier finds in a decoded picture what is on it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clip_feature_codec.errors import MetricError

RECOGNITION_METRICS = ("recognition", "recognition_top1")

_PLACES = {"recognition": 5, "recognition_top1": 1}


@dataclass(frozen=True)
class KnownClasses:
    """What is on the pictures, as far as that is known.

    Attributes:
        by_name: classes of a picture by its name in the store; more than one where a label stands for
            several. Of any other picture the class is the one that the classifier sees in the original.
        pictures: how many there are in all, for `rule`.
    """

    by_name: Mapping[str, frozenset[int]]
    pictures: int

    @property
    def rule(self) -> str:
        """What counts as a picture's class, in words: results of different rules compare with no other."""
        if not self.by_name:
            return "the class that it sees in the original"
        if len(self.by_name) == self.pictures:
            return "the true class"
        return "the true class where it is known, else the one that it sees in the original"

    def targets(self, names: Sequence[str], originals: NDArray[np.floating]) -> list[frozenset[int]]:
        """The classes to be found in each picture.

        Args:
            names: N pictures' names.
            originals: the classifier's scores of their originals (N, C).
        """
        seen = originals.argmax(axis=1).tolist()
        return [self.by_name.get(name, frozenset([own])) for name, own in zip(names, seen, strict=True)]


def recognition(
    scores: NDArray[np.floating], targets: Sequence[frozenset[int]]
) -> dict[str, NDArray[np.float64]]:
    """Say of each picture whether one of its classes is among the first five, and whether it is the first.

    Classes of equal scores share the places that they take, as quantised classifiers give many: the value is
    the probability of a place among the first when they are put in random order. A classifier to which all
    classes are equal recognises at the level of chance.

    Args:
        scores: of each picture for each class (N, C), the greater the likelier.
        targets: N sets of classes.

    Returns:
        float64 (N,) in [0, 1] for each of `RECOGNITION_METRICS`.

    Raises:
        MetricError: scores are not (N, C), or not finite.
    """
    if scores.ndim != 2 or len(scores) != len(targets) or not np.isfinite(scores).all():
        raise MetricError(f"recognition needs finite scores (N, C), found {scores.shape}")
    return {
        metric: np.array([_place(row, list(own), places) for row, own in zip(scores, targets, strict=True)])
        for metric, places in _PLACES.items()
    }


def _place(scores: NDArray[np.floating], own: list[int], places: int) -> float:
    """Probability that one of its ``own`` classes is among so many first ones of ``scores`` (C,)."""
    best = scores[own].max()
    left = places - int((scores > best).sum())
    equal, ours = int((scores == best).sum()), int((scores[own] == best).sum())
    if left <= 0:
        return 0.0
    if left >= equal:
        return 1.0
    return 1.0 - math.comb(equal - ours, left) / math.comb(equal, left)
