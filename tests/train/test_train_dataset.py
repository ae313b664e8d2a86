from __future__ import annotations

import logging
import os

import numpy as np
import pytest
import torch
from PIL import Image
from train_helpers import DIM, SIZE, SPACE, tiny_config

from clip_feature_codec.codec.feature_codec import FeatureCodec
from clip_feature_codec.codec.layers import Layers
from clip_feature_codec.decoders.checkpoint import load_decoder
from clip_feature_codec.errors import BitstreamError, ConfigError, ImageError, MissingLayerError, StoreError
from clip_feature_codec.store.feature_store import FeatureStore
from clip_feature_codec.store.writing import NewPicture
from clip_feature_codec.train.dataset import StoreDataset
from clip_feature_codec.train.diffusion_train import train_diffusion
from samples import make_layouts

OPTIONS = {"out_size": SIZE, "epochs": 2, "batch_size": 2, "timesteps": 50, "clip_w": 0.0, "device": "cpu"}
TINY = {"base": 8, "ch_mult": (1, 2), "num_res_blocks": 1, "workers": 0}


@pytest.fixture
def store_dir(tmp_path):
    """A store of six photos, photos/0.png to photos/5.png, of one colour each and 20 pixels wide."""
    random = np.random.default_rng(0)
    vectors = random.normal(size=(6, DIM)).astype(np.float32)
    codec = FeatureCodec.fit(vectors, SPACE)
    store = FeatureStore.create(tmp_path / "store", codec)
    for number in range(6):
        photo = tmp_path / "photos" / f"{number}.png"
        photo.parent.mkdir(exist_ok=True)
        Image.new("RGB", (20, 10), (40 * number, 10, 20)).save(photo)
    put(store, vectors, aspects=[20 / 10] * 6)
    return store.folder


def put(store, vectors, layouts=None, aspects=None, first=0):
    """Code pictures of the store's photos from a number on."""
    layers = Layers(vectors, layouts, aspects)
    photos = store.folder.parent / "photos"
    stats = [(photos / f"{number}.png").stat() for number in range(first, first + len(layers))]
    pictures = [
        NewPicture(f"{number}.png", 20, 10, stat.st_size, stat.st_mtime_ns)
        for number, stat in enumerate(stats, first)
    ]
    store.put(photos, pictures, store.codec.encode(layers))


def photo(store_dir, number):
    return store_dir.parent / "photos" / f"{number}.png"


def test_pairs_are_squashed_pictures_and_decoded_vectors(store_dir):
    store = FeatureStore.open(store_dir)
    dataset = StoreDataset(store, SIZE)
    assert len(dataset) == 6
    image, (vector,), layouts = dataset[4]
    assert len(layouts) == 0
    assert (image.dtype, tuple(image.shape)) == (torch.uint8, (3, SIZE, SIZE))
    assert image[:, 3, 5].tolist() == [160, 10, 20]
    expected = store.codec.vectors(store.codec.parse_all([(store_dir / "4.clp").read_bytes()]))[0]
    assert np.array_equal(vector.numpy(), expected)
    assert dataset.unusable == frozenset()


def replace_stream(store_dir, number, **content):
    """Code a picture of the store anew: with ``vectors``, ``layouts`` or both."""
    store = FeatureStore.open(store_dir)
    put(store, content.get("vectors"), content.get("layouts"), first=number)
    return store.blob(store.entries[number])


def test_streams_give_what_they_hold(store_dir):
    codec = FeatureStore.open(store_dir).codec
    vectors, layouts = np.ones((1, DIM), np.float32), make_layouts(codec, 1)
    stream = replace_stream(store_dir, 1, vectors=vectors, layouts=layouts)
    replace_stream(store_dir, 2, layouts=layouts)
    dataset = StoreDataset(FeatureStore.open(store_dir), SIZE, layout=7)
    shown = codec.layout.render(codec.layouts(codec.parse_all([stream]))[0], 7, 7)
    expected = torch.from_numpy(shown.copy()).permute(2, 0, 1) / 127.5 - 1
    held = [
        (row.vectors.any().item(), row.layouts.any().item()) for row in map(dataset.__getitem__, range(4))
    ]
    assert held == [(True, False), (True, True), (False, True), (True, False)]
    assert dataset[1].layouts.shape == (1, 4, 7, 7)
    torch.testing.assert_close(dataset[1].layouts[0, :3], expected)
    assert dataset[1].layouts[0, 3].eq(1).all()


