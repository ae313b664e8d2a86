"""Trains in a process of its own: ``train_worker.py fit|ranks|store FOLDER OPTIONS`` (OPTIONS: JSON)."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from accelerate import Accelerator
from train_helpers import SPACE, SlowPairs, tiny_config, tiny_pairs

from clip_feature_codec.train.dataset import Pool
from clip_feature_codec.train.diffusion_train import fit, train_diffusion
from clip_feature_codec.train.loop import Loop
from clip_feature_codec.train.order import BatchOrder
from clip_feature_codec.train.state import TrainingState


def main() -> None:
    mode, folder, options = sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3])
    if mode == "store":
        train_diffusion(folder, device="cpu", cache=folder.parent / "cache", **options)
        return
    config = tiny_config(**options)
    pairs = tiny_pairs()
    if mode == "fit":
        slow = SlowPairs(pairs.images.numpy(), pairs.vectors.numpy()[:, 0])
        fit(slow, SPACE, config, folder, "cpu")
        return
    fit(pairs, SPACE, config, folder, "cpu")
    # Once more by hand, to have every rank's own weights.
    accelerator = Accelerator(cpu=True)
    rank, world = accelerator.process_index, accelerator.num_processes
    order = BatchOrder(len(pairs), config.batch_size, world * config.accumulate, config.seed)
    state = TrainingState.initial(config, SPACE, pairs.fingerprint, order.per_step, accelerator.device)
    loop = Loop(accelerator, state, Pool(pairs, range(len(pairs))), order, None)
    loop.run(config.max_steps or 0, folder / "unused.pt", None)
    torch.save({"world": world, "unet": state.unet.state_dict()}, folder / f"rank{rank}.pt")


if __name__ == "__main__":
    main()
