"""``clip-codec encode`` and SPEC's ``python -m clip_feature_codec.cli.encode_images``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from clip_feature_codec.cli.common import (
    PATH,
    STDIO,
    Command,
    device_option,
    json_option,
    model_options,
    quiet_option,
    raise_failures,
    read_bytes,
    remark,
    remark_on_model,
    write_bytes,
    write_json,
)
from clip_feature_codec.errors import ConfigError

_folder_options = [
    click.option("--batch-size", type=click.IntRange(min=1), default=32, show_default=True, help="Pictures per forward pass."),
    click.option("--workers", type=click.IntRange(min=0), help="Processes that read pictures. [default: cores - 1]"),
    click.option("--codec", "codec_path", type=PATH, help="Tables to use: a store or a codec.json. [default: the pack's, or fitted on the store]"),
    model_options,
    device_option,
    json_option,
    quiet_option,
]  # fmt: skip


def _with_folder_options(function: Any) -> Any:
    for option in reversed(_folder_options):
        function = option(function)
    return function


@click.command("encode", cls=Command)
@click.argument("source", type=PATH)
@click.option(
    "-o", "--out", type=PATH, required=True, help="The .clp file (- is standard output), or the store."
)
@_with_folder_options
def encode(source: Path, out: Path, **options: Any) -> None:
    """Encode a picture to a .clp file, or a folder of pictures to a store.

    SOURCE is a picture (- is standard input) or a folder, which is searched recursively. Run again, it
    encodes what is new or was interrupted.
    """
    if source.is_dir():
        _encode_folder(source, out, **options)
    else:
        _encode_picture(source, out, **options)


@click.command("encode_images", cls=Command)
@click.option("--img-dir", type=PATH, required=True, help="Folder of pictures, searched recursively.")
@click.option("--out-dir", type=PATH, required=True, help="The store.")
@_with_folder_options
def main(img_dir: Path, out_dir: Path, **options: Any) -> None:
    """Encode a folder of pictures into CLIP features and build a store."""
    _encode_folder(img_dir, out_dir, **options)


def _encode_folder(
    img_dir: Path,
    out_dir: Path,
    batch_size: int,
    workers: int | None,
    codec_path: Path | None,
    model: str | None,
    pretrained: str | None,
    device: str,
    json_path: Path | None,
    quiet: bool,
) -> None:
    from clip_feature_codec.codec.feature_codec import FeatureCodec
    from clip_feature_codec.embed import ClipEmbedder
    from clip_feature_codec.encode import encode_folder
    from clip_feature_codec.packs import DEFAULT_PACK, pack_folder
    from clip_feature_codec.store.feature_store import CODEC_FILE

    if out_dir.exists() and not out_dir.is_dir():
        raise ConfigError(f"{out_dir} is a file; a folder of pictures is encoded to a store, a folder")
    known = out_dir / CODEC_FILE
    if model is None and known.is_file():
        embedder = ClipEmbedder.for_space(FeatureCodec.load(known).space, None, pretrained, device)
    else:
        embedder = ClipEmbedder.load(model or DEFAULT_PACK, pretrained, device)
    remark_on_model(embedder.space, quiet)
    codec = None
    if codec_path:
        codec = FeatureCodec.load(codec_path / CODEC_FILE if codec_path.is_dir() else codec_path)
    elif pack := pack_folder(embedder.space.model):
        codec = FeatureCodec.load(pack / CODEC_FILE)
    result = encode_folder(
        img_dir, out_dir, embedder, codec, batch_size=batch_size, workers=workers, quiet=quiet
    )
    total = sum(entry.bytes for entry in result.store.entries)
    pictures = len(result.store)
    remark(
        f"{out_dir}: {result.added} pictures encoded, {result.unchanged} unchanged, {len(result.failures)} failed; "
        f"{pictures} in all, {total / max(1, pictures):.0f} bytes each (int8 profile)",
        quiet,
    )
    record = {"store": str(out_dir), "added": result.added, "unchanged": result.unchanged, "pictures": pictures,
              "bytes": total, "failures": [{"image": i, "reason": r} for i, r in result.failures]}  # fmt: skip
    write_json(record, json_path)
    raise_failures(result.failures, result.added + len(result.failures))


def _encode_picture(
    source: Path,
    out: Path,
    codec_path: Path | None,
    model: str | None,
    pretrained: str | None,
    device: str,
    json_path: Path | None,
    quiet: bool,
    **_: Any,
) -> None:
    from clip_feature_codec.api import ClipCodec
    from clip_feature_codec.images import load_image
    from clip_feature_codec.packs import DEFAULT_PACK, pack_folder

    if model and not codec_path and not pack_folder(model):
        raise ConfigError(
            "one picture cannot fit the tables of a CLIP model: name a store or codec.json of the same model "
            "with --codec, or encode a folder"
        )
    if out.is_dir():
        raise ConfigError(f"{out} is a folder; one picture is encoded to a file: name it")
    codec = ClipCodec.load(
        codec_path or model or DEFAULT_PACK, model=model, pretrained=pretrained, device=device
    )
    remark_on_model(codec.features.space, quiet)
    picture = load_image(read_bytes(source) if source == STDIO else source)
    blob = codec.encode(picture)
    write_bytes(blob, out)
    remark(f"{out}: {len(blob)} bytes from {picture.width}×{picture.height} pixels (int8 profile)", quiet)
    write_json(
        {"file": str(out), "bytes": len(blob), "width": picture.width, "height": picture.height}, json_path
    )


if __name__ == "__main__":
    main()
