"""What changed from one evaluation to another, and whether the pictures bear it out."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from clip_feature_codec.evaluate.analysis.picture_values import PictureValues, Place
from clip_feature_codec.evaluate.analysis.statistics import LEAST_PICTURES, Interval, intervals, unpaired
from clip_feature_codec.evaluate.metrics.definitions import Metric
from clip_feature_codec.evaluate.results import Evaluation, SetValue

ONLY_FIRST = "only in the first"
ONLY_SECOND = "only in the second"

_HEAD = (
    *("series", "budget", "metric", "first", "second", "difference", "95 % interval", "pictures", "verdict"),
    "",
)


@dataclass(frozen=True)
class Change:
    """One metric of one series under one budget in two evaluations.

    Attributes:
        series, budget, metric: what is compared.
        a, b: means in the first and the second evaluation over the pictures that are compared, or the value
            of a metric of a set; None where the evaluation has none.
        difference: b minus a; None where the two cannot be compared.
        verdict: on the second, by the 95 % interval of the difference. ``same``: the interval includes 0,
            or the difference is too small for the metric's digits; that none shows does not prove that
            there is none. None: no verdict is possible.
        note: what must be known of this comparison, and why there is no verdict; empty when there is
            nothing to say.
    """

    series: str
    budget: int | None
    metric: str
    a: float | None
    b: float | None
    difference: Interval | None
    verdict: Literal["better", "worse", "same"] | None
    note: str = ""


def compare(a: Evaluation, b: Evaluation) -> list[Change]:
    """Compare two evaluations in every metric, at every series and budget that either has.

    Metrics of a pair are subtracted picture by picture where the same pictures were measured (same name and
    pixels), after averaging over seeds; only those pictures count then. If not one is the same, the means
    are compared as of independent sets, which shows only much larger differences. `statistics.intervals`
    says what the intervals cover. Each verdict stands for itself: among many, some 5 % err.

    Metrics of a set are compared where both are of the same pictures and have a deviation: a difference
    counts from 1.96 √(deviation_a² + deviation_b²). These deviations are over subsets of the pictures, which
    makes it a yardstick rather than a 95 % interval.

    Nothing is compared that other networks or other weights have measured.

    Args:
        a: the first, against which the second is judged.
        b: the second.

    Returns:
        In the order of the first's series, budgets and metrics; what only the second has comes last.
    """
    places = list(dict.fromkeys((*_places(a), *_places(b))))
    found = {
        (change.series, change.budget, change.metric): change
        for change in (*_pair_changes(a, b, places), *_set_changes(a, b))
    }
    return [found[place] for place in places if place in found]


def table(changes: Sequence[Change]) -> str:
    """The changes as text: a line for each comparison, then what only one has, then the verdicts counted."""
    both = [change for change in changes if change.note not in (ONLY_FIRST, ONLY_SECOND)]
    cells = [_HEAD, *map(_cells, both)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in cells]
    single: dict[tuple[str, str, int | None], list[str]] = defaultdict(list)
    for change in changes:
        if change.note in (ONLY_FIRST, ONLY_SECOND):
            single[change.note, change.series, change.budget].append(change.metric)
    for (note, series, budget), metrics in single.items():
        lines.append(f"{note}: {series}, {_budget(budget)}: {', '.join(metrics)}")
    count = Counter(change.verdict for change in both)
    lines.append(
        f"{count['worse']} worse, {count['better']} better, {count['same']} the same as far as it shows, "
        f"{count[None]} without a verdict"
    )
    return "\n".join(lines)


def _places(evaluation: Evaluation) -> Iterator[Place]:
    return product((series.id for series in evaluation.series), evaluation.budgets, evaluation.metrics)


def _pair_changes(a: Evaluation, b: Evaluation, places: Sequence[Place]) -> Iterator[Change]:
    first, second = (PictureValues.of(evaluation).columns(places) for evaluation in (a, b))
    in_a, in_b = _shared_pictures(a, b)
    differences = intervals(second[in_b] - first[in_a]) if in_a else unpaired(first, second)
    for column, place in enumerate(places):
        before, after, difference = first[:, column], second[:, column], differences[column]
        counts = [int((~np.isnan(values)).sum()) for values in (before, after)]
        if not any(counts):
            continue
        if in_a and difference.count:
            # What one of the two lacks must not count in the other's mean.
            both = ~np.isnan(before[in_a]) & ~np.isnan(after[in_b])
            before, after = before[in_a][both], after[in_b][both]
        notes = []
        if not in_a:
            notes.append("not paired: no picture is in both")
        elif difference.count < max(counts):
            notes.append(f"{difference.count} of {max(counts)} pictures are in both")
        if difference.low is None:
            notes.append(f"fewer than {LEAST_PICTURES} pictures give no interval")
        yield _change(a, b, place, _mean(before), _mean(after), difference, notes)


def _set_changes(a: Evaluation, b: Evaluation) -> Iterator[Change]:
    first, second = (
        {(value.series, value.budget, value.metric): value for value in evaluation.set_values}
        for evaluation in (a, b)
    )
    same_pictures = set(_identities(a)) == set(_identities(b))
    for place in dict.fromkeys((*first, *second)):
        one, other = first.get(place), second.get(place)
        notes, difference = [], None
        if one and other:
            difference = _set_difference(one, other)
            if not same_pictures or one.count != other.count:
                notes, difference = ["of other pictures"], None
            elif difference.low is None:
                notes.append("no deviation is known")
        before, after = (value.value if value else None for value in (one, other))
        yield _change(a, b, place, before, after, difference, notes)


def _set_difference(a: SetValue, b: SetValue) -> Interval:
    """The difference with bounds from both deviations; a deviation of 0 says that there were no subsets."""
    mean = b.value - a.value
    if not (a.deviation and b.deviation):
        return Interval(mean, None, None, None, None, a.count)
    margin = 1.96 * math.hypot(a.deviation, b.deviation)
    return Interval(mean, mean - margin, mean + margin, None, None, a.count)


def _change(
    a: Evaluation,
    b: Evaluation,
    place: Place,
    before: float | None,
    after: float | None,
    difference: Interval | None,
    notes: Sequence[str],
) -> Change:
    if before is None or after is None:
        return Change(*place, before, after, None, None, ONLY_SECOND if before is None else ONLY_FIRST)
    metric, other = a.metrics[place[-1]], b.metrics[place[-1]]
    if (metric.network, metric.weights) != (other.network, other.weights):
        return Change(*place, before, after, None, None, "measured by another network or other weights")
    if difference is None or difference.mean is None:
        return Change(*place, before, after, None, None, "; ".join(notes))
    verdict = _verdict(difference, metric)
    return Change(*place, before, after, difference, verdict, "; ".join(notes))


def _verdict(difference: Interval, metric: Metric) -> Literal["better", "worse", "same"] | None:
    if difference.mean is None or difference.low is None:
        return None
    if difference.side == 0 or round(difference.mean, metric.digits) == 0:
        return "same"
    return "better" if (difference.side > 0) == (metric.better == "higher") else "worse"


def _shared_pictures(a: Evaluation, b: Evaluation) -> tuple[list[int], list[int]]:
    """Where the pictures that both have stand in the first and in the second, pair by pair."""
    at = {identity: position for position, identity in enumerate(_identities(b))}
    pairs = [(i, at[identity]) for i, identity in enumerate(_identities(a)) if identity in at]
    return [i for i, _ in pairs], [j for _, j in pairs]


def _identities(evaluation: Evaluation) -> list[tuple[str, str]]:
    return [(image.name, image.sha256) for image in evaluation.images]


def _mean(values: NDArray[np.float64]) -> float | None:
    """Of values (N,) the mean of those that are not NaN; None where all are."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else None


def _cells(change: Change) -> tuple[str, ...]:
    interval = change.difference
    difference = bounds = ""
    if interval is not None and interval.mean is not None:
        difference = f"{interval.mean:+.4f}"
        if interval.low is not None and interval.high is not None:
            bounds = f"[{interval.low:+.4f}, {interval.high:+.4f}]"
    return (
        change.series,
        _budget(change.budget),
        change.metric,
        f"{change.a:.4f}",
        f"{change.b:.4f}",
        difference,
        bounds,
        str(interval.count) if interval else "",
        change.verdict or "none",
        change.note,
    )


def _budget(budget: int | None) -> str:
    return "as stored" if budget is None else f"{budget} bytes"
