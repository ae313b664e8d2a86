"""An evaluation as one HTML page that needs no other file and no connection."""

from __future__ import annotations

import base64
import hashlib
import json
import shlex
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import TYPE_CHECKING, Any

from clip_feature_codec import __version__
from clip_feature_codec.evaluate.analysis.summary import Summary, summarise
from clip_feature_codec.evaluate.metrics.definitions import Metric
from clip_feature_codec.evaluate.report.looks import (
    budget_label,
    is_ours,
    looks,
    middle,
    number,
    shown_metrics,
    title_parts,
)
from clip_feature_codec.evaluate.report.page_data import page_data, shown_pairs
from clip_feature_codec.evaluate.report.panels import deltas, leaders, panels, scores
from clip_feature_codec.evaluate.report.pictures import (
    MAX_BYTES,
    Chosen,
    Pictures,
    choose,
    collect,
    ranking,
)
from clip_feature_codec.evaluate.report.points import names_with_values
from clip_feature_codec.evaluate.report.text import notes
from clip_feature_codec.evaluate.results import Evaluation, PictureKey
from clip_feature_codec.files import encodable

# A text for the terminal needs none.
if TYPE_CHECKING:
    import jinja2


def html_page(evaluation: Evaluation, pictures: Pictures, title: str, summary: Summary | None = None) -> str:
    """Lay an evaluation out: summary, curves, pictures, every row, and how to do it again.

    Args:
        evaluation: what was measured; its rows are embedded whole.
        pictures: read for the pictures that are shown only: see `pictures.choose`; at most
            `pictures.MAX_BYTES` of them are embedded, each once.
        title: of the page.
        summary: of the evaluation, where it is there already: it takes its time.

    Returns:
        HTML that loads nothing, which its content security policy also forbids; without scripts it still
        shows the summary at the middle budget. It can be encoded as UTF-8 whatever pictures are called.
    """
    summary = summary or summarise(evaluation)
    metrics = shown_metrics(evaluation.metrics, names_with_values(summary.points))
    chosen, files = collect(evaluation, pictures, choose(evaluation))
    parts = _frame(evaluation, title) | _tables(evaluation, summary, metrics)
    parts |= _shown(evaluation, metrics, chosen, files)
    data = page_data(evaluation, summary, metrics, chosen, files)
    page = _environment().get_template("report.html.j2").render(**parts, data=_embedded(data))
    return encodable(page)


def _environment() -> jinja2.Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("clip_feature_codec.evaluate.report", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters |= {"budget": budget_label, "number": number, "words": _words}
    environment.tests |= {"mapping": lambda x: isinstance(x, Mapping), "listing": _is_listing}
    return environment


def _frame(evaluation: Evaluation, title: str) -> dict[str, Any]:
    """What the page is about, and what it looks like."""
    script = _asset("report.js")
    return {
        "title": title,
        "version": __version__,
        "evaluation": evaluation,
        "provenance": _provenance(evaluation),
        "command": _command(evaluation),
        "looks": looks(evaluation.series),
        "ours": [series for series in evaluation.series if is_ours(series)],
        "baselines": [series for series in evaluation.series if not is_ours(series)],
        "failed": {failure.series for failure in evaluation.failures},
        "middle": middle(evaluation.budgets),
        "seeds": len({row.seed for row in evaluation.rows if row.seed is not None}),
        "style": _asset("report.css"),
        "script": script,
        "script_hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    }


def _tables(evaluation: Evaluation, summary: Summary, metrics: Mapping[str, Metric]) -> dict[str, Any]:
    """What the page says in numbers."""
    shown = list(panels(evaluation, summary, metrics))
    first = next((panel for panel in shown if panel.budget == middle(evaluation.budgets)), None)
    costs = [(point.encode_ms, point.decode_ms) for point in summary.points]
    return {
        "metrics": metrics,
        "parts": {name: title_parts(metric) for name, metric in evaluation.metrics.items()},
        "notes": list(notes(evaluation)),
        "panels": shown,
        "leaders": leaders(first, metrics) if first else {},
        "scores": scores(summary),
        "pair_metrics": [name for name, metric in metrics.items() if metric.over == "pair"],
        "deltas": deltas(summary, metrics),
        "has_curves": len(evaluation.budgets) > 1,
        "has_costs": any(one is not None for pair in costs for one in pair),
    }


def _shown(
    evaluation: Evaluation,
    metrics: Mapping[str, Metric],
    chosen: Sequence[Chosen],
    files: Mapping[PictureKey, bytes],
) -> dict[str, Any]:
    """The pictures of the page, and by what they were chosen."""
    name = ranking(evaluation) or ""
    return {
        "chosen": chosen,
        "left_out": len(evaluation.images) - len(chosen),
        "ranking": metrics[name].title if name in metrics else "",
        "shown": shown_pairs(evaluation, chosen, files),
        "limit": number(MAX_BYTES / 1e6, 0),
    }


def _asset(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text("utf-8")


def _embedded(data: object) -> str:
    """JSON that may stand within a script element: no name in it can end that, or begin a comment."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _command(evaluation: Evaluation) -> str:
    command = evaluation.provenance.get("command", "")
    return shlex.join(map(str, command)) if _is_listing(command) else str(command)


def _provenance(evaluation: Evaluation) -> dict[str, Any]:
    return {name: value for name, value in evaluation.provenance.items() if name != "command"}


def _is_listing(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _words(name: object) -> str:
    """A key as words: ``weights_sha256`` gives ``weights sha256``."""
    return str(name).replace("_", " ")
