"""What the script of the page draws from, and how it finds it: everything by its place in a list."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from typing import Any

from clip_feature_codec.evaluate.analysis.summary import Summary
from clip_feature_codec.evaluate.metrics.definitions import Metric
from clip_feature_codec.evaluate.report.looks import budget_label, is_ours, looks, middle
from clip_feature_codec.evaluate.report.pictures import Chosen
from clip_feature_codec.evaluate.report.points import size_of, value_of
from clip_feature_codec.evaluate.results import ORIGINAL, Evaluation, PictureKey
from clip_feature_codec.files import encodable

_EXTRA_DIGITS = 2
"""Beyond a metric's own, in the embedded data: enough to sort by, and half the bytes of all digits."""


def page_data(
    evaluation: Evaluation,
    summary: Summary,
    metrics: Mapping[str, Metric],
    chosen: Sequence[Chosen],
    files: Mapping[PictureKey, bytes],
) -> dict[str, Any]:
    """What the script draws from; series, budgets and pictures are named by their place in their list."""
    place = _Places(evaluation)
    styles = looks(evaluation.series)
    sizes = {image.name: image for image in evaluation.images}
    apart = set(_first_shown(evaluation, chosen))
    return {
        "metrics": [
            {"name": name, "title": metric.title, "better": metric.better, "digits": metric.digits}
            | {"over": metric.over, "low": metric.low, "high": metric.high}
            for name, metric in metrics.items()
        ],
        "series": [
            {"title": series.title, "ours": is_ours(series), "counts": series.counts}
            | {"marker": styles[series.id].marker, "dashed": styles[series.id].dashed}
            for series in evaluation.series
        ],
        "budgets": [budget_label(budget) for budget in evaluation.budgets],
        "ticks": [budget for budget in evaluation.budgets if budget is not None],
        "middle": evaluation.budgets.index(middle(evaluation.budgets)) if evaluation.budgets else 0,
        "images": [encodable(image.name) for image in evaluation.images],
        "chosen": [
            {"image": place.images[one.name], "why": one.why}
            | {"ratio": round(sizes[one.name].width / sizes[one.name].height, 4)}
            for one in chosen
        ],
        "points": list(_points(evaluation, summary, metrics, place)),
        "rows": _rows(evaluation, metrics, place),
        "pictures": {
            place.key(*key): base64.b64encode(data).decode()
            for key, data in files.items()
            if key not in apart
        },
    }


class _Places:
    """Where series, budgets and pictures stand in their lists."""

    def __init__(self, evaluation: Evaluation) -> None:
        self.series = {series.id: i for i, series in enumerate(evaluation.series)}
        self.budgets = {budget: i for i, budget in enumerate(evaluation.budgets)}
        self.images = {image.name: i for i, image in enumerate(evaluation.images)}

    def key(self, image: str, series: str, budget: int | None) -> str:
        """``picture|series|budget``, or ``picture|o`` for an original."""
        if series == ORIGINAL:
            return f"{self.images[image]}|o"
        return f"{self.images[image]}|{self.series[series]}|{self.budgets[budget]}"


def _points(
    evaluation: Evaluation, summary: Summary, metrics: Mapping[str, Metric], place: _Places
) -> list[list[Any]]:
    """(series, budget, fits, pictures, bytes, (mean, low, high, count) of each metric) of each point."""
    series_of = {series.id: series for series in evaluation.series}
    found: list[list[Any]] = []
    for point in summary.points:
        size = size_of(point, series_of[point.series])
        if size is None:
            continue
        values = []
        for name, metric in metrics.items():
            value = value_of(point, name)
            numbers = (value.mean, value.low, value.high) if value else ()
            values.append(
                [*(_rounded(one, metric.digits) for one in numbers), value.count] if value else None
            )
        found.append(
            [
                place.series[point.series],
                place.budgets[point.budget],
                point.fits,
                point.pictures,
                round(size, 1),
                values,
            ]
        )
    return found


def _rows(evaluation: Evaluation, metrics: Mapping[str, Metric], place: _Places) -> dict[str, Any]:
    """All rows, column by column."""
    rows = evaluation.rows
    settings = {text: i for i, text in enumerate(dict.fromkeys(row.settings for row in rows))}
    return {
        "image": [place.images[row.image] for row in rows],
        "series": [place.series[row.series] for row in rows],
        "budget": [place.budgets[row.budget] for row in rows],
        "seed": [row.seed for row in rows],
        "bytes": [row.bytes for row in rows],
        "payload": [row.payload_bytes for row in rows],
        "setting": [settings[row.settings] for row in rows],
        "settings": list(settings),
        "metrics": {
            name: [_rounded(row.metrics.get(name), metric.digits) for row in rows]
            for name, metric in metrics.items()
            if metric.over == "pair"
        },
    }


def _rounded(value: float | None, digits: int) -> float | None:
    return round(value, digits + _EXTRA_DIGITS) if value is not None and math.isfinite(value) else None


def _first_shown(evaluation: Evaluation, chosen: Sequence[Chosen]) -> list[PictureKey]:
    """What the page shows as plain pictures, without the script: each original, and ours beside it."""
    ours = next((series.id for series in evaluation.series if is_ours(series)), None)
    keys: list[PictureKey] = [(one.name, ORIGINAL, None) for one in chosen]
    if ours is not None:
        keys += [(one.name, ours, middle(evaluation.budgets)) for one in chosen]
    return keys


def shown_pairs(
    evaluation: Evaluation, chosen: Sequence[Chosen], files: Mapping[PictureKey, bytes]
) -> dict[str, list[tuple[str, str]]]:
    """Of each chosen picture (key, data URL): the original and, if it is there, ours."""
    place = _Places(evaluation)
    found: dict[str, list[tuple[str, str]]] = {one.name: [] for one in chosen}
    for key in _first_shown(evaluation, chosen):
        if key in files:
            url = "data:image/webp;base64," + base64.b64encode(files[key]).decode()
            found[key[0]].append((place.key(*key), url))
    return found
