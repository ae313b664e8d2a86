"""Packs: weights, codec tables and a model card in one folder. Some come inside the package.

The folder holds ``codec.json``; the CLIP model in ``clip/``, or in ``codec.json`` its name where everybody
can have it by that; ``decoder/`` with ``config.json`` and ``model.safetensors``; and the card, ``README.md``.
On a model hub it is a repository.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePath, PurePosixPath

from clip_feature_codec.names import (
    CARD_FILE,
    CLIP_FOLDER,
    CODEC_FILE,
    DECODER_FILE,
    DECODER_FOLDER,
    OLD_PACK_DECODER,
    WEIGHTS_FILE,
)

DEFAULT_PACK = "mini"
PARTS = ("", CLIP_FOLDER, DECODER_FOLDER)
"""The folders of a pack that hold weights, perhaps."""

_ENDINGS = (".safetensors", ".onnx", ".json", ".txt", ".gz", ".model")


def pack_folder(name: str) -> Path | None:
    """The folder of the pack inside the package called ``name``, or None when there is no such pack."""
    folder = Path(__file__).parent / name
    return folder if name.isidentifier() and (folder / CODEC_FILE).is_file() else None


def pack_names() -> list[str]:
    """The names of all packs inside the package, the default one first."""
    names = [file.parent.name for file in Path(__file__).parent.glob(f"*/{CODEC_FILE}")]
    return sorted(names, key=lambda name: (name != DEFAULT_PACK, name))


def clip_in(folder: Path) -> Path | None:
    """The CLIP model of a pack's folder, where it has one of its own."""
    clip = folder / CLIP_FOLDER
    return clip if any(clip.glob("*.json")) else None


def decoder_in(folder: Path) -> Path | None:
    """Our decoder's file in the folder of a store, of a pack, or of the decoder; None where there is none."""
    names = (DECODER_FILE, f"{DECODER_FOLDER}/{WEIGHTS_FILE}", OLD_PACK_DECODER, WEIGHTS_FILE)
    return next((file for name in names if (file := folder / name).is_file()), None)


def files_of(part: str, names: Iterable[str]) -> list[str]:
    """Of the files of a folder or a repository, those that make a part of a pack.

    Args:
        part: ``clip``, ``decoder``, or empty for tables and card.
        names: relative to the folder, with ``/``.
    """
    if not part:
        return [name for name in names if name in (CODEC_FILE, CARD_FILE)]
    paths = map(PurePosixPath, names)
    return [str(path) for path in paths if path.parts[0] == part and may_be_shared(path)]


def may_be_shared(path: PurePath) -> bool:
    """Whether a file is of a kind that can be in a pack: no pickle, by its ending."""
    return path.suffix in _ENDINGS
