"""How a pipeline fits on its device: precision, offloading, slicing, and how many pictures at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeVar

import torch

from clip_feature_codec.errors import ConfigError

T = TypeVar("T")

_SPARE = 2 << 30  # bytes for what is computed beside the weights, of one picture in half precision


class MemoryPlan(NamedTuple):
    """How a pipeline is put on its device.

    Attributes:
        dtype: of its weights and of what it computes.
        offload: only the network that is running is on the device.
        slices: attention and the picture decoder work on a part at a time.
    """

    dtype: torch.dtype
    offload: bool = False
    slices: bool = False


def plan_memory(
    device: torch.device, weights: int, half: torch.dtype = torch.float16, free: int | None = None
) -> MemoryPlan:
    """Choose by what the device has.

    Args:
        device: where the pipeline is to run.
        weights: bytes of its weights in half precision.
        half: what half precision is for it.
        free: bytes that are free on a CUDA device; None: asked of it.
    """
    if device.type == "cpu":
        return MemoryPlan(torch.float32)
    if device.type != "cuda":  # MPS shares the machine's memory: offloading would win nothing
        return MemoryPlan(half, slices=True)
    left = (torch.cuda.mem_get_info(device)[0] if free is None else free) - weights
    return MemoryPlan(half, offload=left < _SPARE, slices=left < 2 * _SPARE)


class Portions:
    """Works on as many pictures at once as the memory takes, and learns from failing.

    Args:
        most: at once; None: all.
    """

    def __init__(self, most: int | None = None) -> None:
        self._most = most

    def work(
        self, rows: Sequence[int], do: Callable[[Sequence[int]], Sequence[T]]
    ) -> Iterator[tuple[int, T]]:
        """Give each row with what ``do`` made of it; ``do`` may be called again with fewer rows.

        Raises:
            ConfigError: the memory is too small for one.
        """
        todo = list(rows)
        while todo:
            part = todo[: self._most]
            try:
                done = do(part)
            except torch.OutOfMemoryError:
                if len(part) == 1:
                    raise ConfigError(
                        "the device's memory is too small for this decoder: --device cpu"
                    ) from None
                self._most = len(part) // 2
                torch.cuda.empty_cache()
                continue
            yield from zip(part, done, strict=True)
            todo = todo[len(part) :]
