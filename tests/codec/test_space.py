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


def test_a_space_of_unknown_weights_is_that_of_its_name_and_dimension() -> None:
    named = ClipSpace.named("ViT-L-14/openai", 768)
    assert (named.model, named.pretrained, named.is_known) == ("ViT-L-14", "openai", False)
    assert "weights unknown" in named.label
    named.require_same(ClipSpace.named("ViT-L-14/openai", 768), "vectors")
    for other in (ClipSpace.named("ViT-L-14/laion", 768), ClipSpace.named("ViT-L-14/openai", 512)):
        with pytest.raises(SpaceMismatchError, match="same-as"):
            named.require_same(other, "vectors")


@pytest.mark.parametrize("name", ["", "ViT-L-14", "/openai", "ViT-L-14/"])
def test_a_name_is_of_a_model_and_of_weights(name: str) -> None:
    with pytest.raises(ConfigError, match="MODEL/WEIGHTS"):
        ClipSpace.named(name, 768)


def test_known_weights_are_those_of_a_name_once_somebody_says_so(space: ClipSpace) -> None:
    named = ClipSpace.named(f"{space.model}/{space.pretrained}", space.dim)
    for one, other in ((named, space), (space, named)):
        with pytest.raises(SpaceMismatchError, match=r"weights unknown.*or say that they are the same"):
            one.require_same(other, "decoder.pt")
    said = ClipSpace.from_json(json.loads(json.dumps(named.said_to_be(space).to_json())))
    assert said.fingerprint == named.fingerprint  # so that what is coded with its tables stays as it is
    for one, other in ((said, space), (space, said), (said, named)):
        one.require_same(other, "decoder.pt")
    another = dataclasses.replace(space, weights_sha256="ef" * 32)
    with pytest.raises(SpaceMismatchError):
        said.require_same(another, "decoder.pt")


def test_known_weights_are_not_said_to_be_others(space: ClipSpace) -> None:
    with pytest.raises(ConfigError, match="its weights are known"):
        space.said_to_be(dataclasses.replace(space, weights_sha256="cd" * 32))
    with pytest.raises(ConfigError, match="its dimension is 3, not 64"):
        ClipSpace.named("a/b", 3).said_to_be(space)
    for same_as in (["0123456789abcdef"], "text", [1]):
        with pytest.raises(StoreError, match="same_as"):
            ClipSpace.from_json(space.to_json() | {"same_as": same_as})


def test_a_space_on_record_is_the_same_from_either_side(space: ClipSpace) -> None:
    other = dataclasses.replace(space, weights_sha256="cd" * 32)
    third = dataclasses.replace(space, weights_sha256="ef" * 32)
    proof = SameSpace(other.fingerprint, "other/folder", 0.9999999, 16)
    told = dataclasses.replace(space, proven=(proof,))
    assert told.fingerprint == space.fingerprint
    assert ClipSpace.from_json(told.to_json()).proven == (proof,)
    told.require_same(other, "a decoder")
    other.require_same(told, "the tables")
    with pytest.raises(SpaceMismatchError):
        told.require_same(third, "a decoder")
    with pytest.raises(SpaceMismatchError):
        space.require_same(other, "a decoder")


@pytest.mark.parametrize("proven", [3, [3], [{}], [{"fingerprint": 3}], [["fingerprint"]]])
def test_malformed_records_are_refused(space: ClipSpace, proven: object) -> None:
    with pytest.raises(StoreError, match="proven"):
        ClipSpace.from_json(space.to_json() | {"proven": proven})
