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

import torch
from torch.utils.data import Sampler


def derived_generator(
    seed: int, purpose: str, index: int = 0, device: torch.device | str = "cpu"
) -> torch.Generator:
    """A generator of its own for each (seed, purpose, index); unrelated ones are independent."""
    digest = hashlib.sha256(f"{seed}/{purpose}/{index}".encode()).digest()
    return torch.Generator(device=device).manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def split(count: int, val_fraction: float, seed: int) -> tuple[list[int], list[int]]:
    """Indices ``0 .. count - 1`` for training and, ``val_fraction`` of them rounded down, for validation."""
    held_back = int(count * val_fraction)
    shuffled = torch.randperm(count, generator=derived_generator(seed, "split")).tolist()
    return sorted(shuffled[held_back:]), sorted(shuffled[:held_back])


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

        An epoch's permutation is read from its start and its last, incomplete step dropped; one shorter
        than a single step is read around.
        """
        step, place = divmod(batch, self.per_step)
        epoch, step_in_epoch = divmod(step, self.steps_per_epoch)
        start = (step_in_epoch * self.per_step + place) * self.batch_size
        order = _permutation(self.count, self.seed, epoch)
        return [int(order[position % self.count]) for position in range(start, start + self.batch_size)]


@lru_cache(maxsize=2)
def _permutation(count: int, seed: int, epoch: int) -> torch.Tensor:
    return torch.randperm(count, generator=derived_generator(seed, "order", epoch))


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
