"""What all commands share: their options, and how errors reach the person at the keyboard."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from clip_feature_codec.errors import CodecError, PartialFailureError
from clip_feature_codec.files import write_atomic

if TYPE_CHECKING:
    from clip_feature_codec.codec.space import ClipSpace
    from clip_feature_codec.reconstruct import PaintOptions

F = TypeVar("F", bound=Callable[..., Any])

PATH = click.Path(path_type=Path)
STDIO = Path("-")


class Command(click.Command):
    """A command that ends in one line on stderr when something is wrong, and says all with ``--debug``.

    Exit status: 0 all done, 1 some inputs failed and the rest is done, 2 nothing could be done.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # --img_dir and --img-dir are the same option.
        self.context_settings["token_normalize_func"] = lambda token: token.replace("_", "-")
        self.params.append(
            click.Option(["--debug"], is_flag=True, expose_value=False, is_eager=True, callback=_set_debug,
                         help="Show tracebacks and what the library logs.")
        )  # fmt: skip

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command and turn what it raises into a line and an exit status."""
        logging.basicConfig(
            level=logging.DEBUG if ctx.meta.get("debug") else logging.WARNING, format="%(message)s"
        )
        try:
            return super().invoke(ctx)
        except (click.exceptions.Exit, click.ClickException, click.Abort, BrokenPipeError, KeyboardInterrupt):
            raise
        except Exception as error:
            if ctx.meta.get("debug"):
                raise
            if isinstance(error, PartialFailureError):
                for _, reason in error.failures:
                    click.echo(f"failed: {reason}", err=True)
            if isinstance(error, CodecError | OSError):
                message = str(error)
            else:
                message = f"unexpected {type(error).__name__}: {error} (run again with --debug and report it)"
            click.echo(f"error: {' '.join(message.split())}", err=True)
            ctx.exit(error.exit_code if isinstance(error, CodecError) else 2)


def _set_debug(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    ctx.meta["debug"] = value


def _stack(*decorators: Callable[[F], F]) -> Callable[[F], F]:
    def decorate(function: F) -> F:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


device_option = click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or mps.")
quiet_option = click.option("--quiet", is_flag=True, help="No progress bars and no remarks.")
json_option = click.option(
    "--json", "json_path", type=PATH, help="Write the result as JSON to this file (- is standard output)."
)
batch_option = click.option("--batch-size", type=click.IntRange(min=1), default=16, show_default=True,
                            help="Pictures decoded at a time.")  # fmt: skip
weights_option = click.option(
    "--weights", type=PATH, help="Decoder checkpoint. [default: the one trained in the store, or the pack's]"
)
model_options = _stack(
    click.option(
        "--model", help="CLIP model: an open_clip name, a folder, or a .json file. [default: the mini pack]"
    ),
    click.option("--pretrained", help="Weights of --model: a pretrained tag, or a .pt or .safetensors file."),
)
paint_options = _stack(
    click.option("--steps", type=click.IntRange(min=1), default=50, show_default=True, help="DDIM steps."),
    click.option(
        "--eta",
        type=click.FloatRange(0, 1),
        default=0.0,
        show_default=True,
        help="0: deterministic, 1: as DDPM.",
    ),
    click.option(
        "--guidance", type=float, default=1.0, show_default=True, help="Classifier-free guidance; 1 is none."
    ),
    click.option(
        "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Chooses the noise."
    ),
    click.option(
        "--size", type=click.IntRange(1, 8192), default=256, show_default=True, help="Longer side in pixels."
    ),
    click.option("--square", is_flag=True, help="Give out the square canvas, not the picture's own shape."),
)


def make_paint_options(options: dict[str, Any]) -> PaintOptions:
    """Take the values of `paint_options` out of ``options``."""
    from clip_feature_codec.reconstruct import PaintOptions

    names = ("steps", "eta", "guidance", "seed", "size", "square")
    return PaintOptions(**{name: options.pop(name) for name in names})


def remark(text: str, quiet: bool) -> None:
    """Say something beside the result, on stderr."""
    if not quiet:
        click.echo(text, err=True)


def remark_on_model(space: ClipSpace, quiet: bool) -> None:
    """Say so when the built-in model is at work, since real ones are far better."""
    if space.pretrained == "pack":
        remark(
            f"using the built-in {space.model!r} model, a small demonstration (--model takes a real CLIP)",
            quiet,
        )


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


def read_bytes(path: Path) -> bytes:
    """Read a file, or standard input for ``-``."""
    return sys.stdin.buffer.read() if path == STDIO else path.read_bytes()


def raise_failures(failures: Sequence[tuple[str, str]], total: int) -> None:
    """End with exit status 1 and the list of what failed, if anything did."""
    if failures:
        raise PartialFailureError(
            f"{len(failures)} of {total} pictures failed; the rest is done", list(failures)
        )
