from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clip_feature_codec import ClipCodec
from clip_feature_codec.codec.feature_codec import FeatureCodec
from clip_feature_codec.codec.layers import Layers
from clip_feature_codec.codec.space import ClipSpace
from clip_feature_codec.decoders.checkpoint import save_decoder
from clip_feature_codec.embed import ClipEmbedder
from clip_feature_codec.errors import (
    BitstreamError,
    CheckpointError,
    ConfigError,
    SpaceMismatchError,
    StoreError,
)
from samples import make_decoder, make_picture, make_store


@pytest.fixture(scope="module")
def store(embedder: ClipEmbedder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("api"), embedder)


@pytest.fixture(scope="module")
def codec(store: Path) -> ClipCodec:
    return ClipCodec.load(store, device="cpu")


def test_a_picture_of_any_kind_gives_the_same_stream(codec: ClipCodec, tmp_path: Path):
    picture = make_picture(7, (50, 30))
    picture.save(tmp_path / "x.png")
    blob = codec.encode(picture)
    assert codec.encode(tmp_path / "x.png") == blob
    assert codec.encode(str(tmp_path / "x.png")) == blob
    assert codec.encode(np.asarray(picture)) == blob


def test_grey_and_transparent_arrays_are_pictures(codec: ClipCodec):
    grey = np.asarray(make_picture(1).convert("L"))
    assert codec.encode(grey) == codec.encode(Image.fromarray(grey).convert("RGB"))
    clear = np.zeros((20, 20, 4), np.uint8)
    assert codec.encode(clear) == codec.encode(Image.new("RGB", (20, 20), "white"))


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((8, 8, 3), np.float32),
        np.zeros((8, 8, 2), np.uint8),
        np.zeros((2, 8, 8, 3), np.uint8),
        np.zeros(8, np.uint8),
        np.zeros((0, 8, 3), np.uint8),
    ],
)
def test_other_arrays_are_refused(codec: ClipCodec, array: np.ndarray):
    with pytest.raises(ConfigError, match=re.escape(str(array.shape))):
        codec.encode(array)


def test_the_vector_is_that_of_the_picture_up_to_coding(
    codec: ClipCodec, embedder: ClipEmbedder, store: Path
):
    picture = store.parent / "photos/p1.png"
    with Image.open(picture) as image:
        expected = embedder.embed_images([image.convert("RGB")])[0]
    np.testing.assert_allclose(codec.embed(picture), expected, atol=1e-6)
    vector = codec.vector(codec.encode(picture))
    assert (vector.dtype, vector.shape) == (np.float32, (32,))
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-6)
    assert vector @ expected > 0.999


