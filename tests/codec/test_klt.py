from __future__ import annotations

import base64
import dataclasses
import re
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from clip_feature_codec.codec.semantic import klt_fit
from clip_feature_codec.codec.semantic.klt import KltCoder
from clip_feature_codec.errors import BitstreamError, ConfigError, StoreError

DIM = 48


def vectors(count: int, seed: int, dim: int = DIM) -> NDArray[np.float32]:
    """Unit vectors about a common mean, with spreads that fall off; some stray wider."""
    rng, frame = np.random.default_rng(seed), np.random.default_rng(dim)
    turn = np.linalg.qr(frame.normal(size=(dim, dim)))[0]
    wide = np.exp(0.4 * rng.normal(size=(count, 1)))
    loose = rng.normal(size=(count, dim)) * 0.5 ** (np.arange(dim) / (dim / 5)) * wide
    full = 0.6 * turn[0] * np.sqrt(dim) + loose @ turn
    return (full / np.linalg.norm(full, axis=1, keepdims=True)).astype(np.float32)


def cosines(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    x, y = a.astype(np.float64), b.astype(np.float64)
    return (x * y).sum(axis=1) / np.sqrt(np.square(x).sum(axis=1) * np.square(y).sum(axis=1))


def sizes(payloads: list[bytes]) -> NDArray[np.int64]:
    return np.array([len(payload) for payload in payloads])


@pytest.fixture(scope="module")
def transform() -> KltCoder:
    return KltCoder.fit(vectors(600, 1))


@pytest.fixture(scope="module")
def fresh() -> NDArray[np.float32]:
    return vectors(60, 2)


def test_finer_steps_are_closer_and_longer(transform: KltCoder, fresh: NDArray[np.float32]):
    lengths, closeness = [], []
    for step in range(0, 256, 15):
        payloads = transform.encode(fresh, np.full(len(fresh), step))
        assert {payload[0] for payload in payloads} == {step}
        lengths.append(sizes(payloads).mean())
        closeness.append(cosines(fresh, transform.decode(payloads)).mean())
    assert (np.diff(lengths) <= 0).all()
    assert (np.diff(closeness) <= 1e-9).all()
    assert closeness[0] > 0.9999999
    assert lengths[-1] == 1


def test_decoded_vectors_have_unit_length(transform: KltCoder, fresh: NDArray[np.float32]):
    decoded = transform.decode(transform.encode(fresh, np.arange(len(fresh)) * 4))
    assert decoded.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(decoded.astype(np.float64), axis=1), 1, atol=1e-6)


def test_the_smallest_payload_is_the_direction_of_the_mean(transform: KltCoder):
    assert transform.smallest == 1
    decoded = transform.decode([b"\xff", b"\x00", b"\x60"])
    mean = transform.mean.astype(np.float64)
    np.testing.assert_allclose(decoded, np.tile(mean / np.linalg.norm(mean), (3, 1)), atol=1e-7)


def test_a_vector_does_not_depend_on_those_beside_it(transform: KltCoder, fresh: NDArray[np.float32]):
    rows = range(0, len(fresh), 9)
    steps = np.arange(len(fresh)) * 3 + 60
    together = transform.encode(fresh, steps)
    assert [transform.encode(fresh[i : i + 1], steps[i : i + 1])[0] for i in rows] == [
        together[i] for i in rows
    ]
    decoded = transform.decode(together)
    for i in rows:
        np.testing.assert_array_equal(transform.decode([together[i]])[0], decoded[i])
    limits = np.arange(len(fresh)) % 30 + 1
    bounded = transform.encode_to_bytes(fresh, limits)
    assert bounded[7] == transform.encode_to_bytes(fresh[7:8], limits[7:8])[0]
    assert transform.encode_to_cosine(fresh[:5], 0.97)[3] == transform.encode_to_cosine(fresh[3:4], 0.97)[0]


def test_no_vectors_are_no_payloads(transform: KltCoder):
    none = np.empty((0, DIM), np.float32)
    assert transform.encode(none, np.empty(0, np.int64)) == []
    assert transform.encode_to_bytes(none, np.empty(0, np.int64)) == []
    assert transform.encode_to_cosine(none, 0.99) == []
    assert transform.decode([]).shape == (0, DIM)


def test_budgets_are_kept_and_used_up(transform: KltCoder, fresh: NDArray[np.float32]):
    finest = sizes(transform.encode(fresh, np.zeros(len(fresh), np.int64)))
    before = np.zeros(len(fresh))
    for limit in (1, 2, 3, 5, 8, 14, 20, 33, 50, 90, 200):
        payloads = transform.encode_to_bytes(fresh, np.full(len(fresh), limit))
        lengths = sizes(payloads)
        assert (lengths <= limit).all()
        if limit >= 5:
            assert (np.minimum(limit, finest) - lengths <= 3).all()
        reached = cosines(fresh, transform.decode(payloads))
        assert reached.mean() >= before.mean() - 1e-9  # float32 vectors
        before = reached


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 120))
def test_no_budget_is_passed(seed: int, limit: int):
    transform = KltCoder.fit(vectors(30, 3, 8))
    rng = np.random.default_rng(seed)
    unit = rng.normal(size=(3, 8)).astype(np.float32)  # nothing like what it was fitted on
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    payloads = transform.encode_to_bytes(unit, np.full(3, limit))
    assert (sizes(payloads) <= limit).all()
    assert transform.decode(payloads).shape == (3, 8)


