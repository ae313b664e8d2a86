"""What the files of stores and packs are called, and packs on a model hub."""

from __future__ import annotations

import re
from pathlib import Path

CLP_MIME = "image/x-clp"
"""The MIME type of ``.clp`` files; registered with nobody."""
VIEWER_PAGE = "http://127.0.0.1:8140/view"
"""Where clip-codec serve, left to its defaults, has the viewer page."""
CODEC_FILE = "codec.json"
"""The tables that streams are coded with, in a store, in a pack, or alone."""
MANIFEST_FILE = "manifest.sqlite"
"""What a store of loose streams knows of its pictures."""
OLD_MANIFEST_FILE = "manifest.jsonl"
"""The same in stores of before."""
PACKED_FILE = "packed.sqlite"
"""What a packed store knows beside its shards."""
SHARDS_FOLDER = "data"
"""Where a packed store has its shards, so called for those who share it as a data set."""
SHARDS = "streams-*.parquet"
"""What these are called."""
MANIFEST_FILES = (MANIFEST_FILE, OLD_MANIFEST_FILE, PACKED_FILE)
"""A folder with tables and without one of these is no store."""
INDEX_FOLDER = "search.index"
"""Where searching keeps what it has read of a store's streams."""
EXPORT_FILE = "export.json"
EXPORT_FORMATS = ("lance", "parquet", "npy")
"""What a store can be exported to."""
"""What says of a folder that it is an export of a store."""
DECODER_FILE = "diffusion_unet_final.pt"
"""The decoder that training puts into a store."""
DECODER_FOLDER = "decoder"
"""Where a pack has its decoder, in the form that model hubs know."""
WEIGHTS_FILE, CONFIG_FILE = "model.safetensors", "config.json"
"""The decoder in that folder, and its configuration once more, for hubs and people."""
OLD_PACK_DECODER = "decoder.safetensors"
"""The decoder of a pack, before it had a folder."""
CLIP_FOLDER = "clip"
"""The CLIP model of a pack, in open_clip's format."""
GRAPHS_FILE = "graphs.json"
"""What says of ONNX graphs that they belong to the weights beside them."""
IMAGE_GRAPH, TEXT_GRAPH = "image.onnx", "text.onnx"
"""The towers of a CLIP model, beside its weights."""
UNET_GRAPH, UPSAMPLER_GRAPH = "unet.onnx", "upsampler.onnx"
"""The networks of a decoder, beside its weights."""
CARD_FILE = "README.md"
"""What a pack says of itself, where model hubs look for it."""
ADDED = "+"
"""Stands between a pipeline's name and that of the adapter that is added to it."""
PIPELINE_FILE = "model_index.json"
"""What the folder of a pipeline of diffusers is known by."""
HUB_NAME = r"(?P<name>[\w-][\w.-]*/[\w-][\w.-]*)(@(?P<revision>[\w.-]+(/[\w.-]+)*))?"
"""The pattern of names on a model hub: ``user/name`` or ``user/name@revision``."""
_OURS = (".clp", ".json", ".safetensors", ".pt", ".npy")


def is_hub_name(text: str) -> bool:
    """Whether a text may be ``user/name`` or ``user/name@revision`` on a hub, and is nothing that is here.

    What ends as our files do is not looked for on a hub: it is one that is missing here.
    """
    found = re.fullmatch(HUB_NAME, text)
    return found is not None and not text.endswith(_OURS) and not Path(text).exists()


def split_inside(text: str) -> tuple[str, str]:
    """Take ``user/name/inside[@revision]`` apart: the repository's name, and a path in it that may be empty.

    The name is empty where the text cannot be such a thing.
    """
    path, at, revision = text.partition("@")
    parts = path.split("/")
    repository = "/".join(parts[:2]) + at + revision
    return (repository, "/".join(parts[2:])) if re.fullmatch(HUB_NAME, repository) else ("", "")


def has_pictures(folder: Path) -> bool:
    """Tell whether a folder has what makes it a store beside its tables: a manifest, or shards."""
    known = any((folder / name).is_file() for name in MANIFEST_FILES)
    return known or any((folder / SHARDS_FOLDER).glob(SHARDS))
