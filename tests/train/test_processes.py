from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import torch
from train_helpers import SPACE, tiny_config, tiny_pairs, trained_weights

from clip_feature_codec.train.diffusion_train import fit

WORKER = Path(__file__).with_name("train_worker.py")


def started(mode, folder, options, launcher=()):
    command = [sys.executable, *launcher, str(WORKER), mode, str(folder), json.dumps(options)]
    return subprocess.Popen(command, stderr=subprocess.PIPE)


def test_killed_in_the_middle_and_started_again_equals_uninterrupted(tmp_path):
    options = {"max_steps": 60, "epochs": 99, "checkpoint_every": 3}
    checkpoint = tmp_path / "killed/train/state.pt"
    process = started("fit", tmp_path / "killed", options)
    while not checkpoint.exists():
        assert process.poll() is None, process.stderr.read().decode()
        time.sleep(0.01)
    time.sleep(0.1)
    process.kill()
    process.wait()
    assert 0 < torch.load(checkpoint)["step"] < 60
    assert not (tmp_path / "killed/diffusion_unet_final.pt").exists()

    config = tiny_config(**options)
    resumed, whole = (
        trained_weights(fit(tiny_pairs(), SPACE, config, tmp_path / name, "cpu"))
        for name in ("killed", "whole")
    )
    assert all(torch.equal(value, whole[name]) for name, value in resumed.items())


def test_two_processes_are_two_and_train_as_one_would(tmp_path):
    options = {"max_steps": 3, "ema_decay": 0.5}
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    process = started("ranks", tmp_path, options, launcher)
    _, errors = process.communicate(timeout=200)
    assert process.returncode == 0, errors.decode()

    ranks = [torch.load(tmp_path / f"rank{rank}.pt") for rank in range(2)]
    assert [rank["world"] for rank in ranks] == [2, 2]
    assert all(torch.equal(value, ranks[1]["unet"][name]) for name, value in ranks[0]["unet"].items())

    # One process that accumulates two batches takes the same pictures and the same noise, so that its
    # gradient, the mean of the two batches', must be what the two processes have averaged.
    def alone(**more):
        config = tiny_config(**options, **more)
        return trained_weights(fit(tiny_pairs(), SPACE, config, tmp_path / f"alone{more}", "cpu"))

    def distance(one, other):
        return max((one[name] - other[name]).abs().max().item() for name in one)

    together, accumulated = trained_weights(tmp_path / "diffusion_unet_final.pt"), alone(accumulate=2)
    assert distance(together, accumulated) < 1e-5
    assert distance(together, alone()) > 1e-4
