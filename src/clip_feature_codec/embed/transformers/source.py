"""Where an image tower of transformers' format is: alone in a folder, or in that of a diffusers pipeline."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from clip_feature_codec.embed.configuration import read_json
from clip_feature_codec.errors import ModelError
from clip_feature_codec.hub import look
from clip_feature_codec.names import ADDED, PIPELINE_FILE, split_inside

TOWERS = ("clip", "clip_vision_model", "siglip", "siglip_vision_model")
"""What the configuration of a tower that can be loaded calls itself, ``model_type``."""

_CONFIG, _PREPROCESSOR = "config.json", "preprocessor_config.json"
_ENCODERS = ("image_encoder", "prior_image_encoder")
_PREPROCESSORS = ("feature_extractor", "image_processor", "prior_image_processor", "prior_feature_extractor")
_ADAPTER_ENCODERS = ("image_encoder", "../models/image_encoder")


@dataclass(frozen=True)
class TowerSource:
    """A tower that has been found and not been loaded yet.

    Attributes:
        folder: its configuration and its weights.
        preprocessor: how pictures are prepared for it, a ``preprocessor_config.json``; None: as is usual.
        label: how it is found again: an absolute path or a name on the hub, with what was added to it.
    """

    folder: Path
    preprocessor: Path | None
    label: str


def find_tower(model: str) -> TowerSource | None:
    """Find the image tower of a model, which may be a pipeline, with an IP-Adapter perhaps.

    The IP-Adapter's tower is meant where there is one; then the pipeline's own; then that of the prior which
    the pipeline's model card names.

    Args:
        model: the folder of a tower or of a pipeline, or its name on the hub, which may go on inside the
            repository (``user/name/folder``); and behind a ``+`` the file of an IP-Adapter.

    Returns:
        None: it is no folder of such a kind, and no name on the hub.

    Raises:
        ModelError: it is a pipeline without an image tower.
        HubError: it is on the hub and cannot be had.
    """
    main, _, adapter = (model, "", "") if Path(model).exists() else model.partition(ADDED)
    if adapter:
        found = tower_of_adapter(adapter, bring(main, _wanted))
        if found is None:
            raise ModelError(f"{adapter}: no image_encoder of the right size beside this IP-Adapter")
        return TowerSource(found, None, f"{_label(main)}{ADDED}{_label(adapter)}")
    folder = bring(main, _wanted)
    if not folder.is_dir():
        return None
    if (folder / PIPELINE_FILE).is_file():
        return tower_of_pipeline(folder, _label(main))
    if _is_tower(folder):
        beside = [folder / _PREPROCESSOR, *(folder.parent / name / _PREPROCESSOR for name in _PREPROCESSORS)]
        return TowerSource(folder, next(filter(Path.is_file, beside), None), _label(main))
    return None


def tower_of_pipeline(folder: Path, label: str) -> TowerSource:
    """The image tower that a pipeline of diffusers was trained with.

    Raises:
        ModelError: there is none in its folder, and no model card that names a prior.
    """
    encoder = next((folder / name for name in _ENCODERS if _is_tower(folder / name)), None)
    if encoder is None:
        prior = _prior_of(folder)
        found = find_tower(prior) if prior else None
        if found is None:
            raise ModelError(f"{folder}: this pipeline has no image_encoder: which CLIP space is it for?")
        return TowerSource(found.folder, found.preprocessor, label)
    preprocessors = (folder / name / _PREPROCESSOR for name in _PREPROCESSORS)
    return TowerSource(encoder, next(filter(Path.is_file, preprocessors), None), label)


def tower_of_adapter(adapter: str, pipeline: Path) -> Path | None:
    """The folder with the tower of an IP-Adapter: near its file or in its pipeline, of the right length.

    On the hub several may lie there, of which the right one alone is downloaded.

    Args:
        adapter: a file, here or on the hub.
        pipeline: the folder of the pipeline that it is added to.

    Raises:
        ModelError: the file is no safetensors, or the adapter takes more than the embedding.
    """
    from safetensors import SafetensorError, safe_open

    file = bring(adapter, adapter_files)
    try:
        with safe_open(file, "np") as tensors:
            name = "image_proj.proj.weight"
            width = tensors.get_slice(name).get_shape()[1] if name in tensors.keys() else 0  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{file}: no IP-Adapter in a .safetensors file ({error})") from None
    if not width:
        raise ModelError(
            f"{file}: this adapter takes more than an image embedding; the plain ones take that alone"
        )
    near = next((place for place in _ADAPTER_ENCODERS if _gives(file.parent / place, width)), None)
    if near is not None:
        return bring(_beside(adapter, near), lambda names, inside: tower_files(names, f"{inside}/")).resolve()
    return next((pipeline / place for place in _ENCODERS if _gives(pipeline / place, width)), None)


def bring(name: str, wanted: Callable[[Collection[str], str], Collection[str]]) -> Path:
    """The file or folder of this name on this machine; what is on the hub is brought into its cache first.

    Args:
        name: a path, or a name on the hub, which may go on inside the repository.
        wanted: called with the names in the repository and the place inside; gives those to download.
    """
    if Path(name).exists():
        return Path(name)
    repository_name, inside = split_inside(name)
    if not repository_name:
        return Path(name)
    repository = look(repository_name)
    files = wanted(repository.files.keys(), inside)
    return repository.download(files) / inside


def adapter_files(names: Collection[str], inside: str) -> list[str]:
    """An IP-Adapter's file, and what the towers near it are."""
    folder = posixpath.dirname(inside)
    configs = [posixpath.normpath(f"{folder}/{place}/{_CONFIG}") for place in _ADAPTER_ENCODERS]
    return [inside, *(name for name in configs if name in names)]


