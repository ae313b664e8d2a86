"""An evaluation as text for the terminal."""

from __future__ import annotations

from collections.abc import Iterator

from clip_feature_codec.evaluate.analysis.statistics import interval
from clip_feature_codec.evaluate.analysis.summary import Bjontegaard, Point, Summary, summarise
from clip_feature_codec.evaluate.report.looks import (
    budget_label,
    fitting,
    is_ours,
    number,
    shown_metrics,
    span,
    title_parts,
)
from clip_feature_codec.evaluate.report.points import names_with_values, size_of, value_of
from clip_feature_codec.evaluate.results import Evaluation

_GAP = "  "
_KEY = "±: half the 95 % interval of the mean over pictures; of KID, its deviation over subsets"


def text_table(evaluation: Evaluation, summary: Summary | None = None) -> str:
    """One block per budget, then Bjøntegaard deltas, and what is missing with the reason.

    After ± stands half the width of the 95 % interval, or a metric's own standard deviation over the set; in
    brackets, how many pictures have a value where it is not all that fit. Pictures that failed are not
    listed. No trailing line break.

    Args:
        evaluation: what was measured.
        summary: of it, where it is there already: it takes its time.
    """
    summary = summary or summarise(evaluation)
    blocks = [_block(evaluation, summary, budget) for budget in evaluation.budgets]
    blocks += [
        *_bjontegaard(evaluation, summary),
        "\n".join([*([_KEY] if any("±" in block for block in blocks) else []), *notes(evaluation)]),
        "\n".join(_missing(evaluation)),
    ]
    return "\n\n".join(block for block in blocks if block)


def _block(evaluation: Evaluation, summary: Summary, budget: int | None) -> str:
    points = {point.series: point for point in summary.points if point.budget == budget}
    metrics = shown_metrics(evaluation.metrics, names_with_values(points.values()))
    label = "as many bytes as each stream has" if budget is None else budget_label(budget)
    failed = {failure.series for failure in evaluation.failures}
    lines = [[label, "pictures", "bytes", *(metric.title for metric in metrics.values())]]
    for series in evaluation.series:
        point = points[series.id]
        size = size_of(point, series)
        if size is None:
            lines.append([series.title, "failed" if series.id in failed else "fits none"])
            continue
        cells = [_cell(point, name, metric.digits) for name, metric in metrics.items()]
        lines.append([series.title, fitting(point.fits, point.pictures), f"{size:.1f}", *cells])
    return _aligned(lines)


def notes(evaluation: Evaluation) -> Iterator[str]:
    """What must be known of the metrics, and what a classifier finds in the originals."""
    for name, metric in evaluation.metrics.items():
        if metric.note:
            yield f"{title_parts(metric)[0]}: {metric.note}"
        own = {image.name: [image.metrics[name]] for image in evaluation.images if name in image.metrics}
        if own:
            found = interval(own)
            spread = span(found.low, found.high, metric.digits)
            shown = number(found.mean, metric.digits) + (f" ({spread})" if spread else "")
            yield f"{title_parts(metric)[0]} of {metric.network}: in the originals themselves {shown}"


def _cell(point: Point, metric: str, digits: int) -> str:
    value = value_of(point, metric)
    if value is None:
        return number(None, digits)
    fewer = "" if value.count == point.fits else f" ({value.count})"
    if value.low is None or value.high is None:
        return number(value.mean, digits) + fewer
    return f"{number(value.mean, digits)} ±{number((value.high - value.low) / 2, digits)}{fewer}"


def _bjontegaard(evaluation: Evaluation, summary: Summary) -> Iterator[str]:
    """One block per series of ours: what it gains on each baseline, of those that could be computed."""
    titles = {series.id: series.title for series in evaluation.series}
    for series in filter(is_ours, evaluation.series):
        found = [one for one in summary.bjontegaard if one.series == series.id and one.delta is not None]
        if not found:
            continue
        metrics = [name for name in evaluation.metrics if any(one.metric == name for one in found)]
        lines = [["Bjøntegaard, against", *(title_parts(evaluation.metrics[name])[0] for name in metrics)]]
        for baseline in dict.fromkeys(one.baseline for one in found):
            of_metric = {one.metric: one for one in found if one.baseline == baseline}
            cells = [_delta(of_metric.get(name), evaluation.metrics[name].digits) for name in metrics]
            lines.append([titles[baseline], *cells])
        yield f"{series.title} at equal bytes, and bytes at equal quality\n{_aligned(lines)}"


def _delta(one: Bjontegaard | None, digits: int) -> str:
    if one is None or one.delta is None:
        return number(None, digits)
    delta = number(one.delta, digits, signed=True)
    return delta if one.rate_percent is None else f"{delta}, {number(one.rate_percent, 0, signed=True)} %"


def _missing(evaluation: Evaluation) -> Iterator[str]:
    """Metrics that could not be computed, those with one reason in one line."""
    for reason in dict.fromkeys(evaluation.unavailable.values()):
        names = [name for name, why in evaluation.unavailable.items() if why == reason]
        yield f"not available: {', '.join(names)}: {reason}"


def _aligned(lines: list[list[str]]) -> str:
    """Pad to columns: the first to the left, all others to the right; a short line ends early."""
    columns = max(map(len, lines))
    widths = [max((len(line[i]) for line in lines if i < len(line)), default=0) for i in range(columns)]
    return "\n".join(
        _GAP.join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=False))
        ).rstrip()
        for line in lines
    )
