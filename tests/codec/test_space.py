from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Any

import pytest

from clip_feature_codec.codec.space import ClipSpace, SameSpace
from clip_feature_codec.errors import ConfigError, SpaceMismatchError, StoreError


def test_fingerprint_is_the_documented_hash(space: ClipSpace) -> None:
    text = '{"dim":64,"preprocessing":{"mean":[0.5,0.5,0.5],"size":32},"weights_sha256":"' + "ab" * 32 + '"}'
    assert space.fingerprint == hashlib.sha256(text.encode()).hexdigest()[:16]


def test_fingerprint_ignores_labels_and_order_of_keys(space: ClipSpace) -> None:
    turned = dict(reversed(space.preprocessing.items()))
    other = dataclasses.replace(space, model="other", pretrained="elsewhere", preprocessing=turned)
    assert other.fingerprint == space.fingerprint
    space.require_same(other, "decoder.pt")


@pytest.mark.parametrize(
    "change", [{"weights_sha256": "cd" * 32}, {"dim": 65}, {"preprocessing": {"size": 64}}]
)
def test_what_decides_a_vector_changes_the_fingerprint(space: ClipSpace, change: dict[str, Any]) -> None:
    other = dataclasses.replace(space, **change)
    assert other.fingerprint != space.fingerprint
    with pytest.raises(SpaceMismatchError) as caught:
        space.require_same(other, "decoder.pt")
    message = str(caught.value)
    assert message.startswith("decoder.pt: ")
    assert f"found CLIP space {other.label}" in message
    assert f"expected {space.label}" in message


def test_label_names_model_weights_and_space(space: ClipSpace) -> None:
    assert space.label == f"tiny/test (space {space.fingerprint})"


def test_round_trip_through_json_with_tuples(space: ClipSpace) -> None:
    with_tuple = dataclasses.replace(space, preprocessing={"mean": (0.1, 0.2), "size": (3, 4)})
    again = ClipSpace.from_json(json.loads(json.dumps(with_tuple.to_json())))
    assert again == with_tuple
    assert again.fingerprint == with_tuple.fingerprint


@pytest.mark.parametrize("name", ["model", "pretrained", "weights_sha256", "dim", "preprocessing"])
def test_missing_fields_are_named(space: ClipSpace, name: str) -> None:
    data = space.to_json()
    del data[name]
    with pytest.raises(StoreError, match=f"{name} is missing"):
        ClipSpace.from_json(data)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model", 3),
        ("model", ""),
        ("pretrained", None),
        ("weights_sha256", []),
        ("dim", 0),
        ("dim", 1.5),
        ("dim", True),
        ("dim", "8"),
        ("preprocessing", [1]),
        ("preprocessing", {"mean": float("nan")}),
    ],
)
def test_wrong_types_are_named(space: ClipSpace, name: str, value: object) -> None:
    with pytest.raises(StoreError, match=name):
        ClipSpace.from_json(space.to_json() | {name: value})


def test_not_an_object() -> None:
    with pytest.raises(StoreError, match="found list, expected an object"):
        ClipSpace.from_json([1, 2])


def test_preprocessing_must_be_jsonable(space: ClipSpace) -> None:
    with pytest.raises(ConfigError, match="preprocessing"):
        dataclasses.replace(space, preprocessing={"mean": {1, 2}})


def test_a_space_on_record_is_the_same_from_either_side(space: ClipSpace) -> None:
    other = dataclasses.replace(space, weights_sha256="cd" * 32)
    third = dataclasses.replace(space, weights_sha256="ef" * 32)
    proof = SameSpace(other.fingerprint, "other/folder", 0.9999999, 16)
    told = dataclasses.replace(space, same=(proof,))
    assert told.fingerprint == space.fingerprint
    assert ClipSpace.from_json(told.to_json()).same == (proof,)
    told.require_same(other, "a decoder")
    other.require_same(told, "the tables")
    with pytest.raises(SpaceMismatchError):
        told.require_same(third, "a decoder")
    with pytest.raises(SpaceMismatchError):
        space.require_same(other, "a decoder")


@pytest.mark.parametrize("same", [3, [3], [{}], [{"fingerprint": 3}], [["fingerprint"]]])
def test_malformed_records_are_refused(space: ClipSpace, same: object) -> None:
    with pytest.raises(StoreError, match="same"):
        ClipSpace.from_json(space.to_json() | {"same": same})
