"""Some pictures of a store, read and embedded once for all codecs, and our streams of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clip_feature_codec.codec.bitstream import Stream
from clip_feature_codec.codec.feature_codec import FeatureCodec
from clip_feature_codec.codec.layers import Layers
from clip_feature_codec.codec.rate import Rate
from clip_feature_codec.errors import ConfigError
from clip_feature_codec.evaluate.cost import Cost, measure
from clip_feature_codec.evaluate.results import Budget, Failure
from clip_feature_codec.store.manifest import Entry


@dataclass(frozen=True)
class Coded:
    """One file of one picture.

    Attributes:
        data: the file.
        payload: bytes of it without header or container.
        settings: how the codec was set, in words.
        cost: of encoding it; None where it was there already.
        stream: the file taken apart, where it is one of ours.
    """

    data: bytes
    payload: int
    settings: str
    cost: Cost | None
    stream: Stream | None = None


@dataclass
class Batch:
    """Some pictures of the store, read and embedded once for all codecs.

    Attributes:
        entries: N entries of the store.
        paths: where their streams lie, for messages.
        streams: these streams.
        references: the pictures, RGB, at the size at which they are compared.
        aspects: width / height as their streams have it.
        layouts: N arrays of layout coefficients (L,).
        analysis_ms: what it took to make vector and layout of each picture.
        vectors: of the streams' own CLIP, float32 (N, D), unit length.
        failures: what a baseline could not do.
    """

    entries: list[Entry] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    streams: list[Stream] = field(default_factory=list)
    references: list[Image.Image] = field(default_factory=list)
    aspects: list[float] = field(default_factory=list)
    layouts: list[NDArray[np.float32]] = field(default_factory=list)
    analysis_ms: list[float] = field(default_factory=list)
    vectors: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    failures: list[Failure] = field(default_factory=list)
    _coded_streams: dict[tuple[str, Budget], list[Coded | None]] = field(default_factory=dict)

    def limits(self, budget: Budget) -> list[int]:
        """Bytes that each picture may take."""
        return [len(stream.blob) if budget is None else budget for stream in self.streams]

    def coded(self, codec: FeatureCodec, layers: str, budget: Budget) -> list[Coded | None]:
        """Our streams of some layers under a budget; coded once, however many decoders read them."""
        key = layers, budget
        if key not in self._coded_streams:
            stored = budget is None and layers != "layout"  # that layer alone is coded anew
            self._coded_streams[key] = [
                _described(stream, None) if stored else self._coded(row, codec, layers, limit)
                for row, (stream, limit) in enumerate(zip(self.streams, self.limits(budget), strict=True))
            ]
        return self._coded_streams[key]

    def _coded(self, row: int, codec: FeatureCodec, layers: str, limit: int) -> Coded | None:
        rate = Rate(max_bytes=limit, layers=layers)
        picture = Layers(self.vectors[row : row + 1], self.layouts[row][None], [self.aspects[row]])
        try:
            blobs, cost = measure(partial(codec.encode, picture, rate))
        except ConfigError:  # nothing is as small as that
            return None
        return _described(codec.parse(blobs[0]), Cost(cost.ms + self.analysis_ms[row], cost.mb))


def _described(stream: Stream, cost: Cost | None) -> Coded:
    """One of our streams, with the bytes of its layers."""
    layers = {"vector": stream.semantic, "layout": stream.layout}
    sizes = {name: len(payload) for name, payload in layers.items() if payload is not None}
    words = ", ".join(f"{name} {size} bytes" for name, size in sizes.items())
    return Coded(stream.blob, sum(sizes.values()), words, cost, stream)
