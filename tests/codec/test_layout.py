from __future__ import annotations

import json
from functools import cache

import numpy as np
import pytest
import scipy.fft
from hypothesis import given, settings
from hypothesis import strategies as st

from clip_feature_codec.codec.layout import tables as layout_tables
from clip_feature_codec.codec.layout.block import MAX_STEP
from clip_feature_codec.codec.layout.coder import MAX_BYTES, UNITS, LayoutCoder
from clip_feature_codec.codec.layout.tables import geometry
from clip_feature_codec.errors import BitstreamError, ConfigError, StoreError

CODER = LayoutCoder.builtin()
SIDE = LayoutCoder.canvas


@cache
def pictures(count: int = 6) -> np.ndarray:
    """Fields with a spectrum much like a photo's, uint8 (N, 96, 96, 3)."""
    rng = np.random.default_rng(0)
    frequencies = np.arange(24)
    amplitudes = 40 / (1 + frequencies[:, None] ** 2 + frequencies**2) ** 0.6
    spectra = np.zeros((count, SIDE, SIDE, 3))
    spectra[:, :24, :24] = 0.2 * rng.laplace(0, 1, (count, 24, 24, 3)) * amplitudes[..., None]
    spectra[:, :24, :24] += rng.laplace(0, 1, (count, 24, 24, 1)) * amplitudes[..., None]
    fields = scipy.fft.idctn(spectra * SIDE, axes=(1, 2), norm="ortho")
    return np.clip(np.rint(fields + rng.uniform(90, 160, (count, 1, 1, 3))), 0, 255).astype(np.uint8)


@cache
def layouts() -> np.ndarray:
    return np.stack([CODER.analyse(picture) for picture in pictures()])


def error(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.square(a.astype(np.float64) - b).mean())


def test_the_analysis_is_the_lowest_part_of_an_orthonormal_dct_of_opponent_colours() -> None:
    rows = np.array([[1, 1, 1], [1, 0, -1], [1, -2, 1]]) / np.sqrt([[3], [2], [6]])
    for picture, found in zip(pictures(), layouts(), strict=True):
        planes = np.einsum("cd,yxd->cyx", rows, picture - 127.5)
        spectrum = scipy.fft.dctn(planes, axes=(1, 2), norm="ortho") / SIDE
        channels, u, v = geometry().places.T
        np.testing.assert_allclose(found, UNITS * spectrum[channels, u, v], atol=0.6)
        assert (found == np.rint(found)).all()
        assert found.dtype == np.float32


def test_places_are_ordered_by_channel_then_diagonal_then_vertical_frequency() -> None:
    places = geometry().places.tolist()
    assert len(places) == CODER.coefficients
    assert places == sorted(places, key=lambda place: (place[0], place[1] + place[2], place[1]))
    assert places[:4] == [[0, 0, 0], [0, 0, 1], [0, 1, 0], [0, 0, 2]]
    reached = [max(u * u + v * v for c, u, v in places if c == channel) for channel in range(3)]
    assert reached[0] <= 1640
    assert max(reached[1:]) <= 650


def test_neighbours_come_earlier() -> None:
    places = geometry().places.tolist()
    index = {tuple(place): i for i, place in enumerate(places)}
    steps = [(-1, 0), (0, -1), (-2, 0), (0, -2), (-1, 1), (-2, 2), (-3, 0), (0, -3)]
    for i, (channel, u, v) in enumerate(places):
        expected = [(channel, u + du, v + dv) for du, dv in steps]
        expected += [(earlier, u, v) if earlier < channel else (-1, 0, 0) for earlier in range(2)]
        for place, found in zip(expected, geometry().neighbours[i].tolist(), strict=True):
            assert found == index.get(place, len(places))
            assert found < i or found == len(places)


@pytest.mark.parametrize("step", [0, 30, 61, 90, MAX_STEP])
def test_payloads_begin_with_their_step_and_decode_near_the_original(step: int) -> None:
    payloads = CODER.encode(layouts(), np.full(len(layouts()), step))
    decoded = CODER.decode(payloads)
    assert decoded.dtype == np.int64
    for payload, found, given_row in zip(payloads, decoded, layouts(), strict=True):
        assert len(payload) <= MAX_BYTES
        assert payload[0] >= step
        width = UNITS / 8 * 2 ** (payload[0] / 16)
        # Of coefficients that became zero, rates leave a few steps' worth; the coarsest step drops all.
        assert payload[0] > 100 or error(found, given_row) < (2 * width) ** 2


