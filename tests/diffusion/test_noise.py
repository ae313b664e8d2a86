from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clip_feature_codec.diffusion.noise import NoiseGenerator


@given(
    seed=st.integers(0, 2**64 - 1),
    shapes=st.lists(
        st.tuples(st.integers(1, 4), st.integers(4, 20), st.integers(4, 20)), min_size=1, max_size=3
    ),
)
@settings(max_examples=100, deadline=None)
def test_the_numbers_are_those_of_torch(seed: int, shapes: list[tuple[int, int, int]]) -> None:
    """Pictures were painted with torch's noise, and are painted with the same."""
    ours, theirs = NoiseGenerator(seed), torch.Generator().manual_seed(seed)
    for shape in shapes:  # one after the other, from one generator
        found = ours.normal(*shape)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, torch.randn(shape, generator=theirs).numpy(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("count", [1, 7, 15, 16, 17, 100_000])
def test_the_numbers_are_normal_and_as_many_as_asked(count: int) -> None:
    found = NoiseGenerator(5).normal(count)
    assert found.shape == (count,)
    assert np.isfinite(found).all()
    if count > 1000:
        assert abs(found.mean()) < 0.02
        assert abs(found.std() - 1) < 0.01
        assert abs((np.abs(found) < 1).mean() - 0.6827) < 0.01
