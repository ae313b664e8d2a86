"""What all commands share: their options, and how errors reach the person at the keyboard."""

from __future__ import annotations

import json
import logging
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from clip_feature_codec.codec.rate import CHOICES, Rate
from clip_feature_codec.errors import BitstreamError, CodecError, ConfigError, PartialFailureError
from clip_feature_codec.files import write_atomic

if TYPE_CHECKING:
    from clip_feature_codec.codec.space import ClipSpace

F = TypeVar("F", bound=Callable[..., Any])

STDIO = Path("-")
"""Standard input or output, where one file is meant."""

IN_PATH = click.Path(exists=True, allow_dash=True, path_type=Path)
IN_FILE = click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path)
IN_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
OUT_PATH = click.Path(path_type=Path)
OUT_FILE = click.Path(dir_okay=False, allow_dash=True, path_type=Path)
OUT_FOLDER = click.Path(file_okay=False, path_type=Path)


class Command(click.Command):
    """A command that ends in one line on stderr when something is wrong, and says all with ``--debug``.

    Exit status: 0 all done, 1 some inputs failed and the rest is done, 2 nothing could be done.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # --img_dir and --img-dir are the same option.
        self.context_settings["token_normalize_func"] = lambda token: token.replace("_", "-")
        self.params.append(
            click.Option(
                ["--debug"],
                is_flag=True,
                expose_value=False,
                callback=_set_debug,
                help="Show tracebacks and what the library logs.",
            )
        )

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Read the arguments; wrong ones end in one line, too."""
        try:
            return super().make_context(info_name, args, parent, **extra)
        except click.UsageError as error:
            command = error.ctx.command_path if error.ctx else info_name
            _end(f"{error.format_message().rstrip('.')} (see {command} --help)", 2)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command and turn what it raises into a line and an exit status."""
        debug = ctx.meta["debug"]
        _start_logging(debug, quiet=ctx.params.get("quiet", False))
        try:
            return super().invoke(ctx)
        except (click.exceptions.Exit, click.ClickException, click.Abort, BrokenPipeError):
            raise
        except Exception as error:
            if debug:
                click.echo(traceback.format_exc(), err=True)
            if isinstance(error, PartialFailureError):
                for _, reason in error.failures:
                    click.echo(f"failed: {_one_line(reason)}", err=True)
            _end(_message(error), error.exit_code if isinstance(error, CodecError) else 2)


def _set_debug(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    ctx.meta["debug"] = value


def _start_logging(debug: bool, quiet: bool) -> None:
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # a picture is read, or refused in our own words
    level = logging.DEBUG if debug else logging.WARNING if quiet else logging.INFO
    logging.getLogger("clip_feature_codec").setLevel(level)


def _message(error: Exception) -> str:
    if isinstance(error, CodecError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return f"unexpected {type(error).__name__}: {error} (run again with --debug and report it)"


def _end(message: str, exit_code: int) -> NoReturn:
    click.echo(f"error: {_one_line(message)}", err=True)
    raise click.exceptions.Exit(exit_code)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def stack(*decorators: Callable[[F], F]) -> Callable[[F], F]:
    """Several options as one decorator, in the order in which ``--help`` shows them."""

    def decorate(function: F) -> F:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


device_option = click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or mps.")
quiet_option = click.option("--quiet", is_flag=True, help="No progress bars and no remarks.")
json_option = click.option(
    "--json", "json_path", type=OUT_FILE, help="Write the result as JSON to this file (- is standard output)."
)
codec_option = click.option(
    "--codec",
    "codec_path",
    type=click.Path(exists=True, path_type=Path),
    help="Store or codec.json that the stream was coded with. [default: found beside it, else the pack's]",
)
batch_option = click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    default=16,
    show_default=True,
    help="Pictures decoded at a time.",
)
weights_option = click.option(
    "--weights",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Decoder checkpoint. [default: the one trained in the store, or the pack's]",
)
model_options = stack(
    click.option(
        "--model", help="CLIP model: an open_clip name, a folder, or a .json file. [default: the mini pack]"
    ),
    click.option("--pretrained", help="Weights of --model: a pretrained tag, or a .pt or .safetensors file."),
)
rate_options = stack(
    click.option(
        "--max-bytes", type=click.IntRange(min=1), help="No file is larger than this, header included."
    ),
    click.option(
        "--target-cosine", type=float, help="Least cosine of a decoded vector with the picture's own."
    ),
    click.option("--quality", type=click.FloatRange(0, 100), help="0: smallest, 100: best. [default: 50]"),
    click.option(
        "--layers",
        type=click.Choice(CHOICES),
        default="both",
        show_default=True,
        help="The vector, the coarse colour layout, or both.",
    ),
)


def make_rate(options: dict[str, Any]) -> Rate:
    """Take the values of `rate_options` out of ``options``."""
    names = ("max_bytes", "target_cosine", "quality", "layers")
    return Rate(**{name: options.pop(name) for name in names})


class ProgressBars:
    """A bar on stderr for each stage of the work that is reported to it (see `progress.Progress`)."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._stage = ""
        self._bar: Any = None

    def __enter__(self) -> ProgressBars:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Show how far a stage is; the bar of the stage before is closed."""
        if self._quiet:
            return
        if stage != self._stage or self._bar is None:
            from tqdm import tqdm

            self.close()
            self._stage = stage
            # What was done when the bar began was done by an earlier run: it says nothing of the speed.
            self._bar = tqdm(total=total, initial=done, unit="img", desc=stage)
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        """Leave the last bar as it stands."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def remark(text: str, quiet: bool) -> None:
    """Say something beside the result, on stderr."""
    if not quiet:
        click.echo(text, err=True)


