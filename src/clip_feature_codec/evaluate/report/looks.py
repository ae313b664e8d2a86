"""How series, budgets and numbers look, alike on the page, in figures and in text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from clip_feature_codec.evaluate.metrics.definitions import Metric
from clip_feature_codec.evaluate.results import Series

NOTHING = "–"
"""Stands where there is no value."""

_OURS = [("#3453d1", "#8fa5ff"), ("#8a3fc4", "#cb9bff"), ("#00798c", "#55c6d9"), ("#b02a78", "#ff8ac4")]
_KNOWN = {
    "layout": ("#0f8a8a", "#5fd0cb"),
    "jpeg": ("#c2571a", "#f2955c"),
    "webp": ("#a57900", "#e3bc4c"),
    "avif": ("#2b8a4b", "#6fca8c"),
    "jxl": ("#bf3b3b", "#f28482"),
    "blurhash": ("#74797f", "#aab0b8"),
    "thumbhash": ("#a8648b", "#dd9cc4"),
}
_OTHERS = [("#5f6f22", "#b6c665"), ("#7b5a3e", "#cfac8b"), ("#3f6f96", "#8ebde3"), ("#6a4c93", "#b79ae0")]
_MARKERS = ("square", "triangle", "diamond", "cross")


@dataclass(frozen=True)
class Look:
    """How a series is drawn.

    Attributes:
        light, dark: its colour on a light and on a dark ground, ``#rrggbb``.
        dashed: a line of payloads, beside the solid one of whole files in the same colour.
        marker: ``circle`` (ours), ``square``, ``triangle``, ``diamond`` or ``cross``.
        ours: whether it is one of ours, drawn thicker.
    """

    light: str
    dark: str
    dashed: bool
    marker: str
    ours: bool


def is_ours(series: Series) -> bool:
    """Whether a series is the codec under test: the layout alone is a baseline, as in `summarise`."""
    return series.id.startswith("clp@")


def looks(series: Sequence[Series]) -> dict[str, Look]:
    """Give every series its look, by id; ``webp:payload`` shares colour and marker with ``webp``."""
    found: dict[str, Look] = {}
    bases: dict[str, tuple[tuple[str, str], str]] = {}
    ours = others = 0
    for one in series:
        if is_ours(one):
            light, dark = _OURS[ours % len(_OURS)]
            found[one.id] = Look(light, dark, False, "circle", True)
            ours += 1
            continue
        base = one.id.partition(":")[0]
        if base not in bases:
            colours = _KNOWN.get(base) or _OTHERS[others % len(_OTHERS)]
            others += base not in _KNOWN
            bases[base] = colours, _MARKERS[len(bases) % len(_MARKERS)]
        (light, dark), marker = bases[base]
        found[one.id] = Look(light, dark, one.counts == "payload", marker, False)
    return found


def budget_label(budget: int | None) -> str:
    """``140 bytes``; for None, the size that the store's own streams have."""
    return "own size" if budget is None else f"{budget:,} bytes"


def middle(budgets: Sequence[int | None]) -> int | None:
    """The budget that is shown first."""
    return budgets[len(budgets) // 2] if budgets else None


def number(value: float | None, digits: int, *, signed: bool = False) -> str:
    """Write a number with a real minus sign, or `NOTHING`."""
    if value is None:
        return NOTHING
    text = f"{value:+,.{digits}f}" if signed else f"{value:,.{digits}f}"
    if not text.strip("+-0.,"):  # no sign before zeros
        text = text.lstrip("+-")
    return text.replace("-", "−")


def span(low: float | None, high: float | None, digits: int, *, signed: bool = False) -> str:
    """Write an interval as ``18.9–19.4``, or ``−1.2 to 0.3``; nothing where there is none."""
    if low is None or high is None:
        return ""
    between = "–" if low >= 0 and not signed else " to "
    return f"{number(low, digits, signed=signed)}{between}{number(high, digits, signed=signed)}"


def fitting(fits: int, pictures: int) -> str:
    """How many pictures a mean is over: ``94``, or ``6 of 94`` where a codec does not fit all."""
    return f"{fits:,}" if fits == pictures else f"{fits:,} of {pictures:,}"


def title_parts(metric: Metric) -> tuple[str, str]:
    """A metric's title and its unit: ``PSNR (dB)`` gives ``PSNR`` and ``dB``."""
    name, bracket, unit = metric.title.rpartition(" (")
    return (name, unit.removesuffix(")")) if bracket else (metric.title, "")


def shown_metrics(metrics: Mapping[str, Metric], used: set[str]) -> dict[str, Metric]:
    """The metrics that have a value somewhere, those of a pair first."""
    order = sorted(metrics, key=lambda name: metrics[name].over == "set")
    return {name: metrics[name] for name in order if name in used}
