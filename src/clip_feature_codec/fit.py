"""Vectors to fit tables on, a block at a time: of a store, of ``.npy`` files, of a folder of pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from clip_feature_codec.embed.protocol import measured
from clip_feature_codec.errors import ImageError, StoreError, reason
from clip_feature_codec.images import MAX_PIXELS, load_image
from clip_feature_codec.progress import Progress, silent
from clip_feature_codec.store.protocol import Store

# torch takes seconds to import, and only pictures need it.
if TYPE_CHECKING:
    from clip_feature_codec.embed import Embedder

_ROWS_AT_ONCE = 4096
_PICTURES_AT_ONCE = 32


def store_blocks(store: Store, progress: Progress = silent) -> Iterator[NDArray[np.float32]]:
    """The decoded vectors of a store: float32 (n, D) each.

    Raises:
        BitstreamError: a stream is damaged or has no semantic layer.
    """
    entries = store.entries
    for start in range(0, len(entries), _ROWS_AT_ONCE):
        progress("reading", start, len(entries))
        yield store.vectors(entries[start : start + _ROWS_AT_ONCE])
    progress("reading", len(entries), len(entries))


def open_npy(path: Path) -> NDArray[np.floating]:
    """The vectors (N, D) in a ``.npy`` file of floats, which may be larger than the memory.

    Raises:
        StoreError: the file cannot be read, or holds something else.
    """
    try:
        with path.open("rb") as file:
            np.lib.format.read_magic(file)
        rows = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {reason(error)}") from None
    except (ValueError, EOFError):
        raise StoreError(
            f"{path}: expected a store, a folder of pictures, or a whole .npy file of vectors"
        ) from None
    if rows.ndim != 2 or rows.dtype.kind != "f":
        raise StoreError(f"{path}: found {rows.dtype} {rows.shape}, expected vectors (N, D) of floats")
    vectors: NDArray[np.floating] = rows
    return vectors


def row_blocks(rows: NDArray[np.floating], progress: Progress = silent) -> Iterator[NDArray[np.float32]]:
    """Vectors (N, D), a block at a time: float32 (n, D) each."""
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        progress("reading", start, len(rows))
        yield rows[start : start + _ROWS_AT_ONCE].astype(np.float32)
    progress("reading", len(rows), len(rows))


def picture_blocks(
    paths: Sequence[Path],
    embedder: Embedder,
    failures: list[tuple[str, str]],
    progress: Progress = silent,
    max_pixels: int = MAX_PIXELS,
) -> Iterator[NDArray[np.float32]]:
    """The vectors of pictures: float32 (n, D) each, as long as the model makes them, if that is known.

    Args:
        paths: the pictures' files.
        embedder: the CLIP model.
        failures: those that cannot be read are added to it, as (path, reason).
        progress: is told how many are embedded.
        max_pixels: pictures with more pixels are failures.
    """
    for start in range(0, len(paths), _PICTURES_AT_ONCE):
        progress("embedding", start, len(paths))
        pictures = []
        for path in paths[start : start + _PICTURES_AT_ONCE]:
            try:
                pictures.append(load_image(path, max_pixels=max_pixels))
            except ImageError as error:
                failures.append((str(path), str(error)))
        if pictures:
            pixels = np.stack([embedder.preprocess(picture) for picture in pictures])
            vectors, lengths = measured(embedder, pixels)
            yield vectors if lengths is None else vectors * lengths[:, None]
    progress("embedding", len(paths), len(paths))
