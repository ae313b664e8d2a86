"""``clip-codec search``: the nearest pictures of a store, or those that are there more than once."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from clip_feature_codec.cli.command import Command
from clip_feature_codec.cli.common import (
    ProgressBars,
    codec_option,
    device_option,
    json_option,
    max_pixels_option,
    model_options,
    naming,
    quiet_option,
    raise_failures,
    read_bytes,
    read_picture,
    remark,
    remark_on_model,
    write_json,
)
from clip_feature_codec.cli.listing import describe, echo_pictures
from clip_feature_codec.cli.paths import IN_FILE, IN_FOLDER, OutputPath
from clip_feature_codec.cli.streams import parse_stream
from clip_feature_codec.errors import BitstreamError, ConfigError, MissingLayerError, StoreError
from clip_feature_codec.files import STDIO
from clip_feature_codec.outputs.kinds import PICTURE

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    from clip_feature_codec.embed import Embedder
    from clip_feature_codec.store.manifest import Entry
    from clip_feature_codec.store.protocol import Store
    from clip_feature_codec.store.search.nearest import SearchIndex

_COUNT = 10
_MOST_TILES = 200


class _Found(NamedTuple):
    """A picture that a search gives.

    Attributes:
        number: its rank, or that of its group.
        cosine: with the query, or with the nearest of its group.
        entry: the picture.
        description: what JSON says of it.
    """

    number: int
    cosine: float
    entry: Entry
    description: dict[str, Any]


def _found(store: Store, number: int, cosine: float, entry: Entry) -> _Found:
    return _Found(number, cosine, entry, describe(store, entry))


@click.command("search", cls=Command)
@click.argument("store_dir", metavar="STORE", type=IN_FOLDER)
@click.argument("words", nargs=-1)
@click.option("--image", type=IN_FILE, help="A picture or a .clp file to search with (- is standard input).")
@click.option(
    "-k",
    "--count",
    type=click.IntRange(min=1),
    help=f"How many pictures; with --duplicates, groups. [default: {_COUNT}; all groups]",
)
@click.option(
    "--duplicates", is_flag=True, help="List pictures that the store has more than once, or nearly."
)
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1),
    help="With --duplicates: least cosine of two that count as the same. [default: 0.95]",
)
@click.option(
    "--sheet",
    type=OutputPath(PICTURE),
    help="Save previews of the results as one picture.",
)
@max_pixels_option
@codec_option
@model_options
@json_option
@device_option
@quiet_option
def search(
    store_dir: Path,
    words: tuple[str, ...],
    image: Path | None,
    duplicates: bool,
    threshold: float | None,
    sheet: Path | None,
    **options: Any,
) -> None:
    """Find the pictures of a store that are nearest to WORDS, or to a picture, by their streams alone.

    The index that makes it fast is kept in the store (search.index), and follows it as it grows.
    """
    text = " ".join(words).strip()
    if duplicates + (image is not None) + bool(words) != 1:
        raise ConfigError("a search is by words, by --image or for --duplicates: give one of them")
    if words and not text:
        raise ConfigError("the words to search for are empty")
    for word in words:
        if Path(word).suffix and os.path.isfile(word):  # noqa: PTH113, which no name is too long for
            raise ConfigError(f"{word} is a file, and no word: give it to --image to search by it")
    if threshold is not None and not duplicates:
        raise ConfigError("--threshold belongs to --duplicates: leave it out")
    if duplicates:
        _list_duplicates(store_dir, threshold, sheet, **options)
    else:
        _list_nearest(store_dir, text, image, sheet, **options)


def _list_nearest(
    store_dir: Path,
    text: str,
    image: Path | None,
    sheet: Path | None,
    count: int | None,
    json_path: Path | None,
    quiet: bool,
    **options: Any,
) -> None:
    store = _open(store_dir)
    if image:
        query = _image_query(store, image, quiet, **options)
    else:
        query = _embedder(store, quiet, **options).embed_text([text])[0]
    index = _index(store, quiet)
    hits = index.nearest(query, count or _COUNT)
    named = {"image": str(image)} if image else {"text": text}
    found = [_found(store, i, hit.cosine, hit.entry) for i, hit in enumerate(hits, start=1)]
    results = [{"rank": one.number, "cosine": one.cosine} | one.description for one in found]
    _give_out(index, "rank", found, {"query": named, "results": results}, json_path)
    if sheet:
        _write_sheet(store, f"Nearest to {image or text!r}", found, sheet, quiet)
    raise_failures(index.failures, len(store))


def _list_duplicates(
    store_dir: Path,
    threshold: float | None,
    sheet: Path | None,
    count: int | None,
    json_path: Path | None,
    quiet: bool,
    **_: Any,
) -> None:
    from clip_feature_codec.store.search.duplicates import DEFAULT_THRESHOLD, find_duplicates

    threshold = DEFAULT_THRESHOLD if threshold is None else threshold
    store = _open(store_dir)
    index = _index(store, quiet)
    with ProgressBars(quiet) as progress:
        groups = find_duplicates(index, threshold, progress)[:count]
    found, listed = [], []
    for number, group in enumerate(groups, start=1):
        members = [_found(store, number, twin.cosine, twin.entry) for twin in group]
        found += members
        listed.append(
            [
                one.description | {"cosine": twin.cosine, "nearest": twin.nearest.name}
                for one, twin in zip(members, group, strict=True)
            ]
        )
    _give_out(index, "group", found, {"threshold": threshold, "groups": listed}, json_path)
    remark(f"{len(groups)} groups of {len(found)} pictures with cosines of {threshold} or more", quiet)
    if sheet:
        _write_sheet(store, f"Cosines of {threshold} or more, by group", found, sheet, quiet)
    raise_failures(index.failures, len(store))


def _open(store_dir: Path) -> Store:
    from clip_feature_codec.store.opening import open_store

    store = open_store(store_dir)
    if not len(store):
        raise StoreError(f"{store_dir}: there are no pictures in this store")
    return store


def _index(store: Store, quiet: bool) -> SearchIndex:
    """The index of a store; refused where not one stream can be decoded."""
    from clip_feature_codec.store.search.nearest import SearchIndex

    with ProgressBars(quiet) as progress:
        index = SearchIndex.open(store, progress)
    if not len(index):
        raise_failures(index.failures, len(store))
    return index


def _embedder(
    store: Store, quiet: bool, model: str | None, pretrained: str | None, device: str, **_: Any
) -> Embedder:
    """The CLIP model of the store's space."""
    from clip_feature_codec.embed import embedder_for

    embedder = embedder_for(store.codec.space, model, pretrained, device)
    remark_on_model(embedder.space, quiet)
    return embedder


