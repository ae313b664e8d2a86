"""``clip-codec fit``: codec tables for any CLIP model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from clip_feature_codec.cli.command import Command
from clip_feature_codec.cli.common import (
    ProgressBars,
    device_option,
    json_option,
    max_pixels_option,
    model_options,
    quiet_option,
    raise_failures,
    remark,
    write_json,
)
from clip_feature_codec.cli.paths import IN_PATH, NAMED_FILE, NamedOrOnHub, OutputPath
from clip_feature_codec.errors import ConfigError, StoreError
from clip_feature_codec.outputs.kinds import CODEC

if TYPE_CHECKING:
    import numpy as np

    from clip_feature_codec.codec.space import ClipSpace
    from clip_feature_codec.progress import Progress


_UNIT = 1e-4
"""Vectors whose mean length is no farther from 1 were brought to unit length by somebody."""


@click.command("fit", cls=Command)
@click.argument("source", type=IN_PATH)
@click.option("-o", "--out", type=OutputPath(CODEC), required=True, help="The codec.json.")
@click.option(
    "--space",
    "space_path",
    type=NamedOrOnHub(),
    help="Store or codec.json of the CLIP model that .npy vectors come from. [default: that of --model]",
)
@click.option(
    "--space-name",
    metavar="MODEL/WEIGHTS",
    help="What the CLIP model of .npy vectors is called, where it is not at hand, such as ViT-L-14/openai.",
)
@click.option(
    "--same-as",
    "same_path",
    type=NamedOrOnHub(),
    help="Store or codec.json of a CLIP model: that of --space-name, or of a store made with such tables, is "
    "said to be the same.",
)
@click.option(
    "--queries",
    "queries_path",
    type=NAMED_FILE,
    help=".npy file of vectors (M, D) that coded ones will be searched with, such as those of words: "
    "directions in which they differ are coded more finely.",
)
@max_pixels_option
@model_options
@device_option
@json_option
@quiet_option
def fit(
    source: Path,
    out: Path,
    same_path: str | None,
    queries_path: Path | None,
    json_path: Path | None,
    quiet: bool,
    **options: Any,
) -> None:
    """Fit tables of the klt profile, to be used with encode --codec and transcode --codec.

    SOURCE is a store, a .npy file of vectors (N, D), or a folder of pictures, embedded with --model. Vectors
    of a model that is only called by its name go with others of that name, and with no model that is known
    until it is said to be --same-as that.
    The more vectors the better: a thousand are a beginning, and a million need no more memory.
    """
    import numpy as np

    from clip_feature_codec.codec.feature_codec import FeatureCodec
    from clip_feature_codec.fit import open_npy

    failures: list[tuple[str, str]] = []
    counts: list[int] = []
    lengths: list[float] = []
    with ProgressBars(quiet) as progress:
        space, blocks = _vectors(source, failures, progress, **options)
        if same_path:
            from clip_feature_codec.bundle import Bundle

            space = space.said_to_be(Bundle.find(same_path).codec.space)
        queries = None if queries_path is None else np.asarray(open_npy(queries_path), np.float32)
        blocks = _some(_counted(blocks, counts, lengths), source, failures)
        codec = FeatureCodec.fit_klt(blocks, space, queries)
    codec = replace(codec, vector_length=_mean_length(source, lengths, sum(counts)))
    codec.save(out)
    record = {
        "codec": str(out),
        "profile": codec.profile,
        "codec_id": codec.codec_id.hex(),
        "clip_space": space.fingerprint,
        "vectors": sum(counts),
    }
    remark(f"{out}: {codec.profile} tables of {space.label}, fitted on {sum(counts)} vectors", quiet)
    write_json(record, json_path)
    raise_failures(failures, sum(counts) + len(failures))


def _vectors(
    source: Path,
    failures: list[tuple[str, str]],
    progress: Progress,
    space_path: str | None,
    space_name: str | None,
    model: str | None,
    pretrained: str | None,
    device: str,
    max_pixels: int,
) -> tuple[ClipSpace, Iterator[np.ndarray]]:
    """The vectors to fit on, and the CLIP space that they belong to."""
    from clip_feature_codec.codec.space import ClipSpace
    from clip_feature_codec.fit import open_npy, picture_blocks, row_blocks, store_blocks
    from clip_feature_codec.names import CODEC_FILE
    from clip_feature_codec.store.opening import open_store

    named = {"--space": space_path, "--space-name": space_name, "--model": model}
    given = [option for option, value in named.items() if value]
    if len(given) > 1:
        raise ConfigError(f"{' and '.join(given)} all name a CLIP model: give one of them")
    if (source / CODEC_FILE).is_file():
        if given:
            raise ConfigError(f"{source} is a store, which knows its CLIP model: leave out {given[0]}")
        store = open_store(source)
        return store.codec.space, store_blocks(store, progress)
    if not source.is_dir():
        rows = open_npy(source)
        if not given:
            known = ", ".join(named)
            raise ConfigError(f"{source}: whose vectors are they? name the CLIP model with one of {known}")
        if space_name:
            space = ClipSpace.named(space_name, rows.shape[1])
        else:
            space = _space(space_path, model, pretrained, device)
        return space, row_blocks(rows, progress)
    if space_path or space_name:
        raise ConfigError(f"{source} is a folder of pictures, which --model embeds: leave out {given[0]}")
    from clip_feature_codec.embed import load_embedder
    from clip_feature_codec.packs import DEFAULT_PACK
    from clip_feature_codec.sources.folder import scan_folder

    embedder = load_embedder(model or DEFAULT_PACK, pretrained, device)
    scan = scan_folder(source)
    failures.extend(scan.failures)
    paths = [source / name for name in scan.pictures]
    return embedder.space, picture_blocks(paths, embedder, failures, progress, max_pixels)


def _space(space_path: str | None, model: str | None, pretrained: str | None, device: str) -> ClipSpace:
    """The CLIP space that vectors without a store are said to be of."""
    if space_path:
        from clip_feature_codec.bundle import Bundle

        return Bundle.find(space_path).codec.space
    from clip_feature_codec.embed import load_embedder

    return load_embedder(str(model), pretrained, device).space


def _some(
    blocks: Iterator[np.ndarray], source: Path, failures: Sequence[tuple[str, str]]
) -> Iterator[np.ndarray]:
    """The blocks as they are, where there are any; else why there are none is raised."""
    first = next(blocks, None)
    if first is None:
        raise_failures(failures, len(failures))
        raise StoreError(f"{source}: no pictures and no vectors there")
    yield first
    yield from blocks


def _counted(blocks: Iterator[np.ndarray], counts: list[int], lengths: list[float]) -> Iterator[np.ndarray]:
    """The blocks as they are, while it is written down how many vectors they have and how long those are."""
    from clip_feature_codec.codec.semantic.vectors import lengths as lengths_of

    for block in blocks:
        counts.append(len(block))
        lengths.append(float(lengths_of(block).sum()))
        yield block


def _mean_length(source: Path, sums: list[float], count: int) -> float | None:
    """How long vectors are before coding: of a store, as its tables say; None where all have unit length."""
    from clip_feature_codec.bundle import Bundle
    from clip_feature_codec.names import CODEC_FILE

    if (source / CODEC_FILE).is_file():
        return Bundle.find(source).codec.vector_length
    mean = sum(sums) / count
    return None if abs(mean - 1) < _UNIT else mean
