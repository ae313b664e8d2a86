from __future__ import annotations

import json

import pytest

from clip_feature_codec.errors import ConfigError
from clip_feature_codec.train.config import TrainConfig


def test_defaults_are_those_of_the_specification():
    config = TrainConfig()
    assert (config.out_size, config.epochs, config.batch_size, config.timesteps) == (256, 40, 8, 1000)
    assert (config.recon_w, config.clip_w, config.tv_w) == (0.05, 0.1, 1e-4)
    assert (config.prediction, config.base, config.ch_mult) == ("epsilon", 128, (1, 2, 2))


def test_survives_json():
    config = TrainConfig(out_size=64, ch_mult=(1, 2, 3), attention_levels=(2,), max_steps=7, base=32)
    assert TrainConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    "options",
    [
        {"epochs": 0},
        {"epochs": 1.5},
        {"epochs": True},
        {"batch_size": 0},
        {"timesteps": 0},
        {"recon_w": -0.1},
        {"clip_w": float("nan")},
        {"tv_w": "much"},
        {"lr": 0.0},
        {"lr": float("inf")},
        {"grad_clip": 0},
        {"ema_decay": 1.0},
        {"cond_dropout": -0.1},
        {"layout_dropout": 1.0},
        {"layout": -1},
        {"val_fraction": 1.0},
        {"schedule": "quadratic"},
        {"prediction": "x"},
        {"zero_terminal_snr": True},
        {"zero_terminal_snr": 1, "prediction": "v"},
        {"compile": "yes"},
        {"base": 6},
        {"ch_mult": ()},
        {"ch_mult": 2},
        {"ch_mult": (1, 0)},
        {"attention_levels": (3,)},
        {"out_size": 250},
        {"out_size": 64, "patch": 32},
        {"max_steps": 0},
        {"checkpoint_every": 0},
        {"seed": -1},
    ],
    ids=str,
)
def test_refuses_what_makes_no_sense(options):
    with pytest.raises(ConfigError) as caught:
        TrainConfig.from_dict(options)
    message = str(caught.value)
    assert "\n" not in message
    assert next(iter(options)) in message.replace("noise schedule", "schedule").replace(" size", "_size")


def test_unknown_option_is_refused_with_the_nearest_name():
    with pytest.raises(ConfigError, match=r"'ema_decya'.*ema_decay"):
        TrainConfig.from_dict({"ema_decya": 0.9})


def test_only_what_changes_the_result_differs():
    one = TrainConfig()
    more = TrainConfig(epochs=80, max_steps=9, sample_every=1, checkpoint_every=1, log_every=1, workers=0)
    assert one.differences(more) == []
    assert one.differences(TrainConfig(lr=1e-3, seed=1)) == ["lr: 0.0002, not 0.001", "seed: 0, not 1"]
