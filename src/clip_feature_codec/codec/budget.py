"""One byte budget for the layers of a stream: what goes where, and nothing left over."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from clip_feature_codec.codec.bitstream import MAX_LAYOUT_BYTES, overhead
from clip_feature_codec.codec.coders import LayerCoder, SemanticCoder
from clip_feature_codec.codec.layers import Layers
from clip_feature_codec.errors import ConfigError

Payloads = list[bytes | None]

_SPLIT = 1  # the byte that a second layer costs
_SPARE = 4  # bytes left over that are worth coding a layout again
_ENOUGH = 40.0  # quality of a vector beside which the layout has more use for a byte
_ROOM_FOR_BOTH = 40  # below this many bytes behind the header, all is the vector's


def require_budget(max_bytes: int, smallest: int) -> None:
    """Refuse a budget below ``smallest``, the bytes that any picture fits into (see `FeatureCodec.smallest`).

    Raises:
        ConfigError: the budget is too small.
    """
    if max_bytes < smallest:
        raise ConfigError(
            f"max bytes: found {max_bytes}, expected at least {smallest} for what is to be coded"
        )


def code_to_budget(
    layers: Layers, max_bytes: int, semantic: SemanticCoder, layout: LayerCoder
) -> list[Payloads]:
    """Code the layers that are there, so that no file is larger than ``max_bytes``.

    Args:
        layers: N pictures; their vectors are of unit length.
        max_bytes: size of a file, header included.
        semantic: codes the vectors.
        layout: codes the layouts.

    Returns:
        N payloads of each layer, in the order of `LAYERS`; None where a stream goes without it.

    Raises:
        ConfigError: the budget is too small; the smallest possible one is named.
    """
    unit, layouts = layers.semantic, layers.layout
    headers = np.array([overhead(aspect, layers=1) for aspect in layers.shapes], dtype=np.int64)
    rooms = max_bytes - headers
    least = layout.smallest if unit is None else semantic.smallest
    require_budget(max_bytes, int(headers.max(initial=0)) + least)
    coded: Payloads = [None] * len(rooms)
    if unit is None:
        return [[None] * len(rooms), _code_layouts(coded, layouts, rooms, layout)]
    if layouts is not None:
        coded = _code_layouts(coded, layouts, _layout_limits(unit, rooms, semantic), layout)
    taken = np.array([0 if p is None else _SPLIT + len(p) for p in coded], dtype=np.int64)
    vectors = semantic.encode_to_bytes(unit, rooms - taken)
    if layouts is not None:
        # What the vector has no use for is the layout's.
        taken = np.array([_SPLIT + len(payload) for payload in vectors], dtype=np.int64)
        coded = _code_layouts(coded, layouts, rooms - taken, layout)
    return [[*vectors], coded]


def _layout_limits(
    unit: NDArray[np.float32], rooms: NDArray[np.int64], semantic: SemanticCoder
) -> NDArray[np.int64]:
    """The rule by which a budget is split (benchmarks/split.py): bytes of the layout layer.

    Half is the vector's, but no more than a quality of `_ENOUGH` takes: beyond that a decoded picture gains
    little from the vector, and up to 255 bytes it does from the layout. What neither can use goes to the
    vector. A budget too small for both is the vector's alone.

    Args:
        unit: unit vectors, float32 (N, D).
        rooms: int64 (N,), bytes of a file behind its header.
        semantic: codes the vectors.
    """
    usual = semantic.encode(unit, np.full(len(unit), semantic.step_at(_ENOUGH)))
    enough = np.array([len(payload) for payload in usual], dtype=np.int64)
    vector = np.maximum(np.minimum((rooms - _SPLIT) // 2, enough), semantic.smallest)
    return np.where(rooms < _ROOM_FOR_BOTH, 0, rooms - _SPLIT - vector)


def _code_layouts(
    coded: Payloads, layouts: NDArray[Any] | None, limits: NDArray[np.int64], layout: LayerCoder
) -> Payloads:
    """Code the layouts whose limit leaves room for notably more than what ``coded`` has of them already."""
    limits = np.minimum(limits, MAX_LAYOUT_BYTES)
    lengths = np.array([0 if payload is None else len(payload) for payload in coded], dtype=np.int64)
    rows = np.flatnonzero(limits >= np.maximum(layout.smallest, lengths + _SPARE))
    if layouts is None or not len(rows):
        return coded
    result = [*coded]
    for row, payload in zip(rows, layout.encode_to_bytes(layouts[rows], limits[rows]), strict=True):
        result[row] = payload
    return result
