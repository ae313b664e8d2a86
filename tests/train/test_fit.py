from __future__ import annotations

import dataclasses
import logging
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from train_helpers import DIM, SIZE, SPACE, tiny_config, tiny_pairs, trained_weights

from clip_feature_codec.decoders.checkpoint import load_decoder, save_decoder
from clip_feature_codec.diffusion.unet import CLIPCondUNet
from clip_feature_codec.errors import ConfigError, ImageError, SpaceMismatchError, StoreError
from clip_feature_codec.train.dataset import ArrayDataset
from clip_feature_codec.train.diffusion_train import fit
from clip_feature_codec.train.order import split


def train(folder, dataset=None, **options):
    arguments = ("restart", "clip", "init", "progress")
    given = {name: options.pop(name) for name in arguments if name in options}
    pairs = tiny_pairs(layout=options.get("layout", 0)) if dataset is None else dataset
    return fit(pairs, SPACE, tiny_config(**options), folder, "cpu", **given)


def same_weights(one, other):
    first, second = trained_weights(one), trained_weights(other)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def logged(folder, tag):
    # File by file: of two that were begun in the same second, TensorBoard takes any first.
    values = {}
    for file in sorted((folder / "train" / "logs").iterdir(), key=lambda file: file.stat().st_mtime_ns):
        events = EventAccumulator(str(file)).Reload()
        if tag in events.Tags()["scalars"]:
            values |= {event.step: event.value for event in events.Scalars(tag)}
    return values


WAYS = [
    {},
    {"accumulate": 2, "workers": 1, "prediction": "v"},
    {"layout": 6, "patch": 2, "workers": 1},
    {"layout": 6, "residual_gain": 3.0, "prediction": "v", "shrinkage": True},
]


@pytest.mark.parametrize("options", WAYS, ids=str)
def test_four_steps_are_two_and_two(tmp_path, options):
    whole = train(tmp_path / "whole", **options)
    train(tmp_path / "parts", max_steps=2, **options)
    parts = train(tmp_path / "parts", **options)
    assert same_weights(whole, parts)
    paths = [tmp_path / name / "train/state.pt" for name in ("whole", "parts")]
    states = [torch.load(path, weights_only=True) for path in paths]
    for part in ("unet", "average"):
        assert all(torch.equal(value, states[1][part][name]) for name, value in states[0][part].items())
    assert logged(tmp_path / "whole", "loss/total") == logged(tmp_path / "parts", "loss/total")
    assert not same_weights(whole, train(tmp_path / "two", max_steps=2, **options))


def test_the_result_is_a_decoder_with_averaged_weights(tmp_path):
    path = train(tmp_path, ema_decay=0.5, patch=2, schedule="linear")
    assert path == tmp_path / "diffusion_unet_final.pt"
    decoder = load_decoder(path)
    assert decoder.space == SPACE
    assert decoder.image_size == SIZE
    assert (decoder.unet.config.patch, decoder.scheduler.schedule) == (2, "linear")
    assert decoder.extra["steps"] == 4
    assert decoder.extra["training"]["ema_decay"] == 0.5
    state = torch.load(tmp_path / "train/state.pt", weights_only=True)
    weights = decoder.unet.state_dict()
    assert all(torch.equal(value, state["average"][f"module.{name}"]) for name, value in weights.items())
    assert any(not torch.equal(value, state["unet"][name]) for name, value in weights.items())


def test_progress_is_told_in_pictures_and_goes_on_where_it_was(tmp_path):
    told = []
    train(tmp_path, max_steps=2, progress=lambda *call: told.append(call))
    train(tmp_path, max_steps=4, progress=lambda *call: told.append(call))
    of_four, of_eight = (("training", 0, 4), ("training", 2, 4), ("training", 4, 4)), (4, 6, 8)
    assert told == [*of_four, *(("training", done, 8) for done in of_eight)]


def test_a_finished_training_is_not_done_again(tmp_path):
    path = train(tmp_path)
    written = path.stat().st_mtime_ns
    assert train(tmp_path) == path
    assert path.stat().st_mtime_ns == written
    path.unlink()
    train(tmp_path)
    assert path.exists()


