"""Randomness without state: what happens in a step follows from the seed and the step's number alone.

Nothing needs to be saved for a training to resume exactly, and nothing depends on how the work is spread:
batch ``g`` of a training holds the same pictures and the same noise whether it is the second of two
processes or the second of two accumulated batches that gets it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Sampler

BLOCK = 1024
"""So many pictures that follow each other are read from about one place: a row group of a shard."""
WINDOW = 64
"""So many blocks, from all over the store, are shuffled together."""


def derived_generator(
    seed: int, purpose: str, index: int = 0, device: torch.device | str = "cpu"
) -> torch.Generator:
    """A generator of its own for each (seed, purpose, index); unrelated ones are independent."""
    digest = hashlib.sha256(f"{seed}/{purpose}/{index}".encode()).digest()
    return torch.Generator(device=device).manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def split(count: int, val_fraction: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices ``0 .. count - 1`` for training and, ``val_fraction`` of them rounded down, for validation."""
    held_back = int(count * val_fraction)
    shuffled = torch.randperm(count, generator=derived_generator(seed, "split")).numpy()
    return np.sort(shuffled[held_back:]), np.sort(shuffled[:held_back])


@dataclass(frozen=True)
class BatchOrder:
    """Which pictures each batch of a training holds.

    Attributes:
        count: training pictures.
        batch_size: pictures per batch.
        per_step: batches per optimizer step, all processes and accumulated ones together.
        seed: of the permutations, one per epoch.
    """

    count: int
    batch_size: int
    per_step: int
    seed: int

    @property
    def steps_per_epoch(self) -> int:
        """Whole steps in an epoch; where there are fewer pictures than one step takes, it is 1."""
        return max(1, self.count // (self.batch_size * self.per_step))

    def last_step(self, epochs: int, limit: int | None) -> int:
        """The step that ends so many epochs, or ``limit`` where that comes before it."""
        steps = epochs * self.steps_per_epoch
        return steps if limit is None else min(steps, limit)

    def indices(self, batch: int) -> list[int]:
        """The pictures of a batch, counted from 0 over the whole training.

        An epoch's order is read from its start and its last, incomplete step dropped; one shorter than a
        single step is read around. See `shuffled`.
        """
        step, place = divmod(batch, self.per_step)
        epoch, step_in_epoch = divmod(step, self.steps_per_epoch)
        start = (step_in_epoch * self.per_step + place) * self.batch_size
        places = range(start, start + self.batch_size)
        return [shuffled(self.count, self.seed, epoch, place % self.count) for place in places]


def shuffled(count: int, seed: int, epoch: int, place: int) -> int:
    """The picture at a place of an epoch's order.

    Up to `WINDOW` blocks of `BLOCK` pictures are shuffled as a whole. Where there are more, blocks are
    shuffled, and then the pictures of `WINDOW` blocks at a time: so a while of the training reads from few
    places of the store. What is held is a number for each block, and one for each picture of a window.
    """
    blocks = -(-count // BLOCK)
    if blocks <= WINDOW:
        return int(_permutation(count, seed, "order", epoch)[place])
    order = _blocks(blocks, count, seed, epoch)
    # The last block, which may be a shorter one, stands last: all others begin at multiples of BLOCK.
    window, inside = divmod(place, WINDOW * BLOCK)
    first = window * WINDOW
    held = min(count - window * WINDOW * BLOCK, WINDOW * BLOCK)
    number = int(_permutation(held, seed, f"order {window}", epoch)[inside])
    return int(order[first + number // BLOCK]) * BLOCK + number % BLOCK


@lru_cache(maxsize=2)
def _blocks(blocks: int, count: int, seed: int, epoch: int) -> torch.Tensor:
    """The order of the blocks; a last one that is shorter stays the last."""
    whole = count // BLOCK
    order = torch.randperm(whole, generator=derived_generator(seed, "blocks", epoch))
    return torch.cat([order, torch.arange(whole, blocks)])


@lru_cache(maxsize=3)
def _permutation(count: int, seed: int, purpose: str, epoch: int) -> torch.Tensor:
    return torch.randperm(count, generator=derived_generator(seed, purpose, epoch))


class ProcessBatches(Sampler[list[int]]):
    """The batches that one of ``world`` processes trains on, from ``first_step`` up to ``last_step``."""

    def __init__(self, order: BatchOrder, *, rank: int, world: int, first_step: int, last_step: int) -> None:
        self.order = order
        first, last = first_step * order.per_step, last_step * order.per_step
        self.batches = range(first + rank, last, world)

    def __iter__(self) -> Iterator[list[int]]:
        return (self.order.indices(batch) for batch in self.batches)

    def __len__(self) -> int:
        return len(self.batches)
