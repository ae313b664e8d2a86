"""``clip-codec eval`` and its other form, ``python -m clip_feature_codec.cli.eval``."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from clip_feature_codec.cli.command import Command
from clip_feature_codec.cli.common import (
    batch_option,
    device_option,
    json_option,
    max_pixels_option,
    model_options,
    quiet_option,
    read_bytes,
    remark_on_model,
    stack,
    weights_option,
    write_bytes,
    write_json,
)
from clip_feature_codec.cli.painting import make_paint_options, sampling_options
from clip_feature_codec.cli.paths import IN_FILE, IN_FOLDER, NAMED_FILE, OutputPath
from clip_feature_codec.cli.reporting import resumable
from clip_feature_codec.decoders.options import PaintOptions
from clip_feature_codec.errors import ConfigError, PartialFailureError
from clip_feature_codec.files import STDIO
from clip_feature_codec.outputs.kinds import FIGURES, PAGE, PICTURE, TABLE, WORK

if TYPE_CHECKING:
    from clip_feature_codec.embed import Embedder
    from clip_feature_codec.evaluate.evaluation import Evaluator
    from clip_feature_codec.evaluate.results import Evaluation


def _names(ctx: click.Context, param: click.Parameter, value: str) -> tuple[str, ...]:
    """Values separated by commas."""
    return tuple(name.strip() for name in value.split(",") if name.strip())


def _numbers(ctx: click.Context, param: click.Parameter, value: str) -> tuple[int, ...]:
    """Whole numbers separated by commas."""
    try:
        return tuple(map(int, _names(ctx, param, value)))
    except ValueError:
        raise click.BadParameter(f"{value!r} is no list of whole numbers such as 64,140,340") from None


_options = stack(
    click.option(
        "--budgets",
        callback=_numbers,
        default="",
        metavar="N,N,...",
        help="Bytes that every file may have. [default: what each picture's stream in the store has]",
    ),
    click.option(
        "--baselines",
        callback=_names,
        default="",
        metavar="NAME,NAME,...",
        help="Rivals at the same bytes: jpeg, webp, avif, jxl (jpeg:payload and so on: their container not "
        "counted), blurhash, thumbhash, layout (our layout layer alone), or all.",
    ),
    click.option(
        "--external",
        "externals",
        type=NAMED_FILE,
        multiple=True,
        help="TOML file that describes another codec's program (may be repeated).",
    ),
    click.option(
        "--steps",
        callback=_numbers,
        default=str(PaintOptions.steps),
        show_default=True,
        metavar="N,N,...",
        help="Network evaluations of our decoder, a curve each.",
    ),
    click.option(
        "--seeds",
        type=click.IntRange(min=1),
        default=1,
        show_default=True,
        help="Times each stream is decoded, from --seed on.",
    ),
    weights_option,
    sampling_options,
    batch_option,
    max_pixels_option,
    model_options,
    click.option("--judge", type=IN_FOLDER, help="Folder of an image network in timm's format, as a judge."),
    click.option(
        "--other-clip",
        "other_clips",
        multiple=True,
        metavar="MODEL[=WEIGHTS]",
        help="Another CLIP model to judge by (may be repeated).",
    ),
    click.option("--limit", type=click.IntRange(min=1), help="Only the first pictures of the store."),
    click.option(
        "--require",
        multiple=True,
        metavar="METRIC",
        help="Fail when this metric is not available here (may be repeated).",
    ),
    click.option(
        "--html",
        "html_path",
        type=OutputPath(PAGE),
        help="Write the report, one page (- is standard output).",
    ),
    json_option,
    click.option(
        "--table",
        "tables",
        type=OutputPath(TABLE),
        multiple=True,
        help="Write a line for each picture, codec and budget to a .csv or .parquet file (may be repeated).",
    ),
    click.option("--figures", type=OutputPath(FIGURES), help="Folder for the curves as PNG files."),
    click.option(
        "--grid",
        type=OutputPath(PICTURE),
        help="Save originals beside what each codec gives back as one picture.",
    ),
    click.option(
        "--work",
        type=OutputPath(WORK),
        help="Folder for unfinished work: run again, it goes on there. [default: inside the store]",
    ),
    click.option(
        "--compare",
        nargs=2,
        type=IN_FILE,
        help="Instead of all that: compare two results of --json, the second with the first.",
    ),
    click.option(
        "--fail-on",
        multiple=True,
        metavar="METRIC",
        help="With --compare: end with status 1 where this metric got worse by more than its noise "
        "(may be repeated).",
    ),
    device_option,
    quiet_option,
)


@click.command("eval", cls=Command)
@click.argument("store_dir", metavar="STORE", type=IN_FOLDER, required=False)
@_options
def evaluate(**options: Any) -> None:
    """Decode every picture of a store and measure it, beside other codecs at the same bytes."""
    _run(**options)


@click.command("eval", cls=Command)
@click.option("--store-dir", type=IN_FOLDER, help="The store.")
@_options
def main(**options: Any) -> None:
    """Decode every picture of a store and measure it, beside other codecs at the same bytes."""
    _run(**options)


def _run(
    store_dir: Path | None, compare: tuple[Path, Path] | None, fail_on: tuple[str, ...], **options: Any
) -> None:
    if compare:
        if store_dir:
            raise ConfigError("--compare takes two results and no store")
        _compare(*compare, fail_on)
    elif store_dir is None:
        raise ConfigError("which store? (or --compare A.json B.json)")
    elif fail_on:
        raise ConfigError("--fail-on belongs to --compare")
    else:
        _evaluate(store_dir, **options)


def _evaluate(
    store_dir: Path,
    require: tuple[str, ...],
    html_path: Path | None,
    json_path: Path | None,
    tables: tuple[Path, ...],
    figures: Path | None,
    grid: Path | None,
    quiet: bool,
    **options: Any,
) -> None:
    from clip_feature_codec.evaluate.analysis.summary import summarise
    from clip_feature_codec.evaluate.report import (
        html_page,
        text_table,
        write_figures,
        write_grid,
        write_table,
    )

    evaluator = _prepare(store_dir, quiet, **options)
    evaluator.require(require)
    with resumable():
        result = evaluator.run(command=_command(), quiet=quiet)
    summary = summarise(result)
    if STDIO not in (json_path, html_path):
        click.echo(text_table(result, summary))
    if html_path:
        title = f"Evaluation of {store_dir.resolve().name}"
        write_bytes(html_page(result, evaluator.pictures, title, summary).encode(), html_path)
    if grid:
        write_grid(result, evaluator.pictures, grid)
    if figures:
        write_figures(result, figures, summary)
    for table in tables:
        write_table(result, table)
    write_json(result.to_json() | {"summary": summary.to_json()}, json_path)
    evaluator.finish()
    _raise_failures(result, len(evaluator.entries))


def _raise_failures(result: Evaluation, total: int) -> None:
    """List what failed and end with status 1: pictures, and what rivals could not do with the others."""
    pictures = sum(not failure.series for failure in result.failures)
    rivals = [failure.series for failure in result.failures if failure.series]
    counts = [f"{pictures} of {total} pictures failed"] if pictures else []
    counts += [f"{name} failed on {rivals.count(name)} of {total}" for name in dict.fromkeys(rivals)]
    if counts:
        listed = [(failure.stream, failure.reason) for failure in result.failures]
        raise PartialFailureError(f"{', '.join(counts)}; the rest is done", listed)


def _prepare(
    store_dir: Path,
    quiet: bool,
    *,
    weights: Path | None,
    model: str | None,
    pretrained: str | None,
    device: str,
    judge: Path | None,
    other_clips: tuple[str, ...],
    budgets: tuple[int, ...],
    steps: tuple[int, ...],
    seeds: int,
    baselines: tuple[str, ...],
    externals: tuple[Path, ...],
    work: Path | None,
    batch_size: int,
    limit: int | None,
    max_pixels: int,
    **options: Any,
) -> Evaluator:
    """Load all that an evaluation needs."""
    from clip_feature_codec.api import ClipCodec
    from clip_feature_codec.evaluate.evaluation import Comparison, Evaluator
    from clip_feature_codec.evaluate.metrics.judge import Judge
    from clip_feature_codec.store.opening import open_store

    if not steps:
        raise ConfigError("steps: found none, expected at least one number")
    comparison = Comparison(budgets, steps, seeds, baselines, externals)
    chosen = make_paint_options(options | {"steps": steps[0]})
    store = open_store(store_dir)
    codec = ClipCodec.load(store_dir, weights=weights, model=model, pretrained=pretrained, device=device)
    remark_on_model(store.codec.space, quiet)
    return Evaluator.prepare(
        store,
        codec.decoder,
        codec.embedder,
        chosen,
        comparison,
        judge=Judge.load(judge, codec.embedder.device) if judge else None,
        other_clips=_load_clips(other_clips, device),
        work=work,
        batch_size=batch_size,
        limit=limit,
        max_pixels=max_pixels,
    )


def _load_clips(given: tuple[str, ...], device: str) -> dict[str, Embedder]:
    """Models from ``MODEL`` or ``MODEL=WEIGHTS``, by the names that results have for them."""
    from clip_feature_codec.embed import load_embedder

    clips: dict[str, Embedder] = {}
    for text in given:
        model, _, weights = text.partition("=")
        name = "=".join(Path(part).stem for part in (model, weights) if part)
        if name in clips:
            raise ConfigError(f"--other-clip {text}: another one is called {name!r} already: rename its file")
        clips[name] = load_embedder(model, weights or None, device)
    return clips


def _compare(first: Path, second: Path, fail_on: tuple[str, ...]) -> None:
    """Print what changed, and end with status 1 where a chosen metric got worse."""
    from clip_feature_codec.evaluate.analysis.compare import ONLY_FIRST, compare, table

    a, b = (_read_evaluation(path) for path in (first, second))
    for metric in fail_on:
        if metric not in a.metrics or metric not in b.metrics:
            raise ConfigError(f"--fail-on {metric}: both results must have it; they have {_shared(a, b)}")
    changes = compare(a, b)
    click.echo(table(changes))
    for metric in fail_on:
        if not any(change.verdict for change in changes if change.metric == metric):
            reasons = {change.note for change in changes if change.metric == metric}
            raise ConfigError(f"--fail-on {metric}: no verdict is possible: {'; '.join(sorted(reasons))}")
    worse = [
        (change.series, f"{change.series}, {change.budget or 'stored'} bytes, {change.metric}: {what}")
        for change in changes
        if change.metric in fail_on
        and (what := "lost" if change.note == ONLY_FIRST else change.verdict) in ("lost", "worse")
    ]
    if worse:
        raise PartialFailureError(f"{second} is worse than {first} in {', '.join(fail_on)}", worse)


def _read_evaluation(path: Path) -> Evaluation:
    from clip_feature_codec.evaluate.results import Evaluation

    try:
        return Evaluation.from_json(json.loads(read_bytes(path)))
    except (ConfigError, ValueError) as error:
        raise ConfigError(f"{path}: {error}") from None


def _shared(a: Evaluation, b: Evaluation) -> str:
    return ", ".join(name for name in a.metrics if name in b.metrics)


def _command() -> str:
    """What was typed, with the program's bare name."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


if __name__ == "__main__":
    main()
