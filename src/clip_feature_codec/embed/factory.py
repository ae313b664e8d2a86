"""From a model's name, or the space it belongs to, to the model: the one place that knows the kinds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from clip_feature_codec.codec.space import ClipSpace
from clip_feature_codec.embed.protocol import DifferentiableEmbedder, Embedder
from clip_feature_codec.errors import ConfigError, ModelError
from clip_feature_codec.extras import extra
from clip_feature_codec.names import ADDED
from clip_feature_codec.packs import DEFAULT_PACK

Loader = Callable[[str, str | None, str, bool], Embedder | None]
"""Loads (model, pretrained, device, whether gradients are needed), or gives None for what is not its own."""


def _graphs(model: str, pretrained: str | None, device: str, gradients: bool) -> Embedder | None:
    if gradients:
        return None
    from clip_feature_codec.embed.onnx.embedder import GraphEmbedder

    return GraphEmbedder.find(model, pretrained, device)


def _open_clip(model: str, pretrained: str | None, device: str, _: bool) -> Embedder:
    with extra("clip", f"CLIP model {model!r}"):
        from clip_feature_codec.embed.openclip.embedder import ClipEmbedder

    return ClipEmbedder.load(model, pretrained, device)


def _transformers(model: str, pretrained: str | None, device: str, _: bool) -> Embedder | None:
    from clip_feature_codec.embed.transformers.source import find_tower

    source = None if model.endswith(".json") else find_tower(model)
    if source is None:
        return None
    if pretrained not in (None, "folder"):
        raise ConfigError(f"model {model!r} has its own weights: leave out pretrained={pretrained!r}")
    with extra("diffusers", f"image tower {model!r}"):
        from clip_feature_codec.embed.transformers.tower import VisionTower

        return VisionTower.from_source(source, device)


_LOADERS: tuple[Loader, ...] = (_graphs, _transformers, _open_clip)
"""One for each kind of model, asked in this order; the last refuses what nobody knows."""


def load_embedder(model: str = DEFAULT_PACK, pretrained: str | None = None, device: str = "auto") -> Embedder:
    """Load a CLIP model and its weights; never one with random weights.

    Args:
        model: the name of a pack (``mini``); a folder with ``open_clip_config.json`` and weights; a name
            that open_clip knows; a ``.json`` file with a model configuration of open_clip's form; or the
            image tower of a diffusers pipeline, or one by itself in transformers' format: a folder, or its
            name on the hub (see `embed.transformers.source.find_tower`).
        pretrained: with a name or a ``.json`` file: a pretrained tag of open_clip's, which is
            downloaded at its first use, or a local ``.pt`` or ``.safetensors`` file.
        device: see `clip_feature_codec.devices.pick_device`.

    Raises:
        ModelError: the model is unknown, or its weights cannot be found, read or downloaded.
        ConfigError: ``pretrained`` is given with a model that brings its own weights.
        MissingExtraError: its kind needs packages that are not installed.
    """
    return _load(model, pretrained, device, gradients=False)


def embedder_for(
    space: ClipSpace, model: str | None = None, pretrained: str | None = None, device: str = "auto"
) -> Embedder:
    """Load the model that ``space`` names (or the one given) and make sure that it is the same space.

    Args:
        space: of the vectors that the model should give.
        model: as for `load_embedder`; by default what the space was loaded from.
        pretrained: as for `load_embedder`; the space's own where the model does not come from elsewhere,
            or is a ``.json`` file, which has no weights.
        device: as for `load_embedder`.

    Raises:
        SpaceMismatchError: the model found there has other weights, dimension or preprocessing.
        ModelError: as `load_embedder`; or the space's model was a file that is not in its place any more.
    """
    embedder = load_embedder(*_whereabouts(space, model, pretrained), device)
    space.require_same(embedder.space, "the CLIP model")
    return embedder


def differentiable_embedder_for(
    space: ClipSpace, device: str = "auto", model: str | None = None, pretrained: str | None = None
) -> DifferentiableEmbedder:
    """Load the model that ``space`` names (or the one given), to learn through it (see `embedder_for`).

    Raises:
        ConfigError: that model gives no gradients.
    """
    embedder = _load(*_whereabouts(space, model, pretrained), device, gradients=True)
    if not isinstance(embedder, DifferentiableEmbedder):
        raise ConfigError(f"CLIP model {space.label} gives no gradients: train without its loss (clip_w=0)")
    space.require_same(embedder.space, "the CLIP model")
    return embedder


def _load(model: str, pretrained: str | None, device: str, gradients: bool) -> Embedder:
    loaded = (load(model, pretrained, device, gradients) for load in _LOADERS)
    embedder = next((embedder for embedder in loaded if embedder is not None), None)
    if embedder is None:
        raise ModelError(f"CLIP model {model!r} is of no kind that can be loaded here")
    return embedder


def _whereabouts(space: ClipSpace, model: str | None, pretrained: str | None) -> tuple[str, str | None]:
    """Model and ``pretrained``, out of the space where they are not given (see `embedder_for`)."""
    place = _in_its_place(space.model, space) if model is None else model
    if pretrained is None and (model is None or model.endswith(".json")):
        pretrained = _in_its_place(space.pretrained, space)
    return place, pretrained


def _in_its_place(label: str, space: ClipSpace) -> str:
    """A space's ``model`` or ``pretrained`` as it is; refused when it is a file that has moved."""
    place = Path(label) if Path(label).exists() else Path(label.partition(ADDED)[0])
    if place.is_absolute() and not place.exists():
        raise ModelError(
            f"{label}, of CLIP model {space.label}, is not there any more: put it back, or say where it is "
            "with --model and --pretrained (in Python: model=, pretrained=)"
        )
    return label