def test_restart_forgets(tmp_path):
    train(tmp_path / "a", lr=5e-3)
    with pytest.raises(ConfigError, match=r"lr: 0.005, not 0.001.*restart=True"):
        train(tmp_path / "a")
    assert same_weights(train(tmp_path / "a", restart=True), train(tmp_path / "b"))


def test_other_data_are_refused(tmp_path):
    train(tmp_path)
    with pytest.raises(ConfigError, match="pictures or their vectors"):
        train(tmp_path, dataset=tiny_pairs(seed=5), max_steps=8)


class Told:
    """What the network was told in each row of a training: the version of vector and layout, None: none."""

    def __init__(self, monkeypatch):
        self.rows = []
        forward = CLIPCondUNet.forward

        def listening(unet, x_t, z, t, layout):
            kinds = [vector.argmax().item() if vector.any() else None for vector in z]
            shades = [planes[0, 0, 0].item() if planes[3].all() else None for planes in layout]
            assert all(planes[3].all() or not planes.any() for planes in layout)
            self.rows += zip(kinds, shades, strict=True)
            return forward(unet, x_t, z, t, layout)

        monkeypatch.setattr(CLIPCondUNet, "forward", listening)


def test_conditions_are_dropped_and_drawn_independently_of_each_other(tmp_path, monkeypatch):
    images = np.zeros((64, 3, SIZE, SIZE), np.uint8)
    vectors = np.broadcast_to(np.eye(2, DIM, dtype=np.float32), (64, 2, DIM)).copy()
    layouts = (
        np.zeros((64, 4, 3, 2, 2), np.uint8) + np.array([0, 51, 204, 255], np.uint8)[:, None, None, None]
    )
    told = Told(monkeypatch)
    options = {"layout": 2, "cond_dropout": 0.2, "layout_dropout": 0.4, "base": 4, "ch_mult": (1,)}
    dataset = ArrayDataset(images, vectors, layouts)
    train(tmp_path, dataset=dataset, batch_size=64, max_steps=20, epochs=20, **options)
    assert len(told.rows) == 1280
    vector = {None: 0.2, 0: 0.4, 1: 0.4}
    layout = {None: 0.4} | dict.fromkeys([-1.0, -0.6, 0.6, 1.0], 0.15)
    found = Counter((kind, None if shade is None else round(shade, 3)) for kind, shade in told.rows)
    assert {pair: count / 1280 for pair, count in found.items()} == {
        (kind, shade): pytest.approx(p * q, abs=0.03)
        for kind, p in vector.items()
        for shade, q in layout.items()
    }


def test_a_decoder_learns_from_layouts_alone(tmp_path):
    # Of two timesteps the second is pure noise, in which nothing but the layout tells of the picture.
    options = {"layout": 4, "timesteps": 2, "prediction": "v", "zero_terminal_snr": True}
    options |= {"max_steps": 40, "sample_every": 40, "val_fraction": 0.25, "layout_dropout": 0.1}
    options |= {"batch_size": 8, "epochs": 999, "lr": 3e-3, "ema_decay": 0.5}
    data = tiny_pairs(layout=4)
    data.vectors[:] = 0
    train(tmp_path / "with", dataset=data, **options)
    data.layouts[:] = 0
    train(tmp_path / "without", dataset=data, **options)
    (told,), (blind,) = (logged(tmp_path / name, "loss/validation").values() for name in ("with", "without"))
    assert told < 0.7 * blind
    with Image.open(tmp_path / "with/train/samples/step-000040.png") as grid:
        assert grid.size == (3 * SIZE, 2 * SIZE)


def test_a_decoder_without_layouts_goes_on_with_them(tmp_path):
    options = {"prediction": "v", "zero_terminal_snr": True}
    before = train(tmp_path / "before", **options)
    after = train(
        tmp_path / "after", init=before, layout=6, max_steps=1, warmup_steps=1000, lr=1e-9, **options
    )
    old, new = trained_weights(before), trained_weights(after)
    projection = new.pop("layout_proj.weight")
    assert projection.abs().max() < 1e-8  # one tiny step from zero
    assert old.keys() == new.keys()
    assert all(torch.allclose(value, new[name], atol=1e-8) for name, value in old.items())
    # Going on, a training has its own weights.
    longer = train(
        tmp_path / "after", init=before, layout=6, max_steps=2, warmup_steps=1000, lr=1e-9, **options
    )
    assert load_decoder(longer).extra["steps"] == 2


