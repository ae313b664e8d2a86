"""``clip-codec encode`` and its other form, ``python -m clip_feature_codec.cli.encode_images``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from clip_feature_codec.cli.command import Command
from clip_feature_codec.cli.common import (
    ProgressBars,
    device_option,
    json_option,
    make_rate,
    max_pixels_option,
    model_options,
    packed_option,
    quiet_option,
    raise_failures,
    rate_options,
    ray_option,
    read_picture,
    remark,
    remark_on_model,
    stack,
    write_bytes,
    write_json,
)
from clip_feature_codec.cli.paths import (
    IN_FOLDER,
    NamedOrOnHub,
    OutputPath,
    SourceName,
    absolute,
    absolute_source,
)
from clip_feature_codec.cli.reporting import resumable
from clip_feature_codec.errors import ConfigError
from clip_feature_codec.outputs.kinds import STORE, STREAM

if TYPE_CHECKING:
    from clip_feature_codec.codec.feature_codec import FeatureCodec
    from clip_feature_codec.codec.space import ClipSpace
    from clip_feature_codec.distributed.encoding import RayEncoding
    from clip_feature_codec.embed import Embedder
    from clip_feature_codec.encode import EncodeResult

_folder_options = stack(
    rate_options,
    click.option(
        "--batch-size",
        type=click.IntRange(min=1),
        default=32,
        show_default=True,
        help="Pictures per forward pass.",
    ),
    click.option(
        "--workers",
        type=click.IntRange(min=0),
        help="Processes that read pictures. [default: by cores and device]",
    ),
    max_pixels_option,
    click.option(
        "--sync",
        is_flag=True,
        help="Also take out what is gone from the source, and follow what was moved in a folder.",
    ),
    click.option(
        "--codec",
        "codec_path",
        type=NamedOrOnHub(),
        help="Tables to use: a pack, a store or a codec.json. [default: the pack's, or fitted on the store]",
    ),
    model_options,
    device_option,
    packed_option,
    ray_option,
    click.option(
        "--embedder-cores",
        type=click.IntRange(min=1),
        help="With --ray: cores of each process that embeds, where there is no GPU. [default: 1]",
    ),
    json_option,
    quiet_option,
)


@click.command("encode", cls=Command, large_products=False)
@click.argument("source", type=SourceName())
@click.option(
    "-o",
    "--out",
    type=OutputPath(STREAM, STORE, by="source"),
    required=True,
    help="The .clp file (- is standard output), or the store.",
)
@_folder_options
def encode(source: str, out: Path, **options: Any) -> None:
    """Encode a picture to a .clp file, or many pictures to a store.

    SOURCE is a picture (- is standard input); or a folder, which is searched recursively; or tars, as
    WebDataset makes them, or Parquet files with a column of pictures: one, several by a pattern such as
    'x-{000..099}.tar' or 'x-*.parquet', or a folder of them. Folders and archives may also be on object
    storage: s3://bucket/x/. Run again, it encodes what is new or was interrupted.
    """
    from clip_feature_codec.sources.patterns import is_source

    if is_source(source):
        _encode_source(source, out, **options)
    else:
        for name in ("sync", "packed", "ray_address", "embedder_cores"):
            if options.pop(name):
                option = name.removesuffix("_address").replace("_", "-")
                raise ConfigError(f"{source} is a file; --{option} is for a folder of pictures: leave it out")
        _encode_picture(Path(source), out, **options)


@click.command("encode_images", cls=Command, large_products=False)
@click.option("--img-dir", type=IN_FOLDER, required=True, help="Folder of pictures, searched recursively.")
@click.option("--out-dir", type=OutputPath(STORE), required=True, help="The store.")
@_folder_options
def main(img_dir: Path, out_dir: Path, **options: Any) -> None:
    """Encode a folder of pictures into CLIP features and build a store."""
    _encode_source(str(img_dir), out_dir, **options)


def _encode_source(
    source: str,
    out_dir: Path,
    sync: bool,
    packed: bool,
    ray_address: str | None,
    embedder_cores: int | None,
    batch_size: int,
    workers: int | None,
    codec_path: str | None,
    model: str | None,
    pretrained: str | None,
    device: str,
    json_path: Path | None,
    quiet: bool,
    max_pixels: int,
    **options: Any,
) -> None:
    from clip_feature_codec.encode import encode_source

    rate = make_rate(options)
    embedder = None
    if rate.layers != "layout":
        here = "cpu" if ray_address else device  # where it only says how pictures are read
        embedder = _embedder(out_dir, codec_path, model, pretrained, here)
        remark_on_model(embedder.space, quiet)
    codec = _tables(out_dir, codec_path, embedder.space if embedder else None, model)
    with resumable(), ProgressBars(quiet) as progress, ExitStack() as stack:
        elsewhere = None
        if ray_address:
            if workers is not None:
                raise ConfigError("--workers are processes of one machine: leave it out, or --ray")
            space = embedder.space if embedder else None
            elsewhere = stack.enter_context(
                _on_ray(ray_address, space, model, pretrained, device, embedder_cores or 1)
            )
            source = absolute_source(source)
        elif embedder_cores:
            raise ConfigError("--embedder-cores says what --ray should do: leave it out")
        result = encode_source(
            source,
            out_dir,
            embedder,
            codec,
            rate,
            sync=sync,
            packed=packed or elsewhere is not None,
            batch_size=batch_size,
            workers=workers,
            max_pixels=max_pixels,
            progress=progress,
            elsewhere=elsewhere,
        )
    record = _record(out_dir, result)
    _remark_on(record, sync, quiet)
    write_json(record, json_path)
    raise_failures(result.failures, result.added + result.unchanged + len(result.failures))


@contextmanager
def _on_ray(
    address: str,
    space: ClipSpace | None,
    model: str | None,
    pretrained: str | None,
    device: str,
    cores: int,
) -> Iterator[RayEncoding]:
    """A cluster that encodes, with the model of a space in processes of its own."""
    from clip_feature_codec.distributed.cluster import connected
    from clip_feature_codec.distributed.encoding import RayEncoding
    from clip_feature_codec.embed import embedder_for

    load = partial(embedder_for, space, absolute(model), absolute(pretrained), device) if space else None
    with connected(address):
        yield RayEncoding(load, device, cores)


def _remark_on(record: dict[str, Any], sync: bool, quiet: bool) -> None:
    """Say in a line what was done, and in another what was passed over."""
    from clip_feature_codec.sources.folder import count_kinds

    synced = ", {moved} moved, {removed} removed" if sync else ""
    text = "{store}: {added} pictures encoded, {unchanged} unchanged, {failed} failed" + synced
    text += "; {pictures} in all, {mean:.0f} bytes each ({profile} profile)"
    failed, mean = len(record["failures"]), record["bytes"] / max(1, record["pictures"])
    remark(text.format(**record, failed=failed, mean=mean), quiet)
    if record["skipped"]:
        remark(f"skipped: {count_kinds(record['skipped'])}", quiet)
    if record["skipped_inside"]:
        inside = ", ".join(f"{count} {kind}" for kind, count in record["skipped_inside"].items())
        remark(f"skipped in archives: {inside}", quiet)


def _record(out_dir: Path, result: EncodeResult) -> dict[str, Any]:
    totals = result.store.totals()
    return {
        "store": str(out_dir),
        "added": result.added,
        "unchanged": result.unchanged,
        "moved": result.moved,
        "removed": result.removed,
        "pictures": totals.pictures,
        "bytes": totals.bytes,
        "profile": result.store.codec.profile,
        "skipped": result.skipped,
        "skipped_inside": dict(result.skipped_inside.most_common()),
        "failures": [{"image": image, "reason": reason} for image, reason in result.failures],
    }


def _embedder(
    out_dir: Path, codec_path: str | None, model: str | None, pretrained: str | None, device: str
) -> Embedder:
    """The CLIP model asked for; if none is, that of the store or of the tables, else the default pack's.

    That of a store or of tables is loaded when it is needed, as it is not where there is nothing to do.
    """
    from clip_feature_codec.bundle import Bundle
    from clip_feature_codec.embed import DeferredEmbedder, embedder_for, load_embedder
    from clip_feature_codec.names import CODEC_FILE
    from clip_feature_codec.packs import DEFAULT_PACK

    known = out_dir if (out_dir / CODEC_FILE).is_file() else codec_path
    if model is None and known:
        space = Bundle.find(known).codec.space
        return DeferredEmbedder(space, lambda: embedder_for(space, None, pretrained, device))
    return load_embedder(model or DEFAULT_PACK, pretrained, device)


def _tables(
    out_dir: Path, codec_path: str | None, space: ClipSpace | None, model: str | None
) -> FeatureCodec | None:
    """The tables for a new store: those asked for, or the pack's; None when they are to be fitted."""
    from clip_feature_codec.bundle import IN_PACK, Bundle, find_pack
    from clip_feature_codec.names import CODEC_FILE
    from clip_feature_codec.packs import DEFAULT_PACK

    if codec_path is None:
        if space and space.pretrained != IN_PACK:
            return None
        pack = find_pack(space.model if space else model or DEFAULT_PACK)
        return pack.codec if pack else None
    codec = Bundle.find(codec_path).codec
    if (out_dir / CODEC_FILE).is_file():
        own = Bundle.find(out_dir).codec
        if own.tables_sha256 != codec.tables_sha256:
            raise ConfigError(
                f"store {out_dir} has tables of its own: leave out --codec, or start a new store"
            )
    return codec