def test_finer_steps_take_more_bytes_and_leave_less_error() -> None:
    steps = range(60, 130, 10)
    rows = layouts()
    coded = [CODER.encode(rows, np.full(len(rows), step)) for step in steps]
    sizes = [sum(map(len, payloads)) for payloads in coded]
    errors = [error(CODER.decode(payloads), rows) for payloads in coded]
    assert sizes == sorted(sizes, reverse=True)
    assert errors == sorted(errors)


def test_a_step_too_fine_for_the_longest_payload_becomes_coarser() -> None:
    payloads = CODER.encode(layouts(), np.zeros(len(layouts()), np.int64))
    assert all(MAX_BYTES - 12 <= len(payload) <= MAX_BYTES for payload in payloads)


@pytest.mark.parametrize("limit", [4, 13, 33, 64, 140, 255])
def test_budgets_hold_and_are_used_up(limit: int) -> None:
    payloads = CODER.encode_to_bytes(layouts(), np.full(len(layouts()), limit))
    sizes = np.array([len(payload) for payload in payloads])
    assert (sizes <= limit).all()
    assert sizes.mean() >= limit - 3


def test_more_bytes_leave_less_error_and_limits_are_per_row() -> None:
    row = layouts()[:1]
    limits = np.array([4, 8, 12, 20, 40, 80, 120, 180, 255, 5000])
    payloads = CODER.encode_to_bytes(np.repeat(row, len(limits), axis=0), limits)
    errors = [error(found, row[0]) for found in CODER.decode(payloads)]
    assert errors == sorted(errors, reverse=True)
    assert len(payloads[-1]) <= MAX_BYTES
    assert payloads[3] == CODER.encode_to_bytes(row, limits[3:4])[0]


def test_coding_again_at_the_same_step_costs_little() -> None:
    first = CODER.decode(CODER.encode(layouts(), np.full(len(layouts()), 60)))
    again = CODER.decode(CODER.encode(first, np.full(len(layouts()), 60)))
    assert error(again, layouts()) < 1.3 * error(first, layouts())


def test_the_mean_picture_takes_the_step_alone() -> None:
    row = CODER.tables.mean[None]
    payload = CODER.encode(row, np.array([MAX_STEP]))[0]
    assert payload == bytes([MAX_STEP])
    np.testing.assert_array_equal(CODER.decode([payload])[0], row[0])


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (200, 30, 90), (0, 0, 255)])
def test_flat_pictures_come_back(colour: tuple[int, int, int]) -> None:
    flat = np.full((SIDE, SIDE, 3), colour, np.uint8)
    payload = CODER.encode_to_bytes(CODER.analyse(flat)[None], np.array([24]))[0]
    shown = CODER.render(CODER.decode([payload])[0], 31, 17)
    assert np.abs(shown.astype(int) - colour).max() <= 6


def test_gradients_come_back() -> None:
    ramp = np.linspace(30, 220, SIDE)
    picture = np.stack(np.broadcast_arrays(ramp, ramp[:, None], 128.0), axis=-1).astype(np.uint8)
    payload = CODER.encode_to_bytes(CODER.analyse(picture)[None], np.array([48]))[0]
    shown = CODER.render(CODER.decode([payload])[0], SIDE, SIDE)
    assert np.sqrt(error(shown, picture)) < 6


def test_render_agrees_with_the_inverse_dct() -> None:
    for row in layouts():
        spectrum = np.zeros((3, SIDE, SIDE))
        channels, u, v = geometry().places.T
        spectrum[channels, u, v] = row / UNITS * SIDE
        planes = scipy.fft.idctn(spectrum, axes=(1, 2), norm="ortho")
        rows = np.array([[1, 1, 1], [1, 0, -1], [1, -2, 1]]) / np.sqrt([[3], [2], [6]])
        expected = np.clip(np.einsum("cd,cyx->yxd", rows, planes) + 127.5, 0, 255)
        assert np.abs(CODER.render(row, SIDE, SIDE) - expected).max() <= 0.51


@pytest.mark.parametrize(("width", "height"), [(1, 1), (256, 256), (64, 48), (7, 300)])
def test_render_sizes(width: int, height: int) -> None:
    shown = CODER.render(layouts()[0], width, height)
    assert shown.shape == (height, width, 3)
    assert shown.dtype == np.uint8
    batch = CODER.render(layouts()[:2], width, height)
    assert batch.shape == (2, height, width, 3)
    np.testing.assert_array_equal(batch[0], shown)


