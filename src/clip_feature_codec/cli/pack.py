"""``clip-codec pack`` and ``clip-codec unpack``: a store as Parquet shards, and as a folder of streams."""

from __future__ import annotations

from pathlib import Path

import click

from clip_feature_codec.cli.command import Command
from clip_feature_codec.cli.common import (
    ProgressBars,
    json_option,
    quiet_option,
    raise_failures,
    remark,
    stack,
    write_json,
)
from clip_feature_codec.cli.paths import IN_FOLDER, OutputPath
from clip_feature_codec.cli.reporting import resumable
from clip_feature_codec.outputs.kinds import STORE

_options = stack(
    click.argument("store_dir", metavar="STORE", type=IN_FOLDER),
    click.option("-o", "--out", type=OutputPath(STORE), required=True, help="The new store."),
    json_option,
    quiet_option,
)


@click.command("pack", cls=Command)
@_options
def pack(store_dir: Path, out: Path, json_path: Path | None, quiet: bool) -> None:
    """Copy a store to a packed one: Parquet shards of some 100,000 streams instead of a file for each.

    Every command takes a packed store where it takes a store. Run again, it goes on where it was interrupted,
    and adds what is new.
    """
    _copy(store_dir, out, json_path, quiet, packed=True)


@click.command("unpack", cls=Command)
@_options
def unpack(store_dir: Path, out: Path, json_path: Path | None, quiet: bool) -> None:
    """Copy a store to a folder of .clp files; the way back from clip-codec pack."""
    _copy(store_dir, out, json_path, quiet, packed=False)


def _copy(store_dir: Path, out: Path, json_path: Path | None, quiet: bool, *, packed: bool) -> None:
    from clip_feature_codec.store.copying import copy_store
    from clip_feature_codec.store.opening import open_store

    with resumable(), ProgressBars(quiet) as progress:
        copied, failures = copy_store(open_store(store_dir), out, packed=packed, progress=progress)
    sums = open_store(out).totals()
    record = {"store": str(out), "copied": copied, "pictures": sums.pictures, "bytes": sums.bytes}
    remark(
        "{store}: {copied} streams copied; {pictures} pictures in all, {bytes} bytes".format(**record), quiet
    )
    write_json(record, json_path)
    raise_failures(failures, len(failures) + sums.pictures)
