"""A picture that processes die of, on a cluster: it is listed at the end, and the others are done."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from ray import cloudpickle
from ray_samples import BATCH, encode, make_photos, rows

from clip_feature_codec.codec.bitstream import Stream
from clip_feature_codec.codec.feature_codec import FeatureCodec
from clip_feature_codec.decoding import Deferred
from clip_feature_codec.distributed.decoding import decode_on_ray
from clip_feature_codec.distributed.encoding import RayEncoding
from clip_feature_codec.embed import Embedder, load_embedder
from clip_feature_codec.encode import encode_source
from clip_feature_codec.store.opening import open_store
from samples import make_picture

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # nobody else finds this module

READ, EMBEDDED = (13, 13), (17, 17)
"""Sizes of pictures that processes die of while they do that."""


class Deadly:
    """The built-in model; some pictures kill the process that reads or embeds them."""

    def __init__(self) -> None:
        self._model = load_embedder("mini", device="cpu")
        self.space, self.device = self._model.space, self._model.device

    @property
    def preprocess(self) -> Callable[[Image.Image], NDArray[np.float32]]:
        inner = self._model.preprocess

        def preprocess(picture: Image.Image) -> NDArray[np.float32]:
            if picture.size == READ:
                os._exit(1)
            pixels = np.asarray(inner(picture))
            return np.full_like(pixels, 7) if picture.size == EMBEDDED else pixels

        return preprocess

    def embed_batch(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        if (np.asarray(pixels) == 7).all(axis=(1, 2, 3)).any():
            os._exit(1)
        return self._model.embed_batch(pixels)


def deadly() -> Embedder:
    return Deadly()  # type: ignore[return-value]


def test_pictures_that_readers_and_embedders_die_of(cluster: Any, mini: FeatureCodec, tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", 12)
    encode(photos, tmp_path / "here", mini, ray=False)
    for name, size in (("p003x", READ), ("p004x", READ), ("p009x", EMBEDDED)):
        make_picture(3, size).save(photos / f"d1/{name}.png")
    # The others share batches as they do there, where these are none of them.
    whole = {name: blob for name, _, blob in rows(tmp_path / "here")}
    found = encode_source(
        photos,
        tmp_path / "there",
        deadly(),
        mini,
        packed=True,
        batch_size=BATCH,
        elsewhere=RayEncoding(deadly, "cpu"),
    )
    told = dict(found.failures)
    died = {Path(place).stem: reason for place, reason in told.items() if "processes died of it" in reason}
    assert died.keys() == {"p003x", "p004x", "p009x"}
    assert "cannot be read: 3 processes" in died["p003x"]
    assert "cannot be embedded: 3 processes" in died["p009x"]
    assert {name: blob for name, _, blob in rows(tmp_path / "there")} == whole
    assert not (tmp_path / "there/.encode").exists()


class DeadlyShow:
    """Dies of one stream, by its bytes."""

    def __init__(self, blob: bytes) -> None:
        self._blob = blob

    def __call__(self, streams: Sequence[Stream]) -> Iterator[Deferred]:
        for stream in streams:
            if stream.blob == self._blob:
                os._exit(1)
            yield lambda: Image.new("RGB", (4, 4))


def test_a_stream_that_decoding_dies_of(cluster: Any, mini: FeatureCodec, tmp_path: Path) -> None:
    encode(make_photos(tmp_path / "photos", 6), tmp_path / "store", mini, ray=False)
    store = open_store(tmp_path / "store")
    deadly = store.entries[2]
    failures = decode_on_ray(store, tmp_path / "out", DeadlyShow(store.blob(deadly)), "test", None)
    ((path, reason),) = failures
    assert path == str(store.stream_path(deadly))
    assert "cannot be decoded: 3 processes died of it" in reason
    made = {path.relative_to(tmp_path / "out") for path in (tmp_path / "out").rglob("*.png")}
    assert made == {Path(f"{entry.name}.png") for entry in store.entries if entry != deadly}
    assert not (tmp_path / "out/.attempts").exists()
