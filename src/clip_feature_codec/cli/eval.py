"""``clip-codec eval`` and its other form, ``python -m clip_feature_codec.cli.eval``."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from clip_feature_codec import extras
from clip_feature_codec.cli.command import Command
from clip_feature_codec.cli.common import (
    ProgressBars,
    batch_option,
    device_option,
    json_option,
    max_pixels_option,
    model_options,
    quiet_option,
    remark_on_model,
    stack,
    write_bytes,
    write_json,
)
from clip_feature_codec.cli.eyes import NamedEyes, eyes_options
from clip_feature_codec.cli.painting import make_paint_options, sampling_options
from clip_feature_codec.cli.paths import IN_FOLDER, NAMED_FILE, NamedOrOnHub, OutputPath
from clip_feature_codec.cli.reporting import resumable
from clip_feature_codec.errors import ConfigError, PartialFailureError
from clip_feature_codec.files import STDIO, encodable
from clip_feature_codec.outputs.kinds import FIGURES, PAGE, PICTURE, TABLE, WORK

if TYPE_CHECKING:
    from clip_feature_codec.api import ClipCodec
    from clip_feature_codec.evaluate.codecs import Painter
    from clip_feature_codec.evaluate.comparison import Comparison
    from clip_feature_codec.evaluate.evaluation import Evaluator
    from clip_feature_codec.evaluate.report import Pictures
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
        help="Codecs to compare with at the same bytes: jpeg, webp, avif, jxl (jpeg:payload and so on: their "
        "container not counted), blurhash, thumbhash, layout (our layout layer alone), or all.",
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
        default="",
        metavar="N,N,...",
        help="Network evaluations of the decoder, a curve each. [default: the decoder's own]",
    ),
    click.option(
        "--seeds",
        type=click.IntRange(min=1),
        default=1,
        show_default=True,
        help="Times each stream is decoded, from --seed on.",
    ),
    click.option(
        "--decoder",
        "--weights",
        "decoders",
        type=NamedOrOnHub(),
        multiple=True,
        help="What paints (may be repeated: curves for each); as for decode.",
    ),
    sampling_options,
    batch_option,
    max_pixels_option,
    model_options,
    eyes_options,
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
    device_option,
    quiet_option,
)


@click.command("eval", cls=Command, needs="eval")
@click.argument("store_dir", metavar="STORE", type=IN_FOLDER)
@_options
def evaluate(**options: Any) -> None:
    """Decode every picture of a store and measure it, beside other codecs at the same bytes."""
    _evaluate(**options)


@click.command("eval", cls=Command, needs="eval")
@click.option("--store-dir", type=IN_FOLDER, required=True, help="The store.")
@_options
def main(**options: Any) -> None:
    """Decode every picture of a store and measure it, beside other codecs at the same bytes."""
    _evaluate(**options)


@dataclass(frozen=True)
class _Outputs:
    """Where results go; None, or an empty tuple, where one is not asked for."""

    json: Path | None
    html: Path | None
    tables: tuple[Path, ...]
    figures: Path | None
    grid: Path | None

    def require(self) -> None:
        """Refuse before the work what could not be written after it.

        Raises:
            MissingExtraError: a package is missing.
        """
        for asked, module in (
            (self.html, "jinja2"),
            (self.figures, "matplotlib"),
            (any(table.suffix.lower() == ".parquet" for table in self.tables), "pyarrow"),
        ):
            if asked:
                extras.require("eval", "clip-codec eval", module)

    def write(self, result: Evaluation, pictures: Pictures, title: str) -> None:
        """Write all that is asked for; the table for the terminal, too, where that is free."""
        from clip_feature_codec.evaluate.analysis.summary import summarise
        from clip_feature_codec.evaluate.report import (
            html_page,
            text_table,
            write_figures,
            write_grid,
            write_table,
        )

        summary = summarise(result)
        if STDIO not in (self.json, self.html):
            click.echo(text_table(result, summary))
        if self.html:
            write_bytes(html_page(result, pictures, title, summary).encode(), self.html)
        if self.grid:
            write_grid(result, pictures, self.grid)
        if self.figures:
            write_figures(result, self.figures, summary)
        for table in self.tables:
            write_table(result, table)
        write_json(result.to_json() | {"summary": summary.to_json()}, self.json)


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
    outputs = _Outputs(json_path, html_path, tables, figures, grid)
    outputs.require()
    with _prepare(store_dir, require, quiet, **options) as evaluator:
        with resumable(), ProgressBars(quiet) as progress:
            result = evaluator.run(command=_command(), progress=progress)
        outputs.write(result, evaluator.pictures, f"Evaluation of {store_dir.resolve().name}")
        evaluator.finish()
    _raise_failures(result, len(evaluator.entries))


def _raise_failures(result: Evaluation, total: int) -> None:
    """List what failed and end with status 1: pictures, and what baselines could not do with the others."""
    pictures = sum(not failure.series for failure in result.failures)
    baselines = [failure.series for failure in result.failures if failure.series]
    counts = [f"{pictures} of {total} pictures failed"] if pictures else []
    counts += [f"{name} failed on {baselines.count(name)} of {total}" for name in dict.fromkeys(baselines)]
    if counts:
        listed = [(failure.stream, failure.reason) for failure in result.failures]
        raise PartialFailureError(f"{', '.join(counts)}; the rest is done", listed)


def _prepare(
    store_dir: Path,
    require: tuple[str, ...],
    quiet: bool,
    *,
    decoders: tuple[str, ...],
    model: str | None,
    pretrained: str | None,
    device: str,
    work: Path | None,
    batch_size: int,
    limit: int | None,
    max_pixels: int,
    **options: Any,
) -> Evaluator:
    """Refuse what makes no sense, then load all that an evaluation needs, the quickest first."""
    from clip_feature_codec.evaluate.evaluation import Evaluator
    from clip_feature_codec.evaluate.instruments import check_metric_names
    from clip_feature_codec.store.opening import open_store

    comparison, named = _comparison(options), NamedEyes.of(options)
    names = _decoder_names(decoders)
    check_metric_names(require, list(named.clips))
    store = open_store(store_dir)
    eyes = named.load(device)
    named_decoders = dict(zip(names, decoders or (None,), strict=True))
    codec, painters = _painters(store_dir, named_decoders, model=model, pretrained=pretrained, device=device)
    remark_on_model(store.codec.space, quiet)
    evaluator = Evaluator.prepare(
        store,
        painters,
        codec.embedder,
        make_paint_options(options | {"steps": None}),
        comparison,
        eyes=eyes,
        work=work,
        batch_size=batch_size,
        limit=limit,
        max_pixels=max_pixels,
    )
    evaluator.instruments.require(require)
    return evaluator


def _painters(
    store_dir: Path, decoders: dict[str, str | None], **options: str | None
) -> tuple[ClipCodec, list[Painter]]:
    """The store's codec, and what paints its streams: the decoders named, or, for None, its own."""
    from clip_feature_codec.api import ClipCodec
    from clip_feature_codec.evaluate.codecs import Painter

    codecs = {name: ClipCodec.load(store_dir, decoder=one, **options) for name, one in decoders.items()}
    painters = [Painter(codec.decoder, name, codec.decoder_source) for name, codec in codecs.items()]
    return next(iter(codecs.values())), painters


def _decoder_names(given: tuple[str, ...]) -> list[str]:
    """What decoders are called in results: the last part of each name, or all of it if these are the same.

    A single one, or the store's own, needs no name.
    """
    if len(given) < 2:
        return [""]
    last = [path.stem if path.is_file() else path.name for path in map(Path, given)]
    names = [encodable(name) for name in (last if len(set(last)) == len(last) else given)]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"--decoder {name} is given twice: name different ones")
    return names


def _comparison(options: dict[str, Any]) -> Comparison:
    """What is compared, taken out of ``options``."""
    from clip_feature_codec.evaluate.comparison import Comparison

    names = ("budgets", "steps", "seeds", "baselines", "externals")
    chosen = {name: options.pop(name) for name in names}
    return Comparison(**chosen)


def _command() -> str:
    """What was typed, with the program's bare name."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


if __name__ == "__main__":
    main()
