"""``clip-codec export``: a store's vectors, names and streams for databases and numpy."""

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
    write_json,
)
from clip_feature_codec.cli.paths import IN_FOLDER, OutputPath
from clip_feature_codec.names import EXPORT_FORMATS
from clip_feature_codec.outputs.kinds import EXPORT


@click.command("export", cls=Command)
@click.argument("store_dir", metavar="STORE", type=IN_FOLDER)
@click.option("--to", type=click.Choice(EXPORT_FORMATS), required=True, help="The format.")
@click.option("-o", "--out", type=OutputPath(EXPORT), required=True, help="The new folder.")
@click.option(
    "--codes", is_flag=True, help="8-bit integers with a scale for each vector, instead of float16."
)
@json_option
@quiet_option
def export(store_dir: Path, to: str, out: Path, codes: bool, json_path: Path | None, quiet: bool) -> None:
    """Write the vectors of a store, with names and streams, for LanceDB, other databases, or numpy.

    The folder is written whole or not at all: killed, it leaves nothing; an export that is there is replaced.
    """
    from clip_feature_codec.store.exporting import export_store
    from clip_feature_codec.store.opening import open_store

    with ProgressBars(quiet) as progress:
        count, failures = export_store(open_store(store_dir), out, to, codes=codes, progress=progress)
    record = {"export": str(out), "format": to, "pictures": count}
    remark("{export}: {pictures} pictures as {format}".format(**record), quiet)
    write_json(record, json_path)
    raise_failures(failures, len(failures) + count)
