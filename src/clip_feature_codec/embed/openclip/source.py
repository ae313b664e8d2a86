"""Where a model of open_clip's form is: its configuration, preprocessing, and file of weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import open_clip
from open_clip.constants import HF_CONFIG_NAME

from clip_feature_codec.bundle import IN_FOLDER, IN_PACK, find_clip
from clip_feature_codec.embed.configuration import read_json
from clip_feature_codec.embed.openclip.hub import tagged_weights
from clip_feature_codec.errors import ConfigError, ModelError

_NEEDED = {"embed_dim", "vision_cfg", "text_cfg"}
_WEIGHTS_SUFFIXES = (".safetensors", ".bin", ".pth", ".pt")
_WHAT = "CLIP model configuration "
_OWN_WEIGHTS = (IN_PACK, IN_FOLDER)
"""What a space says in place of a tag, where the weights lie beside the configuration."""


@dataclass(frozen=True)
class ModelSource:
    """A model that has been found and not been loaded yet.

    Attributes:
        model: how it is found again: a pack's name or folder, an absolute path, or open_clip's name of it.
        pretrained: how its weights are: ``pack``, ``folder``, an absolute path, or a tag.
        config: its architecture, as open_clip writes it (``embed_dim``, ``vision_cfg``, ``text_cfg``, ...).
        weights: the file with its weights.
        preprocessing: where it differs from open_clip's usual preprocessing.
        known_as: open_clip's name of its tokenizer; None for a ``.json`` file, which it does not know.
    """

    model: str
    pretrained: str
    config: dict[str, Any]
    weights: str
    preprocessing: dict[str, Any] = field(default_factory=dict)
    known_as: str | None = None

    @property
    def in_folder(self) -> bool:
        """Whether configuration and weights lie in one folder, with all that belongs to them."""
        return self.pretrained in _OWN_WEIGHTS


def find_model(model: str, pretrained: str | None) -> ModelSource:
    """Find a model and its weights (see `embed.factory.load_embedder`).

    Raises:
        ModelError: the model is unknown, or it has no weights.
        ConfigError: ``pretrained`` is given with a model that brings its own weights.
    """
    own = find_clip(model)
    if own is None:
        return _with_weights(*_configuration(model), pretrained)
    if pretrained is not None and pretrained not in _OWN_WEIGHTS:
        raise ConfigError(f"model {model!r} has its own weights: leave out pretrained={pretrained!r}")
    folder = own.folder
    description = read_json(folder / HF_CONFIG_NAME, _WHAT)
    config = _checked(description.get("model_cfg"), f"{folder / HF_CONFIG_NAME}, model_cfg,")
    return ModelSource(
        own.model,
        own.pretrained,
        config,
        str(_weights_in(folder)),
        description.get("preprocess_cfg", {}),
        known_as=f"local-dir:{folder}",
    )


def _configuration(model: str) -> tuple[str, str | None, dict[str, Any]]:
    """A model given by name or as a ``.json`` file: its label, open_clip's name, its configuration."""
    if model.endswith(".json"):
        # Not registered with open_clip: it would stand for all models of its name in the whole process.
        return str(Path(model).resolve()), None, _checked(read_json(Path(model), _WHAT), model)
    if model not in open_clip.list_models():
        raise ModelError(
            f"CLIP model {model!r} is neither a pack, nor a folder with {HF_CONFIG_NAME}, "
            "nor a .json file, nor a model of open_clip's"
        )
    return model, model, open_clip.get_model_config(model)


def _with_weights(
    label: str, known_as: str | None, config: dict[str, Any], pretrained: str | None
) -> ModelSource:
    """A model with weights from a file, or from one of the tags that go with its name."""
    name = known_as or Path(label).stem
    tags = open_clip.list_pretrained_tags_by_model(name)
    if not pretrained:
        raise ModelError(
            f"CLIP model {name!r} needs weights: name a pretrained tag ({_some(tags)}) "
            "or a local .pt or .safetensors file"
        )
    if Path(pretrained).is_file():
        file = str(Path(pretrained).resolve())
        return ModelSource(label, file, config, file, known_as=known_as)
    if pretrained not in tags:
        raise ModelError(
            f"weights {pretrained!r} of CLIP model {name!r} are neither a file nor one of its tags "
            f"({_some(tags)})"
        )
    tagged = open_clip.get_pretrained_cfg(name, pretrained)
    if tagged.get("quick_gelu", False):
        # They load into a model with GELU without a word, and give other vectors.
        config["quick_gelu"] = True
    # The size is the architecture's.
    preprocessing = {key: value for key, value in tagged.items() if key != "size"}
    weights = tagged_weights(name, pretrained, tagged)
    return ModelSource(label, pretrained, config, weights, preprocessing, known_as)


def _weights_in(folder: Path) -> Path:
    """The file with the weights of a folder: open_clip's own names first, safetensors before pickles."""
    for stem in ("open_clip*", "*"):
        for suffix in _WEIGHTS_SUFFIXES:
            if found := sorted(folder.glob(stem + suffix)):
                return found[0]
    raise ModelError(f"CLIP model folder {folder}: found no weights, expected open_clip_model.safetensors")


def _checked(config: Any, where: str) -> dict[str, Any]:
    if not isinstance(config, dict) or not config.keys() >= _NEEDED:
        raise ModelError(f"CLIP model configuration {where} needs embed_dim, vision_cfg and text_cfg")
    return config


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "") or "it has none"