def test_a_decoder_to_begin_with_must_be_the_same_network(tmp_path):
    before = train(tmp_path / "before", layout=6)
    said = [
        ({"base": 12, "layout": 6}, "base: 8, not 12"),
        ({}, "layout: 6, not 0"),
        ({"layout": 5}, "layout: 6, not 5"),
        ({"layout": 6, "prediction": "v"}, "prediction: 'epsilon', not 'v'"),
    ]
    for options, message in said:
        with pytest.raises(ConfigError, match=rf"to begin with has {message}: take the same"):
            train(tmp_path / "after", init=before, **options)
    decoder = load_decoder(before)
    decoder.space = dataclasses.replace(SPACE, weights_sha256="cd" * 32, model="other-model")
    save_decoder(tmp_path / "other.pt", decoder)
    with pytest.raises(SpaceMismatchError, match="other-model"):
        train(tmp_path / "after", init=tmp_path / "other.pt", layout=6)


@pytest.mark.parametrize(("given", "said"), [(0, "none"), (5, "of 5 pixels a side")])
def test_layouts_that_are_asked_for_must_be_there(tmp_path, given, said):
    with pytest.raises(ConfigError, match=rf"layouts are {said}: expected 6"):
        train(tmp_path, dataset=tiny_pairs(layout=given), layout=6)


def test_epochs_count_the_steps(tmp_path):
    train(tmp_path, epochs=3, max_steps=None, batch_size=5)  # 12 pictures: two whole batches an epoch
    assert torch.load(tmp_path / "train/state.pt", weights_only=True)["step"] == 6


def test_fewer_pictures_than_a_batch_still_train(tmp_path):
    path = train(tmp_path, dataset=tiny_pairs(count=1), batch_size=4, epochs=2, max_steps=None)
    assert load_decoder(path).extra["steps"] == 2


def test_validation_loss_falls_and_samples_are_painted(tmp_path):
    train(tmp_path, max_steps=120, val_fraction=0.25, sample_every=60, batch_size=8, epochs=999, lr=3e-3)
    losses = logged(tmp_path, "loss/validation")
    assert list(losses) == [60, 120]
    assert losses[120] < 0.9 * losses[60] < 0.9  # 1 is what the untrained network scores
    grids = sorted((tmp_path / "train/samples").iterdir())
    assert [grid.name for grid in grids] == ["step-000060.png", "step-000120.png"]
    with Image.open(grids[1]) as grid:
        assert grid.size == (3 * SIZE, 2 * SIZE)
        # The first column of the upper row is a held-back picture as it is.
        originals = {tuple(image[:, 0, 0].tolist()) for image in tiny_pairs().images}
        assert grid.getpixel((0, 0)) in originals


def test_warm_up_is_linear(tmp_path):
    train(tmp_path, warmup_steps=3, lr=3e-3, max_steps=5)
    rates = logged(tmp_path, "learning_rate")
    assert rates == pytest.approx({1: 1e-3, 2: 2e-3, 3: 3e-3, 4: 3e-3, 5: 3e-3})


def test_cool_down_is_linear_and_leads_to_the_end(tmp_path):
    train(tmp_path, warmup_steps=1, cooldown_steps=3, lr=3e-3, max_steps=5)
    rates = logged(tmp_path, "learning_rate")
    assert rates == pytest.approx({1: 3e-3, 2: 3e-3, 3: 3e-3, 4: 2e-3, 5: 1e-3})


class HalfEncoder:
    """Stands in for CLIP: everything looks like the first axis."""

    space = SPACE

    def encode_tensor(self, x):
        z = torch.zeros(len(x), DIM) + 0 * x.mean()
        z[:, 0] = 1
        return z


def test_clip_loss_is_part_of_the_training(tmp_path):
    train(tmp_path, clip_w=0.5, clip=HalfEncoder())
    values = logged(tmp_path, "loss/clip")
    assert list(values) == [1, 2, 3, 4]
    assert all(0 < value < 2 for value in values.values())


def test_clip_loss_needs_the_right_model(tmp_path):
    with pytest.raises(ConfigError, match=r"clip_w is 0.5.*clip_w=0"):
        train(tmp_path, clip_w=0.5)
    foreign = HalfEncoder()
    foreign.space = dataclasses.replace(SPACE, weights_sha256="cd" * 32, model="other-model")
    with pytest.raises(SpaceMismatchError, match="other-model"):
        train(tmp_path, clip_w=0.5, clip=foreign)


