"""What a store holds after an encoding."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from clip_feature_codec.embed import ClipEmbedder
from clip_feature_codec.images import load_image
from clip_feature_codec.store.feature_store import FeatureStore
from clip_feature_codec.store.opening import open_store

PhotoFolder = Callable[..., Path]


def contents(store: Path) -> dict[str, bytes]:
    """All files of a store but the lock; strays and unfinished work would show up, too.

    SQLite's file depends on how it came about: in its place are a line for each entry, and those of a packed
    store with their streams.
    """
    found = {p.relative_to(store).as_posix(): p for p in store.rglob("*") if p.is_file()}
    whole = {name: path.read_bytes() for name, path in found.items() if name != ".lock"}
    opened = open_store(store) if "codec.json" in found else None
    for name in whole.keys() & {"manifest.sqlite", "packed.sqlite"} if opened else ():
        rows = [(entry, opened.blob(entry) if name == "packed.sqlite" else "") for entry in opened.entries]
        whole[name] = "".join(f"{row}\n" for row in rows).encode()
    return whole


def cosines(store: FeatureStore, embedder: ClipEmbedder) -> np.ndarray:
    """Between each decoded vector and that of its picture's file as it is now."""
    pictures = [load_image(Path(store.source_place(entry))) for entry in store.entries]
    own = np.concatenate([embedder.embed_images([picture]) for picture in pictures])
    cosines: np.ndarray = np.sum(store.vectors() * own, axis=1)
    return cosines