def _beside(name: str, place: str) -> str:
    """What lies beside a file, which may be on the hub, by its name."""
    if Path(name).exists():
        return str(Path(name).parent / place)
    repository, inside = split_inside(name)
    path, at, revision = repository.partition("@")
    return f"{path}/{posixpath.normpath(f'{posixpath.dirname(inside)}/{place}')}{at}{revision}"


def tower_files(names: Collection[str], place: str) -> list[str]:
    """Of the names in a repository, those of a tower's configuration and weights.

    Always of the weights without a variant, in whose precision the space is told.
    """
    found = [name for name in names if name.startswith(place) and "/" not in name[len(place) :]]
    weights = [name for name in found if name.endswith(".safetensors") and ".fp16" not in name]
    return weights + [name for name in found if name.endswith(".json") and ".fp16" not in name]


def _wanted(names: Collection[str], inside: str) -> list[str]:
    """Of a repository, what a tower needs: of a pipeline's those parts, of a lone one's all."""
    root = f"{inside}/" if inside else ""
    found = [name for name in (root + PIPELINE_FILE, root + "README.md") if name in names]
    if root + PIPELINE_FILE not in names:
        return tower_files(names, root)
    for part in (*_ENCODERS, *_PREPROCESSORS):
        found += tower_files(names, f"{root}{part}/")
    return found


def _is_tower(folder: Path) -> bool:
    config = folder / _CONFIG
    return config.is_file() and read_json(config).get("model_type") in TOWERS


def _gives(folder: Path, width: int) -> bool:
    """Whether there is a tower whose vectors are so long."""
    return _is_tower(folder) and read_json(folder / _CONFIG).get("projection_dim", 512) == width


def _prior_of(folder: Path) -> str | None:
    """What a pipeline's model card names as its prior, as diffusers reads it."""
    card = folder / "README.md"
    if not card.is_file():
        return None
    from huggingface_hub import ModelCard

    prior = getattr(ModelCard.load(card).data, "prior", None)
    first = prior[0] if isinstance(prior, list) and prior else prior
    return first if isinstance(first, str) else None


def _label(name: str) -> str:
    return str(Path(name).resolve()) if Path(name).exists() else name
