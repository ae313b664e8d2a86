"""What the files of stores and packs are called."""

from __future__ import annotations

CODEC_FILE = "codec.json"
"""The tables that streams are coded with, in a store, in a pack, or alone."""
MANIFEST_FILE = "manifest.jsonl"
"""What a store knows of its pictures; a folder with tables and without one is no store."""
INDEX_FILE = "search.index"
"""Where searching keeps what it has read of a store's streams."""
DECODER_FILE = "diffusion_unet_final.pt"
"""The decoder that training puts into a store."""
PACK_DECODER = "decoder.safetensors"
"""The decoder of a pack."""
CLIP_FOLDER = "clip"
"""The CLIP model of a pack, in open_clip's format."""