def _encode_picture(
    source: Path,
    out: Path,
    codec_path: str | None,
    model: str | None,
    pretrained: str | None,
    device: str,
    json_path: Path | None,
    quiet: bool,
    max_pixels: int,
    **options: Any,
) -> None:
    from clip_feature_codec.api import ClipCodec
    from clip_feature_codec.bundle import find_pack
    from clip_feature_codec.packs import DEFAULT_PACK

    if model and not codec_path and not find_pack(model):
        raise ConfigError(
            "one picture cannot fit the tables of a CLIP model: name a store or codec.json of the same model "
            "with --codec, or encode a folder"
        )
    rate = make_rate(options)
    picture = read_picture(source, max_pixels)
    codec = ClipCodec.load(
        codec_path or model or DEFAULT_PACK, model=model, pretrained=pretrained, device=device
    )
    remark_on_model(codec.features.space, quiet)
    (blob,) = codec.encode_pictures([picture], rate)
    write_bytes(blob, out)
    profile = codec.features.profile
    remark(
        f"{out}: {len(blob)} bytes from {picture.width}×{picture.height} pixels ({profile} profile)", quiet
    )
    record = {
        "file": str(out),
        "bytes": len(blob),
        "profile": profile,
        "width": picture.width,
        "height": picture.height,
    }
    write_json(record, json_path)


if __name__ == "__main__":
    main()
