"""Which files of a pipeline's folder are needed, and that their weights are safetensors."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from clip_feature_codec.embed.configuration import read_json
from clip_feature_codec.errors import CheckpointError, ModelError
from clip_feature_codec.files import file_sha256
from clip_feature_codec.names import PIPELINE_FILE

_SAFE = ".safetensors"
_OTHERS = (".bin", ".ckpt", ".pt", ".pth", ".pkl", ".msgpack", ".h5")
_TEXTS = (".json", ".txt", ".model")
_LIBRARIES = ("diffusers", "transformers", "stable_diffusion", "wuerstchen")
"""Where the parts of the pipelines that are known here come from; nothing else is imported for a folder."""


def read_index(folder: Path) -> dict[str, Any]:
    """What the ``model_index.json`` of a folder says.

    Raises:
        CheckpointError: it is no such file.
    """
    try:
        return read_json(folder / PIPELINE_FILE)
    except ModelError as error:
        raise CheckpointError(str(error)) from None


def wanted_files(name: str, files: Collection[str], parts: Collection[str], *, half: bool) -> list[str]:
    """Of a repository's files, those that some parts of a pipeline need.

    Args:
        name: of the repository, for messages.
        files: all names in it.
        parts: the folders.
        half: take weights in half precision where there are any.

    Raises:
        CheckpointError: the weights of a part are no safetensors.
    """
    wanted = [file for file in (PIPELINE_FILE, "README.md") if file in files]
    inside = {part: [file for file in files if file.rpartition("/")[0] == part] for part in parts}
    weights = {part: weights_among(f"{name}: {part}", inside[part], half=half) for part in parts}
    if not all(_is_half(file) for names in weights.values() for file in names):
        weights = {part: weights_among(f"{name}: {part}", inside[part], half=False) for part in parts}
    for part in parts:
        wanted += weights[part] + [file for file in inside[part] if file.endswith(_TEXTS)]
    return wanted


def weights_among(where: str, names: Collection[str], *, half: bool) -> list[str]:
    """The files with the weights of one part, none where it has none.

    Raises:
        CheckpointError: there are some, and they are no safetensors.
    """
    safe = sorted(name for name in names if name.endswith(_SAFE) and ".non_ema." not in name)
    others = [name for name in names if name.endswith(_OTHERS)]
    if others and not safe:
        raise CheckpointError(f"{where}: found {others[0]}, which can run anything; expected {_SAFE} files")
    in_half = [name for name in safe if _is_half(name)]
    whole = [name for name in safe if name not in in_half]
    return in_half if (half and in_half) or not whole else whole


def _is_half(name: str) -> bool:
    """Whether weights are in half precision; if in several files, ``x.fp16-00001-of-00002.x``."""
    return ".fp16." in name or ".fp16-" in name


def part_files(folder: Path, part: str, *, half: bool) -> list[Path]:
    """The files of one part of a pipeline that decide what it does, its weights first.

    Raises:
        CheckpointError: the weights are no safetensors.
    """
    there = sorted(path for path in (folder / part).glob("*") if path.is_file())
    weights = weights_among(str(folder / part), [path.name for path in there], half=half)
    return [folder / part / name for name in weights] + [path for path in there if path.suffix in _TEXTS]


def has_half(folder: Path, parts: Sequence[str]) -> bool:
    """Whether all weights of some parts are there in half precision as well."""
    found = [part_files(folder, part, half=True) for part in parts]
    weights = [[file.name for file in files if file.suffix == _SAFE] for files in found]
    return all(_is_half(name) for names in weights for name in names)


def check_parts(folder: Path, index: dict[str, Any], parts: Sequence[str], *, half: bool) -> None:
    """Refuse a folder that lacks a part, or has one of a foreign library or with unsafe weights.

    Raises:
        CheckpointError: it is refused.
    """
    for part in parts:
        library = index.get(part, [None])[0]
        if library not in _LIBRARIES or not (folder / part).is_dir():
            raise CheckpointError(f"{folder}: this pipeline has no usable part {part!r}")
        part_files(folder, part, half=half)


def weights_size(folder: Path, parts: Sequence[str]) -> int:
    """Bytes of the weights of some parts, in half precision."""
    size = 0
    for part in parts:
        for file in part_files(folder, part, half=True):
            if file.suffix == _SAFE:
                size += file.stat().st_size // (1 if _is_half(file.name) else 2)
    return size


def digest_of(files: Sequence[Path], root: Path, facts: str) -> str:
    """SHA-256, in hex, of files' names inside ``root`` and their contents, and of some facts."""
    digest = hashlib.sha256(facts.encode())
    for path in files:
        name = path.relative_to(root) if path.is_relative_to(root) else path.name
        digest.update(f"\n{name} {file_sha256(path)}".encode())
    return digest.hexdigest()
