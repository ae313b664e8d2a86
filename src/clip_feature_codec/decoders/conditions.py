"""From streams to what a decoder is told of their pictures, whichever layers they hold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clip_feature_codec.codec.bitstream import Stream
from clip_feature_codec.codec.feature_codec import FeatureCodec
from clip_feature_codec.errors import BitstreamError, MissingLayerError


@dataclass(frozen=True)
class Conditions:
    """The conditions of N pictures.

    Attributes:
        vectors: (N, D) float32, unit length; zeros where a stream holds no vector.
        layouts: (N, S, S, 3) uint8 RGB; None for a decoder that takes none.
        present: (N,) bool: which of the layouts are there.
        aspects: (N,) float64, width / height of the pictures.
        ignored: how many streams hold a layout that the decoder does not take.
        vector_length: mean length that vectors had before coding; None where the tables do not know it.
    """

    vectors: NDArray[np.float32]
    layouts: NDArray[np.uint8] | None
    present: NDArray[np.bool_]
    aspects: NDArray[np.float64]
    ignored: int
    vector_length: float | None = None

    @classmethod
    def joined(cls, blocks: Sequence[Conditions]) -> Conditions:
        """The pictures of several conditions for one decoder, one after the other; at least one of them."""
        layouts = [block.layouts for block in blocks if block.layouts is not None]
        return cls(
            np.concatenate([block.vectors for block in blocks]),
            np.concatenate(layouts) if layouts else None,
            np.concatenate([block.present for block in blocks]),
            np.concatenate([block.aspects for block in blocks]),
            sum(block.ignored for block in blocks),
            blocks[0].vector_length,
        )


def read_conditions(streams: Sequence[Stream], codec: FeatureCodec, side: int) -> Conditions:
    """Decode those layers of N streams that a decoder can use.

    Args:
        streams: parsed by ``codec``.
        codec: their tables.
        side: of the square layouts that the decoder takes, its ``layout_side``; 0 for none.

    Raises:
        MissingLayerError: a stream holds nothing that the decoder can use.
        BitstreamError: a stream is damaged. Of several streams, the first bad one is named by its position.
    """
    semantic, layout = [stream.semantic for stream in streams], [stream.layout for stream in streams]
    if None in semantic and not side:
        alone = "layers: found a layout alone, expected a vector: this decoder takes no layouts"
        raise _located(MissingLayerError(alone), semantic.index(None), len(streams))
    vectors = np.zeros((len(streams), codec.dim), np.float32)
    _fill(vectors, semantic, codec.semantic.decode)
    present = np.array([payload is not None for payload in layout], dtype=np.bool_)
    aspects = np.array([stream.aspect for stream in streams], dtype=np.float64)
    if not side:
        ignored = int(present.sum())
        return Conditions(vectors, None, np.zeros_like(present), aspects, ignored, codec.vector_length)
    pictures = np.zeros((len(streams), side, side, 3), np.uint8)
    _fill(pictures, layout, lambda some: codec.layout.render(codec.layout.decode(some), side, side))
    return Conditions(vectors, pictures, present, aspects, 0, codec.vector_length)


def _fill(
    target: NDArray[Any], payloads: Sequence[bytes | None], decode: Callable[[list[bytes]], NDArray[Any]]
) -> None:
    """Put what the payloads decode to in their rows of ``target`` (N, ...); a bad one is named by its row."""
    there = [(row, payload) for row, payload in enumerate(payloads) if payload is not None]
    if not there:
        return
    try:
        decoded = decode([payload for _, payload in there])
    except BitstreamError:
        for row, payload in there:
            try:
                decode([payload])
            except BitstreamError as error:
                raise _located(error, row, len(payloads)) from None
        raise
    target[[row for row, _ in there]] = decoded


def _located(error: BitstreamError, row: int, count: int) -> BitstreamError:
    """The error with the stream's position in front, where there is more than one."""
    return error if count == 1 else type(error)(f"stream {row + 1} of {count}: {error}")
