"""Budgets, targets and qualities of whole streams, with both layers, for both profiles."""

from __future__ import annotations

import re

import numpy as np
import pytest
from codec_samples import ASPECTS, COUNT, coded, correlated, cosines
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clip_feature_codec.codec.feature_codec import FeatureCodec
from clip_feature_codec.codec.rate import Rate
from clip_feature_codec.codec.semantic import klt as klt_module
from clip_feature_codec.errors import ConfigError

BUDGETS = (20, 64, 140, 222, 340, 1000)


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("layers", ["both", "semantic", "layout"])
def test_budgets_are_kept_and_used_up(
    klt: FeatureCodec, vectors: np.ndarray, layouts: np.ndarray, budget: int, layers: str
) -> None:
    blobs = coded(klt, vectors, ASPECTS, layouts, Rate(max_bytes=budget, layers=layers))
    more = coded(klt, vectors, ASPECTS, layouts, Rate(max_bytes=1000, layers=layers))
    for blob, most in zip(blobs, more, strict=True):
        assert len(blob) <= budget
        # Nothing is left over unless a large budget does not use it either.
        assert len(blob) >= min(budget, len(most)) - 5


def test_the_parts_of_a_budget_grow_with_it(
    klt: FeatureCodec, vectors: np.ndarray, layouts: np.ndarray
) -> None:
    worst, parts = 0.0, (0.0, 0.0)
    for budget in BUDGETS:
        blobs = coded(klt, vectors, ASPECTS, layouts, Rate(max_bytes=budget))
        streams = [klt.parse(blob) for blob in blobs]
        found = tuple(
            float(np.mean([len(getattr(stream, layer) or b"") for stream in streams]))
            for layer in ("semantic", "layout")
        )
        assert found[0] >= parts[0] - 1
        assert found[1] >= parts[1] - 1
        mean = cosines(klt, vectors, blobs).mean()
        assert 1 - mean < 1.03 * (1 - worst)  # with as many bytes, or one less, luck decides
        worst, parts = mean, found


@pytest.mark.parametrize("target", [0.5, 0.9, 0.99, 0.9995])
def test_every_vector_meets_the_target(klt: FeatureCodec, vectors: np.ndarray, target: float) -> None:
    blobs = coded(klt, vectors, rate=Rate(target_cosine=target))
    assert cosines(klt, vectors, blobs).min() >= target
    smaller = coded(klt, vectors, rate=Rate(target_cosine=target - 0.05))
    assert sum(map(len, smaller)) <= sum(map(len, blobs))


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**32), st.booleans())
def test_what_a_refusal_advises_is_not_refused(
    klt: FeatureCodec, monkeypatch: pytest.MonkeyPatch, seed: int, small_profile: bool
) -> None:
    """Fault 8: the advised target was rounded to nearest, and of the first block of vectors only."""
    monkeypatch.setattr(klt_module, "_ROWS", 2)
    codec = FeatureCodec.fit(correlated(50, 128, 3), klt.space) if small_profile else klt
    given_vectors = correlated(5, 128, seed)
    with pytest.raises(ConfigError, match=r"^target cosine: found \S+, expected at most") as caught:
        coded(codec, given_vectors, rate=Rate(target_cosine=float(np.nextafter(1, 0))))
    (advised,) = re.findall(r"at most (0\.\d{9}), which every vector reaches$", str(caught.value))
    blobs = coded(codec, given_vectors, rate=Rate(target_cosine=float(advised)))
    assert cosines(codec, given_vectors, blobs).min() >= float(advised) - 1e-7


def test_quality_is_a_plain_number(klt: FeatureCodec, vectors: np.ndarray, layouts: np.ndarray) -> None:
    sizes = [
        sum(map(len, coded(klt, vectors, ASPECTS, layouts, Rate(quality=quality))))
        for quality in (0, 10, 30, 50, 70, 90, 100)
    ]
    assert sizes == sorted(sizes)
    assert sizes[-1] > 3 * sizes[0]
    assert coded(klt, vectors, ASPECTS, layouts) == coded(klt, vectors, ASPECTS, layouts, Rate(quality=50))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 700), st.sampled_from(["both", "semantic", "layout"]), st.booleans(), st.booleans())
def test_any_budget_is_kept_or_refused_with_the_smallest(
    klt: FeatureCodec,
    vectors: np.ndarray,
    layouts: np.ndarray,
    budget: int,
    layers: str,
    small_profile: bool,
    square: bool,
) -> None:
    codec = FeatureCodec.fit(vectors, klt.space) if small_profile else klt
    aspects = None if square else [2.0] * COUNT
    rate = Rate(max_bytes=budget, layers=layers)
    try:
        blobs = coded(codec, vectors, aspects, layouts, rate)
    except ConfigError as error:
        smallest = int(str(error).split("expected at least ")[1].split()[0])
        assert budget < smallest
        again = coded(codec, vectors, aspects, layouts, Rate(max_bytes=smallest, layers=layers))
        assert all(len(blob) <= smallest for blob in again)
    else:
        assert all(len(blob) <= budget for blob in blobs)
        for blob in blobs:
            codec.decode([codec.parse(blob)])


def test_a_stream_does_not_depend_on_its_batch(
    klt: FeatureCodec, vectors: np.ndarray, layouts: np.ndarray
) -> None:
    for rate in (Rate(), Rate(max_bytes=100), Rate(target_cosine=0.97), Rate(layers="layout")):
        together = coded(klt, vectors, ASPECTS, layouts, rate)
        alone = [
            coded(klt, vectors[i : i + 1], ASPECTS[i : i + 1], layouts[i : i + 1], rate)[0]
            for i in range(COUNT)
        ]
        assert together == alone


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": "all"}, "layers: found 'all', expected one of both, semantic, layout"),
        ({"max_bytes": 0}, "max bytes: found 0, expected at least 1"),
        ({"max_bytes": 90, "target_cosine": 0.9}, "rate: found both max_bytes and target_cosine"),
        ({"quality": 101}, "quality: found 101, expected 0 to 100"),
        ({"quality": float("nan")}, "quality: found nan, expected 0 to 100"),
        ({"target_cosine": 1.0}, "target cosine: found 1.0, expected above 0 and below 1"),
    ],
)
def test_rates_that_make_no_sense(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Rate(**options)  # type: ignore[arg-type]


def test_layers_that_are_not_given(klt: FeatureCodec, vectors: np.ndarray, layouts: np.ndarray) -> None:
    assert klt.parse(coded(klt, vectors[:1])[0]).layout is None
    assert klt.parse(coded(klt, None, None, layouts[:1])[0]).semantic is None
    with pytest.raises(ConfigError, match="layers: found nothing to code for 'layout'"):
        coded(klt, vectors, rate=Rate(layers="layout"))
    with pytest.raises(ConfigError, match="layout: found 2, expected 12, one for each picture"):
        coded(klt, vectors, None, layouts[:2])
