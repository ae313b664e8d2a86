"""The file that holds a decoder: tensors and a configuration in safetensors, checked when it is read.

Nothing in such a file is ever run. Its metadata have one entry, ``decoder``: the configuration as JSON, with
a checksum of it and of the tensors, since safetensors has none. Before version 3 the same contents were what
``torch.save`` makes of plain types; those files are read as well, with ``weights_only=True``. Which of the
two a file is, its first bytes say and not its name: ``diffusion_unet_final.pt`` is the name of either.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save

from clip_feature_codec.codec.space import canonical_json
from clip_feature_codec.errors import CheckpointError
from clip_feature_codec.files import write_atomic

FORMAT = "clip-feature-codec decoder"
VERSION = 3
_BEFORE_UPSAMPLERS = 1
_FIELDS: dict[str, type] = {
    "unet": dict,
    "scheduler": dict,
    "space": dict,
    "image_size": int,
    "weights": dict,
    "upsampler": dict,
    "upsampler_weights": dict,
    "extra": dict,
}
_ENTRY = "decoder"
_CHECKSUM = "sha256"
_ZIP = b"PK\x03\x04"  # every file of torch.save is a zip archive
_JSON = b"{"  # follows the eight bytes of length that a safetensors file begins with


def content_digest(facts: Mapping[str, Any], tensors: Mapping[str, NDArray[np.floating]]) -> str:
    """SHA-256, in hex, of JSON-able facts and of each tensor's name, dtype as torch has it, shape, values."""
    digest = hashlib.sha256(canonical_json(facts))
    for name, value in sorted(tensors.items()):
        digest.update(f"\n{name} torch.{value.dtype} {value.shape}\n".encode())
        digest.update(np.ascontiguousarray(value).data)
    return digest.hexdigest()


def write_container(path: Path, facts: dict[str, Any], tensors: dict[str, NDArray[np.floating]]) -> None:
    """Write a file whole or not at all.

    Args:
        path: the file.
        facts: JSON-able.
        tensors: float32 or float16.
    """
    described = canonical_json(facts | {_CHECKSUM: content_digest(facts, tensors)})
    contiguous = {name: np.ascontiguousarray(value) for name, value in tensors.items()}  # save takes no other
    write_atomic(path, save(contiguous, {_ENTRY: described.decode()}), durable=True)


def read_container(path: Path) -> dict[str, Any]:
    """Read a decoder's file: the facts in it, ``weights``, and ``upsampler_weights`` by their bare names.

    The weights are arrays or, in a file from before version 3, whatever lies there: tensors if it is whole.

    Raises:
        CheckpointError: it cannot be read, is damaged, is another kind of file, or does not say all that it
            should.
    """
    try:
        with path.open("rb") as file:
            begins = file.read(9)
        if begins[:4] == _ZIP:
            content = _read_archive(path)
        elif begins[8:] == _JSON:
            content = _read_safetensors(path)
        else:
            content = None
    except CheckpointError:
        raise
    except OSError as error:
        raise CheckpointError(f"{path}: cannot read the decoder checkpoint: {error.strerror}") from error
    except Exception as error:  # both readers raise whatever the damage leads to
        raise CheckpointError(
            f"{path}: damaged, or holds more than plain weights; it was refused and nothing in it was run"
        ) from error
    return _checked(path, content)


def read_facts(path: Path) -> dict[str, Any]:
    """Read the facts alone, without the weights, out of a safetensors file that is known to be whole."""
    with safe_open(path, "np") as file:
        facts: dict[str, Any] = json.loads(file.metadata()[_ENTRY])
    return facts


def _checked(path: Path, content: Any) -> dict[str, Any]:
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CheckpointError(f"{path}: not a decoder checkpoint; give a file that training has written")
    version = content.get("version")
    if type(version) is not int or not _BEFORE_UPSAMPLERS <= version <= VERSION:
        raise CheckpointError(
            f"{path}: decoder checkpoint of version {version!r}; "
            f"this program reads {_BEFORE_UPSAMPLERS} to {VERSION}"
        )
    if version == _BEFORE_UPSAMPLERS:
        content |= {"upsampler": {}, "upsampler_weights": {}}
    for name, kind in _FIELDS.items():
        if name not in content:
            raise CheckpointError(f"{path}: the decoder checkpoint has no field {name!r}")
        if type(content[name]) is not kind:
            found = type(content[name]).__name__
            raise CheckpointError(f"{path}: field {name!r} is of type {found}, expected {kind.__name__}")
    return content


def _read_safetensors(path: Path) -> Any:
    with safe_open(path, "np") as file:
        described = (file.metadata() or {}).get(_ENTRY)
        if described is None:
            return None
        facts = json.loads(described)
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
        checksum = facts.pop(_CHECKSUM)
        if checksum != content_digest(facts, tensors):
            raise _damaged(path, "of the whole")
    upsampler = {name for name in tensors if name.startswith("upsampler.")}
    return facts | {
        "weights": {name.removeprefix("unet."): tensors[name] for name in tensors.keys() - upsampler},
        "upsampler_weights": {name.removeprefix("upsampler."): tensors[name] for name in upsampler},
    }


def _read_archive(path: Path) -> Any:
    from zipfile import ZipFile

    import torch

    with ZipFile(path) as archive:  # torch.load does not look at the checksums
        damaged = archive.testzip()
    if damaged is not None:
        raise _damaged(path, f"of {damaged!r}")
    return torch.load(path, map_location="cpu", weights_only=True)


def _damaged(path: Path, where: str) -> CheckpointError:
    return CheckpointError(f"{path}: damaged (checksum {where}); copy or train it again")
