"""Training that reads as it goes: packed stores, pictures in tars, an order by blocks, pictures kept once."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_processes import started
from train_helpers import DIM, SIZE, SPACE, trained_weights

from clip_feature_codec.codec.feature_codec import FeatureCodec
from clip_feature_codec.codec.layers import Layers
from clip_feature_codec.errors import StoreError
from clip_feature_codec.store.copying import copy_store
from clip_feature_codec.store.opening import create_store, open_store
from clip_feature_codec.store.writing import NewPicture
from clip_feature_codec.train import dataset, order
from clip_feature_codec.train.cache import PictureCache
from clip_feature_codec.train.dataset import StoreDataset
from clip_feature_codec.train.diffusion_train import train_diffusion
from samples import make_picture

OPTIONS = {
    **{"out_size": SIZE, "epochs": 9, "max_steps": 6, "batch_size": 2, "timesteps": 50, "clip_w": 0.0},
    **{"base": 8, "ch_mult": (1, 2), "num_res_blocks": 1, "layout": 0, "ema_decay": 0.5, "val_fraction": 0.0},
    **{"sample_every": 0, "workers": 0},
}


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    """A packed store of twelve pictures of a tar."""
    files: list[NewPicture] = []
    place = tmp_path / "photos.tar"
    with tarfile.open(place, "w") as archive:
        for number in range(12):
            encoded = io.BytesIO()
            make_picture(number, (20, 12)).save(encoded, "PNG")
            member = tarfile.TarInfo(f"{number}.png")
            member.size = len(encoded.getvalue())
            archive.addfile(member, io.BytesIO(encoded.getvalue()))
            files.append(NewPicture(f"{number}.png", 20, 12, member.size, 0, f"{place}/{number}.png"))
    mtime = place.stat().st_mtime_ns
    vectors = np.random.default_rng(0).normal(size=(12, DIM)).astype(np.float32)
    store = create_store(tmp_path / "store", FeatureCodec.fit(vectors, SPACE), packed=True)
    pictures = [NewPicture(f.inside, f.width, f.height, f.source_bytes, mtime, f.place) for f in files]
    store.put(Path(), pictures, store.codec.encode(Layers(vectors, None, [20 / 12] * 12)))
    store.finish()
    return store.folder


def same(one: Path, other: Path) -> bool:
    weights = trained_weights(other)
    return all(torch.equal(value, weights[name]) for name, value in trained_weights(one).items())


def test_a_packed_store_trains_as_its_streams_in_a_folder_do(packed: Path, tmp_path: Path) -> None:
    copy_store(open_store(packed), tmp_path / "loose", packed=False)
    one = train_diffusion(packed, device="cpu", **OPTIONS)
    other = train_diffusion(tmp_path / "loose", device="cpu", **OPTIONS)
    assert same(one, other)


def test_a_stopped_training_of_a_packed_store_goes_on_exactly(packed: Path) -> None:
    whole = train_diffusion(packed, device="cpu", **OPTIONS).rename(packed.parent / "whole.pt")
    train_diffusion(packed, device="cpu", restart=True, **{**OPTIONS, "max_steps": 4})
    # With readers of their own, which open the store once more.
    assert same(train_diffusion(packed, device="cpu", **{**OPTIONS, "workers": 2}), whole)


def test_pictures_are_decoded_once_and_a_training_is_the_same(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train_diffusion(packed, device="cpu", **OPTIONS).rename(tmp_path / "whole.pt")
    decoded: list[str] = []
    load = dataset.load_image
    monkeypatch.setattr(dataset, "load_image", lambda *args: (decoded.append(args[2]), load(*args))[1])
    cached = {"device": "cpu", "restart": True, "cache": tmp_path / "cache"}
    for count in (12, 0):
        decoded.clear()
        assert same(train_diffusion(packed, **cached, **OPTIONS), whole)
        assert len(set(decoded)) == len(decoded) == count
    (kept,) = (tmp_path / "cache").iterdir()
    torn = bytearray(kept.read_bytes())
    torn[100] ^= 1
    kept.write_bytes(torn)
    assert same(train_diffusion(packed, **cached, **OPTIONS), whole)
    assert len(decoded) == 1


def test_a_cache_gives_back_what_it_was_given_and_nothing_else(tmp_path: Path) -> None:
    cache = PictureCache(tmp_path / "cache", 4)
    pictures = np.random.default_rng(0).integers(0, 256, (3, 4, 4, 3), dtype=np.uint8)
    for row, picture in zip((0, 5, 4096), pictures, strict=True):
        assert cache.get(row, "a") is None
        cache.put(row, "a", picture)
        found = cache.get(row, "a")
        assert found is not None
        assert np.array_equal(found, picture)
        assert cache.get(row, "b") is None
    assert cache.get(4, "a") is None
    assert len(list((tmp_path / "cache").iterdir())) == 2
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="file: cannot be written: "):
        PictureCache(tmp_path / "file", 4).put(0, "a", pictures[0])


def test_a_tar_that_changed_or_vanished_is_left_out(packed: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert StoreDataset(open_store(packed), SIZE).unusable == frozenset()
    tar = packed.parent / "photos.tar"
    tar.write_bytes(tar.read_bytes())
    assert len(StoreDataset(open_store(packed), SIZE).unusable) == 12
    assert "its archive changed since it was encoded" in caplog.text
    tar.unlink()
    assert len(StoreDataset(open_store(packed), SIZE).unusable) == 12
    assert "vanished" in caplog.text


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 200), st.integers(0, 3), st.integers(0, 3))
def test_an_order_by_blocks_has_every_picture_once(count: int, seed: int, epoch: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(order, "BLOCK", 8)
        patch.setattr(order, "WINDOW", 3)
        found = [order.shuffled(count, seed, epoch, place) for place in range(count)]
        assert sorted(found) == list(range(count))
        for start in range(0, count, 24):  # a window reads from three blocks
            assert len({number // 8 for number in found[start : start + 24]}) <= 3
    order._blocks.cache_clear()


def test_an_order_by_blocks_differs_from_epoch_to_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order, "BLOCK", 8)
    monkeypatch.setattr(order, "WINDOW", 3)
    epochs = [[order.shuffled(100, 0, epoch, place) for place in range(100)] for epoch in range(2)]
    assert epochs[0] != epochs[1]
    assert epochs[0][:24] != sorted(epochs[0][:24])
    order._blocks.cache_clear()


@pytest.mark.slow
def test_two_processes_read_a_packed_store_each_its_part_and_train_as_one(packed: Path) -> None:
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    process = started("store", packed, OPTIONS, launcher)
    _, errors = process.communicate(timeout=200)
    assert process.returncode == 0, errors.decode()
    two = trained_weights((packed / "diffusion_unet_final.pt").rename(packed.parent / "two.pt"))
    alone = {**OPTIONS, "accumulate": 2}
    one = trained_weights(train_diffusion(packed, device="cpu", restart=True, **alone))
    assert max((one[name] - two[name]).abs().max().item() for name in one) < 1e-5
