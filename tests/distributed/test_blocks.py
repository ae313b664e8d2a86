"""Blocks of a store's entries, of which several are worked on at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from clip_feature_codec.codec.feature_codec import FeatureCodec
from clip_feature_codec.codec.layers import Layers
from clip_feature_codec.distributed.blocks import StoreReader, blocks
from clip_feature_codec.encode.attempts import DEATHS, Attempts
from clip_feature_codec.store.manifest import Entry
from clip_feature_codec.store.opening import create_store
from clip_feature_codec.store.writing import NewPicture


def test_blocks_of_the_same_streams_are_no_deaths_of_each_other(mini: FeatureCodec, tmp_path: Path) -> None:
    """Pictures that a site has instead of others, say: all blocks are under way before the first is done."""
    count = 2 * (2 * DEATHS + 2)
    store, vectors = create_store(tmp_path / "store", mini), np.ones((count, mini.dim), np.float32)
    store.add(tmp_path, [NewPicture(f"{i:02}.jpg", 4, 3, 1, 1) for i in range(count)], Layers(vectors))
    reader, attempts = StoreReader(tmp_path / "store", count), Attempts(tmp_path / "notes", "")
    waiting = blocks(count, 2)
    given = []

    def work(entries: Sequence[Entry]) -> list[str]:
        if waiting:
            given.append(reader.attempt(attempts, waiting.pop(), "decoded", work))
        return [entry.name for entry in entries]

    given.append(reader.attempt(attempts, waiting.pop(), "decoded", work))
    assert len({entry.sha256 for entry in reader.store.entries}) == 1
    assert sorted(name for names, _ in given for name in names) == [e.name for e in reader.store.entries]
    assert all(not failures for _, failures in given)
    assert len(given) == count // 2