@pytest.mark.parametrize("target", [-1.0, 0.5, 0.9, 0.99, 0.9999])
def test_target_cosines_are_met(transform: KltCoder, fresh: NDArray[np.float32], target: float):
    payloads = transform.encode_to_cosine(fresh, target)
    assert (cosines(fresh, transform.decode(payloads)) >= target).all()
    if target >= 0.99:
        # Two steps coarser, a twelfth of the distance more, would have missed it.
        coarser = transform.encode(fresh, np.array([payload[0] + 2 for payload in payloads]))
        assert (cosines(fresh, transform.decode(coarser)) < target).mean() > 0.8


def test_impossible_requests_name_what_is_possible(transform: KltCoder, fresh: NDArray[np.float32]):
    with pytest.raises(ConfigError, match=r"^target cosine: found 1\.0, expected at most 0\.99999\d+, which"):
        transform.encode_to_cosine(fresh, 1.0)
    with pytest.raises(ConfigError, match=r"^klt payload: found a limit of 0 bytes, expected 1 or more$"):
        transform.encode_to_bytes(fresh, np.arange(len(fresh)))


def test_foreign_vectors_can_be_coded_as_closely(transform: KltCoder):
    rng = np.random.default_rng(4)
    unit = rng.normal(size=(20, DIM)).astype(np.float32)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    unit[0] = np.eye(DIM)[5]
    payloads = transform.encode_to_cosine(unit, 0.999)
    assert (cosines(unit, transform.decode(payloads)) >= 0.999).all()


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=80))
def test_any_bytes_decode_or_are_refused(blob: bytes):
    transform = KltCoder.fit(vectors(60, 5, 16))
    message = ""
    try:
        decoded = transform.decode([blob])
        assert abs(np.linalg.norm(decoded.astype(np.float64)) - 1) < 1e-6
    except BitstreamError as error:
        message = str(error)
    assert re.fullmatch("|klt payload: found [^\n]+, expected [^\n]+", message)


def test_mutated_payloads_decode_or_are_refused(transform: KltCoder, fresh: NDArray[np.float32]):
    rng = np.random.default_rng(6)
    seeds = transform.encode(fresh, rng.integers(0, 200, len(fresh)))
    refused = 0
    for _ in range(3000):
        blob = bytearray(seeds[rng.integers(len(seeds))])
        for _ in range(rng.integers(1, 4)):
            blob[rng.integers(len(blob))] = rng.integers(256)
        try:
            decoded = transform.decode([bytes(blob[: rng.integers(1, len(blob) + 1)])])
        except BitstreamError:
            refused += 1
        else:
            assert np.isfinite(decoded).all()
    assert 100 < refused < 3000


def test_which_payload_is_refused(transform: KltCoder):
    with pytest.raises(BitstreamError, match=r"^klt payload: found 0 bytes, expected 1 or more$"):
        transform.decode([b"\xff", b""])
    with pytest.raises(BitstreamError, match=r"^klt payload: found 4 bytes that are no stream of"):
        transform.decode([b"\xff", b"\xff\x01\x02\x00"])


@pytest.mark.parametrize("count", [1, 2, 3, 11, 40])
@pytest.mark.parametrize("dim", [1, 2, 5, DIM])
def test_a_few_vectors_are_enough_to_begin_with(count: int, dim: int):
    transform = KltCoder.fit(vectors(count, 7, dim))
    unit = vectors(10, 8, dim)
    assert cosines(unit, transform.decode(transform.encode_to_cosine(unit, 0.99))).min() >= 0.99


def test_vectors_that_are_all_the_same_are_enough_too():
    one = vectors(1, 9)
    transform = KltCoder.fit(np.repeat(one, 50, axis=0))
    assert transform.encode(one, np.array([160])) == [bytes([160])]
    unit = vectors(10, 10)
    assert cosines(unit, transform.decode(transform.encode_to_cosine(unit, 0.99))).min() >= 0.99


def test_opposite_vectors_have_no_mean_direction():
    unit = vectors(20, 11)
    transform = KltCoder.fit(np.concatenate([unit, -unit]))
    np.testing.assert_array_equal(transform.decode([b"\xff"])[0], np.eye(DIM, dtype=np.float32)[0])


def blocks(unit: NDArray[np.float32], sizes: list[int]) -> Iterator[NDArray[np.float32]]:
    at = 0
    for size in sizes:
        yield unit[at : at + size]
        at += size