def test_many_pictures_keep_their_order(codec: ClipCodec, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("clip_feature_codec.encode.BATCH_SIZE", 2)
    pictures = [make_picture(i, (40 + 8 * i, 40)) for i in range(5)]
    blobs = codec.encode_many(iter(pictures))
    vectors = codec.vectors(blobs)
    alone = np.stack([codec.embed(picture) for picture in pictures])
    # Streams in another order would pair unlike vectors.
    assert (vectors @ alone.T).argmax(axis=1).tolist() == [0, 1, 2, 3, 4]
    assert [stream.aspect for stream in codec.features.parse_all(blobs)] == pytest.approx(
        [1, 1.2, 1.4, 1.6, 1.8], abs=0.02
    )
    assert codec.encode_many([]) == []


def test_streams_are_given_out_batch_by_batch(codec: ClipCodec, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("clip_feature_codec.encode.BATCH_SIZE", 2)
    read: list[int] = []

    def pictures() -> Iterator[Image.Image]:
        for i in range(5):
            read.append(i)
            yield make_picture(i)

    streams = codec.iter_encode(pictures(), quality=30)
    assert read == []
    first = next(streams)
    assert read == [0, 1]
    assert [first, *streams] == codec.encode_many([make_picture(i) for i in range(5)], quality=30)
    with pytest.raises(ConfigError, match="quality"):
        codec.iter_encode([], quality=101)  # at once, and not when the first stream is asked for


def test_progress_is_told_of_pictures(codec: ClipCodec, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("clip_feature_codec.encode.BATCH_SIZE", 2)
    told: list[tuple[str, int, int]] = []
    pictures = [make_picture(i) for i in range(3)]
    blobs = codec.encode_many(pictures, progress=lambda *seen: told.append(seen))
    assert told == [("encoding", 0, 3), ("encoding", 2, 3), ("encoding", 3, 3)]
    told.clear()
    codec.encode_many(iter(pictures), progress=lambda *seen: told.append(seen))
    assert told == [("encoding", 0, 0), ("encoding", 2, 2), ("encoding", 3, 3)]
    told.clear()
    codec.decode_many(blobs, progress=lambda *seen: told.append(seen), steps=1, size=16)
    assert told == [("decoding", done, 3) for done in range(4)]


def test_pictures_are_painted_one_batch_ahead_at_most(codec: ClipCodec):
    blobs = codec.encode_many([make_picture(1, (40, 20)), make_picture(2, (20, 40))])
    pictures = codec.iter_decode(blobs, steps=1, size=16)
    assert next(pictures).size == (16, 8)
    assert [picture.size for picture in pictures] == [(8, 16)]
    with pytest.raises(ConfigError, match="steps"):
        codec.iter_decode(blobs, steps=0)


def test_vectors_that_are_there_already_need_no_model(store: Path):
    lone = ClipCodec(FeatureCodec.load(store / "codec.json"), decoder=None)
    vectors = np.random.default_rng(0).normal(size=(3, 32))
    blobs = lone.encode_vectors(vectors, [0.5, None, 2.0])
    assert blobs == lone.features.encode(Layers(vectors.astype(np.float32), aspects=[0.5, 1.0, 2.0]))
    assert lone.vectors(blobs).shape == (3, 32)


def test_decoding_gives_a_picture_in_the_shape_of_the_original(codec: ClipCodec):
    blob = codec.encode(make_picture(3, (60, 30)))
    picture = codec.decode(blob, steps=2, size=40)
    assert (picture.mode, picture.size) == ("RGB", (40, 20))
    assert codec.decode(blob, steps=2, size=40, square=True).size == (40, 40)
    same = codec.decode(blob, steps=2, size=40, seed=0, eta=None, guidance=2.0)
    assert same.tobytes() == picture.tobytes()
    for changed in ({"seed": 1}, {"eta": 0.0}, {"eta": 1.0}, {"guidance": 5.0}, {"steps": 3}):
        assert codec.decode(blob, **({"steps": 2, "size": 40} | changed)).tobytes() != picture.tobytes()


def test_many_streams_are_decoded_in_order(codec: ClipCodec):
    blobs = codec.encode_many([make_picture(1, (40, 20)), make_picture(2, (20, 40))])
    pictures = codec.decode_many(blobs, steps=1, size=16)
    assert [picture.size for picture in pictures] == [(16, 8), (8, 16)]
    assert codec.decode_many([]) == []


def test_options_out_of_range_are_refused(codec: ClipCodec):
    blob = codec.encode(make_picture(0))
    given = [{"steps": 0}, {"steps": 101}, {"size": 0}, {"seed": -1}, {"eta": -0.1}]
    given += [{"steps": 2.5}, {"sampler": "euler"}, {"fidelity": "0.5"}, {"square": 1}]  # fault 15
    for options in given:
        with pytest.raises(ConfigError, match=next(iter(options))):
            codec.decode(blob, **options)


def test_a_codec_loads_from_a_store_or_its_codec_json(store: Path, codec: ClipCodec):
    for source in (store, str(store), store / "codec.json"):
        loaded = ClipCodec.load(source, device="cpu")
        assert loaded.features.tables_sha256 == codec.features.tables_sha256
        assert loaded.decoder.image_size == 16


def test_there_must_be_a_codec(tmp_path: Path, store: Path):
    for source in (tmp_path, tmp_path / "codec.json", "no_such_pack"):
        with pytest.raises(StoreError, match=r"neither a pack \(mini\)"):
            ClipCodec.load(source)
    with pytest.raises(StoreError, match=r"p0\.clp: "):
        ClipCodec.load(store / "p0.clp")


def test_without_a_decoder_streams_are_written_and_read_all_the_same(store: Path, tmp_path: Path):
    (tmp_path / "codec.json").write_bytes((store / "codec.json").read_bytes())
    codec = ClipCodec.load(tmp_path, device="cpu")
    blob = codec.encode(make_picture(0))
    assert codec.vector(blob).shape == (32,)
    with pytest.raises(CheckpointError, match="train a decoder"):
        codec.decode(blob)
    named = ClipCodec.load(tmp_path, decoder=store / "diffusion_unet_final.pt", device="cpu")
    assert named.decode(blob, steps=1, size=16).size == (16, 12)


def test_a_decoder_of_another_space_is_refused(store: Path, tmp_path: Path, codec: ClipCodec):
    other = ClipSpace("other", "weights", "ab" * 32, 32, {})
    save_decoder(tmp_path / "other.pt", make_decoder(other))
    mixed = ClipCodec.load(store, decoder=tmp_path / "other.pt", device="cpu")
    with pytest.raises(SpaceMismatchError, match=r"other\.pt.*other/weights"):
        mixed.decode(codec.encode(make_picture(0)))


def test_damaged_streams_are_refused(codec: ClipCodec):
    blob = codec.encode(make_picture(0))
    for bad in (b"", blob[:-1], blob[:-1] + bytes([blob[-1] ^ 1])):
        for read in (codec.vector, codec.decode):
            with pytest.raises(BitstreamError):
                read(bad)


def test_an_unknown_device_is_refused(store: Path):
    with pytest.raises(ConfigError, match="'tpu'"):
        _ = ClipCodec.load(store, device="tpu").decoder
