"""What the files of stores and packs are called."""

from __future__ import annotations

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
MANIFEST_FILES = (MANIFEST_FILE, OLD_MANIFEST_FILE, PACKED_FILE)
"""A folder with tables and without one of these is no store."""
INDEX_FILE = "search.index"
"""Where searching keeps what it has read of a store's streams."""
DECODER_FILE = "diffusion_unet_final.pt"
"""The decoder that training puts into a store."""
PACK_DECODER = "decoder.safetensors"
"""The decoder of a pack."""
CLIP_FOLDER = "clip"
"""The CLIP model of a pack, in open_clip's format."""
