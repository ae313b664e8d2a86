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
    decoder_option,
    device_option,
    json_option,
    max_pixels_option,
    model_options,
    offline_option,
    quiet_option,
    remark_on_model,
    stack,
    write_bytes,
    write_json,
)
from clip_feature_codec.cli.painting import make_paint_options, sampling_options
from clip_feature_codec.cli.paths import IN_FOLDER, NAMED_FILE, OutputPath
from clip_feature_codec.cli.reporting import resumable
from clip_feature_codec.errors import ConfigError, PartialFailureError
from clip_feature_codec.files import STDIO, encodable
from clip_feature_codec.outputs.kinds import FIGURES, PAGE, PICTURE, TABLE, WORK

if TYPE_CHECKING:
    from clip_feature_codec.evaluate.comparison import Comparison
    from clip_feature_codec.evaluate.evaluation import Evaluator
    from clip_feature_codec.evaluate.instruments import Eyes
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
    decoder_option,
    sampling_options,
    batch_option,
    max_pixels_option,
    model_options,
    click.option(
        "--judge",
        "judges",
        type=click.Path(exists=True, path_type=Path),
        multiple=True,
        help="A network that had no part in the codec: the folder of one in timm's format, for its features, "
        "or a classifier's .onnx or .tflite file, for recognition. One of each at most.",
    ),
    click.option(
        "--judge-labels",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="The classifier's classes, a line each, synonyms behind commas. [default: see its TOML file]",
    ),
    click.option(
        "--classes",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="What is on each picture: a CSV or Parquet file with columns image and class. [default: the "
        "picture's folder, if that is called as a class; else what the judge sees in the original]",
    ),
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
    device_option,
    offline_option,
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
    decoder: str | None,
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
    from clip_feature_codec.api import ClipCodec
    from clip_feature_codec.evaluate.evaluation import Evaluator
    from clip_feature_codec.evaluate.instruments import check_metric_names
    from clip_feature_codec.store.opening import open_store

    comparison, named = _comparison(options), _NamedEyes.of(options)
    check_metric_names(require, list(named.clips))
    store = open_store(store_dir)
    eyes = named.load(device)
    codec = ClipCodec.load(store_dir, decoder=decoder, model=model, pretrained=pretrained, device=device)
    remark_on_model(store.codec.space, quiet)
    evaluator = Evaluator.prepare(
        store,
        codec.decoder,
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


def _comparison(options: dict[str, Any]) -> Comparison:
    """What is compared, taken out of ``options``."""
    from clip_feature_codec.evaluate.comparison import Comparison

    names = ("budgets", "steps", "seeds", "baselines", "externals")
    chosen = {name: options.pop(name) for name in names}
    return Comparison(**chosen)


@dataclass(frozen=True)
class _NamedEyes:
    """Networks that look beside the streams' own CLIP: named and checked here, loaded when all is well.

    Attributes:
        folder: of a judge by features.
        classifier: file of a judge by classes.
        labels: of these.
        classes: table of what is on each picture.
        clips: ``MODEL`` or ``MODEL=WEIGHTS`` by what it is called in results.
    """

    folder: Path | None
    classifier: Path | None
    labels: Path | None
    classes: Path | None
    clips: dict[str, str]

    @classmethod
    def of(cls, options: dict[str, Any]) -> _NamedEyes:
        """Take them out of ``options``."""
        judges, labels, classes = (options.pop(name) for name in ("judges", "judge_labels", "classes"))
        folders = [path for path in judges if path.is_dir()]
        files = [path for path in judges if path not in folders]
        for kind, found in (("folder", folders), ("classifier", files)):
            if len(found) > 1:
                raise ConfigError(f"--judge takes one {kind}, found {found[0]} and {found[1]}")
        for option, value in (("--judge-labels", labels), ("--classes", classes)):
            if value and not files:
                raise ConfigError(f"{option} belongs to a classifier: name its file with --judge")
        clips = _clip_names(options.pop("other_clips"))
        return cls(next(iter(folders), None), next(iter(files), None), labels, classes, clips)

    def load(self, device: str) -> Eyes:
        from clip_feature_codec.devices import pick_device
        from clip_feature_codec.embed import load_embedder
        from clip_feature_codec.evaluate.instruments import Eyes
        from clip_feature_codec.evaluate.metrics.classifier import Classifier
        from clip_feature_codec.evaluate.metrics.judge import Judge
        from clip_feature_codec.evaluate.true_classes import read_class_names

        if self.folder:
            extras.require("eval", "--judge with a network's folder", "torchmetrics")
        clips = {name: text.partition("=") for name, text in self.clips.items()}
        return Eyes(
            class_names=read_class_names(self.classes) if self.classes else None,
            classifier=Classifier.load(self.classifier, self.labels) if self.classifier else None,
            judge=Judge.load(self.folder, pick_device(device)) if self.folder else None,
            clips={name: load_embedder(m, w or None, device) for name, (m, _, w) in clips.items()},
        )


def _clip_names(given: tuple[str, ...]) -> dict[str, str]:
    """What ``MODEL`` or ``MODEL=WEIGHTS`` is called in results."""
    names: dict[str, str] = {}
    for text in given:
        model, _, weights = text.partition("=")
        name = encodable("=".join(Path(part).stem for part in (model, weights) if part))
        if name in names:
            raise ConfigError(f"--other-clip {text}: another one is called {name!r} already: rename its file")
        names[name] = text
    return names


def _command() -> str:
    """What was typed, with the program's bare name."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


if __name__ == "__main__":
    main()