def test_a_training_without_layouts_says_what_it_leaves_out(store_dir, caplog):
    codec = FeatureStore.open(store_dir).codec
    vectors, layouts = np.ones((1, DIM), np.float32), make_layouts(codec, 1)
    replace_stream(store_dir, 1, vectors=vectors, layouts=layouts)
    with caplog.at_level(logging.INFO):
        dataset = StoreDataset(FeatureStore.open(store_dir), SIZE)
    assert caplog.messages == ["1 of 6 streams hold a layout that this training leaves out"]
    assert len(dataset[1].layouts) == 0
    replace_stream(store_dir, 2, layouts=layouts)
    with pytest.raises(MissingLayerError, match="found a layout alone"):
        StoreDataset(FeatureStore.open(store_dir), SIZE)


def test_training_with_layouts_and_from_a_decoder_without(store_dir):
    before = train_diffusion(store_dir, layout=0, **OPTIONS, **TINY)
    kept = before.rename(store_dir.parent / "before.pt")
    codec = FeatureStore.open(store_dir).codec
    replace_stream(store_dir, 2, layouts=make_layouts(codec, 1))
    decoder = load_decoder(train_diffusion(store_dir, layout=7, init=kept, restart=True, **OPTIONS, **TINY))
    assert decoder.unet.config.layout == 7
    assert decoder.unet.layout_proj.weight.any()


def test_fingerprint_follows_size_and_streams(store_dir):
    def fingerprint(size=SIZE):
        return StoreDataset(FeatureStore.open(store_dir), size).fingerprint

    before = fingerprint()
    assert before == fingerprint() != fingerprint(size=32)
    photo(store_dir, 1).unlink()  # a picture that vanishes must not keep a training from going on
    assert fingerprint() == before
    replace_stream(store_dir, 0, vectors=np.ones((1, DIM), np.float32))
    assert fingerprint() != before


def test_vanished_and_changed_pictures_are_reported_at_the_start(store_dir, caplog):
    photo(store_dir, 1).unlink()
    photo(store_dir, 3).write_bytes(b"no longer a picture")
    with caplog.at_level(logging.WARNING):
        dataset = StoreDataset(FeatureStore.open(store_dir), SIZE)
    assert dataset.unusable == {1, 3}
    (message,) = [record.message for record in caplog.records]
    assert message.startswith("2 of 6 pictures")
    assert "1.png: vanished" in message
    assert "encode --sync" in message  # fault 17: what to do where they have moved
    assert "3.png: changed" in message
    with pytest.raises(ImageError, match=r"1\.png"):
        dataset[1]


def test_training_as_the_specification_calls_it(store_dir):
    path = train_diffusion(store_dir, recon_w=0.05, tv_w=1e-4, **OPTIONS, **TINY)
    assert path == store_dir / "diffusion_unet_final.pt"
    decoder = load_decoder(path)
    assert decoder.space == FeatureStore.open(store_dir).codec.space
    assert decoder.extra["steps"] == 6
    assert decoder.extra["training"]["recon_w"] == 0.05


def test_training_goes_on_without_what_is_gone(store_dir, caplog):
    train_diffusion(store_dir, max_steps=2, **OPTIONS, **TINY)
    photo(store_dir, 2).unlink()
    damaged = photo(store_dir, 5)
    damaged.write_bytes(os.urandom(damaged.stat().st_size))  # the same size: found when its turn comes
    with caplog.at_level(logging.WARNING):
        path = train_diffusion(store_dir, **{**OPTIONS, "epochs": 8}, **TINY)
    assert load_decoder(path).extra["steps"] == 16
    messages = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert sum("2.png: vanished" in message for message in messages) == 1
    assert sum("5.png: not a picture" in message for message in messages) == 1


def test_no_picture_left_is_an_error(store_dir):
    for number in range(6):
        photo(store_dir, number).unlink()
    with pytest.raises(StoreError, match=r"no pictures to train on: .* encode --sync"):
        train_diffusion(store_dir, **OPTIONS, **TINY)


def test_unusable_input_is_refused(store_dir, tmp_path):
    with pytest.raises(StoreError, match="not a store"):
        train_diffusion(tmp_path / "nowhere", **OPTIONS, **TINY)
    with pytest.raises(ConfigError, match="unknown training option 'epoch_count'"):
        train_diffusion(store_dir, epoch_count=3, **OPTIONS, **TINY)
    (store_dir / "3.clp").write_bytes(b"damaged")
    with pytest.raises(BitstreamError, match=r"3\.clp"):
        train_diffusion(store_dir, **OPTIONS, **TINY)


def test_config_of_a_training_is_that_of_its_arguments(store_dir):
    path = train_diffusion(store_dir, max_steps=1, **OPTIONS, **TINY)
    kept = load_decoder(path).extra["training"]
    same = {
        "recon_w": 0.05,
        "tv_w": 1e-4,
        "lr": 2e-4,
        "warmup_steps": 250,
        "val_fraction": 0.05,
        "layout": 24,
    }
    again = {"sample_every": 500, "checkpoint_every": 500, "log_every": 20, "epochs": 2, "max_steps": 1}
    assert kept == tiny_config(**same, **again).to_dict()
