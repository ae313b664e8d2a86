"""A codec in other processes: it travels as a name, and is loaded there."""

from __future__ import annotations

import multiprocessing
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from torch.utils.data import DataLoader, Dataset

from clip_feature_codec import ClipCodec
from clip_feature_codec.codec.feature_codec import FeatureCodec
from clip_feature_codec.embed import ClipEmbedder
from clip_feature_codec.errors import CheckpointError, StoreError
from samples import make_picture, make_store


@pytest.fixture
def store(embedder: ClipEmbedder, tmp_path: Path) -> Path:
    return make_store(tmp_path, embedder, count=2)


class Pictures(Dataset[bytes]):
    """What a data loader's worker makes of a codec that was given to it."""

    def __init__(self, codec: ClipCodec) -> None:
        self.codec = codec

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> bytes:
        return self.codec.encode(make_picture(index), layers="layout")


def test_a_codec_that_has_done_its_work_travels_as_a_name(store: Path):
    codec = ClipCodec.load(store, device="cpu")
    picture = codec.decode(codec.encode(make_picture(0)), steps=1, size=16)  # all networks are there
    pickled = pickle.dumps(codec)
    assert len(pickled) < 1000
    again = pickle.loads(pickled)
    assert again.features.tables_sha256 == codec.features.tables_sha256
    assert again.decode(again.encode(make_picture(0)), steps=1, size=16).tobytes() == picture.tobytes()
    assert len(pickle.dumps(pickle.loads(pickle.dumps(again)))) == len(pickled)


def test_what_was_asked_for_when_it_was_loaded_is_asked_for_again(store: Path, tmp_path: Path):
    weights = Path(shutil.copy(store / "diffusion_unet_final.pt", tmp_path / "other.pt"))
    (store / "diffusion_unet_final.pt").unlink()
    again = pickle.loads(pickle.dumps(ClipCodec.load(store, decoder=weights, device="cpu")))
    assert repr(again) == repr(ClipCodec.load(store, device="cpu"))
    assert again.decoder.image_size == 16


def test_a_pack_travels_by_its_name():
    again = pickle.loads(pickle.dumps(ClipCodec.load()))
    assert again.features.space.model == "mini"
    assert b"packs" not in pickle.dumps(again)


def test_tables_that_came_from_nowhere_travel_themselves():
    codec = ClipCodec(FeatureCodec.load(Path(__file__).parent / "golden/klt/codec.json"), decoder=None)
    vectors = np.random.default_rng(0).normal(size=(3, codec.features.dim)).astype(np.float32)
    again = pickle.loads(pickle.dumps(codec))
    assert again.encode_vectors(vectors) == codec.encode_vectors(vectors)


def test_other_tables_are_not_taken_for_those_that_were_pickled(store: Path):
    pickled = pickle.dumps(ClipCodec.load(store))
    rows = np.random.default_rng(0).normal(size=(9, 32)).astype(np.float32)
    FeatureCodec.fit(rows, ClipCodec.load(store).features.space).save(store / "codec.json")
    with pytest.raises(StoreError, match="found other tables"):
        pickle.loads(pickled)


def test_another_decoder_is_not_taken_for_the_one_that_was_pickled(store: Path):
    pickled = pickle.dumps(ClipCodec.load(store, device="cpu"))
    with (store / "diffusion_unet_final.pt").open("ab") as file:
        file.write(b"\0")
    again = pickle.loads(pickled)
    assert again.vectors([store / "p0.clp"]).shape == (1, 32)
    with pytest.raises(CheckpointError, match="not the decoder"):
        _ = again.decoder


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_workers_of_a_data_loader_use_it(method: str, store: Path):
    codec = ClipCodec.load(store, device="cpu")
    loader = DataLoader(
        Pictures(codec), batch_size=None, num_workers=1, multiprocessing_context=method, collate_fn=bytes
    )
    assert list(loader) == [codec.encode(make_picture(i), layers="layout") for i in range(3)]


def test_processes_of_a_pool_use_it(store: Path):
    codec = ClipCodec.load(store, device="cpu")
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        found = pool.map(codec.vector, [store / "p0.clp", store / "p1.clp"])
    np.testing.assert_array_equal(found, codec.vectors([store / "p0.clp", store / "p1.clp"]))
