from __future__ import annotations

import base64

import numpy as np
import pytest

from clip_feature_codec.codec.entropy.magnitudes import (
    DIRECT,
    ORIGIN,
    PRECISION,
    Magnitudes,
    builtin,
    code_lengths,
)
from clip_feature_codec.codec.semantic.levels import LOWEST_LEVEL
from clip_feature_codec.errors import StoreError


def test_code_lengths_are_logarithms():
    frequencies = np.arange(1, (1 << PRECISION) + 1)
    exact = 256 * (PRECISION - np.log2(frequencies))
    lengths = code_lengths(frequencies)
    # The logarithm's bits are cut off, so a length is up to one unit too long.
    assert (lengths >= exact - 1e-9).all()
    assert (lengths < exact + 1.01).all()
    assert lengths[-1] == 0


def test_the_built_in_tables_widen_with_the_row():
    tables = builtin()
    shares = np.diff(tables.starts, axis=-1) / (1 << PRECISION)
    mean = (shares * np.arange(shares.shape[-1])).sum(axis=-1)
    assert (np.diff(mean[ORIGIN - 8 : DIRECT], axis=0) > 0).all()
    assert (np.diff(mean[DIRECT:, 0]) > 0).all()


def test_scores_average_to_about_nothing():
    """A vector whose spread is as expected is not mistaken for a wider or narrower one."""
    tables = builtin()
    shares = np.diff(tables.starts, axis=-1) / (1 << PRECISION)
    bias = (shares * tables.scores).sum(axis=-1)
    coded = (LOWEST_LEVEL >> 1) + ORIGIN
    assert np.abs(bias[coded:]).max() < 8  # 1/256 bit for an eighth of an octave


def test_json_gives_the_tables_back():
    again = Magnitudes.from_json(builtin().to_json())
    for name in Magnitudes._fields:
        np.testing.assert_array_equal(getattr(again, name), getattr(builtin(), name))
    assert again.to_bytes() == builtin().to_bytes()


def changed(name: str, value: object) -> dict[str, object]:
    return {**builtin().to_json(), name: value}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "frequencies: found NoneType, expected base64 text"),
        ([], "frequencies: found NoneType, expected base64 text"),
        (changed("scores", 5), "scores: found int, expected base64 text"),
        (changed("scores", "*"), "scores: found text that is not base64, expected base64"),
        (changed("scores", ""), "scores: found 0 bytes, expected 5200"),
        (changed("information", "AAAA"), "information: found 3 bytes, expected 260"),
        (
            changed("information", base64.b64encode(np.full(65, -1, "<i4").tobytes()).decode()),
            "information: found -1, expected 0 or more",
        ),
        (
            changed("frequencies", base64.b64encode(np.ones(2600, "<i2").tobytes()).decode()),
            "frequencies: found a table that adds up to 20, expected positive numbers that add up to 32768",
        ),
        (
            changed("centroids", base64.b64encode(np.full(2600, 300, "<i2").tobytes()).decode()),
            "centroids: found 300, expected -256 to 256",
        ),
    ],
)
def test_wrong_tables_are_refused(data: object, message: str):
    with pytest.raises(StoreError) as caught:
        Magnitudes.from_json(data)
    assert str(caught.value) == message