def remark_on_model(space: ClipSpace, quiet: bool) -> None:
    """Say so when the built-in model is at work, since real ones are far better."""
    if space.pretrained == "pack":
        remark(f"using the built-in {space.model!r} model, a small one: a real CLIP sees far more", quiet)


def read_bytes(path: Path) -> bytes:
    """Read a file, or standard input for ``-``."""
    return sys.stdin.buffer.read() if path == STDIO else path.read_bytes()


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Say whose stream it is that the block finds to be bad."""
    try:
        yield
    except BitstreamError as error:
        raise type(error)(f"{'standard input' if path == STDIO else path}: {error}") from None


def check_outputs(*paths: Path | None) -> None:
    """Refuse to write two results to standard output, or below what is no folder, before the work is done."""
    if paths.count(STDIO) > 1:
        raise ConfigError("only one result can go to standard output: name a file for the other")
    for path in paths:
        for above in path.parents if path else ():
            if above.exists() and not above.is_dir():
                raise ConfigError(f"{path}: {above} is a file, not a folder")


def check_picture_name(path: Path) -> None:
    """Refuse a name whose ending is no picture format, before the work and not after it."""
    from clip_feature_codec.images import IMAGE_SUFFIXES

    if path.suffix.lower() not in IMAGE_SUFFIXES:
        known = " ".join(sorted(IMAGE_SUFFIXES))
        raise ConfigError(f"{path}: a picture is written here, and its name must end in one of {known}")


def write_json(result: Any, path: Path | None) -> None:
    """Write a result to a file or, for ``-``, to standard output."""
    if path is not None:
        write_bytes(json.dumps(result, indent=1).encode() + b"\n", path)


def write_bytes(data: bytes, path: Path) -> None:
    """Write a file whole or not at all, or to standard output for ``-``."""
    if path == STDIO:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    else:
        write_atomic(path, data)


def raise_failures(failures: Sequence[tuple[str, str]], total: int) -> None:
    """List what failed, if anything did, and end with status 1; with 2 if that is all there was."""
    if not failures:
        return
    if len(failures) < total:
        count = f"{len(failures)} of {total} pictures failed; the rest is done"
        raise PartialFailureError(count, list(failures))
    error = PartialFailureError(f"all {total} pictures failed", list(failures))
    error.exit_code = 2
    raise error
