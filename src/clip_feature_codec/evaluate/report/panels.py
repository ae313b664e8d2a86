"""The page's tables, ready to be laid out: every number as the text that is shown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from clip_feature_codec.evaluate.analysis.summary import Bjontegaard, Difference, Point, Summary
from clip_feature_codec.evaluate.metrics.definitions import Metric
from clip_feature_codec.evaluate.report.looks import is_ours, number, span, title_parts
from clip_feature_codec.evaluate.report.points import size_of, value_of
from clip_feature_codec.evaluate.results import Evaluation, Series

Verdict = Literal["better", "worse", "even", ""]
"""How a codec does against the one of ours that it is compared with; empty: not compared."""

_TIMES = (("encode_ms", 1), ("decode_ms", 1), ("encode_mb", 0), ("decode_mb", 0))


@dataclass(frozen=True)
class Cell:
    """One metric of one codec.

    Attributes:
        value, spread: mean and interval.
        difference, difference_spread: of this codec minus ours, and its interval; empty where not compared.
        verdict: what that interval says.
        best: whether no other codec that fits every picture has a better mean, as shown.
        note: a sentence that spells it all out.
    """

    value: str
    spread: str = ""
    difference: str = ""
    difference_spread: str = ""
    verdict: Verdict = ""
    best: bool = False
    note: str = ""


@dataclass(frozen=True)
class Line:
    """One codec under one budget; without cells where nothing fits."""

    series: Series
    fits: int
    pictures: int
    size: str = ""
    payload: str = ""
    cells: list[Cell] = field(default_factory=list)
    costs: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Panel:
    """The summary under one budget, compared with one series of ours; `ours` is None where there is none."""

    budget: int | None
    ours: Series | None
    lines: list[Line]


@dataclass(frozen=True)
class Score:
    """How often ours is better than a baseline, or worse, or neither, over the metrics under one budget."""

    won: int
    even: int
    lost: int

    @property
    def total(self) -> int:
        """Metrics that were compared."""
        return self.won + self.even + self.lost


@dataclass(frozen=True)
class Delta:
    """A Bjøntegaard delta as text; ``verdict`` is ours against the baseline, by the sign alone."""

    delta: str
    rate: str = ""
    span: str = ""
    reason: str = ""
    verdict: Verdict = ""


def panels(evaluation: Evaluation, summary: Summary, metrics: Mapping[str, Metric]) -> Iterator[Panel]:
    """One panel for every budget and series of ours."""
    candidates: list[Series | None] = [series for series in evaluation.series if is_ours(series)]
    for ours in candidates or [None]:
        for budget in evaluation.budgets:
            points = {point.series: point for point in summary.points if point.budget == budget}
            differences = {
                (one.baseline, one.metric): one
                for one in summary.differences
                if one.budget == budget and ours is not None and one.series == ours.id
            }
            best = {name: _best(points, name, metric) for name, metric in metrics.items()}
            lines = [
                _line(series, points[series.id], metrics, differences, best) for series in evaluation.series
            ]
            yield Panel(budget, ours, lines)


def _line(
    series: Series,
    point: Point,
    metrics: Mapping[str, Metric],
    differences: Mapping[tuple[str, str], Difference],
    best: Mapping[str, str],
) -> Line:
    size = size_of(point, series)
    if size is None:
        return Line(series, 0, point.pictures)
    cells = [
        _cell(point, name, metric, differences.get((series.id, name)), best[name])
        for name, metric in metrics.items()
    ]
    whole = number(point.bytes.mean, 0)
    return Line(
        series,
        point.fits,
        point.pictures,
        size=number(size, 0),
        payload=f"{whole} with container" if series.counts == "payload" else "",
        cells=cells,
        costs=[number(getattr(point, name), digits) for name, digits in _TIMES],
    )


def _cell(point: Point, name: str, metric: Metric, difference: Difference | None, best: str) -> Cell:
    value = value_of(point, name)
    if value is None:
        undefined = f"There is no value where {metric.undefined}." if metric.undefined else ""
        return Cell(number(None, 0), note=undefined)
    digits = metric.digits
    shown, spread = number(value.mean, digits), span(value.low, value.high, digits)
    unit = title_parts(metric)[1]
    kind = "one standard deviation to each side" if metric.over == "set" else "95 % interval"
    note = f"{shown} {unit}".rstrip() + (f", {kind} {spread}" if spread else "")
    note += f", over {value.count} picture{'s' if value.count != 1 else ''}."
    mark = bool(best) and point.fits == point.pictures and shown == best
    if difference is None or difference.interval.mean is None:
        return Cell(shown, spread, best=mark, note=note)
    low, high = difference.interval.low, difference.interval.high
    gap = number(-difference.interval.mean, digits, signed=True)
    # Baseline minus ours, as the table's lines are the baselines: the interval turns round.
    gap_spread = span(-high, -low, digits, signed=True) if low is not None and high is not None else ""
    verdict: Verdict = {"ours": "worse", "baseline": "better", None: "even"}[difference.better]  # type: ignore[assignment]
    words = {"worse": "Worse than ours", "better": "Better than ours", "even": "No clear difference"}[verdict]
    note += f" {words}: {gap} {unit}".rstrip() + (f" ({gap_spread})" if gap_spread else "")
    note += f" on the {difference.interval.count} that both fit."
    return Cell(shown, spread, gap, gap_spread, verdict, mark, note)


def _best(points: Mapping[str, Point], name: str, metric: Metric) -> str:
    """The best mean as it is shown, of codecs that fit all pictures; empty if nobody has a competitor."""
    means = [
        value.mean
        for point in points.values()
        if point.fits == point.pictures and (value := value_of(point, name)) is not None
    ]
    if len(means) < 2:
        return ""
    return number(max(means) if metric.better == "higher" else min(means), metric.digits)


def leaders(panel: Panel, metrics: Mapping[str, Metric]) -> dict[str, list[str]]:
    """Which codecs have the best means of a panel: titles of the metrics, by the codec's title."""
    found: dict[str, list[str]] = {}
    for line in panel.lines:
        for metric, cell in zip(metrics.values(), line.cells, strict=False):
            if cell.best:
                found.setdefault(line.series.title, []).append(title_parts(metric)[0])
    return found


