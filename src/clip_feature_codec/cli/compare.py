"""``clip-codec compare``: what changed from one evaluation to another."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from clip_feature_codec.cli.command import Command
from clip_feature_codec.cli.common import json_option, quiet_option, read_bytes, write_json
from clip_feature_codec.cli.paths import IN_FILE
from clip_feature_codec.errors import ConfigError, PartialFailureError
from clip_feature_codec.files import STDIO

if TYPE_CHECKING:
    from clip_feature_codec.evaluate.analysis.compare import Change
    from clip_feature_codec.evaluate.results import Evaluation


@click.command("compare", cls=Command, needs="eval")
@click.argument("first", metavar="A.json", type=IN_FILE)
@click.argument("second", metavar="B.json", type=IN_FILE)
@click.option(
    "--fail-on",
    multiple=True,
    metavar="METRIC",
    help="End with status 1 where this metric got worse by more than its noise (may be repeated).",
)
@json_option
@quiet_option
def compare(first: Path, second: Path, fail_on: tuple[str, ...], json_path: Path | None, quiet: bool) -> None:
    """Compare two results of ``clip-codec eval --json``, the second with the first.

    With --quiet nothing is printed: the status says it all.
    """
    if first == second == STDIO:
        raise ConfigError("only one of the two results can come from standard input")
    from clip_feature_codec.evaluate.analysis.compare import compare as changes_of
    from clip_feature_codec.evaluate.analysis.compare import table

    a, b = (_read(path) for path in (first, second))
    for metric in fail_on:
        if metric not in a.metrics or metric not in b.metrics:
            shared = ", ".join(name for name in a.metrics if name in b.metrics) or "none"
            raise ConfigError(f"--fail-on {metric}: both results must have it; they share {shared}")
    changes = changes_of(a, b)
    if json_path != STDIO and not quiet:
        click.echo(table(changes))
    write_json(_record((first, second), (a, b), changes), json_path)
    _fail_on(fail_on, changes, f"{second} is worse than {first}")


def _read(path: Path) -> Evaluation:
    from clip_feature_codec.evaluate.results import WAY_OUT, Evaluation

    name = "standard input" if path == STDIO else path
    try:
        return Evaluation.from_json(json.loads(read_bytes(path)))
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from None
    except (ValueError, RecursionError):
        raise ConfigError(f"{name}: no result of an evaluation: it is no JSON: {WAY_OUT}") from None


def _record(
    paths: Sequence[Path], results: Sequence[Evaluation], changes: Sequence[Change]
) -> dict[str, Any]:
    """The comparison, JSON-able."""
    verdicts = Counter(change.verdict or "none" for change in changes)
    return {
        "results": [
            {"file": str(path), "created": result.provenance.get("created")}
            for path, result in zip(paths, results, strict=True)
        ],
        "verdicts": {name: verdicts[name] for name in ("better", "worse", "same", "none")},
        "changes": [asdict(change) for change in changes],
    }


def _fail_on(metrics: Sequence[str], changes: Sequence[Change], claim: str) -> None:
    """End with status 1 where one of the metrics got worse, or is no longer measured."""
    from clip_feature_codec.evaluate.analysis.compare import ONLY_FIRST

    for metric in metrics:
        if not any(change.verdict for change in changes if change.metric == metric):
            reasons = {change.note for change in changes if change.metric == metric}
            raise ConfigError(f"--fail-on {metric}: no verdict is possible: {'; '.join(sorted(reasons))}")
    worse = [
        (change.series, f"{change.series}, {change.budget or 'stored'} bytes, {change.metric}: {what}")
        for change in changes
        if change.metric in metrics
        and (what := "lost" if change.note == ONLY_FIRST else change.verdict) in ("lost", "worse")
    ]
    if worse:
        raise PartialFailureError(f"{claim} in {', '.join(metrics)}", worse)
