"""Tables that weigh errors by queries: what is asked for is kept better, and everything else still holds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clip_feature_codec.codec.semantic.klt import KltCoder
from clip_feature_codec.errors import ConfigError

DIM = 32


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def vectors(count: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return unit(3 * np.cos(np.arange(DIM)) + rng.normal(size=(count, DIM)) * 2.0 ** -(np.arange(DIM) / 16))


def queries(count: int, seed: int) -> np.ndarray:
    """They differ in some of the vectors' narrower directions."""
    rng = np.random.default_rng(seed)
    spread = np.where(np.arange(DIM) % 4 == 3, 1.0, 0.05)
    return unit(2 * np.sin(np.arange(DIM)) + rng.normal(size=(count, DIM)) * spread)


@pytest.fixture(scope="module")
def plain() -> KltCoder:
    return KltCoder.fit(vectors(800, 1))


@pytest.fixture(scope="module")
def weighted() -> KltCoder:
    return KltCoder.fit(vectors(800, 1), queries(100, 2))


def test_products_with_other_queries_are_kept_better(plain: KltCoder, weighted: KltCoder) -> None:
    new, asked = vectors(200, 3), queries(100, 4)
    centred = asked - asked.mean(axis=0)
    for limit in (8, 12, 20):
        errors = [
            np.square(
                (coder.decode(coder.encode_to_bytes(new, np.full(200, limit))) - new) @ centred.T
            ).mean()
            for coder in (plain, weighted)
        ]
        assert errors[1] < 0.8 * errors[0]


@pytest.mark.parametrize("target", [0.9, 0.99, 0.999])
def test_cosines_are_met_in_a_few_bytes_more(plain: KltCoder, weighted: KltCoder, target: float) -> None:
    new = vectors(60, 5)
    sizes = []
    for coder in (plain, weighted):
        payloads = coder.encode_to_cosine(new, target)
        assert np.einsum("nd,nd->n", new, coder.decode(payloads), dtype=np.float64).min() >= target - 1e-7
        sizes.append(sum(map(len, payloads)))
    assert sizes[1] < 1.4 * sizes[0]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), step=st.integers(0, 255))
def test_any_vector_comes_back(weighted: KltCoder, seed: int, step: int) -> None:
    given_vectors = unit(np.random.default_rng(seed).normal(size=(3, DIM)))
    payloads = weighted.encode(given_vectors, np.full(3, step))
    decoded = weighted.decode(payloads)
    assert payloads == weighted.encode(given_vectors, np.full(3, step))
    if step < 60:
        assert np.einsum("nd,nd->n", given_vectors, decoded).min() > 0.999


def test_json_gives_the_same_coder(weighted: KltCoder) -> None:
    again = KltCoder.from_json(weighted.to_json())
    new = vectors(5, 6)
    assert again.encode_to_bytes(new, np.full(5, 14)) == weighted.encode_to_bytes(new, np.full(5, 14))


def test_no_queries_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"^queries: found shape \(0, 32\), expected \(M, D\), M >= 1$"):
        KltCoder.fit(vectors(20, 1), np.empty((0, DIM), np.float32))
