"""Pictures of a store as a table on standard output, and in JSON."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from clip_feature_codec.files import printable
from clip_feature_codec.places import is_url

if TYPE_CHECKING:
    from clip_feature_codec.store.manifest import Entry
    from clip_feature_codec.store.protocol import Store


def describe(store: Store, entry: Entry) -> dict[str, Any]:
    """What JSON says of a picture: its name, where it was when it was coded, and whether it is gone."""
    place = store.source_place(entry)
    return {
        "name": entry.name,
        "source": place if is_url(place) else str(Path(place).parent.resolve() / Path(place).name),
        "missing": store.is_missing(entry),
    }


def echo_pictures(
    pictures: Sequence[dict[str, Any]], head: Sequence[str] = (), cells: Sequence[Sequence[str]] = ()
) -> None:
    """Print a line for each picture: what stands before it, its name, and where it was, if it still is.

    Args:
        pictures: as `describe` gives them.
        head: titles of the columns before the name.
        cells: of each picture, what stands in those columns.
    """
    if not pictures:
        return
    table = [[*head, "name", "source"]]
    for i, picture in enumerate(pictures):
        gone = "  (gone)" if picture["missing"] else ""
        before = cells[i] if cells else ()
        table.append([*before, picture["name"], _from_here(picture["source"]) + gone])
    table = [[printable(cell) for cell in row] for row in table]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        numbers = [f"{cell:>{width}}" for cell, width in zip(row[:-2], widths, strict=False)]
        click.echo("  ".join([*numbers, f"{row[-2]:{widths[-2]}}", row[-1]]))


def _from_here(path: str) -> str:
    """A path below the current folder from there on."""
    return path.removeprefix(f"{Path.cwd()}{os.sep}")
