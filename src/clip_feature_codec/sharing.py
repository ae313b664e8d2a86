"""A codec as a pack that others can use: in a folder, and on a model hub."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from clip_feature_codec.bundle import IN_PACK
from clip_feature_codec.codec.feature_codec import FeatureCodec
from clip_feature_codec.codec.space import ClipSpace
from clip_feature_codec.decoders.checkpoint import export_decoder, load_decoder
from clip_feature_codec.embed.factory import save_model
from clip_feature_codec.errors import OutputError, StoreError
from clip_feature_codec.files import copy_atomic, write_atomic
from clip_feature_codec.names import (
    CARD_FILE,
    CLIP_FOLDER,
    CODEC_FILE,
    DECODER_FOLDER,
    GRAPHS_FILE,
    MANIFEST_FILES,
)
from clip_feature_codec.packs import may_be_shared

LIBRARY = "clip-feature-codec"
_TAGS = ["clip", "image-compression", "diffusion", "generative-codec"]


def save_pack(
    folder: Path,
    codec: FeatureCodec,
    decoder: Path | None = None,
    *,
    name: str = "",
    license: str | None = None,
) -> None:
    """Write a pack: its parts, and when these are all there, the tables.

    The CLIP model goes with it where it is a file or folder on this machine; a public one is named. A model
    card that is there already stays as it is.

    Args:
        folder: made if it is missing; a pack of the same tables in it is replaced.
        codec: the tables.
        decoder: our checkpoint, of the same CLIP space; None: a pack without one.
        name: what the pack is called in its card; by default as the folder.
        license: of the weights, as hubs call it: ``mit``, ``apache-2.0``, ``cc-by-4.0``, ...

    Raises:
        OutputError: there is a store, or there are other tables, which somebody's streams may need.
        SpaceMismatchError: the decoder is of another CLIP space.
        CheckpointError: the decoder cannot be read.
        ModelError: the CLIP model cannot be read, or is none that can be given away.
    """
    _require_free(folder, codec)
    name, space = name or folder.resolve().name, codec.space
    if save_model(space, folder / CLIP_FOLDER):
        space = replace(space, model=name.rpartition("/")[2], pretrained=IN_PACK)
    shared = replace(codec, space=space)
    about = ["- decoder: none; train one, or name another with `--decoder`"]
    if decoder:
        loaded = load_decoder(decoder)
        space.require_same(loaded.space, f"decoder {decoder}")
        _give_decoder(decoder, folder / DECODER_FOLDER, space)
        layouts = f"layouts of {loaded.layout_side} pixels" if loaded.layout_side else "no layouts"
        weights = sum(value.numel() for value in loaded.weights().values())
        about = [
            f"- decoder: {weights:,} weights, paints {loaded.image_size} pixels, takes {layouts}; "
            f"SHA-256 of weights and configuration `{loaded.identity()}`"
        ]
    if not (folder / CARD_FILE).exists():
        write_atomic(folder / CARD_FILE, _card(name, shared, about, license).encode())
    shared.save(folder / CODEC_FILE)


def _give_decoder(decoder: Path, folder: Path, space: ClipSpace) -> None:
    """Write the decoder as its pack is called; with graphs as it is, since they point into its very bytes."""
    if (decoder.parent / GRAPHS_FILE).is_file():
        for path in filter(may_be_shared, decoder.parent.iterdir()):
            copy_atomic(path, folder / path.name)
    else:
        export_decoder(decoder, folder, space)


def _require_free(folder: Path, codec: FeatureCodec) -> None:
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file; a pack is a folder")
    if any((folder / name).exists() for name in MANIFEST_FILES):
        raise OutputError(f"{folder} is a store: name another folder for the pack")
    file = folder / CODEC_FILE
    if file.exists():
        try:
            same = FeatureCodec.load(file).tables_sha256 == codec.tables_sha256
        except StoreError:
            same = False
        if not same:
            raise OutputError(f"{file} has other tables, and streams may need them: name another folder")


def _card(name: str, codec: FeatureCodec, about: list[str], license: str | None) -> str:
    """What a pack says of itself, with the metadata that hubs read at its head."""
    from huggingface_hub import ModelCardData

    metadata = ModelCardData(license=license, library_name=LIBRARY, tags=_TAGS, pipeline_tag="image-to-image")
    space = codec.space
    own = space.pretrained == IN_PACK
    clip = f"its own, in `{CLIP_FOLDER}/`" if own else f"`{space.model}`, weights `{space.pretrained}`"
    call = f'ClipCodec.from_pretrained("{name}")'
    lines = [
        f"---\n{metadata.to_yaml()}\n---\n",
        f"# {name}\n",
        f"A pack of {LIBRARY}: pictures as CLIP features in a few hundred bytes, and painted again.\n",
        f"- CLIP model: {clip}; {space.dim} numbers, space `{space.fingerprint}`",
        f"- tables: profile `{codec.profile}`, SHA-256 `{codec.tables_sha256}`",
        *about,
        f"- licence of the weights: {license or 'not stated'}\n",
        f"```python\nfrom clip_feature_codec import ClipCodec\n\ncodec = {call}",
        'blob = codec.encode("photo.jpg", max_bytes=140)\ncodec.decode(blob).save("again.png")\n```\n',
        "What it was learned from, what it is good for and what it must not be used for: not stated yet. "
        "A decoded picture is an invention that fits the stream, never evidence of what a photograph showed.",
    ]
    return "\n".join(lines) + "\n"
