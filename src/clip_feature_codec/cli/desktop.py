"""``clip-codec desktop``: thumbnails of ``.clp`` files in the file managers of Linux."""

from __future__ import annotations

import click

from clip_feature_codec.cli.command import Command
from clip_feature_codec.cli.common import quiet_option, remark


@click.command("desktop", cls=Command)
@click.option("--remove", "taken_out", is_flag=True, help="Take it out again.")
@quiet_option
def desktop(taken_out: bool, quiet: bool) -> None:
    """Let file managers on Linux show the pictures of .clp files.

    Writes the MIME type image/x-clp and an entry for thumbnails into $XDG_DATA_HOME (~/.local/share), for the
    Python and the package that run this; after these have moved, run it again.
    """
    from clip_feature_codec.desktop import data_home, install, remove

    home = data_home()
    paths = remove(home) if taken_out else install(home)
    for path in paths:
        remark(f"{path}: {'deleted' if taken_out else 'written'}", quiet)
    if not paths:
        remark(f"{home}: there was nothing to take out", quiet)
