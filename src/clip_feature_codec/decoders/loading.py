"""A decoder by its path or its name on a hub: the one place that knows the kinds."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from clip_feature_codec.devices import pick_device
from clip_feature_codec.errors import CheckpointError
from clip_feature_codec.hub import is_hub_name, look
from clip_feature_codec.names import ADDED, DECODER_FILE, PACK_DECODER, PIPELINE_FILE

if TYPE_CHECKING:
    from clip_feature_codec.decoders.protocol import Decoder


def open_decoder(source: str | Path, device: str = "auto") -> Decoder:
    """Load a decoder.

    Args:
        source: a checkpoint of ours; the folder of a pack or a store, which has one; the folder of a pipeline
            of diffusers, known by its ``model_index.json``, and behind a ``+`` the file of its IP-Adapter; or
            such a folder's name on the hub, ``user/name`` or ``user/name@revision``. What lies on this
            machine goes before what the hub has.
        device: see `clip_feature_codec.devices.pick_device`.

    Raises:
        CheckpointError: there is nothing of that name, or it is no decoder, damaged, or not safetensors.
        HubError: it is on the hub and cannot be had.
    """
    target = pick_device(device)
    main, _, adapter = (str(source), "", "") if Path(source).exists() else str(source).partition(ADDED)
    place = _from_hub(main) if is_hub_name(main) else Path(main)
    if (place / PIPELINE_FILE).is_file():
        from clip_feature_codec.decoders.diffusers.loading import load_pipeline

        return load_pipeline(place, adapter, target)
    if adapter:
        raise CheckpointError(f"{source}: an IP-Adapter goes with a pipeline of diffusers; {main} is none")
    from clip_feature_codec.decoders.checkpoint import load_decoder

    return load_decoder(_checkpoint_in(place), target)


def _from_hub(name: str) -> Path:
    """The folder in the hub's cache, with the files that a decoder needs."""
    repository = look(name)
    repository.require_safe()
    return repository.download(_wanted(name, repository.files.keys()))


def _wanted(name: str, files: Collection[str]) -> Collection[str]:
    """Of a repository's files, those that make a decoder."""
    if PIPELINE_FILE in files:
        from clip_feature_codec.decoders.diffusers.files import wanted_files

        return wanted_files(name, files)
    if PACK_DECODER in files:
        return [PACK_DECODER]
    raise CheckpointError(f"{name}: no decoder there: neither {PIPELINE_FILE} nor {PACK_DECODER}")


def _checkpoint_in(place: Path) -> Path:
    """Our checkpoint: the file itself, or the one in a pack's or a store's folder."""
    if not place.is_dir():
        return place
    files = [place / name for name in (DECODER_FILE, PACK_DECODER)]
    found = next((file for file in files if file.is_file()), None)
    if found is None:
        names = f"{PIPELINE_FILE}, {PACK_DECODER} or {DECODER_FILE}"
        raise CheckpointError(f"{place}: no decoder in this folder, expected {names}")
    return found
