from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from codec_samples import coded
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from clip_feature_codec.codec.feature_codec import FeatureCodec
from clip_feature_codec.codec.semantic.affine import AffineQuantizer
from clip_feature_codec.codec.semantic.int8 import Int8Coder
from clip_feature_codec.codec.space import ClipSpace
from clip_feature_codec.errors import BitstreamError, ConfigError, StoreError

GOLDEN = Path(__file__).parents[1] / "golden"


def vectors_like(codec: FeatureCodec, count: int, seed: int = 3) -> np.ndarray:
    """Vectors spread over the codec's range, as the fitted ones were."""
    rng = np.random.default_rng(seed)
    middle = codec.semantic.quantizer.minimum + 127.5 * codec.semantic.quantizer.step
    return rng.normal(middle, 32 * codec.semantic.quantizer.step, (count, codec.dim)).astype(np.float32)


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a, b = a.astype(np.float64), b.astype(np.float64)
    return (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def test_vectors_come_back(codec: FeatureCodec) -> None:
    vectors = vectors_like(codec, 100)
    decoded = codec.vectors(codec.parse_all(coded(codec, vectors)))
    assert decoded.dtype == np.float32
    assert decoded.shape == vectors.shape
    np.testing.assert_allclose(np.linalg.norm(decoded.astype(np.float64), axis=1), 1, atol=1e-6)
    assert cosines(vectors, decoded).mean() > 0.999


def test_length_of_the_input_does_not_matter(codec: FeatureCodec) -> None:
    vectors = vectors_like(codec, 20)
    for scale in (2.0**-100, 2.0**60):
        assert coded(codec, vectors * np.float32(scale)) == coded(codec, vectors)


def test_a_stream_does_not_depend_on_its_batch(codec: FeatureCodec) -> None:
    vectors = vectors_like(codec, 33)
    together = coded(codec, vectors)
    assert together == [coded(codec, row[None])[0] for row in vectors]
    assert together == coded(codec, np.asfortranarray(vectors))
    assert together == coded(codec, np.repeat(vectors, 2, axis=0)[::2])
    alone = np.concatenate([codec.vectors(codec.parse_all([blob])) for blob in together])
    np.testing.assert_array_equal(codec.vectors(codec.parse_all(together)), alone)


def test_more_vectors_than_one_block(codec: FeatureCodec) -> None:
    vectors = np.tile(vectors_like(codec, 3), (2000, 1))
    decoded = codec.vectors(codec.parse_all(coded(codec, vectors)))
    np.testing.assert_array_equal(decoded, np.tile(decoded[:3], (2000, 1)))


def test_no_vectors_at_all(codec: FeatureCodec) -> None:
    assert coded(codec, np.empty((0, codec.dim), np.float32)) == []
    assert codec.vectors([]).shape == (0, codec.dim)


def test_values_outside_the_range_are_clamped(codec: FeatureCodec) -> None:
    spike = np.zeros((1, codec.dim), np.float32)
    spike[0, 5] = 1
    (blob,) = coded(codec, spike)
    assert codec.vectors([codec.parse(blob)]).argmax() == 5


def test_one_vector_is_enough_to_begin(space: ClipSpace, codec: FeatureCodec) -> None:
    vectors = np.random.default_rng(9).normal(0, 1, (50, space.dim)).astype(np.float32)
    begun = FeatureCodec.fit(vectors[:1], space)
    assert cosines(vectors, begun.vectors(begun.parse_all(coded(begun, vectors)))).mean() > 0.995


def test_aspects(codec: FeatureCodec) -> None:
    aspects = [None, 2.0, 0.25]
    blobs = coded(codec, vectors_like(codec, 3), aspects)
    assert [codec.parse(blob).aspect for blob in blobs] == [1.0, 2.0, 0.25]
    assert [len(blob) for blob in blobs] == [70, 71, 71]


@given(hnp.arrays(np.float32, (2, 64), elements=st.floats(allow_nan=False, allow_infinity=False, width=32)))
def test_any_finite_vector_makes_a_stream(codec: FeatureCodec, vectors: np.ndarray) -> None:
    if not vectors.any(axis=1).all():
        vectors[:, 0] = 1
    decoded = codec.vectors(codec.parse_all(coded(codec, vectors)))
    np.testing.assert_allclose(np.linalg.norm(decoded, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize(
    ("value", "found"), [(np.nan, "nan"), (np.inf, "inf"), (-np.inf, "inf"), (0.0, "0.0")]
)
def test_vectors_without_direction_are_refused(codec: FeatureCodec, value: float, found: str) -> None:
    vectors = vectors_like(codec, 4)
    vectors[2] = value
    message = f"^vector 2: found length {found}, expected a finite, positive one$"
    with pytest.raises(ConfigError, match=message):
        coded(codec, vectors)
    with pytest.raises(ConfigError, match=message):
        FeatureCodec.fit(vectors, codec.space)


@pytest.mark.parametrize("shape", [(64,), (1, 63), (1, 1, 64)])
def test_other_shapes_are_refused(codec: FeatureCodec, shape: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=r"vectors: found shape \(.*\), expected \(N, 64\)"):
        coded(codec, np.ones(shape, np.float32))


def test_as_many_aspects_as_vectors(codec: FeatureCodec) -> None:
    with pytest.raises(ConfigError, match="aspects: found 1, expected 2"):
        coded(codec, vectors_like(codec, 2), [1.0])


def test_dimensions_must_agree(codec: FeatureCodec) -> None:
    with pytest.raises(ConfigError, match="codec tables: found 64 channels, expected 65"):
        FeatureCodec(dataclasses.replace(codec.space, dim=65), codec.semantic)


def test_dimension_has_a_limit(space: ClipSpace) -> None:
    with pytest.raises(ConfigError, match="codec, dim: found 8193, expected at most 8192"):
        FeatureCodec.fit(np.ones((1, 8193), np.float32), dataclasses.replace(space, dim=8193))
    largest = FeatureCodec.fit(np.ones((1, 8192), np.float32), dataclasses.replace(space, dim=8192))
    streams = largest.parse_all(coded(largest, np.ones((1, 8192), np.float32)))
    assert largest.vectors(streams).shape == (1, 8192)


def test_a_bad_stream_among_others_is_named_by_position(codec: FeatureCodec) -> None:
    blobs = coded(codec, vectors_like(codec, 3))
    blobs[1] = blobs[1][:-1]
    with pytest.raises(BitstreamError, match=r"^stream 2 of 3: checksum: found 0x"):
        codec.vectors(codec.parse_all(blobs))
    with pytest.raises(BitstreamError, match=r"^checksum: found 0x"):
        codec.vectors(codec.parse_all(blobs[1:2]))


def test_a_foreign_stream_is_refused(codec: FeatureCodec) -> None:
    foreign = FeatureCodec.load(GOLDEN / "int8" / "codec.json")
    (blob,) = coded(codec, vectors_like(codec, 1))
    for use in (lambda: foreign.vectors(foreign.parse_all([blob])), lambda: foreign.parse(blob).aspect):
        with pytest.raises(BitstreamError, match=r"codec id: found \w{4}, expected [0-9a-f]{4};"):
            use()


def test_the_zero_vector_is_refused(space: ClipSpace) -> None:
    tables = AffineQuantizer(np.zeros(64, np.float32), np.ones(64, np.float32))
    codec = FeatureCodec(space, Int8Coder(tables))
    fine, zero = coded(codec, np.stack([np.eye(64)[0], -np.ones(64)]).astype(np.float32))
    with pytest.raises(BitstreamError, match=r"^stream 2 of 2: vector: found length 0, expected a direction"):
        codec.vectors(codec.parse_all([fine, zero]))


def test_save_and_load(codec: FeatureCodec, tmp_path: Path) -> None:
    path = tmp_path / "store" / "codec.json"
    codec.save(path)
    again = FeatureCodec.load(path)
    assert again.space == codec.space
    assert again.tables_sha256 == codec.tables_sha256
    blobs = coded(codec, vectors_like(codec, 5))
    np.testing.assert_array_equal(
        again.vectors(again.parse_all(blobs)), codec.vectors(codec.parse_all(blobs))
    )
    assert [file.name for file in path.parent.iterdir()] == ["codec.json"]


def test_unknown_fields_are_ignored(codec: FeatureCodec) -> None:
    assert FeatureCodec.from_json(codec.to_json() | {"comment": "hello"}).codec_id == codec.codec_id


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, "codec, format: found 'other', expected 'clip-feature-codec tables'"),
        ({"version": 2}, "codec, version: found 2, expected 1"),
        ({"profile": "pq"}, "codec, profile: found 'pq', expected 'int8' or 'klt'"),
        ({"space": None}, "CLIP space: found NoneType, expected an object"),
        ({"semantic": {"minimum": None}}, "codec, minimum: found NoneType, expected a list of numbers"),
        ({"semantic": {"minimum": ["0"] * 64}}, "codec, minimum: found list, expected a list of numbers"),
        ({"semantic": {"minimum": [True] * 64}}, "codec, minimum: found list, expected a list of numbers"),
        (
            {"semantic": {"minimum": [0.0] * 63}},
            r"quantiser: found minimum and step of shapes \(63,\) and \(64,\)",
        ),
        ({"semantic": {"step": [0.0] * 64}}, "quantiser: found a step of 0.0, expected positive steps"),
        ({"semantic": {"step": [1e300] * 64}}, "quantiser: found a range that is not finite"),
        (
            {"semantic": {"step": [10**400] * 64}},
            "codec, step: found a number beyond float64, expected float32 values",
        ),
        (
            {"semantic": {"minimum": [0.0] * 64}},
            r"codec, tables_sha256: found '\w{64}', expected '\w{64}' for these tables",
        ),
        ({"tables_sha256": None}, r"codec, tables_sha256: found None, expected '\w{64}'"),
    ],
)
def test_malformed_codecs_are_refused(
    codec: FeatureCodec, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    path = tmp_path / "codec.json"
    data = codec.to_json()
    if "semantic" in change:
        change = {"semantic": data["semantic"] | change["semantic"]}
    path.write_text(json.dumps(data | change))
    with pytest.raises(StoreError, match=message) as caught:
        FeatureCodec.load(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", [b"", b"{", b"\xff\xfe\x00", b"[" * 100_000, b"NaN", b"[]", b"1" * 5000])
def test_files_that_are_no_codec(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "codec.json"
    path.write_bytes(text)
    with pytest.raises(StoreError, match=r"codec\.json: .*expected"):
        FeatureCodec.load(path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"codec\.json: cannot be read \(No such file or directory\)"):
        FeatureCodec.load(tmp_path / "codec.json")


def test_a_changed_space_is_noticed(codec: FeatureCodec) -> None:
    data = codec.to_json()
    data["space"] = data["space"] | {"weights_sha256": "cd" * 32}
    with pytest.raises(StoreError, match="tables_sha256"):
        FeatureCodec.from_json(data)


def test_the_length_of_vectors_is_kept_and_changes_no_stream(codec: FeatureCodec, tmp_path: Path) -> None:
    assert "vector_length" not in codec.to_json()
    told = dataclasses.replace(codec, vector_length=12.5)
    told.save(tmp_path / "codec.json")
    loaded = FeatureCodec.load(tmp_path / "codec.json")
    assert loaded.vector_length == 12.5
    assert loaded.tables_sha256 == codec.tables_sha256
    for bad in (0.0, -1.0, float("nan")):
        with pytest.raises(ConfigError, match="vector_length"):
            dataclasses.replace(codec, vector_length=bad)
    for bad in ("12", True, -3):
        with pytest.raises(StoreError, match="vector_length"):
            FeatureCodec.from_json(codec.to_json() | {"vector_length": bad})
