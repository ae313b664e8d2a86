"""What all commands share: their options, and how errors reach the person at the keyboard."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from clip_feature_codec.cli.paths import NamedOrOnHub, OutputPath
from clip_feature_codec.codec.rate import CHOICES, Rate
from clip_feature_codec.errors import BitstreamError, ImageError, PartialFailureError
from clip_feature_codec.files import MAKER, STDIO, write_atomic
from clip_feature_codec.outputs.kinds import RESULT

if TYPE_CHECKING:
    from PIL import Image

    from clip_feature_codec.codec.space import ClipSpace

F = TypeVar("F", bound=Callable[..., Any])


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
    "--json",
    "json_path",
    type=OutputPath(RESULT),
    help="Write the result as JSON to this file (- is standard output).",
)
codec_option = click.option(
    "--codec",
    "codec_path",
    type=NamedOrOnHub(),
    help="Pack, store or codec.json that the stream was coded with. [default: found beside it, or a pack]",
)


def _most_pixels() -> int:
    from clip_feature_codec.images import MAX_PIXELS

    return MAX_PIXELS


max_pixels_option = click.option(
    "--max-pixels",
    type=click.IntRange(min=1),
    default=_most_pixels,
    show_default="179 million",
    help="Refuse pictures of more pixels before they are decoded.",
)
batch_option = click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    default=16,
    show_default=True,
    help="Pictures decoded at a time.",
)
decoder_option = click.option(
    "--decoder",
    "--weights",
    "decoder",
    type=NamedOrOnHub(),
    help="What paints: a checkpoint, a folder with one, the folder of a pipeline of diffusers, or the name "
    "of such a folder on the hub. [default: the decoder trained in the store, or the pack's]",
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
    from clip_feature_codec.packs import pack_folder

    if pack_folder(space.model):
        remark(f"using the built-in {space.model!r} model, a small one: a real CLIP sees far more", quiet)


def read_bytes(path: Path) -> bytes:
    """Read a file, or standard input for ``-``."""
    return sys.stdin.buffer.read() if path == STDIO else path.read_bytes()


def read_picture(path: Path, max_pixels: int, stdin: bytes | None = None) -> Image.Image:
    """Read a picture, or standard input for ``-``, if it is not read already."""
    from clip_feature_codec.images import load_image

    try:
        return load_image((stdin or read_bytes(path)) if path == STDIO else path, max_pixels=max_pixels)
    except ImageError as error:
        raise ImageError(str(error).replace("the given picture", "standard input", 1)) from None


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Say whose stream it is that the block finds to be bad."""
    try:
        yield
    except BitstreamError as error:
        raise type(error)(f"{'standard input' if path == STDIO else path}: {error}") from None


def write_json(result: dict[str, Any], path: Path | None) -> None:
    """Write a result, and who made it, to a file or, for ``-``, to standard output."""
    if path is not None:
        write_bytes(json.dumps({"made_by": MAKER} | result, indent=1).encode() + b"\n", path)


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
