"""Weights that open_clip knows by a tag: from the cache where they are there, else downloaded into it."""

from __future__ import annotations

import logging
import posixpath
from typing import Any

import open_clip
from huggingface_hub import constants, file_exists, hf_hub_download, try_to_load_from_cache
from open_clip.constants import HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME

from clip_feature_codec.errors import ModelError

log = logging.getLogger(__name__)


def tagged_weights(model: str, tag: str, config: dict[str, Any]) -> str:
    """The file with the weights of ``model``'s ``tag``; nothing is asked of the network for a cached one.

    Args:
        model: open_clip's name of the model.
        tag: the name of its weights.
        config: what open_clip knows of them: a file, a place on the hub, or a URL.

    Raises:
        ModelError: they are not in the cache and cannot be downloaded.
    """
    repository, name = posixpath.split(config.get("hf_hub", ""))
    names = _safest_first(name or HF_WEIGHTS_NAME)
    cached = [try_to_load_from_cache(repository, name) for name in names] if repository else []
    found = next((file for file in cached if isinstance(file, str)), None)
    if found:
        return found
    log.info("downloading the weights of %s/%s", model, tag)
    try:
        if not repository:  # open_clip keeps these in a cache of its own
            return str(open_clip.download_pretrained(config))
        # Asked without a second try: the hub's client takes a minute to find out that there is no connection.
        there = next(name for name in names if file_exists(repository, name))
        return hf_hub_download(repository, there)
    except Exception as error:  # whatever the network or the hub's client raises
        raise ModelError(
            f"the weights of CLIP model {model}/{tag} are not in the cache ({constants.HF_HUB_CACHE}) and "
            "cannot be downloaded: connect, or give a local file with --pretrained FILE"
        ) from error


def _safest_first(name: str) -> list[str]:
    """Names that a file of weights may have in its repository: as safetensors, then what open_clip says."""
    if name == HF_WEIGHTS_NAME:
        return [HF_SAFE_WEIGHTS_NAME, name]
    stem, suffix = posixpath.splitext(name)
    return [f"{stem}.safetensors", name] if suffix in (".bin", ".pth") else [name]
