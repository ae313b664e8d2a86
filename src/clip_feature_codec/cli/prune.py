"""``clip-codec prune``: pictures that are gone are taken out of their store."""

from __future__ import annotations

from pathlib import Path

import click

from clip_feature_codec.cli.command import Command
from clip_feature_codec.cli.common import json_option, quiet_option, remark, write_json
from clip_feature_codec.cli.listing import describe, echo_pictures
from clip_feature_codec.cli.paths import IN_FOLDER
from clip_feature_codec.files import STDIO


@click.command("prune", cls=Command)
@click.argument("store_dir", metavar="STORE", type=IN_FOLDER)
@click.option("--delete", is_flag=True, help="Take them out, and delete their streams. [default: list them]")
@json_option
@quiet_option
def prune(store_dir: Path, delete: bool, json_path: Path | None, quiet: bool) -> None:
    """List the pictures of a store that are no longer where they were; with --delete, take them out of it.

    A picture whose folder cannot be read is not gone. To follow pictures that were moved, and code those that
    are new: clip-codec encode --sync.
    """
    from clip_feature_codec.store.opening import open_store
    from clip_feature_codec.store.pruning import missing_pictures, prune_store

    store = open_store(store_dir)
    missing = prune_store(store_dir) if delete else missing_pictures(store)
    pictures = [describe(store, entry) for entry in missing]
    if json_path != STDIO:
        echo_pictures(pictures)
    what = "taken out" if delete else "gone; to take them out: --delete" if missing else "gone"
    remark(f"{store_dir}: {len(missing)} of {len(store)} pictures {what}", quiet)
    write_json({"store": str(store_dir), "deleted": delete, "pictures": pictures}, json_path)
