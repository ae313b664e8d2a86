"""Curves as PNG files for papers: each metric against bytes."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clip_feature_codec.evaluate.analysis.summary import Point, Summary, summarise
from clip_feature_codec.evaluate.report.looks import Look, looks, shown_metrics
from clip_feature_codec.evaluate.report.points import Value, names_with_values, size_of, value_of
from clip_feature_codec.evaluate.results import Evaluation, Series
from clip_feature_codec.files import MAKER, write_atomic

_MARKERS = {"circle": "o", "square": "s", "triangle": "^", "diamond": "D", "cross": "X"}
_INCHES = (6.4, 4.2)
_DPI = 200


def write_figures(evaluation: Evaluation, folder: Path, summary: Summary | None = None) -> list[Path]:
    """Write one PNG per metric: its mean against the mean bytes (log axis), bars for the 95 % interval.

    Of a metric over the whole set the bars are one standard deviation to each side, where it has one. A
    hollow marker is a mean over only those pictures that a codec fits under the budget.

    Args:
        evaluation: what was measured.
        folder: made if it is missing; files are named after the metrics.
        summary: of the evaluation, where it is there already: it takes its time.

    Returns:
        The files written, in the order of the metrics; none where there is no more than one budget, which
        makes no curve.

    Raises:
        OSError: a file cannot be written.
    """
    if len(evaluation.budgets) < 2:
        return []
    summary = summary or summarise(evaluation)
    names = shown_metrics(evaluation.metrics, names_with_values(summary.points))
    paths = {name: folder / f"{re.sub(r'[^A-Za-z0-9._@-]+', '-', name)}.png" for name in names}
    for name, path in paths.items():
        write_figure(evaluation, [name], path, summary)
    return list(paths.values())


def write_figure(
    evaluation: Evaluation, metrics: Sequence[str], path: Path, summary: Summary | None = None
) -> None:
    """Write one PNG with the curves of some metrics side by side (see `write_figures`).

    Raises:
        OSError: the file cannot be written.
    """
    from matplotlib.figure import Figure

    width, height = _INCHES
    figure = Figure(figsize=(width * (0.3 + 0.7 * len(metrics)), height), dpi=_DPI, layout="constrained")
    points = (summary or summarise(evaluation)).points
    for at, name in enumerate(metrics, start=1):
        _draw_panel(figure.add_subplot(1, len(metrics), at), evaluation, points, name)
    handles = {
        label: handle
        for axes in figure.axes
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), loc="outside right upper", frameon=False, fontsize=8)
    encoded = io.BytesIO()
    figure.savefig(encoded, format="png", metadata={"Software": MAKER})
    write_atomic(path, encoded.getvalue())


def _draw_panel(axes: Any, evaluation: Evaluation, points: list[Point], name: str) -> None:
    """One metric of every series."""
    styles = looks(evaluation.series)
    for series in evaluation.series:
        _draw(axes, series, styles[series.id], [point for point in points if point.series == series.id], name)
    metric = evaluation.metrics[name]
    budgets = [budget for budget in evaluation.budgets if budget is not None]
    axes.set_xscale("log")
    axes.set_xticks(budgets, [f"{budget:,}" for budget in budgets])
    axes.minorticks_off()
    axes.set_xlabel("bytes (mean; dashed: without container)")
    axes.set_ylabel(f"{metric.title} ({metric.better} is better)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e6e6e6", linewidth=0.6)
    axes.set_axisbelow(True)


def _draw(axes: Any, series: Series, look: Look, points: list[Point], name: str) -> None:
    """One series' curve, if it has a value."""
    found: list[tuple[float, Value, bool]] = []
    for point in points:
        size, value = size_of(point, series), value_of(point, name)
        if size is not None and value is not None:
            found.append((size, value, point.fits == point.pictures))
    if not found:
        return
    found.sort(key=lambda one: one[0])
    x, y = [size for size, _, _ in found], [value.mean for _, value, _ in found]
    below = [value.mean - value.low if value.low is not None else 0.0 for _, value, _ in found]
    above = [value.high - value.mean if value.high is not None else 0.0 for _, value, _ in found]
    axes.errorbar(
        x,
        y,
        yerr=[below, above],
        label=series.title,
        color=look.light,
        linestyle="--" if look.dashed else "-",
        linewidth=2.2 if look.ours else 1.3,
        elinewidth=0.9,
        zorder=3 if look.ours else 2,
    )
    for size, value, whole in found:
        axes.plot(
            size,
            value.mean,
            marker=_MARKERS[look.marker],
            markersize=5.5 if look.ours else 4.5,
            color=look.light,
            markerfacecolor=look.light if whole else "white",
            zorder=4,
        )
