from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from clip_feature_codec.train.order import BatchOrder, ProcessBatches, derived_generator, split

sizes = st.integers(1, 40), st.integers(1, 9), st.integers(1, 4), st.integers(0, 3)


@given(*sizes)
def test_an_epoch_takes_every_picture_at_most_once_and_nearly_all(count, batch_size, per_step, seed):
    order = BatchOrder(count, batch_size, per_step, seed)
    for epoch in range(3):
        first = epoch * order.steps_per_epoch * per_step
        batches = [order.indices(first + number) for number in range(order.steps_per_epoch * per_step)]
        assert all(len(batch) == batch_size for batch in batches)
        seen = [index for batch in batches for index in batch]
        assert set(seen) <= set(range(count))
        if count >= batch_size * per_step:
            assert len(set(seen)) == len(seen) > count - batch_size * per_step
        else:  # read around: everything is seen, and equally often but for one
            times = [seen.count(index) for index in range(count)]
            assert 1 <= max(times) <= min(times) + 1


def test_epochs_and_seeds_shuffle_differently():
    order = BatchOrder(30, 30, 1, seed=0)
    assert order.indices(0) != order.indices(1)
    assert order.indices(0) != BatchOrder(30, 30, 1, seed=1).indices(0)
    assert order.indices(0) == BatchOrder(30, 30, 1, seed=0).indices(0)


@given(*sizes, st.integers(0, 5))
def test_processes_share_the_batches_of_every_step(count, batch_size, per_step, seed, first_step):
    order = BatchOrder(count, batch_size, per_step, seed)
    whole = list(ProcessBatches(order, rank=0, world=1, first_step=0, last_step=8))
    shares = [
        list(ProcessBatches(order, rank=rank, world=per_step, first_step=first_step, last_step=8))
        for rank in range(per_step)
    ]
    together = [batch for step in zip(*shares, strict=True) for batch in step]
    assert together == whole[first_step * per_step :]


@given(st.integers(0, 60), st.floats(0, 0.99), st.integers(0, 3))
def test_split_is_a_partition(count, fraction, seed):
    train, held_back = (part.tolist() for part in split(count, fraction, seed))
    assert sorted(train + held_back) == list(range(count))
    assert len(held_back) == int(count * fraction)
    assert [train, held_back] == [part.tolist() for part in split(count, fraction, seed)]


def test_generators_are_their_own():
    def draw(*key):
        return torch.rand(4, generator=derived_generator(*key)).tolist()

    keys = [(0, "a", 0), (0, "a", 1), (0, "b", 0), (1, "a", 0)]
    assert len({tuple(draw(*key)) for key in keys}) == len(keys)
    assert draw(0, "a", 1) == draw(0, "a", 1)
