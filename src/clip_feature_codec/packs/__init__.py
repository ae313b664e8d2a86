"""Models that come inside the package: weights, codec tables and a model card each."""

from __future__ import annotations

from pathlib import Path

DEFAULT_PACK = "mini"
PACK_DECODER = "decoder.safetensors"


def pack_folder(name: str) -> Path | None:
    """The folder of the pack called ``name``, or None when there is no such pack.

    It holds ``clip/`` (a model in open_clip's format), ``codec.json`` and ``decoder.safetensors``.
    """
    folder = Path(__file__).parent / name
    return folder if name.isidentifier() and (folder / "codec.json").is_file() else None