def test_fitting_does_not_depend_on_how_vectors_arrive(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(klt_fit, "_ROWS", 64)
    monkeypatch.setattr(klt_fit, "_HELD_BYTES", 8 * 64 * DIM * 3)
    unit = vectors(500, 12)
    whole = KltCoder.fit(unit).to_bytes()
    assert KltCoder.fit(blocks(unit, [1, 0, 63, 64, 65, 300, 7])).to_bytes() == whole
    assert KltCoder.fit(blocks(unit, [1] * 500)).to_bytes() == whole


def test_held_out_spreads_are_those_of_fresh_vectors():
    """With fewer than twice as many vectors as dimensions, the sample's own eigenvalues are far off."""
    unit, new = vectors(90, 13), vectors(4000, 14)
    mean, directions, spreads = klt_fit.fit(unit)
    ratio = np.square((new - mean) @ directions.T).mean(axis=0) / spreads**2
    assert 0.5 < np.median(ratio) < 1.6
    assert (ratio > 0.2).all()
    assert (np.diff(spreads) <= 0).all()
    np.testing.assert_allclose(directions @ directions.T, np.eye(DIM), atol=1e-9)


def test_a_wild_vector_does_not_turn_the_basis():
    unit = vectors(300, 15)
    wild = -unit[:3]
    for rows in (unit, np.concatenate([unit, wild])):
        _, directions, _ = klt_fit.fit(rows)
        centred = unit - unit.mean(axis=0)
        shares = np.square(centred @ directions.T).mean(axis=0)
        assert shares[:8].sum() > 0.55 * shares.sum()


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=30))
def test_decreasing_is_the_closest_such_sequence(values: list[float]):
    found = klt_fit.decreasing(np.array(values))
    assert (np.diff(found) <= 1e-9).all()
    # The projection on a convex cone: the rest is orthogonal to it, and no other point of the cone is nearer.
    rest = np.array(values) - found
    assert abs(rest @ found) < 1e-6
    assert (np.cumsum(rest) <= 1e-6).all()


@pytest.mark.parametrize(
    "rows", [np.empty((0, 4), np.float32), np.ones(4, np.float32), np.ones((2, 0), np.float32)]
)
def test_wrong_shapes_are_refused(rows: NDArray[np.float32]):
    with pytest.raises(ConfigError, match=r"^klt, vectors: found .*, expected "):
        KltCoder.fit(rows)
    with pytest.raises(ConfigError, match=r"^klt, vectors: found .*, expected "):
        KltCoder.fit([])
    with pytest.raises(ConfigError, match=r"^klt, vectors: found shape \(1, 5\), expected \(N, 4\)"):
        KltCoder.fit([np.ones((1, 4), np.float32), np.ones((1, 5), np.float32)])


def test_json_gives_the_codec_back(transform: KltCoder, fresh: NDArray[np.float32]):
    again = KltCoder.from_json(transform.to_json())
    steps = np.full(len(fresh), 120)
    assert again.to_bytes() == transform.to_bytes()
    assert again.encode(fresh, steps) == transform.encode(fresh, steps)


def int16(values: object) -> str:
    return base64.b64encode(np.array(values, "<i2").tobytes()).decode()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("dim", None, "klt dim: found None, expected 1 to 8192"),
        ("dim", True, "klt dim: found True, expected 1 to 8192"),
        ("dim", 8193, "klt dim: found 8193, expected 1 to 8192"),
        ("dim", 3, "klt mean: found 4 bytes, expected 6"),
        ("mean", 5, "klt mean: found int, expected base64 text"),
        ("basis", "no", "klt basis: found text that is not base64, expected base64"),
        ("basis", int16([1, 2]), "klt basis: found 4 bytes, expected 8"),
        ("scales", int16([17, 0]), "klt scales: found 0 to 17, expected -400 to 16"),
        (
            "scales",
            int16([-3, -2]),
            "klt scales: found a wider coefficient behind a narrower one, expected the widest first",
        ),
        ("magnitudes", None, "klt frequencies: found NoneType, expected base64 text"),
    ],
)
def test_wrong_json_is_refused(name: str, value: object, message: str):
    data = KltCoder.fit(vectors(9, 16, 2)).to_json()
    with pytest.raises(StoreError) as caught:
        KltCoder.from_json({**data, name: value})
    assert str(caught.value) == message


def test_tables_in_which_vectors_have_no_place_code_none(transform: KltCoder, fresh: NDArray[np.float32]):
    coder = KltCoder(transform.mean, np.ones_like(transform.basis), transform.scales, transform.magnitudes)
    with pytest.raises(ConfigError, match=r"^klt basis: found dependent rows, expected "):
        coder.encode(fresh, np.full(len(fresh), 160))


def test_wrong_tables_are_refused(transform: KltCoder):
    with pytest.raises(ConfigError, match=r"^klt mean: found shape \(2, 2\), expected \(D,\)"):
        dataclasses.replace(transform, mean=np.zeros((2, 2)))
    with pytest.raises(ConfigError, match=r"^klt basis and scales: found shapes"):
        dataclasses.replace(transform, mean=np.zeros(3))
