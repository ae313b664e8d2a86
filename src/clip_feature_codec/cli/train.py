"""``clip-codec train``: every field of `TrainConfig` is an option of the same name."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import click

from clip_feature_codec.cli.common import PATH, Command, device_option, quiet_option, remark, write_json


class TrainCommand(Command):
    """Makes its options from `TrainConfig` when they are first asked for, so that other commands load no torch."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """The written options and one for each training option."""
        return [*super().get_params(ctx), *_training_options()]


def _training_options() -> list[click.Parameter]:
    from clip_feature_codec.train.config import TrainConfig

    helps = dict(re.findall(r"^ {8}(\w+): (.+?)\.?$", TrainConfig.__doc__ or "", re.MULTILINE))
    options: list[click.Parameter] = []
    for field in dataclasses.fields(TrainConfig):
        default, flag = field.default, "--" + field.name.replace("_", "-")
        if isinstance(default, bool):
            kind: dict[str, Any] = {"is_flag": True}
        elif isinstance(default, tuple):
            # "1,2,2"; an empty text is an empty tuple
            kind = {
                "type": _Integers(),
                "default": ",".join(map(str, default)),
                "show_default": bool(default),
            }
        else:
            number = int if default is None else type(default)
            kind = {"type": number, "default": default, "show_default": default is not None}
        options.append(click.Option([flag], help=helps[field.name].capitalize() + ".", **kind))
    return options


class _Integers(click.ParamType):
    name = "n,n,..."

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        try:
            return tuple(int(number) for number in value.split(",")) if value else ()
        except ValueError:
            self.fail(f"{value!r} is not a list of whole numbers such as 1,2,2", param, ctx)


@click.command("train", cls=TrainCommand)
@click.argument("store", type=PATH)
@click.option("--dry-run", is_flag=True, help="Print the resolved configuration as JSON and stop.")
@click.option("--restart", is_flag=True, help="Forget an earlier training in this store.")
@device_option
@quiet_option
def train(store: Path, dry_run: bool, restart: bool, device: str, quiet: bool, **options: Any) -> None:
    """Train a diffusion decoder on the pictures and streams of a store.

    An interrupted training goes on where it was. On several GPUs: accelerate launch -m
    clip_feature_codec.cli.train STORE.
    """
    from clip_feature_codec.train.config import TrainConfig

    config = TrainConfig.from_dict(options)
    if dry_run:
        write_json({"store": str(store), "device": device} | config.to_dict(), Path("-"))
        return
    from clip_feature_codec.train.diffusion_train import train_diffusion

    final = train_diffusion(store, device=device, restart=restart, quiet=quiet, **config.to_dict())
    remark(f"decoder written to {final}", quiet)


if __name__ == "__main__":
    train()