def test_data_of_another_size_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"\(3, 16, 16\).*expected \(3, 32, 32\)"):
        train(tmp_path, out_size=32)
    with pytest.raises(ConfigError, match="uint8"):
        ArrayDataset(np.zeros((2, 3, 4, 4), np.float32), np.zeros((2, 5), np.float32))
    images, vectors = np.zeros((2, 3, 4, 4), np.uint8), np.zeros((2, 5), np.float32)
    with pytest.raises(ConfigError, match=r"vectors are float32 \(5,\): expected float32 \(2, D\)"):
        ArrayDataset(images, vectors[0])
    with pytest.raises(ConfigError, match=r"layouts are uint8 \(2, 1, 3, 4, 5\): expected uint8 \(2, W, 3"):
        ArrayDataset(images, vectors, np.zeros((2, 1, 3, 4, 5), np.uint8))


def test_divergence_is_said_and_not_saved(tmp_path):
    pairs = tiny_pairs()
    pairs.vectors[:] = float("nan")
    with pytest.raises(ConfigError, match="diverged before step 1"):
        train(tmp_path, dataset=pairs)
    assert not (tmp_path / "train/state.pt").exists()


class Vanishing(ArrayDataset):
    """Some pictures are there at the start and gone when their turn comes."""

    gone: frozenset[int] = frozenset()

    def __getitem__(self, index):
        if index in self.gone:
            raise ImageError(f"photo{index}.jpg: cannot be read: No such file or directory")
        return super().__getitem__(index)


def vanishing(gone):
    pairs = Vanishing(tiny_pairs().images.numpy(), tiny_pairs().vectors.numpy())
    pairs.gone = frozenset(gone)
    return pairs


@pytest.mark.parametrize("workers", [0, 2])
def test_a_picture_that_vanishes_is_replaced_and_reported_once(tmp_path, caplog, workers):
    with caplog.at_level(logging.WARNING):
        path = train(tmp_path / "a", dataset=vanishing({3, 4}), epochs=3, max_steps=None, workers=workers)
    messages = sorted(record.message.partition(": ")[2] for record in caplog.records)
    assert [message.partition(":")[0] for message in messages] == ["photo3.jpg", "photo4.jpg"]
    again = train(tmp_path / "b", dataset=vanishing({3, 4}), epochs=3, max_steps=None)
    assert same_weights(path, again)


def test_held_back_pictures_that_are_gone_are_reported_and_left_out(tmp_path, caplog):
    _, held_back = split(12, 0.25, seed=0)
    options = {"val_fraction": 0.25, "sample_every": 4}
    with caplog.at_level(logging.WARNING):
        train(tmp_path, dataset=vanishing(held_back[:2]), **options)
    assert [f"photo{index}.jpg" in caplog.text for index in held_back] == [True, True, False]
    assert list(logged(tmp_path, "loss/validation")) == [4]
    train(tmp_path / "none", dataset=vanishing(held_back), **options)
    assert (tmp_path / "none/train/samples/step-000004.png").exists()


@pytest.mark.parametrize("workers", [0, 1])
def test_when_no_picture_is_left_the_training_ends_in_one_line(tmp_path, workers):
    class AllGone(Vanishing):
        turns = 0

        def __getitem__(self, index):
            self.turns += 1
            if self.turns > 2:  # the first ones are looked at before the training begins
                self.gone = frozenset(range(12))
            return super().__getitem__(index)

    pairs = AllGone(tiny_pairs().images.numpy(), tiny_pairs().vectors.numpy())
    with pytest.raises(StoreError) as caught:
        train(tmp_path, dataset=pairs, workers=workers, batch_size=6, max_steps=50)
    assert str(caught.value).startswith("none of the 12 pictures")
    assert "\n" not in str(caught.value)


def test_no_pictures_at_all_is_an_error(tmp_path):
    with pytest.raises(StoreError, match="no pictures"):
        train(tmp_path, dataset=tiny_pairs(count=0))


def test_cuda_that_is_not_there_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"'cuda' is not available.*'cpu' or 'auto'"):
        fit(tiny_pairs(), SPACE, tiny_config(), tmp_path, "cuda")
