"""Evaluations made of a few numbers, for tests of what is derived from them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import pytest

from clip_feature_codec.evaluate.analysis.statistics import Interval
from clip_feature_codec.evaluate.metrics.definitions import Metric
from clip_feature_codec.evaluate.results import Evaluation, Original, Row, Series, SetValue

METRICS = {
    "psnr": Metric("PSNR (dB)", 0.0, None, "higher", 2),
    "lpips": Metric("LPIPS", 0.0, None, "lower", 4, network="AlexNet", weights="alex.pth 01"),
    "kid": Metric("KID", 0.0, None, "lower", 4, network="ResNet", weights="r.pth 02", over="set"),
}


def series(name: str, counts: str = "file") -> Series:
    ours = name.startswith("clp@")
    steps = int(name.partition("@")[2]) if ours else None
    return Series(name, name, "ours" if ours else "classic", "1", steps, counts)


def row(
    image: str,
    name: str,
    budget: int | None,
    size: int,
    seed: int | None = None,
    times: Sequence[float | None] = (None,) * 4,
    **metrics: float | None,
) -> Row:
    return Row(image, name, budget, seed, size, size - 10, size / 100, "", dict(metrics), *times)


def rows(name: str, budget: int | None, size: int, values: Mapping[str, Iterable[float | None]]) -> list[Row]:
    """One row for each picture p0, p1, …, from the columns of ``values``."""
    pictures = zip(*values.values(), strict=True)
    return [
        row(f"p{i}", name, budget, size, **dict(zip(values, picture, strict=True)))
        for i, picture in enumerate(pictures)
    ]


def evaluation(
    pictures: int,
    found: Sequence[Row],
    set_values: Sequence[SetValue] = (),
    payload: Sequence[str] = (),
    originals: str = "",
) -> Evaluation:
    """All series that occur, in the order of their rows; ``originals`` tells other pictures from these."""
    names = dict.fromkeys(row.series for row in found)
    return Evaluation(
        provenance={},
        metrics=METRICS,
        series=[series(name, "payload" if name in payload else "file") for name in names],
        images=[Original(f"p{i}", 10, 8, f"{originals}{i}") for i in range(pictures)],
        rows=list(found),
        set_values=list(set_values),
    )


def same(one: Interval, other: Interval) -> bool:
    """Equal but for the order of sums, which changes with the number of columns."""
    return dataclasses.astuple(one) == pytest.approx(dataclasses.astuple(other), abs=1e-9)