def _image_query(
    store: Store, image: Path, quiet: bool, codec_path: str | None, max_pixels: int, **options: Any
) -> np.ndarray:
    """The vector of a picture, or of a stream, which needs no CLIP model."""
    from clip_feature_codec.codec.bitstream import MAGIC

    data = read_bytes(image)
    if image.suffix.lower() != ".clp" and data[:1] != bytes([MAGIC]):
        picture = read_picture(image, max_pixels, data)
        embedded: np.ndarray = _embedder(store, quiet, **options).embed_images([picture])[0]
        return embedded
    bundle, stream = parse_stream(data, image, codec_path, store.folder)
    store.codec.space.require_same(bundle.codec.space, "standard input" if image == STDIO else str(image))
    with naming(image):
        decoded: np.ndarray = bundle.codec.vectors([stream])[0]
    return decoded


def _give_out(
    index: SearchIndex,
    counted: str,
    found: Sequence[_Found],
    result: dict[str, Any],
    json_path: Path | None,
) -> None:
    """Print the table, unless the JSON goes to standard output, and write the JSON where it is wanted."""
    if json_path != STDIO:
        cells = [(str(one.number), f"{one.cosine:.4f}") for one in found]
        echo_pictures([one.description for one in found], (counted, "cosine"), cells)
    record = {
        "store": str(index.store.folder),
        "clip_space": index.store.codec.space.fingerprint,
        "pictures": len(index),
        **result,
        "failures": [{"image": image, "reason": reason} for image, reason in index.failures],
    }
    write_json(record, json_path)


def _write_sheet(store: Store, title: str, found: Sequence[_Found], path: Path, quiet: bool) -> None:
    """Save the previews that are in the streams; an even field where a stream has none."""
    from clip_feature_codec.evaluate.contact_sheet import Tile, contact_sheet
    from clip_feature_codec.images import save_image

    tiles = []
    for one in found[:_MOST_TILES]:
        picture, size = _preview(store, one.entry)
        tiles.append(Tile(picture, size, (f"{one.number}   {one.cosine:.4f}", one.entry.name)))
    if len(found) > _MOST_TILES:
        remark(f"{path}: the first {_MOST_TILES} of {len(found)} pictures", quiet)
    if tiles and all(tile.picture is None for tile in tiles):
        remark(f"{path}: without previews, since the streams have no layout layer", quiet)
    save_image(contact_sheet(title, tiles), path)


def _preview(store: Store, entry: Entry) -> tuple[Image.Image | None, tuple[int, int]]:
    """The layout layer of a stream as a picture, if it has one, and the size of that picture."""
    from clip_feature_codec.evaluate.contact_sheet import CELL
    from clip_feature_codec.images import output_size
    from clip_feature_codec.preview import preview

    try:
        stream = store.read(entry)
        size = output_size(stream.aspect, CELL)
        return preview(stream, store.codec, CELL), size
    except MissingLayerError:
        return None, size
    except BitstreamError:  # gone since it was found
        return None, (CELL, CELL)
