"""The networks of a codec, shared by all requests: pictures and words to vectors, streams to pictures."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clip_feature_codec.api import ClipCodec
from clip_feature_codec.codec.bitstream import Stream
from clip_feature_codec.codec.layers import Layers
from clip_feature_codec.codec.rate import Rate
from clip_feature_codec.decoders.options import PaintOptions
from clip_feature_codec.decoders.protocol import Decoder
from clip_feature_codec.embed import Embedder
from clip_feature_codec.extras import extra
from clip_feature_codec.images import load_image
from clip_feature_codec.preview import analyse
from clip_feature_codec.reconstruct import paint
from clip_feature_codec.serve.batching import Batcher

R = TypeVar("R")

_EMBEDDED_TOGETHER = 16
_PAINTED_TOGETHER = 8
_WAITING = 128
_READ_TOGETHER = 2
"""Pictures in memory at their full size."""


class Seen(NamedTuple):
    """What is kept of an uploaded picture: far less than its pixels.

    Attributes:
        pixels: as the CLIP model takes them, float32 (3, S, S); None where no vector is wanted.
        layout: layout coefficients (L,); None where none are wanted.
        aspect: width / height.
    """

    pixels: NDArray[np.float32] | None
    layout: NDArray[np.float32] | None
    aspect: float


class Workshop:
    """What takes a while, done in threads, so that the event loop answers everybody else meanwhile.

    Args:
        codec: the codec.
        max_pixels: pictures of more are refused before they are decoded.
    """

    def __init__(self, codec: ClipCodec, max_pixels: int) -> None:
        self.codec, self.max_pixels = codec, max_pixels
        self.embed = Batcher(self._embed, _EMBEDDED_TOGETHER, _WAITING)
        self.embed_text = Batcher(self._embed_text, _EMBEDDED_TOGETHER, _WAITING)
        self.paint = Batcher(self._paint, _PAINTED_TOGETHER, _WAITING)
        self._readers = ThreadPoolExecutor(_READ_TOGETHER)

    @property
    def embedder(self) -> Embedder:
        """The CLIP model, loaded at its first use."""
        with extra("clip", "this store's CLIP model"):
            return self.codec.embedder

    @property
    def decoder(self) -> Decoder:
        """What paints, loaded at its first use."""
        return self.codec.decoder

    async def read(self, function: Callable[[], R]) -> R:
        """Call what holds a picture at its full size, together with few others."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, function)

    async def embed_picture(self, data: bytes) -> NDArray[np.float32]:
        """The vector (D,) of a picture's file.

        Raises:
            ImageError: it is no picture, or has too many pixels.
        """

        def look() -> NDArray[np.float32]:
            return self.embedder.preprocess(load_image(data, self.max_pixels))

        return await self.embed(None, await self.read(look))

    async def encode(self, data: bytes, rate: Rate) -> bytes:
        """Code a picture's file.

        Raises:
            ImageError: it is no picture, or has too many pixels.
        """

        def look() -> Seen:
            picture = load_image(data, self.max_pixels)
            pixels = None if rate.layers == "layout" else self.embedder.preprocess(picture)
            layout = None if rate.layers == "semantic" else analyse(picture)
            return Seen(pixels, layout, picture.width / picture.height)

        seen = await self.read(look)
        vectors = None if seen.pixels is None else (await self.embed(None, seen.pixels))[None]
        layouts = None if seen.layout is None else seen.layout[None]
        layers = Layers(vectors, layouts, [seen.aspect])
        (blob,) = await asyncio.to_thread(self.codec.features.encode, layers, rate)
        return blob

    def _embed(self, _: None, pixels: list[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        return list(self.embedder.embed_batch(np.stack(pixels)))

    def _embed_text(self, _: None, texts: list[str]) -> list[NDArray[np.float32]]:
        return list(self.embedder.embed_text(texts))

    def _paint(self, options: PaintOptions, streams: list[Stream]) -> list[Image.Image]:
        return list(paint(streams, self.codec.features, self.decoder, options, batch_size=len(streams)))
