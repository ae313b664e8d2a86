"""What a store holds after an encoding."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from clip_feature_codec.embed import ClipEmbedder
from clip_feature_codec.images import load_image
from clip_feature_codec.store.feature_store import FeatureStore

PhotoFolder = Callable[..., Path]


def contents(store: Path) -> dict[str, bytes]:
    """All files of a store but the lock; strays and unfinished work would show up, too."""
    found = {p.relative_to(store).as_posix(): p for p in store.rglob("*") if p.is_file()}
    return {name: path.read_bytes() for name, path in found.items() if name != ".lock"}


def cosines(store: FeatureStore, embedder: ClipEmbedder) -> np.ndarray:
    """Between each decoded vector and that of its picture's file as it is now."""
    pictures = [load_image(store.source_path(entry)) for entry in store.entries]
    own = np.concatenate([embedder.embed_images([picture]) for picture in pictures])
    cosines: np.ndarray = np.sum(store.vectors() * own, axis=1)
    return cosines
