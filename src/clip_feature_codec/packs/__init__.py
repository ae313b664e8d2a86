"""Models that come inside the package: weights, codec tables and a model card each."""

from __future__ import annotations

from pathlib import Path

from clip_feature_codec.names import CODEC_FILE

DEFAULT_PACK = "mini"


def pack_folder(name: str) -> Path | None:
    """The folder of the pack called ``name``, or None when there is no such pack.

    It holds ``clip/`` (a model in open_clip's format), ``codec.json`` and ``decoder.safetensors``.
    """
    folder = Path(__file__).parent / name
    return folder if name.isidentifier() and (folder / CODEC_FILE).is_file() else None


def pack_names() -> list[str]:
    """The names of all packs, the default one first."""
    names = [file.parent.name for file in Path(__file__).parent.glob(f"*/{CODEC_FILE}")]
    return sorted(names, key=lambda name: (name != DEFAULT_PACK, name))
