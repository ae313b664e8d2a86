"""``clip-codec train``: every field of `TrainConfig` is an option of the same name."""

from __future__ import annotations

import dataclasses
import inspect
import re
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any

import click

from clip_feature_codec.cli.command import Command
from clip_feature_codec.cli.common import (
    ProgressBars,
    device_option,
    max_pixels_option,
    model_options,
    quiet_option,
    remark,
    write_json,
)
from clip_feature_codec.cli.paths import NAMED_FILE, OutputPath
from clip_feature_codec.cli.reporting import resumable
from clip_feature_codec.files import STDIO
from clip_feature_codec.outputs.kinds import CACHE, TRAINED_STORE


class TrainCommand(Command):
    """Makes its options from `TrainConfig` when they are first asked for: other commands load no torch."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """The written options and one for each training option."""
        *written, help_option = super().get_params(ctx)
        return [*written, *_training_options(), help_option]

    def check_outputs(self, ctx: click.Context) -> None:
        """Refuse to replace a decoder that was not trained in this store, unless nothing is to be trained."""
        if not ctx.params["dry_run"]:
            super().check_outputs(ctx)


@cache
def _training_options() -> tuple[click.Option, ...]:
    from clip_feature_codec.train.config import TrainConfig

    helps = dict(re.findall(r"^    (\w+): (.+?)\.?$", inspect.getdoc(TrainConfig) or "", re.MULTILINE))
    return tuple(_option(field, helps.get(field.name, "")) for field in dataclasses.fields(TrainConfig))


def _option(field: dataclasses.Field[Any], text: str) -> click.Option:
    """The command line's form of one training option."""
    default = field.default
    kind: dict[str, Any]
    if isinstance(default, bool):
        kind = {"is_flag": True}
    elif isinstance(default, tuple):
        written = ",".join(map(str, default))
        kind = {"type": _integers, "default": written, "show_default": bool(default), "metavar": "N,N,..."}
    else:
        number = int if default is None else type(default)
        kind = {"type": number, "default": default, "show_default": default is not None}
    text = text.replace("`", "")
    return click.Option([f"--{field.name.replace('_', '-')}"], help=f"{text[:1].upper()}{text[1:]}.", **kind)


def _integers(text: str) -> tuple[int, ...]:
    """Whole numbers with commas between them; an empty text is none of them."""
    try:
        return tuple(int(number) for number in text.split(",")) if text else ()
    except ValueError:
        raise click.BadParameter(f"{text!r} is not a list of whole numbers such as 1,2,2") from None


@click.command("train", cls=TrainCommand, needs="train")
@click.argument("store", type=OutputPath(TRAINED_STORE, exists=True))
@click.option("--dry-run", is_flag=True, help="Print the resolved configuration as JSON and stop.")
@click.option(
    "--init",
    type=NAMED_FILE,
    help="Decoder of the same CLIP model to begin with.",
)
@click.option(
    "--cache",
    type=OutputPath(CACHE),
    help="Folder that keeps pictures at their training size, so that each is decoded once.",
)
@click.option("--restart", is_flag=True, help="Forget an earlier training in this store.")
@max_pixels_option
@model_options
@device_option
@quiet_option
def train(
    store: Path,
    dry_run: bool,
    init: Path | None,
    cache: Path | None,
    restart: bool,
    max_pixels: int,
    model: str | None,
    pretrained: str | None,
    device: str,
    quiet: bool,
    **options: Any,
) -> None:
    """Train a diffusion decoder on the pictures and streams of a store.

    An interrupted training goes on where it was. On several GPUs: accelerate launch -m
    clip_feature_codec.cli.train STORE.
    """
    from clip_feature_codec.train.config import TrainConfig

    config = TrainConfig.from_dict(options)
    if dry_run:
        asked = {"store": str(store), "device": device, "init": None if init is None else str(init)}
        write_json(asked | config.to_dict(), STDIO)
        return
    from clip_feature_codec.train.diffusion_train import train_diffusion

    with resumable(), closing(ProgressBars(quiet)) as bars:
        final = train_diffusion(
            store,
            device=device,
            model=model,
            pretrained=pretrained,
            init=init,
            restart=restart,
            max_pixels=max_pixels,
            cache=cache,
            progress=bars,
            **config.to_dict(),
        )
    remark(f"decoder written to {final}", quiet)


if __name__ == "__main__":
    train()