def scores(summary: Summary) -> dict[tuple[str, str, int | None], Score]:
    """Count wins over the metrics of a pair, by (series of ours, baseline, budget)."""
    counts: dict[tuple[str, str, int | None], list[int]] = {}
    for one in summary.differences:
        count = counts.setdefault((one.series, one.baseline, one.budget), [0, 0, 0])
        count[{"ours": 0, None: 1, "baseline": 2}[one.better]] += 1
    return {key: Score(*count) for key, count in counts.items()}


def deltas(summary: Summary, metrics: Mapping[str, Metric]) -> dict[tuple[str, str, str], Delta]:
    """Bjøntegaard deltas as text, by (series of ours, baseline, metric)."""
    return {
        (one.series, one.baseline, one.metric): _delta(one, metrics[one.metric])
        for one in summary.bjontegaard
        if one.metric in metrics
    }


def _delta(one: Bjontegaard, metric: Metric) -> Delta:
    if one.delta is None or one.from_bytes is None or one.to_bytes is None:
        return Delta(number(None, 0), reason=one.reason)
    gain = one.delta if metric.better == "higher" else -one.delta
    return Delta(
        number(one.delta, metric.digits, signed=True),
        "" if one.rate_percent is None else f"{number(one.rate_percent, 0, signed=True)} % bytes",
        f"{number(one.from_bytes, 0)} to {number(one.to_bytes, 0)} bytes",
        one.reason,
        "better" if gain > 0 else "worse",
    )
