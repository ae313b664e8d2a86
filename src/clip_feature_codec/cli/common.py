"""What all commands share: their options, and how errors reach the person at the keyboard."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from clip_feature_codec.cli.paths import NamedOrOnHub, OutputPath
from clip_feature_codec.cli.telling import keep_progress, say, tell, wants_events
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
_SECONDS_BETWEEN_EVENTS = 1.0

quiet_option = stack(
    click.option("--quiet", is_flag=True, help="No progress bars and no remarks."),
    click.option(
        "--progress",
        type=click.Choice(["bar", "json"]),
        default="bar",
        show_default=True,
        expose_value=False,
        callback=keep_progress,
        help="What stderr says: a line for people, or events in JSON Lines for programs.",
    ),
)
packed_option = click.option(
    "--packed",
    is_flag=True,
    help="Make a packed store, of Parquet shards instead of a file for each picture.",
)
ray_option = click.option(
    "--ray",
    "ray_address",
    metavar="ADDRESS",
    help="Work on a Ray cluster: host:port, auto for the one that this machine belongs to, or local to start "
    "one here. New stores are packed.",
)
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
        "--model",
        help="CLIP model: an open_clip name, a folder, a .json file, a pipeline of diffusers, for the image "
        "tower that it was trained with, or the name of either on the hub. [default: the mini pack]",
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
    """A line on stderr for each stage of the work that is reported to it (see `progress.Progress`).

    It says how many pictures are done, how many a second, the time that is left, and how many have failed;
    with ``--progress json``, once a second in an event.
    """

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._stage = ""
        self._line: _Bar | _Events | None = None

    def __enter__(self) -> ProgressBars:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __call__(self, stage: str, done: int, total: int, failed: int = 0, /) -> None:
        """Show how far a stage is; the line of the stage before is closed."""
        if self._quiet:
            return
        if stage != self._stage or self._line is None:
            self.close()
            self._stage = stage
            self._line = (_Events if wants_events() else _Bar)(stage, done, total)
        self._line.show(done, failed)

    def close(self) -> None:
        """Leave the last line as it stands."""
        if self._line is not None:
            self._line.close()
            self._line = None


class _Bar:
    def __init__(self, stage: str, done: int, total: int) -> None:
        from tqdm import tqdm

        # What was done when the bar began was done by an earlier run: it says nothing of the speed.
        self._bar = tqdm(total=total, initial=done, unit="img", desc=stage)

    def show(self, done: int, failed: int) -> None:
        if failed:
            self._bar.set_postfix_str(f"{failed} failed", refresh=False)
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        self._bar.close()


class _Events:
    def __init__(self, stage: str, done: int, total: int) -> None:
        self._facts: dict[str, Any] = {"stage": stage, "done": done, "total": total, "failed": 0}
        self._first, self._began = done, time.monotonic()
        self._told = 0.0

    def show(self, done: int, failed: int) -> None:
        now = time.monotonic()
        self._facts |= {"done": done, "failed": failed}
        if now - self._told >= _SECONDS_BETWEEN_EVENTS:
            self._told = now
            self._tell()

    def close(self) -> None:
        self._tell()

    def _tell(self) -> None:
        done, total = self._facts["done"], self._facts["total"]
        seconds = time.monotonic() - self._began
        rate = (done - self._first) / seconds if seconds else 0.0
        left = round((total - done) / rate, 1) if rate else None
        tell("progress", **self._facts, per_second=round(rate, 1), seconds_left=left)


def remark(text: str, quiet: bool) -> None:
    """Say something beside the result, on stderr."""
    if not quiet:
        say("remark", text)


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
