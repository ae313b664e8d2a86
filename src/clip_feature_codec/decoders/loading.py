"""A decoder by its path or its name on a hub: the one place that knows the kinds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from clip_feature_codec.devices import pick_device
from clip_feature_codec.errors import CheckpointError
from clip_feature_codec.extras import extra
from clip_feature_codec.names import (
    ADDED,
    DECODER_FILE,
    DECODER_FOLDER,
    PIPELINE_FILE,
    is_hub_name,
    split_inside,
)
from clip_feature_codec.packs import decoder_in, files_of, pack_folder

if TYPE_CHECKING:
    from clip_feature_codec.decoders.protocol import Decoder


def open_decoder(source: str | Path, device: str = "auto") -> Decoder:
    """Load a decoder.

    Args:
        source: a checkpoint of ours; a pack by its name or folder, or a store's folder, which have one; the
            folder of a pipeline of diffusers, known by its ``model_index.json``, and behind a ``+`` the file
            of its IP-Adapter; or the name of a pack or pipeline on the hub, ``user/name`` or
            ``user/name@revision``. What lies on this machine goes before what the hub has.
        device: see `clip_feature_codec.devices.pick_device`.

    Raises:
        CheckpointError: there is nothing of that name, or it is no decoder, damaged, or not safetensors.
        HubError: it is on the hub and cannot be had.
    """
    main, _, adapter = (str(source), "", "") if Path(source).exists() else str(source).partition(ADDED)
    place = _place(main, device)
    if (place / PIPELINE_FILE).is_file():
        return _pipeline(place, main, adapter, device)
    if adapter:
        raise CheckpointError(f"{source}: an IP-Adapter goes with a pipeline of diffusers; {main} is none")
    from clip_feature_codec.decoders.running import load_checkpoint

    return load_checkpoint(_checkpoint_in(place), device)


def find_checkpoint(source: str | Path) -> Path:
    """Find the file of a decoder of ours (see `open_decoder`).

    Raises:
        CheckpointError: there is none, or the decoder is a pipeline of diffusers.
        HubError: it is on the hub and cannot be had.
    """
    main = str(source) if Path(source).exists() else str(source).partition(ADDED)[0]
    place = _place(main, "cpu")
    if (place / PIPELINE_FILE).is_file():
        raise CheckpointError(f"{source} is a pipeline of diffusers: packs are shared without those")
    return _checkpoint_in(place)


def pinned(source: str | Path) -> str:
    """The name of a decoder as it will always mean this one: of what is on a hub, with the commit.

    Raises:
        HubError: it is on the hub and cannot be had.
    """
    text = str(source)
    return text if Path(text).exists() else ADDED.join(map(_pinned, text.split(ADDED)))


def _pinned(name: str) -> str:
    repository, inside = ("", "") if Path(name).exists() else split_inside(name)
    if not repository:
        return name
    from clip_feature_codec.hub import look

    found = look(repository)
    return "/".join(filter(None, (found.name, inside))) + f"@{found.commit}"


def _place(name: str, device: str) -> Path:
    return _from_hub(name, device) if is_hub_name(name) else pack_folder(name) or Path(name)


def _pipeline(folder: Path, name: str, adapter: str, device: str) -> Decoder:
    """The decoder that is a pipeline of diffusers, with an IP-Adapter perhaps."""
    from clip_feature_codec.embed.transformers.source import adapter_files, bring, find_tower

    with extra("diffusers", f"decoder {name}"):
        from clip_feature_codec.decoders.diffusers.loading import kind_of, load_pipeline

        kind_of(folder)  # refuses what cannot be used, before a tower is looked for
        tower = find_tower(f"{name}{ADDED}{adapter}" if adapter else name)
        if tower is None:
            raise CheckpointError(
                f"{name}: the image tower of this pipeline is of no kind that is known here"
            )
        file = bring(adapter, adapter_files) if adapter else None
        return load_pipeline(folder, file, tower, pick_device(device))


def _from_hub(name: str, device: str) -> Path:
    """The folder in the hub's cache, with the files that a decoder needs."""
    from clip_feature_codec.hub import look

    repository = look(name)
    files = repository.files.keys()
    if PIPELINE_FILE in files:
        with extra("diffusers", f"decoder {name}"):
            from clip_feature_codec.decoders.diffusers.files import wanted_files
            from clip_feature_codec.decoders.diffusers.loading import kind_of

        parts, half = kind_of(repository.download([PIPELINE_FILE])).parts, pick_device(device).type != "cpu"
        return repository.download(wanted_files(name, files, parts, half=half))
    repository.require_safe(DECODER_FOLDER)
    wanted = files_of(DECODER_FOLDER, files)
    if not wanted:
        raise CheckpointError(f"{name}: no decoder there: neither {PIPELINE_FILE} nor {DECODER_FOLDER}/")
    return repository.download(wanted)


def _checkpoint_in(place: Path) -> Path:
    """Our checkpoint: the file itself, or the one in the folder of a pack or a store."""
    found = decoder_in(place) if place.is_dir() else place
    if found is None:
        names = f"{PIPELINE_FILE}, {DECODER_FOLDER}/ or {DECODER_FILE}"
        raise CheckpointError(f"{place}: no decoder in this folder, expected {names}")
    return found
