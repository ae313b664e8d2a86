"""Fault 15: every public method of `ClipCodec`, with arguments of every right and wrong kind."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from clip_feature_codec import ClipCodec
from clip_feature_codec.embed import ClipEmbedder
from clip_feature_codec.errors import BitstreamError, ConfigError, ImageError, MissingLayerError
from samples import make_picture, make_store


@pytest.fixture(scope="module")
def store(embedder: ClipEmbedder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("api"), embedder)


@pytest.fixture(scope="module")
def codec(store: Path) -> ClipCodec:
    return ClipCodec.load(store, device="cpu")


BLOB = b"a stream"  # stands for a sound one: what is wrong is found before it is read
PICTURE = make_picture(1)
VECTORS = np.ones((2, 32), np.float32)

ONE_PICTURE = {
    "nothing": None,
    "a number": 3,
    "a list": [PICTURE],
    "vectors": VECTORS[0],
    "five channels": np.zeros((8, 8, 5), np.uint8),
    "floats": np.zeros((8, 8, 3), np.float32),
    "five in a tensor": torch.zeros(5, 8, 8),
    "a batch": torch.zeros(2, 3, 8, 8),
    "negative": torch.full((3, 8, 8), -0.5),
}
PICTURES = {
    "nothing": None,
    "one picture": PICTURE,
    "one path": "photo.png",
    "one Path": Path("photo.png"),
    "one array": np.asarray(PICTURE),
    "one tensor": torch.zeros(3, 8, 8),
    "a number": 3,
    "nothing in it": [None],
    "a list in it": [[PICTURE]],
}
ONE_STREAM = {
    "nothing": None,
    "a number": 3,
    "a list": [BLOB],
    "a picture": PICTURE,
    "an array": np.zeros(8, np.uint8),
}
STREAMS = {
    "nothing": None,
    "one stream": BLOB,
    "one path": "photo.clp",
    "one Path": Path("photo.clp"),
    "a number": 3,
    "nothing in it": [None],
    "a picture in it": [PICTURE],
}
RATES = {
    "text bytes": {"max_bytes": "140"},
    "half a byte": {"max_bytes": 140.5},
    "true bytes": {"max_bytes": True},
    "text cosine": {"target_cosine": "0.9"},
    "text quality": {"quality": "50"},
    "a quality for each": {"quality": [50]},
    "no layers": {"layers": None},
    "two layers": {"layers": ["layout"]},
}
PAINTING = {
    "half a step": {"steps": 2.5},
    "text steps": {"steps": "8"},
    "half a seed": {"seed": 0.5},
    "text size": {"size": "256"},
    "half a pixel": {"size": 10.5},
    "text eta": {"eta": "0"},
    "text guidance": {"guidance": "2"},
    "text fidelity": {"fidelity": "1"},
}
ASPECTS = {
    "one aspect": {"aspects": 2.0},
    "text aspects": {"aspects": ["1", "2"]},
    "too few aspects": {"aspects": [1.0]},
}
SIZES = {"text size": {"size": "9"}, "half a pixel": {"size": 9.5}, "no size": {"size": None}}


def each(method: str, first: dict[str, Any], **keywords: Any) -> list[Any]:
    return [pytest.param(method, value, keywords, id=f"{method} {name}") for name, value in first.items()]


def with_keywords(method: str, first: Any, kinds: dict[str, dict[str, Any]]) -> list[Any]:
    return [pytest.param(method, first, keywords, id=f"{method} {name}") for name, keywords in kinds.items()]


@pytest.mark.parametrize(
    ("method", "first", "keywords"),
    [
        *each("embed", ONE_PICTURE),
        *each("encode", ONE_PICTURE, layers="layout"),
        *each("encode_many", PICTURES, layers="layout"),
        *each("encode_vectors", {"nothing": None, "text": "abc", "one": VECTORS[0], "long": VECTORS[:, :5]}),
        *with_keywords(
            "encode_vectors", VECTORS, {"number": {"aspects": 2.0}, "text": {"aspects": ["1", "2"]}}
        ),
        *(case for name in ("vector", "preview", "decode") for case in each(name, ONE_STREAM)),
        *(case for name in ("vectors", "transcode", "decode_many") for case in each(name, STREAMS)),
        *with_keywords("encode", PICTURE, RATES),
        *with_keywords("encode_many", [PICTURE], RATES),
        *with_keywords("encode_vectors", VECTORS, RATES),
        *with_keywords("transcode", [], RATES),
        *with_keywords("decode_many", [], PAINTING),
        *with_keywords(
            "preview", "STREAM", {"text": {"size": "9"}, "half": {"size": 9.5}, "none": {"size": None}}
        ),
    ],
)
def test_what_is_of_the_wrong_kind_is_one_line(
    codec: ClipCodec, store: Path, method: str, first: Any, keywords: dict[str, Any]
):
    given = store / "p0.clp" if isinstance(first, str) and first == "STREAM" else first
    with pytest.raises(ConfigError) as caught:
        getattr(codec, method)(given, **keywords)
    message = str(caught.value)
    assert "\n" not in message
    assert re.search("found|is ", message), message
    assert re.search("expected|must be", message), message


@pytest.mark.parametrize(
    "keywords",
    [
        {"source": None},
        {"source": 3},
        {"source": ["mini"]},
        {"decoder": 3},
        {"model": Path("clip")},
        {"pretrained": 3},
        {"device": 0},
    ],
    ids=str,
)
def test_load_refuses_what_is_of_the_wrong_kind(keywords: dict[str, Any]):
    with pytest.raises(ConfigError, match=rf"{next(iter(keywords))}: found .+, expected "):
        ClipCodec.load(**keywords)


def test_pictures_of_every_kind_are_one(codec: ClipCodec, tmp_path: Path):
    PICTURE.save(tmp_path / "x.png")
    pixels = np.asarray(PICTURE)
    tensor = torch.from_numpy(pixels.copy())
    kinds = [tmp_path / "x.png", str(tmp_path / "x.png"), pixels, tensor, tensor.permute(2, 0, 1)]
    kinds += [tensor.float() / 255, tensor.permute(2, 0, 1).double() / 255]
    blob = codec.encode(PICTURE)
    assert [codec.encode(kind) for kind in kinds] == [blob] * len(kinds)
    assert codec.encode_many(kinds) == codec.encode_many([PICTURE] * len(kinds))
    assert codec.encode_many(torch.stack([tensor] * 2)) == codec.encode_many([PICTURE] * 2)
    grey = np.asarray(PICTURE.convert("L"))
    assert codec.encode(grey[:, :, None]) == codec.encode(Image.fromarray(grey))


@pytest.mark.parametrize("kind", [bytearray, memoryview, "path", "text"], ids=str)
def test_streams_of_every_kind_are_one(codec: ClipCodec, tmp_path: Path, kind: Callable[[bytes], Any] | str):
    blob = codec.encode(PICTURE)
    (tmp_path / "x.clp").write_bytes(blob)
    paths = {"path": tmp_path / "x.clp", "text": str(tmp_path / "x.clp")}
    stream = paths[kind] if isinstance(kind, str) else kind(blob)
    assert np.array_equal(codec.vector(stream), codec.vector(blob))
    assert np.array_equal(codec.vectors([stream, blob]), codec.vectors(iter([blob, blob])))
    assert codec.preview(stream, size=16).tobytes() == codec.preview(blob, size=16).tobytes()
    assert codec.transcode([stream], layers="layout") == codec.transcode([blob], layers="layout")
    small = {"steps": 1, "size": 16}
    assert codec.decode(stream, **small).tobytes() == codec.decode(blob, **small).tobytes()
    assert len(codec.decode_many([stream, blob], **small)) == 2


def test_a_stream_s_file_is_named(codec: ClipCodec, tmp_path: Path):
    bad, gone, alone = (tmp_path / f"{name}.clp" for name in ("bad", "gone", "alone"))
    bad.write_bytes(b"these are no streams")
    alone.write_bytes(codec.encode(PICTURE, layers="layout"))
    for read in (codec.vector, codec.preview, codec.decode):
        with pytest.raises(BitstreamError, match=rf"^{bad}: magic"):
            read(bad)
        with pytest.raises(BitstreamError, match=rf"^{gone}: cannot be read: No such file"):
            read(str(gone))
    with pytest.raises(MissingLayerError, match=rf"^{alone}: semantic layer"):
        codec.vector(alone)
    with pytest.raises(BitstreamError, match="stream 2 of 2: magic"):
        codec.vectors([alone, bad])
    with pytest.raises(ImageError, match=r"gone\.png"):
        codec.encode(tmp_path / "gone.png")


def test_numpy_s_numbers_are_numbers(codec: ClipCodec):
    assert codec.encode(PICTURE, max_bytes=np.int64(80)) == codec.encode(PICTURE, max_bytes=80)
    assert codec.encode(PICTURE, quality=np.float32(50)) == codec.encode(PICTURE, quality=50)
    blob = codec.encode(PICTURE)
    assert codec.decode(blob, steps=np.int32(1), size=np.int64(16)).size == (16, 12)


def test_a_codec_says_what_it_is(codec: ClipCodec, store: Path):
    space = codec.features.space
    assert repr(codec) == f"<ClipCodec model='{space.model}/folder' profile='int8' device='cpu'>"
    assert repr(ClipCodec.load()) == "<ClipCodec model='mini/pack' profile='klt' device='auto'>"


def test_a_codec_that_is_loaded_can_be_pickled(codec: ClipCodec):
    blob = codec.encode(PICTURE)
    again = pickle.loads(pickle.dumps(codec))
    assert again.encode(PICTURE) == blob
