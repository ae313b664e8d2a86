"""Which pictures a report shows, and how many bytes of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from clip_feature_codec.evaluate.report.looks import is_ours, middle
from clip_feature_codec.evaluate.results import ORIGINAL, Evaluation, PictureKey, Series

Pictures = Mapping[PictureKey, bytes]
"""Where a report finds its pictures, as WebP files; the original's budget is None. Keys may lack, and are
read when they are needed."""

SPREAD = 12
"""Pictures that are shown whatever they look like, evenly spread over the evaluation."""

EXTREMES = 4
"""Of the best and of the worst pictures, each."""

MAX_BYTES = 5_000_000
"""Of WebP files on one page; base64 makes a third more of them."""

_BY = ("judge_similarity", "clip_similarity")


@dataclass(frozen=True)
class Chosen:
    """A picture to show.

    Attributes:
        name: as in `Original`.
        why: ``worst`` and ``best`` by the metric that `ranking` names, or one of an even ``spread``.
    """

    name: str
    why: Literal["worst", "best", "spread"]


def ranking(evaluation: Evaluation) -> str | None:
    """The metric that decides which pictures came out best: the judge's if there is one."""
    pairs = [name for name, metric in evaluation.metrics.items() if metric.over == "pair"]
    return next((name for name in _BY if name in pairs), pairs[0] if pairs else None)


def choose(evaluation: Evaluation) -> list[Chosen]:
    """Choose up to `SPREAD` pictures evenly, then the `EXTREMES` worst and best ones of the rest.

    Worst and best are by `ranking`, of our first series at the middle budget, over the mean of the seeds.
    Of a small evaluation everything is shown, and at most a third of it is called best, or worst.
    """
    names = [image.name for image in evaluation.images]
    by_quality = _by_quality(evaluation)
    extremes = min(EXTREMES, len(by_quality) // 3)
    worst = by_quality[:extremes]
    best = by_quality[len(by_quality) - extremes :][::-1]
    rest = [name for name in names if name not in {*worst, *best}]
    places = np.linspace(0, len(rest) - 1, min(SPREAD, len(rest))).round().astype(int)
    return [
        *(Chosen(rest[place], "spread") for place in places),
        *(Chosen(name, "worst") for name in worst),
        *(Chosen(name, "best") for name in best),
    ]


def with_pictures(evaluation: Evaluation) -> list[Series]:
    """The series whose pictures are shown: a payload's are nearly those of its whole files."""
    return [series for series in evaluation.series if series.counts == "file"]


def collect(
    evaluation: Evaluation, pictures: Pictures, chosen: list[Chosen]
) -> tuple[list[Chosen], dict[PictureKey, bytes]]:
    """Fetch the files of the chosen pictures until `MAX_BYTES` are reached.

    Returns:
        The pictures that are shown, in the order they were chosen, and their files. The extremes come first
        when there is too little room. A picture without its original is not shown.
    """
    files: dict[PictureKey, bytes] = {}
    shown: set[str] = set()
    total = 0
    for one in sorted(chosen, key=lambda one: one.why == "spread"):
        own = _files_of(evaluation, pictures, one.name)
        size = sum(map(len, own.values()))
        if not own or total + size > MAX_BYTES:
            continue
        files |= own
        total += size
        shown.add(one.name)
    return [one for one in chosen if one.name in shown], files


def _files_of(evaluation: Evaluation, pictures: Pictures, name: str) -> dict[PictureKey, bytes]:
    """A picture's files, the original first; none at all where that one lacks."""
    original = pictures.get((name, ORIGINAL, None))
    if original is None:
        return {}
    found: dict[PictureKey, bytes] = {(name, ORIGINAL, None): original}
    for series in with_pictures(evaluation):
        for budget in evaluation.budgets:
            if (data := pictures.get((name, series.id, budget))) is not None:
                found[name, series.id, budget] = data
    return found


def _by_quality(evaluation: Evaluation) -> list[str]:
    """Names of the pictures that have a value, from the worst."""
    metric = ranking(evaluation)
    ours = next((series.id for series in evaluation.series if is_ours(series)), None)
    if metric is None or ours is None:
        return []
    budget, values = middle(evaluation.budgets), dict[str, list[float]]()
    for row in evaluation.rows:
        value = row.metrics.get(metric)
        if row.series == ours and row.budget == budget and value is not None:
            values.setdefault(row.image, []).append(value)
    sign = 1 if evaluation.metrics[metric].better == "higher" else -1
    return sorted(values, key=lambda name: sign * float(np.mean(values[name])))
