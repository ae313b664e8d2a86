"""From streams to what a decoder is told of their pictures, whichever layers they hold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clip_feature_codec.codec.bitstream import Stream
from clip_feature_codec.codec.feature_codec import FeatureCodec
from clip_feature_codec.diffusion.unet import layout_planes
from clip_feature_codec.errors import BitstreamError, MissingLayerError


@dataclass(frozen=True)
class Conditions:
    """The conditions of N pictures.

    Attributes:
        vectors: (N, D) float32, unit length; zeros where a stream holds no vector.
        layouts: (N, 3, S, S) uint8 RGB; None for a decoder that takes none.
        present: (N,) bool: which of the layouts are there.
        ignored: how many streams hold a layout that the decoder does not take.
    """

    vectors: Tensor
    layouts: Tensor | None
    present: Tensor
    ignored: int

    def planes(self) -> Tensor | None:
        """The layouts as `CLIPCondUNet` takes them, (N, 4, S, S) float32, or None where no row has one."""
        if self.layouts is None or not self.present.any():
            return None
        return layout_planes(self.layouts, self.present)


def read_conditions(streams: Sequence[Stream], codec: FeatureCodec, side: int) -> Conditions:
    """Decode those layers of N streams that a decoder can use.

    Args:
        streams: streams of ``codec``.
        codec: their tables.
        side: of the square layouts that the decoder takes, its ``layout``; 0 for none.

    Raises:
        MissingLayerError: a stream holds nothing that the decoder can use.
        BitstreamError: a payload is none of ours. Of several streams, the first bad one is named by its
            position.
    """
    semantic, layout = [stream.semantic for stream in streams], [stream.layout for stream in streams]
    if None in semantic and not side:
        alone = "layers: found a layout alone, expected a vector: this decoder takes no layouts"
        raise _located(MissingLayerError(alone), semantic.index(None), len(streams))
    vectors = torch.zeros(len(streams), codec.dim)
    _fill(vectors, semantic, codec.semantic.decode)
    present = torch.tensor([payload is not None for payload in layout], dtype=torch.bool)
    if not side:
        return Conditions(vectors, None, torch.zeros_like(present), int(present.sum()))
    pictures = torch.zeros(len(streams), side, side, 3, dtype=torch.uint8)
    _fill(pictures, layout, lambda some: codec.layout.render(codec.layout.decode(some), side, side))
    return Conditions(vectors, pictures.permute(0, 3, 1, 2), present, 0)


def _fill(
    target: Tensor, payloads: Sequence[bytes | None], decode: Callable[[list[bytes]], NDArray[Any]]
) -> None:
    """Put what the payloads decode to in their rows; when one is bad, name it by its row."""
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
    target[[row for row, _ in there]] = torch.from_numpy(np.ascontiguousarray(decoded))


def _located(error: BitstreamError, row: int, count: int) -> BitstreamError:
    """The error with the stream's position in front, where there is more than one."""
    return error if count == 1 else type(error)(f"stream {row + 1} of {count}: {error}")
