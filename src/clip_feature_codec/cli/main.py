"""The console command ``clip-codec``."""

from __future__ import annotations

from importlib import import_module

import click

from clip_feature_codec import __version__
from clip_feature_codec.cli.command import Group

_COMMANDS = {
    "encode": "encode_images:encode",
    "decode": "reconstruct_diffusion:decode",
    "info": "info:info",
    "search": "search:search",
    "serve": "serve:serve",
    "transcode": "transcode:transcode",
    "pack": "pack:pack",
    "unpack": "pack:unpack",
    "export": "export:export",
    "prune": "prune:prune",
    "fit": "fit:fit",
    "same": "same:same",
    "train": "train:train",
    "eval": "eval:evaluate",
    "compare": "compare:compare",
    "link": "link:link",
    "desktop": "desktop:desktop",
    "demo": "demo:demo",
}
"""Where each command is: module of this room, and name in it."""


class _Commands(Group):
    """Imports the command that is asked for, and no other."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of all commands, in the order in which ``--help`` shows them."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        if cmd_name not in _COMMANDS:
            return None
        module, _, name = _COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(import_module(f"clip_feature_codec.cli.{module}"), name)
        return command


@click.group(cls=_Commands)
@click.version_option(__version__, package_name="clip-feature-codec")
def main() -> None:
    """Pictures as CLIP features in a few hundred bytes, painted again by a diffusion model."""