def test_render_shows_the_same_picture_at_every_size() -> None:
    large = CODER.render(layouts()[0], 192, 192).astype(np.float64)
    small = CODER.render(layouts()[0], 64, 64)
    assert np.sqrt(error(large.reshape(64, 3, 64, 3, 3).mean(axis=(1, 3)), small)) < 3


def test_pictures_of_extremes_are_coded() -> None:
    rng = np.random.default_rng(1)
    noise = rng.integers(0, 2, (SIDE, SIDE, 3), dtype=np.uint8) * 255
    halves = np.zeros((SIDE, SIDE, 3), np.uint8)
    halves[:, SIDE // 2 :] = 255
    rows = np.stack([CODER.analyse(noise), CODER.analyse(halves), np.full(CODER.coefficients, 1e9)])
    for limit in (4, 100):
        payloads = CODER.encode_to_bytes(rows, np.full(3, limit))
        assert max(map(len, payloads)) <= limit
        assert CODER.decode(payloads).shape == rows.shape


def test_quality_is_linear_in_the_step() -> None:
    steps = [CODER.step_at(quality) for quality in range(0, 101, 25)]
    assert np.unique(np.diff(steps)).size == 1
    assert steps[0] > steps[-1] >= 0


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_decode_or_are_refused(payload: bytes) -> None:
    try:
        found = CODER.decode([payload])
    except BitstreamError:
        return
    assert found.shape == (1, CODER.coefficients)
    assert np.abs(found).max() <= 2**16
    CODER.render(found[0], 8, 8)


def test_random_bytes_behind_a_step_decode_or_are_refused() -> None:
    rng = np.random.default_rng(2)
    refused = 0
    for _ in range(2000):
        payload = bytes([rng.integers(0, MAX_STEP + 1)]) + rng.bytes(rng.integers(0, 256))
        try:
            CODER.decode([payload])
        except BitstreamError:
            refused += 1
    assert 1000 < refused < 2000


def test_bytes_that_are_no_part_of_the_code_are_refused() -> None:
    payload = CODER.encode(layouts()[:1], np.array([70]))[0]
    for other in (payload + b"\x00", payload + b"\x01", payload + payload, b""):
        with pytest.raises(BitstreamError, match="layout payload: found"):
            CODER.decode([other])
    with pytest.raises(BitstreamError, match=f"layout step: found 161, expected 0 to {MAX_STEP}"):
        CODER.decode([b"\xa1" + payload[1:]])


def test_tables_survive_json() -> None:
    text = json.dumps(CODER.to_json())
    again = LayoutCoder.from_json(json.loads(text))
    assert again.to_bytes() == CODER.to_bytes()
    payloads = CODER.encode(layouts(), np.full(len(layouts()), 66))
    np.testing.assert_array_equal(again.decode(payloads), CODER.decode(payloads))
    assert len(text) < 60_000
    assert LayoutCoder.builtin() is LayoutCoder.builtin()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scales": None}, "layout, scales: found NoneType, expected base64 text"),
        ({"scales": "AAAA"}, "layout, scales: found 3 bytes, expected"),
        ({"weights": "no base64!"}, "layout, weights: found text that is not base64"),
        ({"mean": 3}, "layout, mean: found int"),
        ({"frequencies": "AAAA"}, "layout, frequencies: found 3 bytes"),
    ],
)
def test_unusable_tables_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(StoreError, match=message):
        LayoutCoder.from_json({**CODER.to_json(), **change})


def test_tables_must_be_an_object_with_numbers_in_range() -> None:
    with pytest.raises(StoreError, match="layout tables: found list, expected an object"):
        LayoutCoder.from_json([])
    large = CODER.tables._replace(scales=CODER.tables.scales + layout_tables.MAX_SCALE)
    with pytest.raises(StoreError, match="layout tables: found a scale beyond"):
        LayoutCoder.from_json(LayoutCoder(large).to_json())


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"layout canvas: found shape \(8, 8, 3\)"):
        CODER.analyse(np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(ConfigError, match="layouts: found shape"):
        CODER.encode(layouts()[:, 1:], np.zeros(len(layouts()), np.int64))
    with pytest.raises(ConfigError, match="layout step: found 161 to 161, expected 0 to 160"):
        CODER.encode(layouts()[:1], np.array([161]))
    with pytest.raises(ConfigError, match="layout payload: found a limit of 3 bytes, expected 4 or more"):
        CODER.encode_to_bytes(layouts()[:1], np.array([3]))
